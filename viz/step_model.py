"""A step under the debugger, as the screen shows it.

`step_view` makes it from the plain data that a debugger sends (`workbench.debugger.snapshot` has its schema), leniently: what is
missing is empty, so that a screen may be newer or older than the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from viz import flow_model
from viz.flow_model import FrameNode, Resource, Summary, Way


@dataclass(frozen=True, slots=True)
class Activation:
    """A node in a frame and iteration; `path` reads ``root > while:3``; `original` is the forward node of a gradient's node."""

    node: str
    type: str
    device: str
    frame: int
    path: str
    iteration: int
    dead: bool
    original: str = ""

    @property
    def where(self) -> str:
        """The frames around it by their last names: ``outer:2 › inner:0``, or nothing in the root frame."""
        return flow_model.short_path(self.path)


@dataclass(frozen=True, slots=True)
class Token:
    """What is at an input or came out of an output; `state` is 'value', 'dead' or 'missing'."""

    slot: int
    name: str
    state: str
    value: Summary | None


@dataclass(frozen=True, slots=True)
class Ready:
    """An activation that may run; place 0 runs next.  `note` is said of it (for how long it has been executing)."""

    index: int
    activation: Activation
    breakpoint: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A node that has some of its inputs."""

    activation: Activation
    inputs: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Executed:
    """An activation that has run."""

    row: int
    activation: Activation
    outputs: tuple[Token, ...]
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """Lines of the user's file; `lines[0]` is number `first`."""

    file: str
    line: int
    function: str
    first: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Break:
    """A breakpoint; the fields are those of `workbench.debugger.snapshot.BreakpointView`."""

    number: int
    node: str
    iteration: int | None
    hits: int
    comparison: str = ">="
    kind: str = "break"
    condition: str = ""
    enabled: bool = True
    once: bool = False
    after: int = 0
    log: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """A line that breakpoint `number` logged at execution `row`."""

    number: int
    row: int
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class StepView:
    """Everything that the Step screen shows; see `workbench.debugger.snapshot.Snapshot` for what the fields mean.

    While the step runs, `now` is what executes, for `now_ns` nanoseconds at least, and `pace` how many execute in a second.
    """

    serial: int = 0
    status: str = "waiting_for_run"
    script: str = ""
    reason: str = ""
    message: str = ""
    title: str = ""
    nodes: int = 0
    fetches: tuple[str, ...] = ()
    executed: int = 0
    next: Activation | None = None
    next_inputs: tuple[Token, ...] = ()
    ready: tuple[Ready, ...] = ()
    ready_count: int = 0
    waiting: tuple[Waiting, ...] = ()
    waiting_count: int = 0
    frames: tuple[FrameNode, ...] = ()
    last: Executed | None = None
    history: tuple[Executed, ...] = ()
    source: Source | None = None
    run_source: Source | None = None
    breakpoints: tuple[Break, ...] = ()
    output: str = ""
    error: str = ""
    traceback: str = ""
    exit_code: int | None = None
    can_undo: bool = False
    ended: tuple[FrameNode, ...] = ()
    ended_count: int = 0
    resources: tuple[Resource, ...] = ()
    resource_count: int = 0
    way: Way | None = None
    logged: tuple[Logged, ...] = ()
    logged_count: int = 0
    first_row: int = 0
    future: int = 0
    run: int = 0
    runs: int = 0
    past: bool = False
    now: Activation | None = None
    now_ns: int = 0
    pace: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the script has ended."""
        return self.status in ("finished", "failed", "detached")

    @property
    def can_step(self) -> bool:
        """Whether commands that execute nodes make sense."""
        return self.status == "stopped"


def step_view(data: Mapping[str, Any]) -> StepView:
    """The view of a snapshot's plain data."""
    step = data.get("step") or {}
    error = data.get("error") or {}
    title = _title(step.get("session", "?"), step.get("step", "?"), step.get("stage", "")) if step else ""
    return StepView(
        serial=int(data.get("serial", 0)),
        status=str(data.get("status", "waiting_for_run")),
        script=str(data.get("script", "")),
        reason=str(data.get("reason", "")),
        message=str(data.get("message", "")),
        title=title,
        nodes=int(step.get("nodes", 0)),
        fetches=(*step.get("fetches", ()), *step.get("targets", ())),
        executed=int(data.get("executed", 0)),
        next=activation(data.get("next")),
        next_inputs=_tokens(data.get("next_inputs", ())),
        ready=tuple(_ready(row) for row in data.get("ready", ())),
        ready_count=int(data.get("ready_count", len(data.get("ready", ())))),
        waiting=tuple(_waiting(row) for row in data.get("waiting", ())),
        waiting_count=int(data.get("waiting_count", len(data.get("waiting", ())))),
        frames=flow_model.frame_nodes(data.get("frames", ())),
        last=_executed(data.get("last")),
        history=tuple(found for row in data.get("history", ()) if (found := _executed(row)) is not None),
        source=source(data.get("source")),
        run_source=source(data.get("run_source")),
        breakpoints=tuple(_break(row) for row in data.get("breakpoints", ())),
        output=str(data.get("output", "")),
        error=f"{error.get('type', 'Error')}: {error.get('message', '')}" if error else "",
        traceback=str(error.get("traceback", "")),
        exit_code=data.get("exit_code"),
        can_undo=bool(data.get("can_undo", False)),
        ended=flow_model.flat_frames(data.get("ended", ())),
        ended_count=int(data.get("ended_count", 0)),
        resources=flow_model.resources(data.get("resources", ())),
        resource_count=int(data.get("resource_count", 0)),
        way=flow_model.way(data.get("way")),
        logged=tuple(
            Logged(
                int(row["number"]),
                int(row.get("row", -1)),
                str(row.get("place", "")),
                str(row.get("text", "")),
            )
            for row in data.get("logged", ())
        ),
        logged_count=int(data.get("logged_count", 0)),
        first_row=int(data.get("first_row", 0)),
        future=int(data.get("future", 0)),
        run=int(data.get("run", 0)),
        runs=int(data.get("runs", 0)),
        past=bool(data.get("past", False)),
    )


