"""The plug-in's numbers: how large the KV cache is, which weights leave HBM, and how the ring of buffers is laid out."""

import dataclasses
import random
import types

import conftest  # noqa: F401  (the package's path)
import pytest
from gpuroom import InvalidArgument
from gpuroom.vllm import _account, _budget, _placing, _settings, _worker
from gpuroom.vllm._budget import Measured
from gpuroom.vllm._placing import Weight, lay_out, place, ring_for

GIB, MIB = 1 << 30, 1 << 20


def measured(told, requested, hbm, one=GIB, utilization=0.9, free=None):
    return Measured(told=told, requested=requested, utilization=utilization, one_request=one, hbm=hbm,
                    hbm_free=hbm if free is None else free)  # fmt: skip


def test_kv_is_as_if_hbm_were_all_there_is():
    # 100 GiB of HBM and 300 of host memory: vLLM asks for 360, of which 10 are weights and activations.
    decision = _budget.kv_cache(measured(told=350 * GIB, requested=360 * GIB, hbm=100 * GIB))
    assert decision.bytes == 80 * GIB


def test_kv_without_host_memory_is_vllms_own():
    assert _budget.kv_cache(measured(told=80 * GIB, requested=90 * GIB, hbm=100 * GIB)).bytes == 80 * GIB


def test_kv_is_enough_for_one_request_also_where_weights_have_to_leave():
    decision = _budget.kv_cache(measured(told=30 * GIB, requested=41 * GIB, hbm=8 * GIB, one=2 * GIB + 5))
    assert decision.bytes == 2 * GIB + 5 and "weights leave HBM" in decision.why


def test_kv_of_more_than_all_memory_is_left_to_vllm_to_refuse():
    assert _budget.kv_cache(measured(told=3 * GIB, requested=41 * GIB, hbm=8 * GIB, one=4 * GIB)).bytes == 3 * GIB


def test_hbm_that_others_use_is_not_counted():
    decision = _budget.kv_cache(measured(told=350 * GIB, requested=360 * GIB, hbm=100 * GIB, free=50 * GIB))
    assert decision.bytes == 40 * GIB


def test_preflight():
    assert _budget.request(free=400, requested=360, hbm=100, utilization=0.9) == 360
    assert _budget.request(free=300, requested=360, hbm=100, utilization=0.9) == 300
    assert _budget.request(free=89, requested=360, hbm=100, utilization=0.9) == 0


def llama(layers=24, embedding=250 * MIB):
    weights = [Weight(embedding, 0, by_row=True)]
    for layer in range(layers):
        for part, size in enumerate((48, 32, 224, 112)):
            weights.append(Weight(size * MIB, 1 + 4 * layer + part))
    return weights


def check(weights, room, places):
    """In HBM lies no more than there is room for, the ring included, and the ring is right."""
    away = places.staged + places.read_in_place
    resident = sum(weight.bytes for number, weight in enumerate(weights) if number not in away)
    assert resident + places.ring.bytes <= room + places.short
    assert list(places.staged) == sorted(set(places.staged)) and not set(places.staged) & set(places.read_in_place)
    lent = places.ring.lent
    assert not set(lent) & set(away) and (not lent or max(lent) < min(places.staged))
    check_ring([weights[number] for number in places.staged], places.ring, [weights[number] for number in lent])


def check_ring(staged, ring, lent=()):
    """Whoever comes into a place waits for the last one that was there, and never for its own unit."""
    assert len(ring.places) == len(ring.after) == len(staged) and len(ring.back) == len(ring.lent) == len(lent)
    users = [(piece, 0, size) for piece, size in enumerate(ring.sizes[: len(lent)])]
    for weight, (piece, begin), after in zip(staged, ring.places, ring.after):
        end = begin + weight.bytes
        assert begin % _placing.ALIGNMENT == 0 and end <= ring.sizes[piece]
        before = [k for k, (other, low, high) in enumerate(users) if other == piece and low < end and begin < high]
        assert after == (before[-1] if before else None)
        assert not before or (list(lent) + list(staged))[before[-1]].unit != weight.unit
        users.append((piece, begin, end))
    for piece, last in enumerate(ring.back):
        assert last == max(number for number, user in enumerate(users) if user[0] == piece) >= len(lent)


