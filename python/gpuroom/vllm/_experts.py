"""The experts of a vLLM model that do not fit in HBM: counted as tokens are routed to them, and moved between steps.

vLLM keeps all experts of a layer in one tensor of each kind, [experts, ...], so that one expert's weights are a slice. Slices
move at fixed addresses, and kernels, CUDA graphs too, read them wherever they lie. The counts are on the GPU: routing adds
to them, also inside of CUDA graphs, and nothing waits for them.

A step of many tokens uses all experts, and reads those on the host once for each tile of tokens. So one layer may lie in HBM
whole, and lend its memory to the others, which are then copied there one after the other ahead of use, as other weights are
(`_steps`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, List, Optional, Set

from gpuroom import _memory
from gpuroom._types import Tier
from gpuroom.torch._torch import torch
from gpuroom.vllm import _heat

EVERY = 16  # steps from one look at the counts to the next
MOST = 256 << 20  # bytes that come to HBM in one turn: some 5 ms of the link
LEAST_PIECE, MOST_PIECE, PIECES = 32 << 20, 512 << 20, 256
NAMES = ("w13_weight", "w2_weight")
TILE = 64  # tokens of one expert for which kernels read its weights once


@dataclasses.dataclass
class Layer:
    """`module` is what a step calls. `tensors` are [experts, ...] each; `router` says where tokens go."""

    module: Any
    router: Any
    tensors: List[Any]
    experts: int


def find(model: Any) -> List[Layer]:
    """The layers of experts whose routing can be seen: what has a router with set_capture_fn, and owns the weights (up to
    vLLM 0.22) or has what owns them as `routed_experts`. Not where something else is captured already."""
    found: List[Layer] = []
    for module in model.modules():
        router, owner = getattr(module, "router", None), getattr(module, "routed_experts", module)
        tensors: List[Any] = [getattr(owner, name, None) for name in NAMES]
        if not callable(getattr(router, "set_capture_fn", None)) or not all(map(_whole, tensors)):
            continue
        if any(router is layer.router for layer in found):
            continue
        if getattr(router, "capture_fn", None) is None and len({tensor.shape[0] for tensor in tensors}) == 1:
            found.append(Layer(module, router, tensors, int(tensors[0].shape[0])))
    return found


def _whole(tensor: Any) -> bool:
    """Whether one expert's part of a tensor is one piece of memory."""
    return isinstance(tensor, torch.Tensor) and tensor.dim() == 3 and tensor.is_contiguous()


def piece_of(hbm: int) -> int:
    """Bytes of gpuroom's chunks where so much HBM may be used: what moves, moves in whole chunks (range/plan.h)."""
    piece = LEAST_PIECE
    while piece < MOST_PIECE and piece < hbm // PIECES:
        piece *= 2
    return piece


