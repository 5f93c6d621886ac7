"""What a front end sees of a step that is being debugged: the schema that the agent sends and every surface draws.

A `Snapshot` is complete in itself: a front end that has just connected can draw everything from one.  It is plain data all the
way down (`to_dict`, `from_dict`: JSON objects, no pickles), bounded in size (the `MAX_*` constants; where something was cut, the
count beside it says how much there was), and never changes once made.

`Snapshot.serial` grows with every change, so a front end may drop a snapshot that is older than the one it shows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any

from tracing.devices import DeviceState
from workbench.debugger.plain import decode, encode

SCHEMA_VERSION = 1

MAX_READY = 200  # activations in `Snapshot.ready`
MAX_WAITING = 100  # nodes in `Snapshot.waiting`
MAX_HISTORY = 100  # executions in `Snapshot.history`, the latest ones
MAX_FRAMES = 100  # frames in `Snapshot.frames`
MAX_ITERATIONS = 32  # iterations in one `FrameView`, the latest ones
MAX_ENDED = 40  # frames in `Snapshot.ended`, the latest ones
MAX_ENTERS = 12  # Enter nodes in one `FrameView`
MAX_RESOURCES = 60  # resources in `Snapshot.resources`
MAX_ELEMENTS = 12  # elements in one `ResourceView`, from the top of a stack
MAX_WAY = 60  # places on each leg of a `WayView`
MAX_OUTPUT = 8_192  # characters of the script's output in `Snapshot.output`
MAX_LOGGED = 40  # lines in `Snapshot.logged`, the latest ones
MAX_PARCELS = 100  # tensors in `Snapshot.awaited`, and in `Snapshot.sent`
MAX_TEXT = 400  # characters of one value's text
SOURCE_LINES = 7  # lines of source before and after the one that matters


class Status(enum.StrEnum):
    """Where the script is."""

    WAITING_FOR_RUN = (
        "waiting_for_run"  # Python code of the script runs; it has not called Session.run (again) yet
    )
    STOPPED = "stopped"  # inside a Session.run, between two nodes; commands are welcome
    RUNNING = "running"  # inside a Session.run, executing nodes (after `continue`, or a slow kernel)
    FINISHED = "finished"  # the script ended by itself; `exit_code` is what it exits with
    FAILED = "failed"  # the script ended with an exception; `error` has it
    DETACHED = "detached"  # nobody looks any more, and the script runs on by itself


class TokenState(enum.StrEnum):
    """What is at an input or came out of an output."""

    VALUE = "value"
    DEAD = "dead"  # the token says: the branch that makes this was not taken
    MISSING = "missing"  # nothing has arrived yet


@dataclass(frozen=True, slots=True)
class ValueSummary:
    """A tensor's value in a few words.

    `text` is the value as NumPy prints it, on one line or several; `complete` is false where it was abbreviated.  `minimum`,
    `maximum` and `mean` are over the finite elements; None where there are none or where the dtype has no order (a complex
    number counts with its magnitude, a bool as 0 or 1).  `nan` and `inf` count elements.  `dtype` is TensorFlow's name.
    """

    dtype: str
    shape: tuple[int, ...]
    text: str
    complete: bool
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    nan: int = 0
    inf: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class TokenView:
    """One input or output of a node.

    `name` is the tensor that feeds the input or comes out of the output (``"while/add:0"``; ``"^init"`` for a control edge).
    `slot` is the input's or output's index, -1 for a control edge.  `value` is None unless `state` is VALUE, and may be None for
    a control edge, which carries no value.  `tainted` is ``#5`` where it descends from what was changed by hand there.
    """

    slot: int
    name: str
    state: TokenState
    value: ValueSummary | None = None
    tainted: str = ""


@dataclass(frozen=True, slots=True)
class ActivationView:
    """A node in a frame and iteration: what executes once.

    `path` reads ``"root"`` or ``"root > while:3 > inner:0"``: the frames around it, each with the iteration.  `dead` says that it
    is to execute (or did) without running its kernel, because an input was dead.
    """

    node: str
    type: str
    device: str
    frame: int
    path: str
    iteration: int
    dead: bool = False
    original: str = ""


@dataclass(frozen=True, slots=True)
class ReadyView:
    """An activation with all the inputs that it needs. `index` is its place in the queue: 0 is what `next` executes."""

    index: int
    activation: ActivationView
    breakpoint: bool = False


@dataclass(frozen=True, slots=True)
class WaitingView:
    """A node that holds some but not all of its inputs."""

    activation: ActivationView
    inputs: tuple[TokenView, ...]


@dataclass(frozen=True, slots=True)
class ExecutedView:
    """An activation that has executed. `row` counts executions of the step from 0; `duration_ns` is 0 for a dead one.

    `effect` says what of it stays when it is taken back (``it printed``).  With a `change` (``set add:0 = 5.0``) nothing has
    executed, but something was changed by hand.  `tainted` is ``#5`` where it descends from what was changed there (``#5 of
    step 2`` in an earlier step).
    """

    row: int
    activation: ActivationView
    outputs: tuple[TokenView, ...]
    duration_ns: int = 0
    effect: str = ""
    change: str = ""
    tainted: str = ""


@dataclass(frozen=True, slots=True)
class IterationView:
    """One open iteration of a frame: how many of its activations are ready, and how many nodes hold some of their inputs."""

    number: int
    ready: int
    waiting: int


@dataclass(frozen=True, slots=True)
class EnterView:
    """A token that entered a frame through node `node` in execution `row`; a `constant` one goes to every iteration."""

    node: str
    row: int
    dead: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class FrameView:
    """A frame that is open or has ended; the root has id 0, the empty name and parent -1.

    `iterations` are those that are open, `iteration_count` counts those begun so far and `ended_count` those that have ended;
    `live` is false while only dead tokens have entered (a loop in a branch not taken). `path` is that of the frame's entry:
    ``"root > outer:2 > inner"``.  It was entered by `enters` (`enter_count` of them so far), the first in execution `begin_row`;
    `end_row` is -1 while it is open.  `limit` is the loop's `parallel_iterations`: `deferred_count` iterations have been held
    back because so many were under way, iteration `held` (-1: none) still is; `most_under_way` is the greatest number so far.
    `made_at` (``script.py:12``) and `made_by` are the user's line that made the loop, `gradient_of` names the loop whose backward
    loop it is.
    """

    id: int
    name: str
    path: str
    parent: int
    parent_iteration: int
    live: bool
    iterations: tuple[IterationView, ...]
    iteration_count: int = 1
    ended_count: int = 0
    enters: tuple[EnterView, ...] = ()
    enter_count: int = 0
    begin_row: int = -1
    end_row: int = -1
    limit: int = 0
    deferred_count: int = 0
    held: int = -1
    most_under_way: int = 0
    made_at: str = ""
    made_by: str = ""
    gradient_of: str = ""


@dataclass(frozen=True, slots=True)
class WriterView:
    """The execution that put something where it is: its number, node and path."""

    row: int
    node: str
    path: str


@dataclass(frozen=True, slots=True)
class ElementView:
    """An element of a stack (`index` counts from the bottom) or of an array; `value` is None where it was read and let go.

    `by` is None where the history no longer has who put it there.
    """

    index: int
    value: ValueSummary | None
    by: WriterView | None = None


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A variable, stack, array, queue or random counter of the session.

    size: how many elements a stack or array holds, of which `elements` are the first (a stack's from its top); -1 for what has no
    elements: its `value` and who wrote it last are `value` and `by`.  `keeps` are the tensors that are put into a stack or array,
    `readers` the nodes that take them out, `original` the forward node for whose gradient it is, `made_at` the line of what it
    keeps.
    """

    name: str
    kind: str
    version: int
    size: int = -1
    elements: tuple[ElementView, ...] = ()
    value: ValueSummary | None = None
    by: WriterView | None = None
    keeps: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    original: str = ""
    made_at: str = ""


