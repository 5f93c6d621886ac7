"""Debugger: drives a step node by node, under somebody's commands.

It is the engine's driver while it is installed: every `Session.run` of the process goes through `drive`, in the thread that
called it.  Whoever gives the commands is a `Front`: the agent of a front end in another process, a test, a notebook.
`Debugger.execute` carries out one line; `Debugger.snapshot` says all there is to see.

One step is stepped at a time.  While it is, steps of other threads run freely up to a breakpoint, and there wait for their turn;
a step inside a step (a `py_func` that calls `Session.run`) runs freely.
"""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol
from weakref import WeakKeyDictionary

from engine.op.queues import Blocked
from engine.runtime import driver
from engine.runtime.driver import StepRun
from engine.runtime.frames import Activation
from engine.types import errors
from engine.types.site import Frame as SiteFrame
from viz.format import plural
from workbench.debugger import (
    commands,
    device_views,
    earlier,
    flow_views,
    free_running,
    looking,
    moves,
    scheduling,
    source,
    views,
)
from workbench.debugger.breakpoints import Breakpoints
from workbench.debugger.command import Answer
from workbench.debugger.free_running import Alerts
from workbench.debugger.overrides import Marked, Overrides
from workbench.debugger.questions.past import Past
from workbench.debugger.runs import Runs
from workbench.debugger.schedules.record import Schedule
from workbench.debugger.schedules.schedulers import Scheduler
from workbench.debugger.snapshot import MAX_LOGGED, ErrorView, Snapshot, Status, TokenView
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Summaries

STUCK_SECONDS = 1.0  # after which a step that only waits for queues stops by itself
WAIT_SECONDS = 0.1  # between two looks at whether somebody wants a step to stop that waits for a queue
_INTERRUPTS_EVERY = 256  # executions between two looks at whether the session was closed


class Quit(BaseException):
    """Raised out of `Session.run` when the person at the debugger has had enough."""


class Front(Protocol):
    """Who gives the commands.  All methods are called in the thread whose step is stopped or has moved."""

    def stopped(self, debugger: Debugger) -> None:
        """A step has stopped; `debugger.snapshot()` has it."""

    def command(self, debugger: Debugger) -> str:
        """The next command line; may block."""

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        """The command was carried out, and the step is still (or again) stopped where the snapshot says."""

    def resumed(self, debugger: Debugger) -> None:
        """The step goes on."""

    def left(self, debugger: Debugger) -> None:
        """The step is over; the script's own code runs."""


