"""The schedule of a step that is being debugged, told from its history; and schedulers at work there.

Nothing is recorded while a step runs: an entry of the history says how many activations it made ready and, if it was preferred to
others, where it was taken from; and which had to wait for a queue before it.  What the history forgets is folded into the picks
that it stood for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from workbench.debugger.schedules.record import Picking, Recorder, ScheduleError
from workbench.debugger.schedules.schedulers import Scheduler

if TYPE_CHECKING:
    from workbench.debugger.entries import Entry, Turn
    from workbench.debugger.stepping import Stepping


class Picks:
    """What executions amount to as picks.  Activations are numbers here, in the order in which they became ready.

    `picking` has them in the interpreter's order, `ready` as `Stepping.ready` has them, with what was preferred at the front.
    """

    def __init__(self, width: int) -> None:
        self.ready: deque[int] = deque()
        self._next = 0
        self.picking = Picking(self._new(width))

    def copy(self) -> Picks:
        """One that goes on from here by itself."""
        found = Picks(0)
        found.picking, found.ready, found._next = self.picking.copy(), self.ready.copy(), self._next
        return found

    def fold(self, entries: Iterable[Entry]) -> None:
        """Go through `entries`, which come next."""
        for entry in entries:
            more = entry.more
            if more is not None:
                if more.change is not None:
                    continue
                self.move(more.moved or ())
            self._take(entry.released)

    def run(self, released: Iterable[int]) -> None:
        """Go through executions that come next and are remarkable in nothing; of each how many became ready by it."""
        for count in released:
            self._take(count)

    def _take(self, released: int) -> None:
        """What is first has executed, or has begun to wait, and so many became ready by that."""
        self.picking.executed(self.ready.popleft(), self._new(released))

    def _new(self, count: int) -> Sequence[int]:
        """So many have become ready."""
        found = tuple(range(self._next, self._next + count))
        self._next += count
        self.ready.extend(found)
        return found

    def move(self, moves: Iterable[int | Turn]) -> None:
        """Bring these to the front, one after the other; or let them wait, and what waited be ready."""
        for move in moves:
            if isinstance(move, int):
                number = self.ready[move]
                del self.ready[move]
                self.ready.appendleft(number)
            elif move.activation is not None:
                self._take(len(move.allowed))
            else:
                self.picking.allowed(self._new(len(move.allowed)))


def recorder_of(stepping: Stepping) -> Recorder:
    """A recorder that stands where `stepping` does, having followed it from the step's beginning."""
    picks = stepping.picks.copy()
    picks.fold(stepping.history)
    picks.move(stepping.moved)
    known = dict(zip(picks.ready, stepping.ready, strict=True))
    return Recorder.of(picks.picking, known)


def _point(stepping: Stepping) -> tuple[int, int]:
    """How much has executed, and has begun or ceased to wait since."""
    return stepping.executed, sum(not isinstance(move, int) for move in stepping.moved)


class Following:
    """A scheduler at work in a step that is being debugged: `Stepping.scheduler`.

    Where somebody has chosen by hand (`chose`) it is not asked.  `error` says why the scheduler could not go on; the step then
    goes on as the interpreter would.
    """

    def __init__(self, stepping: Stepping, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._chosen = (-1, -1)
        self.error: ScheduleError | None = None
        self._recorder = recorder_of(stepping)
        self._done = stepping.executed
        self._last = stepping.last
        self._moves = len(stepping.moved)  # made since then
        scheduler.begin(stepping.step, self._recorder)

    def chose(self, stepping: Stepping) -> None:
        """Somebody has chosen what is next."""
        self._chosen = _point(stepping)

    def __call__(self, stepping: Stepping) -> None:
        """Bring what is to run next to the front."""
        recorder = self._follow(stepping)
        if len(recorder.queue) < 2 or self.error is not None or self._chosen == _point(stepping):
            return
        try:
            wanted = recorder.queue[self.scheduler.choose(recorder)]
        except ScheduleError as error:
            self.error = error
            return
        if stepping.ready[0] != wanted:
            stepping.prefer(lambda activation: activation == wanted)

    def _follow(self, stepping: Stepping) -> Recorder:
        """The recorder, brought to where the step is."""
        executed, moved = stepping.executed, stepping.moved
        history = stepping.history
        before_last = history[-2] if len(history) > 1 else None
        if executed == self._done and stepping.last is self._last and len(moved) >= self._moves:
            self._follow_moves(moved[self._moves :])
        elif (
            executed == self._done + 1
            and before_last is self._last
            and history
            and history[-1].change is None
            and not moved
        ):
            entry = history[-1]
            before = entry.more.moved if entry.more is not None and entry.more.moved is not None else []
            self._follow_moves(before[self._moves :])
            run = list(islice(reversed(stepping.ready), entry.released))[::-1]
            self._recorder.executed(entry.activation, run)
            self.scheduler.executed(entry.activation, run, self._recorder)
        else:
            self._recorder = recorder_of(stepping)
            self.scheduler.resumed(self._recorder)
        self._done, self._last, self._moves = executed, stepping.last, len(moved)
        return self._recorder

    def _follow_moves(self, moves: Sequence[int | Turn]) -> None:
        for move in moves:
            if isinstance(move, int):
                continue
            if move.activation is None:
                self._recorder.allowed(move.allowed)
            else:
                self._recorder.executed(move.activation, move.allowed)
                self.scheduler.executed(move.activation, move.allowed, self._recorder)
