"""Several placements of one graph beside each other: what a step would take, move and hold, and why each node is where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.passes.pipeline import optimize
from engine.passes.settings import Settings
from engine.passes.stage import Stage
from engine.placement.costs import Costs
from engine.placement.measured import Measured
from engine.placement.place import PlacementOptions, place
from engine.placement.simulate import Compared, PredictedTransfer, Prediction, compare, simulate
from viz import format as fmt

if TYPE_CHECKING:
    from engine.device.device import Device


@dataclass(frozen=True, slots=True)
class Bar:
    """A node or a transfer on a lane, nanoseconds from the step's beginning."""

    label: str
    start_ns: float
    end_ns: float


@dataclass(frozen=True)
class Lane:
    """A device (``CPU:0``), or a way between two (``CPU:0→GPU:0``); `modelled` where times are a model's."""

    label: str
    bars: tuple[Bar, ...]
    modelled: bool = False
    is_link: bool = False

    @property
    def busy_ns(self) -> float:
        return sum(bar.end_ns - bar.start_ns for bar in self.bars)


@dataclass(frozen=True)
class Lanes:
    """A step in time: devices first, then the ways between them."""

    title: str
    lanes: tuple[Lane, ...]
    length_ns: float


@dataclass(frozen=True)
class PlacementRow:
    """One placement: its stage, the predicted step, and the measured one laid beside it."""

    name: str
    stage: Stage
    prediction: Prediction
    compared: tuple[Compared, ...] = ()

    @property
    def transfers(self) -> tuple[PredictedTransfer, ...]:
        """What goes from one memory to another; tensors that are on the host for both their devices do not."""
        return tuple(move for move in self.prediction.transfers if move.source != move.destination)

    @property
    def moved_bytes(self) -> int:
        return sum(move.nbytes for move in self.transfers)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A node of a placed stage; `finish_ns` are predicted, by device; `cost_ns` is what it takes where it is."""

    node: str
    type: str
    device: str
    finish_ns: Mapping[str, float]
    possible: tuple[str, ...]
    reason: str
    cost_ns: float


def placements(
    stage: Stage,
    devices: Sequence[Device],
    names: Sequence[str],
    costs: Costs,
    *,
    allow_soft_placement: bool = False,
    measured: Iterable[Measured] = (),
) -> list[PlacementRow]:
    """Place the (not yet placed) `stage` in each of these ways, run the passes that come after placement, and predict its step.

    Raises ValueError for a placement that there is not, and InvalidArgumentError for what the program asks for and cannot have.
    """
    rows: list[PlacementRow] = []
    known = list(measured)
    for name in names:
        placed = place(stage, devices, PlacementOptions(allow_soft_placement, False, name), costs)
        placed = optimize(placed, Settings(), placed=True, devices=devices)
        prediction = simulate(placed, costs, devices)
        rows.append(
            PlacementRow(name, placed, prediction, tuple(compare(prediction, known)) if known else ())
        )
    return rows


def lanes_of(row: PlacementRow, devices: Sequence[Device]) -> Lanes:
    """The predicted step as lanes."""
    modelled = {device.name: device.modelled for device in devices}
    found: list[Lane] = []
    for device in devices:
        bars = [
            Bar(span.node, span.start_ns, span.end_ns)
            for span in row.prediction.spans
            if span.device == device.name
        ]
        found.append(Lane(fmt.device(device.name), tuple(bars), device.modelled))
    ways: dict[tuple[str, str], list[Bar]] = {}
    for move in row.transfers:
        bar = Bar(f"{move.tensor} {fmt.nbytes(move.nbytes)}", move.start_ns, move.end_ns)
        ways.setdefault((move.source, move.destination), []).append(bar)
    for (source, destination), moves in ways.items():
        label = f"{fmt.device(source)}→{fmt.device(destination)}"
        is_modelled = modelled.get(source, False) or modelled.get(destination, False)
        found.append(Lane(label, tuple(moves), is_modelled, True))
    return Lanes(row.name, tuple(found), row.prediction.makespan_ns)


def measured_lanes(title: str, executions: Iterable[Measured], modelled: Mapping[str, bool]) -> Lanes:
    """A step that was measured as lanes."""
    live = sorted((each for each in executions if not each.dead), key=lambda each: each.start_ns)
    zero = live[0].start_ns if live else 0.0
    by_device: dict[str, list[Bar]] = {}
    for each in live:
        by_device.setdefault(each.device, []).append(Bar(each.node, each.start_ns - zero, each.end_ns - zero))
    lanes = [
        Lane(fmt.device(device), tuple(bars), modelled.get(device, False))
        for device, bars in sorted(by_device.items())
    ]
    return Lanes(title, tuple(lanes), max((each.end_ns - zero for each in live), default=0.0))


def decisions(row: PlacementRow) -> list[DecisionRow]:
    """Every node of a placement, the longest-running first."""
    spent: dict[str, float] = {}
    for span in row.prediction.spans:
        spent[span.node] = spent.get(span.node, 0.0) + span.end_ns - span.start_ns
    found = []
    for node in row.stage:
        if node.decision is not None:
            found.append(
                DecisionRow(
                    node.name,
                    node.type,
                    node.device,
                    node.decision.finish_ns,
                    node.decision.possible,
                    node.decision.reason,
                    spent.get(node.name, 0.0),
                )
            )
    return sorted(found, key=lambda each: -each.cost_ns)


def fill(lane: Lane, length_ns: float, cells: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each of `cells` stretches of a time `length_ns` long, the share of it in which the lane was busy."""
    busy = np.zeros(cells)
    size = length_ns / cells if length_ns > 0 else 1.0
    for bar in lane.bars:
        first, last = bar.start_ns / size, bar.end_ns / size
        low, high = max(0, int(first)), min(cells - 1, int(last))
        for x in range(low, high + 1):
            busy[x] += max(0.0, min(last, x + 1) - max(first, x))
    return np.minimum(busy, 1.0)
