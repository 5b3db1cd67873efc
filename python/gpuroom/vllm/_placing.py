"""Which weights lie on the host, and where in the ring of staging buffers each is copied to. Pure: sizes in, numbers out.

Weights come in the order in which a step uses them. What leaves HBM is spread evenly over that order, so that every copy
has computing beside it. The ring takes HBM as well, and so pushes weights out: of several choices the one is taken with
which a step is shortest.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

ALIGNMENT = 512  # bytes, of PyTorch's own allocations
# What a step computes beside copying, as part of the copying: for how long a buffer stays in use.
COMPUTE_SHARE = 0.5
MOST_SIZES = 6  # of which sets are tried
RINGS_TRIED = (1.25, 1.5, 2, 2.5, 3)  # largest weights that the ring may hold
RING_STEPS = 8  # ring sizes that are tried between one and the next of the largest weight


@dataclasses.dataclass(frozen=True)
class Weight:
    """`unit` is the module that uses it (its weights are used at once); `by_row`: an embedding, of which a step reads
    few rows, so that it is never staged; `stageable`: whether the unit is known to be used once in a step."""

    bytes: int
    unit: int
    by_row: bool = False
    stageable: bool = True

    @property
    def taken(self) -> int:
        """Bytes of the ring."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Ring:
    """Where staged weights go, in the order of use: `offsets` in a buffer of `bytes`; `after[k]` is the last weight
    before k in whose place it comes, None where the place was free."""

    bytes: int
    offsets: Tuple[int, ...]
    after: Tuple[Optional[int], ...]


@dataclasses.dataclass(frozen=True)
class Places:
    """Numbers of the weights that lie on the host and are staged, or are read where they lie; all others stay in HBM."""

    staged: Tuple[int, ...]
    read_in_place: Tuple[int, ...]
    ring: Ring
    short: int = 0  # bytes that find no room in HBM even so
    time: float = 0.0  # of a step that waits for nothing but copies, in bytes copied


NO_RING = Ring(0, (), ())


def place(weights: Sequence[Weight], room: int, buffer: Optional[int] = None) -> Places:
    """`room` is the HBM for all weights and the ring together; `buffer`: the ring has been allocated, with so many
    bytes, and stays as large as it is."""
    missing = sum(weight.bytes for weight in weights) - room + (buffer or 0)
    in_place: List[int] = []
    for number, weight in enumerate(weights):
        if weight.by_row and missing > 0:
            in_place.append(number)
            missing -= weight.bytes
    if missing <= 0:
        return Places((), tuple(in_place), NO_RING)
    stageable = [
        number
        for number, weight in enumerate(weights)
        if weight.stageable and not weight.by_row and (buffer is None or weight.taken <= buffer)
    ]
    best: Optional[Places] = None
    for picked in _choices(weights, stageable, missing):
        found = _staging(weights, picked, missing, buffer)
        if found is not None and (best is None or found.time < best.time):
            best = found
    if best is None:
        return _all_out(weights, stageable, in_place, missing, buffer)
    best = _trimmed(weights, best, _spare(weights, best.staged, missing, best.ring, buffer))
    return dataclasses.replace(best, read_in_place=tuple(in_place))


def _staging(weights: Sequence[Weight], picked: List[int], missing: int, buffer: Optional[int]) -> Optional[Places]:
    """Staging `picked`. None where that makes too little room."""
    ring = _ring([weights[number] for number in picked], buffer)
    if ring is None or _spare(weights, picked, missing, ring, buffer) < 0:
        return None
    return Places(tuple(picked), (), ring, time=_time([weights[number] for number in picked], ring))


def _spare(weights: Sequence[Weight], picked: Sequence[int], missing: int, ring: Ring, buffer: Optional[int]) -> int:
    """Bytes of HBM that are left where `picked` are staged."""
    return sum(weights[number].bytes for number in picked) - missing - (ring.bytes if buffer is None else 0)


