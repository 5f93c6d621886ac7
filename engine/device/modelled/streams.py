"""Streams and events on a virtual clock, which know what has been ordered before what.

Every piece of work has a number in its stream.  A stream keeps, for every stream, the number up to which it has waited, directly
or through others (a vector clock: Fidge 1988, Mattern 1989); so does the host.  Reading what another stream makes is in order if
the number of the work that makes it has been waited for, whatever the times came out to be: a missing wait is found always, not
only when the delays are unlucky.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.device.device import StreamFacts


class Host:
    """What the host has waited for: whatever it gives to any device from then on comes after that.  Thread-safe."""

    def __init__(self) -> None:
        self.seen: dict[VirtualStream, int] = {}
        self._lock = threading.Lock()

    def learn(self, seen: dict[VirtualStream, int]) -> None:
        with self._lock:
            _merge(self.seen, seen)

    def tell(self, seen: dict[VirtualStream, int]) -> None:
        with self._lock:
            _merge(seen, self.seen)


class Clock:
    """The virtual time, in ns, of the thread that drives one device, and the device's random delays.

    Each device has a thread of its own, so that times do not depend on how threads take turns.
    """

    def __init__(self, seed: int | str = 0, host: Host | None = None) -> None:
        self.now = 0.0
        self.host = host or Host()
        self.random = random.Random(seed)

    def reach(self, time_ns: float) -> None:
        """The host waits until then, if that is not past."""
        self.now = max(self.now, time_ns)


@dataclass(frozen=True, slots=True, eq=False)
class VirtualEvent:
    """A point in a stream: after its work `number`, at `time_ns`, with all that the stream had waited for by then."""

    stream: VirtualStream
    number: int
    time_ns: float
    seen: dict[VirtualStream, int]

    def done(self) -> bool:
        if self.time_ns > self.stream.clock.now:
            return False
        self.stream.clock.host.learn(self.seen)
        return True

    def synchronize(self) -> None:
        self.stream.clock.reach(self.time_ns)
        self.done()
        self.stream.count_synchronization()


class VirtualStream:
    """One stream of a modelled device."""

    def __init__(
        self,
        name: str,
        device: str,
        clock: Clock,
        delay_ns: float,
        current: list[VirtualStream],
        count_synchronization: Callable[[], None],
    ) -> None:
        self.name = name
        self.device = device
        self.clock = clock
        self.delay_ns = delay_ns
        self.tail_ns = 0.0
        self.busy_ns = 0.0
        self.number = 0
        self.seen: dict[VirtualStream, int] = {}
        self.count_synchronization = count_synchronization
        self._current = current

    def __repr__(self) -> str:
        return f"stream '{self.name}' of {self.device}"

    def submit(self, duration_ns: float) -> tuple[int, float, float]:
        """Take on a piece of work: its number, and when it starts and ends."""
        self.clock.host.tell(self.seen)
        start = max(self.tail_ns, self.clock.now)
        if self.delay_ns:
            start += self.clock.random.uniform(0, self.delay_ns)
        self.number += 1
        self.seen[self] = self.number
        self.tail_ns = start + duration_ns
        self.busy_ns += duration_ns
        return self.number, start, self.tail_ns

    def knows(self, stream: VirtualStream, number: int) -> bool:
        """Whether work given to this stream now comes after work `number` of `stream`."""
        return stream is self or max(self.seen.get(stream, 0), self.clock.host.seen.get(stream, 0)) >= number

    def wait(self, event: VirtualEvent) -> None:
        _merge(self.seen, event.seen)
        self.tail_ns = max(self.tail_ns, event.time_ns)

    def record(self) -> VirtualEvent:
        return VirtualEvent(
            self, self.number, max(self.tail_ns, self.clock.now), {**self.seen, self: self.number}
        )

    @contextmanager
    def use(self) -> Iterator[VirtualStream]:
        self._current.append(self)
        try:
            yield self
        finally:
            self._current.pop()

    def synchronize(self) -> None:
        self.record().synchronize()

    def facts(self) -> StreamFacts:
        return StreamFacts(self.name, self.number, self.busy_ns, self.tail_ns)


def _merge(into: dict[VirtualStream, int], other: dict[VirtualStream, int]) -> None:
    for stream, number in other.items():
        if into.get(stream, 0) < number:
            into[stream] = number
