"""torch_memory_saver, for programs that import it, over gpuroom's sleep and wake (docs/sleep.md).

Put this folder before the original's in PYTHONPATH (`python -m gpuroom stand-ins` prints it) and start the program
with `gpuroom run`, or leave that out and only what regions allocate is gpuroom's. The names and arguments are those
of torch_memory_saver 0.0.9 and 0.0.10; what those leave undefined is an exception here, never the end of the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any, Iterator, Optional

import gpuroom.torch
from gpuroom import _intent, _library
from gpuroom.torch import _pool
from gpuroom.torch._torch import torch

__all__ = ["TorchMemorySaver", "configure_subprocess", "torch_memory_saver"]

_DEFAULT = "default"


class TorchMemorySaver:
    """Regions whose memory can be paused and resumed. One for the process: `torch_memory_saver`."""

    def __init__(self) -> None:
        self._hook_mode = "preload"
        self._retain = False

    @contextlib.contextmanager
    def region(
        self,
        tag: str = _DEFAULT,
        enable_cpu_backup: bool = False,
        enable_disk_backup: bool = False,
        cpu_backup_backend: Optional[str] = None,
    ) -> Iterator[None]:
        """What this thread allocates inside can be paused, by `tag`. Without a backup a pause loses its contents.

        `cpu_backup_backend` ('pinned' or 'mmap') is accepted: gpuroom chooses by itself what carries a backup.
        """
        if enable_cpu_backup and enable_disk_backup:
            raise ValueError("enable_cpu_backup and enable_disk_backup are both set; choose one")
        if cpu_backup_backend not in (None, "pinned", "mmap"):
            raise ValueError(f"cpu_backup_backend is {cpu_backup_backend!r}; use 'pinned' or 'mmap'")
        with _Settings(tag, True, enable_cpu_backup, enable_disk_backup) as settings:
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
        cpu_backup_backend: Optional[str] = None,
    ) -> Iterator[None]:
        """torch.cuda.graph whose own memory can be paused, too: under `gpuroom run`. Elsewhere it is PyTorch's
        own allocator that has it, and no pause concerns it."""
        del cpu_backup_backend
        with torch.cuda.graph(cuda_graph, pool=pool, stream=stream, capture_error_mode=capture_error_mode):
            with _Settings(tag, True, enable_cpu_backup, False) as settings:
                with gpuroom.region(settings.tag(), backup=enable_cpu_backup):
                    yield

    @contextlib.contextmanager
    def disable(self, dispose_mem_pool_after_use: bool = True) -> Iterator[None]:
        """Inside, this thread allocates outside all regions."""
        del dispose_mem_pool_after_use
        with _Settings(_DEFAULT, False, False, False):
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
        `zero_copy` the result is valid until the tensor is resumed."""
        if not x.is_cuda or not x.is_contiguous():
            raise ValueError("get_cpu_backup wants a contiguous CUDA tensor")
        bytes_ = x.numel() * x.element_size()
        address = _function("tms_get_cpu_backup_pointer")(x.data_ptr(), bytes_)
        if not address:
            return None
        found = torch.frombuffer((ctypes.c_uint8 * bytes_).from_address(address), dtype=x.dtype).view(x.shape)
        return found if zero_copy else found.clone()

    def set_disk_backup_dir(self, path: str) -> None:
        """Where backups on disk go; made if it is not there."""
        os.makedirs(path, exist_ok=True)
        _function("tms_set_disk_backup_dir")(os.fsencode(path))

    @property
    def enabled(self) -> bool:
        return True

    @property
    def hook_mode(self) -> str:
        """'preload' or 'torch': remembered; how gpuroom has the memory depends on `gpuroom run` alone."""
        return self._hook_mode

    @hook_mode.setter
    def hook_mode(self, mode: str) -> None:
        if mode not in ("preload", "torch"):
            raise ValueError(f"hook_mode is {mode!r}; use 'preload' or 'torch'")
        self._hook_mode = mode

    @property
    def memory_margin_bytes(self) -> int:
        raise NotImplementedError("memory_margin_bytes can be set, not read")

    @memory_margin_bytes.setter
    def memory_margin_bytes(self, value: int) -> None:
        _function("gpuroom_set_memory_margin")(value)

    @property
    def retain_cpu_backup(self) -> bool:
        return self._retain

    @retain_cpu_backup.setter
    def retain_cpu_backup(self, value: bool) -> None:
        self._retain = bool(value)

    def _call(self, name: str, tag: Optional[str]) -> None:
        library = _library.load()
        if _function(name)(None if tag is None else tag.encode()) != 0:
            sentence = (library.function("gpuroom_last_error")() or b"").decode("utf-8", "replace")
            raise gpuroom.Error(f"{name} failed: {sentence}")


class _Settings:
    """The thread's region as the C functions know it, while one is entered."""

    def __init__(self, tag: str, interesting: bool, cpu: bool, disk: bool) -> None:
        self._new = (tag.encode(), interesting, cpu, disk)
        self._old = self._new

    def __enter__(self) -> "_Settings":
        _intent.current()  # which has to know how the thread began
        self._old = (
            bytes(_function("tms_get_current_tag")()),
            bool(_function("tms_get_interesting_region")()),
            bool(_function("tms_get_enable_cpu_backup")()),
            bool(_function("tms_get_enable_disk_backup")()),
        )
        self._set(self._new)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._set(self._old)

    def tag(self) -> str:
        """As memory carries it, while this is entered."""
        return bytes(_function("gpuroom_region_tag")()).decode()

    @staticmethod
    def _set(settings: Any) -> None:
        names = ("current_tag", "interesting_region", "enable_cpu_backup", "enable_disk_backup")
        for name, value in zip(names, settings):
            _function(f"tms_set_{name}")(value)


@contextlib.contextmanager
def configure_subprocess() -> Iterator[None]:
    """Child processes that start inside are to have regions, too: under `gpuroom run` they do."""
    if not _library.load().preloaded:
        raise gpuroom.Unsupported(
            "child processes have regions only under gpuroom; start this program with 'gpuroom run -- ...'"
        )
    yield


def _function(name: str) -> Any:
    return _library.load().function(name)


torch_memory_saver = TorchMemorySaver()
