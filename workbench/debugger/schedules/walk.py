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
from functools import cached_property
from typing import Any

import numpy as np

from engine.op.queues import BLOCKING, Blocked
from engine.runtime.frames import DEAD, Activation
from engine.runtime.queues import Contents
from engine.runtime.resources import Resource, Write
from engine.runtime.step import Outcome as Executed
from engine.runtime.step import StepRun
from engine.types import errors
from viz.schedule_model import Difference
from workbench.debugger.schedules.record import Recorder, Schedule, ScheduleError
from workbench.debugger.schedules.stuck import Users, queue_users, told

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
            *(f"{name} = {shown(it)}" for name, it, _ in self.results(names)),
        ]

    def results(self, names: Sequence[str] = ()) -> Iterator[tuple[str, Any, bool]]:
        """Everything fetched and changed: (name, value, whether it was fetched)."""
        for index, value in enumerate(self.fetches):
            yield names[index] if index < len(names) else f"fetch {index}", value, True
        for name, value in self.changed.items():
            yield f"variable {name}" if name in names else name, value, False


def differing(a: Outcome, b: Outcome, names: Sequence[str] = ()) -> list[Difference]:
    """What two outcomes differ in; `names` are those of what was fetched."""
    first, second = (each.error or each.stuck or "the step ends" for each in (a, b))
    if first != second:
        return [Difference("", first, second)]
    one = {name: (value, fetched) for name, value, fetched in a.results(names)}
    other = {name: (value, fetched) for name, value, fetched in b.results(names)}
    found = []
    for name in dict.fromkeys([*one, *other]):
        here, there = one.get(name), other.get(name)
        if _bits(here and here[0]) != _bits(there and there[0]):
            first = shown(here[0]) if here is not None else "unchanged"
            second = shown(there[0]) if there is not None else "unchanged"
            found.append(Difference(name, first, second, (here or there or (None, False))[1]))
    return found


def differences(a: Outcome, b: Outcome, names: Sequence[str] = ()) -> list[str]:
    """The same in words, one line each."""
    return [str(each) for each in differing(a, b, names)]


