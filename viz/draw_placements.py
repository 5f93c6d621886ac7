"""Predicted (and measured) steps as lanes of text, one below the other on one scale of time, and tables beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from viz import format as fmt
from viz.cells import Drawing, Line, Page, wrap
from viz.palette import Palette
from viz.placement_model import DecisionRow, Lanes, PlacementRow, decisions, fill
from viz.timeline_model import ticks

if TYPE_CHECKING:
    from engine.device.device import Device

_LABEL = 15
_LEVELS = " ▁▂▃▄▅▆▇█"


def draw_devices(devices: Sequence[Device], palette: Palette, width: int) -> Drawing:
    """The devices, and which of them are models."""
    page = Page(width)
    for i, device in enumerate(devices):
        label = "devices" if i == 0 else ""
        said = (
            device.description.partition(";")[0]
            if not device.modelled or "modelled" in device.description
            else f"modelled {device.description}"
        )
        page.add(
            (f"{label:<9}", palette.dim),
            (f"{fmt.device(device.name):<7}", palette.style(palette.hue(i))),
            (f"{said}; {fmt.nbytes(device.memory_limit)}", palette.quiet),
        )
    return page.drawing()


def draw_summary(
    rows: Sequence[PlacementRow], devices: Sequence[Device], palette: Palette, width: int
) -> Drawing:
    """A row a placement: predicted length, transfers, bytes, peaks."""
    page = Page(width)
    page.add(
        (f"{'placement':<12}{'a step':>9}  {'transfers':>9}  {'moved':>9}   peak memory", palette.dim),
    )
    best = min((row.prediction.makespan_ns for row in rows), default=0.0)
    for row in rows:
        predicted = row.prediction
        peaks = [
            f"{fmt.device(each.name)} {fmt.nbytes(predicted.peak_bytes.get(each.name, 0))}"
            for each in devices
        ]
        style = palette.style(palette.good, bold=True) if predicted.makespan_ns == best else palette.plain
        page.add(
            (f"{row.name:<12}", palette.strong),
            (f"{fmt.duration(predicted.makespan_ns):>9}", style),
            (
                f"  {len(row.transfers):>9,}  {fmt.nbytes(row.moved_bytes):>9}   {'  '.join(peaks[:2])}",
                palette.plain,
            ),
        )
        for i in range(2, len(peaks), 2):
            page.add((" " * 46 + "  ".join(peaks[i : i + 2]), palette.plain))
    return page.drawing()


def draw_lanes(steps: Sequence[Lanes], palette: Palette, width: int) -> Drawing:
    """Steps one below the other, on one scale of time."""
    page = Page(width)
    length = max((step.length_ns for step in steps), default=0.0)
    cells = max(20, width - _LABEL - 8)
    for step in steps:
        page.blank()
        page.add((step.title, palette.strong), (f"  {fmt.duration(step.length_ns)}", palette.quiet))
        for i, lane in enumerate(step.lanes):
            share = lane.busy_ns / step.length_ns if step.length_ns else 0.0
            colour = palette.style(palette.muted if lane.is_link else palette.hue(i))
            row = "".join(
                _LEVELS[max(1, round(part * 8)) if part > 0 else 0] for part in fill(lane, length, cells)
            )
            line: Line = [
                (fmt.pad(f" {lane.label}{'*' if lane.modelled else ''}", _LABEL), palette.quiet),
                (row, colour),
                (f" {fmt.percent(share):>6}", palette.dim),
            ]
            page.add(*line)
        if not step.lanes:
            page.add((" nothing runs", palette.dim))
    page.add((" " * _LABEL + _axis(length, cells), palette.dim))
    if any(lane.modelled for step in steps for lane in step.lanes):
        page.add(("  * modelled: a model's times, not a device's", palette.style(palette.warning)))
    return page.drawing()


def _axis(length_ns: float, cells: int) -> str:
    row = [" "] * cells
    if length_ns > 0:
        marks, step = ticks(0.0, length_ns, max(2, cells // 16))
        for at in marks:
            x = int(at / length_ns * cells)
            label = "╷" + fmt.axis_time(at, step)
            if x + len(label) <= cells:
                row[x : x + len(label)] = list(label)
    return "".join(row)


def draw_decisions(row: PlacementRow, palette: Palette, width: int, most: int | None = 10) -> Drawing:
    """Why each node is where it is: the longest-running first."""
    page = Page(width)
    found = decisions(row)
    shown = found if most is None else found[:most]
    page.blank()
    page.add(
        (f"{row.name}: where and why", palette.strong),
        ("   the costliest first" if most else "", palette.dim),
    )
    for each in shown:
        page.add(
            (f"  {fmt.device(each.device):<6} ", palette.style(palette.accent)),
            (fmt.pad(fmt.shorten_name(each.node, width - 34), width - 34), palette.plain),
            (f"{fmt.duration(each.cost_ns):>9}", palette.plain),
            (f"  {fmt.shorten(each.type, 13)}", palette.quiet),
        )
        if len(each.finish_ns) > 1:
            page.add((f"         would end: {_finishes(each)}", palette.quiet))
        for line in wrap(each.reason, width - 9):
            page.add(("         " + line, palette.dim))
    if len(shown) < len(found):
        page.add((f"  and {len(found) - len(shown):,} more nodes (--all)", palette.dim))
    return page.drawing()


def _finishes(row: DecisionRow) -> str:
    return ", ".join(f"{fmt.device(device)} {fmt.duration(ns)}" for device, ns in row.finish_ns.items())


def draw_compared(row: PlacementRow, palette: Palette, width: int, most: int = 10) -> Drawing:
    """The nodes whose measured times differ most from the predicted ones."""
    page = Page(width)
    both = [
        (
            each.node,
            each.predicted_end_ns - each.predicted_start_ns,
            each.measured_end_ns - each.measured_start_ns,
        )
        for each in row.compared
        if each.predicted_start_ns is not None
        and each.predicted_end_ns is not None
        and each.measured_start_ns is not None
        and each.measured_end_ns is not None
    ]
    page.blank()
    only = sum(1 for each in row.compared if each.predicted_start_ns is None)
    never = sum(1 for each in row.compared if each.measured_start_ns is None)
    page.add((f"{row.name}: predicted beside measured", palette.strong))
    page.add(
        (f"  {len(both):,} executions in both, {never:,} only predicted, {only:,} only measured", palette.dim)
    )
    page.add((f"  {'predicted':>10} {'measured':>10}  node", palette.dim))
    for name, predicted, measured in sorted(both, key=lambda each: -abs(each[1] - each[2]))[:most]:
        page.add(
            (f"  {fmt.duration(predicted):>10} {fmt.duration(measured):>10}  ", palette.plain),
            (fmt.shorten_name(name, width - 26), palette.plain),
        )
    return page.drawing()
