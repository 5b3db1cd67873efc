"""What stays in HBM and what is streamed: the plan keeps its budget, spreads evenly, and says when it cannot."""

import random

import pytest
from gpuroom._errors import InvalidArgument
from gpuroom._stream_plan import DIRECT, RESIDENT, SMALL, STREAMED, Unit, plan, spread

MIB = 1 << 20
GIB = 1 << 30


def blocks(count, size=400 * MIB):
    return [Unit(f"layer{i}", size) for i in range(count)]


def llama(layers=30):
    """A table, equal blocks, a small norm and a large head, as a decoder has them."""
    return [Unit("embed", 250 * MIB, stageable=False, dense=False), *blocks(layers), Unit("norm", 8192),
            Unit("head", 250 * MIB)]


def places(units, result, place):
    return [unit.name for unit, own in zip(units, result.places) if own == place]


def test_what_fits_stays_and_nothing_is_staged():
    result = plan(blocks(4), 1600 * MIB)
    assert set(result.places) == {RESIDENT} and result.slots == 0 and result.staging_bytes == 0


def test_where_little_is_missing_it_is_read_in_place():
    """The staging area would push three more units out."""
    result = plan(blocks(8), 8 * 400 * MIB - 1)
    assert result.places.count(DIRECT) == 1 and result.slots == 0
    assert result.resident_bytes == 7 * 400 * MIB


def test_a_model_of_twice_the_budget_streams():
    result = plan(blocks(30), 15 * 400 * MIB)
    assert result.slots == 3 and result.slot_bytes == 400 * MIB
    assert result.places.count(STREAMED) == 18 and result.places.count(RESIDENT) == 12


def test_equal_blocks_are_spread_evenly():
    stays = spread([7] * 12, 7 * 4)
    assert stays.count(True) == 4
    gaps = [index for index, value in enumerate(stays) if value]
    assert {after - before for before, after in zip(gaps, gaps[1:])} == {3}


@pytest.mark.parametrize("count,room", [(10, 3), (10, 7), (33, 5), (33, 29), (100, 50)])
def test_runs_of_streamed_blocks_differ_by_one_at_most(count, room):
    stays = spread([5] * count, 5 * room)
    assert stays.count(True) == room
    around = stays[stays.index(True):] + stays[:stays.index(True)]  # passes follow each other
    runs = "".join("R" if value else "s" for value in around).replace("R", " R").split()
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_a_table_is_read_by_row_and_the_last_to_take_hbm():
    units = llama()
    result = plan(units, 6 * GIB)
    assert places(units, result, DIRECT) == ["embed"]
    assert "norm" in places(units, result, RESIDENT)
    roomy = plan(units, sum(unit.bytes for unit in units) - 100 * MIB)
    assert places(units, roomy, DIRECT) == ["embed"] and not places(units, roomy, STREAMED)


def test_a_large_head_does_not_blow_up_the_buffers():
    units = [*blocks(30), Unit("head", 4 * GIB)]
    result = plan(units, 8 * GIB)
    assert result.slot_bytes == 400 * MIB
    assert places(units, result, RESIDENT)[-1] == "head"


def test_what_cannot_be_staged_stays_or_is_read_in_place():
    units = [*blocks(10), Unit("tied", 300 * MIB, stageable=False)]
    assert plan(units, 2 * GIB).places[-1] == RESIDENT
    units = [*blocks(10), Unit("tied", 3 * GIB, stageable=False)]
    assert plan(units, 2 * GIB).places[-1] == DIRECT


def test_fewer_are_fetched_ahead_where_the_buffers_do_not_fit():
    assert plan(blocks(10), 3 * 400 * MIB, prefetch=5).slots == 3
    assert plan(blocks(10), 2 * 400 * MIB, prefetch=5).slots == 2


def test_too_small_a_budget_is_named_with_the_fix():
    with pytest.raises(InvalidArgument, match=r"hbm is 500\.00 MiB.*at least 800\.00 MiB"):
        plan(blocks(10), 500 * MIB)
    with pytest.raises(InvalidArgument, match="prefetch is 0; use 1 or more"):
        plan(blocks(10), 2 * GIB, prefetch=0)


def test_only_small_units():
    units = [Unit(f"n{i}", SMALL // 2) for i in range(10)]
    result = plan(units, 5 * SMALL // 2)
    assert result.places.count(RESIDENT) == 5 and result.places.count(DIRECT) == 5 and result.slots == 0


def test_any_model_keeps_its_budget():
    pick = random.Random(5)
    tried = 0
    for _ in range(3000):
        sizes = [pick.choice([pick.randrange(1, 2 * SMALL), 10 * SMALL, pick.randrange(SMALL, 100 * SMALL)])
                 for _ in range(pick.randrange(1, 40))]
        units = [Unit(str(i), size, pick.random() < 0.8, pick.random() < 0.9) for i, size in enumerate(sizes)]
        budget, prefetch = pick.randrange(0, sum(sizes) + SMALL), pick.randrange(1, 5)
        try:
            result = plan(units, budget, prefetch)
        except InvalidArgument:
            stageable = [unit.bytes for unit in units if unit.stageable and unit.bytes >= SMALL]
            assert stageable and budget < 2 * max(stageable)
            continue
        tried += 1
        check(units, result, budget, prefetch)
    assert tried > 2000


def check(units, result, budget, prefetch):
    assert len(result.places) == len(units)
    assert result.resident_bytes + result.staging_bytes <= budget
    assert result.resident_bytes + result.streamed_bytes + result.direct_bytes == sum(unit.bytes for unit in units)
    streamed = [unit for unit, place in zip(units, result.places) if place == STREAMED]
    assert all(unit.stageable and unit.dense and SMALL <= unit.bytes <= result.slot_bytes for unit in streamed)
    assert (2 <= result.slots <= prefetch + 1) if streamed else result.slots == 0
