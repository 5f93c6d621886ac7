"""History: the executions of a step, oldest first.  Only those are objects that somebody has looked at.

What is kept of an execution is what the state machine's journal has of it, and its duration: flat lists without an object for
each, since what costs most while a step runs freely is to make objects and to have the garbage collector visit them.  An `Entry`
is made of it when it is asked for, and is then the same whenever it is asked for again.  So a step that has executed any number
of nodes can be stopped, looked at and gone back in at once.

What else is to be seen (each node's last execution, what has executed in open iterations, frames, bytes) is worked out up to
where somebody asks for it (`workbench.debugger.derived`).
"""

from __future__ import annotations

import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

from engine.runtime.frames import Activation, Change
from engine.runtime.journal import LOG, STRIDE, changes_of, outputs_of
from engine.runtime.program import Item
from engine.runtime.resources import Resource, Write
from workbench.debugger.entries import Entry, Facts, Moves

_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor
_GIVEN, _RELEASED = 3, STRIDE - 1
_NEAR = 256  # rows among which a node's execution is looked for first


class Special(NamedTuple):
    """What has to be noted of an execution when it happens: `outputs` with what resources hold, and what it changed."""

    outputs: Sequence[Any] | None
    writes: Sequence[Write] = ()
    made: tuple[Resource, ...] = ()


