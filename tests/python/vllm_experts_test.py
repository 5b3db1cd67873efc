"""Which experts lie in HBM: the plan by itself, and layers of PyTorch's on the CPU whose routing is counted."""

import random

import conftest  # noqa: F401  (the package's path)
import pytest
from gpuroom.vllm import _heat
from gpuroom.vllm._heat import Group

MIB = 1 << 20


def cut(heats, size=10):
    return [Group(size, float(heat)) for heat in heats]


def test_the_hottest_come_and_the_coldest_leave():
    groups = cut([100, 0, 50, 90, 1, 2])
    assert _heat.plan(groups, {1, 4, 5}, room=30, most=100) == ([1, 4, 5], [0, 3, 2])
    assert _heat.plan(groups, {1, 4, 5}, room=30, most=20) == ([1, 4], [0, 3])


def test_room_that_is_left_is_used_without_anything_leaving():
    assert _heat.plan(cut([100, 40, 50]), {1}, room=25, most=100) == ([], [0])


def test_what_is_rare_or_hardly_hotter_moves_nothing():
    assert _heat.plan(cut([7, 0]), {1}, room=10, most=100) == ([], [])
    assert _heat.plan(cut([149, 100]), {1}, room=10, most=100) == ([], [])
    assert _heat.plan(cut([150, 100]), {1}, room=10, most=100) == ([1], [0])


def test_a_large_group_takes_the_place_of_small_ones_that_are_colder_together():
    groups = [Group(20, 100.0), Group(10, 1.0), Group(10, 2.0), Group(10, 60.0)]
    assert _heat.plan(groups, {1, 2, 3}, room=30, most=100) == ([1, 2], [0])
    assert _heat.plan([Group(20, 100.0), Group(10, 40.0), Group(10, 41.0)], {1, 2}, room=20, most=100) == ([], [])


def test_old_tokens_count_less():
    groups = cut([100, 0])
    for _ in range(20):
        _heat.cool(groups, [0, 5])
    assert groups[0].heat < 2 and 20 < groups[1].heat < 25


def test_noise_moves_nothing_and_a_change_does():
    pick, groups, resident, moved = random.Random(2), cut([0] * 32), set(range(16)), []
    hot = list(range(16, 32))
    for turn in range(80):
        if turn == 40:
            hot = list(range(8, 24))
        _heat.cool(groups, [sum(pick.random() < (0.9 if one in hot else 0.1) for _ in range(64)) for one in range(32)])
        leave, come = _heat.plan(groups, resident, room=160, most=40)
        assert len(leave) == len(come) <= 4 and set(leave) <= resident and not set(come) & resident
        resident = (resident - set(leave)) | set(come)
        moved.append(len(come))
    assert resident == set(hot)
    assert sum(moved[:40]) == 16 and sum(moved[40:]) == 8 and not any(moved[10:40]) and not any(moved[60:])


