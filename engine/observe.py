"""The Observer protocol: the one door through which the engine tells what it does.

The engine calls an observer's methods; it never reads anything back, and it knows nothing of files, screens or formats.  When
nobody observes, nothing is collected.  What an observer gets depends on its `level`:

========  ==================================================================================================
`OFF`     nothing
`TIMES`   stages, steps, node executions with time stamps, frames, resource writes, transfers, allocations, changes made by
          hand in a debugger
`VALUES`  and the health of every output: dtype, shape, min, max, mean, counts of NaN and Inf
`FULL`    and every token on every edge, and the values themselves
========  ==================================================================================================

Per-node facts come in columnar batches (NumPy arrays of equal length), never one call a node.  All times are
`time.perf_counter_ns()` unless a name says otherwise; `StepInfo.started_unix_ns` ties them to the wall clock.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from engine.device.device import Device
    from engine.passes.stage import Stage
    from engine.types.site import Frame

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def _row(cls: type[T]) -> type[T]:
    """A dataclass of which there are thousands: frozen for the type checker; as it runs, that triples its cost."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True, eq_default=False)
def _batch(cls: type[T]) -> type[T]:
    """A dataclass that every step makes some of, each equal to itself alone: frozen for the type checker only, as `_row` is."""
    return dataclass(slots=True, eq=False)(cls)


class TraceLevel(enum.IntEnum):
    """How much the engine tells; each level includes the ones below it."""

    OFF = 0
    TIMES = 1
    VALUES = 2
    FULL = 3


@_batch
class StepInfo:
    """One `Session.run`.

    `id` is unique in the process and grows; `step` counts this session's runs from 1.  `site` are the user's stack frames at
    the call, innermost first.  `devices` are those that the stage's nodes are on.  `executor` is what runs it: "plan (python)",
    "plan (tape)" where there is machine code in it, or "interpreter: " with the reason why not a plan.
    """

    id: int
    session: int
    step: int
    stage: Stage
    fetches: tuple[str, ...]
    feeds: tuple[str, ...]
    targets: tuple[str, ...]
    site: tuple[Frame, ...]
    started_ns: int
    started_unix_ns: int
    thread: int
    devices: tuple[Device, ...] = ()
    executor: str = "interpreter"


@_batch
class Pattern:
    """What batches of executions have in common that differ in nothing but the times: who has it keeps nothing else twice.

    Row i of such a batch started at `Executions.times[start[i]]` and ended at `times[end[i]]`.
    """

    start: Int64
    end: Int64


@_batch
class Executions:
    """Node executions of one step, in the order in which they finished.

    `device` is the device that the step ran on, or "" if it ran on several: each row's is then that of its node in the stage.
    `first` is the number of the batch's first row within the step (a long step comes in several batches); `node` indexes
    `stage.order`; `frame` is a frame id (0 is the root; `FrameEvent` says what the others are).  A dead node runs no kernel:
    its row has `dead` set and a zero duration.

    Where a `pattern` is given, all batches that have it have the same of everything but `start_ns` and `end_ns`, which follow
    from `times`.
    """

    device: str
    first: int
    node: Int32
    frame: Int32
    iteration: Int64
    start_ns: Int64
    end_ns: Int64
    thread: Int32
    dead: Bool
    pattern: Pattern | None = None
    times: Int64 | None = None

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """What the live outputs looked like.

    One row an output: `row` is the execution's number within the step, `slot` the output index, `dtype` a TensorFlow DataType
    number, `shapes[i]` a tuple.  `minimum`, `maximum` and `mean` are over the finite elements (NaN where there are none, or
    where the dtype has no order: strings, resources; a complex number counts with its magnitude, a bool as 0 or 1).
    """

    row: Int64
    slot: Int32
    dtype: Int32
    shapes: tuple[tuple[int, ...], ...]
    minimum: Float64
    maximum: Float64
    mean: Float64
    nan: Int64
    inf: Int64
    nbytes: Int64

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """All that the nodes of one step did, where `Executions` told of some iterations of its loops only.

    A row a node that was executed: how often, how often of that dead, and how long in all, in nanoseconds.  These are exact, and
    include what was told.  `skipped` executions were not told.
    """

    node: Int32
    executions: Int64
    dead: Int64
    total_ns: Int64
    skipped: int

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Tokens delivered, in order: output `source_slot` of the node at the edge's other end arrived at input `slot` of `node`.

    `row` is the execution that delivered the token: the producer itself, or, for a token that was held back (a deferred
    NextIteration, a loop invariant, a dead Exit), the execution that released it.

    `slot` and `source_slot` are -1 for a control edge.  `frame` and `iteration` are those in which the token arrived.
    """

    row: Int64
    source_slot: Int32
    node: Int32
    slot: Int32
    frame: Int32
    iteration: Int64
    dead: Bool

    def __len__(self) -> int:
        return len(self.row)


class FrameChange(enum.Enum):
    """What happened to a frame or to one of its iterations."""

    FRAME_BEGIN = "frame_begin"
    ITERATION_BEGIN = "iteration_begin"
    ITERATION_DEFERRED = "iteration_deferred"  # a NextIteration held back by `parallel_iterations`
    ITERATION_END = "iteration_end"
    FRAME_END = "frame_end"


@_row
class FrameEvent:
    """A change of a frame; `row` is the number of the execution that caused it.

    `name` is the frame's name in the graph (``while/while_context``), `parent` and `parent_iteration` say where it was entered.
    `live` is false for a frame that was entered by dead tokens only (a loop in a branch not taken); it is known at FRAME_END.
    """

    change: FrameChange
    row: int
    frame: int
    name: str
    parent: int
    parent_iteration: int
    iteration: int
    live: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One output's value; `array` must not be changed."""

    row: int
    slot: int
    array: Any


