"""The GPUs that an engine gives a worker by CUDA_VISIBLE_DEVICES: by number, by UUID and in another order.

CUDA counts those that are visible, NVML all of them; of each GPU both say the same. So does NVML of a part of a GPU (MIG),
which the simulated driver alone plays: it has its GPU's UUID, and only NVML knows it.
"""

import json
import sys

import pytest
from conftest import COMMAND, HBM, HOST, OPTIONS, WORKER

GPUS = 4
MIB = 1 << 20
LIMITS = ("--sim", f"{GPUS}x1GiB,host=4GiB", *OPTIONS[2:])


@pytest.fixture
def shown(node):
    """shown(visible) is what visible_devices.py prints; None: all."""

    def run(visible=None):
        environment = node.environment if visible is None else {**node.environment, "CUDA_VISIBLE_DEVICES": visible}
        return json.loads(node.run(COMMAND, "run", *LIMITS, "--", sys.executable, WORKER.with_name("visible_devices.py"),
                                   env=environment))  # fmt: skip

    return run


def agree(devices):
    for device in devices:
        assert device["cuda"] == device["nvml"] == device["part"]
        assert device["cuda"]["total"] == (HBM + HOST) * MIB
    first, *others = [device["cuda"]["free"] for device in devices]
    assert all(free - first in range(40 * MIB, 44 * MIB + 1) for free in others)


def test_all_and_by_number_and_in_another_order(shown):
    everything = shown()
    names = [device["uuid"] for device in everything]
    assert len(set(names)) == GPUS
    agree(everything)
    for visible in "2", "1,3", "3,0,2":
        devices = shown(visible)
        assert [device["uuid"] for device in devices] == [names[int(number)] for number in visible.split(",")]
        agree(devices)


def test_by_uuid(shown):
    names = [device["uuid"] for device in shown()]
    for chosen in [names[2]], [names[3], names[0]]:
        devices = shown(",".join(f"GPU-{name}" for name in chosen))
        assert [device["uuid"] for device in devices] == chosen
        agree(devices)
