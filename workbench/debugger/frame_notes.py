"""What has happened to each frame of a step under the debugger: kept up to date with every execution, and taken back with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.observe import FrameChange
from engine.runtime.program import ENTER
from engine.runtime.state import Activation, Change, Frame
from tracing.frames import Entered, frame_label

KEPT = 200  # frames that have ended and can no longer be taken back


class Tally(NamedTuple):
    """Iterations of a frame so far; `most` is the greatest number that was under way at a time, `held` the one held back now."""

    begun: int = 0
    ended: int = 0
    deferred: int = 0
    most: int = 0
    held: int = -1

    def after(self, change: FrameChange, iteration: int) -> Tally:
        """The tally after one more change."""
        if change is FrameChange.ITERATION_BEGIN:
            begun = self.begun + 1
            return Tally(begun, self.ended, self.deferred, max(self.most, begun - self.ended))
        if change is FrameChange.ITERATION_END:
            return Tally(self.begun, self.ended + 1, self.deferred, self.most, self.held)
        if change is FrameChange.ITERATION_DEFERRED:
            return self._replace(deferred=self.deferred + 1, held=iteration)
        return self


class FrameNote:
    """One frame: where it was entered, by which Enter nodes, and its iterations.  `end_row` is -1 while it is open."""

    __slots__ = (
        "begin_row",
        "end_row",
        "entered",
        "id",
        "live",
        "name",
        "parent",
        "parent_iteration",
        "path",
        "tally",
    )

    def __init__(self, frame: Frame, row: int, path: str) -> None:
        assert frame.parent is not None
        self.id = frame.id
        self.name = frame.name
        self.parent = frame.parent.id
        self.parent_iteration = frame.parent_iteration
        self.path = path
        self.begin_row = row
        self.end_row = -1
        self.live = frame.live
        self.entered: list[Entered] = []
        self.tally = Tally()


class Undo(NamedTuple):
    """What one execution changed: frames that began, Enters that were noted, and tallies and ends as they were before."""

    began: tuple[int, ...] = ()
    entered: int = -1
    tallies: tuple[tuple[int, Tally, int], ...] = ()


NOTHING = Undo()


class FrameNotes:
    """The frames of a step by id; the root is not among them."""

    def __init__(self) -> None:
        self.by_id: dict[int, FrameNote] = {}

    def take(self, row: int, activation: Activation, dead: bool, changes: Iterable[Change]) -> Undo:
        """Take in execution `row` and what it brought about; gives what `back` needs."""
        if not changes and activation.item.flow != ENTER:
            return NOTHING
        began: list[int] = []
        tallies: list[tuple[int, Tally, int]] = []
        for change, frame, iteration in changes:
            note = self.by_id.get(frame.id)
            if note is None:
                note = self.by_id[frame.id] = FrameNote(frame, row, path(frame))
                began.append(frame.id)
            tallies.append((frame.id, note.tally, note.end_row))
            note.tally = note.tally.after(change, iteration)
            if change is FrameChange.FRAME_END:
                note.end_row = row
        entered = self._enter(row, activation, dead) if activation.item.flow == ENTER else -1
        return Undo(tuple(began), entered, tuple(tallies))

    def _enter(self, row: int, activation: Activation, dead: bool) -> int:
        item, frame, iteration = activation
        assert item.child is not None
        place = (frame.id, iteration, item.child.name)
        # The frame that it entered is among the last, as long as it is open.
        for note in reversed(self.by_id.values()):
            if (note.parent, note.parent_iteration, note.name) == place:
                note.entered.append(Entered(row, item.node.name, frame.id, iteration, dead))
                note.live = note.live or not dead
                return note.id
        return -1

    def back(self, undo: Undo) -> None:
        """Take an execution back; the later ones must have been before."""
        if undo.entered >= 0:
            note = self.by_id[undo.entered]
            note.entered.pop()
            note.live = any(not each.dead for each in note.entered)
        for frame, tally, end_row in reversed(undo.tallies):
            note = self.by_id[frame]
            note.tally, note.end_row = tally, end_row
        for frame in undo.began:
            del self.by_id[frame]

    def forget(self, before: int) -> None:
        """Let go of frames that ended before execution `before`, but for the last ones."""
        over = [note.id for note in self.by_id.values() if 0 <= note.end_row < before]
        for frame in over[:-KEPT]:
            del self.by_id[frame]


def label(frame: Frame) -> str:
    """The frame's name without what its parent's says already: ``while``, ``inner``; ``root`` for the root."""
    return "root" if frame.parent is None else frame_label(frame.name, frame.parent.name)


def path(frame: Frame, iteration: int | None = None) -> str:
    """``root > while:3 > inner:0``: the frames around an activation with their iterations; without one, the frame's own way."""
    if frame.parent is None:
        return "root"
    at = "" if iteration is None else f":{iteration}"
    return f"{path(frame.parent, frame.parent_iteration)} > {label(frame)}{at}"
