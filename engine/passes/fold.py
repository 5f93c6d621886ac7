"""Constant folding: compute now what follows from constants and static shapes.

As Grappler's `constant_folding`: a node that reads only constants becomes a constant, computed by its own kernel; `Shape`,
`Size`, `Rank` of a static shape, and the parts of a partially static one, become constants; a target shape of which all but one
dimension is known becomes a constant with -1.  No constant larger than the limit is made of smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.op.shapes import constant_value_as_shape
from engine.passes.become import become_constant, reads_switch, waits
from engine.passes.facts import Facts
from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode
from engine.passes.views import infer_shapes, view

# The user's own code runs when the user runs it.
_NEVER = frozenset({"Const", "PyFuncStateless", "NoOp", "_Recv", "_Send"})
# Their outputs may be much larger than their inputs, and only the value of an input says how large.
_GROWING = frozenset(
    {"Range", "Fill", "Tile", "LinSpace", "BroadcastTo", "OneHot", "MatrixDiag", "Diag", "SparseToDense"}
)
# From these a partially static shape is put together, or a part of it taken.
_SHAPING = frozenset(
    {
        "Shape",
        "StridedSlice",
        "Slice",
        "Gather",
        "GatherV2",
        "Pack",
        "ConcatV2",
        "Cast",
        "Squeeze",
        "ExpandDims",
    }
)


def run(draft: Draft, facts: Facts) -> None:
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.type in _NEVER or not node.output_dtypes or not facts.pure(name):
            continue
        if any(dtype.name in ("resource", "variant") for dtype in node.output_dtypes):
            continue
        if all(draft.nodes[source].type == "Const" for source, _ in node.inputs):
            if node.inputs:
                _fold(draft, facts, node)
        elif node.type in _STATIC:
            _STATIC[node.type](draft, facts, node)
        elif node.type in _SHAPING and _of_shape(draft, node):
            value = facts.value((name, 0))
            if value is not None:
                become_constant(draft, facts, name, np.asarray(value), "that part of the shape is known")


def _fold(draft: Draft, facts: Facts, node: StageNode) -> None:
    """Replace a node that reads constants only."""
    inputs = [draft.nodes[source].attrs["value"] for source, _ in node.inputs]
    given = sum(value.nbytes for value in inputs)
    limit = max(facts.settings.max_folded_bytes, given)
    size = _size(draft, node)
    if size is None and node.type in _GROWING or size is not None and size > limit:
        return
    outputs = evaluate(node, inputs)
    if outputs is None or sum(value.nbytes for value in outputs) > limit:
        return
    read = ", ".join(f"'{source}'" for source in dict.fromkeys(source for source, _ in node.inputs))
    reason = f"its inputs are constants: {read}" if len(read) <= 120 else "its inputs are constants"
    if len(outputs) == 1:
        become_constant(draft, facts, node.name, outputs[0], reason)
        return
    _replace_outputs(draft, facts, node, outputs, reason)


def _replace_outputs(draft: Draft, facts: Facts, node: StageNode, values: Sequence[Any], reason: str) -> None:
    """Let constants stand for those outputs of the node that are read and whose values are given."""
    for i, value in enumerate(values):
        if value is not None and draft.readers((node.name, i)):
            new = draft.add(
                "Const", [], {"value": _frozen(value), "dtype": node.output_dtypes[i]}, like=node,
                name=f"{node.name}/folded_{i}", sources=[node.name], reason=reason,
                control_inputs=waits(draft, facts, node.name, []),
            )  # fmt: skip
            draft.redirect((node.name, i), (new, 0), reason)


def _size(draft: Draft, node: StageNode) -> int | None:
    """The bytes of the node's outputs, if its shapes say so."""
    total = 0
    shapes = node.output_shapes
    if not all(shape.is_fully_defined() for shape in shapes):
        shapes = infer_shapes(node, draft.nodes)
    for shape, dtype in zip(shapes, node.output_dtypes, strict=True):
        count = shape.num_elements()
        if count is None:
            return None
        total += count * dtype.size
    return total


class _Kernel:
    """What a kernel without state is given."""

    def __init__(self, node: StageNode) -> None:
        self.xp = np
        self.op = node
        self.attrs = node.attrs
        self.n_outputs = len(node.output_dtypes)


def evaluate(node: StageNode, inputs: list[Any]) -> list[Any] | None:
    """The node's outputs for these inputs, by its own kernel on the CPU; None if it fails, as it will when it runs."""
    kernel = node.opdef.kernel_for("CPU", (*node.input_dtypes, *node.output_dtypes))
    if kernel is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = kernel(_Kernel(node), *inputs)
    except Exception:  # a kernel may raise anything; whoever runs the step will hear of it
        return None
    outputs = [np.asarray(each) for each in (result if isinstance(result, tuple | list) else (result,))]
    fits = len(outputs) == len(node.output_dtypes) and all(
        value.dtype == dtype.np_dtype and shape.is_compatible_with(value.shape)
        for value, dtype, shape in zip(outputs, node.output_dtypes, node.output_shapes, strict=True)
    )
    return [_frozen(value) for value in outputs] if fits else None


def _frozen(value: Any) -> Any:
    """`value` as an array that nobody changes, laid out in memory as it was: a sum's last bits may depend on that."""
    if value.flags.writeable:
        value = np.array(value, order="K")
        value.setflags(write=False)
    return value


# Shapes.


