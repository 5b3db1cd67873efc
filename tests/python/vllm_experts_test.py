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
    from gpuroom import _memory
    from gpuroom.vllm import _experts, _weights
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
    from gpuroom.vllm import _modules

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
