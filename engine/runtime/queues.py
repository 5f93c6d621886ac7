"""Queues: what they hold, and how a step waits for one.

A queue's state is one immutable value, like any resource's, so a step that is taken back leaves the queue as it was.  An
operation that cannot go on does nothing and raises `engine.op.queues.Blocked`; its driver sets the activation aside until the
queue allows it (`StepRun.park`), and runs what else there is to run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from engine.op.queues import Blocked, QueueOptions
from engine.runtime.frames import Activation
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
    queue does not turn away.
    """

    kind = "queue"
    value: Contents

    def __init__(self, container: str, name: str, options: QueueOptions) -> None:
        super().__init__(container, name, Contents())
        self.options = options
        self.wanted: dict[Any, int] = {}
        self.pending: set[Any] = set()

    @property
    def size(self) -> int:
        return len(self.value.elements)

    def restore(self, record: Write) -> None:
        super().restore(record)
        self.tell()

    def repeat(self, record: Write) -> None:
        super().repeat(record)
        self.tell()

    @property
    def room(self) -> int:
        """How many elements may be in it, if there is a limit."""
        return max(self.options.capacity, *self.wanted.values(), 0)

    def takes(self, count: int) -> bool:
        """Whether there is room for so many more.

        More elements than ever fit go in together when the queue is empty, instead of one by one as room is made.
        """
        size, room = self.size, self.room
        return self.options.capacity < 0 or size + count <= room or (not size and count > room)

    def allows(self, blocked: Blocked) -> bool:
        """Whether what has had to wait can go on, be it with an error."""
        closed, cancelled = self.value.closed, self.value.cancelled
        if blocked.wants:
            return closed or self.size >= blocked.wants
        return cancelled or self.takes(
            blocked.brings
        )  # that the queue is closed turns nobody away who waits already

    def register(self, blocked: Blocked) -> None:
        """Somebody waits."""
        with self.lock:
            if blocked.wants:
                self.wanted = {**self.wanted, blocked.who: blocked.wants}
            else:
                self.pending = {*self.pending, blocked.who}
        self.tell()

    def unregister(self, who: Any) -> None:
        """Somebody waits no more."""
        with self.lock:
            self.pending = self.pending - {who}
            self.wanted = {each: count for each, count in self.wanted.items() if each != who}

    def forget(self, step: int) -> None:
        """Nobody of that step waits any more."""
        with self.lock:
            self.pending = {who for who in self.pending if who[0] != step}
            self.wanted = {who: count for who, count in self.wanted.items() if who[0] != step}

    def tell(self) -> None:
        """Wake who waits."""
        with _changed:
            _changed.notify_all()

    def describe(self, held: Contents) -> str:
        """What it is when it holds `held`, in words."""
        capacity = f" of {self.options.capacity}" if self.options.capacity >= 0 else ""
        closed = ", closed" if held.closed else ""
        return f"<{self.options.kind} {self.name}: {len(held.elements)}{capacity}{closed}>"


class Waits:
    """The activations of one step that have had to wait for queues, and how that was before each of its events.

    `parked`: which wait now, in the order in which they began to.  `tried`: which have had to wait and have not executed since;
    their queues know of these.  With `record`, every change can be taken back: `log` has, for each, the number of events that
    the step had finished, and both as they were before.
    """

    def __init__(self, record: bool) -> None:
        self.parked: dict[Activation, Blocked] = {}
        self.tried: dict[Activation, Blocked] = {}
        self._log: list[tuple[int, dict[Activation, Blocked], dict[Activation, Blocked]]] | None = (
            [] if record else None
        )

    def park(self, activation: Activation, blocked: Blocked, events: int) -> None:
        """It has to wait."""
        self._note(events)
        self.parked[activation] = blocked
        self.tried[activation] = blocked
        blocked.queue.register(blocked)

    def done(self, activation: Activation, events: int) -> None:
        """It has executed after all."""
        self._note(events)
        blocked = self.tried.pop(activation)
        blocked.queue.unregister(blocked.who)

    def allowed(self, events: int) -> list[Activation]:
        """Those that wait no more, since their queues allow them to go on."""
        found = [each for each, blocked in self.parked.items() if blocked.queue.allows(blocked)]
        self.let_go(found, events)
        return found

    def let_go(self, activations: Iterable[Activation], events: int) -> None:
        """These wait no more, whatever their queues say."""
        found = list(activations)
        if found:
            self._note(events)
            for each in found:
                del self.parked[each]

    def _note(self, events: int) -> None:
        if self._log is not None:
            self._log.append((events, dict(self.parked), dict(self.tried)))

    def back(self, events: int) -> None:
        """All is as it was before that many events had been finished."""
        while self._log and self._log[-1][0] >= events:
            self.back_one()

    def back_one(self) -> None:
        """Take the last change back."""
        assert self._log is not None
        _, parked, tried = self._log.pop()
        for activation, blocked in self.tried.items():
            if activation not in tried:
                blocked.queue.unregister(blocked.who)
        for activation, blocked in tried.items():
            if activation not in self.tried:
                blocked.queue.register(blocked)
        for now, then in ((self.parked, parked), (self.tried, tried)):  # which others hold on to
            now.clear()
            now.update(then)

    def forget(self, events: int | None = None) -> None:
        """Keep nothing to go back with, or only what is needed to take back what came after that many events."""
        if self._log is not None:
            self._log = [each for each in self._log if events is not None and each[0] > events]

    def close(self, step: int) -> None:
        """The step is over."""
        for blocked in self.tried.values():
            blocked.queue.forget(step)


def wait(waiting: Iterable[Blocked], seconds: float) -> None:
    """Wait until one of the queues has changed, but not longer; not at all if somebody can go on."""
    with _changed:
        if not any(blocked.queue.allows(blocked) for blocked in waiting):
            _changed.wait(seconds)
