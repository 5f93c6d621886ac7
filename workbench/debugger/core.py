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

from engine.runtime import driver
from engine.runtime.driver import StepRun
from engine.runtime.state import Activation
from engine.types import errors
from engine.types.site import Frame as SiteFrame
from viz.format import plural
from workbench.debugger import commands, device_views, flow_views, looking, moves, source, views
from workbench.debugger.breakpoints import Breakpoints
from workbench.debugger.command import Answer
from workbench.debugger.snapshot import ErrorView, Snapshot, Status, TokenView
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Summaries

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
        self.breakpoints = Breakpoints()
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
        self._ended: tuple[ErrorView | None, int] | None = None
        self._last_snapshot: Snapshot | None = None
        self.asked: Activation | None = None  # the dead activation that `why` explains

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
        thread = threading.get_ident()
        step.deadline = None  # who looks takes time
        stepping = Stepping(step)
        if self._owner == thread:
            while stepping.ready:
                stepping.execute()
            return
        try:
            if self._owner is None:
                self.status = Status.RUNNING
                self.stepping = stepping
            if self._move.stops_at_begin and self._take_turn(stepping, wait=False):
                self._stop(stepping, "Session.run begins")
            self._go(stepping)
        finally:
            if self._owner == thread:
                self._last_snapshot = self._picture(stepping)
                self._owner = None
                self._turn.release()
            if self.stepping is stepping:
                self.stepping = None
                self.asked = None
                self.status = Status.WAITING_FOR_RUN
                self.front.left(self)

    def _go(self, stepping: Stepping) -> None:
        thread = threading.get_ident()
        resumed = self._owner == thread  # the person has seen the next node already
        countdown = _INTERRUPTS_EVERY
        while True:
            while stepping.ready:
                mine = self._owner == thread
                if not resumed:
                    reason = self._reason_to_stop(stepping, mine)
                    if reason is not None and (mine or self._take_turn(stepping, wait=True)):
                        self._stop(stepping, reason)
                        resumed = True
                        continue
                elif mine and self._move.wanted is not None:
                    stepping.prefer(self._move.wanted)
                resumed = self._execute(stepping)
                countdown -= 1
                if countdown == 0:
                    countdown = _INTERRUPTS_EVERY
                    stepping.step.check_interrupts()
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
            resumed = True  # `back` has made something ready again

    def _execute(self, stepping: Stepping) -> bool:
        """Execute the next activation; an error stops before it reaches the script.  True if the step stopped and went on."""
        try:
            stepping.execute()
        except Exception as error:
            stepping.error = error
            if self._owner == threading.get_ident() or self._take_turn(stepping, wait=True):
                self._stop(stepping, f"error in {stepping.ready[0].name}")
            if stepping.error is None:  # the way to it was taken back
                return True
            raise
        return False

    def _reason_to_stop(self, stepping: Stepping, mine: bool) -> str | None:
        activation = stepping.ready[0]
        found = self.breakpoints.at(activation, stepping.step.stage)
        if found is not None:
            self.breakpoints.count(found)
            return f"breakpoint {found.number} at {activation.name}"
        if self._pause and (mine or self._owner is None):
            reason, self._pause = self._pause, ""
            return reason
        if mine and self._move.done is not None:
            return self._move.done(stepping)
        return None

    # Turns.

    def _take_turn(self, stepping: Stepping, wait: bool) -> bool:
        """Make `stepping` the step that is looked at; False if another one is and `wait` is false."""
        if not self._turn.acquire(blocking=wait):
            return False
        self._owner = threading.get_ident()
        self.stepping = stepping
        return True

    # Stopping.

    def _stop(self, stepping: Stepping, reason: str) -> None:
        """Carry out commands until one says to go on."""
        if self._quit:
            raise Quit
        self.status = Status.STOPPED
        self.reason = reason
        self.message = ""
        self.front.stopped(self)
        while True:
            answer = self.execute(self.front.command(self))
            if answer.quit:
                raise Quit
            if answer.move is not None:
                self._move = answer.move
                self._pause = ""
                self.status = Status.RUNNING
                self.reason = ""
                self.front.resumed(self)
                return
            self.message = answer.text
            self.front.answered(self, answer)

    def execute(self, line: str) -> Answer:
        """Carry out one command line.  A line that makes no sense is an answer that says so, never an exception."""
        return commands.carry_out(self, line)

    def pause(self, reason: str = "paused") -> None:
        """Stop before the next node, from any thread."""
        self._pause = reason

    def quit(self) -> None:
        """End the script at the next node, from any thread."""
        self._quit = True
        self._pause = "quit"

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
            ended=ended,
            ended_count=ended_count,
            resources=resources,
            resource_count=resource_count,
            way=way,
            devices=device_views.device_states_of(stepping),
            awaited=device_views.awaited_views(stepping),
            sent=device_views.sent_views(stepping),
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
