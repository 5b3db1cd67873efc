"""What of a model stays in HBM and what is streamed: pure functions of sizes, without PyTorch.

A forward pass reads every unit once, in order. Streamed units come over the link, whose time is what a pass
takes when the model is much larger than HBM. The link is idle only when no staging buffer is free or the next
unit is too far away to be fetched yet. So streamed units are spread evenly among the resident ones: then each
has the same computing beside its copy. Reading by row (embeddings) needs almost none of the bytes: such
units are the last to take HBM, and are read in place, over the link. So is what is too large to be staged, or used
by several units.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from gpuroom._errors import InvalidArgument
from gpuroom._sizes import format_size

RESIDENT, STREAMED, DIRECT = "resident", "streamed", "direct"
SMALL = 4 << 20  # below this, a copy costs more than it saves
_DIRECT_COST = 2.0  # of a byte read in place beside one copied ahead: nothing overlaps it, large batches read it twice
_MOST_CAPS = 16


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit's bytes. `stageable`: it may be copied before use; `dense`: a pass reads all of it."""

    name: str
    bytes: int
    stageable: bool = True
    dense: bool = True


@dataclasses.dataclass(frozen=True)
class Plan:
    """`places` has one of RESIDENT, STREAMED and DIRECT for each unit; the staging area is `slots` buffers
    of `slot_bytes`. Resident bytes and staging area together stay within the budget."""

    places: Tuple[str, ...]
    slots: int
    slot_bytes: int
    resident_bytes: int
    streamed_bytes: int
    direct_bytes: int

    @property
    def staging_bytes(self) -> int:
        return self.slots * self.slot_bytes


def spread(sizes: Sequence[int], room: int) -> List[bool]:
    """Which of `sizes` stay, so that they take at most `room` bytes and lie evenly among the others."""
    total = sum(sizes)
    if total <= room:
        return [True] * len(sizes)
    stays, credit, left = [], 0, room
    for size in sizes:
        credit += size * room
        fits = credit >= size * total
        if fits:
            credit -= size * total
            left -= size
        stays.append(fits)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if not stays[index] and sizes[index] <= left:
            stays[index] = True
            left -= sizes[index]
    return stays


def plan(units: Sequence[Unit], budget: int, prefetch: int = 2) -> Plan:
    """The plan that reads fewest bytes over the link a pass, with `prefetch` units ahead of the one in use.

    Where the staging area for that is too large for `budget`, fewer are fetched ahead, but one at least.
    Raises InvalidArgument where not even two of the smallest streamed units fit.
    """
    if prefetch < 1:
        raise InvalidArgument(f"prefetch is {prefetch}; use 1 or more units to fetch ahead")
    if sum(unit.bytes for unit in units) <= budget:
        return _finish(units, [RESIDENT] * len(units), 0, 0)
    for slots in range(prefetch + 1, 1, -1):
        plans = [_with_cap(units, budget, slots, cap) for cap in _caps(units)]
        found = [candidate for candidate in plans if candidate is not None]
        if found:
            found.append(_in_place(units, budget))  # better where little is missing
            return min(found, key=lambda candidate: (_cost(units, candidate), candidate.staging_bytes))
    return _without_staging(units, budget)


def _caps(units: Iterable[Unit]) -> List[int]:
    """Sizes that a staging buffer may have: those of units, the largest first."""
    sizes = {unit.bytes for unit in units if unit.stageable and unit.bytes >= SMALL}
    return sorted(sizes, reverse=True)[:_MOST_CAPS]


def _with_cap(units: Sequence[Unit], budget: int, slots: int, cap: int) -> Optional[Plan]:
    room = budget - slots * cap
    if room < 0:
        return None
    places: Dict[int, str] = {}
    room = _settle(units, _indices(units, lambda unit: unit.bytes < SMALL and unit.dense), room, places)
    odd = _indices(units, lambda unit: unit.bytes >= SMALL and unit.dense and not _fits(unit, cap))
    room = _settle(units, sorted(odd, key=lambda i: -units[i].bytes), room, places)
    ring = _indices(units, lambda unit: unit.bytes >= SMALL and _fits(unit, cap))
    for index, stays in zip(ring, spread([units[i].bytes for i in ring], max(room, 0))):
        places[index] = RESIDENT if stays else STREAMED
        room -= units[index].bytes if stays else 0
    _settle(units, _indices(units, lambda unit: not unit.dense and not _fits(unit, cap)), room, places)
    ordered = [places.get(index, DIRECT) for index in range(len(units))]
    return _finish(units, ordered, slots, cap)


def _without_staging(units: Sequence[Unit], budget: int) -> Plan:
    """Nothing can be staged: nothing is of that kind, or the budget is too small for it."""
    caps = _caps(units)
    if caps:
        raise InvalidArgument(f"hbm is {format_size(budget)}, which does not hold two units of the model; give it at"
                              f" least {format_size(2 * caps[-1])}, better {format_size(3 * caps[0])}")  # fmt: skip
    return _in_place(units, budget)


def _in_place(units: Sequence[Unit], budget: int) -> Plan:
    places: Dict[int, str] = {}
    dense_first = sorted(range(len(units)), key=lambda i: not units[i].dense)
    _settle(units, dense_first, budget, places)
    return _finish(units, [places.get(index, DIRECT) for index in range(len(units))], 0, 0)


def _fits(unit: Unit, cap: int) -> bool:
    return unit.stageable and unit.dense and unit.bytes <= cap


def _indices(units: Sequence[Unit], wanted: Callable[[Unit], bool]) -> List[int]:
    return [index for index, unit in enumerate(units) if wanted(unit)]


def _settle(units: Sequence[Unit], indices: Iterable[int], room: int, places: Dict[int, str]) -> int:
    """Makes those resident that fit, in the order given; returns the room that is left."""
    for index in indices:
        fits = units[index].bytes <= room
        places[index] = RESIDENT if fits else DIRECT
        room -= units[index].bytes if fits else 0
    return room


def _cost(units: Sequence[Unit], candidate: Plan) -> float:
    weights = {RESIDENT: 0.0, STREAMED: 1.0, DIRECT: _DIRECT_COST}
    return sum(weights[place] * unit.bytes for unit, place in zip(units, candidate.places) if unit.dense)


def _finish(units: Sequence[Unit], places: Sequence[str], slots: int, slot_bytes: int) -> Plan:
    sums = {RESIDENT: 0, STREAMED: 0, DIRECT: 0}
    for unit, place in zip(units, places):
        sums[place] += unit.bytes
    if not sums[STREAMED]:
        slots = slot_bytes = 0
    return Plan(tuple(places), slots, slot_bytes, sums[RESIDENT], sums[STREAMED], sums[DIRECT])
