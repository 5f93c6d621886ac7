"""Collects what happens in a step and hands it to the observers in columnar batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.observe import (
    Allocation,
    Descents,
    Executions,
    FrameEvent,
    Health,
    Observer,
    Override,
    ResourceWrite,
    StepInfo,
    Tokens,
    TraceLevel,
    Transfer,
    Value,
)
from engine.runtime.frames import DEAD, Activation, Change, Delivered
from engine.runtime.health import ArrayHealth, measure
from engine.runtime.interrupts import Held
from engine.runtime.resources import NO_KEY, Resource, Stack, Write

if TYPE_CHECKING:
    from engine.device.device import Device

FLUSH_ROWS = 50_000
FLUSH_BYTES = 64 << 20


class Collector:
    """One step's records on their way to `observers`; `level` is the highest that any of them wants.

    `device` is where the step runs, "" if on several devices.  Thread-safe: shells that run nodes on several threads share it.
    """

    def __init__(self, observers: Sequence[Observer], step: StepInfo, device: str) -> None:
        self.observers = observers
        self.level = max(observer.level for observer in observers)
        self.step = step
        self.device = device
        self._lock = threading.Lock()
        self._first = 0
        self._rows: list[tuple[int, int, int, int, int, int, bool]] = []
        self._health: list[tuple[int, int, ArrayHealth]] = []
        self._values: list[Value] = []
        self._value_bytes = 0
        self._frames: list[FrameEvent] = []
        self._tokens: list[tuple[int, int, int, int, int, int, bool]] = []
        self._writes: list[ResourceWrite] = []
        self._transfers: list[tuple[int, Transfer]] = []
        self._allocations: list[Allocation] = []
        self._in_use: dict[str, int] = {}
        self._overrides: list[Override] = []
        self._descents: list[tuple[int, int]] = []

    def executed(
        self,
        activation: Activation,
        start_ns: int,
        end_ns: int,
        outputs: Sequence[Any] | None,
        writes: Sequence[Write],
    ) -> int:
        """Note a finished execution; gives its row number."""
        item, frame, iteration = activation
        live = () if outputs is None else outputs
        measured: list[tuple[int, Any, ArrayHealth]] = []
        if self.level >= TraceLevel.VALUES:
            for slot, value in enumerate(live):
                if value is not DEAD:
                    array = value.value if isinstance(value, Resource) else value
                    if array is not None and isinstance(array, np.ndarray | np.generic):
                        measured.append((slot, array, measure(array)))
        thread = threading.get_ident() & 0x7FFFFFFF
        with self._lock:
            row = self._first + len(self._rows)
            self._rows.append((item.index, frame.id, iteration, start_ns, end_ns, thread, outputs is None))
            for slot, array, health in measured:
                self._health.append((row, slot, health))
                if self.level >= TraceLevel.FULL:
                    self._values.append(Value(row, slot, array))
                    self._value_bytes += health.nbytes
            for write in writes:
                if write.resource.kind != "rendezvous":
                    self._writes.append(Written.of(write).told(row, item.index, frame.id, iteration, end_ns))
                elif write.kind == "recv":
                    self._transfers.append((row, _transfer(write, activation, end_ns)))
            if len(self._rows) >= FLUSH_ROWS or self._value_bytes >= FLUSH_BYTES:
                with Held():
                    self._flush()
        return row

    def followed(self, row: int, changes: Sequence[Change], tokens: Sequence[Delivered]) -> None:
        """Note what the end of execution `row` brought about."""
        with self._lock:
            for change, frame, iteration in changes:
                parent = frame.parent.id if frame.parent is not None else -1
                self._frames.append(
                    FrameEvent(
                        change,
                        row,
                        frame.id,
                        frame.name,
                        parent,
                        frame.parent_iteration,
                        iteration,
                        frame.live,
                    )
                )
            for source_slot, item, slot, frame, iteration, dead in tokens:
                self._tokens.append((row, source_slot, item.index, slot, frame.id, iteration, dead))

    def allocated(self, row: int, device: Device) -> None:
        """Note what execution `row` has changed in the memory of `device`."""
        in_use = device.statistics().in_use
        with self._lock:
            change = in_use - self._in_use.get(device.name, 0)
            if change:
                self._in_use[device.name] = in_use
                self._allocations.append(Allocation(device.name, row, time.perf_counter_ns(), change, in_use))

    def overridden(self, override: Override) -> None:
        """Note a change made by hand, before the next execution."""
        with self._lock:
            row = self._first + len(self._rows)
            self._overrides.append(replace(override, row=row, at_ns=time.perf_counter_ns()))

    def override_back(self, number: int) -> None:
        """The last override, of that number, has been taken back."""
        with self._lock:
            if self._overrides and self._overrides[-1].number == number:
                self._overrides.pop()
            else:  # it has been handed on
                row = self._first + len(self._rows)
                now = time.perf_counter_ns()
                self._overrides.append(Override(number, row, "", "", at_ns=now, taken_back=True))

    def descends(self, number: int) -> None:
        """Note that the last execution descends from the override of that number."""
        with self._lock:
            self._descents.append((self._first + len(self._rows) - 1, number))

    def retract(self) -> None:
        """Forget the last execution, which has been undone (if it has not been handed on yet)."""
        with self._lock:
            if not self._rows:
                return
            row = self._first + len(self._rows) - 1
            self._rows.pop()
            self._health = [entry for entry in self._health if entry[0] < row]
            self._values = [value for value in self._values if value.row < row]
            self._frames = [event for event in self._frames if event.row < row]
            self._tokens = [token for token in self._tokens if token[0] < row]
            self._writes = [write for write in self._writes if write.row < row]
            self._transfers = [entry for entry in self._transfers if entry[0] < row]
            self._allocations = [each for each in self._allocations if each.row < row]
            self._descents = [each for each in self._descents if each[0] < row]

    def begin(self) -> None:
        for observer in self.observers:
            observer.step_begin(self.step)

    def end(self, ended_ns: int, error: BaseException | None) -> None:
        """Hand on the rest, and that the step has ended."""
        with self._lock:
            self._flush()
        for observer in self.observers:
            observer.step_end(self.step, ended_ns, error)

    def _flush(self) -> None:
        if self._rows:
            table = np.array(self._rows, dtype=np.int64).reshape(-1, 7)
            batch = Executions(
                device=self.device,
                first=self._first,
                node=table[:, 0].astype(np.int32),
                frame=table[:, 1].astype(np.int32),
                iteration=table[:, 2].copy(),
                start_ns=table[:, 3].copy(),
                end_ns=table[:, 4].copy(),
                thread=table[:, 5].astype(np.int32),
                dead=table[:, 6].astype(np.bool_),
            )
            self._tell("executions", batch)
            self._first += len(self._rows)
            self._rows = []
        if self._frames:
            self._tell("frames", tuple(self._frames))
            self._frames = []
        if self._writes:
            self._tell("resource_writes", tuple(self._writes))
            self._writes = []
        if self._transfers:
            self._tell("transfers", tuple(transfer for _, transfer in self._transfers))
            self._transfers = []
        if self._allocations:
            self._tell("allocations", tuple(self._allocations))
            self._allocations = []
        if self._overrides:
            self._tell("overrides", tuple(self._overrides))
            self._overrides = []
        if self._descents:
            row, override = np.array(self._descents, np.int64).T
            self._tell("descents", Descents(row.copy(), override.copy()))
            self._descents = []
        if self._health:
            self._tell("health", health_batch(self._health), TraceLevel.VALUES)
            self._health = []
        if self._values:
            self._tell("values", tuple(self._values), TraceLevel.FULL)
            self._values = []
            self._value_bytes = 0
        if self._tokens:
            self._tell("tokens", _token_batch(self._tokens), TraceLevel.FULL)
            self._tokens = []

    def _tell(self, method: str, batch: Any, level: TraceLevel = TraceLevel.TIMES) -> None:
        for observer in self.observers:
            if observer.level >= level:
                getattr(observer, method)(self.step, batch)


def health_batch(entries: Sequence[tuple[int, int, ArrayHealth]]) -> Health:
    """(row, slot, health) entries in columns."""
    rows, slots, healths = zip(*entries, strict=True)
    dtype, shapes, minimum, maximum, mean, nan, inf, nbytes = zip(*healths, strict=True)
    return Health(
        row=np.array(rows, np.int64),
        slot=np.array(slots, np.int32),
        dtype=np.array(dtype, np.int32),
        shapes=shapes,
        minimum=np.array(minimum, np.float64),
        maximum=np.array(maximum, np.float64),
        mean=np.array(mean, np.float64),
        nan=np.array(nan, np.int64),
        inf=np.array(inf, np.int64),
        nbytes=np.array(nbytes, np.int64),
    )


def _token_batch(entries: Sequence[tuple[int, int, int, int, int, int, bool]]) -> Tokens:
    table = np.array(entries, dtype=np.int64).reshape(-1, 7)
    return Tokens(
        row=table[:, 0].copy(),
        source_slot=table[:, 1].astype(np.int32),
        node=table[:, 2].astype(np.int32),
        slot=table[:, 3].astype(np.int32),
        frame=table[:, 4].astype(np.int32),
        iteration=table[:, 5].copy(),
        dead=table[:, 6].astype(np.bool_),
    )


def _transfer(write: Write, activation: Activation, end_ns: int) -> Transfer:
    source, _, destination, _ = write.key.split(";", 3)
    parcel = write.old
    return Transfer(
        key=write.key,
        source=source,
        destination=destination,
        frame=activation.frame.id,
        iteration=activation.iteration,
        nbytes=parcel.nbytes,
        sent_ns=parcel.sent_ns,
        received_ns=end_ns,
        dead=parcel.dead,
    )


class Written(NamedTuple):
    """What is told of a write, without what was written: of an array, dtype and shape, and its value if it is a scalar."""

    container: str
    resource: str
    kind: str
    version: int
    key: int
    nbytes: int
    dtype: Any
    shape: tuple[int, ...] | None
    text: Any  # of a scalar array, itself

    @classmethod
    def of(cls, write: Write) -> Written:
        """What is told of `write`."""
        resource, key = write.resource, -1 if write.key is NO_KEY else int(write.key)
        value = write.new
        if isinstance(resource, Stack):
            # Its value is a chain of all that it holds; what counts is the element that came or went.
            cell = write.new if write.kind == "push" else write.old
            value = cell[1] if cell is not None and write.kind in ("push", "pop") else None
        about: tuple[Any, ...]
        if isinstance(value, _ARRAYS):
            about = value.nbytes, value.dtype, value.shape, None if value.ndim else value
        else:
            about = 0, None, None, "" if value is None else repr(value)[:80]
        # As the class itself would, which takes three times as long.
        made: Written = _new(
            cls, (resource.container, resource.name, write.kind, write.old_version + 1, key, *about)
        )
        return made

    def told(self, row: int, node: int, frame: int, iteration: int, at_ns: int) -> ResourceWrite:
        """The write as observers are told of it, with who did it."""
        text = summary_of(self.dtype, self.shape)
        if text is None:
            text = text_of(self.dtype, self.shape, self.text)
        container, resource, kind, version, key, nbytes, *_ = self
        return ResourceWrite(
            row, node, frame, iteration, container, resource, kind, version, at_ns, nbytes, text, key
        )


_new: Any = tuple.__new__
_ARRAYS = (np.ndarray, np.generic)


def summary_of(dtype: Any, shape: tuple[int, ...] | None) -> str | None:
    """What is said of a value that was written; None if that is not known from its dtype and shape alone."""
    return _of_array(dtype, shape) if shape else None


def text_of(dtype: Any, shape: tuple[int, ...] | None, text: Any) -> str:
    """What is said of a value where `summary_of` says None: of a scalar, itself; `text` is that of a `Written`."""
    if shape is None:
        return str(text)
    # NumPy writes the scalar in an array of one in the same way, by a long detour.
    return f"{_of_scalar(dtype)} {text[()] if isinstance(text, np.ndarray) else text!s}"


@lru_cache(maxsize=1024)
def _of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype} {list(shape)}"


@lru_cache(maxsize=64)
def _of_scalar(dtype: np.dtype[Any]) -> str:
    return str(dtype)  # NumPy works it out anew each time


def look(value: Any) -> ArrayHealth | None:
    """The health of an output; of a resource, that of the array in it.  None for what is no array."""
    array = value.value if isinstance(value, Resource) else value
    return measure(array) if isinstance(array, np.ndarray | np.generic) else None
