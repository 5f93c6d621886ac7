"""Queues: what they hold, and how a step waits for one.

A queue's state is one immutable value, like any resource's, so a step that is taken back leaves the queue as it was.  An
operation that cannot go on does nothing and raises `engine.op.queues.Blocked`; its driver sets the activation aside until the
queue has changed (`StepRun.park`), and runs what else there is to run.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from engine.op.queues import QueueOptions
from engine.runtime.resources import Resource, Write

Element = tuple[Any, ...]  # an array a component

_changed = threading.Condition()


class Contents(NamedTuple):
    """A queue's state: its elements in the order in which they came, whether it is closed, and random numbers drawn so far."""

    elements: tuple[Element, ...] = ()
    closed: bool = False
    cancelled: bool = False  # closed, and enqueues that waited for room are given up
    drawn: int = 0

    def __repr__(self) -> str:
        count = len(self.elements)
        return f"<{count} element{'s' * (count != 1)}{', closed' * self.closed}>"


class Queue(Resource):
    """A queue of elements, each a tuple of arrays.

    Who waits is known by what names it: a step, a node, a frame and an iteration.  `wanted` says for how many elements dequeues
    wait: room is made for so many, whatever the capacity.  `pending` are the enqueues that wait for room, which closing the
    queue does not turn away.  `ticks` grows whenever somebody who waits may be able to go on.
    """

    kind = "queue"
    value: Contents

    def __init__(self, container: str, name: str, options: QueueOptions) -> None:
        super().__init__(container, name, Contents())
        self.options = options
        self.wanted: dict[Any, int] = {}
        self.pending: set[Any] = set()
        self.ticks = 0

    @property
    def size(self) -> int:
        return len(self.value.elements)

    def restore(self, record: Write) -> None:
        super().restore(record)
        self.tell()

    @property
    def room(self) -> int:
        """How many elements may be in it, if there is a limit."""
        return max(self.options.capacity, *self.wanted.values(), 0)

    def want(self, who: Any, count: int) -> None:
        """A dequeue waits for so many elements."""
        if self.wanted.get(who) != count:
            self.wanted[who] = count
            self.tell()

    def forget(self, step: int) -> None:
        """Nobody of that step waits any more."""
        with self.lock:
            self.pending = {who for who in self.pending if who[0] != step}
            self.wanted = {who: count for who, count in self.wanted.items() if who[0] != step}

    def tell(self) -> None:
        """Wake who waits."""
        with _changed:
            self.ticks += 1
            _changed.notify_all()

    def describe(self, held: Contents) -> str:
        """What it is when it holds `held`, in words."""
        capacity = f" of {self.options.capacity}" if self.options.capacity >= 0 else ""
        closed = ", closed" if held.closed else ""
        return f"<{self.options.kind} {self.name}: {len(held.elements)}{capacity}{closed}>"


class Waiting(NamedTuple):
    """An activation that waits for a queue: which, the queue's `ticks` when it was tried, and for what."""

    queue: Queue
    ticks: int
    reason: str

    @property
    def over(self) -> bool:
        """Whether it is worth trying again."""
        return self.queue.ticks != self.ticks


def wait(waiting: list[Waiting], seconds: float) -> None:
    """Wait until one of the queues has changed, but not longer."""
    with _changed:
        if not any(each.over for each in waiting):
            _changed.wait(seconds)
