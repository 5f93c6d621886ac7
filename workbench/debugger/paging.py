"""Paging: the history as lines that can be asked for from anywhere, with loops folded, kept up to date as the step moves.

An execution that was taken back and done again is another one.  So what a front end has seen before stays right up to where the
two histories part, which the history knows.
"""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.passes.stage import StageNode
from engine.runtime.frames import Frame
from engine.runtime.resources import Variable, Write
from viz.format import shorten
from viz.format import tensor as tensor_text
from workbench.debugger import views
from workbench.debugger.entries import Entry
from workbench.debugger.frame_notes import FrameNote, path
from workbench.debugger.history import History
from workbench.debugger.pages import MAX_BUCKETS, MAX_ROWS, MAX_SPANS, MarkView, Page, RowView, SpanView
from workbench.debugger.places import short_device
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Reference

_STOPS = ("breakpoint", "watch")  # what the reason begins with where one stopped
_LOOKED = 1 << 14  # elements up to which a row looks for NaN and infinities
_TEXT = 60  # characters of a row's value
_MAX_LANES = 24
_OTHER_END = {"_Send": "recv_device", "_Recv": "send_device"}

Group = tuple[int, int] | None  # the frame and iteration whose executions are one line
_OWN = (-1, -1)  # in place of a group: each iteration of the frame itself is one


