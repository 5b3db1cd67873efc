"""Processes that share a node's GPUs and host memory, with nothing in between: what engines start, played by hand.

The simulated driver counts the memory of all of them together (GPUROOM_SIM_MACHINE), as a real GPU does.
"""

import sys

import pytest
from conftest import COMMAND, HBM, HOST, OPTIONS, WORKER, get_what_they_are_told, until

GPU = 256  # MiB that a GPU has
SPILL = 64  # MiB of host memory, where processes share a GPU
PIECE = 16  # MiB


@pytest.fixture
def start(node, processes):
    """start(*options, **environment) starts one worker and waits until it serves. Give --sim and the limits."""

    def run(*options, **environment):
        before = {worker.path for worker in node.living()}
        processes(COMMAND, "run", *options, "--", sys.executable, WORKER, node.sockets,
                  env={**node.environment, "GPUROOM_SIM_MACHINE": str(node.folder / "machine"), **environment})  # fmt: skip
        (worker,) = [worker for worker in node.workers(len(before) + 1) if worker.path not in before]
        return worker

    return run


RESERVE = ("--reserve", f"{PIECE}MiB")
HALF = ("--sim", f"{GPU}MiB,host=4GiB", "--hbm-limit", "50%", *RESERVE, "--host-limit", f"{SPILL}MiB")


def test_two_servers_with_half_of_a_gpu_each(start):
    first, second = start(*HALF), start(*HALF)
    assert first.number("told") == second.number("told") == GPU // 2 + SPILL
    first.number("take")
    assert first.number("held") > GPU // 2 + SPILL - 3 * PIECE
    second.number("take")
    assert second.number("held") > GPU // 2 - 3 * PIECE
    assert first.ask("check") == second.ask("check") == "True"


def test_what_a_killed_server_used_of_the_gpu_comes_back(start):
    """Neither has a limit: each takes what the other leaves."""
    options = ("--sim", f"{GPU}MiB,host=4GiB", *RESERVE, "--host-limit", f"{2 * PIECE}MiB")
    first = start(*options)
    first.number("take")
    second = start(*options)
    assert second.number("free") < 3 * PIECE
    first.kill()
    # What is told of the host's memory may be 20 ms old.
    until(lambda: second.number("free") == GPU + 2 * PIECE)
    assert second.number("take") > GPU


def test_a_plan_goes_by_what_the_others_leave(start):
    """A process that may use 3/4 of the GPU finds half of it taken: the driver is not asked for what is not there."""
    options = ("--sim", f"{GPU}MiB,host=4GiB", *RESERVE, "--host-limit", f"{SPILL}MiB")
    start(*options, "--hbm-limit", "50%").number("take")
    second = start(*options, "--hbm-limit", "75%")
    # The first one has all of the host memory as well, so what is left is the rest of the GPU.
    assert second.number("take") <= GPU // 2 + PIECE
    assert second.number("held") > GPU // 4
    assert second.ask("check") == "True"


def test_eight_ranks_get_what_each_is_told(node, start):
    """As torchrun starts them: one GPU each, and LOCAL_WORLD_SIZE."""
    limits = ("--sim", "8x1GiB,host=4GiB", *OPTIONS[2:])
    ranks = [start(*limits, CUDA_VISIBLE_DEVICES=str(rank), LOCAL_WORLD_SIZE="8") for rank in range(8)]
    get_what_they_are_told(ranks, HOST // 8)
    ranks[0].kill()
    again = start(*limits, CUDA_VISIBLE_DEVICES="0", LOCAL_WORLD_SIZE="8")
    assert again.number("take") >= 0.9 * (HBM + HOST // 8)


def test_workers_that_see_all_gpus_have_equal_parts(start):
    """As vLLM's workers do."""
    limits = ("--sim", "4x1GiB,host=4GiB", *OPTIONS[2:], "--host-part", "equal")
    orders = "0,1,2,3", "1,0,2,3", "2,0,1,3", "3,0,1,2"
    get_what_they_are_told([start(*limits, CUDA_VISIBLE_DEVICES=order) for order in orders], HOST // 4)


def test_peers_auto_takes_nothing_of_a_gpu_that_another_process_uses(start):
    limits = ("--sim", "2x1GiB,host=4GiB", *OPTIONS[2:])
    alone = start(*limits, "--peers", "auto")
    lent = alone.number("free") - HBM - HOST
    assert lent > 0
    assert start(*limits, CUDA_VISIBLE_DEVICES="1").number("free") == HBM + HOST
    late = start(*limits, "--peers", "auto")
    assert late.number("free") <= HBM + HOST
    assert late.number("take") <= HBM + HOST


def test_a_node_of_ray_with_two_actors_on_each_gpu(node, start):
    """num_gpus=0.5: Ray gives two actors the same GPU, each its half by --hbm-limit."""
    limits = ("--sim", f"2x{GPU}MiB,host=4GiB", *HALF[2:])
    actors = [start(*limits, CUDA_VISIBLE_DEVICES=gpu) for gpu in ("0", "0", "1", "1")]
    for actor in actors:
        actor.number("take")
    assert all(actor.number("held") > GPU // 2 - 3 * PIECE for actor in actors)
    assert sum(actor.number("held") for actor in actors) <= 2 * GPU + SPILL
    for actor in actors[:2]:
        actor.kill()
    fresh = [start(*limits, CUDA_VISIBLE_DEVICES="0") for _ in range(2)]
    for actor in fresh:
        actor.number("take")
    assert all(actor.number("held") > GPU // 2 - 3 * PIECE for actor in fresh)
    assert [actor.ask("check") for actor in actors[2:] + fresh] == ["True"] * 4
