"""Which weights lie on the host, and where in the ring of staging buffers each is copied to. Pure: sizes in, numbers out.

Weights come in the order in which a step uses them. What leaves HBM is spread evenly over that order, so that every copy
has computing beside it. The ring is made of one or more pieces of HBM. Where possible these are lent: the memory of weights
that a step uses early, which are saved to the host, make room for the others, and come back before the step ends. Such a
ring takes no HBM from the steps that read weights where they lie. Where no weights can lend, the ring is a buffer of its
own, which pushes weights out. Of several choices the one is taken with which the steps are shortest.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

ALIGNMENT = 512  # bytes, of PyTorch's own allocations
# How long a step computes with a weight, as part of the time in which that weight is copied. It holds for all weights, staged or
# not, and decides how long a copy waits for its place in the ring. Fitted to two measured steps of 2048 tokens on an H200 (PCIe 5),
# of a model of 10.2 GiB: 4,700 MiB of copying where the ring was 224 MiB, 4,310 where it was 336 (docs/measurements.md).
COMPUTE_SHARE = 0.38
MOST_SIZES = 6  # of which sets are tried
RINGS_TRIED = (1.25, 1.5, 2, 2.5, 3)  # largest weights that the ring may hold
RING_STEPS = 8  # ring sizes that are tried between one and the next of the largest weight
MOST_LENDERS = 3


@dataclasses.dataclass(frozen=True)
class Weight:
    """`unit` is the module that uses it (its weights are used at once); `by_row`: an embedding, of which a step reads
    few rows, so that it is never staged; `stageable`: whether the unit is known to be used once in a step; `aligned`:
    whether others may come into its place."""

    bytes: int
    unit: int
    by_row: bool = False
    stageable: bool = True
    aligned: bool = True

    @property
    def taken(self) -> int:
        """Bytes of the ring."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT

    @property
    def lendable(self) -> int:
        """Bytes of its memory that others may come into."""
        return self.bytes // ALIGNMENT * ALIGNMENT if self.aligned else 0


@dataclasses.dataclass(frozen=True)
class Ring:
    """Where staged weights go, in the order of use: `places[k]` is the piece and the offset in it.

    `sizes` are the bytes of the pieces. `lent` are the numbers of the weights whose memory the pieces are; without any,
    the ring is one buffer. `after[k]` is the last one before k in whose place it comes, None where the place was free.
    There the weights that lend come first, as 0 to len(lent) - 1, and the staged ones follow; so does `back`, which is
    for each piece the last one that used it.
    """

    sizes: Tuple[int, ...]
    places: Tuple[Tuple[int, int], ...]
    after: Tuple[Optional[int], ...]
    lent: Tuple[int, ...] = ()
    back: Tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """What the ring takes of HBM for itself."""
        return 0 if self.lent else sum(self.sizes)

    @property
    def lent_bytes(self) -> int:
        """What is saved before, and brought back after each staged step."""
        return sum(self.sizes) if self.lent else 0


@dataclasses.dataclass(frozen=True)
class Places:
    """Numbers of the weights that lie on the host and are staged, or are read where they lie; all others stay in HBM."""

    staged: Tuple[int, ...]
    read_in_place: Tuple[int, ...]
    ring: Ring
    short: int = 0  # bytes that find no room in HBM even so
    time: float = 0.0  # of a step that waits for nothing but copies, in bytes copied


NO_RING = Ring((), (), ())


def place(weights: Sequence[Weight], room: int, buffer: Optional[int] = None, lend: bool = True) -> Places:
    """`room` is the HBM for all weights and the ring together; `buffer`: the ring has been allocated, with so many
    bytes, and stays as large as it is, unless weights can lend theirs; `lend`: whether they may."""
    missing = sum(weight.bytes for weight in weights) - room
    in_place: List[int] = []
    for number, weight in enumerate(weights):
        if weight.by_row and missing + (buffer or 0) > 0:
            in_place.append(number)
            missing -= weight.bytes
    if missing + (buffer or 0) <= 0:
        return Places((), tuple(in_place), NO_RING)
    found = list(_with_lenders(weights, missing)) if lend and missing > 0 else []
    found += _with_a_buffer(weights, missing, buffer) if not found else []
    best = min(found, key=lambda places: places.time + _staged_bytes(weights, places), default=None)
    if best is None:
        return _all_out(weights, _stageable(weights, buffer), in_place, missing, buffer)
    best = _trimmed(weights, best, _staged_bytes(weights, best) - missing - _pushed_out(best.ring, buffer))
    return dataclasses.replace(best, read_in_place=tuple(in_place))


