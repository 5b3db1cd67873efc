"""Regions by the preloaded library."""

from __future__ import annotations

import contextlib
from typing import Iterator

import gpuroom
from gpuroom import _library

from .base import HookUtilBase


class HookUtilModePreload(HookUtilBase):
    """PyTorch's own allocator, whose memory the preloaded library has."""


@contextlib.contextmanager
def configure_subprocess() -> Iterator[None]:
    """Child processes that start inside are to have regions, too: under `gpuroom run` they do."""
    if not _library.load().preloaded:
        raise gpuroom.Unsupported(
            "child processes have regions only under gpuroom; start this program with 'gpuroom run -- ...'"
        )
    yield
