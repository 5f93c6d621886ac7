"""The bytes that a simulated step needs on each device, by the lives of its tensors.

A tensor lives where it was made from the beginning of its execution until the last that reads it there, or the last transfer of
it, has ended; a copy lives from the beginning of its transfer until its last reader has ended.  What hands on the array that it
got makes none.  Variables and constants are there from the beginning to the end, and what goes onto a stack, into a TensorArray
or to the caller stays until the end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from engine.placement.timeline import AT_HAND, Timeline
from engine.placement.unroll import Execution
from engine.placement.work import HANDS_ON, tensor_bytes

_KEEPS = frozenset(
    ("StackPushV2", "TensorArrayWriteV3", "TensorArrayScatterV3", "TensorArraySplitV3", "_Retval")
)
_TAKES = frozenset(("StackPopV2", "TensorArrayReadV3"))  # what they give has been counted since it was kept

Tensor = tuple[int, int]  # an execution's index and an output slot


@dataclass(slots=True)
class _Life:
    begin: float
    end: float
    nbytes: int


def peak_bytes(timeline: Timeline) -> dict[str, int]:
    """The most bytes alive at any time on each device."""
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for (_, device), life in _lives(timeline).items():
        changes[device] += [(life.begin, life.nbytes), (life.end, -life.nbytes)]
    peaks = dict.fromkeys(timeline.waiting, 0)
    for device, steps in changes.items():
        alive = 0
        # At one time, what ends comes first: a kernel's inputs end when it does, and its outputs begin when it does.
        for _, change in sorted(steps):
            alive += change
            peaks[device] = max(peaks[device], alive)
    return peaks


def _lives(timeline: Timeline) -> dict[tuple[Tensor, str], _Life]:
    """The life of each array on each device where it is, by the tensor as which it was made."""
    unknown, ever = timeline.costs.assumptions.unknown_dimension, timeline.makespan_ns
    root: dict[Tensor, Tensor] = {}
    lives: dict[tuple[Tensor, str], _Life] = {}
    for execution in timeline.executions:
        index, node = execution.index, execution.node
        for slot, dtype in enumerate(node.output_dtypes):
            handed = _handed_on(execution, slot)
            root[index, slot] = (index, slot) if handed is None else root[handed]
            makes = not dtype._is_ref_dtype or node.type in AT_HAND
            if handed is None and makes and node.type not in _TAKES:
                end = ever if node.type in AT_HAND else timeline.end_ns[index]
                life = _Life(timeline.start_ns[index], end, tensor_bytes(node, slot, unknown))
                lives[(index, slot), timeline.place[node.name]] = life
    for move in timeline.moves:
        if move.slot >= 0:
            tensor = root[move.execution.index, move.slot]
            kept = lives.get((tensor, move.source))
            if kept is not None:
                kept.end = max(kept.end, move.end_ns)
            lives.setdefault((tensor, move.destination), _Life(move.start_ns, move.end_ns, move.nbytes))
    for execution in timeline.executions:
        device = timeline.place[execution.node.name]
        end = ever if execution.node.type in _KEEPS else timeline.end_ns[execution.index]
        for source, slot, _ in execution.inputs:
            read = lives.get((root[source.index, slot], device))
            if read is not None:
                read.end = max(read.end, end)
    return lives


def _handed_on(execution: Execution, slot: int) -> Tensor | None:
    """The input that output `slot` is, where the node hands on what it got."""
    node = execution.node
    if node.type not in HANDS_ON or (node.opdef.flow == "merge" and slot):
        return None
    source, output, _ = execution.inputs[1 if node.type == "StackPushV2" else 0]
    return source.index, output