def _shape(draft: Draft, facts: Facts, node: StageNode) -> None:
    edge = node.inputs[0]
    dims = facts.full_dims(edge)
    if dims is not None:
        value = np.array(dims, node.output_dtypes[0].np_dtype)
        become_constant(draft, facts, node.name, value, f"the shape of '{edge[0]}' is known")
        return
    source = facts.same_shape(edge)
    if source != edge and not reads_switch(draft, node.name, [source[0]]):
        controls = waits(draft, facts, node.name, [source])
        why = f"'{source[0]}' has the shape of '{edge[0]}'"
        draft.replace(node.name, inputs=[source], control_inputs=controls, reason=why)


def _shape_n(draft: Draft, facts: Facts, node: StageNode) -> None:
    if reads_switch(draft, node.name):
        return
    dims = [facts.full_dims(edge) for edge in node.inputs]
    values = [None if each is None else np.array(each, node.output_dtypes[0].np_dtype) for each in dims]
    _replace_outputs(draft, facts, node, values, "the shape is known")


def _gradient_args(draft: Draft, facts: Facts, node: StageNode) -> None:
    """Of twice the same shape, nothing is stretched."""
    if node.inputs[0] == node.inputs[1]:
        nothing = np.zeros(0, node.output_dtypes[0].np_dtype)
        _replace_outputs(draft, facts, node, [nothing, nothing], "both operands have the same shape")


def _count(draft: Draft, facts: Facts, node: StageNode) -> None:
    dims = facts.full_dims(node.inputs[0])
    if dims is not None:
        value = np.array(np.prod(dims, dtype=np.int64), node.output_dtypes[0].np_dtype)
        become_constant(draft, facts, node.name, value, f"the shape of '{node.inputs[0][0]}' is known")


def _rank(draft: Draft, facts: Facts, node: StageNode) -> None:
    dims = facts.dims(node.inputs[0])
    if dims is not None:
        value = np.array(len(dims), np.int32)
        become_constant(draft, facts, node.name, value, f"the rank of '{node.inputs[0][0]}' is known")


def _like(fill: int) -> Callable[[Draft, Facts, StageNode], None]:
    def materialize(draft: Draft, facts: Facts, node: StageNode) -> None:
        dims = facts.full_dims(node.inputs[0])
        dtype = node.output_dtypes[0]
        if dims is None or dtype.np_dtype.hasobject or dtype.np_dtype.kind == "V":
            return
        if np.prod(dims, dtype=np.int64) * dtype.size <= facts.settings.max_folded_bytes:
            value = np.full(dims, fill, dtype.np_dtype)
            become_constant(draft, facts, node.name, value, f"the shape of '{node.inputs[0][0]}' is known")

    return materialize


def _slice(draft: Draft, facts: Facts, node: StageNode) -> None:
    """Those dimensions that are known of a shape that is not known as a whole."""
    source = draft.nodes[node.inputs[0][0]]
    begin, size = (facts.value(edge) for edge in node.inputs[1:])
    dims = facts.dims(source.inputs[0]) if source.type == "Shape" else None
    if dims is None or begin is None or size is None or begin.shape != (1,) or size.shape != (1,):
        return
    start, count = int(begin[0]), int(size[0])
    part = dims[start : len(dims) if count == -1 else start + count]
    if 0 <= start <= len(dims) and count in (-1, len(part)) and None not in part:
        value = np.array(part, node.output_dtypes[0].np_dtype)
        become_constant(
            draft, facts, node.name, value, f"that part of the shape of '{source.inputs[0][0]}' is known"
        )


def _reshape(draft: Draft, facts: Facts, node: StageNode) -> None:
    """A target shape of which all but one dimension is known: a constant with -1."""
    source = draft.nodes[node.inputs[1][0]]
    if source.type not in _SHAPING or not facts.pure(source.name):
        return
    try:
        dims = constant_value_as_shape(view(node, draft.nodes)._inputs[1]).dims_or_none
    except ValueError:  # it will fail when it runs, and say why there
        return
    if dims is None or sum(size is None for size in dims) > 1 or any(size == 0 for size in dims):
        return
    if None not in dims and source.opdef.flow:
        return
    reason = f"all but one dimension of '{source.name}' is known"
    value = np.array([-1 if size is None else size for size in dims], source.output_dtypes[0].np_dtype)
    if any(draft.nodes[each].opdef.flow == "switch" for each, _ in source.inputs):
        return
    new = draft.add(
        "Const", [], {"value": _frozen(value), "dtype": source.output_dtypes[0]}, like=node, name=f"{node.name}/shape",
        sources=[source.name], reason=reason, control_inputs=waits(draft, facts, source.name, []),
    )  # fmt: skip
    draft.replace(node.name, inputs=[node.inputs[0], (new, 0)], reason=reason)


def _of_shape(draft: Draft, node: StageNode) -> bool:
    """Whether the node may be a part of a shape: small integers made from a Shape or the like."""
    if not node.output_dtypes[0].is_integer:
        return False
    return any(draft.nodes[source].type in _SHAPING for source, _ in node.inputs)


_STATIC: dict[str, Callable[[Draft, Facts, StageNode], None]] = {
    "Shape": _shape,
    "ShapeN": _shape_n,
    "BroadcastGradientArgs": _gradient_args,
    "Size": _count,
    "Rank": _rank,
    "ZerosLike": _like(0),
    "OnesLike": _like(1),
    "Slice": _slice,
    "Reshape": _reshape,
}
