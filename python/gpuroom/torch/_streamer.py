"""Streams units while a model runs: hooks before and after each unit's forward, a ring of staging buffers, and
copies ahead of use.

A streamed unit's weights have a home, a host-tier range at ordinary device addresses that is always right to
read. While the unit runs without grad its tensors point into a staging buffer instead; afterwards they
point home again. So whoever reads them while the unit does not run (state_dict, an unhooked call) reads the truth.
Who reads them in another thread while it runs gets the buffer, which is right only until the unit was left:
state_dict() refuses that, and nothing else can. Everything that cannot be staged is read in place: that costs time
and never results.

Threads: one lock, held within hooks and never while the model computes. Several threads in one unit share its
buffer; the first to enter brings it in, the last to leave releases it, and each one's stream waits for
the copy and marks its own end.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any, Dict, List, Optional

from gpuroom._errors import Busy
from gpuroom._stream_order import Order, Ring, Slot
from gpuroom.torch import _hooks, _packing
from gpuroom.torch._torch import torch
from gpuroom.torch._units import Unit


class Streamed:
    """A streamed unit. `users` runs of its forward are under way; while there are any, `slot` is the buffer that
    they may be reading, and `staged` says whether the tensors point into it."""

    def __init__(self, number: int, unit: Unit, home: Any) -> None:
        self.number, self.unit, self.home = number, unit, home
        self.tensors = unit.tensors
        self.at_home = [tensor.data for tensor in self.tensors]
        self.users = 0
        self.slot: Optional[Slot] = None
        self.staged = False
        self.active = True  # False: its tensors were moved from outside, so it is left alone
        self.settled = self.versions()  # of the tensors: what was changed up to here, the copy stream comes after

    def versions(self) -> List[int]:
        return [tensor._version for tensor in self.tensors]

    def moved(self) -> bool:
        """Whether someone else gave a tensor other memory (model.to(...), say)."""
        return any(tensor.data_ptr() != home.data_ptr() for tensor, home in zip(self.tensors, self.at_home))


class Streamer:
    """The hooks of one model's streamed units, and their ring. `counts` has what was done, in units."""

    def __init__(self, engine: Any, units: List[Streamed], buffers: List[Any], prefetch: int) -> None:
        self._engine, self._units, self._buffers, self._prefetch = engine, units, buffers, prefetch
        self._order, self._ring = Order(max(len(units), 1)), Ring(len(buffers))
        self._lock = threading.Lock()
        self._views: Dict[int, Dict[int, List[Any]]] = {}  # by unit and slot: making views costs more than pointing
        self._hooks: List[Any] = []
        self.counts = {"staged": 0, "ahead": 0, "late": 0, "in_place": 0, "copied_bytes": 0}

    def attach(self) -> None:
        for unit in self._units:
            module: Any = unit.unit.module
            self._hooks.append(module.register_forward_pre_hook(_hooks.entering(self, unit), prepend=True))
            self._hooks.append(module.register_forward_hook(_hooks.leaving(self, unit), always_call=True))

            for part in module.modules():
                self._hooks.append(part.register_state_dict_pre_hook(_hooks.saving(self, unit, part)))

    def detach(self, force: bool = False) -> None:
        """Removes the hooks and the buffers; the tensors are at home. With `force` forwards under way are taken for
        ones that were interrupted."""
        with self._lock:
            busy = [unit for unit in self._units if unit.users]
            if busy and not force:
                raise Busy(f"{busy[0].unit.name} is running; call remove() when no forward is under way or, where one"
                           " was interrupted, remove(force=True)")  # fmt: skip
            for hook in self._hooks:
                hook.remove()
            self._hooks = []
            self._engine.settle()
            for unit in busy:
                self._abandon(unit)
            if busy:
                self._engine.settle()
            self._views, self._buffers = {}, []
            self._ring = Ring(0)

    def refresh(self) -> None:
        """Forgets what was copied ahead, and that changes were waited for."""
        with self._lock:
            for slot in self._ring.slots:
                slot.unit = None
            for unit in self._units:
                unit.settled = []

    def refuse_while_running(self, unit: Streamed) -> None:
        with self._lock:
            if unit.users:
                raise Busy(f"{unit.unit.name} is running, so its weights lie where they do not stay; call state_dict()"
                           " when no forward is under way or, where one was interrupted, after remove(force=True)")  # fmt: skip

    def enter(self, unit: Streamed) -> None:
        """A forward of `unit` begins in this thread."""
        with self._lock:
            unit.users += 1
            in_place = self._engine.reads_in_place()
            if unit.users == 1:
                self._begin(unit, in_place)
            elif in_place and unit.staged:
                self._point_home(unit)
            if unit.staged and unit.slot is not None:
                self._engine.wait(unit.slot.filled)
            if not in_place:
                self._order.observe(unit.number)
                self._fetch_ahead()

    def leave(self, unit: Streamed, result: Any = None) -> Any:
        """The forward is over, with an exception or without; its work may still be under way on the GPU. Returns
        its result where that has to be another, since parts of it lie in the buffer; else None."""
        with self._lock:
            if unit.users == 0:
                return None  # attached in the midst of it
            unit.users -= 1
            instead = None
            slot, in_place = unit.slot, self._engine.reads_in_place()
            if slot is not None and not in_place:  # else this thread has not read the buffer
                self._write_back(unit, slot)
                instead = _packing.replaced(result, self._buffers[slot.number], unit.home, unit.tensors)
                slot.uses.append(self._engine.mark())
            if unit.users == 0 and slot is not None:
                if unit.staged:
                    self._point_home(unit)
                unit.slot, slot.held = None, False
                if not in_place:
                    self._fetch_ahead()
            return instead

    def _begin(self, unit: Streamed, in_place: bool) -> None:
        if unit.active and unit.moved():
            unit.active = False
            warnings.warn(f"the weights of {unit.unit.name} were given other memory while they were streamed; they are"
                          " left there and no longer streamed", stacklevel=2)  # fmt: skip
        slot = None if in_place or not unit.active else self._bring(unit)
        if slot is None:
            self.counts["in_place"] += 1
            return
        self.counts["staged"] += 1
        slot.held, unit.slot, unit.staged = True, slot, True
        self._ring.touch(slot)
        _packing.point(unit.tensors, self._views_in(unit, slot))

    def _bring(self, unit: Streamed) -> Optional[Slot]:
        """The slot that holds `unit`'s weights as they are now, or will; None: all are in use."""
        slot = self._ring.find(unit.number)
        if slot is not None and slot.versions == unit.versions():
            self.counts["ahead"] += 1
            return slot
        if slot is None:
            slot = self._ring.spare(self._order.ahead(self._prefetch), urgent=True)
        if slot is not None:
            self.counts["late"] += 1
            self._fill(slot, unit)
        return slot

    def _fetch_ahead(self) -> None:
        soon = self._order.ahead(self._prefetch)
        for number in soon:
            unit = self._units[number]
            if self._ring.find(number) is not None or not unit.active:
                continue
            # Changed on some stream, which this one need not wait for before the unit's own turn comes.
            if unit.versions() != unit.settled:
                continue
            slot = self._ring.spare(soon, urgent=False)
            if slot is None:
                return
            self._fill(slot, unit)

    def _fill(self, slot: Slot, unit: Streamed) -> None:
        versions, after = unit.versions(), slot.uses
        if versions != unit.settled:  # changed, and this thread's stream comes after that: it is the unit's turn
            after = after + [self._engine.mark()]
            unit.settled = versions
        count = unit.home.numel()
        slot.unit = None  # until the copy is submitted
        slot.filled = self._engine.fill(self._buffers[slot.number][:count], unit.home, after)
        slot.unit, slot.uses, slot.versions = unit.number, [], versions
        self._ring.touch(slot)
        self.counts["copied_bytes"] += count

    def _write_back(self, unit: Streamed, slot: Slot) -> None:
        """What this forward wrote into the buffer goes home."""
        now = unit.versions()
        if not unit.staged or now == slot.versions:
            return
        with torch.no_grad():
            for before, after, home, view in zip(slot.versions, now, unit.at_home, self._views_in(unit, slot)):
                if before != after:
                    home.copy_(view)
        slot.versions = now

    def _abandon(self, unit: Streamed) -> None:
        """Ends all runs of the unit; the GPU is idle."""
        unit.users = 0
        if unit.staged and unit.slot is not None:
            with torch.no_grad():
                for _, home, view in self._in_buffer(unit, unit.slot):
                    home.copy_(view)  # also what was written through .data
            self._point_home(unit)
        unit.slot = None

    def _point_home(self, unit: Streamed) -> None:
        for tensor, home, _ in self._in_buffer(unit, unit.slot):
            tensor.data = home
        unit.staged = False

    def _in_buffer(self, unit: Streamed, slot: Any) -> List[Any]:
        """(tensor, its home, its place in the buffer), without tensors that someone gave other memory meanwhile."""
        places = zip(unit.tensors, unit.at_home, self._views_in(unit, slot))
        return [place for place in places if place[0].data_ptr() == place[2].data_ptr()]

    def _views_in(self, unit: Streamed, slot: Slot) -> List[Any]:
        views = self._views.setdefault(unit.number, {})
        if slot.number not in views:
            with torch.inference_mode(False):
                views[slot.number] = _packing.same_places(unit.at_home, unit.home, self._buffers[slot.number])
        return views[slot.number]
