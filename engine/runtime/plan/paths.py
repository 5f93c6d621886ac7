"""What a plan's log means: the ways through each frame's iteration, and the rows that each way stands for.

A traced program (`engine.runtime.plan.python`) appends to one list.  Each run of neighbouring instructions of which one takes
time gives a time stamp at its start and one behind each that takes time; each test of a branch or a loop gives 1 or 0.  So the
place of everything in the list follows from the tests alone.  In an iteration of a frame every item of the frame is executed
once, alive or dead, and which it is follows from the tests too.  A *way* is one series of answers, from an iteration's
beginning to its end; a `Template` holds the rows of one stretch of it, between two inner loops.  Both are made when a way is
first gone, and serve every iteration that goes it.

Items that take no time (Const, Switch, Merge, dead ones, …) end when what ran before them did.  An item is dead once every
block in which it might have run was passed by, and it stands behind all that it depends on, as in the interpreter.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.observe import FrameChange
from engine.runtime.health import ArrayHealth, measure
from engine.runtime.plan.ir import Block, Branch, Compute, Instruction, Linear, Loop, Move, Pass
from engine.runtime.plan.python import stamped, writes_resources
from engine.runtime.plan.structure import passes
from engine.runtime.program import CONTROL_TRIGGER, ENTER, EXIT, MERGE, NEXT_ITERATION, SWITCH

if TYPE_CHECKING:
    from engine.runtime.executable import Executable
    from engine.runtime.program import FrameSpec, Item

_MANY = 20_000  # points: a program with so many ways through it forgets those that it has gone

# What the health of a row's outputs comes from; the numbers in `Template.health`.
LOGGED, ALIAS, GIVEN, INDEX, SWITCHED, MOVED = range(6)


@dataclass(slots=True, eq=False)
class Template:
    """The rows of one stretch.

    entries: how many entries of the log it spans.  last: which of them is the last time stamp (-1: none is).
    node, dead, start, end: a column a row; times are entries of the stretch, -1 being the last time stamp before it.
    frame: 0 for rows of the frame itself; i for iteration 0 of the i-th of the `frames` dead ones entered.
    events: (change, row, frame, frame around, name, live) of those dead frames, numbered as in `frame`.
    writes: the rows that have an entry in `Log.writes`.  measured: how many have one in `Log.measured`.
    health: what the health of outputs comes from, in order.
    """

    entries: int
    last: int
    node: npt.NDArray[np.int32]
    dead: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int32]
    frames: int
    events: tuple[_Event, ...]
    writes: npt.NDArray[np.int64]
    measured: int
    health: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.node)


@dataclass(slots=True, eq=False)
class Point:
    """Where a way stops: at a test, an inner loop, or the end of the iteration.

    At a test (`template` is None), entry `offset` of the stretch is the answer, and `after` has the points that follow it.  At
    an inner `loop`, whose first Enter is row `entered`, or the end, the stretch is over.  `again` says of an end that another iteration follows.
    """

    before: Point | None = None
    answer: int | None = None
    offset: int = 0
    template: Template | None = None
    loop: Loop | None = None
    entered: int = -1
    again: bool = False
    after: list[Point | None] = field(default_factory=lambda: [None, None])

    def answers(self) -> list[int | None]:
        """What leads here from the beginning: the answers to tests, None for a loop that was run."""
        found = []
        point = self
        while point.before is not None:
            found.append(point.answer)
            point = point.before
        return found[::-1]


class Layout:
    """What is known of a linear program's log; `values` says that it tells the health of outputs too."""

    def __init__(self, linear: Linear, executable: Executable, values: bool) -> None:
        self.linear = linear
        self.executable = executable
        self.values = values
        self.made = {(item.index, output): value for value, (item, output) in enumerate(linear.sources)}
        loops: dict[int, Loop | None] = {loop.spec.index: loop for loop in linear.loops}
        self.frames = [FrameLayout(self, spec, loops.get(spec.index)) for spec in executable.program.frames]
        self.constants: dict[int, ArrayHealth] = {}
        if values:
            for item in executable.program.items:
                if item.node.type == "Const":
                    bound = executable.bound[item.index]
                    self.constants[item.index] = measure(bound.kernel(bound.context))

    def value(self, item: Item, output: int) -> int:
        """The value on an output, or -1 if nobody reads it."""
        while passes(item):
            name, output = item.node.inputs[0]
            item = self.executable.program.by_name[name]
        return self.made.get((item.index, output), -1)


