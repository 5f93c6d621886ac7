"""Runs: the `Session.run`s that are over, kept so that one can go back into them; and which one is looked at.

Each keeps its `Stepping` as it ended, and what its session's resources were where it began and ended (`Watched`).  To go into an
earlier run is to undo what came after it: the resources become what they were there, and the run's own state machine goes back
and on by its journal.  Nothing is executed.  The present step stands still meanwhile, and so do other threads' steps (`Gate`).

The runs and the step that is under way share one budget; the oldest runs fall out first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from engine.runtime.driver import Executable
from engine.runtime.program import Item
from engine.runtime.resources import Resource, ResourceManager, Write
from viz.format import plural
from workbench.debugger.command import CommandError
from workbench.debugger.effects import effect_of
from workbench.debugger.gate import Gate
from workbench.debugger.holding import ENTRY_BYTES, KEPT, KEPT_BYTES, ROW_BYTES
from workbench.debugger.questions.past import Past, Written
from workbench.debugger.watched import State, Watched

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping

MOST = 1_000  # runs that are kept
REST_SECONDS = 5.0  # that other threads' steps have to come to the end of a node
RUN_BYTES = 8_192  # of a run beside its executions

_Marks = dict[Resource, dict[object, object]]


class Run:
    """One `Session.run`; `number` counts those that were watched from 1.

    - `begun` and `ended` are moments of its session's resources (`Watched`).
    - `error`: what it failed with.  `first`: the first execution that its history still has.
    - `nbytes`: what it takes.  `writers`: for what it has changed, who had changed it last before.
    """

    def __init__(self, number: int, stepping: Stepping, begun: int) -> None:
        self.number = number
        self.stepping = stepping
        self.begun = begun
        self.ended = -1
        self.error: BaseException | None = None
        self.first = 0
        self.nbytes = 0
        self.executed = 0
        self.half_done: Sequence[Write] = ()
        self.writers: dict[Resource, Written | None] = {}
        self.marks: tuple[_Marks, _Marks] = ({}, {})
        self.contents: dict[str, Resource] = stepping.step.resources.contents(stepping.step.context.container)

    @property
    def manager(self) -> ResourceManager:
        """The session's resources."""
        return self.stepping.step.resources

    @property
    def container(self) -> str:
        """Where the resources are that live no longer than the step."""
        return self.stepping.step.context.container

    @property
    def title(self) -> str:
        """``run 3``."""
        return f"run {self.number}"

    def measure(self) -> int:
        """Bytes that it takes."""
        made = self.stepping.unread.made
        rest = max(0, self.stepping.executed - self.first - made)
        self.nbytes = self.stepping.bytes_at_most + made * ENTRY_BYTES + rest * ROW_BYTES + RUN_BYTES
        return self.nbytes


