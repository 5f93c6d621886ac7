"""The ways through a frame's iteration, gone for the first time: which rows each stretch has.

`Way` goes along the blocks of a frame as the log's answers say, and puts down a row where an item is executed, alive or dead.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache

import numpy as np

from engine.runtime.health import ArrayHealth, measure
from engine.runtime.plan.deadness import Stretching
from engine.runtime.plan.ir import Block, Branch, Compute, Instruction, Loop, Move, Pass
from engine.runtime.plan.paths import (
    ALIAS,
    GIVEN,
    INDEX,
    LOGGED,
    MOVED,
    FrameLayout,
    Point,
    Template,
)
from engine.runtime.plan.python import stamped, writes_resources
from engine.runtime.program import ENTER, NEXT_ITERATION, Item

_MANY = 20_000  # points: a program with so many ways through it forgets those that it has gone


def begin(layout: FrameLayout) -> Point:
    """Where every way through the frame begins."""
    if layout.start is None or layout.points > _MANY:
        layout.start, layout.points = Way(layout).begin(), 1
    return layout.start


class Cut(Exception):
    """The log ends here."""


class Way(Stretching):
    """Goes a way for the first time, from test to test; `point` is where it stops.

    limit: how many entries of the stretch there are, if it is the last and the log ends in it: then it raises Cut.
    """

    def __init__(self, layout: FrameLayout, limit: int | None = None) -> None:
        super().__init__(layout)
        self.limit = limit
        self.advances: list[Item] = []
        self.again = False
        self._steps = self._go()
        self.point = Point()

    @classmethod
    def to(cls, layout: FrameLayout, point: Point) -> Way:
        """A way that stands at a point where somebody has been."""
        way = cls(layout)
        next(way._steps)
        for answer in point.answers():
            way._steps.send(answer)
        way.point = point
        return way

    @classmethod
    def cut(cls, layout: FrameLayout, point: Point, limit: int) -> Template:
        """The rows of the open stretch of the way that leads to `point`, as far as `limit` entries tell of them."""
        answers = point.answers()
        way = cls(layout, None if answers else limit)
        try:
            next(way._steps)
            for answer in answers[:-1]:
                way._steps.send(answer)
            if answers:
                way.limit = limit
                way._steps.send(answers[-1])
        except Cut:
            pass
        return way.template()

    def begin(self) -> Point:
        """The first point."""
        self._fill(next(self._steps))
        return self.point

    def go(self, answer: int | None) -> Point:
        """The point that follows where we are."""
        before = self.point
        self.point = Point(before, answer)
        self._fill(self._steps.send(answer))
        before.after[answer or 0] = self.point
        self.layout.points += 1
        return self.point

    def _fill(self, stop: Loop | bool | None) -> None:
        """Say what the way has stopped at: a test (None), a loop, or the end."""
        point = self.point
        if stop is None:
            point.offset = self.at
            return
        point.template = self.template()
        if isinstance(stop, Loop):
            point.loop = stop
            point.entered = self.entered_at.get(stop.spec.index, -1)
        else:
            point.again = stop

    def _go(self) -> _Steps:
        loop = self.layout.loop
        again = False
        if loop is None:
            assert self.layout.block is not None
            yield from self._block(self.layout.block)
        else:
            indices = {merge.index: value for value, merge in loop.indices}
            for merge in loop.merges:
                row = self.put(merge)
                self.health.append((ALIAS, row, 0, self.whole.value(merge, 0)))
                self.health.append((INDEX, row, indices.get(merge.index, -1), *self._slots(merge)))
            yield from self._block(loop.cond)
            if loop.test is not None:
                again = bool((yield from self._test()))
                self.pass_by(loop.after if again else loop.body)
                yield from self._block(loop.body if again else loop.after)
        self.all_dead()
        for item in self.advances:
            self.alias(self.put(item), item)
        if loop is not None and again and loop.nexts:
            self.health.append((MOVED, *zip(*loop.nexts, strict=True)))
        yield again

    def _slots(self, merge: Item) -> tuple[ArrayHealth, ArrayHealth]:
        """How the `value_index` of a loop's Merge looks in the first iteration, and in the others."""
        by_name = self.whole.executable.program.by_name
        flows = [by_name[name].flow for name, _ in merge.node.inputs]
        return _index_health(flows.index(ENTER)), _index_health(flows.index(NEXT_ITERATION))

    def _test(self) -> Generator[Loop | bool | None, int | None, int | None]:
        if self.limit is not None and self.at >= self.limit:
            raise Cut
        answer = yield None
        self.at += 1
        return answer

    def _block(self, block: Block) -> _Steps:
        run: list[Instruction] = []
        for each in block.code:
            if isinstance(each, Branch):
                self._run(run)
                run = []
                answer = yield from self._test()
                self.pass_by(each.orelse if answer else each.then)
                yield from self._block(each.then if answer else each.orelse)
            elif isinstance(each, Loop):
                self._run(run)
                run = []
                for item in self.held.pop(each.spec.index, ()):
                    self.alias(self.put(item), item)
                if each.inits:
                    self.health.append((MOVED, *zip(*each.inits, strict=True)))
                yield each
                self.open()
                self._release(self.layout.behind.get(each.spec.index, ()))
            else:
                run.append(each)
        self._run(run)

    def _run(self, run: list[Instruction]) -> None:
        timed = [stamped(each) for each in run]
        if any(timed):
            self._stamp()
        for each, takes_time in zip(run, timed, strict=True):
            if isinstance(each, Compute):
                self._compute(each, takes_time)
            elif isinstance(each, Pass):
                self._pass(each.item)
            elif isinstance(each, Move) and not self.done[each.item.local]:
                self._move(each)

    def _stamp(self) -> None:
        if self.limit is not None and self.at >= self.limit:
            raise Cut
        self.last = self.at
        self.at += 1

    def _compute(self, compute: Compute, takes_time: bool) -> None:
        item = compute.item
        before = self.last
        if takes_time:
            self._stamp()
        row = self.put(item, before)
        if item.child is not None:  # an Enter that reads a variable
            self._enters(item.child)
        if writes_resources(compute):
            self.writes.append(row)
        if item.node.type == "Const":
            if self.whole.values:
                self.health.append((GIVEN, row, 0, compute.outputs[0], self.whole.constants[item.index]))
        elif takes_time and item.n_outputs:
            self.measured += 1
            self.health.append((LOGGED, row, compute.outputs, item.index))

    def _pass(self, item: Item) -> None:
        if item.flow == ENTER:
            self.hold(item)
        elif item.flow == NEXT_ITERATION:
            self.done[item.local] = True  # even if its row comes at the end
            self.advances.append(item)
        else:
            self.alias(self.put(item), item)

    def _move(self, move: Move) -> None:
        row = self.put(move.item)
        self.health.append((MOVED, (move.target,), (move.source,)))
        self.health.append((ALIAS, row, 0, move.target))
        self.health.append((GIVEN, row, 1, move.index, _index_health(move.slot)))


_Steps = Generator[Loop | bool | None, int | None, None]


@cache
def _index_health(slot: int) -> ArrayHealth:
    return measure(np.int32(slot))