class Paging:
    """The history of the step that is looked at.  Methods may be called from any thread.

    edition: grows whenever something that was there before has changed, rather than been added to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stepping: weakref.ref[Stepping] | None = None
        self._first = self._end = 0  # the rows that were taken in
        self._now = (
            -1,
            0,
        )  # executions done when somebody last looked what executes, and since when these are so many
        self._turns = 0  # how often something had been taken back then
        self._marked: list[tuple[int, str]] = []
        self._hits: list[int] = []
        self.edition = 0
        self._cuts: list[tuple[int, int]] = []  # editions, and the row from which on each one changed
        self._folds: frozenset[str] = frozenset()
        self._starts: list[int] = []  # rows with which lines begin, where something is folded
        self._group: Group = None
        self._groups: dict[int, Group] = {}
        self._devices: dict[str, int] = {}
        self._lanes: dict[int, int] = {}  # by frame, which of the frames' rails it is on
        self._rails: list[list[int]] = []  # the frames on each of them, one after the other

    # Asked for.

    def page(
        self, stepping: Stepping, start: int, count: int, folds: Sequence[str], edition: int, row: int = -1
    ) -> Page:
        """`count` lines from line `start` on, at most `MAX_ROWS`; with a `row`, the page of `count` lines that it is on."""
        count = max(0, min(count, MAX_ROWS))
        with self._lock, stepping.history.lock:
            history = self._follow(stepping)
            self._fold(history, frozenset(folds))
            if row >= 0 and count:
                start = max(0, min(self._line_of(row), self._lines - 1)) // count * count
            return self._page(stepping, history, start, count, edition)

    def live(self, stepping: Stepping, count: int, folds: Sequence[str], edition: int) -> Page:
        """The last `count` lines of a step that runs, what executes now, and for how long it has at least."""
        count = max(0, min(count, MAX_ROWS))
        with self._lock, stepping.history.lock:
            history = self._follow(stepping)
            self._fold(history, frozenset(folds))
            page = self._page(stepping, history, self._lines - count, count, edition)
        ticks, executed = time.monotonic_ns(), stepping.executed
        if self._now[0] != executed:
            self._now = executed, ticks
        try:
            activation = stepping.ready[0]
            view = views.activation_view(activation, stepping.state.is_dead(activation))
        except (IndexError, KeyError):  # it has gone on meanwhile
            return page
        return replace(page, now=view, now_ns=ticks - self._now[1])

    def _page(self, stepping: Stepping, history: History, start: int, count: int, edition: int) -> Page:
        lines = self._lines
        start = max(0, min(start, lines))
        end = min(lines, start + count)
        stable = min((at for number, at in self._cuts if number > edition), default=self._end)
        rows = tuple(self._line(index, history) for index in range(start, end))
        spans: tuple[SpanView, ...] = ()
        if rows:
            spans = self._spans(stepping, history, rows[0].row, rows[-1].row + rows[-1].count)
        return Page(
            0,
            True,
            start=start,
            lines=lines,
            first_row=self._first,
            executed=self._end,
            future=len(stepping.future),
            edition=self.edition,
            stable=self._line_of(stable),
            lanes=min(_MAX_LANES, max(1, len(self._devices)) + len(self._rails)),
            devices=tuple(map(short_device, self._devices)),
            rows=rows,
            spans=spans,
        )

    @property
    def _lines(self) -> int:
        return len(self._starts) if self._folds else self._end - self._first

    def marks(self, stepping: Stepping, buckets: int) -> Page:
        """What is remarkable in the history: of each kind the first in each of `buckets` equal parts of it."""
        with self._lock, stepping.history.lock:
            self._follow(stepping)
            total = max(1, self._end + len(stepping.future))
            buckets = max(1, min(buckets, MAX_BUCKETS))
            found: dict[tuple[int, str], int] = {}
            marked = [*self._marked, *((row, "hit") for row in self._hits)]
            if stepping.error is not None:
                marked.append((self._end, "error"))
            for row, kind in marked:
                found.setdefault((row * buckets // total, kind), row)
            marks = sorted((row, kind) for (_, kind), row in found.items())
            return Page(
                0,
                True,
                first_row=self._first,
                executed=self._end,
                future=len(stepping.future),
                edition=self.edition,
                marks=tuple(MarkView(row, kind) for row, kind in marks),
            )

    def stopped(self, stepping: Stepping, reason: str) -> None:
        """The step has stopped for `reason`."""
        if reason.startswith(_STOPS):
            with self._lock, stepping.history.lock:
                self._follow(stepping)
                if not self._hits or self._hits[-1] < self._end:
                    self._hits.append(self._end)

    # Keeping up.

    def _follow(self, stepping: Stepping) -> History:
        """Take in what has executed, been taken back or been forgotten since; gives the history, whose lock is to be held."""
        history = stepping.history
        if self._stepping is None or self._stepping() is not stepping:
            self._stepping = weakref.ref(stepping)
            self._marked, self._hits, self._starts = [], [], []
            self._group, self._groups = None, {}
            # Sorted by name, they have the colours here that they have elsewhere.
            found = {item.node.device for item in stepping.step.program.by_name.values()}
            self._devices = {device: number for number, device in enumerate(sorted(found))}
            self._lanes, self._rails = {}, []
            self._first = self._end = history.first
            self._turns = history.turns
            self._cut(0)
        if history.first != self._first:
            self._drop(history.first)
        same, self._turns = history.same_up_to(self._turns), history.turns
        if same < self._end:
            self._truncate(history, max(same, self._first))
        self._extend(history, history.end)
        self._assign(stepping)
        return history

    def _cut(self, row: int) -> None:
        self.edition += 1
        while self._cuts and self._cuts[-1][1] >= row:
            self._cuts.pop()
        self._cuts.append((self.edition, row))

    def _drop(self, first: int) -> None:
        """The history begins with execution `first` now: all lines have other numbers."""
        if not self._first <= first < self._end:
            self._starts, self._marked, self._hits, self._group = [], [], [], None
            self._end = first
        self._first = first
        self._marked = [mark for mark in self._marked if mark[0] >= first]
        self._hits = [row for row in self._hits if row >= first]
        at = bisect_right(self._starts, first) - 1
        if at > 0:
            del self._starts[:at]
        if self._starts and self._starts[0] < first:
            self._starts[0] = first
        self._cut(0)

    def _truncate(self, history: History, end: int) -> None:
        """What came from execution `end` on is others' now."""
        self._end = end
        while self._marked and self._marked[-1][0] >= end:
            self._marked.pop()
        while self._hits and self._hits[-1] > end:
            self._hits.pop()
        del self._starts[bisect_left(self._starts, end) :]
        self._groups.clear()  # a frame that begins anew may have the number of one that was taken back
        self._group = None
        if self._folds and end > self._first:
            last = history.activation(end - 1)
            self._group = self._group_of(last.frame, last.iteration)
        self._cut(end - 1 if self._folds else end)  # the last line of a folded loop has become shorter

    def _extend(self, history: History, end: int) -> None:
        """Take in the executions up to `end`: nothing is made of them that nobody looks at."""
        begin = self._end
        if end <= begin:
            return
        for item in dict.fromkeys(history.items(begin, end)):
            self._devices.setdefault(item.node.device, len(self._devices))
        marked = [(row, "change") for row in history.by_hand if row >= begin]
        wrote = history.wrote
        marked += [
            (row, "write")
            for row in wrote[bisect_left(wrote, begin) :]
            if row < end and row not in history.by_hand and _written(history.writes(row))
        ]
        self._marked += sorted(marked)
        if self._folds:
            self._append(history, begin, end)
        self._end = end

    def _assign(self, stepping: Stepping) -> None:
        """Give each frame the first rail that is free where it begins."""
        notes = stepping.frames.by_id
        lanes = self._lanes
        if len(lanes) > len(notes) or any(frame not in notes for frame in lanes):
            self._rails = [[frame for frame in rail if frame in notes] for rail in self._rails]
            self._lanes = lanes = {frame: lane for frame, lane in lanes.items() if frame in notes}
        for note in list(notes.values()):
            if note.id in lanes:
                continue
            lane = next((i for i, rail in enumerate(self._rails) if self._is_free(rail, notes, note)), -1)
            if lane < 0:
                lane = len(self._rails)
                self._rails.append([])
            self._rails[lane].append(note.id)
            lanes[note.id] = lane

    @staticmethod
    def _is_free(rail: list[int], notes: dict[int, FrameNote], note: FrameNote) -> bool:
        last = notes[rail[-1]] if rail else None
        return last is None or (0 <= last.end_row < note.begin_row and last.id != note.parent)

    # Folding.

    def _fold(self, history: History, folds: frozenset[str]) -> None:
        if folds == self._folds:
            return
        self._folds = folds
        self._starts, self._groups, self._group = [], {}, None
        if folds:
            self._append(history, self._first, self._end)
        self._cut(0)

    def _append(self, history: History, begin: int, end: int) -> None:
        starts, before = self._starts, self._group
        for row, (frame, iteration) in enumerate(history.columns(begin, end, 1, 2), begin):
            group = self._group_of(frame, iteration)
            if group is None or group != before:
                starts.append(row)
            before = group
        self._group = before

    def _group_of(self, frame: Frame, iteration: int) -> Group:
        """The folded iteration that an iteration of a frame is in; None if it is in none."""
        if frame.id not in self._groups:
            self._groups[frame.id] = self._folded(frame)
        known = self._groups[frame.id]
        return (frame.id, iteration) if known is _OWN else known

    def _folded(self, frame: Frame) -> Group:
        """`_OWN` where the frame itself is folded, and nothing around it; else the group that all of it is in."""
        found: Group = None
        at: Frame | None = frame
        below = _OWN
        while at is not None and at.parent is not None:
            if at.name in self._folds or "*" in self._folds:
                found = below
            below = (at.parent.id, at.parent_iteration)
            at = at.parent
        return found

    def _line_of(self, row: int) -> int:
        if self._folds:
            return max(0, bisect_right(self._starts, row) - 1) if row < self._end else len(self._starts)
        return max(0, row - self._first)

    # Rows.

    def _line(self, index: int, history: History) -> RowView:
        if not self._folds:
            return self._row(history[index], 1)
        row = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return self._row(history[row - self._first], end - row)

    def _lane(self, frame: int, device: int) -> int:
        lane = self._lanes.get(frame, -1)
        return min(device if lane < 0 else max(1, len(self._devices)) + lane, _MAX_LANES - 1)

    def _row(self, entry: Entry, count: int) -> RowView:
        item, frame, iteration = entry.activation
        node = item.node
        device = self._devices.get(node.device, 0)
        text, bad = ("", False) if count > 1 else _value(entry)
        where = path(frame, iteration)
        loop = frame.name if frame.parent is not None else ""
        if count > 1:
            group = self._group_of(frame, iteration)
            at: Frame | None = frame
            while at is not None and group is not None and at.id != group[0]:
                iteration, at = at.parent_iteration, at.parent
            if at is not None:
                where, loop, frame = path(at, iteration), at.name, at
        return RowView(
            row=entry.row,
            node=node.name,
            type=node.type,
            path=where,
            lane=self._lane(frame.id, device),
            device=device,
            iteration=iteration,
            loop=loop,
            dead=entry.outputs is None,
            tainted=entry.override.label if entry.override is not None else "",
            change=entry.change.text if entry.change is not None else "",
            effect=entry.effect,
            text=text,
            duration_ns=entry.duration_ns,
            bad=bad,
            writes=_written(entry.writes),
            hit=_has(self._hits, entry.row, entry.row + count),
            count=count,
            peer=self._peer(node) if count == 1 else -1,
        )

    def _peer(self, node: StageNode) -> int:
        """The other device of a transfer."""
        other = _OTHER_END.get(node.type)
        return self._devices.get(str(node.attrs.get(other, "")), -1) if other is not None else -1

    def _spans(self, stepping: Stepping, history: History, begin: int, end: int) -> tuple[SpanView, ...]:
        """The frames that were open somewhere between executions `begin` and `end`."""
        found = []
        for note in list(stepping.frames.by_id.values()):
            over = note.end_row if note.end_row >= 0 else self._end
            if note.begin_row < end and over >= begin and note.id in self._lanes:
                device = 0
                if self._first <= note.begin_row < self._end:
                    device = self._devices.get(history.activation(note.begin_row).item.node.device, 0)
                lane, parent = self._lane(note.id, device), self._lane(note.parent, device)
                found.append(SpanView(note.id, lane, parent, note.begin_row, note.end_row))
                if len(found) == MAX_SPANS:
                    break
        return tuple(found)


