"""Reductions over dimensions: what they share, and sums, means and products.

The dimensions are an input, so that they may be computed.  float16 and bfloat16 are accumulated in float32; integers wrap around
in their own type.  Reducing an empty dimension gives the neutral element; a mean of nothing is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.op import shapes
from engine.op.array import size as size_of
from engine.op.broadcasting import shape_node, shape_of
from engine.op.const import constant
from engine.op.elementwise import conjugate, is_half
from engine.op.fills import ones
from engine.op.registry import HOST, Kernel, OpDef, op, raw
from engine.op.samples import Sample, array, random_array
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

__all__ = ["reduce_mean", "reduce_prod", "reduce_sum"]

_ATTRS = "keep_dims: bool = False"


def axes_of(indices: Any, rank: int) -> tuple[int, ...]:
    """The dimensions that a reduction_indices input names, each in [0, rank).  Raises InvalidArgumentError for others."""
    listed = indices.ravel().tolist()
    if len(listed) == 1 and 0 <= listed[0] < rank:
        return (listed[0],)
    found = []
    for axis in listed:
        if not -rank <= axis < rank:
            raise errors.InvalidArgumentError(
                None, None, f"Invalid reduction dimension ({axis} for input with {rank} dimension(s)"
            )
        found.append(axis % rank)
    if len(set(found)) != len(found):
        double = next(axis for axis in found if found.count(axis) > 1)
        raise errors.InvalidArgumentError(
            None, None, f"Invalid reduction arguments: Axes contains duplicate dimension: {double}"
        )
    return tuple(found)


def _shape(op: Any) -> TensorShape:
    """What is left of the input's dimensions.  Raises ValueError for a dimension that it does not have."""
    dims = op.inputs[0].shape.dims_or_none
    keep = op.attrs["keep_dims"]
    indices = shapes.constant_value(op.inputs[1])
    if dims is None:
        return shapes.UNKNOWN
    if indices is None:
        if keep:
            return TensorShape.of((None,) * len(dims))
        return shapes.SCALAR if not dims else shapes.UNKNOWN
    rank = len(dims)
    axes = set()
    for axis in np.ravel(indices).tolist():
        if not -rank <= axis < rank:
            raise ValueError(
                f"Invalid reduction dimension {axis} for input with {rank} dimensions, of shape {op.inputs[0].shape}"
            )
        axes.add(axis % rank)
    if keep:
        return TensorShape.of(tuple(1 if i in axes else size for i, size in enumerate(dims)))
    return TensorShape.of(tuple(size for i, size in enumerate(dims) if i not in axes))


def samples_of(lo: float, hi: float, *, distinct: bool = False, grad: Any = None) -> Any:
    def sampler(rng: np.random.Generator, dtype: Any) -> Any:
        for dims, axes, index in (
            ((2, 3), (0,), dtypes.int32),
            ((2, 3), (-1,), dtypes.int64),
            ((2, 3, 4), (0, 2), dtypes.int32),
            ((2, 3, 4), (1, -3), dtypes.int32),
            ((2, 3), (), dtypes.int32),
            ((5,), (0,), dtypes.int32),
            ((), (), dtypes.int32),
            ((2, 3), (1, 0), dtypes.int64),
            ((0, 3), (0,), dtypes.int32),
            ((0, 3), (1,), dtypes.int32),
            ((2, 1, 3), (1,), dtypes.int32),
        ):
            x = random_array(rng, dtype, dims, lo, hi)
            if distinct:
                size = int(np.prod(dims))
                x = array(rng.permutation(size).reshape(dims) - size / 2 + 0.25, dtype)
            for keep in (False, True):
                yield Sample(x, array(axes, index), attrs={"keep_dims": keep}, grad=grad)
        yield Sample(
            random_array(rng, dtype, (2, 3), lo, hi), array(1, dtypes.int32), grad=grad, note="scalar index"
        )
        if dtype.is_floating:
            special = array([[1, np.nan, 2], [np.inf, 1, 0], [-np.inf, np.inf, 1], [-0.0, 0.0, 0]], dtype)
            yield Sample(special, array([1], dtypes.int32), grad=(), note="special values")

    return sampler


def reference_by(function: Callable[..., Any]) -> Callable[..., Any]:
    """Reduce one dimension after the other with `function`, as NumPy defines it."""

    def reference(x: Any, indices: Any, keep_dims: bool = False) -> Any:
        axes = [int(axis) % x.ndim for axis in np.ravel(indices)]
        for axis in sorted(axes, reverse=True):
            x = np.apply_along_axis(function, axis, x) if x.size else function(x, axis=axis)
        for axis in sorted(axes) if keep_dims else ():
            x = np.expand_dims(x, axis)
        return x

    return reference


