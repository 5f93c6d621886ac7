"""Walk: a step that is executed, and taken back, one activation at a time, with nothing kept but its schedule.

What a step comes to is an `Outcome`: what it fetched and what it left in the resources that outlive it, or the error that
ended it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.op.queues import Blocked
from engine.runtime.resources import Resource, Write
from engine.runtime.state import DEAD, Activation
from engine.runtime.step import Outcome as Executed
from engine.runtime.step import StepRun
from engine.types import errors
from workbench.debugger.schedules.record import Recorder, Schedule, ScheduleError

MAX_SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to.

    `fetches` are the values fetched, in order; None for a dead one.  `changed` maps the names of the resources that the step
    left other than it found them to their values.  `error` is what ended the step instead, "" if nothing did.  Two are
    equal if all is equal bit for bit.
    """

    fetches: tuple[Any, ...] = field(compare=False)
    changed: dict[str, Any] = field(compare=False)
    error: str = ""
    stuck: str = ""
    identity: bytes = b""

    def __hash__(self) -> int:
        return hash((self.error, self.stuck, self.identity))

    def lines(self, names: Sequence[str] = ()) -> list[str]:
        """The outcome in words; `names` are those of what was fetched."""
        if self.error:
            return [self.error]
        return [
            *([self.stuck] if self.stuck else []),
            *(f"{name} = {shown(it)}" for name, it in self.named(names)),
        ]

    def named(self, names: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
        """Everything fetched and changed by name."""
        for index, value in enumerate(self.fetches):
            yield names[index] if index < len(names) else f"fetch {index}", value
        yield from (
            (f"variable {name}" if name in names else name, value) for name, value in self.changed.items()
        )


def differences(a: Outcome, b: Outcome, names: Sequence[str] = ()) -> list[str]:
    """What two outcomes differ in, one line each; `names` are those of what was fetched."""
    if a.error or b.error or a.stuck or b.stuck:
        return [f"{a.error or a.stuck or 'the step ends'} | {b.error or b.stuck or 'the step ends'}"]
    one, other = dict(a.named(names)), dict(b.named(names))
    found = []
    for name in dict.fromkeys([*one, *other]):
        if _bits(one.get(name)) != _bits(other.get(name)):
            first = shown(one[name]) if name in one else "unchanged"
            second = shown(other[name]) if name in other else "unchanged"
            found.append(f"{name}: {first} | {second}")
    return found


def shown(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "dead"
    if isinstance(value, np.ndarray | np.generic):
        said = np.array2string(np.asarray(value), threshold=8, precision=8)
    else:
        with np.printoptions(threshold=8):
            said = str(value)
    said = " ".join(said.split())
    return said if len(said) <= MAX_SHOWN else said[: MAX_SHOWN - 1] + "…"


def _bits(value: Any) -> bytes:
    if value is None:
        return b"-"
    if isinstance(value, tuple | list):
        return b"(" + b",".join(map(_bits, value)) + b")"
    if isinstance(value, dict):
        return _bits(tuple(value.items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _bits(tuple(getattr(value, each.name) for each in dataclasses.fields(value)))
    array = value if isinstance(value, np.ndarray | np.generic) else None
    if array is None or array.dtype.hasobject:
        said = value.tolist() if array is not None else value
        return f"{type(value).__name__}:{said!r}".encode()
    data = array.tobytes()
    if len(data) > 64:
        data = hashlib.blake2b(data, digest_size=16).digest()
    return f"{array.dtype.str}{array.shape}:".encode() + data


class Walk:
    """Executes activations of `step`, whose state `recorder` has followed so far, and takes them back.

    Nothing that it does is traced.  `trace` are the activations executed since the walk began.  After `seconds`, `do` raises
    ScheduleError.
    """

    def __init__(self, step: StepRun, recorder: Recorder, seconds: float = float("inf")) -> None:
        self._until = time.monotonic() + seconds
        self.step = step
        self.recorder = recorder
        self.trace: list[Activation] = []
        self._writes: list[Sequence[Write]] = []
        self._made: list[tuple[Resource, ...]] = []  # by each execution, for this step alone
        self._before: dict[Resource, bytes] = {}  # what the resources held that were changed at some time
        self.blocked = ""  # what has waited for a queue, if something has
        self._container = step.context.container
        self._collector = step.collector

    @contextmanager
    def quiet(self) -> Iterator[Walk]:
        """While it walks, no observer is told and no Print heard; at the end all is taken back, if an error ends it too.

        Raises ScheduleError if something had to wait for a queue: who waits depends on other steps as well.
        """
        self.step.collector = None
        prints = any(item.node.type == "Print" for item in self.step.program.items)
        try:
            with redirect_stderr(io.StringIO()) if prints else nullcontext():
                yield self
        except Blocked as blocked:
            raise ScheduleError(
                f"in one of the orders '{self.blocked}' has to wait for a queue ({blocked.reason}), which other steps change; "
                "a step that may have to wait can only be run in one order at a time"
            ) from None
        finally:
            self.back_to(0)
            self.step.collector = self._collector

    def do(self, activation: Activation) -> tuple[Executed, Sequence[Activation]]:
        """Execute `activation`; gives what that came to and what became ready.  Raises what its kernel raises."""
        if not len(self.trace) & 255 and time.monotonic() > self._until:
            raise ScheduleError(
                f"the step is too long to be run here: {len(self.trace):,} executions did not get to its end"
            )
        self.blocked = activation.name
        step, resources = self.step, self.step.resources
        made: tuple[Resource, ...] = ()
        if step.executable.bound[activation.item.index].stateful:
            before = resources.count(self._container)
            executed = step.execute(activation)
            if resources.count(self._container) != before:
                made = resources.made_since(before, self._container)
        else:
            executed = step.execute(activation)
        run = step.finish(activation, executed).run
        self.recorder.executed(activation, run)
        self.trace.append(activation)
        self._writes.append(executed.writes)
        self._made.append(made)
        for write in executed.writes:
            resource = write.resource
            if resource not in self._before and resource.container != self._container:
                self._before[resource] = _bits(write.old)
        return executed, run

    def back_to(self, length: int) -> None:
        """Take back all but the first `length` executions."""
        while len(self.trace) > length:
            self.step.undo()
            self.recorder.back(self.trace.pop())
            self._writes.pop()
            for resource in self._made.pop():
                self.step.resources.discard(resource)

    def run(self, choose: Callable[[Recorder], int] = lambda recorder: 0) -> Outcome:
        """Execute to the end and give the outcome; `choose` picks from the queue."""
        queue = self.recorder.queue
        while queue:
            try:
                self.do(queue[choose(self.recorder) if len(queue) > 1 else 0])
            except errors.OpError as error:
                return self.failed(error)
        return self.outcome()

    def schedule(self) -> Schedule:
        """How the step came here."""
        return self.recorder.schedule(self.step.stage)

    def failed(self, error: errors.OpError) -> Outcome:
        """What an error in the next execution comes to."""
        node = error.op.name if error.op is not None else "?"
        return Outcome((), {}, f"{type(error).__name__} in {node}: {error.message.splitlines()[0]}")

    def outcome(self) -> Outcome:
        """What the step has come to; called where nothing is ready any more."""
        results = self.step.context.results
        fetches = tuple(None if value is None or value is DEAD else _held(value) for value in results)
        digest = hashlib.blake2b(digest_size=16)
        for value in fetches:
            digest.update(_bits(value) + b";")
        written = {write.resource for writes in self._writes for write in writes}
        changed = {}
        for resource in sorted(self._before.keys() & written, key=lambda each: (each.container, each.name)):
            now = _value(resource)
            bits = _bits(now)
            if bits != self._before[resource]:
                changed[resource.name] = now
                digest.update(f"{resource.container}/{resource.name}=".encode() + bits)
        transfers = self.step.transfers
        stuck = ""
        if transfers is not None and transfers.parked:
            stuck = f"stuck: {min(each.name for each in transfers.parked.values())} waits to receive"
        return Outcome(fetches, changed, stuck=stuck, identity=digest.digest())


def _held(value: Any) -> Any:
    return value.value if isinstance(value, Resource) else value


def _value(resource: Resource) -> Any:
    """What a resource holds; of one with many items a copy, since they come and go."""
    value = resource.value
    return dict(value) if isinstance(value, dict) else value
