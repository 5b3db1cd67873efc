"""Regions, pausing and resuming, by gpuroom's functions of torch_memory_saver's names (gpuroom/torch_memory_saver.h)."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any, Iterator, Literal, Optional

import gpuroom.torch
from gpuroom import _intent, _library
from gpuroom.torch import _pool
from gpuroom.torch._torch import torch

from .binary_wrapper import function
from .hooks.base import HookMode

CpuBackupBackend = Literal["mmap", "pinned"]
_DEFAULT = "default"


class TorchMemorySaver:
    """Regions whose memory can be paused and resumed. One for the process: `torch_memory_saver`."""

    def __init__(self) -> None:
        self._hook_mode: HookMode = "preload"

    @contextlib.contextmanager
    def region(
        self,
        tag: str = _DEFAULT,
        enable_cpu_backup: bool = False,
        enable_disk_backup: bool = False,
        cpu_backup_backend: Optional[CpuBackupBackend] = None,
    ) -> Iterator[None]:
        """What this thread allocates inside can be paused, by `tag`. Without a backup a pause loses its contents.

        `cpu_backup_backend` ('pinned' or 'mmap') is for regions with a backup in host memory. It is remembered: gpuroom
        chooses by itself what carries a backup.
        """
        if enable_cpu_backup and enable_disk_backup:
            raise ValueError("enable_cpu_backup and enable_disk_backup are both set; choose one")
        _check_backend(enable_cpu_backup, cpu_backup_backend)
        with _Settings(tag, True, enable_cpu_backup, enable_disk_backup, cpu_backup_backend) as settings:
            with gpuroom.torch.region(settings.tag(), backup=enable_cpu_backup or enable_disk_backup):
                yield

    @contextlib.contextmanager
    def cuda_graph(
        self,
        cuda_graph: Any,
        pool: Any = None,
        stream: Any = None,
        capture_error_mode: str = "global",
        tag: str = _DEFAULT,
        enable_cpu_backup: bool = False,
        cpu_backup_backend: Optional[CpuBackupBackend] = None,
    ) -> Iterator[None]:
        """torch.cuda.graph whose own memory can be paused, too: under `gpuroom run`. Elsewhere it is PyTorch's
        own allocator that has it, and no pause concerns it."""
        _check_backend(enable_cpu_backup, cpu_backup_backend)
        with torch.cuda.graph(cuda_graph, pool=pool, stream=stream, capture_error_mode=capture_error_mode):
            with _Settings(tag, True, enable_cpu_backup, False, cpu_backup_backend) as settings:
                with gpuroom.region(settings.tag(), backup=enable_cpu_backup):
                    yield

    @contextlib.contextmanager
    def disable(self, dispose_mem_pool_after_use: bool = True) -> Iterator[None]:
        """Inside, this thread allocates outside all regions."""
        del dispose_mem_pool_after_use
        with _Settings(_DEFAULT, False, False, False, None):
            with _pool.outside():
                yield

    def pause(self, tag: Optional[str] = None) -> None:
        """Gives the GPU memory of regions with this tag back (None: of all). Raises gpuroom.Error; then all is as
        before. What is paused already stays so."""
        self._call("tms_pause", tag)

    def resume(self, tag: Optional[str] = None) -> None:
        """Has it again, at the same addresses."""
        self._call("tms_resume", tag)

    def get_cpu_backup(self, x: Any, zero_copy: bool = False) -> Any:
        """The contents of a paused tensor, on the CPU; None where it is not paused or was not backed up. With
        `zero_copy` the result is valid until the tensor is resumed, or longer with `retain_cpu_backup`."""
        if not x.is_cuda or not x.is_contiguous():
            raise ValueError("get_cpu_backup wants a contiguous CUDA tensor")
        bytes_ = x.numel() * x.element_size()
        address = function("tms_get_cpu_backup_pointer")(x.data_ptr(), bytes_)
        if not address:
            return None
        found = torch.frombuffer((ctypes.c_uint8 * bytes_).from_address(address), dtype=x.dtype).view(x.shape)
        return found if zero_copy else found.clone()

    def set_disk_backup_dir(self, path: str) -> None:
        """Where backups on disk go; made if it is not there."""
        os.makedirs(path, exist_ok=True)
        function("tms_set_disk_backup_dir")(os.fsencode(path))

    @property
    def enabled(self) -> bool:
        return True

    @property
    def hook_mode(self) -> HookMode:
        """'preload' or 'torch': remembered; how gpuroom has the memory depends on `gpuroom run` alone."""
        return self._hook_mode

    @hook_mode.setter
    def hook_mode(self, mode: HookMode) -> None:
        if mode not in ("preload", "torch"):
            raise ValueError(f"hook_mode is {mode!r}; use 'preload' or 'torch'")
        self._hook_mode = mode

    @property
    def memory_margin_bytes(self) -> int:
        raise NotImplementedError("memory_margin_bytes can be set, not read")

    @memory_margin_bytes.setter
    def memory_margin_bytes(self, value: int) -> None:
        function("gpuroom_set_memory_margin")(value)

    @property
    def retain_cpu_backup(self) -> bool:
        """Whether what `get_cpu_backup(..., zero_copy=True)` returns stays valid after a resume; the next pause puts the new
        contents there."""
        return bool(function("tms_get_retain_cpu_backup")())

    @retain_cpu_backup.setter
    def retain_cpu_backup(self, value: bool) -> None:
        function("tms_set_retain_cpu_backup")(bool(value))

    def _call(self, name: str, tag: Optional[str]) -> None:
        library = _library.load()
        if function(name)(None if tag is None else tag.encode()) != 0:
            sentence = (library.function("gpuroom_last_error")() or b"").decode("utf-8", "replace")
            raise gpuroom.Error(f"{name} failed: {sentence}")


class _Settings:
    """The thread's region as the C functions know it, while one is entered."""

    def __init__(self, tag: str, interesting: bool, cpu: bool, disk: bool, backend: Optional[str]) -> None:
        self._new = (tag.encode(), interesting, cpu, disk, None if backend is None else backend.encode())
        self._old = self._new

    def __enter__(self) -> "_Settings":
        _intent.current()  # which has to know how the thread began
        self._old = (
            bytes(function("tms_get_current_tag")()),
            bool(function("tms_get_interesting_region")()),
            bool(function("tms_get_enable_cpu_backup")()),
            bool(function("tms_get_enable_disk_backup")()),
            bytes(function("tms_get_cpu_backup_backend")()),
        )
        self._set(self._new)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._set(self._old)

    def tag(self) -> str:
        """As memory carries it, while this is entered."""
        return bytes(function("gpuroom_region_tag")()).decode()

    @staticmethod
    def _set(settings: Any) -> None:
        names = ("current_tag", "interesting_region", "enable_cpu_backup", "enable_disk_backup", "cpu_backup_backend")
        for name, value in zip(names, settings):
            if name != "cpu_backup_backend" or value is not None:  # None: as it was
                function(f"tms_set_{name}")(value)


def _check_backend(enable_cpu_backup: bool, backend: Optional[str]) -> None:
    if backend is None:
        return
    if backend not in ("pinned", "mmap"):
        raise ValueError(f"cpu_backup_backend is {backend!r}; use 'pinned' or 'mmap'")
    if not enable_cpu_backup:
        raise ValueError("cpu_backup_backend requires enable_cpu_backup=True")
