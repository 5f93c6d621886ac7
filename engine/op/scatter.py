"""Putting elements at indices: ScatterNd, TensorScatterUpdate, TensorScatterAdd, OneHot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.atomics import combine_at
from engine.op.const import constant
from engine.op.gather_nd import check_nd_indices
from engine.op.kernels import integer, ints, invalid, shape_text, zeros
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value, constant_value_as_shape, unchanged
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

__all__ = ["one_hot", "scatter_nd", "tensor_scatter_add", "tensor_scatter_update"]


# ScatterNd: into zeros; several updates of one place add up.


def _flat_rows(k: Any, indices: Any, updates: Any, shape: Sequence[int]) -> tuple[Any, Any]:
    """For each row of `indices` the number of the slice it names, and `updates` with one row for each."""
    if indices.ndim < 1:
        raise invalid("indices must be at least a vector")
    depth = indices.shape[-1]
    wanted = (*indices.shape[:-1], *shape[depth:])
    if depth > len(shape) or updates.shape != wanted:
        raise invalid(
            f"updates of shape {shape_text(updates.shape)} do not fit indices of shape {shape_text(indices.shape)} into shape "
            f"{shape_text(shape)}: they must have shape {shape_text(wanted)}"
        )
    check_nd_indices(k, indices, shape, "shape ")
    rows = k.xp.zeros(indices.shape[:-1], dtype=np.int64)
    for i in range(depth):
        rows = rows * shape[i] + indices[..., i]
    width = math.prod(shape[depth:])
    return rows.reshape(-1), updates.reshape((math.prod(indices.shape[:-1]), width))


def _scatter_nd(k: Any, indices: Any, updates: Any, shape: Any) -> Any:
    dims = ints(shape)
    if any(size < 0 for size in dims):
        raise invalid(f"Invalid shape: {shape_text(dims)}")
    rows, flat = _flat_rows(k, indices, updates, dims)
    depth = indices.shape[-1]
    result = zeros(k.xp, (math.prod(dims[:depth]), math.prod(dims[depth:])), updates.dtype)
    combine_at(k.xp, "add", result, rows, flat)
    return result.reshape(dims)


def _scatter_nd_shape(node: Any) -> TensorShape:
    indices, updates, shape = node.inputs
    result = constant_value_as_shape(shape)
    picks = indices.shape.dims_or_none
    if result.dims_or_none is not None and picks:
        _check_updates(picks, updates.shape, result)
    return result


def _check_updates(picks: Sequence[int | None], updates: TensorShape, shape: TensorShape) -> None:
    depth = picks[-1]
    if depth is None:
        return
    if depth > len(shape):
        raise ValueError(f"indices of shape {TensorShape(picks)} name {depth} axes of shape {shape}")
    wanted = TensorShape.of(tuple(picks[:-1])).concatenate(shape[depth:])
    if not wanted.is_compatible_with(updates):
        raise ValueError(
            f"updates of shape {updates} must have shape {wanted}, by the indices and the shape {shape}"
        )


_PLACES: tuple[tuple[tuple[int, ...], Any], ...] = (
    ((5,), [[0], [3]]),
    ((4, 3), [[1], [3]]),
    ((4, 3), [[1, 2], [3, 0], [0, 0]]),
    ((2, 2, 2), [[[0, 1]], [[1, 1]]]),
    ((3,), np.zeros((0, 1))),
    ((2, 0), [[1]]),
)


def _scatters(rng: np.random.Generator, dtype: DType) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    for i, (shape, places) in enumerate(_PLACES):
        indices = np.array(places, (np.int32, np.int64)[i % 2])
        updates = random_array(rng, dtype, (*indices.shape[:-1], *shape[indices.shape[-1] :]))
        yield shape, indices, updates


def _scatter_nds(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, indices, updates in _scatters(rng, dtype):
        yield Sample(indices, updates, np.array(shape, indices.dtype))
    yield Sample(
        np.array([[1], [1], [0]], np.int32), random_array(rng, dtype, (3, 2)), np.array([3, 2], np.int32)
    )


def _placed(result: Any, indices: Any, updates: Any, add: bool) -> Any:
    for position in np.ndindex(*indices.shape[:-1]):
        place = (*indices[position].tolist(), ...)
        result[place] = result[place] + updates[position] if add else updates[position]
    return result


def _scatter_reference(indices: Any, updates: Any, shape: Any, **_: Any) -> Any:
    result = np.full([int(size) for size in shape], b"" if updates.dtype == object else 0, updates.dtype)
    return _placed(result, indices, updates, True)


_NO_POLICY = "bad_indices_policy: string = ''"

scatter_nd_op = op(
    f"ScatterNd(indices: Tindices, updates: T, shape: Tindices; T: type, Tindices: {{int16, int32, int64}}, {_NO_POLICY}) "
    "-> output: T",
    kernel=_scatter_nd,
    shape=_scatter_nd_shape,
    grad=lambda node, g: (None, raw.GatherNd(g, node.inputs[0]), None),
    samples=_scatter_nds,
    reference=_scatter_reference,
    memory={"shape": HOST},
)


# TensorScatterUpdate and TensorScatterAdd: into a copy of a tensor.


def _scatter_into(k: Any, tensor: Any, indices: Any, updates: Any) -> Any:
    rows, flat = _flat_rows(k, indices, updates, tensor.shape)
    result = tensor.copy().reshape(
        (-1 if flat.shape[1] else math.prod(tensor.shape[: indices.shape[-1]]), flat.shape[1])
    )
    if k.op.type == "TensorScatterAdd":
        combine_at(k.xp, "add", result, rows, flat)
    else:
        result[rows] = flat
    return result.reshape(tensor.shape)


def _into_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, indices, updates in _scatters(rng, dtype):
        yield Sample(random_array(rng, dtype, shape), indices, updates)


def _update_grad(node: Any, g: Any) -> Any:
    _, indices, updates = node.inputs
    return raw.TensorScatterUpdate(g, indices, raw.ZerosLike(updates)), None, raw.GatherNd(g, indices)


tensor_scatter_update_op = op(
    f"TensorScatterUpdate(tensor: T, indices: Tindices, updates: T; T: type, "
    f"Tindices: {{int16, int32, int64, uint16}}, {_NO_POLICY})"
    " -> output: T",
    kernel=_scatter_into,
    shape=unchanged,
    grad=_update_grad,
    samples=_into_samples,
    reference=lambda tensor, indices, updates, **_: _placed(
        np.array(tensor, copy=True), indices, updates, False
    ),
)

tensor_scatter_add_op = op(
    f"TensorScatterAdd(tensor: T, indices: Tindices, updates: T; T: type, Tindices: index, {_NO_POLICY}) -> output: T",
    kernel=_scatter_into,
    shape=unchanged,
    grad=lambda node, g: (g, None, raw.GatherNd(g, node.inputs[1])),
    samples=_into_samples,
    reference=lambda tensor, indices, updates, **_: _placed(
        np.array(tensor, copy=True), indices, updates, True
    ),
)


# OneHot.


def _one_hot(k: Any, indices: Any, depth: Any, on_value: Any, off_value: Any) -> Any:
    axis, count = k.attrs["axis"], integer(depth, "depth")
    if not -1 <= axis <= indices.ndim:
        raise invalid(f"Expected axis to be -1 or between [0, {indices.ndim}].  But received: {axis}")
    if count < 0:
        raise invalid(f"depth must be non-negative, got: {count}")
    axis = indices.ndim if axis == -1 else axis
    # In int64, as a depth may be beyond what a small index type counts to.
    classes = k.xp.arange(count).reshape((count,) + (1,) * (indices.ndim - axis))
    hot = k.xp.expand_dims(indices.astype(np.int64), axis) == classes
    return k.xp.where(hot, on_value, off_value)


def _one_hot_shape(node: Any) -> TensorShape:
    indices, depth = node.inputs[:2]
    for scalar in node.inputs[1:]:
        scalar.shape.with_rank(0)
    dims, axis, count = indices.shape.dims_or_none, node.attrs["axis"], constant_value(depth)
    if dims is None:
        return TensorShape.of(None)
    if not -1 <= axis <= len(dims):
        raise ValueError(f"axis must be -1 or in [0, {len(dims)}], not {axis}")
    if count is not None and count < 0:
        raise ValueError(f"depth must be non-negative, got: {int(count)}")
    axis = len(dims) if axis == -1 else axis
    return TensorShape.of((*dims[:axis], None if count is None else int(count), *dims[axis:]))


def _one_hots(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (indices, depth, axis) in enumerate(
        (([0, 2, -1], 3, -1), ([[0, 1], [2, 5]], 4, 1), (1, 3, -1), (np.zeros((0, 2)), 2, 0), ([1], 0, -1))
    ):
        index_type = (np.int32, np.int64, np.int8)[i % 3]
        values = [random_array(rng, dtype, ()) for _ in range(2)]
        yield Sample(np.array(indices, index_type), np.array(depth, np.int32), *values, attrs={"axis": axis})


def _one_hot_reference(
    indices: Any, depth: Any, on_value: Any, off_value: Any, axis: int = -1, **_: Any
) -> Any:
    result = np.empty((*indices.shape, int(depth)), np.asarray(off_value).dtype)
    result[...] = off_value
    for position in np.ndindex(*indices.shape):
        if 0 <= indices[position] < depth:
            result[(*position, int(indices[position]))] = np.asarray(on_value).item()
    return np.moveaxis(result, -1, axis)


one_hot_op = op(
    "OneHot(indices: TI, depth: int32, on_value: T, off_value: T; axis: int = -1, T: type, "
    "TI: {uint8, int8, int32, int64} = int64) "
    "-> output: T",
    kernel=_one_hot,
    shape=_one_hot_shape,
    grad=NotDifferentiable,
    samples=_one_hots,
    reference=_one_hot_reference,
    memory={"depth": HOST},
)


# Under TensorFlow 1's names.


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Any:
    """Zeros of `shape` with `updates` added at each row of `indices`, an int tensor [..., K] that names the first K axes.

    updates: [..., *shape[K:]].  An index out of range raises InvalidArgumentError when run.
    """
    return raw.ScatterNd(indices, updates, shape, name=name)


def tensor_scatter_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Any:
    """`tensor` with the slices at each row of `indices` replaced by `updates`."""
    return raw.TensorScatterUpdate(tensor, indices, updates, name=name)


def tensor_scatter_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Any:
    """`tensor` with `updates` added to the slices at each row of `indices`."""
    return raw.TensorScatterAdd(tensor, indices, updates, name=name)


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Any:
    """`on_value` (1) where the position along a new axis of `depth` entries is the index, `off_value` (0) elsewhere.

    The axis is the last, or `axis`; an index out of [0, depth) gives `off_value` all along.  The dtype is `dtype`, or that of the
    values, or float32.  Raises TypeError where they disagree.
    """
    with name_scope(name, "one_hot", [indices, depth, on_value, off_value]) as scope:
        found = None if dtype is None else as_dtype(dtype)
        given = []
        for value in (on_value, off_value):
            tensor = None if value is None else convert_to_tensor(value, found)
            given.append(tensor)
            if tensor is not None:
                found = tensor.dtype.base_dtype
        on, off = given
        wanted = found or dtypes.float32
        if on is None or off is None:
            if not (wanted.is_floating or wanted.is_integer or wanted.is_complex):
                raise TypeError(f"tf.one_hot of dtype {wanted.name} needs both on_value and off_value")
            on = constant(1, wanted, name="on_value") if on is None else on
            off = constant(0, wanted, name="off_value") if off is None else off
        return raw.OneHot(indices, depth, on, off, axis=-1 if axis is None else axis, name=scope)
