"""The large weights of a vLLM model, the modules that use them, and what brackets these modules' work.

A unit is a module that holds large weights of its own: a linear layer, a layer of experts. Its forward is replaced by
one that says when its work begins and when all of it is submitted.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, FrozenSet, List, Tuple

from gpuroom.torch._torch import torch
from gpuroom.vllm import _ops
from gpuroom.vllm._steps import Kind, Steps

LEAST = 20 << 20  # bytes; smaller weights share memory with others, and are not worth a copy of their own
PLACED = 16 << 20  # bytes; the driver serves smaller allocations
EMBEDDING, HEAD = "VocabParallelEmbedding", "ParallelLMHead"


@dataclasses.dataclass
class Unit:
    """`by_row`: an embedding, of which a step reads the rows of its tokens."""

    name: str
    module: Any
    weights: List[Any]
    by_row: bool


def bytes_of(tensor: Any) -> int:
    """Bytes that a tensor's elements take."""
    return int(tensor.numel() * tensor.element_size())


def find(model: Any, apart: FrozenSet[int] = frozenset()) -> List[Unit]:
    """The units of `model` whose weights may lie on the host: neither the output head, which is used outside of a
    step's forward, nor weights that several modules share, nor those whose ids are in `apart`."""
    owners: Dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            owners[weight.data_ptr()] = owners.get(weight.data_ptr(), 0) + 1
    found = []
    for name, module in model.named_modules():
        own = [weight for weight in module.parameters(recurse=False) if id(weight) not in apart]
        weights = [weight for weight in own if _large(weight) and owners[weight.data_ptr()] == 1]
        if weights and type(module).__name__ != HEAD:
            found.append(Unit(name, module, weights, type(module).__name__ == EMBEDDING))
    return found


def placed(model: Any) -> List[Any]:
    """All weights, each once, that are large enough for gpuroom to place them."""
    found = {weight.data_ptr(): weight for weight in model.parameters() if _strided(weight) and bytes_of(weight) >= PLACED}
    return list(found.values())


def _large(weight: Any) -> bool:
    return _strided(weight) and bytes_of(weight) >= LEAST


def _strided(weight: Any) -> bool:
    return weight.layout is torch.strided and weight.device.type != "meta"


def bracket(units: List[Unit], steps: Steps) -> None:
    """Lets `steps` know of each unit's work, from now on and for good."""
    _ops.define()
    for number, unit in enumerate(units):
        if not unit.by_row:
            _ops.know(unit.weights[0], steps, number)
            unit.module.forward = _bracketed(steps, number, unit.weights[0], unit.module.forward)


def _bracketed(steps: Steps, number: int, weight: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    def forward_between(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            torch.ops.gpuroom.enter(arguments[0] if arguments else next(iter(named.values())), weight)
            result = forward(*arguments, **named)
            torch.ops.gpuroom.leave(result[0] if isinstance(result, tuple) else result, weight)
            return result
        steps.enter(number)
        result = forward(*arguments, **named)
        steps.leave(number)
        return result

    return forward_between


def follow(model: Any, steps: Steps, kind: Callable[[], Kind]) -> None:
    """Lets `steps` know of each step of the model; `kind` says what CUDA graphs have to do with it."""

    def begins(_module: Any, arguments: Tuple[Any, ...], named: Dict[str, Any]) -> None:
        steps.begin(_tokens(arguments, named), kind())

    def ends(_module: Any, _arguments: Any, result: Any) -> None:
        steps.end(whole=result is not None)

    model.register_forward_pre_hook(begins, with_kwargs=True)
    model.register_forward_hook(ends, always_call=True)


def _tokens(arguments: Tuple[Any, ...], named: Dict[str, Any]) -> int:
    """How many tokens a step has: vLLM's models get input_ids, positions and inputs_embeds, by name or in this order."""
    for name, place in (("input_ids", 0), ("inputs_embeds", 3), ("positions", 1)):
        value = named.get(name, arguments[place] if len(arguments) > place else None)
        if isinstance(value, torch.Tensor) and value.dim() > 0:
            return int(value.shape[-1] if name == "positions" else value.shape[0])
    return 0
