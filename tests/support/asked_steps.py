"""Steps stopped on the way, to be asked about; and naive ways to know what a step did, that share nothing with the questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from engine.runtime import driver as drivers
from engine.runtime.resources import Resource
from workbench.debugger.stepping import Stepping


class Looking:
    """A driver that gives each step to `look`, and then runs it to its end."""

    record = True

    def __init__(self, look: Callable[[Stepping], None]) -> None:
        self.look = look

    def drive(self, step: Any) -> None:
        stepping = Stepping(step)
        self.look(stepping)
        while stepping.ready:
            stepping.execute()


@contextmanager
def looked_at(look: Callable[[Stepping], None]) -> Iterator[None]:
    """Every `Session.run` in the block is given to `look` before its first node."""
    drivers.install(Looking(look))
    try:
        yield
    finally:
        drivers.uninstall()


class Seen(NamedTuple):
    """What an execution really took in and gave: the objects themselves; variables by (resource, what it held then)."""

    row: int
    node: str
    frame: int
    iteration: int
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...] | None
    writes: tuple[Any, ...]


class Watching:
    """Executes a step and notes what each execution took in, straight from the executor's slots."""

    def __init__(self, stepping: Stepping) -> None:
        self.stepping = stepping
        self.seen: list[Seen] = []

    def execute(self) -> None:
        stepping = self.stepping
        activation = stepping.ready[0]
        item, frame, number = activation
        tokens = tuple(frame.iterations[number].inputs[item.start : item.end])
        inputs = tuple((token, _held(token)) if isinstance(token, Resource) else token for token in tokens)
        entry = stepping.execute()
        outputs = None if entry.outputs is None else tuple(entry.outputs)
        self.seen.append(Seen(entry.row, item.name, frame.id, number, inputs, outputs, tuple(entry.writes)))

    def run(self, count: int = 1 << 30) -> None:
        """Execute up to `count` nodes."""
        for _ in range(count):
            if not self.stepping.ready:
                return
            self.execute()


def _held(resource: Resource) -> Any:
    return dict(resource.value) if isinstance(resource.value, dict) else resource.value


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def unfinite(value: Any) -> bool:
    """Whether there is a NaN or an infinity in `value`, element by element."""
    if not is_array(value) or np.asarray(value).dtype.kind != "f":
        return False
    return not all(map(math.isfinite, np.asarray(value).reshape(-1).tolist()))
