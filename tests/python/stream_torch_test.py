"""Streaming with a real PyTorch on the CPU and copies that happen as late as they may: same results to the bit,
in any order, with exceptions, recursion, threads, tied weights, written weights and grad."""

import copy
import random
import threading

import pytest

torch = pytest.importorskip("torch", minversion="2.9")

from gpuroom import Busy, Error, InvalidArgument  # noqa: E402
from gpuroom._stream_plan import STREAMED  # noqa: E402
from gpuroom.torch import _packing, _stream, _units  # noqa: E402
from gpuroom.torch._hooks import is_streamed  # noqa: E402
from late_engine import LateEngine  # noqa: E402

WIDTH = 1024  # a block of two squares has 8 MiB and more


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise ArithmeticError("asked to")
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(torch.nn.Module):
    def __init__(self, layers=8, tied=False):
        super().__init__()
        torch.manual_seed(3)
        self.embed = torch.nn.Embedding(2000, WIDTH)
        self.layers = torch.nn.ModuleList(Block() for _ in range(layers))
        self.head = torch.nn.Linear(WIDTH, 2000, bias=False)
        self.order = list(range(layers))
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for index in self.order:
            x = self.layers[index](x)
        return self.head(x)


TOKENS = torch.arange(5).unsqueeze(0)


def streamed(model, blocks=4.5, prefetch=2, eager=False, buffers=False):
    """The model streamed in as much "HBM" as `blocks` of its blocks, and the head."""
    engine = LateEngine(eager)
    units = _units.find(model, buffers)
    budget = int(blocks * units[1].bytes)
    plan = _stream._plan(units, budget, prefetch)
    assert plan.places.count(STREAMED) >= 2
    with torch.no_grad():
        streamer = _stream.place(engine, units, plan, prefetch)
    return _stream.StreamHandle(plan, [unit.name for unit in units], streamer), engine


@pytest.fixture(params=[False, True], ids=["late", "eager"])
def eager(request):
    return request.param


@pytest.fixture(params=["no_grad", "inference_mode"])
def mode(request):
    return getattr(torch, request.param)


def test_same_results_to_the_bit_and_copies_ahead(eager, mode):
    model = Model().eval()
    with mode():
        expected = model(TOKENS)
        handle, engine = streamed(model, eager=eager)
        for _ in range(4):
            assert torch.equal(model(TOKENS), expected)
    stats = handle.stats()
    assert stats.staged > 0 and stats.in_place == 0 and stats.late == 1
    assert stats.staged == stats.ahead + stats.late
    placed = stats.resident_bytes + stats.streamed_bytes + stats.direct_bytes
    assert placed == sum(unit.bytes for unit in _units.find(model, False))


def test_the_model_is_as_it_was_between_forwards_and_after(mode):
    model = Model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters, versions = dict(model.named_parameters()), [p._version for p in model.parameters()]
    handle, _ = streamed(model)
    with mode():
        model(TOKENS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameters[name] is value for name, value in model.named_parameters())
    assert [p._version for p in model.parameters()] == versions
    handle.remove()
    with mode():
        model(TOKENS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_any_order_and_units_used_twice(eager):
    model, pick = Model().eval(), random.Random(4)
    handle, _ = streamed(model, eager=eager)
    plain = Model().eval()
    with torch.no_grad():
        for _ in range(12):
            model.order = plain.order = [pick.randrange(8) for _ in range(8)]
            assert torch.equal(model(TOKENS), plain(TOKENS))
    assert handle.stats().in_place == 0


def test_an_exception_leaves_all_at_home_and_the_next_pass_right(eager):
    model, plain = Model().eval(), Model().eval()
    handle, _ = streamed(model, eager=eager)
    with torch.no_grad():
        for failing in list(range(6)) * 2:
            model.layers[failing].fail = True
            with pytest.raises(ArithmeticError):
                model(TOKENS)
            model.layers[failing].fail = False
            assert torch.equal(model(TOKENS), plain(TOKENS))
    assert handle.stats().in_place == 0


def test_an_interrupt_costs_a_buffer_and_no_result():
    model, plain = Model().eval(), Model().eval()
    handle, _ = streamed(model)
    unit = handle._streamer._units[0]

    def interrupt(_module, _arguments):
        raise KeyboardInterrupt

    hook = unit.unit.module.down.register_forward_pre_hook(interrupt)
    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            model(TOKENS)
        hook.remove()
        for _ in range(3):
            assert torch.equal(model(TOKENS), plain(TOKENS))
    with pytest.raises(Busy, match=r"was interrupted, remove\(force=True\)"):
        handle.remove()
    handle.remove(force=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters()))
    assert not unit.moved() and not any(module._forward_hooks for module in model.modules())


