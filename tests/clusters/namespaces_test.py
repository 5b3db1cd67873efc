"""Two containers of one node, played by namespaces: each has processes and a /dev/shm of its own.

They keep within one budget where GPUROOM_LEDGER names a file that both see. The second test shows what happens without.
"""

import os
import shutil
import sys

import pytest
from conftest import COMMAND, HBM, HOST, OPTIONS, WORKER, give_back_what_the_killed_held, keep_within_the_budget

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root")
ENTER = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
         'mount -t tmpfs -o size=64m shm /dev/shm && exec "$@"', "sh"]  # fmt: skip


@pytest.fixture
def containers(node, processes):
    """containers(environment) starts two, with a worker in each."""

    def start(environment):
        for _ in range(2):
            processes(*ENTER, COMMAND, "run", *OPTIONS, "--", sys.executable, WORKER, node.sockets, env=environment)
        return node.workers(2)

    return start


def test_with_a_common_ledger_they_keep_within_one_budget(node, containers):
    first, second = containers(node.environment)
    keep_within_the_budget([first, second])
    before = second.number("spilled")
    first.kill()
    give_back_what_the_killed_held([second], before)


def test_with_a_ledger_in_dev_shm_each_takes_the_whole_budget(node, containers):
    """Which is why doctor warns of it, and the manifests in containers/ put it on a volume."""
    environment = {name: value for name, value in node.environment.items() if name != "GPUROOM_LEDGER"}
    for worker in containers(environment):
        assert worker.number("told") == HBM + HOST
        worker.number("take")
        assert worker.number("spilled") > HOST - 2 * 16
