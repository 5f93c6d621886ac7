"""What follows from a step's history: each node's last execution, what has executed in open iterations, bytes that are held.

Each is worked out as far as the history goes when somebody asks for it, and taken back with it.  Nothing is worked out of a step
that runs freely, but before the oldest executions are let go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.observe import FrameChange
from engine.runtime.frames import Change, Frame
from engine.runtime.journal import ENDED, FRAME_ENDED, LOG, things_of
from engine.runtime.program import EXIT, Item
from workbench.debugger.entries import Entry, Place
from workbench.debugger.history import History, drop_before

if TYPE_CHECKING:
    from workbench.debugger.holding import Budget


class Latest(Mapping[int, Entry]):
    """Each node's last execution, by item index."""

    def __init__(self, history: History, items: Sequence[Item]) -> None:
        self._history = history
        self._items = items
        self._rows: dict[Item, int] = {}
        self._lost: set[Item] = set()  # of which the last is to be looked for, as it was taken back
        self._fallen: dict[int, Entry] = {}  # of which none is kept any more
        self._at = 0  # the row up to which it is worked out

    def __getitem__(self, index: int) -> Entry:
        entry = self._find(self._items[index]) if 0 <= index < len(self._items) else None
        if entry is None:
            raise KeyError(index)
        return entry

    def get(self, index: int, default: Entry | None = None) -> Entry | None:  # type: ignore[override]
        """The last execution of item `index`; `default` if it has not executed."""
        entry = self._find(self._items[index]) if 0 <= index < len(self._items) else None
        return default if entry is None else entry

    def __iter__(self) -> Iterator[int]:
        self._all()
        yield from (item.index for item in self._rows)
        yield from (index for index, _ in self.fallen())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def fallen(self) -> Iterator[tuple[int, Entry]]:
        """The last executions of nodes of which none is kept any more, by item index."""
        self._all()
        kept = {item.index for item in self._rows}
        yield from ((index, entry) for index, entry in self._fallen.items() if index not in kept)

    def _find(self, item: Item) -> Entry | None:
        self._fold()
        row = self._rows.get(item, -1)
        if row < 0 and item in self._lost:
            self._lost.discard(item)
            row = self._history.before(self._at, item)
            if row >= 0:
                self._rows[item] = row
        return self._fallen.get(item.index) if row < 0 else self._history.at(row)

    def _fold(self) -> None:
        history = self._history
        begin, end = max(self._at, history.first), history.end
        if begin >= end:
            return
        items = history.items(begin, end)
        by_hand = history.by_hand
        if not by_hand or next(reversed(by_hand)) < begin:
            self._rows.update(zip(items, range(begin, end), strict=True))
        else:
            for row, item in enumerate(items, begin):
                if item.index >= 0 and (row not in by_hand or history.before(row, item) >= 0):
                    self._rows[item] = row
        if self._lost:
            self._lost.difference_update(items)
        self._at = end

    def _all(self) -> None:
        """Look for all that has been lost."""
        self._fold()
        for item in list(self._lost):
            self._find(item)

    def back(self, row: int, item: Item) -> None:
        """The execution `row`, which is the last, is taken back."""
        if self._at > row:
            self._at = row
            if self._rows.get(item) == row:
                del self._rows[item]
                self._lost.add(item)

    def forget(self, first: int) -> None:
        """What is before row `first` is kept no longer."""
        self._all()
        for item, row in list(self._rows.items()):
            if row < first:
                entry = self._history.at(row)
                if entry is not None:
                    self._fallen[item.index] = entry
                del self._rows[item]