def shown(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "dead"
    if isinstance(value, Contents):
        elements = (shown(each[0] if len(each) == 1 else each) for each in value.elements)
        said = f"[{', '.join(elements)}]{', closed' * value.closed}"
    elif isinstance(value, np.ndarray | np.generic):
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
        self.foreign: list[str] = []  # resources that another step has changed in the meantime
        self.trace: list[Activation] = []
        self._writes: list[
            Sequence[Write] | None
        ] = []  # None: it has not executed, but begun to wait for a queue
        self._made: list[tuple[Resource, ...]] = []  # by each execution, for this step alone
        self._before: dict[Resource, bytes] = {}  # what the resources held that were changed at some time
        self._failing: Activation | None = None  # what has raised an error, which is not taken back yet
        self._container = step.context.container
        self._collector = step.collector

    @contextmanager
    def quiet(self) -> Iterator[Walk]:
        """While it walks, no observer is told and no Print heard; at the end all is taken back, if an error ends it too."""
        self.step.collector = None
        prints = any(item.node.type == "Print" for item in self.step.program.items)
        try:
            with redirect_stderr(io.StringIO()) if prints else nullcontext():
                yield self
        finally:
            self.back_to(0)
            self.step.collector = self._collector

    def do(self, activation: Activation) -> tuple[Executed | None, Sequence[Activation]]:
        """Execute `activation`; gives what that came to and what became ready.  Raises what its kernel raises.

        If it has to wait for a queue it waits now, and comes to None.
        """
        if not len(self.trace) & 255 and time.monotonic() > self._until:
            raise ScheduleError(
                f"the step is too long to be run here: {len(self.trace):,} executions did not get to its end"
            )
        step = self.step
        self._failing = None
        try:
            executed, made = self._execute(activation)
        except Blocked as blocked:
            run: Sequence[Activation] = step.park(activation, blocked)
            self._note(activation, run, None, ())
            return None, run
        except errors.OpError:
            self._failing = activation
            raise
        run = step.finish(activation, executed).run
        self._note(activation, run, executed.writes, made)
        for write in executed.writes:
            resource = write.resource
            if resource not in self._before and resource.container != self._container:
                self._before[resource] = _bits(write.old)
        return executed, run

    def _execute(self, activation: Activation) -> tuple[Executed, tuple[Resource, ...]]:
        step, resources = self.step, self.step.resources
        if not step.executable.bound[activation.item.index].stateful:
            return step.execute(activation), ()
        before = resources.count(self._container)
        executed = step.execute(activation)
        if resources.count(self._container) == before:
            return executed, ()
        return executed, resources.made_since(before, self._container)

    def _note(
        self,
        activation: Activation,
        run: Sequence[Activation],
        writes: Sequence[Write] | None,
        made: tuple[Resource, ...],
    ) -> None:
        self.recorder.executed(activation, run)
        self.trace.append(activation)
        self._writes.append(writes)
        self._made.append(made)

    def waits(self, activation: Activation) -> Blocked | None:
        """Why `activation`, which is ready, would have to wait for a queue now; None if it would not."""
        step = self.step
        if activation.item.node.type not in BLOCKING:
            return None
        try:
            executed, _ = self._execute(activation)
        except Blocked as blocked:
            return blocked
        except errors.OpError:
            step.forget_failed()
            return None
        for write in reversed(executed.writes):
            step.resources.undo(write)
        return None

    def check_alone(self) -> None:
        """Raise ScheduleError if another step has changed what this one changed; called at the end."""
        if self.foreign:
            raise ScheduleError(
                f"another step has changed '{self.foreign[0]}' in the meantime: what this one comes to depends on what else "
                "runs; it can be run in other orders while nothing else does"
            )

    @cached_property
    def queue_users(self) -> Users:
        """The items that may change each queue."""
        return queue_users(self.step.program)

    def waiting(self) -> Iterator[tuple[Activation, Blocked]]:
        """All that has to wait for a queue, tried or not."""
        for activation, tried in self.step.blocked.items():
            yield activation, self.waits(activation) or tried
        for activation in self.recorder.queue:
            blocked = self.waits(activation)
            if blocked is not None:
                yield activation, blocked

    def back_to(self, length: int) -> None:
        """Take back all but the first `length` executions."""
        self.step.forget_failed()
        self._failing = None
        while len(self.trace) > length:
            activation = self.trace.pop()
            self.recorder.back(activation)
            writes, made = self._writes.pop(), self._made.pop()
            if writes is None:
                self.step.unpark(activation)
                continue
            for write in {id(each.resource): each for each in writes}.values():
                if write.resource.version != write.old_version + 1:
                    self.foreign.append(write.resource.name)
            self.step.undo()
            for resource in made:
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
        """How the step came here, or to the error that has ended it."""
        return self.recorder.schedule(self.step.stage, self._failing)

    def failed(self, error: errors.OpError) -> Outcome:
        """What an error in the next execution comes to."""
        node = error.op.name if error.op is not None else "?"
        return Outcome((), {}, f"{type(error).__name__} in {node}: {error.message.splitlines()[0]}")

    def outcome(self) -> Outcome:
        """What the step has come to; called where nothing is ready any more."""
        waiting = list(self.waiting())
        stuck = told(self.step, waiting, self.queue_users if waiting else {})
        results = self.step.context.results if not stuck else ()
        fetches = tuple(None if value is None or value is DEAD else _held(value) for value in results)
        digest = hashlib.blake2b(digest_size=16)
        for value in fetches:
            digest.update(_bits(value) + b";")
        for name in sorted(activation.name for activation, _ in waiting):
            digest.update(name.encode() + b"?")
        written = {write.resource for writes in self._writes for write in writes or ()}
        changed = {}
        for resource in sorted(self._before.keys() & written, key=lambda each: (each.container, each.name)):
            now = _value(resource)
            bits = _bits(now)
            if bits != self._before[resource]:
                changed[resource.name] = now
                digest.update(f"{resource.container}/{resource.name}=".encode() + bits)
        return Outcome(fetches, changed, stuck=stuck, identity=digest.digest())


def _held(value: Any) -> Any:
    return value.value if isinstance(value, Resource) else value


def _value(resource: Resource) -> Any:
    """What a resource holds; of one with many items a copy, since they come and go."""
    value = resource.value
    return dict(value) if isinstance(value, dict) else value