def test_at_first_each_layer_has_its_share():
    groups = cut([0] * 64)
    for room in (0, 5, 160, 320, 630, 640):
        resident = _heat.first(groups, room)
        assert sum(groups[number].bytes for number in resident) <= room < sum(groups[number].bytes for number in resident) + 20
        quarters = [len([one for one in resident if one // 16 == part]) for part in range(4)]
        assert max(quarters) - min(quarters) <= 1


def test_what_is_pinned_neither_leaves_nor_counts_as_room_for_others():
    groups = cut([0, 0, 50, 90, 1, 2])
    assert _heat.plan(groups, {0, 1, 4}, room=30, most=100, pinned={0, 1}) == ([4], [3])
    for room in (20, 35, 45, 60):
        resident = _heat.first(groups, room, {0, 1})
        assert {0, 1} <= resident and sum(groups[number].bytes for number in resident) <= room
    assert _heat.first(groups, 60, {0, 1}) == set(range(6))


def test_a_layer_lends_where_the_others_keep_most_of_their_room():
    assert _heat.may_lend(layer=100, total=4800, room=2400) and _heat.may_lend(100, 1600, 800)
    assert not _heat.may_lend(1536, 15360, 3744)  # ten layers, of which HBM has two and a half
    assert not _heat.may_lend(100, 1600, 1600)  # all fit
    assert not _heat.may_lend(100, 1600, 99)


def test_groups_are_cut_where_memory_is():
    assert _heat.together([64 * MIB, 32 * MIB], 16, 32 * MIB) == 1
    assert _heat.together([6 * MIB, 3 * MIB], 128, 32 * MIB) == 32
    assert _heat.together([6 * MIB, 3 * MIB], 128, 2 * MIB) == 2
    assert _heat.together([5 * MIB, 3 * MIB], 12, 32 * MIB) == 12


try:
    import torch

    NEW = hasattr(torch.library, "register_fake")  # what vLLM takes
except ImportError:
    NEW = False

if NEW:
    from gpuroom import OutOfMemory, _memory
    from gpuroom.vllm import _experts, _modules, _weights
    from gpuroom.vllm._steps import Kind
    from late_engine import LateEngine

    class Router:
        capture_fn = None

        def set_capture_fn(self, capture_fn):
            self.capture_fn = capture_fn

    class Routed(torch.nn.Module):
        def __init__(self, experts):
            super().__init__()
            self.w13_weight = torch.nn.Parameter(torch.zeros(experts, 8, 16), requires_grad=False)
            self.w2_weight = torch.nn.Parameter(torch.zeros(experts, 16, 4), requires_grad=False)

    class Runner(torch.nn.Module):
        def __init__(self, experts=8):
            super().__init__()
            self.router, self.routed_experts = Router(), Routed(experts)

        def forward(self, hidden_states, ids):
            if self.router.capture_fn is not None:
                self.router.capture_fn(ids)
            gate, up = torch.einsum("thx,tx->th", self.routed_experts.w13_weight[ids], hidden_states).chunk(2, -1)
            return hidden_states + torch.einsum("txh,th->tx", self.routed_experts.w2_weight[ids], torch.tanh(gate) * up)

    class Model(torch.nn.Module):
        """Layers of experts alone. Each token goes to one expert of each layer, to the first ones more often."""

        def __init__(self, layers):
            super().__init__()
            self.layers = torch.nn.ModuleList(Runner() for _ in range(layers))
            torch.manual_seed(1)
            for weight in self.parameters():
                weight.data.normal_()

        def forward(self, input_ids, positions):
            x = torch.sin(torch.outer(input_ids.float(), torch.arange(1.0, 17.0)))
            for layer in self.layers:
                x = layer(x, input_ids * input_ids % 8)
            return x

    class NotedEngine(LateEngine):
        """Notes each copy to HBM: (the address it comes from, the address it goes to)."""

        def __init__(self, eager=False):
            super().__init__(eager)
            self.copies, self.full = [], False

        def fill(self, target, source, after):
            self.copies.append((source.data_ptr(), target.data_ptr()))
            return super().fill(target, source, after)

        def empty(self, count, hint):
            if self.full:
                raise OutOfMemory("full")
            return super().empty(count, hint)

    PIECE, ONE = 256, 768  # bytes: of a chunk, and of one expert


needs_torch = pytest.mark.skipif(not NEW, reason="PyTorch is not installed, or older than any that vLLM takes")


@pytest.fixture
def tiers(monkeypatch):
    """Where each slice was moved to last, by its address; and how often anything moved."""
    where = {}

    def migrate_all(tensors, tier):
        for tensor in tensors:
            where[tensor.data_ptr()] = tier
        return 0

    monkeypatch.setattr(_memory, "migrate_all", migrate_all)
    monkeypatch.setattr(_memory, "hint", lambda tensor, hint: None)
    return where


@needs_torch
def test_routing_is_counted_and_the_hot_experts_come(tiers, monkeypatch):
    monkeypatch.setattr(_experts, "EVERY", 2)
    monkeypatch.setattr(_experts, "MOST", 2 * ONE)
    model, said = torch.nn.ModuleList([Runner(), Runner()]), []
    experts = _experts.Experts(_experts.find(model), said.append, PIECE)
    assert len(experts.groups) == 16 and experts.bytes() == 16 * ONE
    experts.follow()
    experts.settle(8 * ONE)
    assert len(experts.resident) == 8 and "8 lie on the host" in said[0]

    def lie_in_hbm(layer, expert):
        routed = model[layer].routed_experts
        tiers_of = {tiers[tensor[expert].data_ptr()] for tensor in (routed.w13_weight, routed.w2_weight)}
        return tiers_of == {"device"}

    hot = {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}
    moved = 0
    for _ in range(40):
        for layer, ids in hot.items():
            model[layer].router.capture_fn(torch.tensor([ids] * 4, dtype=torch.int32))
        moved += experts.turn()
        assert sum(experts.groups[number].bytes for number in experts.resident) <= 8 * ONE
    assert all(lie_in_hbm(layer, expert) == (expert in hot[layer]) for layer in hot for expert in range(8))
    assert 0 < moved <= 8 * ONE
    resident = set(experts.resident)
    experts.settle(7 * ONE)  # one leaves, and nothing else moves
    assert len(resident - experts.resident) == 1 and not experts.resident - resident
    experts.settle(16 * ONE)
    assert len(experts.resident) == 16


@needs_torch
def test_layers_whose_routing_cannot_be_seen_are_left_alone():
    taken, other, mixed = Runner(), Runner(), Runner()
    taken.router.set_capture_fn(print)
    other.router = object()
    mixed.routed_experts.w2_weight = torch.nn.Parameter(torch.zeros(8, 4, 16).transpose(1, 2), requires_grad=False)
    assert _experts.find(torch.nn.ModuleList([taken, other, mixed])) == []


@needs_torch
def test_layers_of_older_releases_own_their_weights():
    layer = Routed(8)
    layer.router = Router()
    layer.runner = torch.nn.Module()
    layer.runner.router = layer.router
    (found,) = _experts.find(torch.nn.ModuleList([layer]))
    assert found.router is layer.router and found.tensors == [layer.w13_weight, layer.w2_weight]


@needs_torch
def test_experts_have_what_other_weights_leave(tiers, monkeypatch):
    monkeypatch.setattr(_modules, "PLACED", 1)
    monkeypatch.setattr(_experts, "LEAST_PIECE", PIECE)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16, bias=False).requires_grad_(False))
    model.append(Runner())
    said = []
    weights = _weights.Weights(model, LateEngine(), lambda: Kind.PLAIN, said.append)
    weights.settle(1024 + 3 * ONE + 10, None)
    assert len(weights.experts.resident) == 3 and weights.places.staged == () and weights.places.short == 0
    weights.settle(1024 + 8 * ONE, None)
    assert len(weights.experts.resident) == 8


@needs_torch
def test_pieces_are_as_large_as_chunks_are():
    assert [_experts.piece_of(size << 30) >> 20 for size in (1, 8, 16, 80, 141)] == [32, 32, 64, 512, 512]


LAYER = 8 * 768  # bytes of a layer of 8 experts


@pytest.fixture
def followed(tiers, monkeypatch):
    """(model, its weights, its engine, what was said) by how many layers it has and whether copies happen early; the order of a
    step is known. Layers are staged from 64 tokens on."""
    monkeypatch.setattr(_modules, "PLACED", 1)
    monkeypatch.setattr(_experts, "LEAST_PIECE", PIECE)
    monkeypatch.setattr(_experts, "EVERY", 1)
    monkeypatch.setattr(_experts, "TILE", 4)

    def make(layers=6, early=False, kind=lambda: Kind.PLAIN):
        model, engine, said = Model(layers), NotedEngine(early), []
        weights = _weights.Weights(model, engine, kind, said.append)
        run(model, 1)
        return model, weights, engine, said

    return make


def run(model, tokens):
    ids = torch.arange(tokens) * 7 % 1000
    with torch.inference_mode():
        return model(input_ids=ids, positions=ids)


def in_hbm(model, tiers):
    """Bytes of experts that were moved to HBM last."""
    slices = [tensor[one] for layer in model.layers for tensor in layer.routed_experts.parameters() for one in range(8)]
    return sum(one.numel() * 4 for one in slices if tiers[one.data_ptr()] == "device")


@needs_torch
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_steps_of_many_tokens_have_whole_layers_copied_ahead(followed, tiers, early):
    model, weights, engine, said = followed(early=early)
    wanted = {tokens: run(model, tokens) for tokens in (1, 63, 64, 200)}
    weights.settle(3 * LAYER, None)
    assert weights.experts.lender == 0 and weights.staged_from() == 64
    assert said[-1].startswith("steps of 64 tokens or more copy") and "lent by the first one" in said[-1]
    tensors = [list(layer.routed_experts.parameters()) for layer in model.layers]
    homes = [[tensor.data_ptr() for tensor in layer] for layer in tensors]
    order = [(home, homes[0][kind]) for layer in homes[1:] for kind, home in enumerate(layer)]
    for _ in range(3):
        assert torch.equal(run(model, 1), wanted[1]) and torch.equal(run(model, 63), wanted[63]) and engine.copies == []
        for tokens in (64, 200):
            assert torch.equal(run(model, tokens), wanted[tokens])
            assert engine.copies[:-2] == order  # layer after layer, in the place of the first one, which comes back at last
            assert {target for _, target in engine.copies[-2:]} == set(homes[0])
            engine.copies.clear()
        assert [[tensor.data_ptr() for tensor in layer] for layer in tensors] == homes
        weights.experts.turn()
        weights.experts.turn()
        assert in_hbm(model, tiers) <= 3 * LAYER
        assert all(tiers[one.data_ptr()] == "device" for tensor in tensors[0] for one in tensor)
    assert torch.equal(run(model, 200), wanted[200])


@needs_torch
def test_layers_are_not_staged_where_that_costs_too_much_unless_asked_for(followed, tiers):
    model, weights, engine, _ = followed(layers=4)
    weights.settle(LAYER + LAYER // 2, None)
    assert weights.experts.lender is None and weights.staged_from() == 0 and in_hbm(model, tiers) <= LAYER + LAYER // 2
    wanted = run(model, 512)
    assert engine.copies == []
    weights.settle(LAYER + LAYER // 2, 40)
    assert weights.experts.lender == 0 and weights.staged_from() == 40 and in_hbm(model, tiers) <= LAYER + LAYER // 2
    assert torch.equal(run(model, 512), wanted) and len(engine.copies) == 2 * 3 + 2
    weights.settle(4 * LAYER, 40)
    assert weights.experts.lender is None and weights.staged_from() == 0


@needs_torch
def test_without_host_memory_to_save_a_layer_to_experts_are_read_where_they_lie(followed, tiers):
    model, weights, engine, _ = followed()
    engine.full = True
    weights.settle(3 * LAYER, None)
    assert weights.experts.lender is None and weights.staged_from() == 0 and in_hbm(model, tiers) <= 3 * LAYER
    run(model, 512)
    assert engine.copies == []


@needs_torch
def test_each_copy_of_experts_may_fail_once(followed):
    model, weights, engine, _ = followed()
    wanted, fill, failing = run(model, 64), engine.fill, [0]
    weights.settle(3 * LAYER, None)

    def fails(target, source, after):
        failing[0] -= 1
        if failing[0] == 0:
            raise OSError
        return fill(target, source, after)

    engine.fill = fails
    for number in range(1, 2 * 5 + 1):  # those after it bring back what was lent
        failing[0] = number
        with pytest.raises(OSError):
            run(model, 64)
        assert torch.equal(run(model, 64), wanted) and torch.equal(run(model, 63), wanted[:63])


@needs_torch
def test_what_graphs_copy_of_experts_stays_where_it_is(followed, tiers):
    kind = [Kind.PLAIN]
    model, weights, _, _ = followed(kind=lambda: kind[0])
    weights.settle(3 * LAYER, None)
    kind[0] = Kind.WHOLE
    run(model, 64)
    for room in (2 * LAYER, 6 * LAYER):
        weights.settle(room, None)
        assert weights.experts.lender == 0 and weights.staged_from() == 64 and in_hbm(model, tiers) <= room


@needs_torch
def test_layers_of_another_size_are_not_staged(followed):
    model, weights, _, _ = followed()
    assert weights.experts.alike([0, 1, 2]) == [0, 1, 2]
    odd = Runner(16)
    experts = _experts.Experts(_experts.find(torch.nn.ModuleList([odd, Runner(), Runner()])), print, PIECE)
    assert experts.alike([0, 1, 2]) == [1, 2] and experts.alike([]) == []
