"""All that something waits for, directly or not, and what is at the bottom of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.debugger.questions.waits import Wait, Waits


@dataclass(frozen=True)
class Blocked:
    """All that `start` waits for, directly or not.

    `came` leads from each wait one step nearer to the start; `roots` are the root causes, nearest first; `cycles` those among
    them that wait for each other.
    """

    start: Wait
    came: Mapping[Wait, Wait]
    roots: tuple[Wait, ...]
    cycles: tuple[tuple[Wait, ...], ...]

    def way(self, wait: Wait) -> list[Wait]:
        """The waits between the start and `wait`, with `wait` and without the start, nearest to the start first."""
        found = []
        while wait != self.start:
            found.append(wait)
            wait = self.came[wait]
        return found[::-1]


def trace(waits: Waits, start: Wait) -> Blocked:
    """Everything that `start` waits for, breadth first."""
    came: dict[Wait, Wait] = {start: start}
    following: dict[Wait, list[Wait]] = {}
    queue = deque([start])
    roots = []
    while queue:
        wait = queue.popleft()
        after = following[wait] = waits.of(wait)
        if not after:
            roots.append(wait)
        for each in after:
            if each not in came:
                came[each] = wait
                queue.append(each)
    del came[start]
    cycles = _closed(following) if waits.may_circle else ()
    if cycles:
        order = {wait: i for i, wait in enumerate(following)}
        roots = sorted([*roots, *(wait for cycle in cycles for wait in cycle)], key=order.__getitem__)
    return Blocked(start, came, tuple(roots), cycles)


def _closed(following: Mapping[Wait, Sequence[Wait]]) -> tuple[tuple[Wait, ...], ...]:
    """The sets of waits that wait for each other and for nothing else: Tarjan's components that no edge leaves."""
    number: dict[Wait, int] = {}
    low: dict[Wait, int] = {}
    stack: list[Wait] = []
    home: dict[Wait, int] = {}
    found: list[tuple[Wait, ...]] = []
    for first in following:
        if first in number:
            continue
        number[first] = low[first] = len(number)
        stack.append(first)
        work = [(first, iter(following[first]))]
        while work:
            wait, rest = work[-1]
            for each in rest:
                if each not in number:
                    number[each] = low[each] = len(number)
                    stack.append(each)
                    work.append((each, iter(following[each])))
                    break
                if each not in home:
                    low[wait] = min(low[wait], number[each])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[wait])
                if low[wait] == number[wait]:
                    members: list[Wait] = []
                    while not members or members[-1] != wait:
                        members.append(stack.pop())
                        home[members[-1]] = number[wait]
                    leaves = any(home[after] != number[wait] for each in members for after in following[each])
                    if len(members) > 1 and not leaves:
                        found.append(tuple(reversed(members)))
    return tuple(found)
