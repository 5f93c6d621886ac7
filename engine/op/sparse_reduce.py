"""Sums over dimensions of sparse tensors: SparseReduceSum, SparseReduceSumSparse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.sparse_tensor import SparseTensor
from engine.op.kernels import ints, zeros
from engine.op.reduce import axes_of, either
from engine.op.registry import op, raw
from engine.op.samples import Sample
from engine.op.shapes import UNKNOWN, constant_value
from engine.op.sparse_parts import SIZES, add_at, as_sparse, dense_of, linear, parts, sparse_sample
from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape, as_shape

__all__ = ["sparse_reduce_sum", "sparse_reduce_sum_sparse"]


def _reduced(
    k: Any, values: Any, indices: Any, dense_shape: Any, axes: Any
) -> tuple[Any, tuple[int, ...], Any]:
    """The dimensions that stay, the shape of them, and each element's number in it."""
    dims = parts(k, indices, values, dense_shape)
    gone = axes_of(axes, len(dims)) if axes.size else ()
    stay = [axis for axis in range(len(dims)) if axis not in gone]
    left = tuple(dims[axis] for axis in stay)
    return stay, left, linear(k, indices[:, stay], left)


def _reduce_sum(k: Any, indices: Any, values: Any, dense_shape: Any, axes: Any) -> Any:
    stay, left, numbers = _reduced(k, values, indices, dense_shape, axes)
    total = zeros(k.xp, (math.prod(left),), values.dtype)
    add_at(k.xp, total, numbers, values)
    if not k.attrs["keep_dims"]:
        return total.reshape(left)
    return total.reshape([size if axis in stay else 1 for axis, size in enumerate(ints(dense_shape))])


