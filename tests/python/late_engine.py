"""An engine for streaming on the CPU whose copies happen as late as they may: a copy that nobody waited for
has not happened, and what it would have to come after has to be over by then."""

from gpuroom.torch._torch import torch


class Event:
    """`needs` are the events before it; `work` is done once, when somebody waits."""

    def __init__(self, needs=(), work=None):
        self.needs, self.work = list(needs), work

    def happen(self):
        needs, self.needs = self.needs, []
        for event in needs:
            event.happen()
        work, self.work = self.work, None
        if work:
            work()


class LateEngine:
    """The CPU computes at once, so marks have happened when they are made; copies wait. `eager` does copies as early
    as they may be done instead."""

    def __init__(self, eager=False):
        self.device = torch.device("cpu")
        self.eager, self.in_place, self.fills, self.waits = eager, None, 0, 0
        self.last, self.saved = Event(), Event()

    def reads_in_place(self):
        return torch.is_grad_enabled() if self.in_place is None else self.in_place

    def fill(self, target, source, after):
        self.fills += 1
        self.last = self._copy(self.last, target, source, after)
        return self.last

    def save(self, target, source, after):
        self.saved = self._copy(self.saved, target, source, after)
        return self.saved

    def _copy(self, before, target, source, after):
        def copy():
            with torch.no_grad():
                target.copy_(source)

        event = Event([before, *after], copy)  # one stream: copies keep their order
        if self.eager:
            event.happen()
        return event

    def wait(self, event):
        self.waits += 1
        event.happen()

    def mark(self):
        return Event()

    def empty(self, count, _hint):
        whole = torch.full((count + 64,), 0xA5, dtype=torch.uint8)  # garbage where nothing was copied
        start = -whole.data_ptr() % 64
        return whole[start : start + count]

    def settle(self):
        self.last.happen()

    def drop_cached(self):
        pass
