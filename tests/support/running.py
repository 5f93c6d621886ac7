"""Doing something to a step once it is under way: no clock says when that is, the step does.

Steps look now and then whether they should stop: those of the interpreter in `StepRun.check_interrupts`, plans in `_Watch.check`,
which only loops call.  Who waits for such a look knows that the step runs, however slow the machine is.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine.runtime import step, step_runner
from engine.runtime.plan import plan
from engine.runtime.plan.plan import _Watch
from engine.runtime.step import StepRun

PATIENCE = 100.0  # seconds: nothing waits so long, unless something is broken


class Looks:
    """When steps have looked whether they should stop, by `time.perf_counter`.

    There is no lock in it: an interrupt that a step gets while it looks would leave that locked.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self._over = threading.Event()

    def end(self) -> None:
        """Nobody need wait for a look any more."""
        self._over.set()

    def wait(self, more: int) -> bool:
        """Wait for so many more looks than there have been; False: the end came first."""
        wanted = len(self.times) + more
        while len(self.times) < wanted:
            if self._over.wait(0.002):
                return False
        return not self._over.is_set()


@contextmanager
def looks(each: Callable[[int], object] = lambda count: None) -> Iterator[Looks]:
    """Keeps count of the looks of all steps inside of the block.  each: called first at every look, with their count."""
    counted = Looks()

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def look(*args: Any) -> Any:
            counted.times.append(time.perf_counter())
            each(len(counted.times))
            return original(*args)

        return look

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Watch, "check", counting(_Watch.check))
        patch.setattr(StepRun, "check_interrupts", counting(StepRun.check_interrupts))
        try:
            yield counted
        finally:
            counted.end()


@contextmanager
def once_it_runs(act: Callable[[], object], after: int = 2) -> Iterator[None]:
    """`act`, on a thread of its own, when the step in the block has looked `after` times whether it should stop.

    The block has to wait for what `act` brings about.  It is done once more whenever the step has looked on since then: an
    interrupt that arrives where Python itself calls something (a weak reference's callback) is lost.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            more = after
            while counted.wait(more):
                act()
                more = 3  # one look may be under way, and one may have begun before the signal was seen
        except BaseException as error:
            raised.append(error)

    with looks() as counted:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            counted.end()
            thread.join(PATIENCE)
    if raised:
        raise raised[0]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread brings about.  Raises AssertionError if nothing does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def interrupt() -> None:
    """Ctrl-C, for the main thread."""
    signal.raise_signal(signal.SIGINT)


class Clock:
    """Takes the place of the module `time` in what runs steps: it stands still but for what is added to `now`, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module in (plan, step, step_runner):
            patch.setattr(module, "time", self)


@contextmanager
def no_time_to_wait() -> Iterator[None]:
    """Inside of the block the time of steps stands still, until one waits for a queue: that is then over its deadline."""
    clock = Clock()

    def wait(waiting: object, seconds: float) -> None:
        clock.now += 3600

    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        patch.setattr(step, "wait", wait)
        yield