@dataclass(frozen=True, slots=True)
class PlaceView:
    """An execution on the way of a dead token; `row` is -1 for one that is still to come.  `note` says in words what it did."""

    node: str
    type: str
    path: str
    row: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class WayView:
    """The way of the dead token that reached `asked`: the Switch that killed it, the nodes in between, where it was stopped."""

    asked: PlaceView
    killer: PlaceView | None
    chain: tuple[PlaceView, ...]
    stops: tuple[PlaceView, ...]
    predicate: str = ""
    chose: bool | None = None


@dataclass(frozen=True, slots=True)
class SourceView:
    """Lines of the user's file around `line`. `lines[0]` is line number `first`; empty where the file can't be read."""

    file: str
    line: int
    function: str
    first: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BreakpointView:
    """A breakpoint: stop before a node whose name is `node`, lies in the scope `node`, or matches it as a pattern (``*/add``).

    `node` may also be another place (``type:MatMul``, ``send:*w*``; see `workbench.debugger.places`), and is the variable's name
    for `kind` ``watch``.  With `iteration` only where the iteration compares so to it (`comparison` is ``>=``, ``==``, ``<`` …),
    with `condition` only where that holds.  The first `after` hits do not stop; a breakpoint with `log` does not either, but logs
    its value.  `problem` says where the condition could last not be judged, and why.
    """

    number: int
    node: str
    iteration: int | None = None
    comparison: str = ">="
    hits: int = 0
    kind: str = "break"
    condition: str = ""
    enabled: bool = True
    once: bool = False
    after: int = 0
    log: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LogView:
    """A line that breakpoint `number` logged at execution `row`: at which `place`, and the `text` of what was to be logged."""

    number: int
    row: int
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class StepView:
    """The `Session.run` that is being stepped."""

    id: int
    session: int
    step: int
    stage: str
    nodes: int
    fetches: tuple[str, ...]
    feeds: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An exception: its class's name, message, and the traceback as the user would see it from Python."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class AwaitedView:
    """A tensor that a `_Recv` waits for: its rendezvous key, who waits, and for how long (ns)."""

    key: str
    node: str
    path: str
    waited_ns: int


