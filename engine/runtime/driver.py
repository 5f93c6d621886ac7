"""Drivers: who decides which activation of a step runs next, and on which thread.

The default driver takes ready activations first come, first served, on the caller's thread; `engine.runtime.parallel` has the one
for several threads.  A debugger installs its own (`install`) and then every `Session.run` of the process goes through it.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from engine.op.queues import Blocked
from engine.runtime.executable import Executable
from engine.runtime.frames import Activation
from engine.runtime.step import Outcome, StepRun

__all__ = ["Driver", "Executable", "Outcome", "Sequential", "StepRun", "install", "installed", "uninstall"]

LOOK_UP_SECONDS = 0.05  # between two looks at whether a step that waits should stop


class Driver(Protocol):
    """Runs a step to its end; `record` says whether its steps keep a journal for `undo`."""

    record: bool

    def drive(self, step: StepRun) -> None:
        """Execute activations of `step` until none may run."""


class Sequential:
    """One thread, first come, first served."""

    record = False

    def drive(self, step: StepRun) -> None:
        self.go_on(step, deque(step.begin()))

    @staticmethod
    def go_on(step: StepRun, queue: deque[Activation]) -> None:
        """Run a step that is under way to its end; `queue` is what is ready."""
        execute, finish = step.execute, step.finish
        countdown = 256
        while queue or step.blocked:
            if not queue:
                step.check_interrupts()
                queue.extend(step.awaited(LOOK_UP_SECONDS))
                continue
            activation = queue.popleft()
            try:
                outcome = execute(activation)
            except Blocked as blocked:
                queue.extend(step.park(activation, blocked))
                continue
            queue.extend(finish(activation, outcome).run)
            countdown -= 1
            if countdown == 0:
                countdown = 256
                step.check_interrupts()


_installed: Driver | None = None


def install(driver: Driver) -> None:
    """Make every `Session.run` of this process go through `driver`."""
    global _installed
    _installed = driver


def uninstall() -> None:
    """Go back to running steps freely."""
    global _installed
    _installed = None


def installed() -> Driver | None:
    return _installed
