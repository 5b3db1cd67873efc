"""What gpuroom raises. Every message is one sentence, the library's own where it has one."""

from __future__ import annotations

import sys
from typing import Dict, Optional, Type


class Error(RuntimeError):
    """Something that gpuroom could not do; the base of all that it raises."""


class OutOfMemory(Error):
    """The tier that was asked for has no room. Where PyTorch is loaded, also a torch.OutOfMemoryError, so that a program's own
    handling of that meets it."""


class InvalidArgument(Error, ValueError):
    """An argument that makes no sense; the message names the fix."""


class NotFound(Error):
    """gpuroom has placed nothing at that address: it is small, the driver's own, or no device memory."""


class Unsupported(Error):
    """The process has no gpuroom library, or the driver cannot do it."""


class Busy(Error):
    """Not now: a capture is in progress, the memory is shared, or the GPU stays busy."""


# gpuroom_result of gpuroom.h.
_CLASSES: Dict[int, Type[Error]] = {
    1: OutOfMemory,
    2: InvalidArgument,
    3: NotFound,
    4: Unsupported,
    5: Error,
    6: Busy,
}


_with_torch: Optional[Type[OutOfMemory]] = None


def _out_of_memory() -> Type[OutOfMemory]:
    global _with_torch
    theirs = getattr(sys.modules.get("torch"), "OutOfMemoryError", None)
    if not isinstance(theirs, type) or not issubclass(theirs, Exception):
        return OutOfMemory
    if _with_torch is None or not issubclass(_with_torch, theirs):
        _with_torch = type("OutOfMemory", (OutOfMemory, theirs), {"__module__": __name__, "__doc__": OutOfMemory.__doc__})
    return _with_torch


def out_of_memory(sentence: str) -> OutOfMemory:
    """The exception for a lack of memory."""
    return _out_of_memory()(sentence)


def from_result(code: int, sentence: str, what: str) -> Error:
    """The exception for a gpuroom_result; `what` was asked for and stands in for a missing sentence."""
    kind = _CLASSES.get(code, Error)
    text = sentence or f"{what} failed with result {code}, and the library gave no reason"
    return out_of_memory(text) if kind is OutOfMemory else kind(text)
