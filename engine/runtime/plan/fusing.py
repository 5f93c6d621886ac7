"""What was fused in a stage, and why not more: read off its nodes and their lineage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.passes.fuse import ELEMENTWISE
from engine.passes.stage import Stage, StageNode
from engine.runtime.plan.words import parts_of
from engine.types import dtypes
from engine.types.site import Frame

_FUSED = "_Fused"


@dataclass(frozen=True, slots=True)
class Fused:
    """A node that does the work of several: the types of its parts, the nodes that they were, why, and the user's line."""

    node: str
    parts: tuple[str, ...]
    sources: tuple[str, ...]
    reason: str
    where: Frame | None


@dataclass(frozen=True, slots=True)
class Apart:
    """An elementwise node that is by itself, and the reason."""

    node: str
    type: str
    reason: str
    where: Frame | None


def fused(stage: Stage) -> tuple[Fused, ...]:
    """The nodes of `stage` that stand for several, in its order."""
    found = []
    for node in stage:
        if node.type.startswith(_FUSED):
            made, sources = _made(stage, node)
            found.append(Fused(node.name, parts_of(node), sources, made.lineage.reason, where(node)))
    return tuple(found)


def _made(stage: Stage, node: StageNode) -> tuple[StageNode, tuple[str, ...]]:
    """The node as the pass that fused it left it, and the nodes that it was made of: later passes have reasons of their own."""
    made = node
    at = stage
    while at.before is not None:
        before = at.before.nodes.get(node.name)
        if before is None or before.type != node.type:
            return made, at.sources(node.name)
        at, made = at.before, before
    return made, ()


def apart(stage: Stage) -> tuple[Apart, ...]:
    """The elementwise nodes of `stage` that are not part of another, in its order, each with the first reason that holds."""
    found = []
    for node in stage:
        if node.type in ELEMENTWISE:
            reason = next(text for rule in _RULES if (text := rule(stage, node)))
            found.append(Apart(node.name, node.type, reason, where(node)))
    return tuple(found)


def where(node: StageNode) -> Frame | None:
    """The line of the user's program that made the node, if it is known."""
    return node.site.user if node.site is not None else None


# Why a node stays by itself: the first that says something.

Rule = Callable[[Stage, StageNode], str]

_HOLDERS = {
    "_Retval": "it is fetched",
    "_Send": "it is sent to another device",
    "Switch": "a branch or loop begins behind it, at '{}'",
    "Merge": "a branch ends behind it, at '{}'",
    "Enter": "a loop begins behind it, at '{}'",
    "NextIteration": "the next iteration needs it, through '{}'",
    "Exit": "a loop ends behind it, at '{}'",
    "LoopCond": "it is a loop's condition",
}


def _readers(stage: Stage, node: StageNode) -> list[StageNode]:
    return [stage.nodes[name] for name in stage.consumers[node.name]]


def _control(stage: Stage, node: StageNode) -> str:
    held = node.control_inputs or any(node.name in each.control_inputs for each in _readers(stage, node))
    return "a control edge leads to it or from it" if held else ""


def _strings(stage: Stage, node: StageNode) -> str:
    return "it is about strings" if dtypes.string in (*node.input_dtypes, *node.output_dtypes) else ""


def _references(stage: Stage, node: StageNode) -> str:
    referred = any(dtype._is_ref_dtype for dtype in (*node.input_dtypes, *node.output_dtypes))
    return "it reads a variable where that stands" if referred else ""


def _not_elementwise(stage: Stage, node: StageNode) -> str:
    for each in _readers(stage, node):
        if each.type in _HOLDERS:
            return _HOLDERS[each.type].format(each.name)
        if each.type not in ELEMENTWISE and each.type != "_FusedElementwise":
            return f"'{each.name}' ({each.type}), which reads it, is not elementwise"
    return ""


def _several(stage: Stage, node: StageNode) -> str:
    count = len(_readers(stage, node))
    return "nothing reads it" if not count else f"{count} nodes read it" if count > 1 else ""


def _device(stage: Stage, node: StageNode) -> str:
    (reader,) = _readers(stage, node)
    return f"'{reader.name}', which reads it, is on another device" if reader.device != node.device else ""


def _dtype(stage: Stage, node: StageNode) -> str:
    (reader,) = _readers(stage, node)
    mixed = (dtypes.int32 in node.output_dtypes) != (dtypes.int32 in reader.output_dtypes)
    return (
        f"it is int32 where '{reader.name}', which reads it, is not, or the other way round" if mixed else ""
    )


def _shape(stage: Stage, node: StageNode) -> str:
    (reader,) = _readers(stage, node)
    mine, its = node.output_shapes[0], reader.output_shapes[0]
    if mine.dims_or_none == its.dims_or_none:
        return ""
    return f"its shape is {mine}, that of '{reader.name}', which reads it, {its}"


def _left(stage: Stage, node: StageNode) -> str:
    return "the passes left it as it is: they are switched off, or the device has a kernel of its own for it"


_RULES: tuple[Rule, ...] = (
    _strings,
    _references,
    _control,
    _not_elementwise,
    _several,
    _device,
    _dtype,
    _shape,
    _left,
)
