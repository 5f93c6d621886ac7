"""A step's frames and iterations as a tree: how each frame was entered, and how far `parallel_iterations` held it back.

`frame_tree` works on what an executor told, whoever kept it: a recorded run's batches or a debugger's history.  A frame is one
execution of a loop; the root, which every step has, is no frame of the tree.

A frame runs at most `limit` iterations at a time (`parallel_iterations`).  A NextIteration that would begin one more is held
back until an iteration ends: `IterationSpan.waited_ns` says for how long, `FrameSpan.most_under_way` how near to the limit a
loop came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.observe import Executions, FrameChange, FrameEvent
from engine.passes.stage import Stage, StageNode
from engine.types.site import Frame

_LOOP = "/while_context"  # TensorFlow's name for a loop's frame is the loop's scope and this


class Entered(NamedTuple):
    """An Enter node that ran: which execution it was, where, and whether it was dead."""

    row: int
    node: str
    frame: int
    iteration: int
    dead: bool


@dataclass(frozen=True, slots=True)
class EnterToken:
    """A token that entered a frame through Enter node `node`, at execution `row`; a `constant` one goes to every iteration."""

    node: str
    row: int
    dead: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class IterationSpan:
    """One iteration of a frame.

    Rows are numbers of executions within the step, times nanoseconds of the process's clock.  `end_row` is -1 while it is under
    way (`end_ns` is then the last time known).  `deferred_row` is -1 unless it was held back at that row, for `waited_ns`.
    `begin_row` is -1 if it was held back and never began.
    """

    number: int
    begin_row: int
    end_row: int
    begin_ns: int
    end_ns: int
    deferred_row: int = -1
    deferred_ns: int = 0

    @property
    def state(self) -> str:
        """'ended', 'under way', or 'deferred' (held back until now)."""
        return "deferred" if self.begin_row < 0 else "under way" if self.end_row < 0 else "ended"

    @property
    def waited_ns(self) -> int:
        """How long it was held back."""
        return self.begin_ns - self.deferred_ns if self.deferred_row >= 0 else 0


@dataclass(frozen=True)
class FrameSpan:
    """One execution of a loop.

    `parent` and `parent_iteration` say where it was entered (0 is the root), `enters` through which Enter nodes, `site` at which
    of the user's lines the loop was made.  `limit` is the loop's `parallel_iterations`, 0 where it is not known.  `live` is false
    for a frame that only dead tokens have entered: a loop in a branch not taken.  `gradient_of` names the frame of the forward
    loop, for the backward loop of a gradient.  `end_row` is -1 while the frame is open.  `changes` has, for each beginning (1)
    and end (-1) of an iteration, its time, in the order in which they happened.
    """

    id: int
    name: str
    parent: int
    parent_iteration: int
    limit: int
    live: bool
    begin_row: int
    end_row: int
    begin_ns: int
    end_ns: int
    enters: tuple[EnterToken, ...]
    iterations: tuple[IterationSpan, ...]
    changes: tuple[tuple[int, int], ...] = ()
    gradient_of: str = ""
    site: Frame | None = None

    @property
    def begun(self) -> int:
        """How many iterations have begun; the last of a loop that ended only finds its condition false."""
        return sum(each.begin_row >= 0 for each in self.iterations)

    @property
    def ended(self) -> int:
        return sum(each.end_row >= 0 for each in self.iterations)

    @property
    def deferred(self) -> tuple[IterationSpan, ...]:
        """The iterations that `parallel_iterations` held back, those that wait now included."""
        return tuple(each for each in self.iterations if each.deferred_row >= 0)

    @property
    def waited_ns(self) -> int:
        """How long its iterations were held back, in all."""
        return sum(each.waited_ns for each in self.iterations)

    @cached_property
    def under_way(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Times in ns, and how many iterations are under way from each of them on."""
        times = np.array([at for at, _ in self.changes], np.int64)
        return times, np.cumsum([by for _, by in self.changes], dtype=np.int64)

    @property
    def most_under_way(self) -> int:
        """The greatest number of iterations that were under way at a time."""
        return int(self.under_way[1].max(initial=0))

    @property
    def mean_under_way(self) -> float:
        """How many iterations were under way on average over the frame's time."""
        times, counts = self.under_way
        length = self.end_ns - self.begin_ns
        if length <= 0:
            return float(self.most_under_way)
        spans = np.diff(np.append(times, self.end_ns))
        return float((spans * counts).sum() / length)