class Done:
    """For every open iteration the nodes that have executed in it (by item index), and whether they were dead.

    An Exit counts where its token arrives: in the iteration around the frame that it leaves.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._places: dict[Place, dict[int, bool]] = {}
        self._noted: dict[
            int, tuple[tuple[Place, int], ...]
        ] = {}  # by row, what it has let count beside itself
        self._dropped: dict[
            int, list[tuple[Place, dict[int, bool]]]
        ] = {}  # by row, iterations that have ended
        self._at = 0

    @property
    def places(self) -> dict[Place, dict[int, bool]]:
        """As far as the history goes."""
        history = self._history
        if self._at < history.end:
            self._fold(max(self._at, history.first), history.end)
        return self._places

    def _fold(self, begin: int, end: int) -> None:
        history, places = self._history, self._places
        by_hand = history.by_hand
        at: Frame | None = None
        number = -1
        here: dict[int, bool] = {}
        ends: dict[int, Sequence[int] | None] = {}  # by identity: many executions share what is said of them
        row = begin
        for item, frame, iteration, given, log in history.columns(begin, end, 0, 1, 2, 3, LOG):
            if by_hand and row in by_hand:
                row += 1
                continue
            if item.flow == EXIT:
                place = _around(frame)
                if given is not None and place is not None:
                    places.setdefault(place, {})[item.index] = False
                    at = None
            else:
                if iteration != number or frame is not at:
                    at, number = frame, iteration
                    here = places.setdefault((frame.id, iteration), {})
                here[item.index] = given is None
            if log is not None:
                key = id(log)
                if key not in ends:
                    ends[key] = _own_ends(log)
                own = ends[key]
                if own is None:
                    self._changed(row, history.changes(row))
                    at = None
                elif own:
                    for offset in own:
                        self._drop(row, (frame.id, iteration + offset))
                    at = None
            row += 1
        self._at = end

    def _changed(self, row: int, changes: Sequence[Change]) -> None:
        for change, frame, number in changes:
            if change is FrameChange.ITERATION_END:
                self._drop(row, (frame.id, number))
            elif change is FrameChange.FRAME_END:
                around = _around(frame)
                if around is not None:
                    for left_dead in frame.dead_exits:
                        self._places.setdefault(around, {})[left_dead.index] = True
                        self._noted[row] = (*self._noted.get(row, ()), (around, left_dead.index))

    def _drop(self, row: int, place: Place) -> None:
        gone = self._places.pop(place, None)
        if gone is not None:
            dropped = self._dropped.get(row)
            if dropped is None:
                self._dropped[row] = [(place, gone)]
            else:
                dropped.append((place, gone))

    def back(self, entry: Entry) -> None:
        """The execution `entry`, which is the last, is taken back."""
        if self._at <= entry.row:
            return
        self._at = entry.row
        if entry.change is not None:
            return
        self._places.update(self._dropped.pop(entry.row, ()))
        for place, index in self._noted.pop(entry.row, ()):
            self._take_out(place, index)
        item, frame, iteration = entry.activation
        if item.flow != EXIT:
            self._take_out((frame.id, iteration), item.index)
        elif entry.outputs is not None:
            around = _around(frame)
            if around is not None:
                self._take_out(around, item.index)

    def _take_out(self, place: Place, index: int) -> None:
        done = self._places[place]
        del done[index]
        if not done:
            del self._places[place]

    def forget(self, first: int) -> None:
        """What is before row `first` is kept no longer."""
        if self._at < first:
            self._fold(max(self._at, self._history.first), first)
        drop_before(self._noted, first)
        drop_before(self._dropped, first)


def _own_ends(log: Sequence[Any]) -> Sequence[int] | None:
    """The iterations of an event's own frame that have ended by it, counted from its own; None where more has ended."""
    found = []
    for what, level, offset, _ in things_of(log):
        if what == FRAME_ENDED or (what == ENDED and level):
            return None
        if what == ENDED:
            found.append(offset)
    return found


def _around(frame: Frame) -> Place | None:
    """The iteration around a frame."""
    return (frame.parent.id, frame.parent_iteration) if frame.parent is not None else None


class Held:
    """The bytes of the arrays that the history keeps alive, counted in a `Budget`."""

    def __init__(self, history: History, budget: Budget, sizes: Sequence[int]) -> None:
        self._history = history
        self._budget = budget
        self._sizes = sizes
        self._at = 0

    def count(self) -> None:
        """Count what has executed."""
        history, budget, sizes = self._history, self._budget, self._sizes
        begin, end = max(self._at, history.first), history.end
        special, cells, first = history.special, history.cells, history.first
        nbytes, row = 0, begin
        for item, given in history.columns(begin, end, 0, 3):
            size = sizes[item.index]
            if size >= 0 and row not in special and not isinstance(cells[row - first], Entry):
                if given is not None:
                    nbytes += size
            else:
                budget.hold(history.facts(row))
            row += 1
        budget.bytes += nbytes
        self._at = end
        history.nbytes = 0

    def back(self, entry: Entry) -> None:
        """The execution `entry`, which is the last, is taken back."""
        if self._at > entry.row:
            self._at = entry.row
            self._budget.release(self._history.facts(entry.row))

    def forget(self, count: int) -> None:
        """The oldest `count` are kept no longer, and not counted any more."""
        self._at = max(self._at, self._history.first + count)
