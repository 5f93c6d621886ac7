"""Joining tensors along an axis that they have: Concat, ConcatV2, ConcatOffset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.op.array import rank, squeeze
from engine.op.array import shape as shape_of
from engine.op.const import constant
from engine.op.kernels import integer, ints, invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.op.stacking import stack
from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape, unknown_shape

__all__ = ["concat"]

_INDEX = (np.int32, np.int64)


def _concat_v2(k: Any, *inputs: Any) -> Any:
    return _concatenate(k, inputs[:-1], inputs[-1])


def _concatenate(k: Any, values: Sequence[Any], axis: Any) -> Any:
    along, ndim = integer(axis, "axis"), values[0].ndim
    if not -ndim <= along < ndim:
        raise invalid(
            f"ConcatOp : Expected concatenating dimensions in the range [{-ndim}, {ndim}), but got {along}"
        )
    along %= ndim
    first = values[0].shape
    for i, value in enumerate(values[1:], 1):
        shape = value.shape
        if len(shape) != ndim:
            raise invalid(
                f"ConcatOp : Ranks of all input tensors should match: shape[0] = {shape_text(first)} vs. shape[{i}] = "
                f"{shape_text(shape)}"
            )
        if shape[:along] != first[:along] or shape[along + 1 :] != first[along + 1 :]:
            differs = next(d for d in range(ndim) if d != along and shape[d] != first[d])
            raise invalid(
                f"ConcatOp : Dimension {differs} in both shapes must be equal: shape[0] = {shape_text(first)} vs. "
                f"shape[{i}] = {shape_text(shape)}"
            )
    return k.xp.concatenate(values, axis=along)


def _concat_shape(values: Sequence[Any], axis: Any) -> TensorShape:
    axis.shape.with_rank(0)
    shapes = [tensor.shape for tensor in values]
    known = next((shape for shape in shapes if shape.ndims is not None), None)
    if known is None:
        return TensorShape.of(None)
    ndim = len(known)
    shapes = [shape.with_rank(ndim) for shape in shapes]
    at = constant_value(axis)
    if at is None:
        return unknown_shape(ndim)
    along = int(at.reshape(()))
    if not -ndim <= along < ndim:
        raise ValueError(
            f"Concatenation axis {along} is out of range for shape {known}: it must be in [{-ndim}, {ndim})"
        )
    along %= ndim
    dims = [list(shape.dims_or_none or ()) for shape in shapes]
    sizes = [each[along] for each in dims]
    total = None if None in sizes else sum(sizes)
    merged = unknown_shape(ndim)
    for shape, each in zip(shapes, dims):
        try:
            merged = merged.merge_with(TensorShape.of((*each[:along], None, *each[along + 1 :])))
        except ValueError:
            others = ", ".join(str(other) for other in shapes)
            raise ValueError(
                f"Cannot concatenate along axis {along}: the other dimensions of {shape} differ ({others})"
            ) from None
    result = merged.as_list()
    return TensorShape.of((*result[:along], total, *result[along + 1 :]))


def _concat_gradients(values: Sequence[Any], axis: Any, g: Any) -> list[Any]:
    """The part of `g` that belongs to each of `values`."""
    if isinstance(g, IndexedSlices):
        along = constant_value(axis)
        if (
            along is not None
            and along != 0
            and values[0].shape.ndims is not None
            and int(along) % values[0].shape.ndims
        ):
            return _sparse_parts(values, int(along) % values[0].shape.ndims, g)
        g = convert_to_tensor(g)
    if axis.dtype.base_dtype != dtypes.int32:
        axis = raw.Cast(axis, DstT=dtypes.int32)
    known = constant_value(axis)
    if known is not None and axis.op._context is not get_default_graph()._get_control_flow_context():
        axis = constant(known)  # rather than bring it into this loop from another
    positive = raw.FloorMod(axis, rank(values[0]), name="mod")
    shapes = []
    for tensor in values:
        shapes.append(shape_of(tensor))
        if constant_value(shapes[-1]) is None:
            shapes = raw.ShapeN(list(values))
            break
    if len(values) > 16:  # one op that cuts, rather than as many
        sizes = squeeze(raw.Slice(stack(shapes, axis=1), stack([positive, 0]), [1, -1]), [0])
        return raw.SplitV(g, sizes, positive, num_split=len(values))  # type: ignore[no-any-return]
    offsets = raw.ConcatOffset(positive, shapes)
    return [raw.Slice(g, begin, size) for begin, size in zip(offsets, shapes)]


def _sparse_parts(values: Sequence[Any], along: int, g: IndexedSlices) -> list[Any]:
    """Each part of rows that were concatenated along an axis behind the first: the same rows, cut in the same places."""
    shapes = [shape_of(tensor) for tensor in values]
    sizes = stack([raw.GatherV2(shape, along, 0) for shape in shapes])
    parts = raw.SplitV(g.values, sizes, along, num_split=len(values))
    return [IndexedSlices(part, g.indices, shape) for part, shape in zip(parts, shapes)]


def _concats(rng: np.random.Generator, dtype: DType) -> Iterator[tuple[list[Any], int]]:
    for shapes, axis in (
        (((2, 3), (1, 3)), 0), (((2, 3), (2, 1), (2, 0)), 1), (((3,), (2,)), -1), (((0, 2), (0, 2)), 0),
        (((2, 1, 2), (2, 3, 2)), -2), (((1,),) * 17, 0),
    ):  # fmt: skip
        yield [random_array(rng, dtype, shape) for shape in shapes], axis


def _concat_v2_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (values, axis) in enumerate(_concats(rng, dtype)):
        yield Sample(values, np.array(axis, _INDEX[i % 2]))


def _joined(values: Sequence[Any], axis: Any) -> Any:
    """Row by row, by way of lists."""
    along = int(axis) % values[0].ndim
    rows = [row for value in values for row in np.moveaxis(value, along, 0)]
    shape = [len(rows), *np.moveaxis(values[0], along, 0).shape[1:]]
    result = np.empty(shape, values[0].dtype)
    for i, row in enumerate(rows):
        result[i] = row
    return np.moveaxis(result, 0, along)


concat_v2_op = op(
    "ConcatV2(values: N * T, axis: Tidx; N: int >= 2, T: type, Tidx: index = int32) -> output: T",
    kernel=_concat_v2,
    shape=lambda node: _concat_shape(node.inputs[:-1], node.inputs[-1]),
    grad=lambda node, g: [*_concat_gradients(node.inputs[:-1], node.inputs[-1], g), None],
    samples=_concat_v2_samples,
    reference=lambda values, axis, **_: _joined(values, axis),
    memory={"axis": HOST},
    int32_on_host=True,
)


def _concat_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for values, axis in _concats(rng, dtype):
        yield Sample(np.array(axis, np.int32), values)


concat_op = op(
    "Concat(concat_dim: int32, values: N * T; N: int >= 2, T: type) -> output: T",
    kernel=lambda k, axis, *values: _concatenate(k, values, axis),
    shape=lambda node: _concat_shape(node.inputs[1:], node.inputs[0]),
    grad=lambda node, g: [None, *_concat_gradients(node.inputs[1:], node.inputs[0], g)],
    samples=_concat_samples,
    reference=lambda axis, values, **_: _joined(values, axis),
    memory={"concat_dim": HOST},
    int32_on_host=True,
)


def _concat_offset(k: Any, concat_dim: Any, *shapes: Any) -> Any:
    along, count = integer(concat_dim, "concat_dim"), shapes[0].shape[0]
    if not -count <= along < count:
        raise invalid(f"Concat dim is out of range: {along} vs. {count}")
    along %= count
    first, start, offsets = ints(shapes[0]), 0, []
    for i, shape in enumerate(shapes):
        dims = ints(shape)
        if len(dims) != count or any(a != b for d, (a, b) in enumerate(zip(first, dims)) if d != along):
            raise invalid(
                f"All dimensions except {along} must match. Input {i} has shape {shape_text(dims)} and doesn't match input 0 "
                f"with shape {shape_text(first)}."
            )
        offset = [0] * count
        offset[along] = start
        start += dims[along]
        offsets.append(k.xp.asarray(offset, dtype=shape.dtype))
    return tuple(offsets)


def _offsets(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    index = np.dtype(np.int32) if dtype is None else dtype.np_dtype
    for axis, shapes in ((1, ((2, 3), (2, 5), (2, 0))), (-1, ((4,), (1,))), (0, ((1, 7, 2), (3, 7, 2)))):
        yield Sample(np.array(axis, np.int32), [np.array(shape, index) for shape in shapes])


def _offset_reference(axis: Any, shapes: Sequence[Any], **_: Any) -> list[Any]:
    stacked = np.stack(shapes)
    mask = np.arange(stacked.shape[1]) == int(axis) % stacked.shape[1]
    return list((np.cumsum(stacked, axis=0) - stacked) * mask)


concat_offset_op = op(
    "ConcatOffset(concat_dim: int32, shape: N * shape_type; N: int >= 2, shape_type: index = int32) -> offset: N * shape_type",
    kernel=_concat_offset,
    shape=lambda node: [tensor.shape for tensor in node.inputs[1:]],
    grad=NotDifferentiable,
    samples=_offsets,
    reference=_offset_reference,
    memory=HOST,
)


def concat(values: Any, axis: Any, name: str | None = "concat") -> Any:
    """The tensors of the list `values` one after the other along `axis`; their other dimensions are equal.

    Raises ValueError at build time, or InvalidArgumentError when run, if they are not.
    """
    if not isinstance(values, list | tuple):
        values = [values]
    if len(values) == 1:
        with name_scope(name, "concat"):
            convert_to_tensor(axis, dtypes.int32, "concat_dim").shape.assert_has_rank(0)
            return raw.Identity(values[0], name="concat")
    return raw.ConcatV2(list(values), axis, name=name or "concat")