def _has(rows: Sequence[int], begin: int, end: int) -> bool:
    at = bisect_left(rows, begin)
    return at < len(rows) and rows[at] < end


def _written(writes: Sequence[Write]) -> bool:
    """Whether a variable is among what was changed."""
    return any(isinstance(write.resource, Variable) for write in writes)


def _value(entry: Entry) -> tuple[str, bool]:
    """An execution's first output in a few characters, and whether there is a NaN or an infinity in any."""
    outputs = entry.outputs
    if not outputs:
        return "", False
    return _short(outputs[0]), any(_is_bad(value) for value in outputs)


def _short(value: Any) -> str:
    if isinstance(value, Reference):
        value = value.value
    if not isinstance(value, np.ndarray | np.generic):
        return ""
    kind = tensor_text(value.dtype.name if value.dtype.kind != "O" else "string", value.shape)
    if value.size != 1 or value.dtype.kind == "O":
        return kind
    only = value.reshape(-1)[0]
    return shorten(f"{kind} {only:.6g}" if value.dtype.kind == "f" else f"{kind} {only}", _TEXT)


def _is_bad(value: Any) -> bool:
    if isinstance(value, Reference):
        value = value.value
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fc" or value.size > _LOOKED:
        return False
    return not bool(np.isfinite(value).all())
