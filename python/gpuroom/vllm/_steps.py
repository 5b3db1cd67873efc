"""The steps of one model: which weights a step uses, in what order, and staging them ahead of use where a step has
many tokens.

Staged weights have a home, host memory at ordinary device addresses that is always right to read. A step either reads
them there (few tokens, CUDA graphs of pieces) or has them copied into a ring of buffers by the copy engine; then all of them point
into the ring from the step's begin to its end. Each has its place in the ring, so that nothing but waiting is left to do
while the model runs: a unit waits for the copies of its weights before it computes, and lets the next copy come into
their place afterwards. Copies of a step come after all that was submitted before it, changes of weights included.

The ring may be memory of other weights, which are lent: a staged step saves them to the host as it begins, lets others come
into their place once they were used, and brings them back as it ends. What is submitted after the step comes after
that, so that between steps every weight is at home.

Threads: the one that runs the model.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from gpuroom.vllm._placing import Ring

SLICE = 32 << 20  # bytes that are saved at a time: others may come in their place before the next are

class Kind(enum.Enum):
    """What CUDA graphs have to do with a step: nothing; all of it is being captured in one, so that its copies are part of
    the graph; or pieces of it are graphs, between which no copy may begin or be waited for."""

    PLAIN = 0
    WHOLE = 1
    PIECES = 2


@dataclasses.dataclass
class Staged:
    """One staged weight. `tensor` is what the module holds, `home` and `place` are the same in its home and in the
    ring, `source` and `target` the same memory as bytes."""

    unit: int
    tensor: Any
    home: Any
    place: Any
    source: Any
    target: Any


@dataclasses.dataclass
class Lent:
    """One weight whose memory is a piece of the ring. `tensor` is what the module holds, `home` and `saved` are the same
    in its own memory and where it is saved to; `source` and `backup` the same memory as bytes."""

    unit: int
    tensor: Any
    home: Any
    saved: Any
    source: Any
    backup: Any


class Stager:
    """The copies of one step after the other, of weights in the order of use. Those that lend their memory are numbered
    first, as in `Ring`."""

    def __init__(self, engine: Any, staged: Sequence[Staged], ring: Ring, lent: Sequence[Lent] = ()) -> None:
        self._engine, self._staged, self._lent, self._ring = engine, list(staged), list(lent), ring
        self._of: Dict[int, List[int]] = {}
        units = [lent.unit for lent in self._lent] + [weight.unit for weight in self._staged]
        for number, unit in enumerate(units):
            self._of.setdefault(unit, []).append(number)
        self.units = list(self._of)
        self.copied_bytes = sum(weight.source.numel() for weight in self._staged)
        self._reset()

    def _reset(self) -> None:
        self._filled: List[Any] = []  # the copies' events, of the staged weights and then of those that come back
        self._saved: List[List[Any]] = []  # of each weight that lends, the events of its slices
        self._away = sorted(range(len(self._lent)), key=lambda piece: self._ring.back[piece])  # to be brought back in this order
        self._left = [False] * (len(self._lent) + len(self._staged))
        self._used = 0  # all weights before this one are used
        self._marks: List[Any] = []  # of what was submitted, which the next copy has to come after

    def begin(self) -> None:
        """Saves what is lent, lets the staged weights point into the ring and begins to copy."""
        self._reset()
        self._marks.append(self._engine.mark())
        for lent in self._lent:
            self._saved.append([self._save(lent, begin) for begin in range(0, lent.source.numel(), SLICE)])
        for weight in self._staged:
            weight.tensor.data = weight.place
        self._issue()

    def _save(self, lent: Lent, begin: int) -> Any:
        return self._engine.save(lent.backup[begin : begin + SLICE], lent.source[begin : begin + SLICE], self._marks)

    def enter(self, unit: int) -> None:
        """What is submitted from now on comes after the copies of the unit's weights."""
        for number in self._of.get(unit, ()):
            if number < len(self._lent):
                self._enter_lent(number)
                continue
            weight, copy = self._staged[number - len(self._lent)], number - len(self._lent)
            if copy >= len(self._filled) or self._left[number]:  # its place is another's, still or again
                weight.tensor.data = weight.home
            else:
                self._engine.wait(self._filled[copy])

    def _enter_lent(self, number: int) -> None:
        if self._left[number]:  # used once more, when others may be in its place
            self._engine.wait(self._saved[number][-1])
            self._lent[number].tensor.data = self._lent[number].saved

    def leave(self, unit: int) -> None:
        """The unit's work is submitted; others may come into its weights' places after it."""
        numbers = self._of.get(unit)
        if not numbers:
            return
        self._marks.append(self._engine.mark())  # units may run on streams of their own
        for number in numbers:
            self._left[number] = True
        while self._used < len(self._left) and self._left[self._used]:
            self._used += 1
        self._issue()

    def end(self) -> None:
        """Lets the weights point home and be there, also where the step failed half-way."""
        for weight in self._staged:
            weight.tensor.data = weight.home
        for lent in self._lent:
            lent.tensor.data = lent.home
        if self._lent:
            self._marks.append(self._engine.mark())
            while self._away and len(self._saved) == len(self._lent):
                self._bring_back(self._away.pop(0))
        if self._filled:
            self._engine.wait(self._filled[-1])  # the copies keep their order
        for slices in self._saved:
            self._engine.wait(slices[-1])

    def _issue(self) -> None:
        while len(self._filled) < len(self._staged):
            copy = len(self._filled)
            before = self._ring.after[copy]
            if before is not None and before >= self._used:
                return
            weight = self._staged[copy]
            self._fill(weight.target, weight.source, self._saved_from(copy))
        while self._away and self._ring.back[self._away[0]] < self._used:
            self._bring_back(self._away.pop(0))

    def _saved_from(self, copy: int) -> List[Any]:
        """The event that what was lent has been saved, as far as the place of a copy reaches."""
        piece, offset = self._ring.places[copy]
        return [self._saved[piece][(offset + self._staged[copy].target.numel() - 1) // SLICE]] if self._lent else []

    def _bring_back(self, piece: int) -> None:
        """Copies a weight that was lent back to its place, if another came into it."""
        if any(self._ring.places[copy][0] == piece for copy in range(min(len(self._filled), len(self._staged)))):
            self._fill(self._lent[piece].source, self._lent[piece].backup, [self._saved[piece][-1]])

    def _fill(self, target: Any, source: Any, after: List[Any]) -> None:
        self._filled.append(self._engine.fill(target, source, self._marks + after))
        self._marks = []  # the copies after it keep their order


class Steps:
    """What goes on in one model. `say` gets a sentence where staging has to end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seen: Optional[List[int]] = []  # units of the step under way; None: not looked at
        self.order: Tuple[int, ...] = ()  # of the last whole step outside of graphs that was looked at
        self.stager: Optional[Stager] = None
        self.tokens = 0  # from which on a step stages
        self._running = False  # a step under way stages
        self._entered = 0
        self._inside = False
        self.counts = {"staged": 0, "direct": 0}
        self.captured = False  # a CUDA graph has copies of a step: their memory is in use for good

    def use(self, stager: Optional[Stager], tokens: int) -> None:
        """From the next step on."""
        self.stager, self.tokens = stager, tokens

    def usable(self) -> List[int]:
        """The units that a step uses once each, in their order: those that can be staged."""
        return [unit for unit in self.order if self.order.count(unit) == 1]

    def begin(self, tokens: int, kind: Kind) -> None:
        """A step of so many tokens begins."""
        self._inside, self._entered = True, 0
        self._seen = [] if kind is Kind.PLAIN and self.stager is None else None
        self._running = kind is not Kind.PIECES and self.stager is not None and tokens >= self.tokens
        self.captured |= self._running and kind is Kind.WHOLE
        if self._running and self.stager is not None:
            self.counts["staged"] += 1
            self.stager.begin()
        else:
            self.counts["direct"] += 1

    def enter(self, unit: int) -> None:
        if self._running and self.stager is not None:
            self._entered += unit in self.stager._of
            self.stager.enter(unit)
        elif self._seen is not None and self._inside:
            self._seen.append(unit)

    def leave(self, unit: int) -> None:
        if self._running and self.stager is not None:
            self.stager.leave(unit)

    def end(self, whole: bool = True) -> None:
        """The step's work is submitted, or it failed."""
        self._inside = False
        if self._running and self.stager is not None:
            self._running = False
            self.stager.end()
            if whole and self._entered != len(self.stager.units):
                self._say(
                    f"a step used {self._entered} of {len(self.stager.units)} modules with staged weights, so weights are"
                    " read where they lie from now on"
                )
                self.stager = None
        elif self._seen and whole:
            self.order = tuple(self._seen)
        self._seen = None
