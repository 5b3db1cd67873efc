"""`stream()`: a model whose weights exceed HBM, run with the next ones copied ahead of use."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from typing import Any, Dict, List, Optional

from gpuroom import _memory, _settings, _stream_plan
from gpuroom._errors import Error, InvalidArgument, NotFound
from gpuroom._sizes import Size, format_size, parse_size
from gpuroom._types import Device
from gpuroom.torch import _packing, _units
from gpuroom.torch._engine import CudaEngine
from gpuroom.torch._hooks import is_streamed
from gpuroom.torch._streamer import Streamed, Streamer
from gpuroom.torch._torch import torch


@dataclasses.dataclass(frozen=True)
class StreamStats:
    """Of one streamed model: where its bytes lie by plan, the staging area, and since `stream()`: unit
    runs that read a staging buffer (`staged`), of these those whose copy was begun ahead or late, runs that read
    in place, and the bytes copied."""

    resident_bytes: int
    streamed_bytes: int
    direct_bytes: int
    staging_bytes: int
    staged: int
    ahead: int
    late: int
    in_place: int
    copied_bytes: int


class StreamHandle:
    """What `stream()` returns. Keep it to look at or to undo; the model streams without it, too."""

    def __init__(self, plan: _stream_plan.Plan, names: List[str], streamer: Streamer) -> None:
        self._plan, self._names, self._streamer = plan, names, streamer

    def stats(self) -> StreamStats:
        """Any thread; cheap."""
        plan = self._plan
        return StreamStats(
            plan.resident_bytes, plan.streamed_bytes, plan.direct_bytes, plan.staging_bytes, **self._streamer.counts
        )

    def places(self) -> Dict[str, str]:
        """The place of each unit by name: 'resident' (HBM), 'streamed', or 'direct' (read where it lies)."""
        return dict(zip(self._names, self._plan.places))

    def refresh(self) -> None:
        """Tells that weights were changed through `.data`, or by code that PyTorch does not see. Changes of the
        usual kind (optimizers, load_state_dict, copy_) are noticed without. The stream that runs a unit has to
        come after the change, as it has to without streaming."""
        self._streamer.refresh()

    def remove(self, force: bool = False) -> None:
        """Ends streaming: no hooks and no staging area. Weights stay where they lie and can be used, moved and
        saved as those of any model. Waits for the GPU. Raises Busy while a forward is under way: one that was
        interrupted (Ctrl-C) counts as such for good, and `force` ends it. With `force` it is for you to know
        that no forward is running."""
        self._streamer.detach(force)


def stream(
    model: Any,
    hbm: Size,
    prefetch: int = 2,
    *,
    buffers: bool = False,
    device: Optional[Device] = None,
) -> StreamHandle:
    """Prepares a torch module whose weights may exceed `hbm` bytes, and streams what does not fit as it runs.

    Weights that fit stay in HBM, a staging area for `prefetch` units and the one in use included; activations
    are not. The others lie in host memory at device addresses, and are copied ahead of use by a copy
    engine. A unit is a member of a large ModuleList (a decoder layer), or a single module beside. Which ones
    stay is spread evenly, so that copies overlap computing; embeddings and tied weights are not copied but
    stay or are read where they lie. The model may be on the CPU or the GPU; afterwards it is on
    `device` (None: the current one). Results are the same to the bit as with all weights in HBM.

    Only forwards without grad use copies (torch.no_grad, torch.inference_mode); with grad, while a CUDA graph
    is captured and in code of torch.compile, weights are read where they lie, at the speed of the link.
    Any order of units, units used twice, exceptions, recursion and several threads are served. Weights that
    a forward changes in place are written back. Buffers are placed but not copied: with `buffers` they are,
    which suits quantized weights kept in buffers, and no buffer that custom kernels write. Views of
    weights that a forward returns are views of their memory; those that it keeps elsewhere (on self) refer to the
    staging area, which soon holds other weights: clone them.

    Returns a StreamHandle, whose remove() undoes it. Raises InvalidArgument (sizes, meta tensors, tensor
    subclasses), OutOfMemory (what was placed stays placed, and the model works), Unsupported, and Error
    where the model, or a part of it, is streamed already. One
    thread at a time for one model, with no forward under way. Remove before pickling the module object. While
    one thread runs the model, others must not read its weights but by running it; state_dict() raises Busy then.
    """
    budget = parse_size(hbm, "hbm")
    if not isinstance(model, torch.nn.Module):
        raise InvalidArgument(f"model is of {type(model).__name__}; stream() takes a torch.nn.Module")
    if isinstance(prefetch, bool) or not isinstance(prefetch, int):
        raise InvalidArgument(f"prefetch is {prefetch!r}; use 1 or more units to fetch ahead")
    if any(is_streamed(module) for module in model.modules()):
        raise Error("this model is streamed already; call remove() of its StreamHandle before streaming it anew")
    _settings.configure()
    units = _units.find(model, buffers)
    plan = _plan(units, budget, prefetch)
    torch.cuda.init()
    engine = CudaEngine(_memory.ordinal(device))
    with torch.inference_mode(False), torch.no_grad():
        streamer = place(engine, units, plan, prefetch)
    return StreamHandle(plan, [unit.name for unit in units], streamer)


def _plan(units: List[_units.Unit], budget: int, prefetch: int) -> _stream_plan.Plan:
    sizes = [_stream_plan.Unit(unit.name, unit.bytes, unit.module is not None, unit.dense) for unit in units]
    return _stream_plan.plan(sizes, budget, prefetch)


def place(engine: Any, units: List[_units.Unit], plan: _stream_plan.Plan, prefetch: int) -> Streamer:
    """Gives every unit its memory, host memory first, so that HBM is free for the rest; attaches the hooks."""
    streamed: List[Streamed] = []
    for unit, where in zip(units, plan.places):
        if where == _stream_plan.RESIDENT:
            continue
        home = _pack(engine, unit, "cold")
        if where == _stream_plan.STREAMED:
            streamed.append(Streamed(len(streamed), unit, home))
    engine.drop_cached()
    for unit, where in zip(units, plan.places):
        if where == _stream_plan.RESIDENT and not all(_in_hbm(engine, tensor) for tensor in unit.tensors):
            _pack(engine, unit, "hot")
    staging = [engine.empty(plan.slot_bytes, "hot") for _ in range(plan.slots)]
    engine.settle()
    streamer = Streamer(engine, streamed, staging, prefetch)
    streamer.attach()
    return streamer


def _pack(engine: Any, unit: _units.Unit, hint: str) -> Any:
    """Moves a unit into one new piece of memory, which is returned."""
    piece = engine.empty(unit.bytes, hint)
    if hint == "cold":
        _warn_unless_on_host(piece, unit)
    places = _packing.views(unit.spans, piece)
    _packing.fill(unit.spans, piece)
    _packing.point(unit.tensors, places)
    return piece


def _in_hbm(engine: Any, tensor: Any) -> bool:
    """Whether the tensor is on the device and nothing of its allocation is spilled."""
    if tensor.device != engine.device:
        return False
    placement = _described(tensor)
    return placement is None or placement.device_bytes == placement.bytes


def _warn_unless_on_host(piece: Any, unit: _units.Unit) -> None:
    placement = _described(piece)
    if piece.device.type == "cuda" and (placement is None or placement.device_bytes > 0):
        size = format_size(piece.numel() if placement is None else placement.device_bytes)
        warnings.warn(f"{size} of {unit.name} lie in HBM beyond the budget, since host memory is short; raise the host"
                      " limit", stacklevel=4)  # fmt: skip


def _described(tensor: Any) -> Optional[_memory.Placement]:
    with contextlib.suppress(NotFound):
        return _memory.describe(tensor) if tensor.device.type == "cuda" else None
    return None