class Debugger:
    """See the module.  `script` and `argv` are for show.

    stop_at_first: stop at the first `Session.run`; if False, only breakpoints stop.
    """

    record = True

    def __init__(
        self, front: Front, *, script: str = "", argv: Sequence[str] = (), stop_at_first: bool = True
    ) -> None:
        self.front = front
        self.script = script
        self.argv = tuple(argv)
        self.breakpoints = Breakpoints(self._alert)
        self.kept, self.kept_bytes = 0, 0  # the budget of the history; 0 is `Stepping`'s own
        self._told = -1  # executions done where the person was told that nothing is ready
        self._alerts = Alerts()
        self.status = Status.WAITING_FOR_RUN
        self.reason = ""
        self.message = ""
        self.stepping: Stepping | None = None
        self.summaries = Summaries()
        self._move = moves.next_run() if stop_at_first else moves.freely()
        self._serial = itertools.count(1)
        self._turn = threading.RLock()
        self._owner: int | None = None
        self._pause = ""
        self._quit = False
        self.released = False  # nobody looks any more: steps run on freely
        self.marked: Marked = WeakKeyDictionary()  # what is in resources that descends from a change by hand
        self._ended: tuple[ErrorView | None, int] | None = None
        self._last_snapshot: Snapshot | None = None
        self.asked: Activation | None = None  # the dead activation that `why` explains
        self.scheduler: Scheduler | None = None  # of the steps to come; None: first come, first served
        self.pending_schedule: Schedule | None = None  # to be replayed by the step that it is a schedule of
        self._past = Past()
        self.runs = Runs(self)

    # Being the engine's driver.

    @contextmanager
    def installed(self) -> Iterator[Debugger]:
        """Let every `Session.run` of this process go through the debugger inside the `with` block."""
        driver.install(self)
        try:
            yield self
        finally:
            driver.uninstall()

    def drive(self, step: StepRun) -> None:
        """Execute `step` under the front's commands.  Raises Quit, and what the step raises."""
        step.deadline = None  # who looks takes time
        if self._owner == threading.get_ident():
            self._run_free(self._stepping(step))
            return
        with self.runs.gate.inside():
            self._drive(self._stepping(step))

    def _stepping(self, step: StepRun) -> Stepping:
        stepping = Stepping(step, self.kept, self.kept_bytes)
        stepping.overrides = Overrides(self.marked)
        return stepping

    def _drive(self, stepping: Stepping) -> None:
        thread = threading.get_ident()
        run = self.runs.begin(stepping)
        kept = False
        try:
            scheduling.begin_step(self, stepping)
            if self._owner is None:
                self.status = Status.RUNNING
                self._show(stepping)
            if self._move.stops_at_begin and self._take_turn(stepping, wait=False):
                self._stop(stepping, "Session.run begins")
            self._go(stepping)
        finally:
            if self._owner == thread:
                self.runs.come_back()
                self._last_snapshot = self._picture(stepping)
                self._owner = None
                self._turn.release()
            if self.stepping is stepping:
                writers = self._past.take(stepping)
                if stepping.step.written is not None and not self.released:
                    self.runs.end(run, writers)
                    kept = True
                self._show(None)
                self.status = Status.WAITING_FOR_RUN
                self.front.left(self)
            if not kept:
                self.runs.drop(stepping)

    def _show(self, stepping: Stepping | None) -> None:
        """The step that is looked at is that one, which is under way; None: none is."""
        self.runs.look_at(stepping)
        self.look_at(stepping)

    def look_at(self, stepping: Stepping | None) -> None:
        """Commands are about that step, which may be over."""
        self.stepping = stepping
        self.asked = None

    @property
    def past(self) -> Past:
        """What is known of the steps before the one that is looked at."""
        return self.runs.past(self._past)

    def _go(self, stepping: Stepping) -> None:
        thread = threading.get_ident()
        # Where the person has seen the next node already, neither breakpoints nor the move stop; after a stop that was about what
        # has executed, breakpoints do.
        seen = begun = self._owner == thread
        countdown = _INTERRUPTS_EVERY
        gate = self.runs.gate
        while True:
            gate.wait()
            while stepping.ready:
                if gate.closed:
                    gate.wait()
                if self.released:
                    self._run_free(stepping)
                    return
                alerts = self._alerts.count
                mine = self._owner == thread
                move = self._move
                if stepping.scheduler is not None and not (mine and move.wanted is not None):
                    stepping.scheduler(stepping)
                if not seen:
                    reason = self._reason_to_stop(stepping, mine, begun)
                    if reason is not None and (mine or self._take_turn(stepping, wait=True)):
                        self._stop(stepping, reason)
                        seen = begun = True
                        continue
                if seen and mine and move.wanted is not None:
                    stepping.prefer(move.wanted)
                free = not mine or (move.done is None and move.wanted is None)
                if free and self.breakpoints.quiet and stepping.scheduler is None and not stepping.future:
                    seen = begun = self._run(stepping, alerts)
                    continue
                executed = stepping.executed
                seen = begun = self._execute(stepping)
                if not seen and stepping.executed > executed and not self.breakpoints.quiet:
                    hit = self.breakpoints.after(stepping, stepping.history[-1])
                    if hit is not None and (mine or self._take_turn(stepping, wait=True)):
                        self._stop(stepping, hit.reason)
                        begun = True
                countdown -= 1
                if countdown == 0:
                    countdown = _INTERRUPTS_EVERY
                    stepping.step.check_interrupts()
            if stepping.step.blocked:
                self._wait(stepping)
                seen = begun = False
                continue
            if self._owner != thread or not self._move.stops_at_end:
                return
            parked = looking.parked_of(stepping)
            self._stop(
                stepping,
                "the step is done"
                if not parked
                else f"stuck: {plural(len(parked), 'receive')} waiting (info transfers)",
            )
            if not stepping.ready:
                return
            seen = begun = True  # `back` has made something ready again

    def _run(self, stepping: Stepping, alerts: int) -> bool:
        """Execute with nothing to look out for, until there is something.  True if the step stopped (at an error) and went on."""
        countdown = _INTERRUPTS_EVERY
        while stepping.ready and self._alerts.count == alerts:
            if not stepping.moved and not stepping.overrides.active:
                failed = free_running.run(stepping, self._alerts, alerts)
                return self._failed(stepping, failed) if failed is not None else False
            try:
                stepping.execute()
            except Blocked:
                continue
            except Exception as error:
                return self._failed(stepping, error)
            countdown -= 1
            if countdown == 0:
                countdown = _INTERRUPTS_EVERY
                stepping.step.check_interrupts()
        return False

    @staticmethod
    def _run_free(stepping: Stepping) -> None:
        """Run a step to its end that nobody looks at any more, keeping nothing to go back with."""
        stepping.step.stop_recording()
        driver.Sequential.go_on(stepping.step, stepping.ready)

    def _execute(self, stepping: Stepping) -> bool:
        """Execute the next activation; an error stops before it reaches the script.  True if the step stopped and went on."""
        try:
            stepping.execute()
        except Blocked:
            return False
        except Exception as error:
            return self._failed(stepping, error)
        return False

    def _wait(self, stepping: Stepping) -> None:
        """Nothing is ready, and something waits for a queue: wait for it, or say so to whoever wants to see each node."""
        mine = self._owner == threading.get_ident()
        free = mine or self._owner is None
        wants = (self._move.done is not None and mine) or (free and stepping.is_stuck(STUCK_SECONDS))
        if (self._pause and free) or (wants and self._told != stepping.executed):
            if mine or self._take_turn(stepping, wait=True):
                self._told, self._pause = stepping.executed, ""
                self._stop(
                    stepping, f"nothing is ready{stepping.step.where().removeprefix('nothing')} (c waits)"
                )
        if not stepping.ready:
            stepping.step.check_interrupts()
            stepping.wait(WAIT_SECONDS)

    def _failed(self, stepping: Stepping, error: Exception) -> bool:
        """Stop at an error before it reaches the script, if errors are caught; raises it unless the way to it was taken back."""
        stepping.error = error
        hit = self.breakpoints.failed(stepping, error) if stepping.ready else None
        if hit is not None and (self._owner == threading.get_ident() or self._take_turn(stepping, wait=True)):
            self._stop(stepping, hit.reason)
        if stepping.error is None:
            return True
        raise error

    def _reason_to_stop(self, stepping: Stepping, mine: bool, begun: bool) -> str | None:
        """Why to stop before the next node; `begun`: the move begins here, and so does not end."""
        hit = self.breakpoints.before(stepping, stepping.ready[0])
        if hit is not None:
            return hit.reason
        if self._pause and (mine or self._owner is None):
            reason, self._pause = self._pause, ""
            return reason
        if mine and not begun and self._move.done is not None:
            return self._move.done(stepping)
        return None

    def _alert(self) -> None:
        """Let every step that runs freely look again at what it has to look out for."""
        self._alerts.count += 1

    # Turns.

    def _take_turn(self, stepping: Stepping, wait: bool) -> bool:
        """Make `stepping` the step that is looked at; False if another one is and `wait` is false."""
        if not self._turn.acquire(blocking=False):
            if not wait:
                return False
            with self.runs.gate.at_rest():
                self._turn.acquire()
        self._owner = threading.get_ident()
        self._show(stepping)
        return True

    # Stopping.

    def _stop(self, stepping: Stepping, reason: str) -> None:
        """Carry out commands until one says to go on."""
        if self._quit:
            raise Quit
        if self.released:
            return
        self.status = Status.STOPPED
        self.reason = reason
        self.message = ""
        stepping.visit()
        self.front.stopped(self)
        while True:
            answer = self.execute(self.front.command(self))
            if answer.quit:
                raise Quit
            if self.released:
                self.runs.come_back()
            if answer.move is not None:
                self._pause = ""
                self.status = Status.RUNNING
                self.reason = ""
                self.front.resumed(self)
                move = earlier.go_on(self, answer.move) if self.runs.here is not None else answer.move
                if move is not None:
                    self._move = move
                    return
                self._stopped_earlier()
                continue
            self.message = answer.text
            self.front.answered(self, answer)

    def _stopped_earlier(self) -> None:
        """A move has stopped before it came to where the present step stands."""
        if self._quit:
            raise Quit
        self.status = Status.STOPPED
        self.message = ""
        assert self.stepping is not None
        self.stepping.visit()
        self.front.stopped(self)

    def wants_to_stop(self) -> str:
        """Why somebody wants a move to stop at once; empty if nobody does."""
        reason, self._pause = self._pause, ""
        return reason

    def execute(self, line: str) -> Answer:
        """Carry out one command line.  A line that makes no sense is an answer that says so, never an exception."""
        return commands.carry_out(self, line)

    def pause(self, reason: str = "paused") -> None:
        """Stop before the next node, from any thread."""
        self._pause = reason
        self._alert()

    def release(self) -> None:
        """Stop no more, from any thread: breakpoints are forgotten, and what is under way runs on as if nobody had looked."""
        self.breakpoints.clear()
        self.released = True
        if self.runs.here is None:
            self.runs.clear()
        self._move = moves.freely()
        self._pause = "detached"
        self._alert()
        if driver.installed() is self:
            driver.uninstall()

    def quit(self) -> None:
        """End the script at the next node, from any thread."""
        self._quit = True
        self._pause = "quit"
        self._alert()

    def finish(self, error: ErrorView | None, exit_code: int) -> None:
        """The script has ended."""
        self._ended = (error, exit_code)
        self.status = Status.FAILED if error is not None else Status.FINISHED

    # Looking.

    def snapshot(self) -> Snapshot:
        """All there is to see now.  While a step runs, the picture is that of its last stop with the count brought up to date."""
        stepping = self.stepping
        if self.status is Status.STOPPED and stepping is not None:
            return self._picture(stepping)
        last = self._last_snapshot
        step = views.step_view(stepping) if stepping is not None else None
        if last is None or (step is not None and last.step != step):
            last = Snapshot(0, self.status, self.script, self.argv, step=step)
        found = replace(
            last,
            serial=next(self._serial),
            status=self.status,
            reason="",
            message="",
            breakpoints=self.breakpoints.views,
            can_undo=False,
        )
        if stepping is not None:
            found = replace(found, executed=stepping.executed)
        if self._ended is not None:
            error, exit_code = self._ended
            found = replace(found, error=error, exit_code=exit_code)
        return found

    def _picture(self, stepping: Stepping) -> Snapshot:
        self.summaries.turn()
        activation, last = stepping.next, stepping.last
        ready = views.ready_views(stepping, self.breakpoints)
        waiting, waiting_count = views.waiting_views(stepping, self.summaries)
        frames, frame_count = views.frame_views(stepping)
        ended, ended_count = views.ended_views(stepping)
        resources, resource_count = flow_views.resource_views(stepping, self.summaries)
        way = flow_views.way_view(stepping, self.asked) if self.asked is not None else None
        inputs: tuple[TokenView, ...] = ()
        item = None
        if activation is not None:
            item = activation.item
            inputs = views.input_views(stepping, item, activation.frame, activation.iteration, self.summaries)
        elif last is not None:
            item = last.activation.item
        site = item.node.site if item is not None else None
        found = Snapshot(
            serial=next(self._serial),
            status=self.status,
            script=self.script,
            argv=self.argv,
            reason=self.reason,
            message=self.message,
            step=views.step_view(stepping),
            executed=stepping.executed,
            next=ready[0].activation if ready else None,
            next_inputs=inputs,
            ready=ready,
            ready_count=len(stepping.ready),
            waiting=waiting,
            waiting_count=waiting_count,
            frames=frames,
            frame_count=frame_count,
            last=views.executed_view(last, self.summaries) if last is not None else None,
            history=views.history_views(stepping, self.summaries),
            source=source.view(site.user if site is not None else None),
            run_source=source.view(self.run_site(stepping)),
            breakpoints=self.breakpoints.views,
            error=error_view(stepping.error) if stepping.error is not None else None,
            can_undo=bool(stepping.history),
            logged=tuple(self.breakpoints.logged)[-MAX_LOGGED:],
            logged_count=self.breakpoints.logged_count,
            first_row=stepping.executed - len(stepping.history),
            future=len(stepping.future),
            ended=ended,
            ended_count=ended_count,
            resources=resources,
            resource_count=resource_count,
            way=way,
            devices=device_views.device_states_of(stepping),
            awaited=device_views.awaited_views(stepping),
            sent=device_views.sent_views(stepping),
            run=self.runs.number,
            runs=self.runs.count,
            first_run=self.runs.first,
            past=self.runs.here is not None,
        )
        self._last_snapshot = found
        return found

    @staticmethod
    def run_site(stepping: Stepping) -> SiteFrame | None:
        """The user's line that called `Session.run`."""
        info = stepping.step.info
        return info.site[0] if info is not None and info.site else None


def error_view(error: BaseException) -> ErrorView:
    """An exception, with the traceback that Python would print."""
    text = error.message if isinstance(error, errors.OpError) else str(error)
    lines = traceback.format_exception(error)
    return ErrorView(type(error).__name__, text, "".join(lines))