def title_of(snapshot: Any) -> str:
    """What `StepView.title` is for a snapshot."""
    step = snapshot.step
    return _title(step.session, step.step, step.stage) if step is not None else ""


def _title(session: Any, step: Any, stage: Any) -> str:
    return f"session {session} · run {step} · {stage}"


def _break(row: Mapping[str, Any]) -> Break:
    return Break(
        number=int(row["number"]),
        node=str(row["node"]),
        iteration=row.get("iteration"),
        hits=int(row.get("hits", 0)),
        comparison=str(row.get("comparison", ">=")),
        kind=str(row.get("kind", "break")),
        condition=str(row.get("condition", "")),
        enabled=bool(row.get("enabled", True)),
        once=bool(row.get("once", False)),
        after=int(row.get("after", 0)),
        log=str(row.get("log", "")),
        problem=str(row.get("problem", "")),
    )


def activation(data: Any) -> Activation | None:
    """The activation that plain data describes; None for none."""
    if not data:
        return None
    return Activation(
        node=str(data["node"]),
        type=str(data.get("type", "")),
        device=str(data.get("device", "")),
        frame=int(data.get("frame", 0)),
        path=str(data.get("path", "root")),
        iteration=int(data.get("iteration", 0)),
        dead=bool(data.get("dead", False)),
        original=str(data.get("original", "")),
    )


def _need(data: Any) -> Activation:
    found = activation(data)
    if found is None:
        raise ValueError("a row without its activation")
    return found


def token(row: Any) -> Token:
    """The token that plain data describes."""
    return Token(
        slot=int(row.get("slot", -1)),
        name=str(row.get("name", "")),
        state=str(row.get("state", "missing")),
        value=flow_model.summary(row.get("value")),
    )


def _tokens(rows: Sequence[Any]) -> tuple[Token, ...]:
    return tuple(token(row) for row in rows)


def _ready(row: Any) -> Ready:
    return Ready(int(row.get("index", 0)), _need(row["activation"]), bool(row.get("breakpoint", False)))


def _waiting(row: Any) -> Waiting:
    return Waiting(_need(row["activation"]), _tokens(row.get("inputs", ())))


def _executed(row: Any) -> Executed | None:
    if not row:
        return None
    return Executed(
        int(row.get("row", 0)),
        _need(row["activation"]),
        _tokens(row.get("outputs", ())),
        int(row.get("duration_ns", 0)),
    )


def source(row: Any) -> Source | None:
    """The source that plain data describes; None for none."""
    if not row:
        return None
    return Source(
        str(row["file"]),
        int(row["line"]),
        str(row.get("function", "")),
        int(row.get("first", 1)),
        tuple(row.get("lines", ())),
    )
