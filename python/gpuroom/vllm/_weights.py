"""The weights of one vLLM worker: placed in HBM and on the host by plan, once it is known what else HBM has to hold."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Optional, Tuple

from gpuroom import _memory
from gpuroom._errors import Error, OutOfMemory
from gpuroom._types import Hint
from gpuroom.torch import _packing
from gpuroom.torch._torch import torch
from gpuroom.vllm import _experts, _modules
from gpuroom.vllm._placing import NO_RING, Places, Ring, Weight, lay_out, place
from gpuroom.vllm._steps import Kind, Lent, Staged, Stager, Steps

# Tokens of a step that are tried to find from which on copying first is faster than reading in place, and what holds where
# this cannot be tried (quantized weights): kernels read a weight once for each tile of so many rows.
TRIED = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
USUAL = 256
FASTER = 1.2  # copying has to be so many times as fast: copies of a step do not begin before the step does
ALIGNMENT = 64  # bytes, by which kernels choose how to work; others come only into the place of weights that have it
MIB = 1 << 20


class Weights:
    """`engine` submits copies and events (gpuroom.torch._engine); `say` gets what happened, in sentences. `hbm`: the
    bytes of HBM that may be used, by which memory is cut."""

    def __init__(self, model: Any, engine: Any, kind: Callable[[], Kind], say: Callable[[str], None], hbm: int = 0) -> None:
        self._engine, self._say = engine, say
        layers = _experts.find(model)
        self.experts = _experts.Experts(layers, say, _experts.piece_of(hbm)) if layers else None
        apart = frozenset(map(id, self.experts.tensors())) if self.experts is not None else frozenset()
        self._units = _modules.find(model, apart)
        self._plain = len(self._units)  # the units from this one on are layers of experts
        self._units += [_modules.Unit("experts", layer.module, layer.tensors, False) for layer in layers]
        self._large = _modules.placed(model)
        self._apart = apart
        self._steps = Steps(say)
        self._buffer: Any = None  # the ring, where no weights lend theirs
        self._backup: Any = None  # what is lent is saved to it, on the host
        self._threshold: Optional[int] = None
        self._listed: List[Tuple[Weight, Any]] = []  # what the numbers of `places` stand for
        self.places = Places((), (), NO_RING)
        self._expert_layers: List[Tuple[Weight, Any]] = []  # the same of experts, which are staged where no other weights are
        self._expert_places = Places((), (), NO_RING)
        _modules.bracket(self._units, self._steps)
        _modules.follow(model, self._steps, kind)
        if self.experts is not None:
            self.experts.follow()

    def in_hbm(self) -> int:
        """Bytes in HBM now of all large weights, and of the ring's own buffer."""
        return self.buffer_bytes() + sum(_bytes_in_hbm(weight) for weight in self._large)

    def buffer_bytes(self) -> int:
        """Bytes of the ring's own buffer; 0: there is none."""
        return 0 if self._buffer is None else int(self._buffer.numel())

    def all_bytes(self) -> int:
        """Bytes of all large weights, of the ring's own buffer and of the backup, wherever they lie."""
        return self.buffer_bytes() + self._backup_bytes() + sum(map(_modules.bytes_of, self._large))

    def on_host(self) -> int:
        """Those that lie on the host."""
        return self.all_bytes() - self.in_hbm()

    def _backup_bytes(self) -> int:
        return 0 if self._backup is None else int(self._backup.numel())

    def staged_from(self) -> int:
        """From how many tokens on a step stages weights; 0: none does."""
        return self._steps.tokens if self._steps.stager is not None else 0

    def settle(self, room: int, stage_from: Optional[int]) -> None:
        """Places the weights, with the ring, in `room` bytes of HBM. Between steps. Once CUDA graphs have copies of them, the
        plan stays as it is."""
        room -= self._settle_experts(room, stage_from)
        if not self._steps.captured:
            self._plan(room)
        listed = self._listed
        self._steps.use(None, 0)
        if not self.places.ring.bytes:
            self._drop_buffer()
        staged = [listed[number][1] for number in self.places.staged]
        away = staged + [listed[number][1] for number in self.places.read_in_place]
        gone = {id(tensor) for tensor in away}
        moved = self._move(away, [weight for weight in self._large if id(weight) not in gone | self._apart])
        if staged:
            ready, lent = self._stage(listed, self.places)
            self._use(ready, self.places.ring, lent, stage_from or self._threshold or self._measure(ready, lent))
        self._say(self._sentence(staged, away, moved))
        if not staged and self.experts is not None and self.experts.lender is not None:
            self._stage_experts(self.experts, stage_from)

    def _settle_experts(self, room: int, stage_from: Optional[int]) -> int:
        """Places the experts in what `room` has left beside all other weights. Returns the bytes of HBM that they have."""
        if self.experts is None:
            return 0
        others = sum(_modules.bytes_of(weight) for weight in self._large if id(weight) not in self._apart)
        granted = min(self.experts.bytes(), max(0, room - others))
        if not self._steps.captured:
            self._expert_layers, self._expert_places = self._plan_experts(self.experts, granted, stage_from)
        lender = self._expert_layers[0][0].unit - self._plain if self._expert_places.staged else None
        self.experts.settle(granted, lender)
        return granted

    def _plan_experts(self, experts: _experts.Experts, room: int, stage_from: Optional[int]) -> Tuple[List[Tuple[Weight, Any]], Places]:
        """The layers of experts that can be staged, in the order of use, and where: the first one lends its memory to all
        others. Nothing where this costs more than it brings, or cannot be done."""
        nothing: Tuple[List[Tuple[Weight, Any]], Places] = ([], Places((), (), NO_RING))
        layers = experts.alike([number - self._plain for number in self._steps.usable() if number >= self._plain])
        if len(layers) < 2 or not experts.may_lend(layers[0], room, stage_from is not None):
            return nothing
        listed = [_listed(tensor, self._plain + number) for number in layers for tensor in experts.layers[number].tensors]
        lent = tuple(range(len(experts.layers[layers[0]].tensors)))
        staged = tuple(range(len(lent), len(listed)))
        ring = lay_out([listed[number][0] for number in staged], [listed[number][0].lendable for number in lent], lent)
        if ring is None or not self._back_up(sum(listed[number][0].taken for number in lent)):
            return nothing
        return listed, Places(staged, (), ring)

    def _stage_experts(self, experts: _experts.Experts, stage_from: Optional[int]) -> None:
        ready, lent = self._stage(self._expert_layers, self._expert_places)
        self._use(ready, self._expert_places.ring, lent, experts.stage_from(stage_from))
        size = sum(one.source.numel() for one in ready)
        self._say(
            f"steps of {self._steps.tokens} tokens or more copy {_mib(size)} of experts ahead of use, one layer after the other,"
            f" through {_mib(self._expert_places.ring.lent_bytes)} lent by the first one, which lies in HBM whole"
        )

    def _plan(self, room: int) -> None:
        self._listed = self._in_order()
        may_leave = {id(tensor) for _, tensor in self._listed}
        fixed = [weight for weight in self._large if id(weight) not in may_leave | self._apart]
        room -= sum(map(_modules.bytes_of, fixed))
        self.places = self._place([weight for weight, _ in self._listed], room)

    def _place(self, weights: List[Weight], room: int) -> Places:
        """The plan, and the memory on the host that it needs for what is lent."""
        buffer = self.buffer_bytes() or None
        places = place(weights, room, buffer)
        if not self._back_up(sum(weights[number].taken for number in places.ring.lent)):
            return place(weights, room, buffer, lend=False)
        return places

    def _back_up(self, lent: int) -> bool:
        """Has memory on the host to which `lent` bytes can be saved. False: there is none."""
        if lent > self._backup_bytes():
            try:
                with torch.no_grad(), torch.inference_mode(False):
                    self._backup = self._engine.empty(lent, "cold")
                _memory.migrate_all([self._backup], "host")
            except OutOfMemory:
                return False
        return True

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self._buffer = None
            self._engine.drop_cached()

    def _in_order(self) -> List[Tuple[Weight, Any]]:
        """Each weight that may leave HBM, in the order of use."""
        usable = [number for number in self._steps.usable() if number < self._plain]
        listed = []
        for number in usable + [number for number in range(self._plain) if number not in usable]:
            unit = self._units[number]
            listed += [_listed(tensor, number, unit.by_row, number in usable) for tensor in unit.weights]
        return listed

    def _move(self, away: List[Any], stay: List[Any]) -> int:
        hint_all(away, "cold")  # so that they do not come back by themselves
        moved = _memory.migrate_all(away, "host")
        hint_all(stay, "none")
        return moved + _memory.migrate_all(stay, "device")

    def _stage(self, listed: List[Tuple[Weight, Any]], places: Places) -> Tuple[List[Staged], List[Lent]]:
        """What is staged, each with its place in the ring, and what lends its memory."""
        ring = places.ring
        with torch.no_grad(), torch.inference_mode(False):
            lent = self._lend([listed[number] for number in ring.lent])
            if not lent and self._buffer is None:
                self._buffer = self._engine.empty(ring.bytes, "hot")
            pieces = [one.source for one in lent] or [self._buffer]
            staged = [
                self._staged(tensor, weight.unit, pieces[piece][offset:])
                for (weight, tensor), (piece, offset) in zip((listed[number] for number in places.staged), ring.places)
            ]
        return staged, lent

    def _use(self, staged: List[Staged], ring: Ring, lent: List[Lent], threshold: int) -> None:
        self._steps.use(Stager(self._engine, staged, ring, lent), threshold)

    def _lend(self, listed: List[Tuple[Weight, Any]]) -> List[Lent]:
        """The weights whose memory is the ring, each with its part of the backup."""
        lent, at = [], 0
        hint_all([tensor for _, tensor in listed], "hot")  # the oldest weights, which would be the first to give way
        for weight, tensor in listed:
            one = self._staged(tensor, weight.unit, self._backup[at:])  # from the tensor to its place in the backup
            lent.append(Lent(one.unit, one.tensor, one.home, one.place, one.source, one.target))
            at += weight.taken
        return lent

    @staticmethod
    def _staged(tensor: Any, unit: int, target: Any) -> Staged:
        home = tensor.data
        _, size = _memory.span_of(home)
        source = torch.empty(0, dtype=torch.uint8, device=home.device)
        storage = home.untyped_storage()
        source.set_(storage, home.data_ptr() - storage.data_ptr(), (size,), (1,))
        (there,) = _packing.same_places([home], source, target)
        return Staged(unit, tensor, home, there, source, target[:size])

    def _measure(self, staged: List[Staged], lent: List[Lent]) -> int:
        """From how many tokens on it is faster to copy a weight and multiply by the copy than by the weight itself."""
        plain = [one for one in staged if one.home.dim() == 2 and one.home.dtype in (torch.bfloat16, torch.float16)]
        if not plain or plain[0].home.device.type != "cuda":
            return USUAL
        with _saved(lent):
            self._threshold = next((tokens for tokens in TRIED if _copying_is_faster(plain[0], tokens)), USUAL)
        return self._threshold

    def _sentence(self, staged: List[Any], away: List[Any], moved: int) -> str:
        size = sum(_modules.bytes_of(tensor) for tensor in away)
        text = f"{_mib(size)} of {_mib(sum(map(_modules.bytes_of, self._large)))} large weights lie on the host ({_mib(moved)} were moved)"
        if staged:
            ring = self.places.ring
            through = f"{_mib(ring.lent_bytes)} lent by {len(ring.lent)} in HBM" if ring.lent else f"{_mib(ring.bytes)} of its own"
            text += (
                f"; steps of {self._steps.tokens} tokens or more copy {_mib(sum(map(_modules.bytes_of, staged)))} of them ahead"
                f" of use, through {through}"
            )
        if self.places.short > 0:
            text += f"; {_mib(self.places.short)} more have no room in HBM"
        return text


