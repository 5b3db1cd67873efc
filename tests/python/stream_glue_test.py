"""The streamer's own logic where there is no PyTorch: fake tensors, real hooks, and copies that happen as late as they
may. With PyTorch, stream_torch_test.py does the same and more."""

import contextlib
import importlib.util
import random
import threading
import types

import fake_tensors
import pytest

if importlib.util.find_spec("torch") is not None:
    pytest.skip("PyTorch is installed: stream_torch_test.py tests this with it", allow_module_level=True)
fake_tensors.install()

from fake_tensors import Memory, Module, Tensor  # noqa: E402
from gpuroom import Busy  # noqa: E402
from gpuroom.torch import _engine  # noqa: E402
from gpuroom.torch._streamer import Streamed, Streamer  # noqa: E402
from late_engine import Event, LateEngine  # noqa: E402

BYTES = 64


class Layer:
    """A unit of two weights; its forward reads them and returns what it read."""

    def __init__(self, number):
        self.home = Tensor(Memory(BYTES), 0, BYTES)
        self.home.write(bytes([number]) * (BYTES // 2) + bytes([number + 100]) * (BYTES // 2))
        self.weights = [self.home[:32], self.home[32:]]
        self.inner, self.fails = None, False
        self.module = Module(self.forward)

    def forward(self, x):
        if self.fails:
            raise ArithmeticError
        inside = self.inner(x) if self.inner else b""
        return b"".join(weight.read() for weight in self.weights) + inside


class Model:
    def __init__(self, count=8, slots=3, prefetch=2, eager=False):
        self.layers = [Layer(number) for number in range(count)]
        self.engine = LateEngine(eager)
        self.engine.in_place = False
        units = [Streamed(n, types.SimpleNamespace(name=f"layer{n}", module=layer.module, tensors=layer.weights), layer.home)
                 for n, layer in enumerate(self.layers)]
        self.units = units
        self.streamer = Streamer(self.engine, units, [Tensor(Memory(BYTES), 0, BYTES) for _ in range(slots)], prefetch)
        self.streamer.attach()

    def run(self, order=None):
        for number in range(len(self.layers)) if order is None else order:
            layer = self.layers[number]
            assert layer.module(0) == layer.home.read(), number
        assert all(not unit.users and not unit.staged and not unit.moved() for unit in self.units)


@pytest.fixture(params=[False, True], ids=["late", "eager"])
def eager(request):
    return request.param


def test_passes_read_what_is_at_home_and_copies_are_ahead(eager):
    model = Model(eager=eager)
    for _ in range(5):
        model.run()
    counts = model.streamer.counts
    assert counts["staged"] == 40 and counts["late"] == 1 and counts["ahead"] == 39 and counts["in_place"] == 0
    assert counts["copied_bytes"] == model.engine.fills * BYTES and model.engine.fills <= 40 + 2


@pytest.mark.parametrize("slots,prefetch", [(2, 1), (3, 2), (5, 4), (2, 4)])
def test_any_order(slots, prefetch, eager):
    model, pick = Model(slots=slots, prefetch=prefetch, eager=eager), random.Random(slots)
    for _ in range(100):
        model.run([pick.randrange(8) for _ in range(10)])
    assert model.streamer.counts["in_place"] == 0


def test_exceptions_and_what_is_within_others(eager):
    model, pick = Model(slots=2, prefetch=1, eager=eager), random.Random(1)
    for turn in range(100):
        failing, outer = pick.sample(model.layers, 2)
        failing.fails = True
        with pytest.raises(ArithmeticError):
            model.run([model.layers.index(failing)])
        failing.fails = False
        seen = []
        outer.inner = lambda x: seen.append(failing.module(x) == failing.home.read()) or b""
        model.run([model.layers.index(outer)])
        outer.inner = None
        assert seen == [True]


def test_changed_weights_are_copied_anew(eager):
    model = Model(eager=eager)
    for turn in range(6):
        model.run()
        model.layers[turn].weights[1].write(bytes([200 + turn]) * 32)
    model.run()
    model.layers[0].home.write(bytes([7]) * BYTES)  # through other tensors: nobody can see it
    model.streamer.refresh()
    model.run()


def test_written_weights_go_home(eager):
    model = Model(eager=eager)
    layer = model.layers[3]

    def forward(_x):
        old = layer.weights[0].read()
        layer.weights[0].write(bytes([(old[0] + 1) % 256]) * 32)
        return layer.weights[0].read()

    layer.module.forward = forward
    for turn in range(5):
        assert layer.module(0) == bytes([3 + turn + 1]) * 32
        model.run([0, 1, 2, 4, 5, 6, 7])
    assert layer.home.read()[:32] == bytes([8]) * 32


def test_what_reads_in_place_uses_no_buffer():
    model = Model()
    model.run()
    fills = model.engine.fills
    model.engine.in_place = True
    model.run()
    assert model.engine.fills == fills and model.streamer.counts["in_place"] == 8
    unit = model.units[0]
    model.engine.in_place = False
    model.streamer.enter(unit)
    assert unit.staged
    model.engine.in_place = True  # another thread, with grad
    model.streamer.enter(unit)
    assert not unit.staged and unit.slot.held and not unit.moved()
    model.streamer.leave(unit)
    assert unit.slot.uses == []
    model.engine.in_place = False
    model.streamer.leave(unit)
    assert unit.slot is None


def test_threads(eager):
    model, failures = Model(eager=eager), []

    def work(seed):
        pick = random.Random(seed)
        try:
            for _ in range(300):
                layer = model.layers[pick.randrange(8)]
                assert layer.module(0) == layer.home.read()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
    model.run()


def test_moved_weights_are_left_alone():
    model = Model()
    model.run()
    model.layers[2].weights[0].data = Tensor(Memory(32), 0, 32)
    with pytest.warns(UserWarning, match="weights of layer2 were given other memory"):
        model.layers[2].module(0)
    assert model.layers[2].module(0)[:32] == bytes(32)
    model.units = [unit for unit in model.units if unit.number != 2]
    model.run([0, 1, 3])


def test_a_result_that_is_a_weight_or_part_of_one_lies_at_home():
    model = Model(slots=2, prefetch=1)
    kept, plain = [], Tensor(Memory(8), 0, 8)
    for layer in model.layers:
        layer.module.forward = lambda x, layer=layer: [layer.weights[0], (layer.weights[1][4:12], x)]
    for layer in model.layers:
        kept.append(layer.module(plain))
    for layer, (weight, (part, x)) in zip(model.layers, kept):
        assert weight is layer.weights[0] and x is plain
        assert part.read() == layer.home[36:44].read() and part.untyped_storage() is layer.home.untyped_storage()
    same = object()
    model.layers[0].module.forward = lambda _x: same
    assert model.layers[0].module(0) is same


def test_detach_removes_all_and_refuses_while_a_unit_runs():
    model = Model()
    model.streamer.enter(model.units[4])
    with pytest.raises(Busy, match="layer4 is running"):
        model.streamer.detach()
    model.streamer.leave(model.units[4])
    model.streamer.detach()
    assert not any(layer.module.before or layer.module.after for layer in model.layers)
    model.run()


def test_detach_by_force_ends_a_forward_that_was_interrupted():
    model = Model()
    model.run()
    one, other, third = model.layers[4], model.layers[6], Tensor(Memory(32), 0, 32)
    for number in (4, 6):
        model.streamer.enter(model.units[number])
    one.weights[1].data.write(bytes([9]) * 32)  # where nobody counts, and into the buffer
    other.weights[0].data = third  # somebody moves a weight of a unit that nobody leaves
    with pytest.raises(Busy, match=r"layer4 is running.*remove\(force=True\)"):
        model.streamer.detach()
    model.streamer.detach(force=True)
    assert [weight.data_ptr() for weight in one.weights] == [one.home.data_ptr(), one.home.data_ptr() + 32]
    assert one.home.read() == bytes([4]) * 32 + bytes([9]) * 32
    assert [weight.data_ptr() for weight in other.weights] == [third.data_ptr(), other.home.data_ptr() + 32]
    assert not any(layer.module.before or layer.module.after for layer in model.layers)
    for number in (4, 6):
        model.streamer.leave(model.units[number])  # another thread's forward, which was under way after all
    assert one.module(0) == one.home.read()


def test_weights_that_are_moved_while_their_unit_runs_are_left_there():
    model = Model()
    model.run()
    layer, unit, other = model.layers[2], model.units[2], Tensor(Memory(32), 0, 32)
    model.streamer.enter(unit)
    layer.weights[1].data = other
    model.streamer.leave(unit)
    assert [weight.data_ptr() for weight in layer.weights] == [layer.home.data_ptr(), other.data_ptr()]
    with pytest.warns(UserWarning, match="weights of layer2 were given other memory"):
        assert layer.module(0) == bytes([2]) * 32 + bytes(32)


def test_a_state_dict_is_refused_while_a_unit_of_it_runs():
    model = Model()
    model.streamer.enter(model.units[4])
    with pytest.raises(Busy, match="layer4 is running"):
        model.layers[4].module.state_dict()
    model.layers[3].module.state_dict()
    model.streamer.leave(model.units[4])
    model.layers[4].module.state_dict()
    model.streamer.detach()
    assert not any(layer.module.saving for layer in model.layers)


@pytest.mark.parametrize("in_use", [False, True], ids=["pool", "use"])
def test_memory_of_the_engine_is_not_reused_while_copies_are_under_way(in_use, monkeypatch):
    """PyTorch knows of the stream that a tensor was made on alone, and a dropped model frees its buffers at any time."""
    class Piece(Tensor):
        streams = ()

        def record_stream(self, stream):
            self.streams += (stream,)

    engine = _engine.CudaEngine.__new__(_engine.CudaEngine)
    engine.device, engine._copies = types.SimpleNamespace(index=0), "copies"
    library = types.SimpleNamespace(function=lambda _name: lambda *_arguments: 0, check=lambda _result, _what: None)
    monkeypatch.setattr(_engine._library, "load", lambda: library)
    monkeypatch.setattr(_engine._allocator, "in_use", lambda: in_use)
    monkeypatch.setattr(_engine._pool, "pool", lambda **_settings: contextlib.nullcontext())
    monkeypatch.setattr(engine, "_bytes", lambda count: Piece(Memory(count), 0, count))
    piece = engine.empty(64, "hot")
    assert piece.numel() == 64 and piece.streams == ("copies",)


class AsyncEngine(LateEngine):
    """As a GPU: what the program computes is also done late, in order, when somebody waits for it. `eager` copies are
    done as early as their events let them: one that waits for too little reads or overwrites what it must not."""

    def __init__(self, eager):
        super().__init__(eager)
        self.in_place, self.queue, self.done = False, [], 0
        fake_tensors.submit = self.queue.append

    def fill(self, target, source, after):
        target, source = target.data, source.data
        self.last = Event([self.last, *after], lambda: target.put(source.read()))
        if self.eager:
            self.last.happen()
        return self.last

    def wait(self, event):
        self.queue.append(event.happen)

    def mark(self):
        upto = len(self.queue)
        return Event(work=lambda: self.drain(upto))

    def drain(self, upto):
        while self.done < upto:
            self.done += 1
            self.queue[self.done - 1]()

    def settle(self):
        self.drain(len(self.queue))
        self.last.happen()


@pytest.fixture
def gpu(eager):
    yield eager
    fake_tensors.submit = None


@pytest.mark.parametrize("slots,prefetch", [(2, 1), (3, 2), (5, 4)])
def test_a_processor_far_ahead_of_the_gpu(slots, prefetch, gpu):
    """Nothing but events keeps copies and kernels apart; some forwards write their weights, some weights are
    changed between forwards."""
    model, pick, wrong = Model(slots=slots, prefetch=prefetch), random.Random(slots), []
    engine = model.streamer._engine = AsyncEngine(gpu)
    truth = [layer.home.read() for layer in model.layers]

    def forward(layer, number):
        def read(x):
            places, expected = [weight.data for weight in layer.weights], truth[number]
            engine.queue.append(lambda: wrong.append(number) if b"".join(p.read() for p in places) != expected else None)
            if x:
                write(layer, number)
        return read

    def write(layer, number):
        content = bytes([pick.randrange(256)]) * 32
        truth[number] = content + truth[number][32:]
        layer.weights[0].write(content)

    for number, layer in enumerate(model.layers):
        layer.module.forward = forward(layer, number)
    order = list(range(8))
    for turn in range(60):
        if turn % 10 == 9:
            pick.shuffle(order)
        for number in order:
            model.layers[number].module(pick.random() < 0.1)
            if pick.random() < 0.1:
                other = pick.randrange(8)
                write(model.layers[other], other)
        if pick.random() < 0.2:
            engine.drain(pick.randrange(engine.done, len(engine.queue) + 1))
    engine.settle()
    assert engine.done > 1000 and not wrong
    assert [layer.home.read() for layer in model.layers] == truth


class Streams(AsyncEngine):
    """Several streams; `current` is the one that work goes to."""

    def __init__(self):
        super().__init__(eager=True)
        self.queues, self.drained, self.current = {}, {}, "main"
        fake_tensors.submit = self.submit

    def submit(self, work):
        self.queues.setdefault(self.current, []).append(work)

    def wait(self, event):
        self.submit(event.happen)

    def mark(self):
        name, upto = self.current, len(self.queues.get(self.current, []))
        return Event(work=lambda: self.drain_stream(name, upto))

    def drain_stream(self, name, upto):
        while self.drained.get(name, 0) < upto:
            self.drained[name] = self.drained.get(name, 0) + 1
            self.queues[name][self.drained[name] - 1]()

    def settle(self):
        for name, queue in self.queues.items():
            self.drain_stream(name, len(queue))
        self.last.happen()


@pytest.fixture
def streams():
    model = Model()
    engine, seen = Streams(), {}
    model.streamer._engine = engine

    def forward(layer, number):
        def read(_x):
            places = [weight.data for weight in layer.weights]
            engine.submit(lambda: seen.__setitem__(number, b"".join(place.read() for place in places)))
        return read

    for number, layer in enumerate(model.layers):
        layer.module.forward = forward(layer, number)
        layer.module(0)
    engine.settle()
    seen.clear()
    yield model, engine, seen
    fake_tensors.submit = None


def test_what_refresh_tells_of_is_copied_after_the_change_is_done(streams):
    model, engine, seen = streams
    for number, layer in enumerate(model.layers):
        layer.home.write(bytes([200 + number]) * BYTES)  # through .data: no version says so
    model.streamer.refresh()
    for layer in model.layers:
        layer.module(0)
    engine.settle()
    assert seen == {number: bytes([200 + number]) * BYTES for number in range(8)}


def test_weights_written_on_another_stream_are_copied_once_their_forward_waits_for_it(streams):
    model, engine, seen = streams
    engine.current = "other"
    model.layers[5].weights[0].write(bytes([7]) * 32)
    model.layers[5].weights[1].write(bytes([8]) * 32)
    written, engine.current = engine.mark(), "main"
    for number in (3, 4):
        model.layers[number].module(0)  # 5 is foreseen, and its change is of no concern to this stream yet
    engine.wait(written)
    model.layers[5].module(0)
    engine.settle()
    assert seen[5] == bytes([7]) * 32 + bytes([8]) * 32


def test_a_refresh_while_a_unit_runs_holds_for_its_next_run(streams):
    model, engine, seen = streams
    layer, unit = model.layers[2], model.units[2]
    model.streamer.enter(unit)
    layer.weights[1].write(bytes([9]) * 32)  # the forward's own, into the buffer
    layer.home[:32].write(bytes([6]) * 32)
    model.streamer.refresh()
    model.streamer.leave(unit)
    for number in (2, 3, 2):
        model.layers[number].module(0)
    engine.settle()
    assert seen[2] == bytes([6]) * 32 + bytes([9]) * 32
