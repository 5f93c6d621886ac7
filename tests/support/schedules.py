"""A driver that takes ready nodes in random order, and now and then takes some back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.runtime import driver as drivers


class Shuffled:
    """Takes any of the ready activations next; with `rewind`, it undoes a few now and then.

    Raises AssertionError after `most` executions; who knows how many the program needs may set it.
    """

    def __init__(self, seed: int, rewind: bool, most: int = 20_000) -> None:
        self.most = most
        self.random = random.Random(seed)
        self.record = rewind

    def drive(self, step: Any) -> None:
        step.begin()
        rewinds = 40 if self.record else 0
        done = executed = 0
        while ready := step.ready:
            activation = self.random.choice(ready)
            step.finish(activation, step.execute(activation))
            done, executed = done + 1, executed + 1
            assert executed < self.most, "the step does not end"
            if rewinds and self.random.random() < 0.1:
                back = self.random.randint(1, min(done, 12))
                for _ in range(back):
                    step.undo()
                done, rewinds = done - back, rewinds - 1


@contextmanager
def driven_by(driver: drivers.Driver | None) -> Iterator[None]:
    """Every `Session.run` in the block goes through `driver` (None: as always)."""
    if driver is None:
        yield
        return
    drivers.install(driver)
    try:
        yield
    finally:
        drivers.uninstall()