@_row
class ResourceWrite:
    """A change of a variable, queue, stack or random counter, with who did it.

    `row` is the number of the execution that did it; `version` counts the resource's writes from 1.  `nbytes` and `summary`
    are about what was written: of a stack, the element that was pushed or popped; of an array of tensors, the element, and `key`
    is its index (-1 where a resource changed as a whole).
    """

    row: int
    node: int
    frame: int
    iteration: int
    container: str
    resource: str
    kind: str
    version: int
    at_ns: int
    nbytes: int
    summary: str
    key: int = -1


@_batch
class WritePattern:
    """What batches of resource writes have in common: columns of `ResourceWrite`, but for `version`, `at_ns`, and some summaries.

    `summary` is None where it differs from batch to batch.
    """

    row: tuple[int, ...]
    node: tuple[int, ...]
    frame: tuple[int, ...]
    iteration: tuple[int, ...]
    container: tuple[str, ...]
    resource: tuple[str, ...]
    kind: tuple[str, ...]
    nbytes: tuple[int, ...]
    summary: tuple[str | None, ...]
    key: tuple[int, ...]


class ResourceWrites(Sequence[ResourceWrite]):
    """A batch of resource writes in columns; as a sequence, their rows.

    version, at_ns: a column each.  summaries: those that the pattern does not have, in order.
    """

    __slots__ = ("_rows", "at_ns", "pattern", "summaries", "version")

    def __init__(
        self, pattern: WritePattern, version: Sequence[int], at_ns: Int64, summaries: Sequence[str]
    ) -> None:
        self.pattern = pattern
        self.version = version
        self.at_ns = at_ns
        self.summaries = summaries
        self._rows: tuple[ResourceWrite, ...] | None = None

    def rows(self) -> tuple[ResourceWrite, ...]:
        """The writes one by one, made when they are first asked for."""
        if self._rows is None:
            same, others = self.pattern, iter(self.summaries)
            summary = [next(others) if text is None else text for text in same.summary]
            columns = (same.row, same.node, same.frame, same.iteration, same.container, same.resource)
            more = (same.kind, self.version, self.at_ns.tolist(), same.nbytes, summary, same.key)
            self._rows = tuple(map(ResourceWrite, *columns, *more))
        return self._rows

    @overload
    def __getitem__(self, at: int) -> ResourceWrite: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ResourceWrite]: ...
    def __getitem__(self, at: int | slice) -> ResourceWrite | Sequence[ResourceWrite]:
        return self.rows()[at]

    def __iter__(self) -> Iterator[ResourceWrite]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self.pattern.row)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A tensor that went from one device to another under a rendezvous key."""

    key: str
    source: str
    destination: str
    frame: int
    iteration: int
    nbytes: int
    sent_ns: int
    received_ns: int
    dead: bool


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes taken (`nbytes` > 0) or given back (`nbytes` < 0) by execution `row` on `device`; `in_use` is the total after it."""

    device: str
    row: int
    at_ns: int
    nbytes: int
    in_use: int


