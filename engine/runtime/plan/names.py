"""Which values may share a place: a value's place is free again behind its last use.

The walk gives every instruction a position in the text.  A value lives from where it is made to its last use; a use inside of a
loop that it is older than counts until the loop's end, since the next iteration needs it again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from engine.runtime.plan.ir import Block, Instruction, Linear, Loop, blocks_of, reads, writes


@dataclass(slots=True)
class Lives:
    """When values live.

    `place[v]` numbers the place of value v (of `places`), -1 for one that is never made.  `ends[id(i)]` are the values that
    nobody needs once instruction i is over, of those made in the block in which i is.
    """

    place: list[int]
    places: int
    ends: dict[int, list[int]]
    made: list[int]
    last: list[int]


@dataclass(slots=True)
class _Walk:
    made: list[int]
    last: list[int]
    home: list[int]  # the block in which a value is made
    at: int = 0
    blocks: int = 0
    loops: list[tuple[int, list[int]]] = field(
        default_factory=list
    )  # (start, values used inside that are older)
    path: list[tuple[int, Instruction | None]] = field(
        default_factory=list
    )  # the blocks around, and where we are in each
    last_in: dict[int, int] = field(
        default_factory=dict
    )  # value -> id of the last instruction of its home that needs it
    over: dict[int, int] = field(
        default_factory=dict
    )  # id of an instruction -> the position at which it is over

    def block(self, block: Block) -> None:
        self.blocks += 1
        here = self.blocks
        self.path.append((here, None))
        for each in block.code:
            self.path[-1] = (here, each)
            self.at += 1
            if isinstance(each, Loop):
                self._loop(each)
            else:
                for value in reads(each):
                    self._use(value)
                for inner in blocks_of(each):
                    self.block(inner)
                for value in writes(each):
                    self._make(value)
            self.over[id(each)] = self.at
        self.path.pop()

    def _loop(self, loop: Loop) -> None:
        for _, source in loop.inits:
            self._use(source)
        for value in writes(loop):
            self._make(value)
        start = self.at
        self.at += 1
        older: list[int] = []
        self.loops.append((start, older))
        self.block(loop.cond)
        self.at += 1
        if loop.test is not None:
            self._use(loop.predicate)
        self.block(loop.body)
        self.at += 1
        for _, source in loop.nexts:
            self._use(source)
        self.loops.pop()
        for value in (*older, *writes(loop)):
            self._use(value)
        self.at += 1
        self.block(loop.after)

    def _make(self, value: int) -> None:
        if self.made[value] < 0:
            self.made[value] = self.at
            self.home[value] = self.path[-1][0]
        self.last[value] = max(self.last[value], self.at)
        self._end(value)

    def _use(self, value: int) -> None:
        self.last[value] = max(self.last[value], self.at)
        for start, older in self.loops:
            if self.made[value] <= start:
                older.append(value)
                break
        self._end(value)

    def _end(self, value: int) -> None:
        for here, each in self.path:
            if here == self.home[value] and each is not None:
                self.last_in[value] = id(each)
                return
        self.last_in.pop(value, None)  # used outside of its home: it stays until its place is taken


def lives(linear: Linear) -> Lives:
    """When the values of `linear` live, and the places that they share."""
    count = linear.values
    walk = _Walk([-1] * count, [-1] * count, [-1] * count)
    walk.block(linear.body)
    ends: dict[int, list[int]] = {}
    for value, instruction in walk.last_in.items():
        ends.setdefault(instruction, []).append(value)
        # It is let go behind the whole instruction: until then nobody else may have its place.
        walk.last[value] = max(walk.last[value], walk.over[instruction])
    place = [-1] * count
    free: list[int] = []
    busy: list[tuple[int, int]] = []  # (last use, place)
    places = 0
    for value in sorted((v for v in range(count) if walk.made[v] >= 0), key=walk.made.__getitem__):
        while busy and busy[0][0] < walk.made[value]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            mine = heapq.heappop(free)
        else:
            mine, places = places, places + 1
        place[value] = mine
        heapq.heappush(busy, (walk.last[value], mine))
    return Lives(place, places, ends, walk.made, walk.last)
