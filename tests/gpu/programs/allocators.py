"""The allocators that are compared, each chosen by name before PyTorch has used the GPU. `chosen.inside()` is entered
around what it is to allocate; `chosen.build` has the library of those that people write themselves."""

import contextlib
import os
import pathlib
import sys

import common

ROOT = pathlib.Path(__file__).resolve().parents[3]
NAMES = ["native", "async", "plain", "plain_managed", "gpuroom_use", "gpuroom_pool", "gpuroom_managed", "rmm_pool",
         "rmm_managed"]


class Chosen:
    def __init__(self, name, inside=contextlib.nullcontext, gpuroom=None):
        self.name, self.inside, self.gpuroom = name, inside, gpuroom


def package():
    """The gpuroom package of this source tree, or the installed one."""
    folder = ROOT / "python"
    if (folder / "gpuroom").exists():
        sys.path.insert(0, str(folder))
    import gpuroom
    import gpuroom.torch  # noqa: F401

    return gpuroom


def choose(name, device=0, **limits):
    """`limits` are those of gpuroom.configure, and count for gpuroom's allocators alone."""
    if name not in NAMES:
        sys.exit(f"--allocator is '{name}'; use {', '.join(NAMES)}")
    if name == "async":  # read when PyTorch is imported
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "backend:cudaMallocAsync"
    torch = common.need("torch")
    if name in ("native", "async"):
        return Chosen(name)
    if name.startswith("gpuroom_"):
        return gpuroom_allocator(name, device, limits)
    if name.startswith("rmm_"):
        return rmm_allocator(name, torch, device)
    library = os.environ.get("GPUTEST_LIBRARIES", str(ROOT / "build" / "gpu" / "lib" / "gpuroom"))
    path = os.path.join(library, "gputest_plain_allocator.so")
    if not os.path.exists(path):
        common.skip(f"{path} was not built")
    allocator = torch.cuda.memory.CUDAPluggableAllocator(path, f"{name}_malloc", f"{name}_free")
    torch.cuda.memory.change_current_allocator(allocator)
    return Chosen(name)


def gpuroom_allocator(name, device, limits):
    gpuroom = package()
    if name == "gpuroom_use":
        gpuroom.torch.use(**limits)
        return Chosen(name, gpuroom=gpuroom)
    if name == "gpuroom_managed":
        # Little, since managed memory beyond a card's own can hang it: at most 2 GiB in all.
        gpuroom.torch.use(**{**limits, "hbm_limit": "2GiB", "host_limit": "1GiB"}, backend="managed")
        return Chosen(name, gpuroom=gpuroom)
    gpuroom.configure(**limits)
    pool = gpuroom.torch.pool(tag="test", device=device)
    return Chosen(name, lambda: pool, gpuroom)


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
