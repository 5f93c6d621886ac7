"""Choosing elementwise between two tensors, and clipping."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.broadcasting import unbroadcast_pair
from engine.op.const import constant
from engine.op.fills import zeros_like
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types import dtypes, errors
from engine.types.shape import TensorShape, broadcast_static_shape

__all__ = ["clip_by_value", "where", "where_v2"]

# Select: t and e have one shape; the condition has it too, or chooses whole rows, or is a scalar.


def _select(k: Any, condition: Any, t: Any, e: Any) -> Any:
    if t.shape != e.shape:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"'then' and 'else' must have the same size. but received: {list(t.shape)} vs. {list(e.shape)}",
        )
    if condition.shape != t.shape:
        if condition.ndim == 0:
            if isinstance(condition, np.ndarray | np.generic):
                return t if condition else e
            return k.xp.where(condition, t, e)  # without waiting for a device to say which
        if condition.ndim != 1 or t.ndim == 0:
            raise errors.InvalidArgumentError(
                None,
                None,
                "The condition of Select must have the shape of its other inputs, or be a scalar or a vector that chooses rows. "
                f"Input 0: {list(condition.shape)} != input 1: {list(t.shape)}",
            )
        if condition.shape[0] != t.shape[0]:
            raise errors.InvalidArgumentError(
                None,
                None,
                "Number of batches of 'then' must match size of 'cond', "
                f"but saw: {t.shape[0]} vs. {condition.shape[0]}",
            )
        condition = condition.reshape((-1,) + (1,) * (t.ndim - 1))
    return k.xp.where(condition, t, e)


def _select_shape(op: Any) -> TensorShape:
    known: list[TensorShape] = [tensor.shape for tensor in op.inputs]
    condition, branches = known[0], known[1].merge_with(known[2])
    if condition.ndims is None or branches.ndims is None or condition.ndims == 0:
        return branches
    if condition.ndims == 1 and branches.ndims >= 1:
        rows = condition.concatenate(branches[1:])
        return branches.merge_with(rows)
    return branches.merge_with(condition)


def _select_grad(op: Any, g: Any) -> Any:
    condition, t, _ = op.inputs
    zeros = zeros_like(t)
    return None, raw.Select(condition, g, zeros), raw.Select(condition, zeros, g)


def _booleans(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return np.asarray(rng.integers(0, 2, shape) == 1)


def _select_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for condition, shape in (
        ((2, 3), (2, 3)),
        ((2,), (2, 3)),
        ((), (2, 3)),
        ((), ()),
        ((3,), (3,)),
        ((0,), (0, 2)),
        ((3,), (3, 1, 2)),
    ):
        yield Sample(
            _booleans(rng, condition), random_array(rng, dtype, shape), random_array(rng, dtype, shape)
        )


def _select_reference(condition: Any, t: Any, e: Any) -> Any:
    result = e.copy()
    if condition.ndim == 0:
        return t if condition else e
    result[condition] = t[condition]
    return result


op(
    "Select(condition: bool, t: T, e: T; T: type) -> output: T",
    kernel=_select,
    shape=_select_shape,
    grad=_select_grad,
    samples=_select_samples,
    reference=_select_reference,
)


# SelectV2: all three broadcast.


def _select_v2_shape(op: Any) -> TensorShape:
    condition, t, e = (tensor.shape for tensor in op.inputs)
    return broadcast_static_shape(condition, broadcast_static_shape(t, e))


def _select_v2_grad(op: Any, g: Any) -> Any:
    condition, t, e = op.inputs
    zero = constant(np.zeros((), g.dtype.base_dtype.np_dtype), name="zeros")
    grad_t, grad_e = raw.SelectV2(condition, g, zero), raw.SelectV2(condition, zero, g)
    # An input may be stretched along dimensions that only the output shows.
    grad_t, _ = unbroadcast_pair(t, op.outputs[0], grad_t, None)
    grad_e, _ = unbroadcast_pair(e, op.outputs[0], grad_e, None)
    return None, grad_t, grad_e


def _select_v2_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for condition, t, e in (
        ((2, 3), (2, 3), (2, 3)),
        ((3,), (2, 3), (3,)),
        ((2, 1), (3,), ()),
        ((), (2, 3), (1, 3)),
        ((2, 3), (), ()),
        ((), (), ()),
        ((1, 3), (0, 1), (3,)),
        ((4, 1, 1), (2, 1), (3,)),
    ):
        yield Sample(_booleans(rng, condition), random_array(rng, dtype, t), random_array(rng, dtype, e))


def _select_v2_reference(condition: Any, t: Any, e: Any) -> Any:
    condition, t, e = np.broadcast_arrays(condition, t, e)
    return _select_reference(condition, t, e)


op(
    "SelectV2(condition: bool, t: T, e: T; T: type) -> output: T",
    kernel=lambda k, condition, t, e: k.xp.where(condition, t, e),
    shape=_select_v2_shape,
    grad=_select_v2_grad,
    samples=_select_v2_samples,
    reference=_select_v2_reference,
    int32_on_host=True,
)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """x where `condition` is true, y where it is false; with a condition alone, the indices of its true elements.

    x and y have one shape; condition has it too, or is a vector that chooses rows, or a scalar.  The indices are an int64
    tensor of shape [number of true elements, rank of condition].  Raises ValueError if only one of x and y is given.
    """
    if x is None and y is None:
        return raw.Where(convert_to_tensor(condition, None, "condition", dtypes.bool_), name=name)
    if x is None or y is None:
        raise ValueError("x and y must both be given, or neither")
    return raw.Select(condition, x, y, name=name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """`where`, with condition, x and y broadcast to one shape."""
    if x is None and y is None:
        return raw.Where(convert_to_tensor(condition, None, "condition", dtypes.bool_), name=name)
    if x is None or y is None:
        raise ValueError("x and y must both be given, or neither")
    return raw.SelectV2(condition, x, y, name=name)


# Clipping.


def _clip(k: Any, t: Any, low: Any, high: Any) -> Any:
    for bound in (low, high):
        if bound.ndim and bound.shape != t.shape:
            raise errors.InvalidArgumentError(
                None,
                None,
                "clip_value_min and clip_value_max must be either of the same shape as input, or a scalar. "
                f"input shape: {list(t.shape)} clip_value_min shape: {list(low.shape)} clip_value_max shape: {list(high.shape)}",
            )
    return k.xp.maximum(k.xp.minimum(t, high), low)


def _clip_grad(op: Any, g: Any) -> Any:
    t, low, high = op.inputs
    zeros = raw.ZerosLike(g)
    below, above = raw.Less(t, low), raw.Greater(t, high)
    grad_t = raw.SelectV2(raw.LogicalOr(below, above), zeros, g)
    _, grad_low = unbroadcast_pair(t, low, None, raw.SelectV2(below, g, zeros))
    _, grad_high = unbroadcast_pair(t, high, None, raw.SelectV2(above, g, zeros))
    return grad_t, grad_low, grad_high


def _clip_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((3, 4), (), (0, 2)):
        t = random_array(rng, dtype, shape, 0, 9)
        yield Sample(t, np.asarray(2.5).astype(dtype.np_dtype), np.asarray(6.5).astype(dtype.np_dtype))
        yield Sample(
            t, random_array(rng, dtype, shape, 1, 3), random_array(rng, dtype, shape, 5, 7), note="arrays"
        )


def _clip_reference(t: Any, low: Any, high: Any) -> Any:
    return np.where(t < low, low, np.where(t > high, high, t))


op(
    "ClipByValue(t: T, clip_value_min: T, clip_value_max: T; T: reals) -> output: T",
    kernel=_clip,
    shape=lambda op: op.inputs[0].shape,
    grad=_clip_grad,
    samples=_clip_samples,
    reference=_clip_reference,
)


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """t with values below `clip_value_min` raised to it and values above `clip_value_max` lowered to it.

    The bounds broadcast to the shape of t (a Tensor or IndexedSlices) and must not stretch it: ValueError.
    """
    with name_scope(name, "clip_by_value", [t]) as scope:
        slices = t if hasattr(t, "indices") else None
        values = convert_to_tensor(t.values if slices is not None else t, name="t")
        bounded = raw.Minimum(values, clip_value_max)
        values.shape.assert_is_compatible_with(bounded.shape)
        result = raw.Maximum(bounded, clip_value_min, name=scope)
        values.shape.assert_is_compatible_with(result.shape)
        return type(slices)(result, slices.indices, slices.dense_shape) if slices is not None else result
