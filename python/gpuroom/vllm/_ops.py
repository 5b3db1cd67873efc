"""Entering and leaving a unit as PyTorch operators, so that torch.compile keeps them where they stand.

Both claim to write the tensor that they get, the unit's input or output, so that nothing that uses it is moved across
them. Neither takes a number: the layers of a model stay equal to the compiler, which then compiles one for all. The
unit is known by the weight, whose Python object is the same in and out of compiled code.
"""

from __future__ import annotations

import weakref
from typing import Any, Dict, Tuple

from gpuroom.torch._torch import torch

_units: Dict[int, Tuple[Any, int]] = {}  # by id of the weight: what counts its steps (weakly), and the unit's number
_library: Any = None


def know(weight: Any, steps: Any, unit: int) -> None:
    """The operators tell `steps` of `unit` when they get `weight`."""
    _units[id(weight)] = (weakref.ref(steps), unit)


def define() -> None:
    """Makes torch.ops.gpuroom.enter and .leave; a second call does nothing."""
    global _library
    if _library is not None:
        return
    library = torch.library.Library("gpuroom", "FRAGMENT")
    for name, run in (("enter", _enter), ("leave", _leave)):
        library.define(f"{name}(Tensor(a!) tensor, Tensor weight) -> ()", tags=(torch.Tag.needs_fixed_stride_order,))
        for key in ("CUDA", "CPU"):
            library.impl(name, run, dispatch_key=key)
        torch.library.register_fake(f"gpuroom::{name}", _nothing, lib=library)
    _library = library


def _steps_of(weight: Any) -> Tuple[Any, int]:
    known = _units.get(id(weight))
    return (None, 0) if known is None else (known[0](), known[1])


def _enter(tensor: Any, weight: Any) -> None:
    steps, unit = _steps_of(weight)
    if steps is not None:
        steps.enter(unit)


def _leave(tensor: Any, weight: Any) -> None:
    steps, unit = _steps_of(weight)
    if steps is not None:
        steps.leave(unit)


def _nothing(tensor: Any, weight: Any) -> None:
    return None