class History(Sequence[Entry]):
    """See the module.  Rows count the step's executions from 0; indices count what is kept.

    - `first`: the row of the oldest that is kept.
    - `journal`: that of the step's state machine, from row `first` on.
    - `cells`: for each that is kept its entry, or its duration in nanoseconds if nobody has looked at it.
    - `durations`: of the latest ones, which have executed freely and are not among the cells yet (`enlist`).
    - `special`: what is special about some that have no entry, by row; `moved`: what has begun to wait for a queue before them.
    - `wrote`: the rows that have changed resources; `by_hand`: those that are changes by hand.  All of these ascend.
    - `nbytes`: at least the bytes of the arrays of those that nobody has counted (`Held`).
    - `made`: how many entries there are; `home`: this history, for them.
    - `lock`: held while what is not in the step's own thread reads more than one of these.
    """

    __slots__ = (
        "__weakref__",
        "_backs",
        "_turns",
        "by_hand",
        "cells",
        "durations",
        "first",
        "home",
        "journal",
        "lock",
        "made",
        "moved",
        "nbytes",
        "special",
        "wrote",
    )

    def __init__(self, journal: list[Any]) -> None:
        self.journal = journal
        self.first = 0
        self.cells: list[Entry | int] = []
        self.durations = array("q")
        self.special: dict[int, Special] = {}
        self.moved: dict[int, Moves] = {}
        self.wrote: list[int] = []
        self.by_hand: dict[int, None] = {}
        self.nbytes = 0
        self.made = 0
        self.lock = threading.RLock()
        self.home: weakref.ref[History] = weakref.ref(self)
        self._turns = 0
        self._backs: list[tuple[int, int]] = []

    # What there is.

    @property
    def executed(self) -> int:
        """All that the step has executed."""
        return self.first + len(self.journal) // STRIDE

    @property
    def end(self) -> int:
        """The row after the last that is among the cells."""
        return self.first + len(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self.cells)))]
        cell = self.cells[index]
        return cell if isinstance(cell, Entry) else self._make(index)

    def __iter__(self) -> Iterator[Entry]:
        index = 0
        while index < len(self.cells):
            yield self[index]
            index += 1

    def _make(self, index: int) -> Entry:
        """The entry of an execution that has none."""
        with self.lock:
            cell = self.cells[index]
            if isinstance(cell, Entry):
                return cell
            index %= len(self.cells)
            row, at = self.first + index, index * STRIDE
            item, frame, iteration, given = self.journal[at : at + 4]
            activation = _new_tuple(Activation, (item, frame, iteration))
            released = self.journal[at + _RELEASED]
            entry = Entry(row, activation, outputs_of(item, given), cell, self.home, released)
            special = self.special.pop(row, None)
            if special is not None:
                entry.outputs = special.outputs
                if special.writes or special.made:
                    more = entry.rest()
                    more.writes, more.made = special.writes, special.made
            moved = self.moved.pop(row, None)
            if moved is not None:
                entry.rest().moved = moved
            self.cells[index] = entry
            self.made += 1
            return entry

    def at(self, row: int) -> Entry | None:
        """Execution `row`, if it is kept."""
        index = row - self.first
        return self[index] if 0 <= index < len(self.cells) else None

    def activation(self, row: int) -> Activation:
        """What executed as number `row`."""
        at = (row - self.first) * STRIDE
        return Activation(*self.journal[at : at + 3])

    def changes(self, row: int) -> list[Change]:
        """What execution `row` has changed of frames and iterations."""
        at = (row - self.first) * STRIDE
        if row in self.by_hand:
            return []
        item, frame, iteration = self.journal[at : at + 3]
        return changes_of(item, frame, iteration, self.journal[at + LOG])

    def log(self, row: int) -> tuple[Any, ...] | None:
        """What the journal says that execution `row` has done to frames and iterations."""
        found: tuple[Any, ...] | None = self.journal[(row - self.first) * STRIDE + LOG]
        return found

    def writes(self, row: int) -> Sequence[Write]:
        """What execution `row` changed."""
        cell = self.cells[row - self.first] if row < self.end else 0
        if isinstance(cell, Entry):
            return cell.writes
        special = self.special.get(row)
        return () if special is None else special.writes

    def facts(self, row: int) -> Facts:
        """What there is to know of the arrays of execution `row`, whether or not it has an entry."""
        cell = self.cells[row - self.first]
        if isinstance(cell, Entry):
            return Facts(cell.activation.item, cell.outputs, cell.writes)
        at = (row - self.first) * STRIDE
        item: Item = self.journal[at]
        special = self.special.get(row)
        if special is not None:
            return Facts(item, special.outputs, special.writes)
        return Facts(item, outputs_of(item, self.journal[at + _GIVEN]), ())

    def items(self, begin: int, end: int) -> list[Item]:
        """The items of the executions from row `begin` up to `end`."""
        first = self.first
        return self.journal[(begin - first) * STRIDE : (end - first) * STRIDE : STRIDE]

    def given(self, begin: int, end: int) -> list[Any]:
        """What these gave, as `engine.runtime.journal.outputs_of` takes it."""
        first = self.first
        return self.journal[(begin - first) * STRIDE + _GIVEN : (end - first) * STRIDE : STRIDE]

    def columns(self, begin: int, end: int, *which: int) -> Iterator[tuple[Any, ...]]:
        """Of the executions from row `begin` up to `end` what the journal has at the places `which` of each."""
        first = self.first
        low, high = (begin - first) * STRIDE, (end - first) * STRIDE
        return zip(*[self.journal[low + at : high : STRIDE] for at in which], strict=True)

    def before(self, row: int, item: Item) -> int:
        """The row of the last execution of `item` before `row`; -1 if there is none that is kept.

        A change by hand is one only where the node has executed before it.
        """
        high, step, changed = min(row, self.end), _NEAR, -1
        while high > self.first:
            low = max(self.first, high - step)
            items = self.items(low, high)
            items.reverse()
            begin = 0
            while True:
                try:
                    at = items.index(item, begin)
                except ValueError:
                    break
                found = high - 1 - at
                if found not in self.by_hand:
                    return found if changed < 0 else changed
                changed, begin = max(changed, found), at + 1
            high, step = low, step * 8
        return -1

    # What happens to it.

    def enlist(self) -> int:
        """Take what has executed freely among the cells; gives how many that is."""
        durations = self.durations
        with self.lock:
            count = len(durations)
            if count:
                self.cells.extend(durations[:count])
                del durations[:count]
            return count

    def append(self, entry: Entry) -> None:
        """Take in what has just executed, or was just changed by hand."""
        self.cells.append(entry)
        self.made += 1
        more = entry.more
        if more is not None:
            if more.change is not None:
                self.by_hand[entry.row] = None
            if more.writes:
                self.wrote.append(entry.row)

    def pop(self) -> Entry:
        """Let go of the last.  Its journal must still be there."""
        entry = self[-1]
        self.cells.pop()
        self.made -= 1
        row = entry.row
        if self.wrote and self.wrote[-1] == row:
            self.wrote.pop()
        self.by_hand.pop(row, None)
        self._turns += 1
        backs = self._backs
        while backs and backs[-1][1] >= row:
            backs.pop()
        backs.append((self._turns, row))
        return entry

    def forget(self, count: int) -> None:
        """The oldest `count` are kept no more.  The journal is to be shortened by whoever has it."""
        for cell in self.cells[:count]:
            if isinstance(cell, Entry):
                cell.more = None
                self.made -= 1
        del self.cells[:count]
        self.first += count
        first = self.first
        for rows in (self.special, self.moved, self.by_hand):
            drop_before(rows, first)
        del self.wrote[: bisect_left(self.wrote, first)]

    # For whoever follows it.

    @property
    def turns(self) -> int:
        """How often something was taken back so far."""
        return self._turns

    def same_up_to(self, turns: int) -> int:
        """The row up to which all is as it was when so much had been taken back as `turns` says."""
        at = bisect_left(self._backs, (turns + 1, 0))
        return min(self._backs[at][1], self.executed) if at < len(self._backs) else self.executed


def drop_before(rows: dict[int, Any], first: int) -> None:
    """Let go of rows before `first`; `rows` ascend."""
    gone = []
    for row in rows:
        if row >= first:
            break
        gone.append(row)
    for row in gone:
        del rows[row]