class FrameTree:
    """The frames of a step, in the order in which they were entered."""

    def __init__(self, frames: Iterable[FrameSpan]) -> None:
        self.frames = tuple(frames)
        self._by_id = {frame.id: frame for frame in self.frames}

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[FrameSpan]:
        return iter(self.frames)

    def __getitem__(self, frame: int) -> FrameSpan:
        """The frame of that id.  Raises KeyError for the root and for an unknown one."""
        return self._by_id[frame]

    @cached_property
    def _below(self) -> dict[int, list[FrameSpan]]:
        found: dict[int, list[FrameSpan]] = {}
        for frame in self.frames:
            found.setdefault(frame.parent if frame.parent in self._by_id else 0, []).append(frame)
        return found

    def children(self, frame: int, iteration: int | None = None) -> tuple[FrameSpan, ...]:
        """The frames that were entered from frame `frame` (0: the root), or from that iteration of it."""
        below = self._below.get(frame, ())
        return tuple(each for each in below if iteration is None or each.parent_iteration == iteration)

    def walk(self, frame: int = 0, depth: int = 0) -> Iterator[tuple[int, FrameSpan]]:
        """Every frame with its depth, each after the one that it was entered from."""
        for child in self.children(frame):
            yield depth, child
            yield from self.walk(child.id, depth + 1)

    def parents(self) -> dict[int, tuple[int, int]]:
        """For each frame, the frame and iteration that it was entered from."""
        return {frame.id: (frame.parent, frame.parent_iteration) for frame in self.frames}

    def label(self, frame: int) -> str:
        """A frame's name without what its parent's says already."""
        span = self._by_id.get(frame)
        if span is None:
            return f"frame {frame}" if frame else "root"
        outer = self._by_id.get(span.parent)
        return frame_label(span.name, outer.name if outer is not None else "")

    def path(self, frame: int, iteration: int | None = None) -> str:
        """``root > while:3 > inner:0``: the frames around, each with its iteration; without one, the way to the frame itself."""
        if not frame:
            return "root"
        span = self._by_id.get(frame)
        head = self.path(span.parent, span.parent_iteration) if span is not None else "root > …"
        return f"{head} > {self.label(frame)}" + ("" if iteration is None else f":{iteration}")


def frame_label(name: str, outer: str = "") -> str:
    """A frame's name without what the loop builders put at its end, and without what that of the frame around it says."""
    label = name.removesuffix(_LOOP)
    around = outer.removesuffix(_LOOP)
    return label.removeprefix(f"{around}/") if around else label


def frame_tree(
    stage: Stage, events: Iterable[FrameEvent], entered: Iterable[Entered], time_of: Callable[[int], int]
) -> FrameTree:
    """The tree of what `events` tell, in their order; `time_of` gives the time of an execution, and the latest one for row -1."""
    tokens: dict[tuple[int, int, str], list[Entered]] = {}
    for each in entered:
        name = str(stage.nodes[each.node].attrs.get("frame_name", ""))
        tokens.setdefault((each.frame, each.iteration, name), []).append(each)
    open_frames: dict[int, _Open] = {}
    for event in events:
        found = open_frames.get(event.frame)
        if found is None:
            found = open_frames[event.frame] = _Open(event)
        found.take(event, time_of)
    latest = time_of(-1)
    loops = loops_of(stage)
    return FrameTree(
        each.span(stage, tokens.get(each.key, []), latest, loops.get(each.first.name, Loop()))
        for each in open_frames.values()
    )


def recorded_frames(stage: Stage, executions: Executions, events: Iterable[FrameEvent]) -> FrameTree:
    """The tree of a recorded step.

    An event's time is when the execution that caused it had ended; where executions of several threads were noted in another
    order than they ended in, that of the latest so far.
    """
    node, order = executions.node, stage.order
    enters = [i for i, name in enumerate(order) if flow_of(stage.nodes[name]) == "enter"]
    rows = np.flatnonzero(np.isin(node, enters))
    columns = (executions.frame[rows], executions.iteration[rows], executions.dead[rows])
    frame, iteration, dead = (column.tolist() for column in columns)
    names = [order[i] for i in node[rows].tolist()]
    entered = map(Entered, rows.tolist(), names, frame, iteration, dead)
    times = np.maximum.accumulate(executions.end_ns) if len(executions) else np.zeros(1, np.int64)
    return frame_tree(stage, events, entered, lambda row: int(times[min(row, len(times) - 1)]))


def flow_of(node: StageNode) -> str:
    """A node's role in control flow: 'switch', 'merge', 'enter', 'exit', 'next_iteration', 'loop_cond', or ''."""
    return str(getattr(node.opdef, "flow", ""))


