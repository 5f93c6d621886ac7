"""Shape rules shared by ops, and what is known of a tensor's value while the graph is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.types.shape import TensorShape, broadcast_static_shape

SCALAR = TensorShape.of(())
UNKNOWN = TensorShape.of(None)


def unchanged(op: Operation) -> TensorShape:
    """The output has the first input's shape."""
    return op._inputs[0]._shape


def broadcast(op: Operation) -> TensorShape:
    """The output has the shape to which the first two inputs broadcast."""
    a, b = op._inputs[0]._shape, op._inputs[1]._shape
    if a is b and a._dims is not None and None not in a._dims:
        return a
    return broadcast_static_shape(a, b)


def scalar(op: Operation) -> TensorShape:
    """The output is a scalar."""
    return SCALAR


def unknown(op: Operation) -> list[TensorShape]:
    """Nothing is known of any output."""
    return [UNKNOWN] * len(op.outputs)


def no_outputs(op: Operation) -> list[TensorShape]:
    return []


def merged(op: Operation) -> TensorShape:
    """The output has what the shapes of all inputs together say.  Raises ValueError if they contradict each other."""
    result = op._inputs[0]._shape
    for tensor in op._inputs[1:]:
        result = result.merge_with(tensor._shape)
    return result


# Values known while building.

_VALUES: dict[str, Callable[[Operation], Any]] = {}
_SHAPES: dict[str, Callable[[Operation], TensorShape | None]] = {}


def value_rule(*op_types: str) -> Callable[[Callable[[Operation], Any]], Callable[[Operation], Any]]:
    """Decorator: how the value of these ops' first output follows while building (an array), or None if it does not."""

    def register(rule: Callable[[Operation], Any]) -> Callable[[Operation], Any]:
        _VALUES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


def shape_value_rule(
    *op_types: str,
) -> Callable[[Callable[[Operation], TensorShape | None]], Callable[[Operation], TensorShape | None]]:
    """Decorator: how the value of these ops' first output, read as a shape, follows partially while building."""

    def register(
        rule: Callable[[Operation], TensorShape | None],
    ) -> Callable[[Operation], TensorShape | None]:
        _SHAPES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


def constant_value(tensor: Any) -> Any:
    """The value of `tensor` (an array) if it is known while building, else None.  Nothing is run."""
    if not isinstance(tensor, Tensor):
        return None
    op = tensor.op
    if op.opdef.name == "Const":
        return op.attrs["value"]
    rule = _VALUES.get(op.opdef.name)
    return None if rule is None or tensor.value_index != 0 else rule(op)


def constant_value_as_shape(tensor: Tensor) -> TensorShape:
    """What is known of the shape that the integer vector `tensor` holds; -1 in it is an unknown dimension.

    Raises ValueError if `tensor` is not a vector (or scalar -1, the unknown shape).
    """
    value = constant_value(tensor)
    if value is not None:
        if value.ndim == 0:
            if int(value) != -1:
                raise ValueError(
                    f"A shape must be a vector, or the scalar -1 for an unknown one, not {int(value)}"
                )
            return UNKNOWN
        return TensorShape.of(tuple(None if size < 0 else size for size in value.tolist()))
    tensor._shape.assert_is_compatible_with(TensorShape.of((None,)))
    rule = _SHAPES.get(tensor.op.opdef.name)
    found = None if rule is None or tensor.value_index != 0 else rule(tensor.op)
    if found is not None:
        return found
    dims = tensor._shape._dims
    return UNKNOWN if dims is None or dims[0] is None else TensorShape.of((None,) * dims[0])


@value_rule("Shape")
def _shape_value(op: Operation) -> Any:
    dims = op._inputs[0]._shape._dims
    if dims is None or None in dims:
        return None
    return np.array(dims, op.outputs[0].dtype.np_dtype)


@shape_value_rule("Shape")
def _shape_as_shape(op: Operation) -> TensorShape:
    return op._inputs[0]._shape


@value_rule("Size")
def _size_value(op: Operation) -> Any:
    count = op._inputs[0]._shape.num_elements()
    return None if count is None else np.array(count, op.outputs[0].dtype.np_dtype)


@value_rule("Rank")
def _rank_value(op: Operation) -> Any:
    rank = op._inputs[0]._shape.ndims
    return None if rank is None else np.array(rank, np.int32)


@value_rule("Cast")
def _cast_value(op: Operation) -> Any:
    value = constant_value(op._inputs[0])
    return None if value is None else value.astype(op.outputs[0].dtype.np_dtype)


@shape_value_rule("Cast")
def _cast_as_shape(op: Operation) -> TensorShape | None:
    return constant_value_as_shape(op._inputs[0]) if op._inputs[0].dtype.is_integer else None


@value_rule("Range")
def _range_value(op: Operation) -> Any:
    start, limit, delta = (constant_value(tensor) for tensor in op._inputs)
    if start is None or limit is None or delta is None or delta == 0:
        return None
    return np.arange(start, limit, delta, dtype=op.outputs[0].dtype.np_dtype)


@value_rule("Fill")
def _fill_value(op: Operation) -> Any:
    dims, value = constant_value(op._inputs[0]), constant_value(op._inputs[1])
    return (
        None if dims is None or value is None or dims.prod() > 4096 else np.full(tuple(dims.tolist()), value)
    )


@value_rule("Pack")
def _pack_value(op: Operation) -> Any:
    values = [constant_value(tensor) for tensor in op._inputs]
    return None if any(value is None for value in values) else np.stack(values, op.attrs["axis"])


@shape_value_rule("Pack")
def _pack_as_shape(op: Operation) -> TensorShape | None:
    if op._inputs[0]._shape.ndims != 0:
        return None
    values = [constant_value(tensor) for tensor in op._inputs]
    return TensorShape.of(tuple(None if value is None or value < 0 else int(value) for value in values))


@value_rule("ConcatV2")
def _concat_value(op: Operation) -> Any:
    *values, axis = (constant_value(tensor) for tensor in op._inputs)
    return (
        None if axis is None or any(value is None for value in values) else np.concatenate(values, int(axis))
    )


@shape_value_rule("ConcatV2")
def _concat_as_shape(op: Operation) -> TensorShape:
    result = SCALAR
    for tensor in op._inputs[:-1]:
        result = result.concatenate(constant_value_as_shape(tensor))
    return result