def _reduce_sum_grad(node: Any, g: Any) -> Any:
    indices, _, dense_shape, axes = node.inputs
    kept = _kept_shape(dense_shape, axes)
    spread = raw.Reshape(g, kept)
    scale = dense_shape // raw.Cast(kept, DstT=dtypes.int64)
    return None, raw.GatherNd(spread, indices // scale), None, None


def _kept_shape(dense_shape: Any, axes: Any) -> Any:
    """The input's shape with a one for each reduced dimension, as an int32 tensor."""
    dims, gone = constant_value(dense_shape), constant_value(axes)
    if dims is not None and gone is not None:
        reduced = {int(axis) % dims.size for axis in np.ravel(gone)}
        return convert_to_tensor(
            [1 if i in reduced else int(size) for i, size in enumerate(dims)], dtypes.int32
        )
    narrow = raw.Cast(dense_shape, DstT=dtypes.int32)
    rank = raw.Size(narrow)
    gone = raw.FloorMod(raw.Reshape(axes, [-1]) + rank, rank)
    return raw.DynamicStitch([raw.Range(0, rank, 1), gone], [narrow, raw.Fill(raw.Shape(gone), 1)])


def _reduce_sum_shape(node: Any) -> TensorShape:
    dims, axes = constant_value(node.inputs[2]), constant_value(node.inputs[3])
    if dims is None or axes is None:
        return UNKNOWN
    rank = dims.size
    gone = {int(axis) % rank for axis in np.ravel(axes)} if rank else set()
    if node.attrs["keep_dims"]:
        return as_shape([1 if i in gone else int(size) for i, size in enumerate(dims)])
    return as_shape([int(size) for i, size in enumerate(dims) if i not in gone])


def _reduce_sum_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in SIZES:
        for axes, keep in (([0], False), ([-1], True), (list(range(len(dims))), False)):
            yield Sample(
                *sparse_sample(rng, dtype, dims, count), np.array(axes, np.int32), attrs={"keep_dims": keep}
            )


def _reduce_sum_reference(
    indices: Any, values: Any, dense_shape: Any, axes: Any, keep_dims: bool = False
) -> Any:
    return dense_of(indices, values, dense_shape).sum(axis=tuple(axes.tolist()), keepdims=keep_dims)


op(
    "SparseReduceSum(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32; "
    "keep_dims: bool = False, T: numbers) -> output: T",
    kernel=_reduce_sum,
    shape=_reduce_sum_shape,
    grad=_reduce_sum_grad,
    samples=_reduce_sum_samples,
    reference=_reduce_sum_reference,
    devices=("CPU",),
)


def _reduce_sum_sparse(
    k: Any, indices: Any, values: Any, dense_shape: Any, axes: Any
) -> tuple[Any, Any, Any]:
    stay, left, numbers = _reduced(k, values, indices, dense_shape, axes)
    present, places = np.unique(numbers, return_inverse=True)
    total = zeros(k.xp, present.shape, values.dtype)
    add_at(k.xp, total, places, values)
    found = indices[:, stay][np.unique(numbers, return_index=True)[1]]
    if k.attrs["keep_dims"]:
        full = k.xp.zeros((present.shape[0], indices.shape[1]), dtype=np.int64)
        full[:, stay] = found
        found = full
        left = tuple(size if axis in stay else 1 for axis, size in enumerate(ints(dense_shape)))
    return found, total, k.xp.asarray(left, dtype=np.int64)


def _reduce_sum_sparse_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in (((3, 4), 5), ((2, 3, 2), 6)):
        for axes in ([0], [-1]):
            yield Sample(*sparse_sample(rng, dtype, dims, count), np.array(axes, np.int32))


def _reduce_sum_sparse_reference(indices: Any, values: Any, dense_shape: Any, axes: Any) -> list[Any]:
    gone = {int(axis) % len(dense_shape) for axis in axes}
    stay = [axis for axis in range(len(dense_shape)) if axis not in gone]
    sums: dict[tuple[int, ...], Any] = {}
    for position, value in zip(indices[:, stay].tolist(), values, strict=True):
        sums[tuple(position)] = sums.get(tuple(position), 0) + value
    keys = sorted(sums)
    return [np.array(keys), np.array([sums[key] for key in keys]), dense_shape[stay]]


op(
    "SparseReduceSumSparse(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32; "
    "keep_dims: bool = False, T: numbers) -> output_indices: int64, output_values: T, output_shape: int64",
    kernel=_reduce_sum_sparse,
    shape=lambda node: [TensorShape.of((None, None)), TensorShape.of((None,)), TensorShape.of((None,))],
    samples=_reduce_sum_sparse_samples,
    reference=_reduce_sum_sparse_reference,
    devices=("CPU",),
)


# TensorFlow's functions.


def _axes(sparse: SparseTensor, axis: Any) -> Any:
    if axis is not None:
        return axis
    rank = sparse.dense_shape.shape.as_list()[0] if sparse.dense_shape.shape.ndims else None
    return (
        np.arange(rank, dtype=np.int32) if rank is not None else raw.Range(0, raw.Size(sparse.dense_shape), 1)
    )


def sparse_reduce_sum(
    sp_input: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    reduction_axes: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """The sum over the dimensions `axis` (None: all), as a dense tensor.  The last two are older names."""
    sparse = as_sparse(sp_input)
    keep = bool(either(keepdims, keep_dims, "keepdims", "keep_dims"))
    axes = _axes(sparse, either(axis, reduction_axes, "axis", "reduction_axes"))
    return raw.SparseReduceSum(sparse.indices, sparse.values, sparse.dense_shape, axes, keep_dims=keep)


def sparse_reduce_sum_sparse(
    sp_input: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    reduction_axes: Any = None,
    keep_dims: bool | None = None,
) -> SparseTensor:
    """As `sparse_reduce_sum`, as a SparseTensor."""
    sparse = as_sparse(sp_input)
    keep = bool(either(keepdims, keep_dims, "keepdims", "keep_dims"))
    axes = _axes(sparse, either(axis, reduction_axes, "axis", "reduction_axes"))
    return SparseTensor(
        *raw.SparseReduceSumSparse(sparse.indices, sparse.values, sparse.dense_shape, axes, keep_dims=keep)
    )