def reduction(
    name: str, types: str, kernel: Kernel, *, grad: Any, samples: Any, reference: Callable[..., Any]
) -> OpDef:
    """The block of one reduction."""
    kind = "T" if types else "bool"
    return op(
        f"{name}(input: {kind}, reduction_indices: Tidx; {_ATTRS}{f', T: {types}' if types else ''}, Tidx: index = int32) "
        f"-> output: {kind}",
        kernel=kernel,
        shape=_shape,
        grad=grad,
        samples=samples,
        reference=reference,
        memory={"reduction_indices": HOST},
        int32_on_host=True,
    )


# Gradients.


def kept(op: Any, tensor: Any, shape: Any = None) -> Any:
    """`tensor`, of the output's shape, with the reduced dimensions put back as ones, to broadcast against the input.

    shape: the input's, as a tensor, if there is one already.
    """
    if op.attrs["keep_dims"]:
        return tensor
    x, indices = op.inputs
    axes = shapes.constant_value(indices)
    if x.shape.ndims is not None and axes is not None:
        rank = x.shape.ndims
        reduced = sorted({int(axis) % rank for axis in np.ravel(axes)})
        dims = x.shape.dims_or_none
        left = [None if i in reduced else size for i, size in enumerate(dims)]
        if sum(1 for i, size in enumerate(left) if size is None and i not in reduced) <= 1:
            wanted = [1 if i in reduced else -1 if size is None else size for i, size in enumerate(left)]
            if 0 not in wanted:
                return raw.Reshape(tensor, np.array(wanted, np.int32))
    shape = raw.Shape(x) if shape is None else shape
    rank = size_of(shape)
    indices = indices if indices.dtype.base_dtype is dtypes.int32 else raw.Cast(indices, DstT=dtypes.int32)
    positive = raw.FloorMod(indices + rank, rank, name="mod")
    picked = shape_node(positive)
    every = raw.Range(0, rank, 1, name="range")
    return raw.Reshape(tensor, raw.DynamicStitch([every, positive], [shape, ones(picked, dtypes.int32)]))


def _sum_grad(op: Any, g: Any) -> Any:
    x, indices = op.inputs
    dims, axes = x.shape.dims_or_none, shapes.constant_value(indices)
    if dims is None or axes is None or not dims:
        whole = shape_node(x)
        return raw.BroadcastTo(kept(op, g, whole), whole), None
    reduced = {int(axis) % len(dims) for axis in np.ravel(axes)}
    if len(reduced) == len(dims):  # to a scalar
        one = raw.Reshape(g, [1] * len(dims))
        return raw.Tile(one, constant(dims, dtypes.int32) if None not in dims else shape_node(x)), None
    if None in dims:
        whole = shape_node(x)
        return raw.BroadcastTo(kept(op, g, whole), whole), None
    left = raw.Reshape(g, [1 if i in reduced else size for i, size in enumerate(dims)])
    return raw.Tile(left, [size if i in reduced else 1 for i, size in enumerate(dims)]), None