class FrameLayout:
    """One static frame: who waits for whom in an iteration, and the ways through it that have been gone."""

    def __init__(self, whole: Layout, spec: FrameSpec, loop: Loop | None) -> None:
        self.whole = whole
        self.spec = spec
        self.loop = loop
        self.block = whole.linear.body if spec.parent is None else None
        self.header = [merge.local for merge in loop.merges] if loop is not None else []
        self.waits = [0] * len(spec.items)
        self.users: list[list[int]] = [[] for _ in spec.items]
        self.behind: dict[int, list[int]] = {}  # inner frame -> who waits for its Exits
        by_name = whole.executable.program.by_name
        header = set(self.header)
        if loop is None and spec.parent is not None:  # a loop that no run enters alive
            header = {
                item.local
                for item in spec.items
                if item.flow == MERGE
                and any(by_name[name].flow == NEXT_ITERATION for name, _ in item.node.inputs)
            }
            self.header = sorted(header)
        for item in spec.items:
            if item.local in header:
                continue
            for name in (*(name for name, _ in item.node.inputs), *item.node.control_inputs):
                source = by_name[name]
                if source.frame is spec and source.flow != ENTER:
                    self.users[source.local].append(item.local)
                elif source.flow == EXIT and source.frame is not spec:
                    self.behind.setdefault(source.frame.index, []).append(item.local)
                else:
                    continue  # an Enter: it has run before the frame began
                self.waits[item.local] += 1
        self.chances = [0] * len(spec.items)
        for block in self.blocks():
            for local in items_of(block):
                self.chances[local] += 1
        self.start: Point | None = None
        self.points = 0
        self.inner = [inner for inner in whole.executable.program.frames if inner.parent is spec]
        entered = {each.spec.index for block in self.blocks() for each in loops_of(block)}
        self.never = frozenset(inner.index for inner in self.inner if inner.index not in entered)
        self._dead: dict[frozenset[int], DeadFrame] = {}

    def blocks(self) -> tuple[Block, ...]:
        if self.loop is not None:
            return self.loop.cond, self.loop.body, self.loop.after
        return (self.block,) if self.block is not None else ()

    def begin(self) -> Point:
        """Where every way begins."""
        if self.start is None or self.points > _MANY:
            self.start, self.points = Way(self).begin(), 1
        return self.start

    def dead(self, alive: frozenset[int]) -> DeadFrame:
        """The frame where it is not entered, but for the Enters in `alive` (`Item.index`), of invariants."""
        found = self._dead.get(alive)
        if found is None:
            rows = _Rows(self, alive)
            rows.all_dead()
            found = self._dead[alive] = DeadFrame(
                list(zip(rows.node, rows.dead, (each + 1 for each in rows.frame), strict=True)),
                [
                    (change, row, frame + 1, around + 1, name, live)
                    for change, row, frame, around, name, live in rows.events
                ],
                rows.health,
                rows.frames + 1,
            )
        return found


_Event = tuple[FrameChange, int, int, int, str, bool]


class DeadFrame(NamedTuple):
    """The rows (node, dead, frame) of a frame that is not entered and of those in it, frames from 1 on; what else is told."""

    rows: list[tuple[int, bool, int]]
    events: list[_Event]
    health: list[tuple[Any, ...]]
    frames: int


def items_of(block: Block) -> Iterable[int]:
    """The `Item.local` of each instruction in `block` and the branches in it, but not in its loops."""
    for each in block.code:
        if isinstance(each, Branch):
            yield from items_of(each.then)
            yield from items_of(each.orelse)
        elif isinstance(each, Compute | Pass | Move):
            yield each.item.local


