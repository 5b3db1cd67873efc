"""Guessing the next unit, and handing out staging buffers."""

import random

from gpuroom._stream_order import Order, Ring


def run(order, sequence, count=2):
    """What was foreseen before each use."""
    guesses = []
    for unit in sequence:
        guesses.append(order.ahead(count))
        order.observe(unit)
    return guesses


def test_the_first_guess_is_the_order_of_the_numbers():
    assert Order(5).ahead(3) == [0, 1, 2]
    order = Order(5)
    order.observe(3)
    assert order.ahead(3) == [4, 0, 1]


def test_another_order_is_learned_in_one_pass():
    order, pass_ = Order(4), [2, 0, 3, 1]
    run(order, pass_ + pass_[:1])
    guesses = run(order, pass_[1:] + pass_)
    assert all(guess[0] == unit for guess, unit in zip(guesses, pass_[1:] + pass_))


def test_a_unit_that_is_used_twice_a_pass_does_not_confuse_it():
    order, pass_ = Order(3), [0, 1, 0, 2]
    run(order, pass_ * 2)
    guesses = run(order, pass_ * 2, count=1)
    assert [guess[0] for guess in guesses] == pass_ * 2


def test_one_unit_again_and_again_foresees_nothing_else_than_others():
    order = Order(2)
    run(order, [1, 1, 1, 1])
    assert 1 not in order.ahead(2)
    assert Order(1).ahead(2) == [0]
    only = Order(1)
    only.observe(0)
    assert only.ahead(2) == []


def test_guesses_are_different_units_and_never_the_one_in_use():
    pick = random.Random(2)
    order = Order(6)
    for _ in range(2000):
        unit = pick.randrange(6)
        order.observe(unit)
        ahead = order.ahead(4)
        assert unit not in ahead and len(set(ahead)) == len(ahead) <= 4


def test_an_empty_buffer_first_then_the_one_unused_for_longest():
    ring = Ring(3)
    for unit in range(3):
        slot = ring.spare([], urgent=False)
        assert slot.unit is None
        slot.unit = unit
        ring.touch(slot)
    assert ring.spare([], urgent=False).unit == 0
    ring.touch(ring.find(0))
    assert ring.spare([], urgent=False).unit == 1
    assert ring.find(7) is None


def test_what_is_needed_soon_is_given_up_only_in_need_and_the_last_of_it():
    ring = Ring(2)
    for slot, unit in zip(ring.slots, (4, 5)):
        slot.unit = unit
    assert ring.spare([4, 5], urgent=False) is None
    assert ring.spare([4, 5], urgent=True).unit == 5
    assert ring.spare([5, 4], urgent=True).unit == 4


def test_what_is_in_use_is_never_given_away():
    ring = Ring(2)
    for slot, unit in zip(ring.slots, (4, 5)):
        slot.unit, slot.held = unit, True
    assert ring.spare([], urgent=True) is None
    ring.slots[1].held = False
    assert ring.spare([], urgent=True).unit == 5
