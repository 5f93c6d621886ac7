"""A plan: the compiled form of one signature's program, and how it is run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from engine.observe import TraceLevel
from engine.runtime import step
from engine.runtime.diagnosis import short
from engine.runtime.failures import about_shapes, explain, in_fused
from engine.runtime.plan import python
from engine.runtime.plan.ir import NotExpressible
from engine.runtime.plan.joining import NAME as JOINED
from engine.runtime.plan.joining import joined
from engine.runtime.plan.paths import Layout
from engine.runtime.plan.specials import Special, Specials
from engine.runtime.plan.structure import linearize
from engine.types import errors

if TYPE_CHECKING:
    from engine.runtime.context import StepContext
    from engine.runtime.executable import Executable
    from engine.runtime.plan.record import Log
    from engine.runtime.program import Item
    from engine.runtime.resources import ResourceManager

_SLICE = 0.02  # seconds between two looks at whether a step should stop


class Plan:
    """The linear program of `executable`, and the text that runs it, one for each trace level.

    `uses_step` says whether a step may leave resources of its own behind.

    Raises NotExpressible, with the node and the reason, if there is none.
    """

    def __init__(
        self,
        executable: Executable,
        *,
        native: bool = True,
        exact: bool = False,
        threads: int = 0,
        background: bool = False,
    ) -> None:
        for device in executable.devices:
            if not device.plain:
                raise NotExpressible(
                    f"kernels run on {device.name}, which has a memory and streams of its own"
                )
        executable = joined(executable)
        self.executable = executable
        self.linear = linearize(executable.program)
        self.uses_step = any(python.writes_resources(each) for each in self.linear.walk())
        self._loops = bool(self.linear.loops)
        self.specials = Specials(self.linear, executable, exact, threads, background) if native else None
        self._lock = threading.Lock()
        self._programs: dict[tuple[TraceLevel, Any], python.PythonProgram] = {}
        self._layouts: dict[bool, Layout] = {}
        self._settled: python.PythonProgram | None = None  # what runs whenever nobody watches

    @property
    def joins(self) -> bool:
        """Whether its program is one of several devices, between which nothing is sent."""
        return self.executable.stage.name == JOINED

    def program(self, level: TraceLevel = TraceLevel.OFF) -> python.PythonProgram:
        """The program in Python, written when it is first asked for."""
        key = level, step.checker
        found = self._programs.get(key)
        if found is None:
            with self._lock:
                found = self._programs.get(key)
                if found is None:
                    made = python.write(self.linear, self.executable, level, step.checker)
                    found = self._programs[key] = made
        return found

    def layout(self, level: TraceLevel, special: Special | None = None) -> Layout:
        """What a log at this level means, for `engine.runtime.plan.record.Log`, where `special` serves (None: Python)."""
        if special is not None:
            return special.layout(self.executable, level)
        values = level >= TraceLevel.VALUES
        found = self._layouts.get(values)
        if found is None:
            found = self._layouts[values] = Layout(self.linear, self.executable, values)
        return found

    def run(
        self,
        context: StepContext,
        resources: ResourceManager,
        cancelled: threading.Event | None = None,
        deadline: float | None = None,
        level: TraceLevel = TraceLevel.OFF,
        log: Log | None = None,
        special: Special | None = None,
    ) -> None:
        """One step; results are in `context.results`.  With a `log`: `special` is what its layout is of (None: Python).

        Raises what the interpreter raises: OpErrors attached to the node, CancelledError or DeadlineExceededError, saying where,
        from within a loop.
        """
        program = self._settled
        if log is not None and special is not None:
            from engine.runtime.plan.stamped import Tapes

            program = special.noted(self.executable, level)
            looks = level >= TraceLevel.VALUES
            log.tapes = Tapes(*special.watched(), context.container, log, looks=looks)
        elif program is None or level or step.checker is not None:
            program = self._choose(context, level)
        if context.borrowed:
            for index in program.keeps:
                context.feeds[index] = context.feeds[index].copy()
        watch = _Watch(self, cancelled, deadline, log) if self._loops else None
        check = watch.check if watch is not None else None
        try:
            program.function(resources, context, context.feeds, context.results, check, log)
        except Exception as raised:
            if watch is not None and raised is watch.error:
                raise
            self._fail(raised, program)
        except BaseException as interrupt:
            item = program.node_next(interrupt)
            if isinstance(interrupt, KeyboardInterrupt) and item is not None:
                interrupt.add_note(f"interrupted in Session.run; next to run: {self.place(item, watch)}")
            raise

    def special(self, feeds: Sequence[Any], level: TraceLevel) -> Special | None:
        """The specialisation that serves those who watch at this level; None: Python does."""
        if level not in (TraceLevel.TIMES, TraceLevel.VALUES) or self.specials is None:
            return None
        found = self.specials.find(feeds)
        return None if found is not None and level >= TraceLevel.VALUES and found.blind else found

    def _fail(self, raised: Exception, program: python.PythonProgram) -> NoReturn:
        """Raise what went wrong as an OpError of the node whose line it came from."""
        item = program.node_at(raised)
        if item is None:
            raise raised
        error, node = in_fused(raised, item.node)
        told = error if item.node.opdef.stateful else about_shapes(error)
        raise explain(told, node) from (error.__cause__ if isinstance(told, errors.OpError) else error)

    def _choose(self, context: StepContext, level: TraceLevel) -> python.PythonProgram:
        """The program for a run: that of the feeds' shapes, if there is one."""
        specials = self.specials
        if specials is not None and not level:
            special = specials.find(context.feeds)
            if special is not None:
                if specials.alone:
                    self._settled = special.program
                return special.program
            if specials.alone and specials.made:  # there is none, and never will be
                self._settled = self.program()
        return self._programs.get((level, step.checker)) or self.program(level)

    def place(self, item: Item, watch: _Watch | None) -> str:
        """An item in words; of one in a loop, the iteration that is known; with its device if the step has several."""
        on = "" if self.executable.device else f" on {short(item.node.device)}"
        if item.frame.parent is None:
            return f"'{item.name}'{on}"
        about = f" iteration {watch.iteration}" if watch is not None and watch.iteration else ""
        return f"'{item.name}' ({item.frame.path}{about}){on}"