def loops_of(block: Block) -> Iterable[Loop]:
    """The loops in `block` and the branches in it, but not those in loops."""
    for each in block.code:
        if isinstance(each, Branch):
            yield from loops_of(each.then)
            yield from loops_of(each.orelse)
        elif isinstance(each, Loop):
            yield each


class Cut(Exception):
    """The log ends here."""


class _Rows:
    """Rows of one iteration of a frame as they come, those of the stretch that is open.

    entered: of a frame that is not entered, the Enters that are alive all the same; None for one that is.
    """

    def __init__(self, layout: FrameLayout, entered: frozenset[int] | None = None) -> None:
        self.layout = layout
        self.whole = layout.whole
        self.items = layout.spec.items
        self.entered = entered
        self.waits = layout.waits.copy()
        self.chances = layout.chances.copy() if entered is None else [0] * len(self.items)
        self.done = [False] * len(self.items)
        self.alive = [False] * len(self.items)
        self.entering = {spec.index: spec.enters for spec in layout.inner}
        self.passed_by = {spec.index for spec in layout.inner} if entered is not None else set(layout.never)
        self.held: dict[
            int, list[Item]
        ] = {}  # Enters that have run and have no row yet, by the frame that they lead to
        self.open()

    def open(self) -> None:
        """A new stretch."""
        self.at = 0
        self.last = -1
        self.node: list[int] = []
        self.dead: list[bool] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.frame: list[int] = []
        self.frames = 0
        self.events: list[_Event] = []
        self.writes: list[int] = []
        self.measured = 0
        self.entered_at: dict[int, int] = {}  # the first row of an Enter, by the frame that it leads to
        self.health: list[tuple[Any, ...]] = []

    def template(self) -> Template:
        return Template(
            entries=self.at,
            last=self.last,
            node=np.array(self.node, np.int32),
            dead=np.array(self.dead, np.bool_),
            start=np.array(self.start, np.int64),
            end=np.array(self.end, np.int64),
            frame=np.array(self.frame, np.int32),
            frames=self.frames,
            events=tuple(self.events),
            writes=np.array(self.writes, np.int64),
            measured=self.measured,
            health=tuple(self.health),
        )

    def put(self, item: Item, start: int | None = None) -> int:
        """A row of a live execution, from entry `start` on (None: it takes no time)."""
        row = self._row(item.index, False, self.last if start is None else start, self.last)
        self.alive[item.local] = True
        self._over(item.local)
        return row

    def alias(self, row: int, item: Item) -> None:
        """The outputs of a row are what its input is."""
        if item.flow == SWITCH:
            name, slot = item.node.inputs[1]
            asked = self.whole.value(self.whole.executable.program.by_name[name], slot)
            self.health.append((SWITCHED, row, self.whole.value(item, 0), asked))
        elif item.n_outputs:
            self.health.append((ALIAS, row, 0, self.whole.value(item, 0)))

    def hold(self, item: Item) -> None:
        """An Enter that has run: its row comes when its loop begins, or is known not to."""
        assert item.child is not None
        self.done[item.local] = self.alive[item.local] = True
        self.held.setdefault(item.child.index, []).append(item)
        self._enters(item.child)

    def _row(self, node: int, dead: bool, start: int, end: int, frame: int = 0) -> int:
        self.node.append(node)
        self.dead.append(dead)
        self.start.append(start)
        self.end.append(end)
        self.frame.append(frame)
        row = len(self.node) - 1
        if frame == 0 and (child := self.whole.executable.program.items[node].child) is not None:
            self.entered_at.setdefault(child.index, row)
        return row

    def _over(self, local: int) -> None:
        """An item has been executed: what is dead and has waited for it follows."""
        self.done[local] = True
        self._release(self.layout.users[local])

    def _release(self, users: Iterable[int]) -> None:
        """Each of `users` waits for one item less."""
        work = list(users)
        while work:
            user = work.pop()
            self.waits[user] -= 1
            if self._is_due(user):
                work.extend(self._bury(user))

    def _is_due(self, local: int) -> bool:
        return self.waits[local] == 0 and self.chances[local] == 0 and not self.done[local]

    def _bury(self, local: int) -> list[int]:
        """A row of an item that is dead; gives those that have waited for it."""
        self.done[local] = True
        item = self.items[local]
        alive = self.alive[local] = self.entered is not None and self._is_alive(item, self.entered)
        if alive and item.child is not None:
            self.hold(item)
            return list(self.layout.users[local])
        row = self._row(item.index, not alive, self.last, self.last)
        if alive and passes(item) and item.flow != SWITCH:
            self.alias(row, item)
        elif alive and item.node.type == "Const" and self.whole.values:
            self.health.append((GIVEN, row, 0, -1, self.whole.constants[item.index]))
        if item.child is not None:
            self._enters(item.child)
        return list(self.layout.users[local])

    def _is_alive(self, item: Item, entered: frozenset[int]) -> bool:
        """Whether an item of a frame that is not entered is alive: what depends on nothing but live invariants is.

        (What a Switch gives is taken for dead: the plan does not ask there.)
        """
        if item.flow == CONTROL_TRIGGER:
            return True
        if item.local in self.layout.header or item.flow == NEXT_ITERATION:
            return False
        by_name = self.whole.executable.program.by_name

        def lives(name: str, data: bool) -> bool:
            source = by_name[name]
            if source.flow == ENTER:
                return source.index in entered
            mine = source.frame is self.layout.spec and self.alive[source.local]
            return mine and not (data and source.flow == SWITCH)

        given = [lives(name, True) for name, _ in item.node.inputs]
        if item.flow == MERGE:
            return any(given)
        return all(given) and all(lives(name, False) for name in item.node.control_inputs)

    def _enters(self, spec: FrameSpec) -> None:
        """One more Enter of a loop is known to be alive or dead."""
        self.entering[spec.index] -= 1
        self._pass_loop_by(spec)

    def _pass_loop_by(self, spec: FrameSpec) -> None:
        if self.entering[spec.index] or spec.index not in self.passed_by:
            return
        self.passed_by.remove(spec.index)
        for item in self.held.pop(spec.index, ()):
            self.alias(self._row(item.index, False, self.last, self.last), item)
        alive = frozenset(item.index for item in self.items if item.child is spec and self.alive[item.local])
        found = self.whole.frames[spec.index].dead(alive)
        first = len(self.node)
        entered = self.entered_at.get(spec.index, first - 1)
        base = self.frames
        for node, dead, frame in found.rows:
            self._row(node, dead, self.last, self.last, base + frame)
        self.health.extend((what, first + row, *about) for what, row, *about in found.health)
        self.frames += found.frames
        over = len(self.node) - 1
        mine = (base + 1, 0, spec.name, bool(alive))
        self.events.append((FrameChange.FRAME_BEGIN, entered, *mine))
        self.events.append((FrameChange.ITERATION_BEGIN, entered, *mine))
        self.events.extend(
            (change, first + row, base + frame, base + around, name, live)
            for change, row, frame, around, name, live in found.events
        )
        self.events.append((FrameChange.ITERATION_END, over, *mine))
        self.events.append((FrameChange.FRAME_END, over, *mine))
        self._release(self.layout.behind.get(spec.index, ()))

    def pass_by(self, block: Block) -> None:
        """The block is not run: what might have run there only is dead."""
        self.passed_by.update(loop.spec.index for loop in loops_of(block))
        lost = list(items_of(block))
        for local in lost:
            self.chances[local] -= 1
        for local in lost:
            if self._is_due(local):
                self._release(self._bury(local))
        for loop in loops_of(block):
            self._pass_loop_by(loop.spec)

    def all_dead(self) -> None:
        """Everything that has not been executed is dead."""
        if self.entered is not None:
            for local in self.layout.header:
                self._release(self._bury(local))
            for local in range(len(self.items)):
                if self._is_due(local):
                    self._release(self._bury(local))
        for local in range(len(self.items)):
            if not self.done[local]:
                self._release(self._bury(local))


class Way(_Rows):
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
            self.health.append((LOGGED, row, compute.outputs))

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
