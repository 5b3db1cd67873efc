"""The C functions, for what drives them itself."""

from __future__ import annotations

import ctypes
from typing import Any, Optional

from gpuroom import _library


def function(name: str) -> Any:
    """One of libgpuroom.so's, with its types."""
    return _library.load().function(name)


class BinaryWrapper:
    """`cdll` has the functions by name, as the original's does. There is one library, so `path_binary` is not looked at."""

    def __init__(self, path_binary: Optional[str] = None) -> None:
        del path_binary
        self.cdll = _Functions()

    def set_config(
        self,
        *,
        tag: str,
        interesting_region: bool,
        enable_cpu_backup: bool,
        cpu_backup_backend: Optional[str] = None,
        enable_disk_backup: bool = False,
    ) -> None:
        """The thread's settings, from now on."""
        function("tms_set_current_tag")(tag.encode())
        function("tms_set_interesting_region")(interesting_region)
        function("tms_set_enable_cpu_backup")(enable_cpu_backup)
        if cpu_backup_backend is not None:
            function("tms_set_cpu_backup_backend")(cpu_backup_backend.encode())
        function("tms_set_enable_disk_backup")(enable_disk_backup)


class _Functions:
    _OTHERWISE = {"set_memory_margin_bytes": "gpuroom_set_memory_margin"}

    def __getattr__(self, name: str) -> Any:
        if name == "tms_get_cpu_backup_pointer":
            return _backup_pointer
        if name not in self._OTHERWISE and not name.startswith("tms_"):
            raise AttributeError(name)
        return function(self._OTHERWISE.get(name, name))


def _backup_pointer(gpu_pointer: Any, count: int) -> Any:
    """A pointer to bytes, as the original's, which is false where there is no backup."""
    address = function("tms_get_cpu_backup_pointer")(gpu_pointer, count)
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8))
