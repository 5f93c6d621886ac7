"""``workbench place --simulate``: what a step would take in several placements, on devices that need not be there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import numpy as np

from engine.device.device import Device, make_devices
from engine.passes.stage import Stage, StageNode
from engine.placement.assumptions import Assumptions
from engine.placement.costs import Costs, MeasuredCosts, StaticCosts
from engine.placement.measured import Measured, measured_ns, observed
from engine.placement.place import STRATEGIES
from engine.runtime.config import ConfigProto, GPUOptions
from engine.types import errors
from engine.types.dtypes import as_dtype
from tracing.reader import Run
from tracing.stages import TensorSummary
from viz import draw_placements as draw
from viz import format as fmt
from viz.cells import Drawing, Page
from viz.palette import DARK
from viz.placement_model import Lanes, PlacementRow, decisions, lanes_of, measured_lanes, placements
from viz.stage_model import unknown
from workbench.asked import NoAnswer, stages_of
from workbench.asking import Question
from workbench.runs import locate
from workbench.stages import show, width

_DEVICE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?::(\d+))?(?:\(modelled\))?")
STEPS = 20  # of a run, that costs are taken from


def counts_of(text: str) -> dict[str, int]:
    """``CPU:2,GPU:1(modelled)`` as how many there are of each kind.  Raises NoAnswer for anything else."""
    found: dict[str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _DEVICE.fullmatch(part)
        if match is None:
            raise NoAnswer(
                f"--devices {text}: '{part}' is no kind of device and number; it is like CPU:2,GPU:1"
            )
        kind = match.group(1).upper()
        found[kind] = found.get(kind, 0) + int(match.group(2) or 1)
    if not found:
        raise NoAnswer("--devices names no device; it is like CPU:2,GPU:1")
    return found


def devices_for(counts: Mapping[str, int]) -> tuple[Device, ...]:
    """These devices; GPUs are modelled, since nothing is run on them.  Raises NoAnswer for a kind that there is not."""
    try:
        return make_devices(ConfigProto(device_count=dict(counts), gpu_options=GPUOptions(modelled=True)))
    except (errors.OpError, ValueError) as error:
        raise NoAnswer(f"--devices: {error}") from None


def strategies(text: str) -> list[str]:
    """``simple,greedy`` as a list.  Raises UnknownName for another word."""
    names = list(dict.fromkeys(filter(None, (each.strip() for each in text.split(",")))))
    for name in names:
        if name not in STRATEGIES:
            raise unknown("placement", name, STRATEGIES)
    return names or list(STRATEGIES)


@dataclass(frozen=True)
class Recorded:
    """What a recorded run says of costs: `executions` of several steps, and of one step, `one`, to lay beside a prediction."""

    title: str
    executions: tuple[Measured, ...]
    one: tuple[Measured, ...]


def recorded(path: Path, stage: Stage) -> Recorded:
    """The last steps of the run at `path` that have most in common with `stage`.  Raises NoAnswer if none has anything."""
    with Run.open(path) as run:
        steps = run.steps()
        shared: dict[int, int] = {}
        for step in steps:
            if step.stage_id not in shared:
                shared[step.stage_id] = _alike(run.stage(step.stage_id), stage)
        best = max(shared, key=lambda stage_id: (shared[stage_id], stage_id), default=None)
        if best is None or not shared[best]:
            raise NoAnswer(f"no step of run {run.name} has a node of this graph: its times say nothing of it")
        chosen = [step for step in steps if step.stage_id == best and step.error is None][-STEPS:]
        if not chosen:
            raise NoAnswer(f"every step of run {run.name} that is like this graph failed")
        nodes = tuple(run.stage(best))
        found = [
            [
                Measured(
                    nodes[n].name,
                    nodes[n].device or devices_for({"CPU": 1})[0].name,
                    float(start),
                    float(end),
                    bool(dead),
                )
                for n, start, end, dead in zip(
                    rows.node.tolist(), rows.start_ns.tolist(), rows.end_ns.tolist(), rows.dead.tolist()
                )
            ]
            for rows in (run.executions(step.id) for step in chosen)
        ]
        middle = sorted(range(len(chosen)), key=lambda i: chosen[i].duration_ns)[len(chosen) // 2]
        title = f"run {run.name}, {fmt.plural(len(chosen), 'step')}; beside it step {chosen[middle].step}"
        return Recorded(title, tuple(each for step in found for each in step), tuple(found[middle]))


def _alike(ran: Stage, stage: Stage) -> int:
    """How many nodes two stages have in common; one that fetches the same has more than any other."""
    same = set(ran.fetches) == set(stage.fetches) and set(ran.targets) == set(stage.targets)
    return sum(name in ran.nodes for name in stage.nodes) + (len(stage) if same else 0)


def unplaced(stage: Stage) -> Stage:
    """The last stage of the chain in which nodes have not been placed, large constants filled with zeros.

    Of those a recording has only the shape, and what they hold changes nothing about times.
    """
    found = next(
        (each.before for each in stage.chain() if each.name == "placed" and each.before is not None), stage
    )
    nodes = {name: _filled(node) for name, node in found.nodes.items()}
    return Stage(
        found.name,
        MappingProxyType(nodes),
        feeds=found.feeds,
        fetches=found.fetches,
        targets=found.targets,
        before=found.before,
        removed=found.removed,
        graph_version=found.graph_version,
        id=found.id,
    )


def _filled(node: StageNode) -> StageNode:
    value = node.attrs.get("value")
    if not isinstance(value, TensorSummary):
        return node
    kind = np.dtype(object) if value.dtype == "string" else np.dtype(as_dtype(value.dtype).as_numpy_dtype)
    zeros = np.zeros(value.shape, kind)
    zeros.setflags(write=False)
    return replace(node, attrs=MappingProxyType({**node.attrs, "value": zeros}))


def place_and_simulate(
    target: str,
    args: Sequence[str],
    question: Question,
    *,
    logdir: str | os.PathLike[str],
    devices: str | None,
    placement: str,
    costs: str | None,
    soft: bool,
    every: bool,
    as_json: bool,
) -> None:
    """Print the predictions.  Raises NoAnswer, UnknownName and RunError."""
    names = strategies(placement)
    counts = counts_of(devices) if devices is not None else None
    with ExitStack() as stack:
        asked = stack.enter_context(stages_of(target, args, question, logdir))
        stage = unplaced(asked.stage)
        if counts is None:
            counts = _own_devices(asked.answer.device_count if asked.answer is not None else {}, asked.stage)
        made = devices_for(counts)
        measured = recorded(locate(costs, logdir), stage) if costs is not None else None
        model, said = _costs(made, stage, measured)
        soft = soft or (asked.answer is not None and asked.answer.allow_soft_placement)
        try:
            rows = placements(
                stage,
                made,
                names,
                model,
                allow_soft_placement=soft,
                measured=measured.one if measured else (),
            )
        except (errors.OpError, ValueError) as error:
            raise NoAnswer(str(error)) from None
        steps = [lanes_of(row, made) for row in rows]
        if measured is not None:
            steps.append(
                measured_lanes("measured", measured.one, {device.name: device.modelled for device in made})
            )
        if as_json:
            click.echo(
                json.dumps(_as_json(asked.title, asked.how, stage, made, said, rows, measured), indent=2)
            )
            return
        page = Page(width())
        page.add((asked.title, DARK.strong), (f"  {asked.how}", DARK.quiet))
        page.add(
            ("graph    ", DARK.dim),
            (
                f"{fmt.plural(len(stage), 'node')}, fetches {', '.join((*stage.fetches, *stage.targets))}",
                DARK.plain,
            ),
        )
        page.add(("costs    ", DARK.dim), (said, DARK.plain))
        drawings: list[Drawing] = [page.drawing(), draw.draw_devices(made, DARK, width())]
        gap = Page(width())
        gap.lines.append([])
        drawings += [gap.drawing(), draw.draw_summary(rows, made, DARK, width()), gap.drawing()]
        drawings.append(
            draw.draw_lanes(
                [_titled(step, measured is None or step.title != "measured") for step in steps], DARK, width()
            )
        )
        for row in rows:
            drawings += [gap.drawing(), draw.draw_decisions(row, DARK, width(), None if every else 8)]
            if row.compared:
                drawings += [gap.drawing(), draw.draw_compared(row, DARK, width())]
    for drawing in drawings:
        show(drawing)


def _titled(step: Lanes, predicted: bool) -> Lanes:
    return Lanes(f"{step.title}, predicted", step.lanes, step.length_ns) if predicted else step


def _own_devices(counts: Mapping[str, int], stage: Stage) -> dict[str, int]:
    """The session's own devices, or, of a run, those that its nodes are on; two CPUs where there is only one."""
    found = {kind: number for kind, number in counts.items() if number}
    for name in stage.devices:
        kind, _, index = fmt.device(name).rpartition(" ")[2].partition(":")
        if index.isdigit():
            found[kind] = max(found.get(kind, 0), int(index) + 1)
    return found if sum(found.values()) > 1 else {"CPU": 2}


