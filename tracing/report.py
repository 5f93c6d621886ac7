"""What a run did, in short: plain data, JSON, or text.

Times of executions are their own: executions do not nest, so an op's time is the sum of what its executions took (those of a
loop body count once an iteration), dead ones taking none.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.observe import FrameChange, Override
from engine.passes.stage import Stage
from tracing.reader import Run

SLOWEST = 10
MOST_CHANGES = 5  # made by hand, that the text names


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What the executions of one node took, over all steps; `source` is the user's line that made it, ``file:line``."""

    name: str
    type: str
    source: str
    text: str
    executions: int
    total_ns: int

    @property
    def mean_ns(self) -> float:
        return self.total_ns / self.executions if self.executions else 0.0


@dataclass(frozen=True, slots=True)
class TypeCost:
    """What the executions of all nodes of one op type took, over all steps."""

    type: str
    nodes: int
    executions: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class ScalarSummary:
    """What was logged under one tag: how many numbers, and the last of them."""

    tag: str
    count: int
    step: int
    last: float


@dataclass(frozen=True, slots=True)
class StepError:
    """A step that raised."""

    step_id: int
    node: str | None
    error: str


@dataclass(frozen=True, slots=True)
class StepChange:
    """A change made by hand in a debugger, before execution `row` of a step."""

    step_id: int
    row: int
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    `duration_ns` is from the beginning of the recording to its end, or of the last step where the run has no end;
    `steps_ns` the sum of the steps' durations, `kernels_ns` that of all executions.  `overhead_ns` is the engine's time in
    steps that is neither: scheduling, feeding, fetching, being observed.  `recorder_ns` is what recording cost the program.
    `deferred` counts the iterations that `parallel_iterations` held back.  `skipped` executions were not recorded one by one,
    but are in all sums.  `executors` are what ran the steps, and how many.
    `by_hand` is what somebody changed in a debugger; `descending` executions come from that.
    """

    name: str
    path: str
    state: str
    error: str | None
    recorder_error: str | None
    level: str
    script: str | None
    created_unix_ns: int
    duration_ns: int
    steps: int
    unfinished: int
    sessions: int
    stages: int
    steps_ns: int
    kernels_ns: int
    executions: int
    dead: int
    skipped: int
    executors: dict[str, int]
    frames: int
    iterations: int
    deferred: int
    captured: int
    captured_bytes: int
    dropped: int
    dropped_bytes: int
    recorder_ns: int
    modelled: tuple[str, ...]
    slowest: tuple[NodeCost, ...]
    types: tuple[TypeCost, ...]
    scalars: tuple[ScalarSummary, ...]
    errors: tuple[StepError, ...]
    by_hand: tuple[StepChange, ...] = ()
    descending: int = 0

    @property
    def overhead_ns(self) -> int:
        return max(0, self.steps_ns - self.kernels_ns)


def report(run: Run, slowest: int = SLOWEST) -> Report:
    """The report of a run, finished or not, with the `slowest` nodes and op types.  Raises RunError if it is damaged."""
    steps = run.steps()
    costs = _Costs(run)
    for step in steps:
        costs.add(step.id, step.stage_id)
    counters = run.counters()
    last = max((step.started_ns + step.duration_ns for step in steps), default=run.created_ns)
    duration = last - run.created_ns
    if run.ended_unix_ns is not None:
        duration = run.ended_unix_ns - run.created_unix_ns
    nodes = costs.nodes()
    changed = run.changed_steps()
    return Report(
        name=run.name,
        path=str(run.path),
        state=run.state,
        error=run.error,
        recorder_error=run.recorder_error,
        level=run.level,
        script=run.script,
        created_unix_ns=run.created_unix_ns,
        duration_ns=max(0, duration),
        steps=len(steps),
        unfinished=len(run.unfinished()),
        sessions=len({step.session for step in steps}),
        stages=len(run.stages()),
        steps_ns=sum(step.duration_ns for step in steps),
        kernels_ns=sum(node.total_ns for node in nodes),
        executions=sum(step.executions for step in steps) + costs.skipped,
        dead=sum(step.dead for step in steps) + costs.skipped_dead,
        skipped=costs.skipped,
        executors=dict(Counter(step.executor for step in steps).most_common()),
        frames=sum(step.frames for step in steps),
        iterations=sum(step.iterations for step in steps),
        deferred=sum(_deferred(run, step.id) for step in steps if step.frames),
        captured=sum(step.captured for step in steps),
        captured_bytes=sum(step.captured_bytes for step in steps),
        dropped=sum(step.dropped for step in steps),
        dropped_bytes=sum(step.dropped_bytes for step in steps),
        recorder_ns=sum(counters.get(name, 0) for name in _costs(run)),
        modelled=_modelled(run),
        slowest=tuple(nodes[:slowest]),
        types=tuple(_by_type(nodes)[:slowest]),
        scalars=tuple(
            ScalarSummary(tag, len(values), int(numbers[-1]), float(values[-1]))
            for tag, (numbers, values) in run.scalars().items()
        ),
        errors=tuple(
            StepError(step.id, step.error_node, step.error) for step in steps if step.error is not None
        ),
        by_hand=tuple(
            StepChange(step_id, each.row, each.text) for step_id, made in changed.items() for each in made
        ),
        descending=_descending(run, changed),
    )


def _costs(run: Run) -> tuple[str, ...]:
    """The counters of what recording cost, none of them a part of another."""
    costs = ("observe_ns", "values_ns", "stages_ns", "write_ns", "logged_ns")
    return costs if run.schema_version < 4 else (*costs, "tensorboard_ns")  # which was a part of write_ns


def _descending(run: Run, changed: Mapping[int, Sequence[Override]]) -> int:
    """The executions that descend from a change that was not taken back."""
    made = {each.number for overrides in changed.values() for each in overrides}
    steps = run.steps() if made else ()
    return sum(int(np.isin(run.descents(step.id).override, list(made)).sum()) for step in steps)


def _deferred(run: Run, step_id: int) -> int:
    return sum(event.change is FrameChange.ITERATION_DEFERRED for event in run.frames(step_id))


class _Costs:
    """Sums over steps: a row of executions and nanoseconds for each node of each stage."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sums: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        self._sizes = {row.id: row.nodes for row in run.stages()}
        self.skipped = 0
        self.skipped_dead = 0

    def add(self, step_id: int, stage_id: int) -> None:
        executions = self._run.executions(step_id)
        totals = self._run.totals(step_id)
        size = max(self._sizes.get(stage_id, 0), int(executions.node.max(initial=-1)) + 1)
        count, total = np.zeros(size, np.int64), np.zeros(size, np.int64)
        if totals is not None:
            self.skipped += totals.skipped
            self.skipped_dead += int(totals.dead.sum() - np.count_nonzero(executions.dead))
            count[totals.node] = totals.executions - totals.dead
            total[totals.node] = totals.total_ns
        else:
            live = ~executions.dead
            node = executions.node[live]
            count += np.bincount(node, minlength=size)
            np.add.at(total, node, (executions.end_ns - executions.start_ns)[live])
        if stage_id in self._sums:
            before = self._sums[stage_id]
            count, total = count + before[0], total + before[1]
        self._sums[stage_id] = (count, total)

    def nodes(self) -> list[NodeCost]:
        """The nodes that were executed, the most expensive first; those of one name and type in several stages together."""
        found: dict[tuple[str, str, str, str], list[int]] = {}
        for stage_id, (count, total) in self._sums.items():
            stage = self._run.stage(stage_id)
            for number in np.flatnonzero(count).tolist():
                entry = found.setdefault(_described(stage, number), [0, 0])
                entry[0] += int(count[number])
                entry[1] += int(total[number])
        costs = [NodeCost(*key, executions=entry[0], total_ns=entry[1]) for key, entry in found.items()]
        return sorted(costs, key=lambda cost: (-cost.total_ns, cost.name))


