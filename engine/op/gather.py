"""Picking slices by index along one axis: Gather and GatherV2."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.indexed_slices import IndexedSlices
from engine.op.array import rank, reshape, size
from engine.op.array import shape as shape_of
from engine.op.kernels import integer, invalid, require
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.types import dtypes, errors
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["batch_gather", "gather"]


def check_indices(k: Any, indices: Any, limit: int, what: str = "indices") -> None:
    """Raise InvalidArgumentError, naming the first index that is not in [0, limit) and its place."""
    bad = (indices < 0) | (indices >= limit)
    if k.xp is not np or bad.any():
        require(k, bad, partial(_first_bad, bad, indices, limit, what))


def _first_bad(bad: Any, indices: Any, limit: int, what: str) -> errors.InvalidArgumentError:
    position = [int(places[0]) for places in bad.nonzero()] if indices.ndim else []
    place = f"[{','.join(map(str, position))}]" if position else ""
    return invalid(f"{what}{place} = {int(indices[tuple(position)])} is not in [0, {limit})")


# Gather and GatherV2: whole slices along one axis.


def _gather(k: Any, params: Any, indices: Any) -> Any:
    if params.ndim == 0:
        raise invalid("params must be at least 1 dimensional")
    check_indices(k, indices, params.shape[0])
    return _take(k, params, indices, 0)


def _take(k: Any, params: Any, indices: Any, axis: int) -> Any:
    if indices.ndim == 0:
        at = int(indices) if k.xp is np else indices
        return params[(*(slice(None),) * axis, at, ...)]
    return k.xp.take(params, indices, axis=axis)


def _gather_v2(k: Any, params: Any, indices: Any, axis: Any) -> Any:
    ndim, along, batch = params.ndim, integer(axis, "axis"), k.attrs["batch_dims"]
    if not -ndim <= along < ndim:
        raise invalid(f"Expected axis in the range [{-ndim}, {ndim}), but got {along}")
    along %= ndim
    if not -indices.ndim <= batch <= indices.ndim:
        raise invalid(f"Expected batch_dims in the range [{-indices.ndim}, {indices.ndim}], but got {batch}")
    batch += indices.ndim if batch < 0 else 0
    if batch > along:
        raise invalid(f"batch_dims ({batch}) must be less than or equal to axis ({along}).")
    check_indices(k, indices, params.shape[along])
    if not batch:
        return _take(k, params, indices, along)
    shape = params.shape
    for i in range(batch):
        if shape[i] != indices.shape[i]:
            raise invalid(
                f"params.shape[{i}]: {shape[i]} should be equal to indices.shape[{i}]: {indices.shape[i]}"
            )
    count, outer = math.prod(shape[:batch]), math.prod(shape[batch:along])
    each = math.prod(indices.shape[batch:])
    blocks = params.reshape((count, outer, shape[along], math.prod(shape[along + 1 :])))
    chosen = indices.reshape((count, 1, each))
    # Every (batch, outer) pair has the indices of its batch.
    taken = blocks[k.xp.arange(count)[:, None, None], k.xp.arange(outer)[None, :, None], chosen]
    return taken.reshape((*shape[:along], *indices.shape[batch:], *shape[along + 1 :]))


def _gather_v2_shape(node: Any) -> TensorShape:
    params, indices, axis = node.inputs
    axis.shape.with_rank(0)
    shape, picks, batch = params.shape.dims_or_none, indices.shape.dims_or_none, node.attrs["batch_dims"]
    at = constant_value(axis)
    if shape is None or picks is None:
        return TensorShape.of(None)
    if not -len(picks) <= batch <= len(picks):
        raise ValueError(f"batch_dims = {batch} is out of range for indices of shape {indices.shape}")
    batch += len(picks) if batch < 0 else 0
    if at is None:
        return TensorShape.of((None,) * (len(shape) - 1 + len(picks) - batch))
    along = int(at.reshape(()))
    if not -len(shape) <= along < len(shape):
        raise ValueError(f"axis {along} is out of range for params of shape {params.shape}")
    along %= len(shape)
    if batch > along:
        raise ValueError(f"batch_dims ({batch}) must be less than or equal to axis ({along})")
    front = TensorShape.of(shape[:batch]).merge_with(TensorShape.of(picks[:batch])).as_list()
    return TensorShape.of((*front, *shape[batch:along], *picks[batch:], *shape[along + 1 :]))


def _gather_shape(node: Any) -> TensorShape:
    params, indices = node.inputs
    return indices.shape.concatenate(params.shape.with_rank_at_least(1)[1:])  # type: ignore[no-any-return]


def _rows_grad(params: Any, indices: Any, g: Any) -> IndexedSlices:
    """The gradient for whole rows of `params`: only the rows that were picked."""
    params_shape = shape_of(params)
    count = raw.ExpandDims(size(indices), 0)
    values = raw.Reshape(g, raw.ConcatV2([count, params_shape[1:]], 0, name="concat"))
    return IndexedSlices(values, raw.Reshape(indices, count), params_shape)


def _gather_v2_grad(node: Any, g: Any) -> Any:
    params, indices, axis = node.inputs
    batch = node.attrs["batch_dims"]
    at = constant_value(axis)
    if batch == 0 and at is not None and int(at.reshape(())) == 0:
        return _rows_grad(params, indices, g), None, None
    return _axis_grad(params, indices, axis, batch, g), None, None


def _axis_grad(params: Any, indices: Any, axis: Any, batch: int, g: Any) -> Any:
    """The dense gradient: fold everything to [batch, outer, axis, inner], bring the axis forward, and sum by index."""
    if batch < 0:
        batch += indices.shape.ndims
    if indices.dtype.base_dtype == dtypes.int16:
        indices = raw.Cast(indices, DstT=dtypes.int32)
    index_type = indices.dtype.base_dtype
    shape, picks = shape_of(params, out_type=index_type), shape_of(indices, out_type=index_type)
    along = raw.FloorMod(raw.Cast(axis, DstT=dtypes.int32), rank(params))

    def part(dims: Any, begin: Any, size: Any) -> Any:
        """The product of `size` dims from `begin`."""
        start, count = (raw.Reshape(value, [1]) for value in (begin, size))
        return raw.Prod(raw.Slice(dims, start, count), [0])

    after = raw.AddV2(along, 1)
    batches, outer = part(shape, 0, batch), part(shape, batch, raw.Sub(along, batch))
    size, inner = part(shape, along, 1), part(shape, after, -1)
    each = part(picks, batch, -1)
    blocks = raw.Transpose(reshape(g, raw.Pack([batches, outer, each, inner])), [0, 2, 1, 3])
    rows = reshape(blocks, raw.Pack([raw.Mul(batches, each), raw.Mul(outer, inner)]))
    first = raw.Mul(
        raw.Range(np.array(0, index_type.np_dtype), batches, np.array(1, index_type.np_dtype)), size
    )
    segments = raw.AddV2(reshape(indices, raw.Pack([batches, each])), raw.ExpandDims(first, 1))
    sums = raw.UnsortedSegmentSum(rows, reshape(segments, [-1]), raw.Mul(batches, size))
    unfolded = raw.Transpose(reshape(sums, raw.Pack([batches, size, outer, inner])), [0, 2, 1, 3])
    return reshape(unfolded, shape)


def _gathers(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, indices) in enumerate(
        (((4, 3), [2, 0, 2]), ((5,), 3), ((3, 2), [[0, 1], [2, 2]]), ((2, 2), np.zeros(0)), ((2, 0), [1]))
    ):
        yield Sample(random_array(rng, dtype, shape), np.array(indices, (np.int32, np.int64)[i % 2]))


def _gather_v2s(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for sample in _gathers(rng, dtype):
        yield Sample(*sample.inputs, np.array(0, np.int32))
    for shape, indices, axis, batch in (
        ((2, 4), [3, 1], 1, 0), ((2, 3, 4), [[0, 2], [1, 1]], -1, 0), ((2, 4), [[3, 0, 0], [1, 2, 1]], 1, 1),
        ((2, 3, 4), [[0, 3], [1, 1]], 2, 1), ((2, 3, 4), 1, 1, 0), ((2, 3, 2), np.ones((2, 3, 2)), 2, -1), ((2, 2), [0, 1], 1, 1),
        ((0, 3), np.zeros((0, 2)), 1, 1),
    ):  # fmt: skip
        yield Sample(
            random_array(rng, dtype, shape),
            np.array(indices, np.int32),
            np.array(axis, np.int64),
            attrs={"batch_dims": batch},
        )
    yield Sample(random_array(rng, dtype, (2, 3)), np.array([1], np.int16), np.array(1, np.int32))


def _picked(params: Any, indices: Any, axis: Any = 0, batch_dims: int = 0, **_: Any) -> Any:
    """One slice at a time, batch by batch."""
    batch = batch_dims % (indices.ndim + 1) if batch_dims < 0 else batch_dims
    batch = indices.ndim + batch_dims if batch_dims < 0 else batch
    along = int(axis) % params.ndim
    if batch:
        parts = [_picked(params[i], indices[i], along - 1, batch - 1) for i in range(params.shape[0])]
        tail = (*params.shape[1:along], *indices.shape[batch:], *params.shape[along + 1 :])
        return np.stack(parts) if parts else np.empty((0, *tail), params.dtype)
    result = np.empty((*params.shape[:along], *indices.shape, *params.shape[along + 1 :]), params.dtype)
    for position in np.ndindex(*indices.shape):
        result[(*[slice(None)] * along, *position, ...)] = params[
            (*[slice(None)] * along, int(indices[position]), ...)
        ]
    return result


gather_op = op(
    "Gather(params: Tparams, indices: Tindices; validate_indices: bool = True, Tparams: type, Tindices: index) "
    "-> output: Tparams",
    kernel=_gather,
    shape=_gather_shape,
    grad=lambda node, g: (_rows_grad(node.inputs[0], node.inputs[1], g), None),
    samples=_gathers,
    reference=_picked,
)

gather_v2_op = op(
    "GatherV2(params: Tparams, indices: Tindices, axis: Taxis; batch_dims: int = 0, Tparams: type, "
    "Tindices: {int16, int32, int64}, Taxis: index) -> output: Tparams",
    kernel=_gather_v2,
    shape=_gather_v2_shape,
    grad=_gather_v2_grad,
    samples=_gather_v2s,
    reference=_picked,
    memory={"axis": HOST},
)


# Under TensorFlow 1's names.


def gather(
    params: Any,
    indices: Any,
    validate_indices: bool | None = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Any:
    """The slices of `params` along `axis` at `indices` (ints of any shape, which takes the place of the axis).

    The first `batch_dims` dimensions of both are paired up; axis defaults to `batch_dims`.  An index that is out of range raises
    InvalidArgumentError when run.  validate_indices does nothing, as in TensorFlow.
    """
    del validate_indices
    return raw.GatherV2(
        params, indices, batch_dims if axis is None else axis, batch_dims=batch_dims, name=name
    )


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Any:
    """`gather` with all dimensions of `indices` but the last paired with those of `params`."""
    picks = convert_to_tensor(indices)
    if picks.shape.ndims is None:
        raise ValueError("batch_gather does not allow indices with unknown shape.")
    return gather(params, picks, axis=picks.shape.ndims - 1, batch_dims=picks.shape.ndims - 1, name=name)