def _trimmed(weights: Sequence[Weight], places: Places, spare: int) -> Places:
    """`places` without those staged weights for which `spare` bytes of HBM have room after all."""
    for size in sorted({weights[number].bytes for number in places.staged}, reverse=True):
        alike = [number for number in places.staged if weights[number].bytes == size]
        back = set(evenly(weights, alike, spare // size * size))
        picked = [number for number in places.staged if number not in back]
        staged = [weights[number] for number in picked]
        ring = lay_out(staged, places.ring.bytes) if back and picked else None
        if ring is not None and _time(staged, ring) <= places.time:
            spare -= size * len(back)
            places = dataclasses.replace(places, staged=tuple(picked), ring=ring, time=_time(staged, ring))
    return places


def _all_out(weights: Sequence[Weight], stageable: List[int], in_place: List[int], missing: int, buffer: Optional[int]) -> Places:
    """All that can be staged is, and of the others as many are read where they lie as still have no room."""
    ring = _ring([weights[number] for number in stageable], buffer)
    if ring is None:
        stageable, ring = [], NO_RING
    missing += ring.bytes if buffer is None else 0
    missing -= sum(weights[number].bytes for number in stageable)
    gone = set(stageable) | set(in_place)
    others = evenly(weights, [number for number in range(len(weights)) if number not in gone], max(0, missing))
    missing -= sum(weights[number].bytes for number in others)
    return Places(tuple(stageable), tuple(sorted(in_place + others)), ring, short=max(0, missing))


def _ring(staged: Sequence[Weight], buffer: Optional[int]) -> Optional[Ring]:
    return ring_for(staged) if buffer is None else lay_out(staged, buffer)


def _choices(weights: Sequence[Weight], among: Sequence[int], missing: int) -> Iterator[List[int]]:
    """Sets of weights that may make up for `missing` bytes and a ring: all weights of some sizes, since a ring for layers
    that are alike is smallest, and of one size more a part."""
    sizes = sorted({weights[number].bytes for number in among})[-MOST_SIZES:]
    for count in range(len(sizes) + 1):
        for whole in itertools.combinations(sizes, count):
            full = [number for number in among if weights[number].bytes in whole]
            got = sum(weights[number].bytes for number in full)
            if got >= missing:
                yield full
                continue
            for size in (one for one in sizes if one not in whole):
                more = [number for number in among if weights[number].bytes == size]
                for buffers in RINGS_TRIED:
                    lacking = missing - got + int(buffers * max(whole + (size,)))
                    if got + size * len(more) >= lacking:
                        yield sorted(full + evenly(weights, more, lacking))


def evenly(weights: Sequence[Weight], among: Sequence[int], wanted: int) -> List[int]:
    """At least `wanted` bytes of `among`, spread evenly over it; all where that is not enough."""
    total = sum(weights[number].bytes for number in among)
    if wanted == 0:
        return []
    if wanted >= total:
        return list(among)
    picked, due = [], 0.0
    for number in among:
        size = weights[number].bytes
        due += size * wanted / total
        if due >= size / 2:
            picked.append(number)
            due -= size
    got = sum(weights[number].bytes for number in picked)
    spare = sorted((number for number in among if number not in set(picked)), key=lambda number: weights[number].bytes)
    while got < wanted and spare:
        lacking = wanted - got
        number = next((one for one in spare if weights[one].bytes >= lacking), spare[-1])
        spare.remove(number)
        picked.append(number)
        got += weights[number].bytes
    return sorted(picked)


def ring_for(staged: Sequence[Weight]) -> Ring:
    """The ring that costs least: its bytes are copied in each step, since they push weights out of HBM, and copies wait
    for buffers where it is small."""
    if not staged:
        return NO_RING
    units: Dict[int, int] = {}
    for weight in staged:
        units[weight.unit] = units.get(weight.unit, 0) + weight.taken
    largest = max(units.values())
    whole = sum(weight.taken for weight in staged)
    step = max(ALIGNMENT, largest // RING_STEPS // ALIGNMENT * ALIGNMENT)
    rings = [lay_out(staged, size) for size in range(largest, min(4 * largest, whole) + step, step)]
    return min((ring for ring in rings if ring is not None), key=lambda ring: ring.bytes + _time(staged, ring), default=NO_RING)


def lay_out(staged: Sequence[Weight], size: int) -> Optional[Ring]:
    """One after the other, from the start again where the end is near. None where a unit's own weights would be in each
    other's place."""
    offsets: List[int] = []
    after: List[Optional[int]] = []
    at = 0
    for number, weight in enumerate(staged):
        if at + weight.taken > size:
            at = 0
        if weight.taken > size:
            return None
        before = next(
            (k for k in range(number - 1, -1, -1) if offsets[k] < at + weight.taken and at < offsets[k] + staged[k].taken),
            None,
        )
        if before is not None and staged[before].unit == weight.unit:
            return None
        offsets.append(at)
        after.append(before)
        at += weight.taken
    return Ring(size, tuple(offsets), tuple(after))


def _time(staged: Sequence[Weight], ring: Ring) -> float:
    """How long a step takes, in bytes copied: copies one after the other, each unit's computing once its weights
    are there."""
    copied, computed = 0.0, 0.0
    ends: List[float] = []
    for number, weight in enumerate(staged):
        before = ring.after[number]
        copied = max(copied, ends[before] if before is not None else 0.0) + weight.bytes
        computed = max(computed, copied) + weight.bytes * COMPUTE_SHARE
        ends.append(computed)
    return computed
