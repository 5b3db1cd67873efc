"""torchrun with four ranks, as `gpuroom run -- torchrun ...`: the ranks inherit what the launcher got."""

import importlib.util
import sys

import pytest
from conftest import (
    COMMAND,
    HOST,
    OPTIONS,
    WORKER,
    are_reached_by_ps_and_sleep,
    get_what_they_are_told,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
RANKS = 4
# Debian's PyTorch 1.13 cannot read the defaults of these two options under Python 3.11.
OUTPUT = ["--redirects", "0:2", "--tee", "0:1"]


@pytest.fixture
def start(node, processes):
    def start(*options):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", RANKS, *OUTPUT]
        processes(COMMAND, "run", *OPTIONS, "--", *launcher, *options, WORKER.with_name("torchrun_rank.py"), node.sockets,
                  env={**node.environment, "OMP_NUM_THREADS": "1", "TMPDIR": str(node.folder)})  # fmt: skip
        return node.workers(RANKS)

    return start


def test_four_ranks_have_an_equal_part_each(node, start):
    workers = start()
    are_reached_by_ps_and_sleep(node, workers)
    get_what_they_are_told(workers, HOST // RANKS)


def test_ranks_that_torchrun_starts_again_find_the_budget_free(node, start):
    """torchrun ends the whole group when two of it are killed, and starts it once more."""
    workers = start("--max_restarts", "1")
    get_what_they_are_told(workers, HOST // RANKS)
    for worker in workers[:2]:
        worker.kill()
    for worker in workers[2:]:
        worker.wait_for_its_end()
    restarted = node.workers(RANKS)
    assert not {worker.pid for worker in restarted} & {worker.pid for worker in workers}
    get_what_they_are_told(restarted, HOST // RANKS)
