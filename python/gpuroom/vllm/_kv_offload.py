"""vLLM's KV offloading with the blocks in gpuroom's host memory. Imported by vLLM's OffloadingSpecFactory alone, and only where it
is used.

vLLM's own spec keeps the blocks that leave HBM in memory that it pins, beside `--host-limit`. This one differs by that memory alone:
gpuroom's counts in the limit that the node's processes share, and may have been created ahead. It has device addresses, which
vLLM's copies use as they are; the processor reads none of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
from typing import Any, Iterator

from gpuroom import _memory
from gpuroom.torch._torch import torch
from gpuroom.vllm import _log
from gpuroom.vllm._worker import mib, placed

TAG = b"kv_offload"
_transfers: Any = importlib.import_module("vllm.v1.kv_offload.cpu.gpu_worker")
_Spec: Any = importlib.import_module("vllm.v1.kv_offload.cpu.spec").CPUOffloadingSpec


class GpuroomOffloadingSpec(_Spec):  # type: ignore[misc]
    """vLLM's spec, with gpuroom's memory where there is enough of it."""

    def create_worker(self, kv_caches: Any) -> Any:
        """vLLM's worker, which copies blocks."""
        with _log.going_on("KV blocks that leave HBM go to memory that vLLM pins"):
            with _host_tier(kv_caches.tensors[0].tensor.device) as memory:
                worker = super().create_worker(kv_caches)
            whose = "gpuroom's host memory" if memory.bytes else "memory that this vLLM allocates in another way than gpuroom knows"
            _log.info("KV blocks that leave HBM go to %s (%s)", whose, mib(memory.bytes))
            return worker
        return super().create_worker(kv_caches)


class _HostTier:
    """Stands for the module `torch`, but that memory for blocks on the CPU is gpuroom's. `bytes`: so much was asked for."""

    def __init__(self, device: Any) -> None:
        self._device, self.bytes = device, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, shape: Any, **named: Any) -> Any:
        """As torch.zeros."""
        if named.get("dtype") is not torch.int8 or named.get("device") != "cpu":
            return torch.zeros(shape, **named)
        memory = host_memory(math.prod(shape), self._device)
        memory.zero_()
        self.bytes += math.prod(shape)
        return as_cpu(memory).view(shape)


@contextlib.contextmanager
def _host_tier(device: Any) -> Iterator[_HostTier]:
    """vLLM's workers that are made inside have gpuroom's memory."""
    before, memory = _transfers.torch, _HostTier(device)
    _transfers.torch = memory
    try:
        yield memory
    finally:
        _transfers.torch = before


def host_memory(count: int, device: Any) -> Any:
    """`count` bytes on the host at device addresses, as a tensor of `device`. Raises what PyTorch raises where there is no room."""
    torch.cuda.empty_cache()  # what PyTorch has cached may lie in HBM
    with placed("cold", TAG):
        memory = torch.empty(count, dtype=torch.uint8, device=device)
    _memory.migrate_all([memory], "host")
    return memory


def as_cpu(memory: Any) -> Any:
    """The same addresses as a tensor on the CPU, as which vLLM's copies want what is not in HBM; for its address alone. It keeps
    `memory`."""
    array: Any = (ctypes.c_int8 * int(memory.numel())).from_address(memory.data_ptr())
    array.memory = memory
    return torch.frombuffer(array, dtype=torch.int8)
