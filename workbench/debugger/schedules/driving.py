"""Schedulers without a debugger: the engine's driver that runs every step under one, and keeps the schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.op.queues import Blocked
from engine.runtime import driver as drivers
from engine.runtime.driver import LOOK_UP_SECONDS
from engine.runtime.frames import Activation
from engine.runtime.step import StepRun
from workbench.debugger.schedules.exploration import Exploration
from workbench.debugger.schedules.exploring import explore_step
from workbench.debugger.schedules.record import Recorder, Schedule, ScheduleError
from workbench.debugger.schedules.schedulers import Scheduler
from workbench.debugger.schedules.walk import Walk

_INTERRUPTS_EVERY = 256  # executions between two looks at whether the session was closed


class Scheduled:
    """A driver that lets `scheduler` pick; `schedules` are those of the steps that have run, oldest first."""

    record = False

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.schedules: list[Schedule] = []

    def drive(self, step: StepRun) -> None:
        """Run `step` to its end.  Raises what it raises, and ScheduleError for a schedule of another graph."""
        recorder = Recorder(step.begin())
        scheduler, queue = self.scheduler, recorder.queue
        scheduler.begin(step, recorder)
        countdown = _INTERRUPTS_EVERY
        trying: Activation | None = None
        try:
            while queue or step.blocked:
                if not queue:
                    step.check_interrupts()
                    recorder.allowed(step.awaited(LOOK_UP_SECONDS))
                    continue
                trying = activation = queue[scheduler.choose(recorder) if len(queue) > 1 else 0]
                try:
                    run = step.finish(activation, step.execute(activation)).run
                except Blocked as blocked:  # a choice like any other, of which nothing comes
                    run = step.park(activation, blocked)
                recorder.executed(activation, run)
                trying = None
                scheduler.executed(activation, run, recorder)
                countdown -= 1
                if not countdown:
                    countdown = _INTERRUPTS_EVERY
                    step.check_interrupts()
        finally:
            self.schedules.append(recorder.schedule(step.stage, trying))


class Stuck(ScheduleError):
    """A step that has been explored would wait for a queue that only another step could change, or for itself."""


class Exploring:
    """A driver that explores each step (see `explore_step`) and then runs it as always; `found` are the explorations.

    A step that would wait for ever if nobody else came to its help is not run: it raises Stuck.
    """

    record = True

    def __init__(self, limit: int = 1_000, seconds: float = 30.0) -> None:
        self.limit, self.seconds = limit, seconds
        self.found: list[Exploration] = []

    def drive(self, step: StepRun) -> None:
        recorder = Recorder(step.begin())
        found = explore_step(step, recorder, limit=self.limit, seconds=self.seconds)
        self.found.append(found)
        if any(each.outcome.stuck for each in found.outcomes):
            walk = Walk(step, recorder.copy(), self.seconds)
            with walk.quiet():
                outcome = walk.run()
            if outcome.stuck:
                raise Stuck(f"the step was explored and not run, since it would wait: {outcome.stuck}")
        drivers.Sequential.go_on(step, recorder.queue)


@contextmanager
def driver(scheduler: Scheduler | drivers.Driver) -> Iterator[Scheduled]:
    """Inside the block every `Session.run` of this process runs under `scheduler`.

    Gives the driver, whose `schedules` are those of the steps that have run, ready for `Replay`.
    """
    made = Scheduled(scheduler) if isinstance(scheduler, Scheduler) else scheduler
    before = drivers.installed()
    drivers.install(made)
    try:
        yield made  # type: ignore[misc]  # a driver of the caller's own is given back as it is
    finally:
        drivers.uninstall()
        if before is not None:
            drivers.install(before)


def explore(run: Callable[[], object], *, limit: int = 1_000, seconds: float = 30.0) -> list[Exploration]:
    """Explore every step that `run()` runs, as in ``explore(lambda: session.run(loss))``; one `Exploration` a step.

    limit: complete executions a step; seconds: time a step.  A step that gets stuck ends `run`.
    """
    made = Exploring(limit, seconds)
    with driver(made), suppress(Stuck):
        run()
    return made.found
