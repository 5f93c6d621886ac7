"""Loop invariants: what a loop computes anew in every iteration from what does not change is computed once, outside.

As Grappler's `loop_optimization`.  A node that reads only constant Enters of its loop, or a constant of the loop's body, moves
to the frame outside, and a constant Enter brings its value in; its readers must be alive only when it was, since an Enter's
token comes in every iteration.  The body may never run, so only ops move that cannot fail for the shapes that are known.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.passes.facts import Facts, Frame
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode

# Beside all ops that are one NumPy ufunc.  Integer division fails for a divisor of zero.
_TOTAL = frozenset({
    "AddN", "Relu", "Relu6", "Sigmoid", "Softplus", "Square", "Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Identity",
    "MatMul", "Sum", "Mean", "Max", "Min", "ConcatV2", "Pack", "ZerosLike", "OnesLike", "Shape", "Size", "Rank", "Softmax",
})  # fmt: skip
_MAY_FAIL = frozenset(
    {"FloorDiv", "TruncateDiv", "FloorMod", "TruncateMod", "Div", "Mod", "Pow", "LeftShift", "RightShift"}
)


def run(draft: Draft, facts: Facts) -> None:
    if not any(node.opdef.flow == "enter" for node in draft.nodes.values()):
        return
    doors = _doors(draft, facts)
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.type not in ("Const", "Enter") and not _only_invariants(draft, node):
            continue
        frame = facts.frame(name)
        if frame not in doors or draft.is_kept(name) or not facts.pure(name):
            continue
        if node.type == "Const" or _cannot_fail(draft, facts, node):
            _hoist(draft, facts, node, doors[frame])


def _doors(draft: Draft, facts: Facts) -> dict[Frame, StageNode]:
    """For each frame, an Enter that leads into it with a loop's variable."""
    found: dict[Frame, StageNode] = {}
    for node in draft.nodes.values():
        if node.type == "Enter" and not node.attrs["is_constant"]:
            found.setdefault(facts.inner_frame(node.name), node)
    return found


def _only_invariants(draft: Draft, node: StageNode) -> bool:
    return bool(node.inputs) and all(
        draft.nodes[source].type == "Enter" and draft.nodes[source].attrs["is_constant"]
        for source, _ in node.inputs
    )


def _cannot_fail(draft: Draft, facts: Facts, node: StageNode) -> bool:
    if node.type in _MAY_FAIL and not node.output_dtypes[0].is_floating:
        return False
    if node.opdef.ufunc is None and node.type not in _TOTAL and node.type not in _MAY_FAIL:
        return False
    return len(node.output_dtypes) == 1 and all(
        facts.full_dims(edge) is not None for edge in (*node.inputs, (node.name, 0))
    )


def _hoist(draft: Draft, facts: Facts, node: StageNode, door: StageNode) -> None:
    """Let the readers that can read it through an Enter read a copy of `node` that stands outside of the loop."""
    if any(facts.ordered(source, node.name) for source in node.control_inputs):
        return
    readers = [user for user, _ in draft.readers((node.name, 0)) if _may_read(draft, facts, user, node)]
    if not readers:
        return
    why = "it is the same in every iteration"
    outside = [draft.nodes[source].inputs[0] for source, _ in node.inputs]
    moved = draft.add(
        node.opdef, outside, node.attrs, like=node, name=f"{node.name}/invariant", sources=[node.name], reason=why,
        control_inputs=() if outside else _beside(draft, facts, door), output_shapes=node.output_shapes,
    )  # fmt: skip
    attrs = {key: door.attrs[key] for key in ("frame_name", "parallel_iterations")}
    enter = draft.add(
        "Enter", [(moved, 0)], {**attrs, "is_constant": True}, like=node, name=f"{node.name}/Enter", sources=[node.name],
        reason=why, output_shapes=node.output_shapes,
    )  # fmt: skip
    for user in dict.fromkeys(readers):
        inputs = [(enter, 0) if edge == (node.name, 0) else edge for edge in draft.nodes[user].inputs]
        draft.replace(user, inputs=inputs, reason=f"reads what '{node.name}' gives from outside of the loop")


def _may_read(draft: Draft, facts: Facts, user: str, node: StageNode) -> bool:
    """Whether `user` is alive only when `node` is even if it does not read it."""
    reader = draft.nodes[user]
    if reader.opdef.flow in ("merge", "next_iteration", "exit"):
        return False
    rest = [edge for edge in reader.inputs if edge[0] != node.name]
    if not rest and not reader.control_inputs:
        return False
    return facts.alive(node.name) <= _alive_by(
        facts, rest, [each for each in reader.control_inputs if each != node.name]
    )


def _alive_by(facts: Facts, edges: Sequence[Edge], controls: Sequence[str]) -> frozenset[object]:
    found: frozenset[object] = frozenset()
    for edge in edges:
        found |= facts.alive_edge(edge)
    for control in controls:
        found |= facts.alive(control)
    return found


def _beside(draft: Draft, facts: Facts, door: StageNode) -> list[str]:
    """What a constant outside of the loop waits for, so as to be alive with the loop and in the frame around it."""
    edge = door.inputs[0]
    source = draft.nodes[edge[0]]
    if not facts.frame(door.name) and not facts.alive(door.name):
        return []
    if not source.opdef.flow or source.type == "Merge":
        return [source.name]
    anchor = draft.add(
        "Identity",
        [edge],
        {},
        like=door,
        name=f"{door.name}/anchor",
        sources=[door.name],
        reason="a loop's invariants wait for it",
    )
    return [anchor]