@_row
class Override:
    """A change that somebody at a debugger made by hand in a step: the step did not come to it by itself.

    `number` is its own in the process.  `row` is the number of the execution before which it was made: those from there on may
    descend from it (`Descents` says which do).  `kind` says what was done:

    - ``set``: output `slot` of `node`'s execution in that frame and iteration was replaced where it had not been read yet,
    - ``set next``: `node` runs next, and its output `slot` is replaced as it does,
    - ``skip``: `node` gives other outputs instead of running its kernel, when it is its turn,
    - ``force``: output `slot` of `node`, a predicate, was replaced, or will be,
    - ``set var``: `resource` was written, which has `version` now.

    `text` says it in words, with the value: ``set total:0 = 10.0``.  What there is no such thing of is -1 or empty.
    `taken_back`: the override of that number, which observers had been told of, has been taken back.
    """

    number: int
    row: int
    kind: str
    text: str
    node: int = -1
    slot: int = -1
    frame: int = -1
    iteration: int = -1
    container: str = ""
    resource: str = ""
    version: int = -1
    at_ns: int = 0
    taken_back: bool = False


def standing(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Those of all that observers were told of which have not been taken back."""
    told = tuple(overrides)
    back = {each.number for each in told if each.taken_back}
    return tuple(each for each in told if each.number not in back)


@dataclass(frozen=True, slots=True, eq=False)
class Descents:
    """Executions that descend from an override: `row` from that of number `override`, perhaps one of an earlier step.

    An execution descends from one if what it read does, or if it was itself told to give something else.  Of one that descends
    from several, one is told.  Once nobody looks at a step any more (the debugger was detached), nothing is told of what follows
    in it.
    """

    row: Int64
    override: Int64

    def __len__(self) -> int:
        return len(self.row)


class Observer:
    """Base of all observers: every method does nothing, so that an observer overrides what it wants to know.

    Methods are called from the thread that runs the step; several sessions or threads may call at once.  An exception raised
    by an observer ends the step with that error: an observer that must not disturb catches its own.
    """

    level: TraceLevel = TraceLevel.TIMES

    def stage(self, stage: Stage) -> None:
        """A session made `stage` (called once a stage, in the order of the chain, before the first step that uses it)."""

    def step_begin(self, step: StepInfo) -> None:
        """A `Session.run` is about to execute."""

    def executions(self, step: StepInfo, batch: Executions) -> None:
        """Nodes finished."""

    def health(self, step: StepInfo, batch: Health) -> None:
        """How the outputs of those nodes looked (`VALUES` and above)."""

    def tokens(self, step: StepInfo, batch: Tokens) -> None:
        """Tokens were delivered (`FULL`)."""

    def values(self, step: StepInfo, batch: tuple[Value, ...]) -> None:
        """The outputs themselves (`FULL`)."""

    def frames(self, step: StepInfo, batch: tuple[FrameEvent, ...]) -> None:
        """Frames and iterations began, were deferred, ended."""

    def resource_writes(self, step: StepInfo, batch: Sequence[ResourceWrite]) -> None:
        """Resources changed."""

    def transfers(self, step: StepInfo, batch: tuple[Transfer, ...]) -> None:
        """Tensors crossed devices."""

    def allocations(self, step: StepInfo, batch: tuple[Allocation, ...]) -> None:
        """Memory was taken or given back."""

    def overrides(self, step: StepInfo, batch: tuple[Override, ...]) -> None:
        """Somebody changed something by hand."""

    def descents(self, step: StepInfo, batch: Descents) -> None:
        """Executions descend from what somebody changed by hand."""

    def totals(self, step: StepInfo, batch: Totals) -> None:
        """The step did more than could be told: what it did in all (just before its end)."""

    def step_end(self, step: StepInfo, ended_ns: int, error: BaseException | None) -> None:
        """The step ended; `error` is what the caller's `run` raises, if anything."""


_installed: tuple[Observer, ...] = ()
_lock = threading.Lock()


def install(observer: Observer) -> None:
    """Let `observer` see every session of this process from now on."""
    global _installed
    with _lock:
        _installed = (*_installed, observer)


def uninstall(observer: Observer) -> None:
    """Stop telling `observer`; unknown observers are ignored."""
    global _installed
    with _lock:
        _installed = tuple(known for known in _installed if known is not observer)


def installed() -> tuple[Observer, ...]:
    """The observers of this process, in the order in which they were installed."""
    return _installed