def _listed(tensor: Any, unit: int, by_row: bool = False, stageable: bool = True) -> Tuple[Weight, Any]:
    aligned = tensor.data_ptr() % ALIGNMENT == 0
    return Weight(_modules.bytes_of(tensor), unit, by_row, stageable, aligned), tensor


@contextlib.contextmanager
def _saved(lent: List[Lent]) -> Iterator[None]:
    """Others may write to the memory of these weights inside."""
    for one in lent:
        one.backup.copy_(one.source)
    try:
        yield
    finally:
        for one in lent:
            one.source.copy_(one.backup)


def _copying_is_faster(weight: Staged, tokens: int) -> bool:
    rows = torch.zeros(tokens, weight.home.shape[1], dtype=weight.home.dtype, device=weight.home.device)
    direct = _milliseconds(lambda: torch.nn.functional.linear(rows, weight.home))
    copied = _milliseconds(lambda: weight.target.copy_(weight.source))
    return direct > FASTER * copied


def hint_all(tensors: List[Any], hint: Hint) -> None:
    """Gives the memory of each tensor the hint."""
    for tensor in tensors:
        with contextlib.suppress(Error):  # memory that gpuroom did not place stays where it is
            _memory.hint(tensor, hint)


def _bytes_in_hbm(weight: Any) -> int:
    size = _modules.bytes_of(weight)
    try:
        found = _memory.describe(weight)
    except Error:
        return size  # a small allocation, which is the driver's
    return min(size, found.device_bytes)


def _milliseconds(work: Callable[[], Any]) -> float:
    """On the GPU, without what the first time costs."""
    work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def _mib(count: int) -> str:
    return f"{count / MIB:,.0f} MiB"
