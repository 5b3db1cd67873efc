"""Which parts of a model are streamed as one: the blocks of its large ModuleLists, and single modules beside.

Every parameter and buffer of the model belongs to exactly one unit. Parameters that several units use
(tied weights) form a unit of their own that is never staged, and so do buffers, since a forward pass may
write them in ways that cannot be seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from gpuroom.torch import _packing
from gpuroom.torch._torch import torch

_LARGE_LIST = 0.1  # of the model's bytes: a ModuleList from there on is made of blocks


@dataclasses.dataclass
class Unit:
    """Tensors that are placed together. `module`: at whose forward they are needed; None: never staged."""

    name: str
    module: Optional[Any]
    spans: List[_packing.Span]
    dense: bool = True

    @property
    def tensors(self) -> List[Any]:
        return [tensor for span in self.spans for tensor in span.tensors]

    @property
    def bytes(self) -> int:
        return _packing.packed_bytes(self.spans)


def find(model: Any, stage_buffers: bool) -> List[Unit]:
    """The units of `model` in the order of its modules, which mostly is that of their use."""
    parts = list(_parts(model))
    owners: Dict[int, Set[int]] = {}
    tensors: Dict[int, Any] = {}
    kept: Set[int] = set()
    for number, (_, module, whole) in enumerate(parts):
        for tensor, is_buffer in _own_tensors(module, whole):
            owners.setdefault(id(tensor), set()).add(number)
            tensors[id(tensor)] = tensor
            if is_buffer and not stage_buffers:
                kept.add(id(tensor))
    spans = _packing.spans_of(list(tensors.values()))
    grouped: Dict[int, List[_packing.Span]] = {}
    aside: List[_packing.Span] = []
    for span in spans:
        users = set().union(*(owners[id(tensor)] for tensor in span.tensors))
        alone = len(users) == 1 and not any(id(tensor) in kept for tensor in span.tensors)
        (grouped.setdefault(users.pop(), []) if alone else aside).append(span)
    units = [Unit(name or "the model itself", module if _runs_alone(module, whole) else None, grouped[number],
                  dense=not _is_table(module))
             for number, (name, module, whole) in enumerate(parts) if number in grouped]  # fmt: skip
    return units + [Unit("shared tensors and buffers", None, [span]) for span in aside]


def _parts(model: Any) -> Iterator[Tuple[str, Any, bool]]:
    """(name, module, whether with all below it): blocks whole, all other modules by themselves."""
    blocks = _blocks(model)
    below: Set[int] = set()
    for name, module in model.named_modules():
        if id(module) in below:
            continue
        if id(module) in blocks:
            below.update(id(inner) for inner in module.modules())
            yield name, module, True
        else:
            yield name, module, False


def _blocks(model: Any) -> Set[int]:
    """Ids of the members of large ModuleLists, the outermost ones."""
    total = sum(_bytes(module) for module in model.modules())
    found: Set[int] = set()
    inside: Set[int] = set()
    for module in model.modules():
        if not isinstance(module, torch.nn.ModuleList) or id(module) in inside:
            continue
        if sum(_bytes(inner) for inner in module.modules()) >= _LARGE_LIST * total:
            found.update(id(member) for member in module)
            inside.update(id(inner) for inner in module.modules())
    return found


def _bytes(module: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor, _ in _own_tensors(module, False))


def _own_tensors(module: Any, whole: bool) -> Iterator[Tuple[Any, bool]]:
    """(tensor, is a buffer) of the module, with `whole` also of all below it."""
    for parameter in module.parameters(recurse=whole):
        yield parameter, False
    for buffer in module.buffers(recurse=whole):
        yield buffer, True


def _runs_alone(module: Any, whole: bool) -> bool:
    """Whether no other unit runs within its forward: it would keep its staging buffer from them."""
    return whole or not any(True for _ in module.children())


def _is_table(module: Any) -> bool:
    """Whether a forward pass reads a few rows of it and not all."""
    return isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag))
