"""The allocators that are compared, each chosen by name before PyTorch has used the GPU. `chosen.inside()` is entered
around what it is to allocate; `chosen.build` has the library of those that people write themselves."""

import contextlib
import os
import pathlib
import sys

import common

ROOT = pathlib.Path(__file__).resolve().parents[3]
NAMES = ["native", "async", "plain", "plain_managed", "headroom_use", "headroom_pool", "headroom_managed", "rmm_pool",
         "rmm_managed"]


class Chosen:
    def __init__(self, name, inside=contextlib.nullcontext, headroom=None):
        self.name, self.inside, self.headroom = name, inside, headroom


def package():
    """The headroom package of this source tree, or the installed one."""
    folder = ROOT / "python"
    if (folder / "headroom").exists():
        sys.path.insert(0, str(folder))
    import headroom
    import headroom.torch  # noqa: F401

    return headroom


def choose(name, device=0, **limits):
    """`limits` are those of headroom.configure, and count for headroom's allocators alone."""
    if name not in NAMES:
        sys.exit(f"--allocator is '{name}'; use {', '.join(NAMES)}")
    if name == "async":  # read when PyTorch is imported
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "backend:cudaMallocAsync"
    torch = common.need("torch")
    if name in ("native", "async"):
        return Chosen(name)
    if name.startswith("headroom_"):
        return headroom_allocator(name, device, limits)
    if name.startswith("rmm_"):
        return rmm_allocator(name, torch, device)
    library = os.environ.get("GPUTEST_LIBRARIES", str(ROOT / "build" / "gpu" / "lib" / "headroom"))
    path = os.path.join(library, "gputest_plain_allocator.so")
    if not os.path.exists(path):
        common.skip(f"{path} was not built")
    allocator = torch.cuda.memory.CUDAPluggableAllocator(path, f"{name}_malloc", f"{name}_free")
    torch.cuda.memory.change_current_allocator(allocator)
    return Chosen(name)


def headroom_allocator(name, device, limits):
    headroom = package()
    if name == "headroom_use":
        headroom.torch.use(**limits)
        return Chosen(name, headroom=headroom)
    if name == "headroom_managed":
        # Little, since managed memory beyond a card's own can hang it: at most 2 GiB in all.
        headroom.torch.use(**{**limits, "hbm_limit": "2GiB", "host_limit": "1GiB"}, backend="managed")
        return Chosen(name, headroom=headroom)
    headroom.configure(**limits)
    pool = headroom.torch.pool(tag="test", device=device)
    return Chosen(name, lambda: pool, headroom)


def rmm_allocator(name, torch, device):
    """As rmm 26.10 has it: a pool of 4 GiB, or managed memory without a pool."""
    if torch.cuda.device_count() <= device:
        common.skip(f"there is no GPU {device}")  # rmm_torch_allocator is None then
    rmm = common.need("rmm")
    from rmm.allocators.torch import rmm_torch_allocator

    if name == "rmm_managed":
        rmm.reinitialize(managed_memory=True, devices=[device])
        # Managed memory beyond a card's own can hang it: 2 GiB are the most, whoever asks.
        most = rmm.mr.LimitingResourceAdaptor(rmm.mr.get_per_device_resource(device), 2 * common.GIB)
        rmm.mr.set_per_device_resource(device, most)
    else:
        rmm.reinitialize(pool_allocator=True, initial_pool_size=4 * common.GIB, devices=[device])
    torch.cuda.memory.change_current_allocator(rmm_torch_allocator)
    return Chosen(name)