class Loop(NamedTuple):
    """What the graph says of the loop that a frame is an execution of; see `FrameSpan`."""

    limit: int = 0
    gradient_of: str = ""
    site: Frame | None = None


def loops_of(stage: Stage) -> dict[str, Loop]:
    """The loops of a stage by the names of their frames."""
    enters: dict[str, list[StageNode]] = {}
    for node in stage:
        if flow_of(node) == "enter":
            enters.setdefault(str(node.attrs.get("frame_name", "")), []).append(node)
    return {name: _loop(stage, name, nodes) for name, nodes in enters.items()}


def _loop(stage: Stage, name: str, enters: list[StageNode]) -> Loop:
    limits: list[Any] = [node.attrs.get("parallel_iterations", 0) for node in enters]
    # A backward loop begins with the gradient of what the forward loop's Exits give.
    left = (_frame_left_by(stage, node.original) for node in enters if node.original)
    forward = next((found for found in left if found and found != name), "")
    # The line of the Enter of the loop's first variable; that of an invariant is a line of the body.
    ordered = sorted(enters, key=lambda node: bool(node.attrs.get("is_constant", False)))
    sites = [node.site.user for node in ordered if node.site is not None]
    return Loop(max(map(int, limits)), forward, next((site for site in sites if site is not None), None))


def _frame_left_by(stage: Stage | None, name: str) -> str:
    """The name of the frame that Exit `name` leaves, or '' if it is no Exit: Exit ← Switch ← Merge ← Enter, as loops are made."""
    while stage is not None and name not in stage.nodes:
        stage = stage.before  # only the gradient is run: the forward loop's Exit was pruned
    if stage is None or flow_of(stage.nodes[name]) != "exit":
        return ""
    at: StageNode | None = stage.nodes[name]
    for _ in range(3):
        at = stage.nodes.get(at.inputs[0][0]) if at is not None and at.inputs else None
    return str(at.attrs.get("frame_name", "")) if at is not None else ""


class _Open:
    """A frame while its events are gone through."""

    def __init__(self, first: FrameEvent) -> None:
        self.first = first
        self.key = (first.parent, first.parent_iteration, first.name)
        self.live = first.live
        self.begin: tuple[int, int] | None = None
        self.end: tuple[int, int] | None = None
        self.begun: dict[int, tuple[int, int]] = {}
        self.ended: dict[int, tuple[int, int]] = {}
        self.deferred: dict[int, tuple[int, int]] = {}
        self.changes: list[tuple[int, int]] = []

    def take(self, event: FrameEvent, time_of: Callable[[int], int]) -> None:
        at = event.row, time_of(event.row)
        self.live = self.live or event.live
        if event.change is FrameChange.FRAME_BEGIN:
            self.begin = at
        elif event.change is FrameChange.FRAME_END:
            self.end = at
        elif event.change is FrameChange.ITERATION_DEFERRED:
            self.deferred[event.iteration] = at
        else:
            begins = event.change is FrameChange.ITERATION_BEGIN
            (self.begun if begins else self.ended)[event.iteration] = at
            self.changes.append((at[1], 1 if begins else -1))

    def span(self, stage: Stage, entered: list[Entered], latest: int, loop: Loop) -> FrameSpan:
        nodes = [stage.nodes[each.node] for each in entered]
        enters = tuple(
            EnterToken(each.node, each.row, each.dead, bool(node.attrs.get("is_constant", False)))
            for each, node in zip(entered, nodes)
        )
        begin_row, begin_ns = self.begin or (self.first.row, latest)
        end_row, end_ns = self.end or (-1, latest)
        return FrameSpan(
            id=self.first.frame,
            name=self.first.name,
            parent=self.first.parent,
            parent_iteration=self.first.parent_iteration,
            limit=loop.limit,
            live=self.live or any(not each.dead for each in entered),
            begin_row=begin_row,
            end_row=end_row,
            begin_ns=begin_ns,
            end_ns=end_ns,
            enters=enters,
            iterations=tuple(self._iteration(n, latest) for n in sorted({*self.begun, *self.deferred})),
            changes=tuple(self.changes),
            gradient_of=loop.gradient_of,
            site=loop.site,
        )

    def _iteration(self, number: int, latest: int) -> IterationSpan:
        begin_row, begin_ns = self.begun.get(number, (-1, latest))
        end_row, end_ns = self.ended.get(number, (-1, latest))
        return IterationSpan(
            number, begin_row, end_row, begin_ns, end_ns, *self.deferred.get(number, (-1, 0))
        )