def test_recursion_and_blocks_within_blocks():
    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.depth, self.other = torch.nn.Linear(WIDTH, WIDTH * 2), 0, None

        def forward(self, x):
            if self.depth:
                self.depth -= 1
                x = self(x) + (self.other[0](x) if self.other else 0)
            return self.one(x)[..., :WIDTH]

    def build():
        torch.manual_seed(5)
        model = torch.nn.Sequential()
        model.layers = torch.nn.ModuleList(Inner() for _ in range(8))
        model.forward = lambda x: [x := layer(x) for layer in model.layers][-1]
        for first, second in zip(model.layers, list(model.layers)[3:]):
            first.other = (second,)  # a tuple: it is nobody's child
        return model.eval()

    model, plain = build(), build()
    x = torch.randn(3, WIDTH)
    handle, _ = streamed(model, blocks=2, prefetch=1)
    with torch.no_grad():
        for depths in ([0] * 8, [2] * 8, [3, 0] * 4, [1] * 8):
            for layers in (model.layers, plain.layers):
                for layer, depth in zip(layers, depths):
                    layer.depth = depth
            assert torch.equal(model(x), plain(x))
    assert handle.stats().staged > 0 and handle.stats().in_place > 0  # two buffers do not serve three at once


def test_tied_weights_and_views_stay_tied():
    model = Model(tied=True).eval()
    with torch.no_grad():
        expected = model(TOKENS)
        handle, _ = streamed(model)
        assert model.head.weight is model.embed.weight
        assert torch.equal(model(TOKENS), expected)
    assert handle.places()["shared tensors and buffers"] in ("resident", "direct")


def test_slices_of_one_storage_are_laid_out_by_themselves():
    whole = torch.arange(64, dtype=torch.float32)
    one, two, view = whole[:16], whole[32:48].view(4, 4).t(), whole[8:24]
    spans = _packing.spans_of([one, two, view])
    assert [len(span.tensors) for span in spans] == [2, 1]
    piece = LateEngine().empty(_packing.packed_bytes(spans), "cold")
    assert piece.numel() == 1024
    places = _packing.views(spans, piece)
    _packing.fill(spans, piece)
    tensors = [tensor for span in spans for tensor in span.tensors]
    assert all(torch.equal(place, tensor) for place, tensor in zip(places, tensors))
    assert [place.stride() for place in places] == [tensor.stride() for tensor in tensors]
    assert all(place.data_ptr() % 64 == tensor.data_ptr() % 64 for place, tensor in zip(places, tensors))
    places[0][8] = 99  # the alias sees it
    assert places[1][0] == 99


def test_with_grad_weights_are_read_in_place_and_gradients_are_right():
    model, plain = Model(), Model()
    handle, _ = streamed(model)
    with torch.no_grad():
        model(TOKENS)
    done = handle.stats().staged
    for each in (model, plain):
        each(TOKENS).square().mean().backward()
    assert handle.stats().staged == done and handle.stats().in_place > 0
    for own, other in zip(model.parameters(), plain.parameters()):
        assert torch.equal(own.grad, other.grad)


@pytest.mark.parametrize("how", ["optimizer", "load_state_dict", "data"])
def test_changed_weights_are_copied_anew(how, eager):
    model, plain = Model(), Model()
    handle, _ = streamed(model, eager=eager)
    with torch.no_grad():
        model(TOKENS)  # some are copied ahead for the next pass
    other = {name: value + 0.5 for name, value in plain.state_dict().items()}
    for each in (model, plain):
        if how == "optimizer":
            optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
            each(TOKENS).square().mean().backward()
            optimizer.step()
        elif how == "load_state_dict":
            each.load_state_dict(other)
        else:
            for parameter in each.parameters():
                parameter.data.mul_(1.5)
    if how == "data":
        handle.refresh()
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(model(TOKENS), plain(TOKENS))


def test_weights_that_a_forward_writes_go_home(mode, eager):
    class Writing(Block):
        def forward(self, x):
            self.up.weight.mul_(0.5)
            return super().forward(x)

    def build():
        model = Model().eval()
        for layer in model.layers:
            layer.__class__ = Writing
        return model

    model, plain = build(), build()
    handle, _ = streamed(model, eager=eager)
    with mode():
        for _ in range(3):
            assert torch.equal(model(TOKENS), plain(TOKENS))
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters()))


def test_weights_in_a_result_lie_at_home(mode):
    class Showing(Block):
        def forward(self, x):
            self.shown = super().forward(x)
            return {"x": self.shown, "all": [self.up.weight, (self.up.weight[3:].t(), self.norm.bias.detach())]}

    model, plain = Model().eval(), Model().eval()
    for layer in model.layers:
        layer.__class__ = Showing
    handle, engine = streamed(model, blocks=2.5, prefetch=1)
    x, kept = torch.ones(2, WIDTH), []
    with mode():
        for layer in model.layers:
            kept.append(layer(x))
    assert handle.stats().staged > 2
    for layer, other, result in zip(model.layers, plain.layers, kept):
        assert result["x"] is layer.shown and result["all"][0] is layer.up.weight
        part, bias = result["all"][1]
        assert torch.equal(part, other.up.weight[3:].t()) and part.stride() == (1, WIDTH)
        assert torch.equal(bias, other.norm.bias)
        assert part.untyped_storage().data_ptr() == layer.up.weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("staged", [False, True])
