"""What an earlier run says: times of nodes for `MeasuredCosts`, and how its loops and conditionals went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from engine.passes.stage import Stage, StageNode
from engine.placement.assumptions import Assumptions
from engine.placement.flow import flow_of
from engine.placement.specs import spec_of


class Measured(NamedTuple):
    """One execution of an earlier step, times by any clock."""

    node: str
    device: str
    start_ns: float
    end_ns: float
    dead: bool = False


def measured_ns(executions: Iterable[Measured]) -> dict[tuple[str, str], float]:
    """(node, device type) → nanoseconds: the median of its live executions, which one slow first time does not move."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in executions:
        if not each.dead:
            times[each.node, spec_of(each.device).device_type or ""].append(each.end_ns - each.start_ns)
    return {key: sorted(found)[len(found) // 2] for key, found in times.items()}


def observed(stage: Stage, executions: Iterable[Measured], assumptions: Assumptions) -> Assumptions:
    """`assumptions`, with the loops and conditionals of `stage` as they went in a run that had these executions.

    A loop's count is the mean over the times that it was entered; a conditional that went both ways, as one in a loop may, goes
    as it did more often.
    """
    live = Counter(each.node for each in executions if not each.dead)
    flow = flow_of(stage)
    loops: dict[str, int] = {}
    taken: dict[str, bool] = {}
    for node in stage:
        if node.opdef.flow == "loop_cond" and flow.frames[node.name] and live[node.name]:
            frame = flow.frames[node.name][-1]
            # A loop's condition is looked at once more than its body runs, each time that the loop is entered.
            rounds = max(
                (
                    live[each.name]
                    for each in stage
                    if each.opdef.flow == "next_iteration" and flow.frames[each.name][-1:] == (frame,)
                ),
                default=0,
            )
            entered = live[node.name] - rounds
            if entered > 0:
                loops[frame] = round(rounds / entered)
        elif node.opdef.flow == "switch" and stage.nodes[node.inputs[1][0]].opdef.flow != "loop_cond":
            ways = [_live_readers(stage, node, output, live) for output in (0, 1)]
            if ways[0] != ways[1]:
                name, slot = node.inputs[1]
                taken.setdefault(f"{name}:{slot}", ways[1] > ways[0])
    return replace(assumptions, loops={**assumptions.loops, **loops}, taken={**assumptions.taken, **taken})


def _live_readers(stage: Stage, switch: StageNode, output: int, live: Counter[str]) -> int:
    """How often what reads one output of a Switch, and nothing else of its Switch or of a Merge, has run."""
    readers = [stage.nodes[name] for name in stage.consumers[switch.name]]
    return sum(
        live[reader.name]
        for reader in readers
        if reader.opdef.flow != "merge" and (switch.name, output) in reader.inputs
    )
