"""Orders of few things: how many there are, how far apart two are, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

_Thing = TypeVar("_Thing", bound=Hashable)

MAX_IDEALS = 20_000  # sets that counting goes through before it gives up


def linear_extensions(before: Sequence[int]) -> int:
    """In how many orders things can come of which number i comes after those in the bit mask `before[i]`; 0: too many.

    Counts, for every set that is closed under `before`, the ways to get there; gives up at MAX_IDEALS sets.
    """
    ways = {0: 1}
    total = 0
    for _ in before:
        following: dict[int, int] = {}
        for ideal, count in ways.items():
            for number, mask in enumerate(before):
                if not ideal >> number & 1 and mask & ~ideal == 0:
                    larger = ideal | 1 << number
                    following[larger] = following.get(larger, 0) + count
        total += len(following)
        if total > MAX_IDEALS:
            return 0
        ways = following
    return sum(ways.values())


def inversions(order: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many pairs come the other way round in `other`; what is in one alone counts like as many."""
    place = {each: index for index, each in enumerate(order)}
    known = [place[each] for each in other if each in place]
    alone = len(order) + len(other) - 2 * len(known)
    found = 0
    placed: list[int] = []
    for index in known:
        found += sum(1 for earlier in placed if earlier > index)
        placed.append(index)
    return found + alone * max(len(order), len(other))


def swaps(order: Sequence[_Thing], other: Sequence[_Thing]) -> list[list[_Thing]]:
    """All orders on the way from `order` to `other`, each a swap of two neighbours from the one before (a bubble sort).

    A pair that comes the same way round in both is never swapped.
    """
    place = {each: index for index, each in enumerate(other)}
    now = list(order)
    way = [list(now)]
    changed = True
    while changed:
        changed = False
        for at in range(len(now) - 1):
            if place[now[at]] > place[now[at + 1]]:
                now[at], now[at + 1] = now[at + 1], now[at]
                way.append(list(now))
                changed = True
    return way