def test_buffers_that_a_forward_writes(staged, eager):
    class Counting(Block):
        def forward(self, x):
            self.seen.add_(x.mean())
            return super().forward(x)

    def build():
        model = Model().eval()
        for layer in model.layers:
            layer.__class__ = Counting
            layer.register_buffer("seen", torch.zeros(1 << 19))
        return model

    model, plain = build(), build()
    streamed(model, eager=eager, buffers=staged)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(model(TOKENS), plain(TOKENS))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers()))


def test_several_threads_some_with_grad(eager):
    model, plain = Model().eval(), Model().eval()
    handle, _ = streamed(model, eager=eager)
    inputs = [torch.arange(i, i + 4).unsqueeze(0) for i in range(4)]
    with torch.no_grad():
        expected = [plain(x) for x in inputs]
    wrong = []

    def work(number):
        for turn in range(8):
            with torch.set_grad_enabled(number == 3 and turn % 2 == 0):
                if not torch.equal(model(inputs[number]), expected[number]):
                    wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    assert all(unit.users == 0 and not unit.staged for unit in handle._streamer._units)
    assert not any(slot.held for slot in handle._streamer._ring.slots)


def test_a_grad_forward_that_meets_a_staged_unit_sends_it_home():
    model = Model().eval()
    handle, engine = streamed(model)
    unit = handle._streamer._units[0]
    with torch.no_grad():
        handle._streamer.enter(unit)
        assert unit.staged
        with torch.enable_grad():
            handle._streamer.enter(unit)
            assert not unit.staged and not unit.moved() and unit.slot.held
            handle._streamer.leave(unit)
        assert unit.slot.held and unit.slot.uses == []
        handle._streamer.leave(unit)
    assert unit.slot is None and not any(slot.held for slot in handle._streamer._ring.slots)


def test_a_copy_of_the_model_does_not_stream_and_moved_weights_are_left_alone():
    model, plain = Model().eval(), Model().eval()
    handle, _ = streamed(model)
    with torch.no_grad():
        twin = copy.deepcopy(torch.nn.ModuleList(model.layers)[0].up)
        assert torch.equal(twin.weight, plain.layers[0].up.weight)
        model.double()
        with pytest.warns(UserWarning, match="given other memory"):
            assert torch.equal(model(TOKENS), plain.double()(TOKENS))


def test_remove_refuses_while_a_forward_runs_and_says_so():
    model = Model().eval()
    handle, _ = streamed(model)
    module = handle._streamer._units[0].unit.module

    def ask(_module, _arguments, _result):
        with pytest.raises(Busy, match="is running"):
            handle.remove()
        for part in (model, module, module.up):
            with pytest.raises(Busy, match="is running"):
                part.state_dict()
        assert len(copy.deepcopy(module.up).state_dict()) == 2  # nobody runs the copy

    hook = module.up.register_forward_hook(ask)
    with torch.no_grad():
        model(TOKENS)
    hook.remove()
    assert len(model.state_dict()) == len(Model().state_dict())
    handle.remove()
    assert not any(module._state_dict_pre_hooks for module in model.modules())


def test_units_are_the_blocks_and_single_modules_beside():
    units = _units.find(Model(layers=3), False)
    assert [unit.name for unit in units] == ["embed", "layers.0", "layers.1", "layers.2", "head"]
    assert [unit.dense for unit in units] == [False, True, True, True, True]
    model = Model(layers=1)
    assert sum(unit.bytes for unit in _units.find(model, False)) >= sum(p.numel() * 4 for p in model.parameters())


def test_what_cannot_be_streamed_is_named():
    with torch.device("meta"):
        model = Model(layers=1)
    with pytest.raises(InvalidArgument, match="meta device; load its weights"):
        _units.find(model, False)
    with pytest.raises(InvalidArgument, match="takes a torch.nn.Module"):
        _stream.stream("model", "1GiB")
    with pytest.raises(InvalidArgument, match="hbm is 'much'"):
        _stream.stream(model, "much")
    with pytest.raises(InvalidArgument, match="prefetch is 1.5"):
        _stream.stream(model, "1GiB", prefetch=1.5)


def test_stream_itself_twice_and_after_remove(monkeypatch):
    """The public function, with this engine in the place of CUDA's."""
    monkeypatch.setattr(_stream, "CudaEngine", lambda _device: LateEngine())
    monkeypatch.setattr(_stream._settings, "configure", lambda: None)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    model, plain = Model().eval(), Model().eval()
    for turn in range(2):
        handle = _stream.stream(model, "36MiB", device=0)
        with pytest.raises(Error, match=r"streamed already; call remove\(\)"):
            _stream.stream(model, "36MiB", device=0)
        with torch.inference_mode():
            assert torch.equal(model(TOKENS), plain(TOKENS)) and torch.equal(model(TOKENS), plain(TOKENS))
        if turn == 0:
            twin = copy.deepcopy(torch.nn.Sequential(model.head))  # has hooks and is not streamed
            assert not any(is_streamed(module) for module in twin.modules())
        assert handle.stats().staged > 0 and set(handle.places().values()) == {"resident", "streamed", "direct"}
        handle.remove()