@dataclass(frozen=True, slots=True)
class SentView:
    """A tensor that was sent and has not been taken, and how long ago that was (ns)."""

    key: str
    nbytes: int
    dead: bool
    waited_ns: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything about the script at one moment.

    - `next` is the activation that `next` would execute (`ready[0]`), with what it reads in `next_inputs`.
    - `last` is the activation executed last; `history` the latest executions, oldest first; `executed` counts them all.
    - `source` is the user's line that created `next` (or `last`, when nothing is left), `run_source` the line that called
      `Session.run`.
    - `reason` says in one line why execution stopped there (``"breakpoint 1 at while/add"``).
    - `message` is the answer to the latest command as text, lines apart by newlines; empty where the stop itself is the answer.
    - `output` is the tail of what the script printed to standard output and error.
    - `can_undo` says whether `back` would work.
    - `ended` are the latest frames that have ended, the oldest first, of `ended_count`.
    - `resources` are the stacks and arrays of the step, then the variables and what else the session holds.
    - `devices` are the step's devices, where there is more than the host's CPU; `awaited` and `sent` are its rendezvous.
    - `logged` are the last lines that breakpoints logged, of `logged_count`.
    - `first_row` is the first execution that the history still has; `future` counts those taken back that can be had again.
    - `run` numbers the `Session.run`s that were watched from 1; there have been `runs`, and `first_run` is the oldest that one
      can go back into.  `past`: this one is over, and is looked at once more.
    - `repeated`: before what is given of `history` come so many executions that the snapshot before had, from row `repeated_from`
      on.  Only between an agent and its front end (`shortened`, `lengthened`).
    - `way` is the way of the dead token that was asked for last (`why NODE`), brought up to date.
    """

    serial: int
    status: Status
    script: str
    argv: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    step: StepView | None = None
    executed: int = 0
    next: ActivationView | None = None
    next_inputs: tuple[TokenView, ...] = ()
    ready: tuple[ReadyView, ...] = ()
    ready_count: int = 0
    waiting: tuple[WaitingView, ...] = ()
    waiting_count: int = 0
    frames: tuple[FrameView, ...] = ()
    frame_count: int = 0
    last: ExecutedView | None = None
    history: tuple[ExecutedView, ...] = ()
    source: SourceView | None = None
    run_source: SourceView | None = None
    breakpoints: tuple[BreakpointView, ...] = ()
    output: str = ""
    error: ErrorView | None = None
    exit_code: int | None = None
    can_undo: bool = False
    ended: tuple[FrameView, ...] = ()
    ended_count: int = 0
    resources: tuple[ResourceView, ...] = ()
    resource_count: int = 0
    way: WayView | None = None
    devices: tuple[DeviceState, ...] = ()
    awaited: tuple[AwaitedView, ...] = ()
    sent: tuple[SentView, ...] = ()
    logged: tuple[LogView, ...] = ()
    logged_count: int = 0
    first_row: int = 0
    future: int = 0
    run: int = 0
    runs: int = 0
    first_run: int = 0
    past: bool = False
    repeated: int = 0
    repeated_from: int = 0
    version: int = SCHEMA_VERSION


def to_dict(snapshot: Snapshot) -> dict[str, Any]:
    """`snapshot` as what `json.dumps` takes."""
    plain = encode(snapshot)
    assert isinstance(plain, dict)
    return plain


def from_dict(data: Any) -> Snapshot:
    """The snapshot that `to_dict` made `data` of; raises `PlainError` where it does not fit the schema."""
    return decode(Snapshot, data)


def shortened(snapshot: Snapshot, before: tuple[ExecutedView, ...]) -> Snapshot:
    """`snapshot` without the executions that the history `before` begins with too: few are new at most stops."""
    history = snapshot.history
    if not history or not before:
        return snapshot
    shift = history[0].row - before[0].row
    if shift < 0:
        return snapshot
    same = 0
    for here, there in zip(history, before[shift:]):
        if here is not there:
            break
        same += 1
    if not same:
        return snapshot
    return replace(snapshot, history=history[same:], repeated=same, repeated_from=history[0].row)


def lengthened(snapshot: Snapshot, before: tuple[ExecutedView, ...]) -> Snapshot:
    """What `shortened` was given, with the same `before`; what is not there of it is left out."""
    count, first = snapshot.repeated, snapshot.repeated_from
    if not count:
        return snapshot
    known = tuple(each for each in before if first <= each.row < first + count)
    return replace(snapshot, history=(*known, *snapshot.history), repeated=0, repeated_from=0)
