"""Extremes over dimensions, where they are, and whether all or any elements are true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.op import shapes
from engine.op.kernels import filled
from engine.op.reduce import axes_of, either, function_of, kept, reduction, reference_by, samples_of
from engine.op.registry import HOST, Kernel, NotDifferentiable, OpDef, op, raw
from engine.op.samples import Sample, array, random_array
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

__all__ = ["arg_max", "arg_min", "argmax", "argmin", "reduce_all", "reduce_any", "reduce_max", "reduce_min"]


def _extreme_grad(op: Any, g: Any) -> Any:
    """g shared evenly by all the elements that are the extreme."""
    x, indices = op.inputs
    extreme, g = kept(op, op.outputs[0]), kept(op, g)
    equal = raw.Cast(raw.Equal(extreme, x), DstT=g.dtype.base_dtype)
    count = raw.Sum(equal, indices, keep_dims=op.attrs["keep_dims"])
    return equal / kept(op, count) * g, None


def _limit(dtype: np.dtype[Any], greatest: bool) -> Any:
    """The neutral element of the minimum (greatest) or the maximum."""
    if dtype.kind in "iu":
        return getattr(np.iinfo(dtype), "max" if greatest else "min")
    return np.inf if greatest else -np.inf


def _extreme(method: str) -> Kernel:
    def kernel(k: Any, x: Any, indices: Any) -> Any:
        axes, keep = axes_of(indices, x.ndim), k.attrs["keep_dims"]
        if x.size == 0:
            shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
            return filled(k.xp, shape, x.dtype, _limit(x.dtype, method == "min"))
        return getattr(x, method)(axis=axes, keepdims=keep)

    return kernel


def _extreme_reference(function: str, greatest: bool) -> Callable[..., Any]:
    def along(x: Any, axis: int = 0) -> Any:
        if x.shape[axis] == 0:
            return np.full(np.delete(x.shape, axis), np.inf if greatest else -np.inf)
        return getattr(np, function)(x, axis=axis)

    return reference_by(along)


reduction(
    "Max",
    "reals",
    _extreme("max"),
    grad=_extreme_grad,
    samples=samples_of(0, 9, distinct=True),
    reference=_extreme_reference("max", greatest=False),
)
reduction(
    "Min",
    "reals",
    _extreme("min"),
    grad=_extreme_grad,
    samples=samples_of(0, 9, distinct=True),
    reference=_extreme_reference("min", greatest=True),
)
reduce_max = function_of("Max", "The maximum")
reduce_min = function_of("Min", "The minimum")


# All and any.


def _booleans(rng: np.random.Generator, dtype: Any) -> Any:
    yield from samples_of(0, 1, grad=())(rng, dtypes.bool_)


def _truth(method: str) -> Kernel:
    def kernel(k: Any, x: Any, indices: Any) -> Any:
        return getattr(x, method)(axis=axes_of(indices, x.ndim), keepdims=k.attrs["keep_dims"])

    return kernel


reduction("All", "", _truth("all"), grad=NotDifferentiable, samples=_booleans, reference=reference_by(np.all))
reduction("Any", "", _truth("any"), grad=NotDifferentiable, samples=_booleans, reference=reference_by(np.any))


reduce_all = function_of("All", "Whether all elements are true,")
reduce_any = function_of("Any", "Whether any element is true,")


# Positions.  The first of equal elements counts, and NaN is less than (or for ArgMin greater than) everything.


def _position(method: str) -> Kernel:
    def kernel(k: Any, x: Any, dimension: Any) -> Any:
        rank = x.ndim
        axis = int(dimension)
        if not -rank <= axis < rank:
            raise errors.InvalidArgumentError(
                None, None, f"Expected dimension in the range [{-rank}, {rank}), but got {axis}"
            )
        if x.shape[axis] == 0:
            shape = ",".join(map(str, x.shape))
            raise errors.InvalidArgumentError(
                None, None, f"Reduction axis {axis} is empty in shape [{shape}]"
            )
        dtype = k.attrs["output_type"].np_dtype
        if x.size == 0:
            return k.xp.zeros(tuple(size for i, size in enumerate(x.shape) if i != axis % rank), dtype)
        if x.dtype.kind in "fV":
            x = k.xp.where(k.xp.isnan(x), x.dtype.type(-np.inf if method == "argmax" else np.inf), x)
        return getattr(x, method)(axis=axis).astype(dtype)

    return kernel


def _position_shape(op: Any) -> TensorShape:
    dims = op.inputs[0].shape.dims_or_none
    axis = shapes.constant_value(op.inputs[1])
    if dims is None:
        return shapes.UNKNOWN
    if axis is None:
        return TensorShape.of((None,) * max(len(dims) - 1, 0))
    at = int(axis)
    if not -len(dims) <= at < len(dims):
        raise ValueError(
            f"Dimension must be in the range [{-len(dims)}, {len(dims)}), not {at}, for shape {op.inputs[0].shape}"
        )
    at %= len(dims)
    return TensorShape.of(dims[:at] + dims[at + 1 :])


def _position_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis, out in (
        ((2, 3), 0, dtypes.int64),
        ((2, 3), -1, dtypes.int32),
        ((7,), 0, dtypes.int64),
        ((2, 3, 4), 1, dtypes.int64),
        ((0, 3), 1, dtypes.int64),
    ):
        x = random_array(rng, dtype, shape, 0, 4)
        yield Sample(x, array(axis, dtypes.int32), attrs={"output_type": out}, grad=())
        if dtype.is_floating:
            yield Sample(
                np.round(x), array(axis, dtypes.int64), attrs={"output_type": out}, grad=(), note="ties"
            )
    if dtype.is_floating:
        x = array([[1, np.nan, 2], [np.nan, 1, 2], [np.nan, np.nan, np.nan], [np.inf, -np.inf, 0]], dtype)
        yield Sample(x, array(1, dtypes.int32), grad=(), note="NaN")


def _position_reference(best: Callable[..., Any]) -> Callable[..., Any]:
    def first(row: Any) -> int:
        listed = [value for value in row.tolist() if value == value]
        return row.tolist().index(best(listed)) if listed else 0

    def reference(x: Any, dimension: Any, output_type: Any = None) -> Any:
        axis = int(dimension)
        if x.size == 0:
            return np.zeros(np.delete(x.shape, axis))
        return np.apply_along_axis(first, axis, x)

    return reference


def _position_op(name: str, method: str, best: Callable[..., Any], indices: str, outputs: str) -> OpDef:
    return op(
        f"{name}(input: T, dimension: Tidx; T: {{float32, float64, int32, uint8, int16, int8, int64, bfloat16, uint16, float16, "
        f"uint32, uint64, bool}}, Tidx: {indices} = int32, output_type: {outputs} = int64) -> output: output_type",
        kernel=_position(method),
        shape=_position_shape,
        grad=NotDifferentiable,
        samples=_position_samples,
        reference=_position_reference(best),
        memory={"dimension": HOST},
    )


_position_op("ArgMax", "argmax", max, "{int16, int32, int64}", "{int16, uint16, int32, int64}")
_position_op("ArgMin", "argmin", min, "{int32, int64}", "{int32, int64}")


def argmax(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Any:
    """The index of the largest element along `axis` (an int or scalar tensor; None: 0); the first of equal ones.

    `dimension` is the older name of `axis`.  The result has output_type, and the input's shape without that dimension.
    """
    axis = either(axis, dimension, "axis", "dimension")
    return raw.ArgMax(input, 0 if axis is None else axis, output_type=output_type, name=name)


def argmin(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Any:
    """The index of the smallest element along `axis`; see `argmax`."""
    axis = either(axis, dimension, "axis", "dimension")
    return raw.ArgMin(input, 0 if axis is None else axis, output_type=output_type, name=name)


def arg_max(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Any:
    """`argmax`, under its oldest name."""
    return raw.ArgMax(input, dimension, output_type=output_type, name=name)


def arg_min(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Any:
    """`argmin`, under its oldest name."""
    return raw.ArgMin(input, dimension, output_type=output_type, name=name)
