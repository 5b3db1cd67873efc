"""Which experts are to lie in HBM, by how often tokens were routed to them. Pure: counts in, moves out.

The unit is a group of experts of one layer that lie side by side, one expert where memory can be moved in pieces as small. A
group's heat is the tokens that were routed to it, older ones counting less. What is hotter than what lies in HBM takes its
place, if it is hotter by enough: routing is noisy, and a move costs as much as many reads.
"""

from __future__ import annotations

import dataclasses
from typing import AbstractSet, List, Sequence, Set, Tuple

DECAY = 0.8  # of the heat so far, with each new look at the counts
HOTTER = 1.5  # times as hot as what is to leave for it
LEAST = 8.0  # tokens: what is rarer is no reason to move anything
LEAST_LEFT = 0.75  # of the HBM that other layers could have is left to them where one layer lies in HBM whole


@dataclasses.dataclass
class Group:
    """`bytes` of all its weights."""

    bytes: int
    heat: float = 0.0


def cool(groups: Sequence[Group], tokens: Sequence[float]) -> None:
    """Takes the tokens that were routed to each group since the last time."""
    for group, count in zip(groups, tokens):
        group.heat = group.heat * DECAY + count


def plan(
    groups: Sequence[Group], resident: Set[int], room: int, most: int, pinned: AbstractSet[int] = frozenset()
) -> Tuple[List[int], List[int]]:
    """(groups that leave HBM, groups that come), of at most `most` bytes that come. `room` is the HBM for all groups, in
    which those of `resident` lie; hottest a byte first. Those of `pinned` stay where they are."""
    free = room - sum(groups[number].bytes for number in resident)
    staying = sorted(resident - pinned, key=lambda number: _density(groups[number]))  # coldest first
    leave: List[int] = []
    come: List[int] = []
    moved = 0
    for number in sorted(set(range(len(groups))) - resident - pinned, key=lambda one: -_density(groups[one])):
        group = groups[number]
        if group.heat < LEAST or moved + group.bytes > most:
            break
        needed, cost, taken = group.bytes - free, 0.0, 0
        while needed > 0 and taken < len(staying):
            needed -= groups[staying[taken]].bytes
            cost += groups[staying[taken]].heat
            taken += 1
        if needed > 0 or group.heat < HOTTER * cost:
            break
        leave += staying[:taken]
        free += sum(groups[one].bytes for one in staying[:taken]) - group.bytes
        staying = staying[taken:]
        come.append(number)
        moved += group.bytes
    return leave, come


def _density(group: Group) -> float:
    return group.heat / max(1, group.bytes)


def first(groups: Sequence[Group], room: int, pinned: AbstractSet[int] = frozenset()) -> Set[int]:
    """Before anything is known: those of `pinned`, and as many others as there is room for, spread evenly over the layers."""
    resident: Set[int] = set(pinned)
    total, due = sum(group.bytes for group in groups), 0.0
    left = room - sum(groups[number].bytes for number in pinned)
    share = left / max(1, total - room + left)
    for number, group in enumerate(groups):
        if number in pinned:
            continue
        due += share
        if due >= 0.5 and group.bytes <= left:
            resident.add(number)
            left -= group.bytes
            due -= 1.0
    return resident


def may_lend(layer: int, total: int, room: int) -> bool:
    """Whether one layer of `layer` bytes may lie in the `room` bytes of HBM for all `total` bytes of experts, hot or not, so that
    others can be staged in its place: it takes the place of the other layers' hot experts."""
    return layer <= room < total and (room - layer) * total >= LEAST_LEFT * room * (total - layer)


def together(expert_bytes: Sequence[int], experts: int, piece: int) -> int:
    """How many experts make one group, so that each of their tensors (with `expert_bytes` for one expert) is cut at multiples
    of `piece` bytes, by which memory moves. `experts` where nothing less does."""
    for count in range(1, experts):
        if experts % count == 0 and all(count * one % piece == 0 for one in expert_bytes):
            return count
    return experts
