"""From a plan's log back to what was executed: the walk along it, and the rows.

`Replay` follows the tests in the log from frame to frame and notes the stretches gone, each an instance of a `Template`; `rows`
then makes columns of all of them at once.  It may stop wherever the log does and go on when there is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.observe import FrameChange
from engine.runtime.health import ArrayHealth
from engine.runtime.plan.ir import Linear, blocks_of
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
    Way,
)
from engine.runtime.plan.python import stamped

DEAD_FRAMES = 1 << 30
"""Ids of frames from here on are of those that were entered dead; others are as kernels get them (`KernelContext.frame`)."""

_FIRST_LOOK = 64  # iterations that are looked at together at first


class Stretch(NamedTuple):
    """`times` instances of a template, one behind the other, in iterations from `iteration` on.

    start: where in the log.  last: where the last time stamp before it is.  stride: which iterations are told: 1 all, 0 none,
    n those that n divides.
    """

    template: Template
    start: int
    last: int
    frame: int
    iteration: int
    times: int
    dead_frames: int
    stride: int


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
        self.point = layout.begin()
        self.way: Way | None = None


class Replay:
    """The walk along the log of one step.

    `stretches`, `events` and `health` are what it has passed since they were last taken (`rows`, `clear`).  `stride` is which
    iterations of loops are told from now on (1: all).
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
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

    def advance(self, log: list[int], measured: Sequence[tuple[Any, ...]], *, final: bool) -> None:
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

    def _advance_iteration(self, here: _Open, template: Template, log: list[int], end: int) -> None:
        """The next iteration of a loop; of a plain one all that went the same way."""
        self._next(here)
        first = here.layout.begin()
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
        looks = self._looks
        told = self._is_told(here)
        put = self.health.append
        for what, *about in template.health:
            if what == MOVED:
                targets, sources = about
                found = [looks[source] for source in sources]
                for target, look in zip(targets, found, strict=True):
                    looks[target] = look
                continue
            if what == LOGGED:
                row, values = about
                if self._measured >= len(measured):
                    return
                for slot, (value, look) in enumerate(zip(values, measured[self._measured], strict=True)):
                    if value >= 0:
                        looks[value] = look
                    if told and look is not None:
                        put(Measured(self._done, row, slot, look))
                self._measured += 1
                continue
            if what == ALIAS:
                row, slot, value = about
                look = looks[value]
            elif what == SWITCHED:
                row, value, asked = about
                choice = looks[asked]
                slot = int(choice is not None and choice.minimum != 0)
                look = looks[value]
            elif what == GIVEN:
                row, slot, value, look = about
                looks[value] = look if value >= 0 else looks[value]
            else:
                assert what == INDEX
                row, value, first, other = about
                slot, look = 1, other if here.iteration else first
                looks[value] = look if value >= 0 else looks[value]
            if told and look is not None:
                put(Measured(self._done, row, slot, look))

    # The rows.

    def rows(self, log: list[int]) -> Rows:
        """The rows of what was passed since `clear`, as columns."""
        times = np.fromiter(log, np.int64, len(log))
        stretches = self.stretches
        if len(stretches) == 1 and stretches[0].times == 1 and not stretches[0].template.frames:
            one = stretches[0]
            return _one(one, times)
        return _many(stretches, times)

    def clear(self, log: list[int]) -> list[int]:
        """Forget what was passed; gives what the log has to begin with from now on."""
        self.stretches, self.events, self.health = [], [], []
        kept = [log[self._last], *log[self._start :]]
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


@dataclass(slots=True, eq=False)
class Rows:
    """Executions in columns; `first` and `size` say of each instance which rows are its.

    `told` marks the rows that observers are told of (None: all).  `writes` are the rows that have an entry in `Log.writes`.
    """

    node: npt.NDArray[np.int32]
    frame: npt.NDArray[np.int32]
    iteration: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    dead: npt.NDArray[np.bool_]
    first: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    writes: npt.NDArray[np.int64]
    told: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.node)


def _one(stretch: Stretch, times: npt.NDArray[np.int64]) -> Rows:
    """A single instance: most of its columns are the template's."""
    template = stretch.template
    size = len(template)
    shifted = times[stretch.start - 1 :]  # -1 is the last time stamp before it, which stands right there
    if stretch.last != stretch.start - 1:
        shifted = np.concatenate((times[stretch.last : stretch.last + 1], times[stretch.start :]))
    told = stretch.stride > 0 and stretch.iteration % stretch.stride == 0
    return Rows(
        node=template.node,
        frame=np.full(size, stretch.frame, np.int32),
        iteration=np.full(size, stretch.iteration, np.int64),
        start_ns=shifted[template.start + 1],
        end_ns=shifted[template.end + 1],
        dead=template.dead,
        first=np.zeros(1, np.int64),
        size=np.array([size], np.int64),
        writes=template.writes,
        told=None if told else np.zeros(size, np.bool_),
    )


