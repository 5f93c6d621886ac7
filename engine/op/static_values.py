"""Integer values that follow from constants and static shapes while the graph is built.

Shape rules ask for the values of shapes, axes and sizes.  `engine.op.shapes` knows the ops that shapes are mostly put together
with; here is the rest: arithmetic on such values (evaluated with the ops' own kernels, as TensorFlow's shape refiner does), and
slices of shapes of which only a part is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.shapes import constant_value, constant_value_as_shape, shape_value_rule, value_rule
from engine.op.strided import Masks, index
from engine.types.errors import OpError
from engine.types.shape import TensorShape

_MAX_NODES = 64
_MAX_ELEMENTS = 1024

FOLDABLE = frozenset({
    "Add", "AddV2", "Sub", "Mul", "FloorDiv", "FloorMod", "Div", "Maximum", "Minimum", "Neg", "Abs", "Sign",
    "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "LogicalAnd", "LogicalOr",
    "LogicalNot", "Select", "SelectV2", "Prod", "Sum", "Max", "Min", "All", "Any", "Reshape", "Squeeze",
    "ExpandDims", "Slice", "Gather", "GatherV2", "ReverseV2", "Tile", "Identity", "InvertPermutation",
    "OneHot", "ZerosLike", "OnesLike", "ListDiff", "Concat", "Transpose", "BroadcastTo",
})  # fmt: skip


class _Kernel:
    """What a kernel is given when it runs while the graph is built: as much as a stateless one on the CPU needs."""

    def __init__(self, op: Operation) -> None:
        self.xp = np
        self.attrs = op.attrs
        self.op = op
        self.n_outputs = len(op.outputs)


def _fold(op: Operation) -> Any:
    """The value of the op's first output if it follows from constants through few and small nodes, else None."""
    order: list[Operation] = []
    seen = {op}
    stack = [op]
    while stack:
        node = stack.pop()
        order.append(node)
        if len(order) > _MAX_NODES:
            return None
        for tensor in node._inputs:
            source = tensor.op
            if source.opdef.name in FOLDABLE and source not in seen:
                seen.add(source)
                stack.append(source)
    order.sort(
        key=lambda node: node._id if node._id > 0 else float("inf")
    )  # inputs were made before their users
    values: dict[Tensor, Any] = {}
    for node in order:
        inputs = []
        for tensor in node._inputs:
            value = values[tensor] if tensor in values else _leaf(tensor)
            if value is None or value.size > _MAX_ELEMENTS:
                return None
            inputs.append(value)
        outputs = _run(node, inputs)
        if outputs is None:
            return None
        values.update(zip(node.outputs, outputs, strict=True))
    return values[op.outputs[0]]


def _leaf(tensor: Tensor) -> Any:
    return None if tensor.op.opdef.name in FOLDABLE else constant_value(tensor)


def _run(node: Operation, inputs: list[Any]) -> tuple[Any, ...] | None:
    kernel = node.opdef.kernel_for("CPU", ())
    if kernel is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = kernel(_Kernel(node), *inputs)
    except OpError:  # it will fail when it runs, and say why there
        return None
    return tuple(np.asarray(each) for each in (result if isinstance(result, tuple) else (result,)))


value_rule(*FOLDABLE)(_fold)


def constant_ints(tensor: Tensor) -> tuple[int | None, ...] | None:
    """What is known of the integer vector `tensor`: its elements, each None where it is not known; None if its length is not."""
    value = constant_value(tensor)
    if value is not None:
        return tuple(value.reshape(-1).tolist())
    op = tensor.op
    if op.opdef.name == "Pack" and op.inputs[0].shape.ndims == 0:
        elements = [constant_value(element) for element in op.inputs]
        return tuple(None if element is None else int(element) for element in elements)
    if tensor.shape.ndims != 1:
        return None
    return constant_value_as_shape(tensor).dims_or_none  # here -1 was an unknown size, and reads as not known


def _strided_spec(op: Operation) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Masks] | None:
    spec = [constant_value(tensor) for tensor in op._inputs[1:]]
    if any(each is None for each in spec):
        return None
    begin, end, strides = (tuple(each.tolist()) for each in spec)
    return begin, end, strides, Masks.of(op.attrs)


@value_rule("StridedSlice")
def _strided_value(op: Operation) -> Any:
    spec = _strided_spec(op)
    if spec is None:
        return None
    source = op._inputs[0]
    value = constant_value(source)
    if value is not None:
        return value[index(value.shape, *spec)[0]]
    part = _part_of_shape(source, spec)
    if part is None or any(size is None for size in part.flat):
        return None
    return np.array(part.tolist(), op.outputs[0].dtype.np_dtype)


@shape_value_rule("StridedSlice")
def _strided_as_shape(op: Operation) -> TensorShape | None:
    spec = _strided_spec(op)
    part = None if spec is None else _part_of_shape(op._inputs[0], spec)
    return None if part is None or part.ndim != 1 else TensorShape.of(tuple(part.tolist()))


def _part_of_shape(source: Tensor, spec: tuple[Any, ...]) -> Any:
    """The slice of the partially known shape that `source` holds, an array of ints and Nones; or None."""
    if not source.dtype.is_integer or source.shape.ndims != 1:
        return None
    dims = constant_value_as_shape(source).dims_or_none
    if dims is None:
        return None
    array = np.empty(len(dims), object)
    array[:] = dims
    return array[index(array.shape, *spec)[0]]
