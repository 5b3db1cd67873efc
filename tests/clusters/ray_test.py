"""Ray with four actors, of which two are killed. Ray sets what `gpuroom env --format ray` prints, by its runtime_env."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import (
    OPTIONS,
    WORKER,
    are_reached_by_ps_and_sleep,
    give_back_what_the_killed_held,
    keep_within_the_budget,
    until,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_four_actors_share_one_budget_and_killed_ones_give_theirs_back(node, processes):
    runtime_env = node.folder / "runtime_env.json"
    runtime_env.write_text(node.gpuroom("env", "--format", "ray", *OPTIONS))
    # Ray itself is started without gpuroom's variables: the actors get them by the runtime_env alone.
    plain = {name: value for name, value in node.environment.items() if not name.startswith("GPUROOM_")}
    job = processes(sys.executable, WORKER.with_name("ray_job.py"), node.sockets, runtime_env,
                    env={**plain, "RAY_TMPDIR": str(node.folder), "RAY_USAGE_STATS_ENABLED": "0"},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert job.stdout.readline() == "started\n"
    workers = node.workers(4)
    are_reached_by_ps_and_sleep(node, workers)
    keep_within_the_budget(workers)
    for number in 0, 1:
        print("kill", number, file=job.stdin, flush=True)
        assert job.stdout.readline() == "killed\n"
    alive = until(lambda: len(node.living()) == 2 and node.living())  # an actor's process ends a little later
    give_back_what_the_killed_held(alive, 0)