def _many(stretches: Sequence[Stretch], times: npt.NDArray[np.int64]) -> Rows:
    """All instances of each template at once, put where they belong."""
    count = np.array([each.times for each in stretches], np.int64)
    size = np.array([len(each.template) for each in stretches], np.int64)
    n_writes = np.array([len(each.template.writes) for each in stretches], np.int64)
    first_row, rows = _offsets(size * count)
    first_instance, instances = _offsets(count)
    first_write, writes = _offsets(n_writes * count)
    made = Rows(
        node=np.empty(rows, np.int32),
        frame=np.empty(rows, np.int32),
        iteration=np.empty(rows, np.int64),
        start_ns=np.empty(rows, np.int64),
        end_ns=np.empty(rows, np.int64),
        dead=np.empty(rows, np.bool_),
        first=np.empty(instances, np.int64),
        size=np.empty(instances, np.int64),
        writes=np.empty(writes, np.int64),
        told=np.empty(rows, np.bool_),
    )
    columns = np.array([each[1:] for each in stretches], np.int64)
    groups: dict[int, list[int]] = {}
    for number, each in enumerate(stretches):
        groups.setdefault(id(each.template), []).append(number)
    for numbers in groups.values():
        template = stretches[numbers[0]].template
        chosen = np.array(numbers, np.int64)
        repeats = count[chosen]
        whose = np.repeat(chosen, repeats)
        within = np.arange(len(whose)) - np.repeat(_offsets(repeats)[0], repeats)
        start, last, frame, iteration, _, dead_frames, stride = columns[whose].T
        start = start + within * template.entries
        iteration = iteration + within
        if template.last >= 0:
            last = np.where(within > 0, start - template.entries + template.last, last)
        n = len(template)
        position = first_row[whose] + within * n
        instance = first_instance[whose] + within
        made.first[instance], made.size[instance] = position, n
        at = position[:, None] + np.arange(n)
        made.node[at], made.dead[at] = template.node, template.dead
        made.start_ns[at] = times[
            np.where(template.start < 0, last[:, None], start[:, None] + template.start)
        ]
        made.end_ns[at] = times[np.where(template.end < 0, last[:, None], start[:, None] + template.end)]
        made.frame[at], made.iteration[at] = frame[:, None], iteration[:, None]
        if template.frames:
            own = template.frame == 0
            base = dead_frames + within * template.frames
            made.frame[at] = np.where(own, frame[:, None], base[:, None] + template.frame - 1)
            made.iteration[at] = np.where(own, iteration[:, None], 0)
        assert made.told is not None
        made.told[at] = ((stride > 0) & (iteration % np.maximum(stride, 1) == 0))[:, None]
        if len(template.writes):
            put = first_write[whose] + within * len(template.writes)
            made.writes[put[:, None] + np.arange(len(template.writes))] = position[:, None] + template.writes
    if made.told is not None and made.told.all():
        made.told = None
    return made


def _offsets(sizes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """Where each of these sizes begins when they are laid side by side, and how long they are together."""
    ends = np.cumsum(sizes)
    return ends - sizes, int(ends[-1]) if len(ends) else 0


def as_log(linear: Linear, entries: Sequence[tuple[int, int]], started_ns: int) -> list[int]:
    """The log that a traced Python program would have kept, from (number of an instruction, entry) pairs.

    Numbers are those of `linear.walk()`; the entry is when an instruction that takes time ended, or the answer of a branch's or
    a loop's test.  For backends that stamp instructions and know nothing of the runs that they are in.
    """
    opens = _run_openers(linear)
    log = [started_ns]
    last = started_ns
    for number, entry in entries:
        kind = opens[number]
        if kind:
            log.append(last)
        log.append(entry)
        if kind is not None:
            last = entry
    return log


def _run_openers(linear: Linear) -> list[bool | None]:
    """For each instruction whether it is the first of its run that takes time; None if its entry is no time."""
    found: dict[int, bool | None] = {}
    blocks = [linear.body]
    while blocks:
        first = True
        for each in blocks.pop().code:
            inner = blocks_of(each)
            if inner:
                blocks.extend(inner)
                first = True
                found[id(each)] = None
            elif stamped(each):
                found[id(each)] = first
                first = False
    return [found.get(id(each)) for each in linear.walk()]
