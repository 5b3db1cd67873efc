"""Which unit comes next, and which staging buffer it gets: bookkeeping without PyTorch and without locks."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Sequence, Tuple


class Order:
    """Learns in which order units are used: what followed a unit, and what followed it after its predecessor,
    so that a unit that is used twice in a pass does not confuse it. Before anything was seen, the order is
    that of the numbers, and round again. Wrong guesses cost time and nothing else."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._after_pair: Dict[Tuple[int, int], int] = {}
        self._after_one: Dict[int, int] = {}
        self._previous, self._current = -1, -1

    def observe(self, unit: int) -> None:
        """`unit` is used now."""
        if self._current >= 0:
            self._after_pair[(self._previous, self._current)] = unit
            self._after_one[self._current] = unit
        self._previous, self._current = self._current, unit

    def ahead(self, count: int) -> List[int]:
        """The next `count` different units, as far as they are foreseen, without the one in use."""
        found: List[int] = []
        previous, current = self._previous, self._current
        for _ in range(2 * self._count):
            if len(found) >= count:
                break
            following = self._following(previous, current)
            previous, current = current, following
            if following != self._current and following not in found:
                found.append(following)
        return found

    def _following(self, previous: int, current: int) -> int:
        guess = self._after_pair.get((previous, current))
        if guess is None:
            guess = self._after_one.get(current)
        return (current + 1) % self._count if guess is None else guess


@dataclasses.dataclass
class Slot:
    """One staging buffer. `held`: a unit in use reads from it; `uses` are events after which nobody reads what
    it held before; `filled` is the event after which it holds `unit`, as of `versions` of its tensors. A held
    buffer without a `unit` is to be filled anew before it is used again."""

    number: int
    unit: Optional[int] = None
    held: bool = False
    filled: Any = None
    uses: List[Any] = dataclasses.field(default_factory=list)
    versions: List[int] = dataclasses.field(default_factory=list)
    touched: int = 0


class Ring:
    """The staging buffers, and who gets the next one."""

    def __init__(self, count: int) -> None:
        self.slots = [Slot(number) for number in range(count)]
        self._clock = 0

    def find(self, unit: int) -> Optional[Slot]:
        """The buffer that holds `unit`, or will when its copy is done."""
        for slot in self.slots:
            if slot.unit == unit:
                return slot
        return None

    def touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.touched = self._clock

    def spare(self, soon: Sequence[int], urgent: bool) -> Optional[Slot]:
        """A buffer that may be filled anew: an empty one, else the one unused for longest whose unit is
        not among `soon`; with `urgent` also the one needed last of these. None: all are in use."""
        free = [slot for slot in self.slots if not slot.held]
        idle = [slot for slot in free if slot.unit is None or slot.unit not in soon]
        if idle:
            return min(idle, key=lambda slot: (slot.unit is not None, slot.touched))
        if not urgent or not free:
            return None
        return max(free, key=lambda slot: soon.index(slot.unit) if slot.unit is not None else -1)
