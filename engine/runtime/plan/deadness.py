"""The rows of one iteration of a frame as they come: live executions as they are put down, dead ones where they follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.observe import FrameChange
from engine.runtime.plan.ir import Block
from engine.runtime.plan.paths import (
    ALIAS,
    GIVEN,
    SWITCHED,
    DeadFrame,
    FrameLayout,
    FrameStory,
    Template,
    items_of,
    loops_of,
)
from engine.runtime.plan.structure import passes
from engine.runtime.program import CONTROL_TRIGGER, ENTER, MERGE, NEXT_ITERATION, SWITCH, FrameSpec, Item


def dead_frame(layout: FrameLayout, alive: frozenset[int]) -> DeadFrame:
    """The frame where it is not entered, but for the Enters in `alive` (`Item.index`), of invariants."""
    found = layout.dead.get(alive)
    if found is None:
        rows = Stretching(layout, alive)
        rows.all_dead()
        found = layout.dead[alive] = DeadFrame(
            list(zip(rows.node, rows.dead, (each + 1 for each in rows.frame), strict=True)),
            [
                (change, row, frame + 1, around + 1, name, live)
                for change, row, frame, around, name, live in rows.events
            ],
            rows.health,
            rows.frames + 1,
        )
    return found


class Stretching:
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
        self.events: list[FrameStory] = []
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
        found = dead_frame(self.whole.frames[spec.index], alive)
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
