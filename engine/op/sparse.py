"""Sparse tensors and what moves their values: SparseToDense, SparseReorder, SparseReshape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.sparse_tensor import SparseTensor
from engine.op.array import reshape, shape
from engine.op.fills import zeros, zeros_like
from engine.op.gather import gather
from engine.op.kernels import filled, ints, invalid, shape_text
from engine.op.placeholder import placeholder, placeholder_with_default
from engine.op.ranges import range as range_op
from engine.op.reduce import reduce_sum
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value, constant_value_as_shape
from engine.op.sparse_parts import (
    SIZES,
    as_sparse,
    check_bounds,
    check_order,
    dense_of,
    linear,
    parts,
    positions,
    sparse_sample,
)
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape, as_shape

__all__ = [
    "sparse_placeholder", "sparse_reorder", "sparse_reshape", "sparse_retain", "sparse_tensor_to_dense", "sparse_to_dense",
    "sparse_transpose",
]  # fmt: skip


# SparseToDense.


def _to_dense(k: Any, indices: Any, dense_shape: Any, values: Any, default: Any) -> Any:
    if indices.ndim > 2:
        raise invalid(
            f"sparse_indices should be a scalar, vector, or matrix, got shape {shape_text(indices.shape)}"
        )
    positions = indices.reshape((-1, 1)) if indices.ndim < 2 else indices
    dims = ints(dense_shape)
    if dense_shape.ndim != 1 or positions.shape[1] != len(dims):
        raise invalid(
            f"output_shape has incorrect number of elements: {dense_shape.size} should be: {positions.shape[1]}"
        )
    if values.ndim > 1 or (values.ndim and values.shape[0] != positions.shape[0]):
        raise invalid(
            f"sparse_values has incorrect shape {shape_text(values.shape)}, should be [] or [{positions.shape[0]}]"
        )
    if default.ndim:
        raise invalid("default_value should be a scalar.")
    check_bounds(k, positions, dims)
    if k.attrs["validate_indices"]:
        check_order(k, positions, dims)
    dense = filled(k.xp, dims, values.dtype, default)
    dense[tuple(positions.T)] = values
    return dense


def _to_dense_grad(node: Any, g: Any) -> Any:
    of_values = raw.GatherNd(g, node.inputs[0])
    of_default = reduce_sum(g) - reduce_sum(of_values)
    return zeros_like(node.inputs[0]), zeros_like(node.inputs[1]), of_values, of_default


def _to_dense_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in SIZES:
        indices, values, dense_shape = sparse_sample(rng, dtype, dims, count)
        yield Sample(indices, dense_shape, values, random_array(rng, dtype, ()))
    shuffled = rng.permutation(positions(rng, (3, 4), 5)).astype(np.int32)
    yield Sample(
        shuffled, np.array([3, 4], np.int32), random_array(rng, dtype, (5,)), random_array(rng, dtype, ()),
        attrs={"validate_indices": False},
    )  # fmt: skip
    # Rank 1 indices in a vector; one value for all positions.
    yield Sample(
        np.array([1, 3], np.int64), np.array([5], np.int64), random_array(rng, dtype, ()), random_array(rng, dtype, ()),
        grad=(),
    )  # fmt: skip


def _to_dense_reference(indices: Any, dense_shape: Any, values: Any, default: Any, **_: Any) -> Any:
    positions = np.asarray(indices).reshape((-1, len(dense_shape)))
    return dense_of(positions, np.broadcast_to(values, positions.shape[:1]), dense_shape, default)


op(
    "SparseToDense(sparse_indices: Tindices, output_shape: Tindices, sparse_values: T, default_value: T; "
    "validate_indices: bool = True, T: type, Tindices: index) -> dense: T",
    kernel=_to_dense,
    shape=lambda node: constant_value_as_shape(node.inputs[1]),
    grad=_to_dense_grad,
    samples=_to_dense_samples,
    reference=_to_dense_reference,
    devices=("CPU",),
)


# SparseReorder.


def _reorder(k: Any, indices: Any, values: Any, dense_shape: Any) -> tuple[Any, Any]:
    dims = parts(k, indices, values, dense_shape)
    order = k.xp.argsort(linear(k, indices, dims), kind="stable")
    return indices[order], values[order]


def _reorder_grad(node: Any, _: Any, g: Any) -> Any:
    indices, _values, dense_shape = node.inputs
    numbers = range_op(shape(indices)[0])
    order = raw.SparseReorder(indices, numbers, dense_shape)[1]
    return None, gather(g, raw.InvertPermutation(order)), None


def _reorder_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in SIZES:
        indices, values, dense_shape = sparse_sample(rng, dtype, dims, count)
        yield Sample(rng.permutation(indices), values, dense_shape)


def _reorder_reference(indices: Any, values: Any, dense_shape: Any) -> list[Any]:
    order = sorted(range(len(values)), key=lambda i: indices[i].tolist())
    return [indices[order], values[order]]


op(
    "SparseReorder(input_indices: int64, input_values: T, input_shape: int64; T: type) "
    "-> output_indices: int64, output_values: T",
    kernel=_reorder,
    shape=lambda node: [node.inputs[0].shape.with_rank(2), node.inputs[1].shape.with_rank(1)],
    grad=_reorder_grad,
    samples=_reorder_samples,
    reference=_reorder_reference,
    devices=("CPU",),
)


# SparseReshape.


def _reshape(k: Any, indices: Any, dense_shape: Any, new_shape: Any) -> tuple[Any, Any]:
    dims, wanted = ints(dense_shape), list(ints(new_shape))
    total = math.prod(dims)
    if wanted.count(-1) > 1:
        raise invalid("only one output dimension may be -1")
    if -1 in wanted:
        known = math.prod(size for size in wanted if size != -1)
        if not known or total % known:
            raise invalid(
                f"Input to reshape is a SparseTensor with {total} dense values, but the requested shape requires a multiple of "
                f"{known}"
            )
        wanted[wanted.index(-1)] = total // known
    if math.prod(wanted) != total:
        raise invalid(
            f"Input to reshape is a tensor with {total} dense values, but the requested shape has {math.prod(wanted)}"
        )
    rest, columns = linear(k, indices, dims), []
    for size in reversed(wanted):
        columns.append(rest % size if size else rest)
        rest = rest // size if size else rest
    found = (
        k.xp.stack(columns[::-1], axis=1) if columns else k.xp.zeros((indices.shape[0], 0), dtype=np.int64)
    )
    return found.astype(np.int64), k.xp.asarray(wanted, dtype=np.int64)


def _reshape_shapes(node: Any) -> list[TensorShape]:
    rank = node.inputs[2].shape.with_rank(1)[0].value
    rows = node.inputs[0].shape.with_rank(2)[0].value
    return [TensorShape.of((rows, rank)), TensorShape.of((rank,))]


def _reshape_samples(rng: np.random.Generator, dtype: Any) -> Iterator[Sample]:
    for dims, count, wanted in (
        ((3, 4), 5, (2, 6)),
        ((2, 3, 2), 6, (-1, 4)),
        ((6,), 2, (1, 3, 2)),
        ((2, 3), 0, (6,)),
    ):
        yield Sample(positions(rng, dims, count), np.array(dims, np.int64), np.array(wanted, np.int64))


def _reshape_reference(indices: Any, dense_shape: Any, new_shape: Any) -> list[Any]:
    marks = np.zeros(tuple(dense_shape), np.int64)
    marks[tuple(indices.T)] = np.arange(1, len(indices) + 1)
    moved = marks.reshape(tuple(new_shape))
    found = [np.argwhere(moved == i + 1)[0] for i in range(len(indices))]
    return [np.array(found, np.int64).reshape(len(indices), moved.ndim), np.array(moved.shape)]


op(
    "SparseReshape(input_indices: int64, input_shape: int64, new_shape: int64) -> output_indices: int64, output_shape: int64",
    kernel=_reshape,
    shape=_reshape_shapes,
    samples=_reshape_samples,
    reference=_reshape_reference,
    devices=("CPU",),
)


# TensorFlow's functions.


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A sparse tensor that must be fed, with a SparseTensorValue or (indices, values, shape).

    shape: of the dense tensor, with None for dimensions that are not known; its shape need not be fed then.
    """
    inner = (lambda part: None) if name is None else (lambda part: f"{name}/{part}")
    rank, known = None, TensorShape(None)
    if shape is None:
        dense_shape = placeholder(dtypes.int64, shape=[None], name=inner("shape"))
    else:
        known = as_shape(shape)
        rank = known.ndims
        dims = [-1 if size is None else size for size in known.as_list()]
        default = convert_to_tensor(np.array(dims, np.int64), name=inner("shape_default"))
        dense_shape = placeholder_with_default(default, shape=[rank], name=inner("shape"))
    result = SparseTensor(
        values=placeholder(as_dtype(dtype), shape=[None], name=inner("values")),
        indices=placeholder(dtypes.int64, shape=[None, rank], name=inner("indices")),
        dense_shape=dense_shape,
    )
    result.set_shape(known)
    return result


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Any:
    """A tensor of shape `output_shape` with `sparse_values` at the positions `sparse_indices`, `default_value` elsewhere.

    validate_indices: check that positions are in row-major order and none repeats; InvalidArgumentError when run.
    """
    return raw.SparseToDense(
        sparse_indices,
        output_shape,
        sparse_values,
        default_value,
        validate_indices=validate_indices,
        name=name,
    )