def _stageable(weights: Sequence[Weight], buffer: Optional[int]) -> List[int]:
    return [
        number
        for number, weight in enumerate(weights)
        if weight.stageable and not weight.by_row and (buffer is None or weight.taken <= buffer)
    ]


def _staged_bytes(weights: Sequence[Weight], places: Places) -> int:
    return sum(weights[number].bytes for number in places.staged)


def _pushed_out(ring: Ring, buffer: Optional[int]) -> int:
    """Bytes of weights that the ring has no room in HBM for, a buffer that is there included."""
    return 0 if ring.lent else ring.bytes if buffer is None else buffer


def _with_lenders(weights: Sequence[Weight], missing: int) -> Iterator[Places]:
    """Ways to place the weights where the first large ones lend their memory to others that are used after them."""
    stageable = _stageable(weights, None)
    for least in sorted({weights[number].taken for number in stageable})[-MOST_SIZES:]:
        lenders = [number for number in stageable if weights[number].lendable >= least][:MOST_LENDERS]
        for count in range(1, len(lenders) + 1):
            lent = lenders[:count]
            units = {weights[number].unit for number in lent}
            among = [n for n in stageable if n > lent[-1] and weights[n].taken <= least and weights[n].unit not in units]
            for picked in _choices(weights, among, missing, (0,)):
                staged = [weights[number] for number in picked]
                ring = lay_out(staged, [weights[number].lendable for number in lent], lent)
                if ring is not None and sum(weight.bytes for weight in staged) >= missing:
                    yield Places(tuple(picked), (), ring, time=step_time(weights, picked, ring))


def _with_a_buffer(weights: Sequence[Weight], missing: int, buffer: Optional[int]) -> List[Places]:
    """Ways to place the weights beside a buffer of their own."""
    found = []
    for picked in _choices(weights, _stageable(weights, buffer), missing + (buffer or 0), RINGS_TRIED):
        ring = _ring(weights, picked, buffer)
        if ring is not None and sum(weights[number].bytes for number in picked) >= missing + _pushed_out(ring, buffer):
            found.append(Places(tuple(picked), (), ring, time=step_time(weights, picked, ring)))
    return found


