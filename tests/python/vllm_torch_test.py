"""Weights staged in a model of PyTorch's, on the CPU, with copies that happen as late or as early as they may: the results
are the same, in eager mode and where torch.compile has traced the model."""

import importlib.util

import conftest  # noqa: F401  (the package's path)
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is not installed", allow_module_level=True)

import torch  # noqa: E402

if not hasattr(torch.library, "register_fake"):
    pytest.skip("this PyTorch is older than any that vLLM takes", allow_module_level=True)

from gpuroom import _memory  # noqa: E402
from gpuroom._errors import NotFound  # noqa: E402
from gpuroom.vllm import _modules  # noqa: E402
from gpuroom.vllm._steps import Kind  # noqa: E402
from gpuroom.vllm._weights import Weights  # noqa: E402
from late_engine import LateEngine  # noqa: E402

WIDTH, LAYERS, WORDS = 128, 4, 1000


class VocabParallelEmbedding(torch.nn.Embedding):
    pass


class ParallelLMHead(torch.nn.Linear):
    pass


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, rows, columns in (("qkv", 3, 1), ("o", 1, 1), ("up", 8, 1), ("down", 1, 4)):
            setattr(self, name, torch.nn.Linear(columns * WIDTH, rows * WIDTH, bias=False))
        self.norm = torch.nn.LayerNorm(WIDTH)

    def forward(self, x):
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.o(query * torch.sigmoid(key) + value)
        gate, up = self.up(self.norm(x)).chunk(2, -1)
        return x + self.down(torch.nn.functional.silu(gate) * up)


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = VocabParallelEmbedding(WORDS, WIDTH)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return x


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.lm_head = Inner(), ParallelLMHead(WIDTH, WORDS, bias=False)

    def forward(self, input_ids, positions):
        return self.model(input_ids)


@pytest.fixture
def placed(monkeypatch):
    """gpuroom's calls, noted; by (tier, the tensors' addresses)."""
    calls = {}

    def nothing_there(_tensor):
        raise NotFound("not placed")

    def migrate_all(tensors, tier):
        calls[tier] = {tensor.data_ptr() for tensor in tensors}
        return 0

    monkeypatch.setattr(_memory, "describe", nothing_there)
    monkeypatch.setattr(_memory, "hint", lambda tensor, hint: calls.setdefault("hints", {}).update({tensor.data_ptr(): hint}))
    monkeypatch.setattr(_memory, "migrate_all", migrate_all)
    monkeypatch.setattr(_modules, "LEAST", 1 << 14)
    monkeypatch.setattr(_modules, "PLACED", 1 << 13)
    return calls


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_staged_steps_give_the_same_results(placed, compiled, early):
    torch.manual_seed(0)
    model, ids = Model().requires_grad_(False), torch.arange(64) * 7 % WORDS
    engine, said = LateEngine(early), []
    weights = Weights(model, engine, lambda: Kind.PLAIN, said.append)
    if compiled:
        model.model.forward = torch.compile(model.model.forward, dynamic=True, fullgraph=True, backend="eager")

    def run(count=64):
        with torch.inference_mode():
            return model(input_ids=ids[:count], positions=ids[:count])

    wanted = run()
    total = sum(_modules.bytes_of(weight) for weight in model.parameters())
    for share in (0.9, 0.6, 0.4):
        fills = engine.fills
        weights.settle(int(total * share), 32)
        assert weights.places.staged and weights.places.short == 0
        assert torch.equal(run(), wanted) and torch.equal(run(), wanted)
        copies = 2 * (len(weights.places.staged) + len(weights.places.ring.lent))
        assert engine.fills == fills + copies
        run(31)
        assert engine.fills == fills + copies
        for weight in model.parameters():  # as vLLM loads weights anew, which no version counter notices
            weight.data.mul_(1.01)
        weights._steps.tokens = 1 << 30
        wanted = run()
        weights._steps.tokens = 32
        assert torch.equal(run(), wanted)
        assert "lie on the host" in said[-1] and ("lent by" in said[-1]) == bool(weights.places.ring.lent)
    assert weights.places.ring.lent and weights.buffer_bytes() == 0


def test_what_leaves_hbm(placed):
    model, ids = Model().requires_grad_(False), torch.arange(8)
    weights = Weights(model, LateEngine(), lambda: Kind.PLAIN, print)
    model(input_ids=ids, positions=ids)
    total = sum(_modules.bytes_of(weight) for weight in weights._large)
    weights.settle(total - 1, 32)
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    assert placed["host"] == {embedding.data_ptr()} and head.data_ptr() in placed["device"]
    weights.settle(total // 2, 32)
    assert len(placed["host"]) == 1 + len(weights.places.staged) and head.data_ptr() in placed["device"]
    weights.settle(total, 32)
    assert placed["host"] == set()


def test_weights_that_lend_are_the_last_to_give_way(placed):
    model, ids = Model().requires_grad_(False), torch.arange(8)
    weights = Weights(model, LateEngine(), lambda: Kind.PLAIN, print)
    model(input_ids=ids, positions=ids)
    total = sum(_modules.bytes_of(weight) for weight in weights._large)
    for share in (0.5, 0.8):  # what lent before and does not now is as others are
        weights.settle(int(total * share), 32)
        lent = {weights._listed[number][1].data_ptr() for number in weights.places.ring.lent}
        assert lent and {at for at, hint in placed["hints"].items() if hint == "hot"} == lent
        assert {at for at, hint in placed["hints"].items() if hint == "cold"} == placed["host"]


def test_what_graphs_copy_stays_where_it_is(placed):
    model, ids, kind = Model().requires_grad_(False), torch.arange(8), [Kind.PLAIN]
    weights = Weights(model, LateEngine(), lambda: kind[0], print)
    model(input_ids=ids, positions=ids)
    total = sum(_modules.bytes_of(weight) for weight in weights._large)
    weights.settle(total // 2, 1)
    kind[0], places, backup, host = Kind.WHOLE, weights.places, weights._backup, placed["host"]
    model(input_ids=ids, positions=ids)
    for room in (total // 3, total):
        weights.settle(room, 1)
        assert weights.places is places and weights._backup is backup
        assert host >= placed["host"] and len(placed["host"]) == len(places.staged) + len(places.read_in_place)


def test_weights_that_modules_share_stay(placed):
    model = Model().requires_grad_(False)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert all(not unit.by_row for unit in _modules.find(model))