def sparse_tensor_to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None
) -> Any:
    """A SparseTensor as a dense tensor, with `default_value` (None: zero) where it has no value; see `sparse_to_dense`."""
    sparse = as_sparse(sp_input)
    if default_value is None:
        default_value = zeros([], dtype=sparse.dtype)
    dense = sparse_to_dense(
        sparse.indices, sparse.dense_shape, sparse.values, default_value, validate_indices, name
    )
    dense.set_shape(sparse.shape)
    return dense


def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The same sparse tensor with its values in row-major order of their positions."""
    sparse = as_sparse(sp_input)
    found = raw.SparseReorder(sparse.indices, sparse.values, sparse.dense_shape, name=name)
    result = SparseTensor(found[0], found[1], raw.Identity(sparse.dense_shape))
    result.set_shape(sparse.shape)
    return result


def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor:
    """The same values at the positions that they have when the dense tensor is given another shape (one size may be -1)."""
    sparse = as_sparse(sp_input)
    with name_scope(name, "SparseReshape", [sparse]) as scope:
        wanted = raw.Cast(convert_to_tensor(shape, name="shape"), DstT=dtypes.int64)
        found = raw.SparseReshape(sparse.indices, sparse.dense_shape, wanted, name=scope)
    return SparseTensor(found[0], sparse.values, found[1])


def sparse_transpose(sp_input: Any, perm: Any = None, name: str | None = None) -> SparseTensor:
    """The sparse tensor with its dimensions in the order `perm` (None: reversed), in row-major order."""
    sparse = as_sparse(sp_input)
    with name_scope(name, "SparseTranspose", [sparse]):
        if perm is None:
            rank = sparse.shape.ndims
            order = (
                convert_to_tensor(np.arange(rank)[::-1].astype(np.int32))
                if rank is not None
                else (raw.Size(sparse.dense_shape) - 1) - raw.Range(0, raw.Size(sparse.dense_shape), 1)
            )
        else:
            order = convert_to_tensor(perm)
        moved = raw.Transpose(gather(raw.Transpose(sparse.indices, [1, 0]), order), [1, 0])
        dims = gather(sparse.dense_shape, order)
        known = constant_value(order)
        result = sparse_reorder(SparseTensor(moved, sparse.values, dims))
        if known is not None and sparse.shape.ndims is not None:
            result.set_shape([sparse.shape.as_list()[int(axis)] for axis in known])
        return result


def sparse_retain(sp_input: Any, to_retain: Any) -> SparseTensor:
    """The values at which the bool vector `to_retain` is true."""
    sparse = as_sparse(sp_input)
    mask = convert_to_tensor(to_retain)
    mask.shape.with_rank(1)[0].assert_is_compatible_with(sparse.values.shape.with_rank(1)[0])
    rows = reshape(raw.Where(mask), [-1])
    return SparseTensor(
        gather(sparse.indices, rows), gather(sparse.values, rows), raw.Identity(sparse.dense_shape)
    )
