"""The schedule of a step that is being debugged, told from its history; and schedulers at work there.

Nothing is recorded while a step runs: an entry of the history says how many activations it made ready and, if it was preferred to
others, where it was taken from.  What the history forgets is folded into the picks it stood for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from workbench.debugger.schedules.record import Recorder, ScheduleError
from workbench.debugger.schedules.schedulers import Scheduler

if TYPE_CHECKING:
    from workbench.debugger.entries import Entry
    from workbench.debugger.stepping import Stepping


class Picks:
    """What executions amount to as picks.  Activations are numbers here, in the order in which they became ready.

    `queue` has them in the interpreter's order, `ready` as `Stepping.ready` has them, with what was preferred at the front.
    """

    def __init__(self, width: int) -> None:
        self.queue = deque(range(width))
        self.ready = deque(range(width))
        self.made: list[
            tuple[int, int]
        ] = []  # for every execution the pick (-1: no choice), and how many became ready
        self._next = width

    def copy(self) -> Picks:
        """One that goes on from here by itself."""
        found = Picks(0)
        found.queue, found.ready, found.made = self.queue.copy(), self.ready.copy(), self.made.copy()
        found._next = self._next
        return found

    def fold(self, entries: Iterable[Entry]) -> None:
        """Go through `entries`, which come next."""
        queue, ready = self.queue, self.ready
        for entry in entries:
            more = entry.more
            if more is not None:
                if more.change is not None:
                    continue
                self.move(more.moved or ())
            number = ready.popleft()
            if queue[0] == number:
                queue.popleft()
                pick = 0
            else:
                pick = queue.index(number)
                del queue[pick]
            self.made.append((pick if queue else -1, entry.released))
            following = range(self._next, self._next + entry.released)
            self._next += entry.released
            queue.extend(following)
            ready.extend(following)

    def move(self, moves: Iterable[int]) -> None:
        """Bring these to the front, one after the other."""
        for index in moves:
            number = self.ready[index]
            del self.ready[index]
            self.ready.appendleft(number)


def recorder_of(stepping: Stepping) -> Recorder:
    """A recorder that stands where `stepping` does, having followed it from the step's beginning.

    Raises ScheduleError if the step has waited for a queue.
    """
    if stepping.waited:
        raise ScheduleError(
            "the step has waited for a queue: what runs when depends on other steps too, so there is no schedule to replay"
        )
    picks = stepping.picks.copy()
    picks.fold(stepping.history)
    picks.move(stepping.moved)
    known = dict(zip(picks.ready, stepping.ready, strict=True))
    return Recorder.at((known[number] for number in picks.queue), picks.made)


class Following:
    """A scheduler at work in a step that is being debugged: `Stepping.scheduler`.

    `chosen` is the number of executions after which somebody has chosen by hand; it is not asked there.  `error` says why the
    scheduler could not go on; the step then goes on as the interpreter would.
    """

    def __init__(self, stepping: Stepping, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.chosen = -1
        self.error: ScheduleError | None = None
        self._recorder = recorder_of(stepping)
        self._done = stepping.executed
        scheduler.begin(stepping.step, self._recorder)

    def __call__(self, stepping: Stepping) -> None:
        """Bring what is to run next to the front."""
        recorder = self._follow(stepping)
        if len(recorder.queue) < 2 or self.error is not None or self.chosen == stepping.executed:
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
        executed, history = stepping.executed, stepping.history
        if stepping.waited:
            self._recorder = Recorder.without_past(stepping.ready, executed)
            self._done = -1
            return self._recorder
        if executed == self._done + 1 and history and history[-1].change is None and not stepping.moved:
            entry = history[-1]
            run = list(islice(reversed(stepping.ready), entry.released))[::-1]
            self._recorder.executed(entry.activation, run)
            self.scheduler.executed(entry.activation, run, self._recorder)
        elif executed != self._done:
            self._recorder = recorder_of(stepping)
            self.scheduler.resumed(self._recorder)
        self._done = executed
        return self._recorder
