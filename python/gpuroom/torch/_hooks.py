"""The hooks by which PyTorch's modules tell a streamer what they do."""

from __future__ import annotations

import weakref
from typing import Any

from gpuroom.torch._torch import torch

_ours: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()  # hook: id of its module


def is_streamed(module: Any) -> bool:
    """Whether a streamer is attached to this very module: a copy of it has the hook, and is not streamed."""
    return any(_ours.get(hook) == id(module) for hook in module._forward_pre_hooks.values())


def entering(streamer: Any, unit: Any) -> Any:
    """Before a forward of the unit."""
    def hook(module: Any, _arguments: Any) -> None:
        # A copy of the module (deepcopy, replicate) has this hook and other weights; a compiler that
        # traces through reads in place, and must not see what follows.
        if module is unit.unit.module and not torch.compiler.is_compiling():
            streamer.enter(unit)

    _ours[hook] = id(unit.unit.module)
    return hook


def leaving(streamer: Any, unit: Any) -> Any:
    """After it."""
    def hook(module: Any, _arguments: Any, result: Any) -> Any:
        if module is unit.unit.module and not torch.compiler.is_compiling():
            return streamer.leave(unit, result)
        return None

    return hook


def saving(streamer: Any, unit: Any, part: Any) -> Any:
    """Before a state_dict of `part`, a module of the unit."""
    def hook(module: Any, _prefix: str, _keep_vars: bool) -> None:
        if module is part:  # and not a copy of it
            streamer.refuse_while_running(unit)

    return hook
