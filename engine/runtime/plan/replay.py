"""From a plan's log back to what was executed: the walk along it, and the rows.

`Replay` follows the tests in the log from frame to frame and notes the stretches gone, each an instance of a `Template`; `rows`
then makes columns of all of them at once.  It may stop wherever the log does and go on when there is more.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.observe import FrameChange
from engine.runtime.health import ArrayHealth
from engine.runtime.plan.paths import (
    ALIAS,
    GIVEN,
    INDEX,
    LOGGED,
    MOVED,
    SWITCHED,
    FrameLayout,
    Layout,
    Point,
    Template,
)
from engine.runtime.plan.rows import Rows, Stretch, rows_of
from engine.runtime.plan.ways import Way, begin

if TYPE_CHECKING:
    from engine.runtime.plan.native_health import NativeHealth

DEAD_FRAMES = 1 << 30
"""Ids of frames from here on are of those that were entered dead; others are as kernels get them (`KernelContext.frame`)."""

_new: Any = tuple.__new__  # of a named tuple, at a third of the cost
_FIRST_LOOK = 64  # iterations that are looked at together at first


class Event(NamedTuple):
    """A change of a frame, at a row (-1: the last) of an instance.

    Where `times` is not 0, it is as many iterations on end, from `iteration` and `instance` on, each of which ends and another
    begins; told are those that `stride` divides.
    """

    instance: int
    row: int
    change: FrameChange
    frame: int
    name: str
    parent: int
    parent_iteration: int
    iteration: int
    live: bool
    stride: int = 1
    times: int = 0


class Measured(NamedTuple):
    """The health of one output of one row of an instance."""

    instance: int
    row: int
    slot: int
    health: ArrayHealth


class _Open:
    """A frame that the walk is in."""

    __slots__ = ("id", "iteration", "layout", "parent", "parent_iteration", "point", "stride", "told", "way")

    def __init__(
        self, layout: FrameLayout, id: int, parent: int, parent_iteration: int, told: bool, stride: int
    ) -> None:
        self.layout = layout
        self.id = id
        self.parent = parent
        self.parent_iteration = parent_iteration
        self.told = told
        self.iteration = 0
        self.stride = stride if told else 0
        self.point = begin(layout)
        self.way: Way | None = None


class Replay:
    """The walk along the log of one step.

    `stretches`, `events` and `health` are what it has passed since they were last taken (`rows`, `clear`).  `stride` is which
    iterations of loops are told from now on (1: all).
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.natives: NativeHealth | None = None  # tells the health that segments have found
        self.stride = 1
        self._done = 0  # instances passed since `clear`
        self.stretches: list[Stretch] = []
        self.events: list[Event] = []
        self.health: list[Measured] = []
        self._start = 1  # entry 0 is when the step began, or the last time stamp that was taken before
        self._last = 0
        self._live_frames = 0
        self._dead_frames = DEAD_FRAMES
        self._stack = [_Open(layout.frames[0], 0, -1, 0, True, 1)]
        self._looks: list[ArrayHealth | None] = [None] * layout.linear.values
        self._measured = 0

    # The walk.

    def advance(self, log: array[int], measured: Sequence[tuple[Any, ...]], *, final: bool) -> None:
        """Go on as far as `log` leads; if `final`, to the last row that it tells of."""
        end = len(log)
        while self._stack:
            here = self._stack[-1]
            point = here.point
            template = point.template
            if template is None:
                at = self._start + point.offset
                if at >= end:
                    break
                answer = log[at]
                here.point = point.after[answer] or self._new(here, answer)
                continue
            if self._start + template.entries > end:
                break
            self._pass(here, template, measured)
            if point.loop is not None:
                here.point = point.after[0] or self._new(here, None)
                self._enter(here, self.layout.frames[point.loop.spec.index], point.entered)
            elif point.again:
                self._advance_iteration(here, template, log, end)
            else:
                self._leave(here)
        if final and self._stack:
            here = self._stack[-1]
            self._pass(here, Way.cut(here.layout, here.point, end - self._start), measured)
            self._stack.clear()

    def _new(self, here: _Open, answer: int | None) -> Point:
        """A point where nobody has been."""
        if here.way is None or here.way.point is not here.point:
            here.way = Way.to(here.layout, here.point)
        return here.way.go(answer)

    def _enter(self, around: _Open, layout: FrameLayout, row: int) -> None:
        self._live_frames += 1
        told = self._is_told(around)
        inner = _Open(layout, self._live_frames, around.id, around.iteration, told, self.stride)
        self._stack.append(inner)
        self._tell(inner, FrameChange.FRAME_BEGIN, row)
        self._tell(inner, FrameChange.ITERATION_BEGIN, row)

    def _leave(self, here: _Open) -> None:
        if here.parent >= 0:
            self._tell_iteration(here, FrameChange.ITERATION_END)
            self._tell(here, FrameChange.FRAME_END)
        self._stack.pop()

    def _advance_iteration(self, here: _Open, template: Template, log: array[int], end: int) -> None:
        """The next iteration of a loop; of a plain one all that went the same way."""
        self._next(here)
        first = begin(here.layout)
        plain = here.point.before is first and not self.layout.values and not template.frames
        here.point = first
        here.way = None
        if not plain:
            return
        entries, offset = template.entries, first.offset
        look = _FIRST_LOOK
        while True:
            possible = min((end - self._start) // entries, look)
            answers = log[self._start + offset : self._start + possible * entries : entries]
            count = answers.index(0) if 0 in answers else possible
            if count:
                self._note(here, template, count)
                if here.told:
                    self.events.append(_event(here, FrameChange.ITERATION_END, self._done, count))
                self._done += count
                here.iteration += count
            if count < look:
                return
            look *= 4

    def _next(self, here: _Open) -> None:
        self._tell_iteration(here, FrameChange.ITERATION_END)
        here.iteration += 1
        here.stride = self.stride if here.told else 0
        self._tell_iteration(here, FrameChange.ITERATION_BEGIN)

    def _is_told(self, here: _Open) -> bool:
        return here.stride > 0 and here.iteration % here.stride == 0

    def _tell(self, here: _Open, change: FrameChange, row: int = -1) -> None:
        """An event in the last instance, if the frame is told of."""
        if here.told:
            self.events.append(_event(here, change, self._done - 1, row=row))

    def _tell_iteration(self, here: _Open, change: FrameChange) -> None:
        if self._is_told(here):
            self._tell(here, change)

    def _pass(self, here: _Open, template: Template, measured: Sequence[tuple[Any, ...]]) -> None:
        """One instance of a template."""
        if template.events and self._is_told(here):
            base = self._dead_frames - 1
            for change, row, frame, around, name, live in template.events:
                parent, parent_iteration = (base + around, 0) if around else (here.id, here.iteration)
                self.events.append(
                    Event(self._done, row, change, base + frame, name, parent, parent_iteration, 0, live)
                )
        if self.layout.values:
            self._look(here, template, measured)
        self._note(here, template, 1)
        self._done += 1

    def _note(self, here: _Open, template: Template, count: int) -> None:
        self.stretches.append(
            Stretch(
                template,
                self._start,
                self._last,
                here.id,
                here.iteration,
                count,
                self._dead_frames,
                here.stride,
            )
        )
        self._dead_frames += count * template.frames
        if template.last >= 0:
            self._last = self._start + (count - 1) * template.entries + template.last
        self._start += count * template.entries

    def _look(self, here: _Open, template: Template, measured: Sequence[tuple[Any, ...]]) -> None:
        """The health of the outputs of one instance: measured, or that of the value that was handed on."""
        looks, natives = self._looks, self.natives
        told, done = self._is_told(here), self._done
        put = self.health.append
        for entry in template.health:
            what = entry[0]
            if what == ALIAS:
                _, row, slot, value = entry
                look = looks[value]
            elif what == LOGGED:
                _, row, values, item = entry
                given = natives.next(item) if natives is not None else None
                if given is None:
                    if self._measured >= len(measured):
                        return
                    given = measured[self._measured]
                    self._measured += 1
                for slot, (value, look) in enumerate(zip(values, given, strict=True)):
                    if value >= 0:
                        looks[value] = look
                    if told and look is not None:
                        put(_new(Measured, (done, row, slot, look)))
                continue
            elif what == MOVED:
                _, targets, sources = entry
                for target, look in zip(targets, [looks[source] for source in sources], strict=True):
                    looks[target] = look
                continue
            elif what == SWITCHED:
                _, row, value, asked = entry
                choice = looks[asked]
                slot = int(choice is not None and choice.minimum != 0)
                look = looks[value]
            elif what == GIVEN:
                _, row, slot, value, look = entry
                looks[value] = look if value >= 0 else looks[value]
            else:
                assert what == INDEX
                _, row, value, first, other = entry
                slot, look = 1, other if here.iteration else first
                looks[value] = look if value >= 0 else looks[value]
            if told and look is not None:
                put(_new(Measured, (done, row, slot, look)))

    # The rows.

    def rows(self, log: array[int]) -> Rows:
        """The rows of what was passed since `clear`, as columns."""
        return rows_of(self.stretches, np.array(log, np.int64))

    def clear(self, log: array[int]) -> array[int]:
        """Forget what was passed; gives what the log has to begin with from now on."""
        self.stretches, self.events, self.health = [], [], []
        kept = log[self._last : self._last + 1] + log[self._start :]
        self._start, self._last, self._done, self._measured = 1, 0, 0, 0
        return kept


def _event(here: _Open, change: FrameChange, instance: int, count: int = 0, row: int = -1) -> Event:
    return Event(
        instance,
        row,
        change,
        here.id,
        here.layout.spec.name,
        here.parent,
        here.parent_iteration,
        here.iteration,
        True,
        max(here.stride, 1),
        count,
    )
