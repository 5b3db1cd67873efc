"""How memory comes to be gpuroom's. The original has a library for each way; here both are libgpuroom.so."""

from __future__ import annotations

from typing import Any, Literal

from gpuroom import _library

HookMode = Literal["preload", "torch"]


class HookUtilBase:
    """One way of the two."""

    @staticmethod
    def create(hook_mode: HookMode) -> "HookUtilBase":
        from .mode_preload import HookUtilModePreload
        from .mode_torch import HookUtilModeTorch

        return HookUtilModeTorch() if hook_mode == "torch" else HookUtilModePreload()

    def get_path_binary(self) -> str:
        """The library's path."""
        return str(_library.load().path)

    def get_allocator(self) -> Any:
        """What a torch.cuda.MemPool takes; None: PyTorch's own, whose memory gpuroom has already."""
        return None
