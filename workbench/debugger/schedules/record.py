"""A schedule: which of the ready activations ran next, wherever more than one was ready.

What is ready forms a queue: what has become ready earlier stands before what came later, as the interpreter has it.  A pick is an
index into the queue; 0 is what the interpreter takes.  Since a step is deterministic but for the picks, they say all.  To try
what then has to wait for a queue is a pick as well; it comes back to the end as soon as its queue allows it.

As text a schedule is ``FINGERPRINT:BODY``.  The fingerprint is that of the stage.  The body is a list of ``ZEROS.INDEX`` apart by
``-``, in base 36: so many picks of 0, then one of INDEX; ``_N`` behind says that it comes N times.  What follows the last is 0,
so an empty body is the interpreter's own schedule.  A long body is written as ``~`` and the picks as bytes (7 bits each, the
lowest first, the eighth says that more follow), compressed with zlib, in URL-safe base 64.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import weakref
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from engine.passes.stage import Stage
from engine.runtime.frames import Activation
from workbench.debugger.command import CommandError

MAX_PICKS = 10_000_000  # of a schedule that is read
_LONG = 160  # characters of a body from which on it is compressed, if that makes it shorter
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PACKED = re.compile(r"([0-9a-f]{8}):~([A-Za-z0-9_-]+)")
_TEXT = re.compile(r"([0-9a-f]{8}):((?:[0-9a-z]{1,6}\.[0-9a-z]{1,6}(?:_[0-9a-z]{1,6})?(?:-|$))*)")


T = TypeVar("T")
P = TypeVar("P", bound="Picking[Any]")

_fingerprints: weakref.WeakKeyDictionary[Stage, str] = weakref.WeakKeyDictionary()


class ScheduleError(CommandError):
    """A schedule that cannot be read, or that belongs to another graph; the message says what to do."""


def fingerprint(stage: Stage) -> str:
    """Eight hexadecimal digits that tell a stage's nodes, edges, devices, fetches and feeds from another's."""
    known = _fingerprints.get(stage)
    if known is None:
        known = _fingerprints[stage] = _digest(stage)
    return known


def _digest(stage: Stage) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for node in stage:
        said = (node.name, node.type, node.inputs, node.control_inputs, node.device)
        digest.update(repr(said).encode())
    digest.update(repr((stage.fetches, stage.targets, stage.feeds)).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Schedule:
    """The picks of a step of the stage with this fingerprint, without the 0s at the end."""

    fingerprint: str
    picks: tuple[int, ...]

    @classmethod
    def of(cls, fingerprint: str, picks: Iterable[int]) -> Schedule:
        """`picks` as they were made."""
        kept = list(picks)
        while kept and not kept[-1]:
            kept.pop()
        return cls(fingerprint, tuple(kept))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """What `str` of a schedule gives.  Raises ScheduleError."""
        packed = _PACKED.fullmatch(text.strip())
        if packed is not None:
            return cls.of(packed[1], _unpack(packed[2]))
        found = _TEXT.fullmatch(text.strip())
        if found is None or found[2].endswith("-"):
            raise ScheduleError(
                f"'{text[:40]}' is not a schedule: one looks like 0a1b2c3d:0.1-4.2, as schedule shows it"
            )
        picks: list[int] = []
        for part in filter(None, found[2].split("-")):
            pair, _, times = part.partition("_")
            zeros, _, index = pair.partition(".")
            count = int(times or "1", 36)
            if len(picks) + count * (int(zeros, 36) + 1) > MAX_PICKS:
                raise ScheduleError(f"the schedule has more than {MAX_PICKS:,} choices")
            picks += ([0] * int(zeros, 36) + [int(index, 36)]) * count
        return cls.of(found[1], picks)

    def check(self, stage: Stage) -> None:
        """Raise ScheduleError if this is not a schedule of `stage`."""
        own = fingerprint(stage)
        if own != self.fingerprint:
            raise ScheduleError(
                f"the schedule is of another graph: it was recorded of {self.fingerprint}, and this step runs {own}; "
                "schedule when STRING keeps it for the Session.run that it belongs to"
            )

    def __str__(self) -> str:
        pairs: list[tuple[int, int]] = []
        zeros = 0
        for pick in self.picks:
            if pick:
                pairs.append((zeros, pick))
                zeros = 0
            else:
                zeros += 1
        parts = []
        for (before, pick), same in itertools.groupby(pairs):
            count = sum(1 for _ in same)
            parts.append(f"{_base36(before)}.{_base36(pick)}" + (f"_{_base36(count)}" if count > 1 else ""))
        body = "-".join(parts)
        if len(body) > _LONG:
            body = min(body, f"~{_pack(self.picks)}", key=len)
        return f"{self.fingerprint}:{body}"


def _pack(picks: Sequence[int]) -> str:
    data = bytearray()
    for pick in picks:
        while pick > 127:
            data.append(pick & 127 | 128)
            pick >>= 7
        data.append(pick)
    return base64.urlsafe_b64encode(zlib.compress(bytes(data), 9)).decode().rstrip("=")


def _unpack(text: str) -> list[int]:
    """What `_pack` packed.  Raises ScheduleError."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(data, MAX_PICKS)
    except (ValueError, zlib.error):
        raise ScheduleError(
            "this is not a schedule: its end is missing, or something in it was changed"
        ) from None
    if not unpacking.eof:
        raise ScheduleError(
            f"the schedule is not a schedule of at most {MAX_PICKS:,} choices, or its end is missing"
        )
    picks = []
    pick = shift = 0
    for byte in data:
        pick |= (byte & 127) << shift
        if byte & 128:
            shift += 7
            if shift > 28:
                raise ScheduleError("this is not a schedule: a choice in it is too large")
        else:
            picks.append(pick)
            pick = shift = 0
    return picks


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits


class Picking(Generic[T]):
    """The queue of what is ready, and the picks that were made so far.

    What is in it are activations (a `Recorder`), or numbers that stand for them.  `executed` is called for every execution, so it
    does as little as can be: a few bytes an execution.
    """

    __slots__ = ("_followed", "_picks", "queue")

    def __init__(self, ready: Iterable[T]) -> None:
        self.queue: deque[T] = deque(ready)
        self._picks = array("i")  # -1: there was no choice
        self._followed = array("i")  # how many became ready

    def copy(self) -> Self:
        """One that goes on from here by itself."""
        return self._with(type(self)(self.queue))

    def _with(self, other: P) -> P:
        """`other`, having followed what this one has."""
        other._picks, other._followed = self._picks[:], self._followed[:]
        return other

    def __len__(self) -> int:
        """Executions so far."""
        return len(self._picks)

    def executed(self, activation: T, run: Sequence[T]) -> None:
        """`activation` has executed, or has begun to wait for a queue, and `run` has become ready by that."""
        queue = self.queue
        pick = 0
        if queue[0] is activation:
            queue.popleft()
        else:
            pick = queue.index(activation)
            del queue[pick]
        self._picks.append(pick if queue else -1)
        queue.extend(run)
        self._followed.append(len(run))

    def allowed(self, run: Sequence[T]) -> None:
        """`run` has waited for queues and can go on, which another step has brought about."""
        self.queue.extend(run)
        if self._followed:
            self._followed[-1] += len(run)


class Recorder(Picking[Activation]):
    """The queue of what is ready in a step, and the picks that were made so far; `back` takes one back."""

    __slots__ = ()

    @classmethod
    def of(cls, picking: Picking[T], known: Mapping[T, Activation]) -> Recorder:
        """One that stands where `picking` does, in which these activations stand for what is in its queue."""
        return picking._with(cls(known[each] for each in picking.queue))

    def back(self, activation: Activation) -> None:
        """The last execution, that of `activation`, has been taken back."""
        for _ in range(self._followed.pop()):
            self.queue.pop()
        self.queue.insert(max(self._picks.pop(), 0), activation)

    @property
    def picks(self) -> Iterator[int]:
        """The picks made where there was a choice, oldest first."""
        return (pick for pick in self._picks if pick >= 0)

    @property
    def all_picks(self) -> Sequence[int]:
        """For every execution the pick that led to it; -1 where there was no choice."""
        return self._picks

    @property
    def last_pick(self) -> int:
        """The last pick; -1 if there was no choice, or nothing has executed."""
        return self._picks[-1] if self._picks else -1

    def schedule(self, stage: Stage, failing: Activation | None = None) -> Schedule:
        """What has been picked so far, as a schedule of `stage`; with `failing`, that it was picked then, and failed."""
        picks = list(self.picks)
        if failing is not None and len(self.queue) > 1:
            picks.append(self.queue.index(failing))
        return Schedule.of(fingerprint(stage), picks)
