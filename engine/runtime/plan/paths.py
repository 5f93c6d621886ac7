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

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.observe import FrameChange
from engine.runtime.health import ArrayHealth, measure
from engine.runtime.plan.ir import Block, Branch, Compute, Linear, Loop, Move, Pass
from engine.runtime.plan.structure import passes
from engine.runtime.program import ENTER, EXIT, MERGE, NEXT_ITERATION

if TYPE_CHECKING:
    from engine.runtime.executable import Executable
    from engine.runtime.program import FrameSpec, Item


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
    events: tuple[FrameStory, ...]
    writes: npt.NDArray[np.int64]
    measured: int
    health: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.node)


@dataclass(slots=True, eq=False)
class Point:
    """Where a way stops: at a test, an inner loop, or the end of the iteration.

    At a test (`template` is None), entry `offset` of the stretch is the answer, and `after` has the points that follow it.  At
    an inner `loop`, whose first Enter is row `entered`, or the end, the stretch is over.  `again` says of an
    end that another iteration follows.
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
        self.dead: dict[frozenset[int], DeadFrame] = {}  # by the Enters that are alive all the same

    def blocks(self) -> tuple[Block, ...]:
        if self.loop is not None:
            return self.loop.cond, self.loop.body, self.loop.after
        return (self.block,) if self.block is not None else ()


FrameStory = tuple[FrameChange, int, int, int, str, bool]


class DeadFrame(NamedTuple):
    """The rows (node, dead, frame) of a frame that is not entered and of those in it, frames from 1 on; what else is told."""

    rows: list[tuple[int, bool, int]]
    events: list[FrameStory]
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
