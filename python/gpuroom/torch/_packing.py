"""Tensors laid out in one piece of memory, so that one copy moves them all.

Tensors whose memory overlaps (views of one another) form a span, which is laid out as it is: aliases stay
aliases, strides and offsets stay. So does a tensor's alignment (to 64 bytes), by which kernels choose how to
work: results are the same to the bit in either place.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Dict, List, Tuple

from gpuroom._errors import InvalidArgument
from gpuroom._memory import span_of
from gpuroom.torch._torch import torch

_ALIGNMENT = 512  # of PyTorch's own allocations
_KEPT_ALIGNMENT = 64


@dataclasses.dataclass
class Span:
    """Overlapping tensors and the memory that they cover, [start, start + bytes) on their device."""

    start: int
    bytes: int
    tensors: List[Any]

    @property
    def lead(self) -> int:
        """Bytes before it in the piece."""
        return self.start % _KEPT_ALIGNMENT

    @property
    def taken(self) -> int:
        """Bytes of the piece that it takes."""
        return -(-(self.lead + self.bytes) // _ALIGNMENT) * _ALIGNMENT


def spans_of(tensors: List[Any]) -> List[Span]:
    """The spans of `tensors`, in the order of their first tensors. Refuses what cannot be laid out."""
    by_device: Dict[str, List[Tuple[int, int, int, Any]]] = {}
    for number, tensor in enumerate(tensors):
        _check(tensor)
        _, size = span_of(tensor)
        if size:
            by_device.setdefault(str(tensor.device), []).append((tensor.data_ptr(), size, number, tensor))
    found: List[Tuple[int, Span]] = []
    for entries in by_device.values():
        entries.sort(key=lambda entry: entry[:3])
        for start, size, number, tensor in entries:
            last = found[-1][1] if found else None
            if last is not None and last.tensors[0].device == tensor.device and start < last.start + last.bytes:
                last.tensors.append(tensor)
                last.bytes = max(last.bytes, start + size - last.start)
                found[-1] = (min(found[-1][0], number), last)
            else:
                found.append((number, Span(start, size, [tensor])))
    return [span for _, span in sorted(found, key=lambda item: item[0])]


def packed_bytes(spans: List[Span]) -> int:
    """Bytes of the piece that holds `spans`."""
    return sum(span.taken for span in spans)


def views(spans: List[Span], piece: Any) -> List[Any]:
    """The tensors of `spans`, in their order, as views into `piece` (bytes); nothing is copied."""
    found, offset = [], 0
    for span in spans:
        for tensor in span.tensors:
            found.append(_view(tensor, piece, offset + span.lead + tensor.data_ptr() - span.start))
        offset += span.taken
    return found


def same_places(tensors: List[Any], piece: Any, other: Any) -> List[Any]:
    """Views into `other` that lie there as `tensors` lie in `piece`."""
    return [_view(tensor, other, tensor.data_ptr() - piece.data_ptr()) for tensor in tensors]


def replaced(result: Any, piece: Any, other: Any, kept: List[Any]) -> Any:
    """`result`, a tree of containers, with the same views of `other` for tensors that lie in `piece`, but for those of
    `kept`; None where it has none."""
    storage, found = piece.untyped_storage().data_ptr(), []

    def place(tensor: Any) -> Any:
        if not _lies_in(tensor, storage) or any(tensor is one for one in kept):
            return tensor
        with torch.no_grad(), torch.inference_mode(False):
            # A view that conjugates as it is read is rare, and a copy of it is as right.
            there = tensor.clone() if tensor.is_conj() or tensor.is_neg() else same_places([tensor], piece, other)[0]
        found.append(there)
        return there

    walked = torch.utils._pytree.tree_map_only(torch.Tensor, place, result)
    return walked if found else None


def _lies_in(tensor: Any, storage: int) -> bool:
    with contextlib.suppress(RuntimeError):  # of kinds without a storage
        return bool(tensor.layout is torch.strided and tensor.untyped_storage().data_ptr() == storage)
    return False


def _view(tensor: Any, piece: Any, offset: int) -> Any:
    first = (piece.storage_offset() + offset) // tensor.element_size()
    flat = torch.empty(0, dtype=tensor.dtype, device=piece.device)
    return flat.set_(piece.untyped_storage(), first, tensor.shape, tensor.stride())


def fill(spans: List[Span], piece: Any) -> None:
    """Copies the memory of `spans` into `piece`, from whichever device it lies on."""
    offset = 0
    for span in spans:
        tensor = span.tensors[0]
        storage = tensor.untyped_storage()
        source = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        source.set_(storage, span.start - storage.data_ptr(), (span.bytes,), (1,))
        piece[offset + span.lead : offset + span.lead + span.bytes].copy_(source)
        offset += span.taken


def point(tensors: List[Any], places: List[Any]) -> None:
    """Lets the tensors (the objects that modules hold) have their memory at `places`."""
    for tensor, place in zip(tensors, places):
        tensor.data = place


def _check(tensor: Any) -> None:
    data = tensor.data
    if data.device.type == "meta":
        raise InvalidArgument("the model has parameters on the meta device; load its weights before streaming it")
    if type(data) is not torch.Tensor or data.layout is not torch.strided:
        raise InvalidArgument(f"the model has a parameter of kind {type(data).__name__} ({data.layout}); only plain"
                              " dense tensors can be streamed")  # fmt: skip
