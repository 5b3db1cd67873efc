"""Staging while a model runs: copies that happen as late, or as early, as they may, and what each unit then reads."""

import random
import types

import conftest  # noqa: F401  (the package's path)
import pytest
from gpuroom.vllm import _steps
from gpuroom.vllm._placing import Weight, lay_out, ring_for
from gpuroom.vllm._steps import Kind, Lent, Staged, Stager, Steps


class Place:
    """Memory of one weight: a slice of a list, of which each element stands for 512 bytes."""

    def __init__(self, memory, begin, end):
        self.memory, self.begin, self.end = memory, begin, end

    def read(self):
        return self.memory[self.begin : self.end]

    def __getitem__(self, part):
        return Place(self.memory, self.begin + part.start // 512, min(self.end, self.begin + part.stop // 512))

    def numel(self):
        return 512 * (self.end - self.begin)


class Event:
    """Happens when somebody waits for it, after those before it."""

    def __init__(self, needs=(), work=None):
        self.needs, self.work = list(needs), work

    def happen(self):
        needs, self.needs, work, self.work = self.needs, [], self.work, None
        for event in needs:
            event.happen()
        if work:
            work()


class Engine:
    """A stream of copies and one of those that save. Late: a copy is done when it is waited for; early: as soon as it may. Marks have happened."""

    def __init__(self, early):
        self.early, self.last, self.saved, self.fills, self.fails_at = early, Event(), Event(), 0, None

    def fill(self, target, source, after):
        self.fills += 1
        if self.fills == self.fails_at:
            raise OSError
        self.last = self.copy(self.last, target, source, after)
        return self.last

    def save(self, target, source, after):
        self.saved = self.copy(self.saved, target, source, after)
        return self.saved

    def copy(self, before, target, source, after):
        def copy():
            target.memory[target.begin : target.end] = source.read()

        event = Event([before, *after], copy)
        if self.early:
            event.happen()
        return event

    def wait(self, event):
        event.happen()

    def mark(self):
        return Event()


class Model:
    """Units of one or two weights each. A run reads each weight where it points, and then spoils the input of none. `lent`:
    how many units, from the first on, lend the memory of their weights."""

    def __init__(self, sizes, early=False, tokens=10, lent=0):
        self.engine, self.said = Engine(early), []
        weights = [Weight(size * 512, unit) for unit, pair in enumerate(sizes) for size in pair]
        self.homes = [Place([f"{number}.{n}" for n in range(weight.bytes // 512)], 0, weight.bytes // 512)
                      for number, weight in enumerate(weights)]  # fmt: skip
        self.wanted = [home.read() for home in self.homes]
        self.tensors = [types.SimpleNamespace(data=home) for home in self.homes]
        lenders = [number for number, weight in enumerate(weights) if weight.unit < lent]
        others = [number for number, weight in enumerate(weights) if weight.unit >= lent]
        staged = [weights[number] for number in others]
        ring = lay_out(staged, [weights[number].bytes for number in lenders], lenders) if lent else ring_for(staged, range(len(staged)))
        pieces = [self.homes[number] for number in lenders]
        pieces = pieces or [Place(["nothing"] * (ring.bytes // 512), 0, ring.bytes // 512)]
        self.lent, self.staged = [], []
        for number in lenders:
            backup = Place(["nothing"] * self.homes[number].end, 0, self.homes[number].end)
            home = self.homes[number]
            self.lent.append(Lent(weights[number].unit, self.tensors[number], home, backup, home, backup))
        for number, (piece, offset) in zip(others, ring.places):
            begin = offset // 512
            place = Place(pieces[piece].memory, begin, begin + self.homes[number].end)
            home = self.homes[number]
            self.staged.append(Staged(weights[number].unit, self.tensors[number], home, place, home, place))
        self.weights, self.units = weights, len(sizes)
        self.steps = Steps(self.said.append)
        self.run(1)
        assert self.steps.order == tuple(range(self.units))
        self.steps.use(Stager(self.engine, self.staged, ring, self.lent), tokens)

    def change(self, turn):
        """As weights are loaded anew between steps."""
        for home in self.homes:
            home.memory[:] = [f"{turn}:{text}" for text in home.memory]
        self.wanted = [home.read() for home in self.homes]

    def run(self, tokens, order=None, kind=Kind.PLAIN, fails_at=None):
        try:
            self.steps.begin(tokens, kind)
            for unit in range(self.units) if order is None else order:
                self.steps.enter(unit)
                if unit == fails_at:
                    raise ArithmeticError
                for weight, tensor, wanted in zip(self.weights, self.tensors, self.wanted):
                    if weight.unit == unit:
                        assert tensor.data.read() == wanted, unit
                self.steps.leave(unit)
        except (ArithmeticError, OSError):
            self.steps.end(whole=False)
        else:
            self.steps.end()
        assert all(tensor.data is home for tensor, home in zip(self.tensors, self.homes))
        assert [home.read() for home in self.homes] == self.wanted


SIZES = [(3,), (2,), (7, 1), (4,)] * 5


@pytest.fixture(params=[False, True], ids=["late", "early"])
def early(request):
    return request.param


def test_staged_steps_read_what_is_at_home(early):
    model = Model(SIZES, early)
    for _ in range(4):
        model.run(100)
    assert model.engine.fills == 4 * len(model.staged) and model.steps.counts == {"staged": 4, "direct": 1}


def test_steps_of_few_tokens_and_graphs_read_in_place(early):
    model = Model(SIZES, early)
    model.run(9)
    model.run(100, kind=Kind.PIECES)
    assert model.engine.fills == 0
    model.run(10)
    assert model.engine.fills == len(model.staged)


def test_changes_between_steps_are_seen(early):
    model = Model(SIZES, early)
    for turn in range(3):
        model.run(100)
        model.change(turn)
    model.run(100)


def test_a_step_that_fails_leaves_weights_at_home(early):
    model = Model(SIZES, early)
    for at in range(model.units):
        model.run(100, fails_at=at)
        model.run(100)
    assert model.said == []


def test_any_order_is_right(early):
    pick, model = random.Random(3), Model(SIZES, early)
    for _ in range(30):
        order = list(range(model.units))
        pick.shuffle(order)
        model.run(100, order)
    assert model.said == []


LENDING = [(4,), (7, 2)] + SIZES


@pytest.fixture(params=[1 << 20, 1024], ids=["whole", "slices"])
def lending(request, early, monkeypatch):
    """A model of which the first two units lend their memory, saved at once or in slices."""
    monkeypatch.setattr(_steps, "SLICE", request.param)
    return Model(LENDING, early, lent=2)


def test_lent_memory_is_back_after_each_step(lending):
    for turn in range(4):
        lending.run(100)
        lending.run(9)
        lending.change(turn)
    assert lending.engine.fills == 4 * (len(lending.staged) + 3)


def test_lent_memory_is_back_where_a_step_fails_or_has_another_order(lending):
    pick = random.Random(5)
    for at in range(lending.units):
        lending.run(100, fails_at=at)
        order = list(range(lending.units))
        pick.shuffle(order)
        lending.run(100, order)
    assert lending.said == []


@pytest.mark.parametrize("lent", [0, 2])
def test_a_unit_that_is_used_once_more_reads_its_own_weights(early, lent):
    model = Model(LENDING, early, lent=lent)
    model.run(100, list(range(model.units)) + [0, 1, 2, 5])
    model.run(100, [0, 1, 2, 0, 3, 1, 4, 2, 5, 0, *range(6, model.units)])


def test_lent_memory_is_back_where_units_are_left_out(lending):
    lending.run(100, [0, 1, 2])
    assert len(lending.said) == 1 and "read where they lie" in lending.said[0]


def test_each_copy_may_fail_once(lending):
    lending.run(100)
    for number in range(1, len(lending.staged) + 1):  # those after it bring back what was lent
        lending.engine.fills, lending.engine.fails_at = 0, number
        lending.run(100)
        assert lending.engine.fills >= number
        lending.run(100)


def test_what_is_captured_whole_has_joined_its_copies(lending):
    assert not lending.steps.captured
    lending.run(100, kind=Kind.WHOLE)
    assert lending.steps.captured and lending.steps.counts["staged"] == 1
    for stream in (lending.engine.last, lending.engine.saved):
        assert stream.work is None and stream.needs == []


def test_a_step_that_leaves_units_out_ends_staging(early):
    model = Model(SIZES, early)
    model.run(100, [0, 1, 2])
    assert len(model.said) == 1 and "read where they lie" in model.said[0]
    fills = model.engine.fills
    model.run(100)
    assert model.engine.fills == fills


def test_units_used_twice_are_not_staged():
    steps = Steps(print)
    steps.begin(1, Kind.PLAIN)
    for unit in (0, 1, 2, 1, 3):
        steps.enter(unit)
        steps.leave(unit)
    steps.end()
    assert steps.usable() == [0, 2, 3]


def test_what_is_captured_says_nothing_of_the_order():
    steps = Steps(print)
    steps.begin(1, Kind.WHOLE)
    steps.enter(0)
    steps.end()
    assert steps.usable() == []