def _trimmed(weights: Sequence[Weight], places: Places, spare: int) -> Places:
    """`places` without those staged weights for which `spare` bytes of HBM have room after all."""
    for size in sorted({weights[number].bytes for number in places.staged}, reverse=True):
        alike = [number for number in places.staged if weights[number].bytes == size]
        back = set(evenly(weights, alike, spare // size * size))
        picked = [number for number in places.staged if number not in back]
        staged = [weights[number] for number in picked]
        ring = lay_out(staged, places.ring.sizes, places.ring.lent) if back and picked else None
        time = step_time(weights, picked, ring) if ring is not None else math.inf
        if ring is not None and time <= places.time:
            spare -= size * len(back)
            places = dataclasses.replace(places, staged=tuple(picked), ring=ring, time=time)
    return places


def _all_out(weights: Sequence[Weight], stageable: List[int], in_place: List[int], missing: int, buffer: Optional[int]) -> Places:
    """All that can be staged is, and of the others as many are read where they lie as still have no room."""
    ring = _ring(weights, stageable, buffer)
    if ring is None:
        stageable, ring = [], NO_RING
    missing += _pushed_out(ring, buffer)
    missing -= sum(weights[number].bytes for number in stageable)
    gone = set(stageable) | set(in_place)
    others = evenly(weights, [number for number in range(len(weights)) if number not in gone], max(0, missing))
    missing -= sum(weights[number].bytes for number in others)
    return Places(tuple(stageable), tuple(sorted(in_place + others)), ring, short=max(0, missing))


def _ring(weights: Sequence[Weight], picked: Sequence[int], buffer: Optional[int]) -> Optional[Ring]:
    return ring_for(weights, picked) if buffer is None else lay_out([weights[number] for number in picked], [buffer])


def _choices(weights: Sequence[Weight], among: Sequence[int], missing: int, rings: Sequence[float]) -> Iterator[List[int]]:
    """Sets of weights that may make up for `missing` bytes and a ring: all weights of some sizes, since a ring for layers
    that are alike is smallest, and of one size more a part. `rings`: how many of the largest weights the ring may take."""
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
                for buffers in rings:
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


def ring_for(weights: Sequence[Weight], picked: Sequence[int]) -> Ring:
    """The buffer that costs least where the weights with these numbers are staged: its bytes are copied in each step, since they
    push weights out of HBM, and copies wait for places where it is small."""
    staged = [weights[number] for number in picked]
    if not staged:
        return NO_RING
    units: Dict[int, int] = {}
    for weight in staged:
        units[weight.unit] = units.get(weight.unit, 0) + weight.taken
    largest = max(units.values())
    whole = sum(weight.taken for weight in staged)
    step = max(ALIGNMENT, largest // RING_STEPS // ALIGNMENT * ALIGNMENT)
    rings = [lay_out(staged, [size]) for size in range(largest, min(4 * largest, whole) + step, step)]
    found = (ring for ring in rings if ring is not None)
    return min(found, key=lambda ring: ring.bytes + step_time(weights, picked, ring), default=NO_RING)


def lay_out(staged: Sequence[Weight], sizes: Sequence[int], lent: Sequence[int] = ()) -> Optional[Ring]:
    """One after the other through pieces of `sizes` bytes, from the start again where the end is near; `lent`: the numbers
    of the weights whose memory the pieces are. None where a unit's own weights would be in each other's place, and where
    some piece is not used."""
    places: List[Tuple[int, int]] = []
    after: List[Optional[int]] = []
    last: List[List[Tuple[int, int, int]]] = [[(0, size, piece)] if lent else [] for piece, size in enumerate(sizes)]
    piece, at = 0, 0
    for number, weight in enumerate(staged, len(lent)):
        if weight.taken > max(sizes):
            return None
        while at + weight.taken > sizes[piece]:
            piece, at = (piece + 1) % len(sizes), 0
        before = max((who for begin, end, who in last[piece] if begin < at + weight.taken and at < end), default=None)
        if before is not None and before >= len(lent) and staged[before - len(lent)].unit == weight.unit:
            return None
        last[piece].append((at, at + weight.taken, number))
        places.append((piece, at))
        after.append(before)
        at += weight.taken
    back = tuple(max(who for _, _, who in users) for users in last) if lent else ()
    if any(who < len(lent) for who in back):
        return None  # a weight would be saved for nothing
    return Ring(tuple(sizes), tuple(places), tuple(after), tuple(lent), back)


def step_time(weights: Sequence[Weight], picked: Sequence[int], ring: Ring) -> float:
    """How long a step takes in which the weights with these numbers are staged, in bytes copied. Copies come one after the
    other. A step computes with each weight in turn, staged or not, once it is there. What lends is saved beside that, by the
    other direction of the link, and comes back last."""
    copied, computed = 0.0, 0.0
    ends = [0.0] * len(ring.lent)
    order = {number: copy for copy, number in enumerate(picked)}
    for number, weight in enumerate(weights):
        if weight.by_row or not weight.stageable:
            continue
        if number in order:
            copied = max(copied, _free(ring, order[number], weight, ends)) + weight.bytes
            computed = max(computed, copied)
        computed += weight.bytes * COMPUTE_SHARE
        if number in ring.lent:
            ends[ring.lent.index(number)] = computed
        if number in order:
            ends.append(computed)
    for size, last in zip(ring.sizes, ring.back):
        copied = max(copied, ends[last]) + size
    return max(copied, computed)


def _free(ring: Ring, copy: int, weight: Weight, ends: Sequence[float]) -> float:
    """When a copy may come into its place: the last one there has been used, and if it lent the place, has been saved."""
    before, (piece, offset) = ring.after[copy], ring.places[copy]
    if before is None:
        return 0.0
    saved = sum(ring.sizes[:piece]) + offset + weight.taken if before < len(ring.lent) else 0
    return max(ends[before], float(saved))