class Experts:
    """Those of one model. `say` gets what happened, in sentences. One thread, between steps."""

    def __init__(self, layers: List[Layer], say: Callable[[str], None], piece: int) -> None:
        self.layers, self._say = layers, say
        self.still = False  # the caller is to take no more turns
        most = max(layer.experts for layer in layers)
        device = layers[0].tensors[0].device
        self._counts = torch.zeros(len(layers), most, dtype=torch.int64, device=device)
        self._seen = torch.zeros(len(layers), most, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._last: Any = torch.zeros(len(layers), most, dtype=torch.int64)
        self._copied: Optional[Any] = None  # the event of a copy of the counts that is under way
        self._steps = 0
        self.groups: List[_heat.Group] = []
        self._slices: List[List[Any]] = []  # of each group, its part of each tensor
        self._where: List[Any] = []  # of each group, (layer, first expert, end)
        for number, layer in enumerate(layers):
            self._cut(number, layer, piece)
        self.resident: Set[int] = set(range(len(self.groups)))
        self._pinned: Set[int] = set()  # the groups of the layer that lends its memory: they stay in HBM
        self.lender: Optional[int] = None  # the number of that layer
        self._placed = False
        self.room = self.bytes()

    def _cut(self, number: int, layer: Layer, piece: int) -> None:
        sizes = [tensor[0].numel() * tensor.element_size() for tensor in layer.tensors]
        count = _heat.together(sizes, layer.experts, piece)
        for begin in range(0, layer.experts, count):
            self.groups.append(_heat.Group(count * sum(sizes)))
            self._slices.append([tensor.data[begin : begin + count] for tensor in layer.tensors])
            self._where.append((number, begin, begin + count))

    def bytes(self) -> int:
        """Of all groups."""
        return sum(group.bytes for group in self.groups)

    def tensors(self) -> List[Any]:
        """The tensors of all layers."""
        return [tensor for layer in self.layers for tensor in layer.tensors]

    def alike(self, used: List[int]) -> List[int]:
        """Of the layers that a step uses, by number and in its order, those that can be in each other's place: of one size."""
        sizes = [tuple(tensor.numel() * tensor.element_size() for tensor in self.layers[number].tensors) for number in used]
        usual = max(sizes, key=sizes.count, default=None)
        return [number for number, size in zip(used, sizes) if size == usual]

    def may_lend(self, layer: int, room: int, asked: bool) -> bool:
        """Whether a layer may lie in HBM whole, of which experts have `room` bytes: if it leaves enough to the others' hot
        experts, or (`asked`) the user wants it."""
        size = sum(self.groups[number].bytes for number in self._of(layer))
        return size <= room < self.bytes() if asked else _heat.may_lend(size, self.bytes(), room)

    def stage_from(self, asked: Optional[int]) -> int:
        """From how many tokens on a step stages layers: where each expert gets two tiles of them; with `asked` tokens from
        the user, these, but one tile at least. Steps of fewer tokens leave experts out, which are then not read at all."""
        layer = self.layers[0]
        once = -(-layer.experts // max(1, int(getattr(layer.router, "top_k", 1))))
        return max(asked, TILE * once) if asked else 2 * TILE * once

    def _of(self, layer: int) -> List[int]:
        return [number for number, (one, _, _) in enumerate(self._where) if one == layer]

    def follow(self) -> None:
        """Counts from now on, where tokens go."""
        for number, layer in enumerate(self.layers):
            layer.router.set_capture_fn(_counter(self._counts[number, : layer.experts]))

    def settle(self, room: int, lender: Optional[int] = None) -> None:
        """Places the experts in `room` bytes of HBM: all of the layer `lender`; of the others at first as many of each layer,
        later those that are there already and the hottest."""
        self.room = room
        before, lent_before = self.resident, self.lender
        self.lender, self._pinned = lender, set() if lender is None else set(self._of(lender))
        if self._placed:
            order = sorted(range(len(self.groups)), key=lambda number: (number not in before, -self.groups[number].heat))
            left = room - sum(self.groups[number].bytes for number in self._pinned)
            self.resident = self._pinned | _fill(self.groups, [number for number in order if number not in self._pinned], left)
        else:
            self.resident = _heat.first(self.groups, room, self._pinned)
        away = [number for number in range(len(self.groups)) if number not in self.resident]
        self._move(away, "host")
        if not self._placed:
            self._cut_chunks(away)
        elif lent_before not in (None, lender):
            self._hint_layer(lent_before, away)
        self._move(sorted(self.resident), "device")
        self._placed = True
        self._say(
            f"{self.bytes() >> 20:,} MiB of experts in {len(self.groups)} groups, of which {len(away)} lie on the host; those that are"
            " used more than others change places with them"
        )

    def _cut_chunks(self, away: List[int]) -> None:
        """What was pushed out while it was loaded may be one large chunk, which moves whole: each tensor goes to HBM, where
        chunks are small, and what of it is to be away goes to the host again in pieces of its own before the next one comes, so
        that HBM needs room for one tensor more at a time."""
        for number, layer in enumerate(self.layers):
            gone = [one for one in away if self._where[one][0] == number]
            self._hint_layer(number, away)
            for kind, tensor in enumerate(layer.tensors):
                _memory.migrate_all([tensor], "device")
                _memory.migrate_all([self._slices[one][kind] for one in gone], "host")

    def turn(self) -> int:
        """Before a step. Now and then looks at the counts, without waiting for them, and moves what became hot. Returns the
        bytes that came to HBM."""
        self._steps += 1
        if self._copied is None:
            if self._steps >= EVERY and len(self.resident) < len(self.groups):
                self._seen.copy_(self._counts, non_blocking=True)
                self._copied = _mark(self._counts.device)
            return 0
        if not self._copied.query():
            return 0
        self._copied, self._steps = None, 0
        new = self._seen - self._last
        self._last = self._seen.clone()
        _heat.cool(self.groups, [float(new[layer, begin:end].sum()) for layer, begin, end in self._where])
        leave, come = _heat.plan(self.groups, self.resident, self.room, MOST, self._pinned)
        if not come:
            return 0
        self._move(leave, "host")
        self._move(come, "device")
        self.resident = (self.resident - set(leave)) | set(come)
        return sum(self.groups[number].bytes for number in come)

    def _move(self, numbers: List[int], tier: Tier) -> None:
        _memory.migrate_all([part for number in numbers for part in self._slices[number]], tier)

    def _hint_layer(self, layer: Optional[int], away: List[int]) -> None:
        """Cold is what has experts on the host, so that these do not come back by themselves."""
        from gpuroom.vllm._weights import hint_all

        if layer is not None:
            hint_all(self.layers[layer].tensors, "cold" if set(away) & set(self._of(layer)) else "none")


def _fill(groups: List[_heat.Group], order: List[int], room: int) -> Set[int]:
    resident = set()
    for number in order:
        if groups[number].bytes <= room:
            resident.add(number)
            room -= groups[number].bytes
    return resident


def _counter(row: Any) -> Callable[[Any], None]:
    """Adds the experts of a step's tokens to `row`, on the GPU. Works while a CUDA graph is captured."""

    def count(topk_ids: Any) -> None:
        ids = topk_ids.reshape(-1).to(torch.int64).clamp(0, row.numel() - 1)
        row.scatter_add_(0, ids, torch.ones_like(ids))

    return count


def _mark(device: Any) -> Any:
    """An event after all that is submitted; on the CPU, one that has happened."""
    if device.type != "cuda":
        return _Happened()
    return torch.cuda.current_stream(device).record_event()


class _Happened:
    @staticmethod
    def query() -> bool:
        return True
