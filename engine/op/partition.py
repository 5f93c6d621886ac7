"""Dealing rows out by number and putting them together again: DynamicPartition and DynamicStitch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.op.array import reshape
from engine.op.array import shape as shape_of
from engine.op.gather import check_indices
from engine.op.kernels import invalid, shape_text, zeros
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["dynamic_partition", "dynamic_stitch"]


def _stitch(k: Any, *inputs: Any) -> Any:
    count = k.attrs["N"]
    indices, data = inputs[:count], inputs[count:]
    tail = data[0].shape[indices[0].ndim :]
    for i, (places, values) in enumerate(zip(indices, data)):
        if values.shape != (*places.shape, *tail):
            raise invalid(
                f"data[{i}].shape = {shape_text(values.shape)} does not start with indices[{i}].shape = "
                f"{shape_text(places.shape)} and end with {shape_text(tail)}"
            )
    rows = 1 + max((int(places.max()) for places in indices if places.size), default=-1)
    result = zeros(k.xp, (rows, *tail), data[0].dtype)
    for places, values in zip(indices, data):  # in order: where a row is given twice the last one stays
        check_indices(k, places, rows)
        result[places.reshape(-1)] = values.reshape((places.size, *tail))
    return result


def _stitch_shape(node: Any) -> TensorShape:
    count = node.attrs["N"]
    indices, data = node.inputs[:count], node.inputs[count:]
    tail = TensorShape.of(None)
    for places, values in zip(indices, data):
        ndim = places.shape.ndims
        if ndim is not None and values.shape.ndims is not None:
            values.shape.with_rank_at_least(ndim)[:ndim].assert_is_compatible_with(places.shape)
            tail = tail.merge_with(values.shape[ndim:])
    known = [constant_value(places) for places in indices]
    rows = None
    if all(places is not None for places in known):
        rows = 1 + max((int(places.max()) for places in known if places.size), default=-1)
    return TensorShape.of((rows,)).concatenate(tail)


def _stitch_grad(node: Any, g: Any) -> Any:
    count = node.attrs["N"]
    return [None] * count + [raw.GatherV2(g, places, 0) for places in node.inputs[:count]]


def _stitches(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for places, tail in (
        (([0, 2], [1, 3]), (2,)),
        ((1, [[0, 4], [2, 3]]), ()),
        ((np.zeros(0), [1, 0]), (3,)),
        ((np.zeros(0),), (2,)),
    ):
        indices = [np.array(each, np.int32) for each in places]
        yield Sample(indices, [random_array(rng, dtype, (*each.shape, *tail)) for each in indices])
    twice = [np.array([0, 1], np.int32), np.array([1, 2], np.int32)]
    yield Sample(twice, [random_array(rng, dtype, (2,)) for _ in twice], grad=(), note="row 1 given twice")


def _stitch_reference(indices: Sequence[Any], data: Sequence[Any], **_: Any) -> Any:
    rows: dict[int, Any] = {}
    for places, values in zip(indices, data):
        for position in np.ndindex(*places.shape):
            rows[int(places[position])] = values[position]
    tail = data[0].shape[indices[0].ndim :]
    result = np.empty((len(rows), *tail), data[0].dtype)
    for i, row in rows.items():
        result[i] = row
    return result


for _name in ("DynamicStitch", "ParallelDynamicStitch"):
    op(
        f"{_name}(indices: N * int32, data: N * T; N: int >= 1, T: type) -> merged: T",
        kernel=_stitch,
        shape=_stitch_shape,
        grad=_stitch_grad,
        samples=_stitches,
        reference=_stitch_reference,
        memory={"indices": HOST},
    )


def _partition(k: Any, data: Any, partitions: Any) -> Any:
    count, ndim = k.attrs["num_partitions"], partitions.ndim
    if data.shape[:ndim] != partitions.shape:
        raise invalid(
            f"data.shape must start with partitions.shape, got data.shape = {shape_text(data.shape)}, partitions.shape = "
            f"{shape_text(partitions.shape)}"
        )
    check_indices(k, partitions, count, "partitions")
    rows = data.reshape((partitions.size, *data.shape[ndim:]))
    which = partitions.reshape(-1)
    return tuple(rows[which == i] for i in range(count))


def _partition_shape(node: Any) -> list[TensorShape]:
    data, partitions = node.inputs
    ndim, count = partitions.shape.ndims, node.attrs["num_partitions"]
    if ndim is None or data.shape.ndims is None:
        return [TensorShape.of(None)] * count
    data.shape.with_rank_at_least(ndim)[:ndim].assert_is_compatible_with(partitions.shape)
    return [TensorShape.of((None,)).concatenate(data.shape[ndim:])] * count


def _partition_grad(node: Any, *gs: Any) -> Any:
    """Deal out row numbers in the same way; they say where each gradient row belongs."""
    data, partitions = node.inputs
    dims = shape_of(partitions)
    numbers = reshape(raw.Range(0, raw.Prod(dims, [0]), 1), dims)
    places = raw.DynamicPartition(numbers, partitions, num_partitions=node.attrs["num_partitions"])
    return reshape(raw.ParallelDynamicStitch(places, list(gs)), shape_of(data)), None


def _partitions(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, which, count in (
        ((4, 2), [0, 1, 0, 1], 2), ((3,), [2, 2, 0], 4), ((2, 2, 3), [[0, 1], [1, 1]], 2), ((0, 2), np.zeros(0), 2), ((3,), 1, 2),
    ):  # fmt: skip
        yield Sample(
            random_array(rng, dtype, shape), np.array(which, np.int32), attrs={"num_partitions": count}
        )


def _partition_reference(data: Any, partitions: Any, num_partitions: int, **_: Any) -> list[Any]:
    tail = data.shape[partitions.ndim :]
    dealt: list[list[Any]] = [[] for _ in range(num_partitions)]
    for position in np.ndindex(*partitions.shape):
        dealt[int(partitions[position])].append(data[position])
    result = []
    for rows in dealt:
        part = np.empty((len(rows), *tail), data.dtype)
        for i, row in enumerate(rows):
            part[i] = row
        result.append(part)
    return result


op(
    "DynamicPartition(data: T, partitions: int32; num_partitions: int >= 1, T: type) -> outputs: num_partitions * T",
    kernel=_partition,
    shape=_partition_shape,
    grad=_partition_grad,
    samples=_partitions,
    reference=_partition_reference,
)


def dynamic_stitch(indices: Sequence[Any], data: Sequence[Any], name: str | None = None) -> Any:
    """One tensor whose row `indices[m][i, …]` is `data[m][i, …]`; where a row is given twice, the last one stays."""
    return raw.DynamicStitch(list(indices), list(data), name=name)


def dynamic_partition(data: Any, partitions: Any, num_partitions: int, name: str | None = None) -> Any:
    """`num_partitions` tensors; the i-th has the slices of `data` whose entry in `partitions` (an int32 tensor) is i."""
    return raw.DynamicPartition(data, partitions, num_partitions=num_partitions, name=name)
