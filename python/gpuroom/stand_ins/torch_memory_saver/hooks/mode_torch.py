"""Regions by PyTorch's pluggable allocator."""

from __future__ import annotations

from typing import Any

from gpuroom.torch._torch import torch

from .base import HookUtilBase


class HookUtilModeTorch(HookUtilBase):
    """A pool of PyTorch's whose segments are the library's."""

    def __init__(self) -> None:
        self.allocator = torch.cuda.memory.CUDAPluggableAllocator(self.get_path_binary(), "tms_torch_malloc", "tms_torch_free")

    def get_allocator(self) -> Any:
        return self.allocator.allocator()
