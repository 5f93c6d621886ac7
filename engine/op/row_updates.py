"""Updates of some rows of a variable: row ``indices[i]`` is combined with ``updates[i]``, in the order of the indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.op.atomics import combine_at
from engine.op.gather import check_indices
from engine.op.kernels import invalid, shape_text
from engine.op.registry import NotDifferentiable, OpDef, op, raw
from engine.op.samples import untested
from engine.types.shape import TensorShape

__all__ = [
    "scatter_add",
    "scatter_div",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_sub",
    "scatter_update",
]

_BY_HAND = untested("tests/op/test_row_updates.py")

Combine = Callable[[Any, Any, Any, Any], None]


def _check_updates(held: Any, indices: Any, updates: Any) -> None:
    if held.ndim < 1:
        raise invalid("params must be at least 1-D, got a scalar variable")
    if updates.ndim and updates.shape != (*indices.shape, *held.shape[1:]):
        raise invalid(
            "Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got updates.shape "
            f"{shape_text(updates.shape)}, indices.shape {shape_text(indices.shape)}, params.shape {shape_text(held.shape)}"
        )


def _kernel(kind: str, combine: Combine) -> Any:
    def kernel(k: Any, ref: Any, indices: Any, updates: Any) -> Any:
        with ref.lock:
            held = ref.read(k.op)
            _check_updates(held, indices, updates)
            check_indices(k, indices, held.shape[0])
            changed = held.copy()
            combine(k.xp, changed, indices, updates)
            k.write(ref, changed, kind=kind)
        return ref

    return kernel


def _shape(node: Any) -> TensorShape:
    ref, indices, updates = (tensor.shape for tensor in node.inputs)
    if updates.ndims != 0 and ref.ndims is not None and indices.ndims is not None:
        updates.assert_is_compatible_with(indices.concatenate(ref[1:]))
    result: TensorShape = ref
    return result


def _scatter(name: str, types: str, kind: str, combine: Combine, locking: bool = False) -> OpDef:
    return op(
        f"{name}(ref: Ref(T), indices: Tindices, updates: T; T: {types}, Tindices: index, use_locking: bool = {locking})"
        " -> output_ref: Ref(T)",
        kernel=_kernel(kind, combine),
        shape=_shape,
        grad=NotDifferentiable,
        samples=_BY_HAND,
        stateful=True,
    )


def _put(xp: Any, array: Any, indices: Any, updates: Any) -> None:
    array[indices] = updates  # on a GPU any of several updates of one row may stay, as in TensorFlow


def _with_ufunc(name: str) -> Combine:
    return lambda xp, array, indices, updates: combine_at(xp, name, array, indices, updates)


def _divide(xp: Any, array: Any, indices: Any, updates: Any) -> None:
    """Integers are divided toward zero, as in C."""
    if array.dtype.kind not in "iu":
        combine_at(xp, "divide", array, indices, updates)
        return
    if (xp.asarray(updates) == 0).any():
        raise invalid("ScatterDiv by zero: an element of updates is 0")
    spread = xp.broadcast_to(updates, (*indices.shape, *array.shape[1:])).reshape(-1, *array.shape[1:])
    for row, divisor in zip(indices.reshape(-1).tolist(), spread, strict=True):
        held = array[row]
        quotient = held // divisor
        array[row] = quotient + ((quotient < 0) & (quotient * divisor != held)).astype(array.dtype)


_ORDERED = "{float16, bfloat16, float32, float64, int32, int64}"

_scatter("ScatterUpdate", "type", "scatter_update", _put, locking=True)
_scatter("ScatterAdd", "numbers", "scatter_add", _with_ufunc("add"))
_scatter("ScatterSub", "numbers", "scatter_sub", _with_ufunc("subtract"))
_scatter("ScatterMul", "numbers", "scatter_mul", _with_ufunc("multiply"))
_scatter("ScatterDiv", "numbers", "scatter_div", _divide)
_scatter("ScatterMin", _ORDERED, "scatter_min", _with_ufunc("minimum"))
_scatter("ScatterMax", _ORDERED, "scatter_max", _with_ufunc("maximum"))


# Public functions.


def _scatterer(op_type: str, what: str) -> Callable[..., Any]:
    def scatter(
        ref: Any, indices: Any, updates: Any, use_locking: bool | None = None, name: str | None = None
    ) -> Any:
        return getattr(raw, op_type)(ref, indices, updates, use_locking=use_locking, name=name)

    scatter.__name__ = scatter.__qualname__ = "scatter_" + op_type.removeprefix("Scatter").lower()
    scatter.__doc__ = f"""A node that {what} the rows `indices` of the variable `ref`, and returns the variable.

    indices: int32 or int64, any shape; updates: shape ``indices.shape + ref.shape[1:]``, or a scalar.  Rows that come twice are
    changed twice, in order.  An index out of range is an InvalidArgumentError when it runs.
    """
    return scatter


scatter_update = _scatterer("ScatterUpdate", "puts `updates` into")
scatter_add = _scatterer("ScatterAdd", "adds `updates` to")
scatter_sub = _scatterer("ScatterSub", "subtracts `updates` from")
scatter_mul = _scatterer("ScatterMul", "multiplies by `updates`")
scatter_div = _scatterer("ScatterDiv", "divides by `updates`")
scatter_min = _scatterer("ScatterMin", "takes the minimum with `updates` of")
scatter_max = _scatterer("ScatterMax", "takes the maximum with `updates` of")
