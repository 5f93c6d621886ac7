"""The rows of the stretches that a log leads along, as columns: all instances of a template at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.observe import Pattern, WritePattern
from engine.runtime.plan.paths import Template


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


@dataclass(slots=True, eq=False)
class Rows:
    """Executions in columns; `first` and `size` say of each instance which rows are its.

    `told` marks the rows that observers are told of (None: all).  `writes` are the rows that have an entry in `Log.writes`.
    `same` is what they have in common with those of other steps, if they are a single instance, and `times` its times then.
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
    same: Same | None = None
    times: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.node)


class SameWrites(NamedTuple):
    """What steps with the same rows wrote, so far as it does not differ from step to step.

    lengths: how many writes each entry of `Log.writes` has.  places: of each write, its row.  what: columns of `Written`.
    varying: the writes whose summaries differ.
    """

    lengths: list[int]
    places: npt.NDArray[np.int64]
    what: tuple[Any, ...]
    varying: tuple[int, ...]
    pattern: WritePattern


class Same:
    """What all steps have in common whose rows are a single instance of a template, in one frame and iteration.

    used: the entries of the log that are times of rows, the last time before the instance counted as entry 0 (None: all are).
    start, end: of each row, which of those.  number: of each row, itself.  writes: what was told last of its writes.
    """

    __slots__ = (
        *("_told", "end", "first", "frame", "iteration", "number", "size", "start", "template", "used"),
        "writes",
    )

    def __init__(self, template: Template, frame: int, iteration: int) -> None:
        size = len(template)
        self.template = template
        self.frame = np.full(size, frame, np.int32)
        self.iteration = np.full(size, iteration, np.int64)
        self.first = np.zeros(1, np.int64)
        self.size = np.array([size], np.int64)
        self.number = np.arange(size)
        used, at = np.unique(np.concatenate((template.start + 1, template.end + 1)), return_inverse=True)
        self.used = None if len(used) == template.entries + 1 else used
        self.start, self.end = at[:size].astype(np.int64), at[size:].astype(np.int64)
        self.writes: SameWrites | None = None
        self._told: dict[tuple[int, str], tuple[Pattern, npt.NDArray[np.int32]]] = {}

    def on(self, thread: int, device: str) -> tuple[Pattern, npt.NDArray[np.int32]]:
        """The pattern of rows that are told on this thread and device, and their column `thread`."""
        found = self._told.get((thread, device))
        if found is None:
            if len(self._told) >= _MOST_THREADS:
                self._told.clear()
            found = Pattern(self.start, self.end), np.full(len(self.number), thread, np.int32)
            self._told[thread, device] = found
        return found


_MOST_THREADS = 16
_MOST_SAME = 1 << 18  # rows in `_same`, each of some 50 bytes
_same: dict[tuple[int, int, int], Same] = {}
_lock = threading.Lock()


def _same_of(stretch: Stretch) -> Same:
    template = stretch.template
    key = id(template), stretch.frame, stretch.iteration
    found = _same.get(key)
    if found is None or found.template is not template:
        found = Same(template, stretch.frame, stretch.iteration)
        with _lock:
            while _same and sum(len(each.number) for each in _same.values()) > _MOST_SAME:
                del _same[next(iter(_same))]
            _same[key] = found
    return found


def rows_of(stretches: Sequence[Stretch], times: npt.NDArray[np.int64]) -> Rows:
    """The rows of `stretches`, one behind the other; `times` is the log."""
    if len(stretches) == 1 and stretches[0].times == 1 and not stretches[0].template.frames:
        return _one(stretches[0], times)
    return _many(stretches, times)


def _one(stretch: Stretch, times: npt.NDArray[np.int64]) -> Rows:
    """A single instance: most of its columns are the template's."""
    same = _same_of(stretch)
    template = stretch.template
    told = stretch.stride > 0 and stretch.iteration % stretch.stride == 0
    if stretch.last == stretch.start - 1:  # the last time stamp before it stands right there
        shifted = times[stretch.last : stretch.start + template.entries]
    else:
        shifted = np.concatenate(
            (
                times[stretch.last : stretch.last + 1],
                times[stretch.start : stretch.start + template.entries],
            )
        )
    if same.used is not None:
        shifted = shifted[same.used]
    return Rows(
        node=template.node,
        frame=same.frame,
        iteration=same.iteration,
        start_ns=shifted[same.start],
        end_ns=shifted[same.end],
        dead=template.dead,
        first=same.first,
        size=same.size,
        writes=template.writes,
        told=None if told else np.zeros(len(template), np.bool_),
        same=same if told else None,
        times=shifted,
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