class _Watch:
    """Looks now and then whether the step should stop: about every `_SLICE` seconds, if iterations are not longer."""

    __slots__ = ("cancelled", "count", "deadline", "error", "iteration", "log", "looked", "plan")

    def __init__(
        self, plan: Plan, cancelled: threading.Event | None, deadline: float | None, log: Log | None
    ) -> None:
        self.plan = plan
        self.log = log
        self.cancelled = cancelled
        self.deadline = deadline
        self.iteration = 0
        self.error: BaseException | None = None
        self.count = python.FIRST_COUNTDOWN
        self.looked = time.perf_counter()

    def check(self, index: int, iteration: int) -> int:
        """Called from loops at the node of that index; how many iterations until the next time.

        Machine code calls it at times of its own, with iteration 0.  Raises CancelledError or DeadlineExceededError if it is
        time.
        """
        self.iteration = iteration
        if self.log is not None:
            try:
                self.log.pause()
            except BaseException as raised:  # by an observer: the step ends with it as it is
                self.error = raised
                raise
        error: errors.OpError | None = None
        if self.cancelled is not None and self.cancelled.is_set():
            error = errors.CancelledError(
                None, None, "The step was cancelled: its session was closed while it ran; next to run: "
            )
        elif self.deadline is not None and time.monotonic() > self.deadline:
            error = errors.DeadlineExceededError(
                None, None, "Timed out waiting for the step to finish; next to run: "
            )
        if error is not None:
            item = self.plan.executable.program.items[index]
            self.error = type(error)(None, None, error.message + self.plan.place(item, self)).attach(
                item.node
            )
            raise self.error
        if iteration:
            now = time.perf_counter()
            factor = min(8.0, _SLICE / max(now - self.looked, 1e-9))
            self.looked = now
            self.count = max(1, min(python.COUNTDOWN, int(self.count * factor)))
        return self.count
