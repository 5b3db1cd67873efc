"""What a process tells about itself (docs/metrics.md), asked of one that moves, sleeps and is refused memory on the
simulated driver."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import SOURCE, preloads

pytestmark = preloads

PROGRAM = SOURCE / "tests" / "hostile" / "gpu_program.py"
OPTIONS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", "256MiB", "--host-limit", "512MiB", "--resident-below", "384MiB")
MIB = 1 << 20
REFUSED = "2"  # CUDA_ERROR_OUT_OF_MEMORY


class Process:
    def __init__(self, gpuroom, folder):
        self.gpuroom, self.env = gpuroom, {"GPUROOM_CONTROL_DIR": folder}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = gpuroom.start("run", *OPTIONS, "--", sys.executable, PROGRAM, env=self.env, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def command(self, *arguments):
        done = self.gpuroom(*arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stats(self):
        (process,) = json.loads(self.command("ps", "--json"))["processes"]
        assert process["pid"] == self.process.pid
        return process["stats"]

    def sleep(self):
        self.command("sleep", self.process.pid)

    def wake(self):
        self.command("wake", self.process.pid)


@pytest.fixture
def process(gpuroom):
    folder = f"/tmp/gpuroom-metrics-{os.getpid()}"
    started = Process(gpuroom, folder)
    yield started
    started.process.kill()
    started.process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def count(times):
    assert [bucket["at_most_seconds"] is None for bucket in times["buckets"]] == [False] * 8 + [True]
    return sum(bucket["count"] for bucket in times["buckets"])


def test_bytes_by_tier(process):
    assert process.tell("alloc 64") == "0"
    assert process.tell("alloc 384") == "0"  # more than HBM has left
    stats = process.stats()
    assert stats["version"] == 1
    (gpu,) = stats["gpus"]
    assert gpu["device"] == 0 and gpu["uuid"].startswith("GPU-") and len(gpu["uuid"]) == 40
    assert gpu["hbm_bytes"]["limit"] == 256 * MIB and gpu["host_bytes"]["limit"] == 512 * MIB
    assert 0 < gpu["hbm_bytes"]["current"] <= gpu["hbm_bytes"]["peak"] <= 256 * MIB
    assert gpu["host_bytes"]["current"] + gpu["hbm_bytes"]["current"] >= 448 * MIB
    assert (gpu["allocations"], gpu["spilled"]) == (2, 1)
    assert stats["host_unclaimed_bytes"] <= 512 * MIB - gpu["host_bytes"]["current"]


def test_refusals_with_the_last_one_s_reason(process):
    assert process.tell("alloc 64") == "0"
    assert process.stats()["refusals"] == {"by_reason": {}, "last": None}
    assert process.tell("alloc 4096") == REFUSED
    assert process.tell("alloc 2048") == REFUSED
    refusals = process.stats()["refusals"]
    assert refusals["by_reason"] == {"out_of_memory": 2}
    assert refusals["last"]["reason"] == "out_of_memory" and refusals["last"]["bytes"] == 2048 * MIB
    assert refusals["last"]["text"] and refusals["last"]["device"] == 0


def test_sleeps_and_wakes(process):
    assert process.tell("alloc 64") == "0"
    before = process.stats()
    assert count(before["sleeps"]) == count(before["wakes"]) == count(before["standstills"]) == 0
    process.sleep()
    asleep = process.stats()
    assert count(asleep["sleeps"]) == 1 and asleep["sleeps"]["seconds"] > 0
    assert (asleep["backed_up_bytes"], asleep["restored_bytes"]) == (64 * MIB, 0)
    assert asleep["gpus"][0]["hbm_bytes"]["current"] < before["gpus"][0]["hbm_bytes"]["current"]
    assert asleep["gpus"][0]["hbm_bytes"]["peak"] >= before["gpus"][0]["hbm_bytes"]["current"]
    process.wake()
    awake = process.stats()
    assert (count(awake["wakes"]), awake["restored_bytes"]) == (1, 64 * MIB)
    assert count(awake["standstills"]) == 2 and awake["standstills_in_vain"] == 0


def test_what_gives_way(process):
    for _ in range(3):
        assert process.tell("alloc 80") == "0"
    assert process.tell("alloc 64") == "0"  # it belongs in HBM, so that another gives way
    stats = process.stats()
    (gpu,) = stats["gpus"]
    assert gpu["displaced_bytes"] == gpu["moved_bytes"]["to_host"] > 0
    assert count(stats["moves"]) >= 1 and count(stats["standstills"]) >= 1
