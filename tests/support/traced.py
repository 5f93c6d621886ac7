"""What observers are told of a step, in a form in which two executions of one program can be compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import observe
from engine.observe import FrameChange, TraceLevel

HANDED_ON = {"VariableV2", "RefSwitch", "RefMerge", "RefEnter", "RefExit", "RefNextIteration", "RefIdentity"}


class Told(observe.Observer):
    """Keeps all that it is told."""

    def __init__(self, level: TraceLevel) -> None:
        self.level = level
        self.steps: list[observe.StepInfo] = []
        self.batches: list[observe.Executions] = []
        self.events: list[observe.FrameEvent] = []
        self.writes: list[observe.ResourceWrite] = []
        self.looks: list[observe.Health] = []
        self.sums: list[observe.Totals] = []
        self.errors: list[BaseException | None] = []

    def step_begin(self, step: observe.StepInfo) -> None:
        self.steps.append(step)

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        self.batches.append(batch)

    def frames(self, step: observe.StepInfo, batch: tuple[observe.FrameEvent, ...]) -> None:
        self.events.extend(batch)

    def resource_writes(self, step: observe.StepInfo, batch: tuple[observe.ResourceWrite, ...]) -> None:
        self.writes.extend(batch)

    def health(self, step: observe.StepInfo, batch: observe.Health) -> None:
        self.looks.append(batch)

    def totals(self, step: observe.StepInfo, batch: observe.Totals) -> None:
        self.sums.append(batch)

    def step_end(self, step: observe.StepInfo, ended_ns: int, error: BaseException | None) -> None:
        self.errors.append(error)

    # One step's, independent of the order in which things happened and of the numbers of frames.

    def column(self, name: str) -> Any:
        """A column of all executions."""
        return np.concatenate([getattr(batch, name) for batch in self.batches])

    def tags(self) -> dict[int, Any]:
        """What tells a frame from all others, by its id: (that of the frame around, the iteration there, its name)."""
        found: dict[int, Any] = {0: ()}
        for event in self.events:
            if event.change is FrameChange.FRAME_BEGIN:
                assert event.frame not in found
                found[event.frame] = (found[event.parent], event.parent_iteration, event.name)
        return found

    def places(self) -> list[Any]:
        """(node, frame, iteration, dead) of each execution."""
        tags, names = self.tags(), self.steps[0].stage.order
        columns = (self.column(name).tolist() for name in ("node", "frame", "iteration", "dead"))
        return [
            (names[node], tags[frame], iteration, dead)
            for node, frame, iteration, dead in zip(*columns, strict=True)
        ]

    def changes(self) -> Counter[Any]:
        tags = self.tags()
        return Counter(
            (event.change, tags[event.frame], event.iteration, event.live)
            for event in self.events
            if event.change is not FrameChange.ITERATION_DEFERRED
        )

    def written(self) -> Counter[Any]:
        places = self.places()
        return Counter(
            (
                *places[write.row],
                write.container if not write.container.startswith("_step_") else "",
                re.sub(r"/\d+/(\d+)$", r"/\1", write.resource),
                write.kind,
                write.version,
                write.nbytes,
                write.summary,
                write.key,
            )
            for write in self.writes
        )

    def seen(self) -> Counter[Any]:
        """The health of each output, but of variables where they are only handed on or read.

        Those are looked at when the executor comes by, and nothing need order that and an assignment (where something does, the
        nodes behind it tell).
        """
        places = self.places()
        stage = self.steps[0].stage
        found: Counter[Any] = Counter()
        for batch in self.looks:
            columns = [
                getattr(batch, name).tolist()
                for name in ("row", "slot", "dtype", "minimum", "maximum", "mean", "nan", "inf", "nbytes")
            ]
            for shape, row, slot, *about in zip(batch.shapes, *columns, strict=True):
                node = stage.nodes[places[row][0]]
                if node.output_dtypes[slot]._is_ref_dtype and node.type in HANDED_ON:
                    continue
                if node.type == "Identity" and _reads_variable(stage, node):
                    continue
                found[(*places[row], slot, shape, *map(repr, about))] += 1
        return found


def _reads_variable(stage: Any, node: Any) -> bool:
    return any(stage.nodes[name].output_dtypes[slot]._is_ref_dtype for name, slot in node.inputs)


@contextmanager
def told(level: TraceLevel = TraceLevel.TIMES) -> Iterator[Told]:
    """What is told in the block."""
    observer = Told(level)
    observe.install(observer)
    try:
        yield observer
    finally:
        observe.uninstall(observer)


def check_order(told: Told) -> None:
    """Raise AssertionError unless rows, times and frames of one step fit together."""
    first = 0
    for batch in told.batches:
        assert batch.first == first
        first += len(batch)
    start, end = told.column("start_ns"), told.column("end_ns")
    assert (start <= end).all() and (np.diff(end) >= 0).all()
    assert (start >= told.steps[0].started_ns).all()
    assert not (end - start)[told.column("dead")].any()
    frames, iterations = told.column("frame"), told.column("iteration")
    rows: dict[tuple[int, int], list[int]] = {}
    nodes_of = told.column("node").tolist()
    nodes, names = told.steps[0].stage.nodes, told.steps[0].stage.order
    for row, place in enumerate(zip(frames.tolist(), iterations.tolist(), strict=True)):
        rows.setdefault(place, []).append(row)
    for event in told.events:
        if event.change is FrameChange.FRAME_END:
            continue
        mine = rows[event.frame, event.iteration]
        if event.change is FrameChange.ITERATION_BEGIN and event.iteration:
            assert event.row == mine[0] - 1
        elif event.change in (FrameChange.FRAME_BEGIN, FrameChange.ITERATION_BEGIN):
            assert (
                event.row < mine[0]
                and nodes[names[nodes_of[event.row]]].attrs.get("frame_name") == event.name
            )
        elif event.change is FrameChange.ITERATION_END:
            assert event.row >= mine[-1]
    for write in told.writes:
        assert (write.node, write.frame, write.iteration, write.at_ns) == (
            told.column("node")[write.row],
            frames[write.row],
            iterations[write.row],
            end[write.row],
        )