def _costs(devices: Sequence[Device], stage: Stage, measured: Recorded | None) -> tuple[Costs, str]:
    if measured is None:
        return StaticCosts(devices), "static: shapes, and the speeds that the devices state"
    assumptions = observed(stage, measured.one, Assumptions())
    return (
        MeasuredCosts(measured_ns(measured.executions), StaticCosts(devices, assumptions)),
        f"measured: {measured.title}",
    )


def _as_json(
    title: str,
    how: str,
    stage: Stage,
    devices: Sequence[Device],
    costs: str,
    rows: Sequence[PlacementRow],
    measured: Recorded | None,
) -> dict[str, Any]:
    return {
        "of": title,
        "chosen": how,
        "nodes": len(stage),
        "fetches": list(stage.fetches),
        "targets": list(stage.targets),
        "costs": costs,
        "devices": [
            {
                "name": device.name,
                "description": device.description,
                "modelled": device.modelled,
                "memory_limit": device.memory_limit,
            }
            for device in devices
        ],
        "placements": [
            {
                "placement": row.name,
                "makespan_ns": row.prediction.makespan_ns,
                "moved_bytes": row.moved_bytes,
                "peak_bytes": dict(row.prediction.peak_bytes),
                "busy_ns": {device.name: row.prediction.busy_ns(device.name) for device in devices},
                "spans": [span._asdict() for span in row.prediction.spans],
                "transfers": [move._asdict() for move in row.prediction.transfers],
                "decisions": [
                    {
                        "node": each.node,
                        "type": each.type,
                        "device": each.device,
                        "possible": list(each.possible),
                        "finish_ns": dict(each.finish_ns),
                        "reason": each.reason,
                    }
                    for each in decisions(row)
                ],
                "compared": [each._asdict() for each in row.compared],
            }
            for row in rows
        ],
        "measured": [each._asdict() for each in measured.one] if measured is not None else None,
    }
