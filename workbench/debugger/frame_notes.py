"""What has happened to each frame of a step under the debugger: told from the journal up to where somebody looks, and taken back.

Nothing is kept of an execution for its way back: what it changed is in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.observe import FrameChange
from engine.runtime.frames import Activation, Change, Frame
from engine.runtime.journal import BEGAN, DEFERRED, ENDED, LOG, is_told, things_of
from engine.runtime.program import ENTER
from tracing.frames import Entered, frame_label

if TYPE_CHECKING:
    from workbench.debugger.entries import Entry
    from workbench.debugger.history import History

KEPT = 200  # frames that have ended and can no longer be taken back


class Tally(NamedTuple):
    """Iterations of a frame so far; `most` is the greatest number that was under way at a time, `held` the one held back now."""

    begun: int = 0
    ended: int = 0
    deferred: int = 0
    most: int = 0
    held: int = -1


class FrameNote:
    """One frame: where it was entered, by which Enter nodes, and its iterations.  `end_row` is -1 while it is open."""

    __slots__ = (
        "_before",
        "begin_row",
        "begun",
        "deferred",
        "end_row",
        "ended",
        "entered",
        "held",
        "id",
        "live",
        "most",
        "name",
        "parent",
        "parent_iteration",
        "path",
        "spec",
    )

    def __init__(self, frame: Frame, row: int, path: str) -> None:
        assert frame.parent is not None
        self.id = frame.id
        self.name = frame.name
        self.parent = frame.parent.id
        self.parent_iteration = frame.parent_iteration
        self.path = path
        self.spec = frame.spec.index
        self.begin_row = row
        self.end_row = -1
        self.live = False
        self.entered: list[Entered] = []
        self.begun = self.ended = self.deferred = self.most = 0
        self.held = -1
        self._before: list[
            int
        ] = []  # for each execution that changed `most` or `held`: its row, and what they were

    @property
    def tally(self) -> Tally:
        """How its iterations do."""
        return Tally(self.begun, self.ended, self.deferred, self.most, self.held)

    def count(self, row: int, begun: int, ended: int, peak: int, deferred: int, held: int) -> None:
        """Execution `row` has let so many iterations begin, end, and be held back; `held` is the one that still is.

        `peak`: how many more were under way at most than before.
        """
        most = max(self.most, self.begun - self.ended + peak) if begun else self.most
        if most != self.most or held != self.held:
            self._before += (row, self.most, self.held)
            self.most, self.held = most, held
        self.begun += begun
        self.ended += ended
        self.deferred += deferred

    def take_back(self, row: int, begun: int, ended: int, deferred: int) -> None:
        """The opposite of `count`."""
        self.begun -= begun
        self.ended -= ended
        self.deferred -= deferred
        before = self._before
        if before and before[-3] == row:
            _, self.most, self.held = before[-3:]
            del before[-3:]


class _Counts(NamedTuple):
    """What an execution has done to iterations of its own frame: see `FrameNote.count`."""

    begun: int
    ended: int
    peak: int
    deferred: int


class FrameNotes:
    """The frames of a step by id; the root is not among them.

    They are as they were after as many executions as `follow` has seen.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, FrameNote] = {}
        self._at = 0

    def follow(self, history: History) -> FrameNotes:
        """Take in what has executed since."""
        begin, end = max(self._at, history.first), history.end
        if begin >= end:
            return self
        by_hand, by_id = history.by_hand, self.by_id
        known: dict[int, _Counts | None] = {}  # by identity: many executions share what is said of them
        row = begin - 1
        for item, frame, number, given, log in history.columns(begin, end, 0, 1, 2, 3, LOG):
            row += 1
            if log is None:
                if item.flow == ENTER:
                    self._enter(row, Activation(item, frame, number), given is None)
                continue
            if row in by_hand:
                continue
            key = id(log)
            if key in known:
                counts = known[key]
            else:
                counts = known[key] = _counts_of(log)
            if counts is None:
                self._change(row, history.changes(row))
            elif counts is not _NOTHING:
                begun, ended, peak, deferred = counts
                note = by_id[frame.id]
                held = -1 if begun else number + 1 if deferred else note.held
                note.count(row, begun, ended, peak, deferred, held)
            if item.flow == ENTER:
                self._enter(row, Activation(item, frame, number), given is None)
        self._at = end
        return self

    def _change(self, row: int, changes: Sequence[Change]) -> None:
        for change, frame, iteration in changes:
            note = self.by_id.get(frame.id)
            if note is None:
                note = self.by_id[frame.id] = FrameNote(frame, row, path(frame))
            if change is FrameChange.ITERATION_BEGIN:
                note.count(row, 1, 0, 1, 0, -1)
            elif change is FrameChange.ITERATION_END:
                note.count(row, 0, 1, 0, 0, note.held)
            elif change is FrameChange.ITERATION_DEFERRED:
                note.count(row, 0, 0, 0, 1, iteration)
            elif change is FrameChange.FRAME_END:
                note.end_row = row

    def _enter(self, row: int, activation: Activation, dead: bool) -> None:
        note = self._entered(activation)
        if note is not None:
            item, frame, iteration = activation
            note.entered.append(Entered(row, item.node.name, frame.id, iteration, dead))
            note.live = note.live or not dead

    def _entered(self, activation: Activation) -> FrameNote | None:
        """The frame that an Enter has entered."""
        item, frame, iteration = activation
        assert item.child is not None
        place = (frame.id, iteration, item.child.index)
        # It is among the last, as long as it is open.
        for note in reversed(self.by_id.values()):
            if (note.parent, note.parent_iteration, note.spec) == place:
                return note
        return None

    def back(self, history: History, entry: Entry) -> None:
        """The execution `entry`, which is the last in the journal, is taken back."""
        row, activation = entry.row, entry.activation
        if self._at <= row:
            return
        self._at = row
        if entry.change is not None:
            return
        item, frame, _ = activation
        if item.flow == ENTER:
            note = self._entered(activation)
            if note is not None and note.entered and note.entered[-1].row == row:
                note.entered.pop()
                note.live = any(not each.dead for each in note.entered)
        log = history.log(row)
        counts = _NOTHING if log is None else _counts_of(log)
        if counts is None:
            self._change_back(row, history.changes(row))
        elif counts is not _NOTHING:
            self.by_id[frame.id].take_back(row, counts.begun, counts.ended, counts.deferred)

    def _change_back(self, row: int, changes: Sequence[Change]) -> None:
        for change, frame, _ in reversed(changes):
            note = self.by_id[frame.id]
            if change is FrameChange.ITERATION_BEGIN:
                note.take_back(row, 1, 0, 0)
            elif change is FrameChange.ITERATION_END:
                note.take_back(row, 0, 1, 0)
            elif change is FrameChange.ITERATION_DEFERRED:
                note.take_back(row, 0, 0, 1)
            elif change is FrameChange.FRAME_END:
                note.end_row = -1
            elif change is FrameChange.FRAME_BEGIN:
                del self.by_id[frame.id]

    def forget(self, before: int) -> None:
        """Let go of frames that ended before execution `before`, but for the last ones."""
        over = [note.id for note in self.by_id.values() if 0 <= note.end_row < before]
        for frame in over[:-KEPT]:
            del self.by_id[frame]


_NOTHING = _Counts(0, 0, 0, 0)


def _counts_of(log: Sequence[Any]) -> _Counts | None:
    """What a log says of iterations of the event's own frame; None if it says more than that."""
    if not is_told(log):
        return _NOTHING
    begun = ended = peak = deferred = 0
    for what, level, _, _ in things_of(log):
        if level or (begun and what == DEFERRED):
            return None
        if what == BEGAN:
            begun += 1
            peak = max(peak, begun - ended)
        elif what == ENDED:
            ended += 1
        elif what == DEFERRED:
            deferred += 1
        elif is_told((what, level, 0, None)):
            return None
    return _Counts(begun, ended, peak, deferred)


def label(frame: Frame) -> str:
    """The frame's name without what its parent's says already: ``while``, ``inner``; ``root`` for the root."""
    return "root" if frame.parent is None else frame_label(frame.name, frame.parent.name)


def path(frame: Frame, iteration: int | None = None) -> str:
    """``root > while:3 > inner:0``: the frames around an activation with their iterations; without one, the frame's own way."""
    if frame.parent is None:
        return "root"
    at = "" if iteration is None else f":{iteration}"
    return f"{path(frame.parent, frame.parent_iteration)} > {label(frame)}{at}"