def _described(stage: Stage, number: int) -> tuple[str, str, str, str]:
    if number >= len(stage.order):
        return f"node {number}", "?", "", ""
    node = stage.nodes[stage.order[number]]
    frame = node.site.user if node.site is not None else None
    if frame is None:
        return node.name, node.type, "", ""
    return node.name, node.type, f"{frame.file}:{frame.line}", frame.source


def _modelled(run: Run) -> tuple[str, ...]:
    """The devices that are models: executions on them took what modelling them takes."""
    states = (state for step in run.steps() for state in run.devices(step.id))
    return tuple(dict.fromkeys(state.name for state in states if state.modelled))


def _by_type(nodes: list[NodeCost]) -> list[TypeCost]:
    found: dict[str, list[int]] = {}
    for node in nodes:
        entry = found.setdefault(node.type, [0, 0, 0])
        entry[0] += 1
        entry[1] += node.executions
        entry[2] += node.total_ns
    costs = [TypeCost(name, *entry) for name, entry in found.items()]
    return sorted(costs, key=lambda cost: (-cost.total_ns, cost.type))


def report_json(made: Report) -> str:
    """The report as JSON, its fields as keys; numbers that JSON does not have (NaN, infinity) are null."""
    data = asdict(made)
    data["overhead_ns"] = made.overhead_ns
    for row, node in zip(data["slowest"], made.slowest):
        row["mean_ns"] = node.mean_ns
    for row in data["scalars"]:
        row["last"] = row["last"] if math.isfinite(row["last"]) else None
    return json.dumps(data, indent=2, allow_nan=False)