def _mean_grad(op: Any, g: Any) -> Any:
    x, y = op.inputs[0], op.outputs[0]
    spread, _ = _sum_grad(op, g)
    whole, part = x.shape.num_elements(), y.shape.num_elements()
    if whole is not None and part is not None:
        return spread / constant(whole // max(part, 1), g.dtype.base_dtype), None
    number = raw.FloorDiv(raw.Size(x), raw.Maximum(raw.Size(y), 1))
    return spread / raw.Cast(number, DstT=g.dtype.base_dtype), None


def _prod_grad(op: Any, g: Any) -> Any:
    """g times the product of all the other elements, found without dividing, so that zeros are no trouble.

    With the reduced dimensions in front and made one, the product of the others is the exclusive cumulative product from the
    left times that from the right.
    """
    x, indices = op.inputs
    axes, rank = shapes.constant_value(indices), x.shape.ndims
    if axes is not None and rank is not None:
        front: Any = [axis % rank for axis in np.ravel(axes).tolist()]
        back: Any = [i for i in range(rank) if i not in front]
        order: Any = np.array(front + back, np.int32)
        undo: Any = np.argsort(order).astype(np.int32)
        front, back = np.array(front, np.int32), np.array(back, np.int32)
    else:
        rank = raw.Rank(x)
        front = raw.FloorMod(raw.Reshape(raw.Cast(indices, DstT=dtypes.int32), [-1]) + rank, rank)
        back = raw.ListDiff(raw.Range(0, rank, 1), front).out
        order = raw.ConcatV2([front, back], 0)
        undo = raw.InvertPermutation(order)
    shape = shape_of(x)
    matrix = raw.Pack([raw.Prod(raw.GatherV2(shape, each, 0), [0]) for each in (front, back)])
    moved = raw.Transpose(x, order)
    flat = raw.Reshape(moved, matrix)
    others = raw.Cumprod(flat, 0, exclusive=True) * raw.Cumprod(flat, 0, exclusive=True, reverse=True)
    others = raw.Transpose(raw.Reshape(others, raw.Shape(moved)), undo)
    return raw.BroadcastTo(kept(op, g), shape) * conjugate(others), None


# Kernels.


def _total(xp: Any, x: Any, axes: tuple[int, ...], keep: bool, ufunc: str = "add") -> Any:
    """The sum (or product) over `axes`, of x's dtype; over none, x as it is, as in TensorFlow, -0.0 too."""
    if not axes:
        return x
    reduce = getattr(xp, ufunc).reduce
    if is_half(x.dtype):
        return reduce(x.astype(np.float32), axis=axes, keepdims=keep).astype(x.dtype)
    return reduce(x, axis=axes, dtype=x.dtype, keepdims=keep)


def _sum(k: Any, x: Any, indices: Any) -> Any:
    return _total(k.xp, x, axes_of(indices, x.ndim), k.attrs["keep_dims"])


def _prod(k: Any, x: Any, indices: Any) -> Any:
    return _total(k.xp, x, axes_of(indices, x.ndim), k.attrs["keep_dims"], "multiply")


def _mean(k: Any, x: Any, indices: Any) -> Any:
    axes, keep = axes_of(indices, x.ndim), k.attrs["keep_dims"]
    if not axes:
        return x
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    if x.dtype.kind in "iu":
        # Summed in 64 bits; the quotient is rounded towards 0.
        total = k.xp.add.reduce(
            x, axis=axes, dtype=np.uint64 if x.dtype.kind == "u" else np.int64, keepdims=keep
        )
        quotient = k.xp.absolute(total) // max(count, 1)
        return (k.xp.sign(total) * quotient).astype(x.dtype)
    if is_half(x.dtype):
        total = k.xp.add.reduce(x.astype(np.float32), axis=axes, keepdims=keep)
        return (total / np.float32(count)).astype(x.dtype)
    # TensorFlow's mean of no real numbers is NaN, that of no complex ones 0.
    return k.xp.add.reduce(x, axis=axes, keepdims=keep) / x.dtype.type(
        max(count, 1) if x.dtype.kind == "c" else count
    )


# The ops.


def _mean_reference(x: Any, indices: Any, keep_dims: bool = False) -> Any:
    total = reference_by(np.sum)(x, indices, keep_dims)
    count = x.size / max(total.size, 1) if total.size else 1
    mean = total / (np.float64(count) if x.dtype.kind == "f" else max(count, 1))
    return np.trunc(mean) if x.dtype.kind in "iu" else mean


_SUMMABLE = "numbers"
reduction("Sum", _SUMMABLE, _sum, grad=_sum_grad, samples=samples_of(-9, 9), reference=reference_by(np.sum))
reduction("Mean", _SUMMABLE, _mean, grad=_mean_grad, samples=samples_of(-9, 9), reference=_mean_reference)
reduction(
    "Prod", _SUMMABLE, _prod, grad=_prod_grad, samples=samples_of(-2, 2), reference=reference_by(np.prod)
)
# TensorFlow's functions.


def reduction_dims(x: Any, axis: Any) -> Any:
    """What to give a reduction of the tensor x as its dimensions: `axis`, or all of them for None."""
    if axis is not None:
        return axis
    if x.shape.ndims is not None:
        return constant(np.arange(x.shape.ndims, dtype=np.int32))
    return raw.Range(0, raw.Rank(x), 1, name="range")


def either(new: Any, old: Any, new_name: str, old_name: str) -> Any:
    """The one of two keywords that was given: an argument and its name before.  Raises ValueError if both were."""
    if new is not None and old is not None:
        raise ValueError(f"Cannot specify both '{new_name}' and '{old_name}'")
    return old if new is None else new


def function_of(op_type: str, what: str) -> Callable[..., Any]:
    def reduce(
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Any:
        axis = either(axis, reduction_indices, "axis", "reduction_indices")
        keep = either(keepdims, keep_dims, "keepdims", "keep_dims")
        x = convert_to_tensor(input_tensor, dtypes.bool_ if op_type in ("All", "Any") else None)
        result = getattr(raw, op_type)(x, reduction_dims(x, axis), keep_dims=bool(keep), name=name)
        if axis is None and not keep:
            result.set_shape(())  # of whatever rank x turns out to be
        return result

    reduce.__doc__ = f"""{what} over the dimensions `axis` (an int, a list, a tensor; None: all of them).

    Reduced dimensions are left out of the result's shape, or kept as 1 with `keepdims`.  `reduction_indices` and `keep_dims` are
    older names of `axis` and `keepdims`.  Raises ValueError for a dimension that the tensor does not have.
    """
    reduce.__name__ = reduce.__qualname__ = f"reduce_{op_type.lower()}"
    return reduce


reduce_sum = function_of("Sum", "The sum")
reduce_mean = function_of("Mean", "The mean")
reduce_prod = function_of("Prod", "The product")
