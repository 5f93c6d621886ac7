"""Variables: the op that names one, and the ops that change it whole.

A variable's token is the resource itself (`k.resources.variable`); arrays are immutable, so every update makes a new one and
writes it through `k.write`, which is what tracing, rewinding and race detection see.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.kernels import invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import untested
from engine.op.shapes import SCALAR, UNKNOWN
from engine.types import errors
from engine.types.shape import TensorShape

__all__ = ["assign", "assign_add", "assign_sub", "count_up_to", "is_variable_initialized"]

_BY_HAND = untested("tests/op/test_state.py")


def _variable(k: Any) -> Any:
    attrs = k.attrs
    found = k.resources.variable(
        attrs["container"], attrs["shared_name"] or k.op.name, attrs["dtype"], attrs["shape"]
    )
    found.site = k.op.site
    return found


def _variable_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.attrs["shape"]
    return shape


def _legacy_variable_shape(node: Any) -> TensorShape:
    # A scalar in the attr of the oldest variable op has always meant that the shape is not known.
    shape: TensorShape = node.attrs["shape"]
    return UNKNOWN if shape.ndims == 0 else shape


op(
    "VariableV2(; shape: shape, dtype: type, container: string = '', shared_name: string = '') -> ref: Ref(dtype)",
    kernel=_variable,
    shape=_variable_shape,
    samples=_BY_HAND,
    stateful=True,
)

op(
    "Variable(; shape: shape, dtype: type, container: string = '', shared_name: string = '') -> ref: Ref(dtype)",
    kernel=_variable,
    shape=_legacy_variable_shape,
    samples=_BY_HAND,
    stateful=True,
)


def _is_initialized(k: Any, ref: Any) -> Any:
    return np.bool_(ref.value is not None)


op(
    "IsVariableInitialized(ref: Ref(dtype); dtype: type) -> is_initialized: bool",
    kernel=_is_initialized,
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    allows_uninitialized=True,
    memory={"is_initialized": HOST},
)


def _assign(k: Any, ref: Any, value: Any) -> Any:
    if k.attrs["validate_shape"]:
        held = ref.value
        fits = held.shape == value.shape if held is not None else ref.shape.is_compatible_with(value.shape)
        if not fits:
            expected = shape_text(held.shape) if held is not None else str(ref.shape)
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Assign requires shapes of both tensors to match. lhs shape= {expected} rhs shape= {shape_text(value.shape)}",
                hint="Give the variable validate_shape=False (and Assign too) if its shape may change.",
            )
    k.write(ref, value, kind="assign")
    return ref


def _assign_shape(node: Any) -> TensorShape:
    value: TensorShape = node.inputs[1].shape
    return node.inputs[0].shape.merge_with(value) if node.attrs["validate_shape"] else value


def both_shapes(node: Any) -> TensorShape:
    """The output is a reference to the first input, which must have the second's shape."""
    merged: TensorShape = node.inputs[0].shape.merge_with(node.inputs[1].shape)
    return merged


op(
    "Assign(ref: Ref(T), value: T; T: type, validate_shape: bool = True, use_locking: bool = True) -> output_ref: Ref(T)",
    kernel=_assign,
    shape=_assign_shape,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    allows_uninitialized=True,
)


def _updating(kind: str, update: Any) -> Any:
    """A kernel that replaces the variable's array by ``update(held, value)``."""

    def kernel(k: Any, ref: Any, value: Any) -> Any:
        with ref.lock:
            held = ref.read(k.op)
            if held.shape != value.shape:
                raise invalid(
                    "Parameters and update must be the same size: "
                    f"the variable has shape {shape_text(held.shape)}, the update {shape_text(value.shape)}",
                )
            k.write(ref, update(held, value), kind=kind)
        return ref

    return kernel


op(
    "AssignAdd(ref: Ref(T), value: T; T: numbers, use_locking: bool = False) -> output_ref: Ref(T)",
    kernel=_updating("assign_add", lambda held, value: held + value),
    shape=both_shapes,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)

op(
    "AssignSub(ref: Ref(T), value: T; T: numbers, use_locking: bool = False) -> output_ref: Ref(T)",
    kernel=_updating("assign_sub", lambda held, value: held - value),
    shape=both_shapes,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)


def _count_up_to(k: Any, ref: Any) -> Any:
    limit = k.attrs["limit"]
    with ref.lock:
        held = ref.read(k.op)
        if held.ndim != 0:
            raise invalid(f"CountUpTo needs a scalar variable, not one of shape {shape_text(held.shape)}")
        if int(held) >= limit:
            raise errors.OutOfRangeError(None, None, f"Reached limit of {limit}")
        k.write(ref, held + held.dtype.type(1), kind="count_up_to")
    return held


def _count_up_to_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.inputs[0].shape.with_rank(0)
    return shape


op(
    "CountUpTo(ref: Ref(T); limit: int, T: index) -> output: T",
    kernel=_count_up_to,
    shape=_count_up_to_shape,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    devices=("CPU",),
)


# Public functions.


def assign(
    ref: Any,
    value: Any,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Any:
    """A node that sets the variable `ref` to `value` and returns the variable, as `tf.assign`."""
    return raw.Assign(ref, value, validate_shape=validate_shape, use_locking=use_locking, name=name)


def assign_add(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Any:
    """A node that adds `value` to the variable `ref` and returns the variable, as `tf.assign_add`."""
    return raw.AssignAdd(ref, value, use_locking=use_locking, name=name)


def assign_sub(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Any:
    """A node that subtracts `value` from the variable `ref` and returns the variable, as `tf.assign_sub`."""
    return raw.AssignSub(ref, value, use_locking=use_locking, name=name)


def count_up_to(ref: Any, limit: int, name: str | None = None) -> Any:
    """A node that adds 1 to the scalar variable `ref`, returns what was before, and fails with OutOfRangeError at `limit`."""
    return raw.CountUpTo(ref, limit=limit, name=name)


def is_variable_initialized(variable: Any) -> Any:
    """A bool tensor: whether the variable has a value in the session."""
    return raw.IsVariableInitialized(variable)