def test_what_fits_stays():
    weights = llama()
    places = place(weights, sum(weight.bytes for weight in weights))
    assert places == _placing.Places((), (), _placing.NO_RING)


def test_an_embedding_leaves_first_and_is_not_staged():
    weights = llama()
    places = place(weights, sum(weight.bytes for weight in weights) - 200 * MIB)
    assert places.read_in_place == (0,) and places.staged == ()


@pytest.mark.parametrize("room", (9800, 6300, 3000))
def test_a_llama_in_less_and_less_hbm(room):
    weights = llama()
    places = place(weights, room * MIB, lend=False)
    check(weights, room * MIB, places)
    assert places.short == 0 and places.read_in_place == (0,)
    out = sum(weights[number].bytes for number in places.staged)
    missing = sum(weight.bytes for weight in weights[1:]) - room * MIB
    assert out <= missing + places.ring.bytes + 224 * MIB  # no more than one weight too many
    assert places.ring.bytes <= 3 * max(weights[number].bytes for number in places.staged)
    # Copies wait for buffers during a thirtieth of the time, unless computing takes longer; each third of the layers has its share.
    computing = _placing.COMPUTE_SHARE * sum(weight.bytes for weight in weights[1:])
    assert places.time <= max(1.03 * out, computing) + 224 * MIB * _placing.COMPUTE_SHARE
    thirds = [sum(weights[n].bytes for n in places.staged if part <= (weights[n].unit - 1) // 32 < part + 1) for part in range(3)]
    assert max(thirds) - min(thirds) <= 2 * 224 * MIB


def test_no_more_leaves_than_has_to():
    weights = llama()
    whole = sum(weight.bytes for weight in weights[1:])
    for spare in range(0, 112, 16):  # one weight more or less of the size that is staged most is 112 MiB
        room = whole - (3964 - spare) * MIB
        places = place(weights, room, lend=False)
        check(weights, room, places)
        out = sum(weights[number].bytes for number in places.staged)
        assert out - (whole - room + places.ring.bytes) < 32 * MIB


def test_a_ring_that_is_there_stays_as_large_as_it_is():
    weights = llama()
    first = place(weights, 6300 * MIB, lend=False)
    for room in (9900, 6400, 6200, 5000, 600):
        places = place(weights, room * MIB, first.ring.bytes, lend=False)
        away = places.staged + places.read_in_place
        resident = sum(weight.bytes for number, weight in enumerate(weights) if number not in away)
        assert resident + first.ring.bytes <= room * MIB + places.short
        assert places.short == 0 or len(away) == len(weights)
        assert places.ring.bytes in (0, first.ring.bytes)
        check_ring([weights[number] for number in places.staged], places.ring)


@pytest.mark.parametrize("room", (9800, 8000, 6600, 6300, 3000))
def test_a_ring_of_lent_memory_takes_no_hbm(room):
    weights = llama()
    own, places = place(weights, room * MIB, lend=False), place(weights, room * MIB)
    check(weights, room * MIB, places)
    assert places.ring.lent and places.ring.bytes == 0 and places.short == 0 and places.read_in_place == (0,)
    staged = sum(weights[number].bytes for number in places.staged)
    missing = sum(weight.bytes for weight in weights[1:]) - room * MIB
    assert missing <= staged < missing + 112 * MIB  # no more than one weight of the usual size too many
    assert staged + own.ring.bytes <= sum(weights[number].bytes for number in own.staged) + 112 * MIB
    # What is brought back after a step takes a tenth of its time.
    assert places.ring.lent_bytes <= 2 * 224 * MIB and places.time < 1.12 * own.time + 112 * MIB


def staged_in_layers(weights, part, count):
    """The numbers of `count` weights that are the `part`th of their layer, spread evenly over all layers but the first."""
    alike = [number for number, weight in enumerate(weights) if weight.unit > 4 and (weight.unit - 1) % 4 == part]
    return _placing.evenly(weights, alike, count * weights[alike[0]].bytes)


def test_two_weights_lend_where_a_ring_of_one_was_slower_on_a_gpu():
    # One H200, steps of 2048 tokens: 25,050 tokens a second through 336 MiB that two weights lent, 22,976 through 224 MiB of one.
    weights = llama()
    lent, times = (3, 4), []
    for parts, count in (({0: 8, 1: 22, 3: 23}, 2), ({0: 23, 1: 23, 3: 16}, 1)):
        picked = sorted(number for part, number_of in parts.items() for number in staged_in_layers(weights, part, number_of))
        sizes = [weights[number].bytes for number in lent[:count]]
        ring = lay_out([weights[number] for number in picked], sizes, lent[:count])
        times.append(_placing.step_time(weights, picked, ring))
    assert times[0] < 0.95 * times[1]
    whole = sum(weight.bytes for weight in weights[1:])
    for staged in (3624, 3632, 3656):  # MiB that have no room: what was staged on those two days
        places = place(weights, whole - staged * MIB)
        assert [size // MIB for size in places.ring.sizes] == [224, 112]


def test_a_buffer_that_is_there_gives_way_to_lent_memory():
    weights = llama()
    own = place(weights, 6300 * MIB, lend=False)
    assert place(weights, 6300 * MIB, own.ring.bytes) == place(weights, 6300 * MIB)
    for weight_bytes in (0, 1):  # without weights that others may come into the place of, it stays
        there = [dataclasses.replace(weight, aligned=False) for weight in weights]
        places = place(there, 6300 * MIB + weight_bytes, own.ring.bytes)
        assert places.ring.lent == () and places.ring.sizes == own.ring.sizes


def test_weights_that_cannot_be_staged_leave_last():
    weights = [Weight(weight.bytes, weight.unit, weight.by_row, stageable=weight.unit % 2 == 0) for weight in llama()]
    some = place(weights, 8000 * MIB)
    assert some.staged and some.read_in_place == (0,) and some.short == 0
    places = place(weights, 1000 * MIB)
    assert len(places.staged) == 48 and 1 < len(places.read_in_place) < 49 and places.short == 0
    check(weights, 1000 * MIB, places)
    none = place([dataclasses.replace(weight, stageable=False) for weight in weights], 6000 * MIB)
    assert none.staged == () and none.ring == _placing.NO_RING and none.short == 0 and len(none.read_in_place) > 30


def test_the_reserve_is_not_counted_twice():
    assert _budget.room_for_weights(6000 * MIB, 900 * MIB, 0, 300 * MIB) == (6000 + 900 - 300 - 64) * MIB
    assert _budget.room_for_weights(6000 * MIB, 700 * MIB, 200 * MIB, 300 * MIB) == (6000 + 700 - 300 - 32) * MIB
    assert _budget.room_for_weights(6000 * MIB, 700 * MIB, 200 * MIB, 300 * MIB, 0) == (6000 + 700 - 300) * MIB


def test_the_parts_of_hbm_are_all_of_it():
    account = _account.Account(total=8192 * MIB, used=7500 * MIB, reserve=256 * MIB, free=436 * MIB, weights=6300 * MIB, buffer=0,
                               kv=1024 * MIB, reserved=11700 * MIB, allocated=11660 * MIB, known=11600 * MIB, activations=300 * MIB,
                               tensors=210 * MIB)  # fmt: skip
    text = _account.sentence(account)
    whole, parts = text.split("; ")[0].split(" MiB = ")
    assert whole == "HBM 8,192" and sum(int(part.split()[-1].replace(",", "")) for part in parts.split(" + ")) == 8192
    assert "other tensors 60 + unused parts of PyTorch's segments 40 + small weights and libraries 76 " in text
    assert text.endswith("the largest step takes 300 of what is free, its tensors 210")


def test_too_little_room_for_anything_says_how_much_is_short():
    weights = llama(layers=2)
    places = place(weights, 100 * MIB)
    assert places.short > 0 and len(places.staged) == 8
    check(weights, 100 * MIB, places)


def test_random_models():
    pick = random.Random(7)
    for _ in range(20):
        weights, unit = [], 0
        for _ in range(pick.randrange(1, 16)):
            unit += 1
            for _ in range(pick.choice((1, 1, 2))):
                weights.append(Weight(pick.choice((20, 33, 64, 100)) * MIB + pick.randrange(2), unit, pick.random() < 0.05))
        room = pick.randrange(sum(weight.bytes for weight in weights))
        check(weights, room, place(weights, room, lend=pick.random() < 0.5))


def test_weights_of_one_unit_never_share_a_place():
    pair = [Weight(10 * MIB, 0), Weight(10 * MIB, 0), Weight(10 * MIB, 1), Weight(10 * MIB, 1)]
    assert lay_out(pair, [10 * MIB]) is None
    check_ring(pair, ring_for(pair, range(len(pair))))
    assert ring_for(pair, range(len(pair))).bytes >= 20 * MIB


@pytest.mark.parametrize("environment,kv,stage,tokens", [
    ({}, True, True, None),
    ({"GPUROOM_VLLM_KV": "all"}, False, False, None),
    ({"VLLM_KV_CACHE_USE_MANAGED_MEMORY": "1"}, False, False, None),
    ({"GPUROOM_VLLM_STAGE": "off"}, True, False, None),
    ({"GPUROOM_VLLM_STAGE": "512", "GPUROOM_VLLM_KV": "hbm"}, True, True, 512),
])  # fmt: skip
def test_settings(environment, kv, stage, tokens):
    read = _settings.read(environment)
    assert (read.cap_kv, read.stage, read.stage_from) == (kv, stage, tokens)


@pytest.mark.parametrize("environment", [{"GPUROOM_VLLM_KV": "host"}, {"GPUROOM_VLLM_STAGE": "-1"}, {"GPUROOM_VLLM_STAGE": "on"},
                                         {"GPUROOM_VLLM_KV_OFFLOAD": "1"}])  # fmt: skip
def test_bad_settings_are_one_sentence(environment):
    with pytest.raises(InvalidArgument) as raised:
        _settings.read(environment)
    (name,) = environment
    assert str(raised.value).startswith(f"{name} is '{environment[name]}'; write ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("sizes,tokens,left", [
    ([1, 8, 128, 184, 192, 512], 192, [1, 8, 128, 184]),
    ([1, 8, 16], 192, [1, 8, 16]),
    ([256, 512], 192, [256, 512]),  # no graphs at all would be another mode
    ([], 192, []),
    (None, 192, None),
    ([1, 512], 0, [1, 512]),  # nothing is staged
])  # fmt: skip
def test_steps_that_are_to_be_staged_are_no_cuda_graphs(sizes, tokens, left):
    most = max(sizes) if sizes else 0
    config = types.SimpleNamespace(cudagraph_capture_sizes=sizes, max_cudagraph_capture_size=most)
    _worker._capture_fewer(config, tokens)
    assert config.cudagraph_capture_sizes == left
    assert config.max_cudagraph_capture_size == (max(left) if left else most)


def test_who_gets_the_plug_in():
    assert not _settings.wanted({}) and not _settings.wanted({"GPUROOM_VLLM": "0"}) and _settings.wanted({"GPUROOM_VLLM": "1"})
    assert not _settings.wanted({"LD_PRELOAD": "/x/libgpuroom.so"})  # it is not in this process
    with pytest.raises(InvalidArgument):
        _settings.wanted({"GPUROOM_VLLM": "yes"})
