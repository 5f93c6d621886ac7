"""Simulate: what a placed stage's step would look like in time, and a measured step laid beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from engine.passes.stage import Stage
from engine.placement.costs import Costs
from engine.placement.flow import flow_of
from engine.placement.measured import Measured
from engine.placement.memory import peak_bytes
from engine.placement.timeline import Timeline
from engine.placement.unroll import unroll

if TYPE_CHECKING:
    from engine.device.device import Device


class Span(NamedTuple):
    """One predicted execution; `iteration` has the iteration of each loop around the node, outermost first."""

    node: str
    device: str
    start_ns: float
    end_ns: float
    iteration: tuple[int, ...] = ()


class PredictedTransfer(NamedTuple):
    """A tensor (``"w/read:0"``, or ``"^w"`` where only the news that `w` is done travels) on its way between devices."""

    tensor: str
    source: str
    destination: str
    start_ns: float
    end_ns: float
    nbytes: int
    iteration: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A step as it would be, times in nanoseconds from its beginning; spans and transfers are in the order of their starts."""

    spans: tuple[Span, ...]
    transfers: tuple[PredictedTransfer, ...]
    makespan_ns: float
    peak_bytes: Mapping[str, int]

    def busy_ns(self, device: str) -> float:
        """How long the executor of `device` works in all."""
        return sum(span.end_ns - span.start_ns for span in self.spans if span.device == device)


def simulate(
    stage: Stage, costs: Costs, devices: Sequence[Device], *, shared_links: bool = True
) -> Prediction:
    """Predict one step of `stage`, every node of which has a device out of `devices` (the host first).

    What the graph does not say, such as how often loops go round, is as ``costs.assumptions`` has it.  With `shared_links`
    tensors on the way from one device to another go one after the other; without, side by side.
    Raises ValueError for a node that has no device, or one that is not among `devices`, and for a graph with a cycle.
    """
    names = {device.name for device in devices}
    for node in stage:
        if node.device not in names:
            have = ", ".join(sorted(names))
            raise ValueError(
                f"node '{node.name}' is on '{node.device}', which is none of {have}: place the stage first"
            )
    flow = flow_of(stage)
    if flow.stuck:
        raise ValueError(f"the graph has a cycle that no NextIteration closes, through '{flow.stuck[0]}'")
    executions = unroll(stage, flow, costs.assumptions)
    place = {node.name: node.device for node in stage}
    return prediction_of(Timeline(executions, costs.on(stage), devices, place, shared=shared_links).run())


def prediction_of(timeline: Timeline) -> Prediction:
    """What a simulation has come to."""
    spans = [
        Span(each.node.name, timeline.place[each.node.name], start, end, each.tag)
        for each, start, end in zip(timeline.executions, timeline.start_ns, timeline.end_ns, strict=True)
    ]
    transfers = [
        PredictedTransfer(
            f"^{move.execution.node.name}" if move.slot < 0 else f"{move.execution.node.name}:{move.slot}",
            *move[2:],
            move.execution.tag,
        )
        for move in timeline.moves
    ]
    return Prediction(
        tuple(sorted(spans, key=lambda span: (span.start_ns, span.end_ns))),
        tuple(sorted(transfers, key=lambda move: (move.start_ns, move.end_ns))),
        timeline.makespan_ns,
        peak_bytes(timeline),
    )


class Compared(NamedTuple):
    """A predicted execution and the measured one: nanoseconds from the beginning of each step, None where there was none."""

    node: str
    device: str
    predicted_start_ns: float | None
    predicted_end_ns: float | None
    measured_start_ns: float | None
    measured_end_ns: float | None


def compare(prediction: Prediction, executions: Iterable[Measured]) -> list[Compared]:
    """Lay a measured step beside the prediction: the n-th live execution of a node beside its n-th predicted one.

    Rows come in the order of the predicted starts, then what was not predicted, by its measured start.  The device is the
    predicted one, or the measured one of a row that has no prediction.
    """
    live = sorted((each for each in executions if not each.dead), key=lambda each: each.start_ns)
    zero = live[0].start_ns if live else 0.0
    by_node: dict[str, list[Measured]] = {}
    for each in live:
        by_node.setdefault(each.node, []).append(each)
    rows: list[Compared] = []
    taken: dict[str, int] = {}
    for span in prediction.spans:
        number = taken.get(span.node, 0)
        taken[span.node] = number + 1
        found = by_node.get(span.node, ())
        measured: tuple[float | None, float | None] = (None, None)
        if number < len(found):
            measured = found[number].start_ns - zero, found[number].end_ns - zero
        rows.append(Compared(span.node, span.device, span.start_ns, span.end_ns, *measured))
    rest = [each for name, found in by_node.items() for each in found[taken.get(name, 0) :]]
    for each in sorted(rest, key=lambda each: each.start_ns):
        rows.append(Compared(each.node, each.device, None, None, each.start_ns - zero, each.end_ns - zero))
    return rows