def report_text(made: Report) -> str:
    """The report as text for a terminal of 80 columns or more."""
    lines = [f"{made.name}: {_ended(made)}", f"  {made.path}"]
    if made.recorder_error:
        lines.append(f"  recording stopped early: {made.recorder_error}")
    lines.append(
        f"  {_count(made.steps, 'step')} in {_count(made.sessions, 'session')}, {duration(made.duration_ns)}; "
        f"in steps {duration(made.steps_ns)}, of which kernels {duration(made.kernels_ns)}"
    )
    if made.unfinished:
        lines.append(f"  {_count(made.unfinished, 'step')} did not finish")
    lines.append(
        f"  {_count(made.executions, 'execution')}, {made.dead:,} of them dead; "
        f"{_count(made.frames, 'frame')}, {_count(made.iterations, 'iteration')}"
        + (f", {made.deferred:,} held back" if made.deferred else "")
    )
    if made.skipped:
        lines.append(
            f"  {made.skipped:,} of these executions, in long loops, were not recorded one by one; counts and times are of all"
        )
    lines += [f"  run by {executor}: {_count(number, 'step')}" for executor, number in made.executors.items()]
    if made.captured or made.dropped:
        lines.append(
            f"  values: {made.captured:,} kept ({size(made.captured_bytes)}), "
            f"{made.dropped:,} dropped ({size(made.dropped_bytes)})"
        )
    share = f", {made.recorder_ns / made.duration_ns:.1%} of the run" if made.duration_ns else ""
    lines.append(f"  recording ({made.level}) cost {duration(made.recorder_ns)}{share}")
    if made.modelled:
        names = ", ".join(name.rpartition("device:")[2] for name in made.modelled)
        lines.append(f"  {names}: modelled; times there are what modelling took here, not a GPU's")
    if made.by_hand:
        steps = len({change.step_id for change in made.by_hand})
        lines.append(
            f"  changed by hand in {_count(steps, 'step')}; executions that descend from that: {made.descending:,}"
        )
        lines += [
            f"    step {each.step_id} #{each.row}: {each.text}" for each in made.by_hand[-MOST_CHANGES:]
        ]
    for error in made.errors[-3:]:
        lines.append(f"  step {error.step_id} raised {error.error.splitlines()[0]}")
    if made.scalars:
        lines += ["", "last of what was logged"]
        lines += [
            f"  {row.tag}: {row.last:.6g} (step {row.step}, {row.count:,} in all)" for row in made.scalars
        ]
    if made.slowest:
        lines += ["", "slowest nodes      total       mean    times"]
        for node in made.slowest:
            where = f"  {node.source}" if node.source else ""
            lines.append(
                f"  {duration(node.total_ns):>22}{duration(node.mean_ns):>11}{node.executions:>9,}"
                f"  {node.name} ({node.type}){where}"
            )
    if made.types:
        lines += ["", "by op type         total    nodes    times"]
        for kind in made.types:
            lines.append(f"  {duration(kind.total_ns):>22}{kind.nodes:>9,}{kind.executions:>9,}  {kind.type}")
    return "\n".join(lines) + "\n"


def _ended(made: Report) -> str:
    state = {"failed": "failed", "interrupted": "interrupted: its process is gone"}.get(
        made.state, made.state
    )
    return f"{state}: {made.error.splitlines()[0]}" if made.error else state


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def duration(ns: float) -> str:
    """Nanoseconds for people, three digits of them: ``812 ns``, ``3.42 µs``, ``15.1 ms``, ``3 min 20 s``."""
    if ns >= 99.95e9:
        minutes, seconds = divmod(round(ns / 1e9), 60)
        return f"{minutes} min {seconds:02d} s"
    return _scaled(ns, (("s", 1e9), ("ms", 1e6), ("µs", 1e3)), "ns")


def size(nbytes: int) -> str:
    """Bytes for people: ``812 B``, ``3.42 KiB``, ``15.1 MiB``."""
    return _scaled(nbytes, (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)), "B")


def _scaled(value: float, units: Sequence[tuple[str, float]], least: str) -> str:
    for unit, scale in units:
        number = value / scale
        if number >= 0.9995:
            return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"
    return f"{value:.0f} {least}"


def as_dict(made: Report) -> dict[str, Any]:
    """The report as plain data, as in `report_json`."""
    found: dict[str, Any] = json.loads(report_json(made))
    return found
