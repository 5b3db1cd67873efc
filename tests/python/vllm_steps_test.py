"""Staging while a model runs: copies that happen as late, or as early, as they may, and what each unit then reads."""

import random
import types

import conftest  # noqa: F401  (the package's path)
import pytest
from gpuroom.vllm._placing import Weight, ring_for
from gpuroom.vllm._steps import Staged, Stager, Steps


class Place:
    """Memory of one weight: a slice of a list, as a tensor's bytes."""

    def __init__(self, memory, begin, end):
        self.memory, self.begin, self.end = memory, begin, end

    def read(self):
        return self.memory[self.begin : self.end]

    def numel(self):
        return self.end - self.begin


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
    """One copy stream. Late: a copy is done when it is waited for; early: as soon as it may. Marks have happened."""

    def __init__(self, early):
        self.early, self.last, self.fills = early, Event(), 0

    def fill(self, target, source, after):
        def copy():
            target.memory[target.begin : target.end] = source.read()

        self.fills += 1
        self.last = Event([self.last, *after], copy)
        if self.early:
            self.last.happen()
        return self.last

    def wait(self, event):
        event.happen()

    def mark(self):
        return Event()


class Model:
    """Units of one or two weights each. A run reads each weight where it points, and then spoils the input of none."""

    def __init__(self, sizes, early=False, tokens=10):
        self.engine, self.said, self.staged = Engine(early), [], []
        weights = [Weight(size * 512, unit) for unit, pair in enumerate(sizes) for size in pair]
        ring = ring_for(weights)
        buffer = ["nothing"] * (ring.bytes // 512)
        for number, (weight, offset) in enumerate(zip(weights, ring.offsets)):
            count = weight.bytes // 512
            home = Place([f"{number}.{n}" for n in range(count)], 0, count)
            place = Place(buffer, offset // 512, offset // 512 + count)
            self.staged.append(Staged(weight.unit, types.SimpleNamespace(data=home), home, place, home, place))
        self.units = len(sizes)
        self.steps = Steps(self.said.append)
        self.run(1)
        assert self.steps.order == tuple(range(self.units))
        self.steps.use(Stager(self.engine, self.staged, ring), tokens)

    def run(self, tokens, order=None, plain=True, fails_at=None):
        self.steps.begin(tokens, plain)
        try:
            for unit in range(self.units) if order is None else order:
                self.steps.enter(unit)
                if unit == fails_at:
                    raise ArithmeticError
                for weight in self.staged:
                    if weight.unit == unit:
                        assert weight.tensor.data.read() == weight.home.read(), unit
                self.steps.leave(unit)
        except ArithmeticError:
            self.steps.end(whole=False)
        else:
            self.steps.end()
        assert all(weight.tensor.data is weight.home for weight in self.staged)


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
    model.run(100, plain=False)
    assert model.engine.fills == 0
    model.run(10)
    assert model.engine.fills == len(model.staged)


def test_changes_between_steps_are_seen(early):
    model = Model(SIZES, early)
    for turn in range(3):
        model.run(100)
        for weight in model.staged:
            weight.home.memory[:] = [f"{turn}:{text}" for text in weight.home.memory]
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


def test_a_step_that_leaves_units_out_ends_staging(early):
    model = Model(SIZES, early)
    model.run(100, [0, 1, 2])
    assert len(model.said) == 1 and "read where they lie" in model.said[0]
    fills = model.engine.fills
    model.run(100)
    assert model.engine.fills == fills


def test_units_used_twice_are_not_staged():
    steps = Steps(print)
    steps.begin(1, True)
    for unit in (0, 1, 2, 1, 3):
        steps.enter(unit)
        steps.leave(unit)
    steps.end()
    assert steps.usable() == [0, 2, 3]


def test_what_is_captured_says_nothing_of_the_order():
    steps = Steps(print)
    steps.begin(1, False)
    steps.enter(0)
    steps.end()
    assert steps.usable() == []
