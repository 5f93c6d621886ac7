"""Loops whose iterations go one by one (``parallel_iterations=1``) do so over all devices together.

On one device an iteration of such a loop is over before the next begins, and programs rely on that: gradients order the pops of
a stack by nothing else.  Each device has frames of its own, though, and only waits for its own iterations.  So what leads to the
loop's condition goes on to the next iteration only when what has effects on other devices has run.  (TensorFlow leaves such
programs to chance.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.partition.control_loops import Path
from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode

_WHY = "the iterations of '{}' go one by one, on all devices together"


def order_iterations(draft: Draft, frames: dict[str, Path]) -> None:
    """Add a ControlTrigger to each such loop, for which its NextIteration waits and which waits for effects elsewhere."""
    nodes = draft.nodes
    allowed = {
        (*path, nodes[name].attrs["frame_name"]): int(nodes[name].attrs["parallel_iterations"])
        for name, path in frames.items()
        if nodes[name].opdef.flow == "enter"
    }
    inside: dict[Path, list[StageNode]] = {}
    for name, path in frames.items():
        inside.setdefault(path, []).append(nodes[name])
    for path in allowed:
        if all(allowed.get(path[:depth], 2) > 1 for depth in range(1, len(path) + 1)):
            continue
        around = _way_round(draft, inside.get(path, ()), frames)
        if around is None:
            continue
        ends = [
            node.name
            for child in allowed
            if child[:-1] == path
            for node in inside.get(child, ())
            if node.opdef.flow == "exit" and node.device != around.device
        ]
        effects = [
            node.name
            for node in inside[path]
            if node.device != around.device and not node.opdef.flow and _has_effects(node)
        ]
        if effects or ends:
            why = _WHY.format(path[-1])
            name = draft.add(
                "ControlTrigger", [], {}, like=around, name=f"{around.name}/one_by_one", sources=[around.name],
                reason=why, control_inputs=effects + ends,
            )  # fmt: skip
            frames[name] = path
            draft.replace(around.name, control_inputs=[*around.control_inputs, name], reason=why)


def _has_effects(node: StageNode) -> bool:
    return node.opdef.stateful or any(dtype._is_ref_dtype for dtype in node.input_dtypes)


def _way_round(draft: Draft, nodes: Sequence[StageNode], frames: Mapping[str, Path]) -> StageNode | None:
    """A NextIteration that the loop's condition depends on, if it depends on any."""
    pending = [node.name for node in nodes if node.opdef.flow == "loop_cond"]
    seen = set(pending)
    while pending:
        node = draft.nodes[pending.pop()]
        if node.opdef.flow == "next_iteration":
            return node
        for source, _ in node.inputs:
            if source not in seen and frames[source] == frames[node.name]:
                seen.add(source)
                pending.append(source)
    return None