class Runs:
    """See the module; one for each debugger.

    - `here`: the run that is looked at; None where that is the present step, or there is none.
    - `fallen`: how many runs have fallen out.
    """

    def __init__(self, debugger: Debugger) -> None:
        self.debugger = debugger
        self.over: deque[Run] = deque()
        self.present: Run | None = None  # the step that is looked at, and is not over
        self.here: Run | None = None
        self.fallen = 0
        self.gate = Gate()
        self.nbytes = 0  # that the runs take which are over
        self.executions = 0  # that they keep
        self._count = 0
        self._lock = threading.RLock()
        self._under_way: dict[Stepping, Run] = {}
        self._watched: dict[ResourceManager, Watched] = {}
        self._saved: dict[ResourceManager, dict[Resource, State]] = {}
        self._saved_marks: _Marks = {}
        self._past: tuple[Run, Past] | None = None
        self._effects: WeakKeyDictionary[Executable, Sequence[Item]] = WeakKeyDictionary()

    # Steps that begin and end.

    def begin(self, stepping: Stepping) -> Run:
        """A step begins that goes through the debugger."""
        manager = stepping.step.resources
        with self._lock:
            watched = self._watched.get(manager)
            if watched is None:
                watched = self._watched[manager] = Watched(manager)
            run = self._under_way[stepping] = Run(0, stepping, watched.look())
        run.marks = (self._marks(), {})
        stepping.make_room = partial(self._make_room, stepping)
        stepping.reserve(self.executions, self.nbytes)
        return run

    def look_at(self, stepping: Stepping | None) -> None:
        """The step that is under way and looked at is that one; None: none is."""
        self.present = self._under_way.get(stepping) if stepping is not None else None

    def end(self, run: Run, writers: dict[Resource, Written | None]) -> None:
        """A step is over that was looked at, or could have been: keep it."""
        with self._lock:
            self._end(run, writers)

    def _end(self, run: Run, writers: dict[Resource, Written | None]) -> None:
        stepping = run.stepping
        del self._under_way[stepping]
        self._count += 1
        run.number = self._count
        run.ended = self._watched[run.manager].look()
        run.marks = (run.marks[0], self._marks())
        run.writers = writers
        run.error = stepping.error
        run.first = stepping.unread.first
        run.executed = stepping.executed
        run.half_done = stepping.step.half_done
        stepping.over = True
        stepping.last_moves = list(stepping.moved)
        stepping.make_room = None
        stepping.scheduler = None
        stepping.future = []
        stepping.step.collector = None  # whose observers know that the step is over
        run.measure()
        self.nbytes += run.nbytes
        self.executions += run.executed - run.first
        self.over.append(run)
        self.trim()

    def drop(self, stepping: Stepping) -> None:
        """A step is over that is not kept."""
        with self._lock:
            run = self._under_way.pop(stepping, None)
            stepping.close()
            if run is not None:
                self._forget_moments(run.manager)

    # The budget.

    def trim(self) -> None:
        """Let the oldest runs go that are over the budget."""
        with self._lock:
            kept, kept_bytes = self.debugger.kept or KEPT, self.debugger.kept_bytes or KEPT_BYTES
            while self.over and (self.nbytes > kept_bytes or self.executions > kept or len(self.over) > MOST):
                if len(self.over) == 1 and self._shorten(self.over[0], kept, kept_bytes):
                    return
                if not self._fall():
                    return

    def _shorten(self, run: Run, kept: int, kept_bytes: int) -> bool:
        """Let the oldest executions of the only run go that is left; whether that is enough."""
        if self.here is not None:
            return False
        stepping = run.stepping
        stepping.reserve(0, 0)
        stepping.budget(kept, kept_bytes)
        self.executions -= stepping.unread.first - run.first
        run.first = stepping.unread.first
        self.nbytes -= run.nbytes
        self.nbytes += run.measure()
        return self.nbytes <= kept_bytes and self.executions <= kept

    def _fall(self) -> bool:
        """Let the oldest run go; False if there is none, or one is looked at."""
        if not self.over or self.here is not None:
            return False
        run = self.over.popleft()
        self.nbytes -= run.nbytes
        self.executions -= run.executed - run.first
        self.fallen += 1
        run.stepping.close()
        self._forget_moments(run.manager)
        return True

    def _forget_moments(self, manager: ResourceManager) -> None:
        """Let go of what the resources of a session were where nobody can go to any more."""
        oldest = next((run.begun for run in self.over if run.manager is manager), None)
        begun = [run.begun for run in self._under_way.values() if run.manager is manager]
        if oldest is not None:
            begun.append(oldest)
        if begun:
            self._watched[manager].forget(min(begun))
        else:
            self._watched.pop(manager, None)

    def _make_room(self, stepping: Stepping) -> bool:
        """Let a step have the room of the oldest runs; whether that is enough."""
        with self._lock:
            while stepping.room < 0 or stepping.room_bytes < 0:
                if not self._fall():
                    return False
                stepping.reserve(self.executions, self.nbytes)
            return True

    def clear(self) -> None:
        """Keep nothing: nobody looks any more."""
        with self._lock:
            while self._fall():
                pass

    # Going into them.

    @property
    def count(self) -> int:
        """How many there have been, with the one that is under way."""
        return self._count + (self.present is not None)

    @property
    def number(self) -> int:
        """The number of the one that is looked at."""
        return self.here.number if self.here is not None else self.count

    @property
    def first(self) -> int:
        """The number of the oldest that is kept."""
        return self.over[0].number if self.over else self.count

    def before(self) -> Run | None:
        """The run before the one that is looked at, if it is kept."""
        index = len(self.over) if self.here is None else self.over.index(self.here)
        return self.over[index - 1] if index else None

    def earlier(self) -> list[Run]:
        """The runs before the one that is looked at which are kept."""
        return list(self.over)[: None if self.here is None else self.over.index(self.here)]

    def after(self) -> Run | None:
        """The run after the one that is looked at, which is over; None if that is the present step."""
        assert self.here is not None
        index = self.over.index(self.here) + 1
        return self.over[index] if index < len(self.over) else None

    def numbered(self, number: int) -> Run:
        """Run `number`, which is over.  Raises CommandError if it is not kept, or not over."""
        for run in self.over:
            if run.number == number:
                return run
        if number > self._count or number < 1:
            raise CommandError(
                f"there is no run {number} before this one ({self.first} to {self.count}; runs lists them)"
            )
        raise CommandError(
            f"run {number} is no longer kept: the budget is used up (history says how much that is)"
        )

    def enter(self, run: Run, at_begin: bool) -> str:
        """Look at a run that is over, at its end or its beginning.  Gives what is to be said of what nobody has watched.

        Raises CommandError if another thread's step does not come to rest.
        """
        try:
            return self._enter(run, at_begin)
        except CommandError:
            raise
        except Exception as error:  # so that the script, at least, finds everything as it left it
            self._give_up(run)
            raise CommandError(f"{run.title} cannot be gone into: {type(error).__name__}: {error}") from error

    def _enter(self, run: Run, at_begin: bool) -> str:
        if self.here is None:
            self._leave_present()
        else:
            self._settle(self.here)
        said = self._unwatched(run)
        self.here = run
        stepping = run.stepping
        stepping.catch_up()
        if run.manager not in self._saved:
            self._saved[run.manager] = self._watched[run.manager].now()
        run.manager.put_back(run.container, run.contents)
        transfers = stepping.step.transfers
        if transfers is not None:
            transfers.rendezvous.forget_error()
            transfers.park_anew(stepping.state.ready)
        if at_begin and run.first == 0 and not stepping.executed:
            self._become(run, run.begun, 0)
        elif stepping.future:
            self._become(run, run.begun, 0)
            self._forward(run)
        else:
            self._stand_at_end(run)
        if at_begin:
            self._backward(run)
        self.debugger.look_at(stepping)
        return said

    def _give_up(self, run: Run) -> None:
        """Look at the present step again, and never at `run`."""
        self.here = run
        run.manager.clear((run.container,))
        self._restore()
        self.over.remove(run)
        self.nbytes -= run.nbytes
        self.executions -= run.executed - run.first

    def come_back(self) -> None:
        """Look at the present step again, where it stood."""
        if self.here is None:
            return
        try:
            self._settle(self.here)
        except Exception:
            self._give_up(self.here)
            return
        self._restore()

    def _restore(self) -> None:
        self.here = None
        self._past = None
        saved, self._saved = self._saved, {}
        for manager, resources in saved.items():
            self._watched[manager].become(resources, exactly=True)
        self._mark(self._saved_marks)
        present = self.present
        assert present is not None
        present.manager.put_back(present.container, present.contents)
        self.gate.open()
        self.debugger.look_at(present.stepping)
        self.trim()

    def to_begin_of_present(self) -> None:
        """Look at the present step where it began; what it has done comes again as it was."""
        self.come_back()
        assert self.present is not None
        stepping = self.present.stepping
        if stepping.history:
            stepping.recalls = True
        while stepping.history:
            stepping.back()
        stepping.foreign = []

    def _leave_present(self) -> None:
        present = self.present
        if present is None:
            raise CommandError("no step is stopped")
        if not self.gate.close(REST_SECONDS):
            raise CommandError(
                "another thread's step is in the middle of a node, and would not find its variables; try again when it is done"
            )
        self._saved_marks = self._marks()
        self._saved = {present.manager: self._watched[present.manager].now()}
        present.manager.clear((present.container,))

    def _settle(self, run: Run) -> None:
        """Let a run that is over stand at its end, or at its beginning if that is nearer and it has one."""
        stepping = run.stepping
        if run.first == 0 and stepping.executed <= len(stepping.future):
            self._backward(run)
        else:
            self._forward(run)
        stepping.foreign = []
        self.nbytes -= run.nbytes
        self.nbytes += run.measure()
        run.manager.clear((run.container,))

    def _backward(self, run: Run) -> None:
        stepping = run.stepping
        while stepping.history:
            stepping.back()
        if not run.first:
            self._become(run, run.begun, 0)

    def _forward(self, run: Run) -> None:
        stepping = run.stepping
        while stepping.future:
            stepping.redo()
        self._stand_at_end(run)

    def _stand_at_end(self, run: Run) -> None:
        self._become(run, run.ended, 1)
        run.stepping.error = run.error
        run.stepping.step.half_done = run.half_done

    def _become(self, run: Run, moment: int, which: int) -> None:
        watched = self._watched[run.manager]
        watched.become(watched.at(moment))
        self._mark(run.marks[which])

    def reached(self) -> None:
        """Whoever moved in a run that is over has stopped: at its end and beginning all is as it was, whoever changed it."""
        run = self.here
        if run is None:
            return
        stepping = run.stepping
        if not stepping.future:
            self._stand_at_end(run)
        elif not stepping.executed:
            self._become(run, run.begun, 0)

    # What else there is.

    def stays(self, run: Run) -> str:
        """What was done outside between the end of `run` and the beginning of the one that is looked at, and stays."""
        end = len(self.over) if self.here is None else self.over.index(self.here)
        done = [
            (each, item)
            for each in list(self.over)[self.over.index(run) + 1 : end]
            for item in self._with_effects(each)
            if item.index in each.stepping.latest
        ]
        if not done:
            return ""
        named = ", ".join(f"{item.name} in {each.title} ({effect_of(item)})" for each, item in done[-3:])
        more = f" and {plural(len(done) - 3, 'other node')}" if len(done) > 3 else ""
        return f"what was done outside since stays: {named}{more}"

    def _with_effects(self, run: Run) -> Sequence[Item]:
        executable = run.stepping.step.executable
        found = self._effects.get(executable)
        if found is None:
            found = [item for item in executable.program.items if effect_of(item)]
            self._effects[executable] = found
        return found

    def _unwatched(self, run: Run) -> str:
        """What has changed between `run` and the one after it, or the one before if one comes from there."""
        later = self._next_of(run)
        if later is None:
            return ""
        names = self._watched[run.manager].changed(run.ended, later.begun)
        if not names:
            return ""
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        after = later.title if later.number else "this one"
        return f"between {run.title} and {after}, {shown} had been changed by what was not watched: that is not so here"

    def _next_of(self, run: Run) -> Run | None:
        """The run after `run` in the same session."""
        index = self.over.index(run) + 1
        for later in [*list(self.over)[index:], *([self.present] if self.present is not None else [])]:
            if later.manager is run.manager:
                return later
        return None

    def _marks(self) -> _Marks:
        marked = self.debugger.marked
        return {each: dict(parts) for each, parts in marked.items() if parts} if len(marked) else {}

    def _mark(self, wanted: _Marks) -> None:
        """Let resources be marked as they were; the parts keep their mappings, which histories know."""
        marked = self.debugger.marked
        for resource, parts in list(marked.items()):
            if resource not in wanted:
                parts.clear()
        for resource, old in wanted.items():
            parts = marked.setdefault(resource, {})
            parts.clear()
            parts.update(old)  # type: ignore[arg-type]

    def past(self, past: Past) -> Past:
        """What was known of earlier steps where one stands."""
        run = self.here
        if run is None:
            return past
        if self._past is None or self._past[0] is not run:
            later = list(self.over)[self.over.index(run) :]
            self._past = (run, past.without([each.writers for each in later]))
        return self._past[1]
