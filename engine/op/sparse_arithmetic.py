"""Arithmetic on sparse tensors: SparseAdd, SparseTensorDenseAdd, SparseDenseCwise*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.sparse_tensor import SparseTensor, is_sparse
from engine.op.kernels import ints, invalid, shape_text, zeros
from engine.op.registry import NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.sparse_parts import (
    SIZES,
    add_at,
    as_sparse,
    dense_of,
    linear,
    parts,
    sparse_sample,
)
from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["sparse_add"]

VECTOR, MATRIX = TensorShape.of((None,)), TensorShape.of((None, None))


# Sums.  (The dtypes are those that TensorFlow has kernels for.)

_SUMMED = "{float32, float64, int8, int16, int32, int64, complex64, complex128}"


def _add(k: Any, *inputs: Any) -> tuple[Any, Any, Any]:
    a_indices, a_values, a_shape, b_indices, b_values, b_shape, threshold = inputs
    dims = parts(k, a_indices, a_values, a_shape, " (a)")
    if dims != parts(k, b_indices, b_values, b_shape, " (b)"):
        raise invalid(
            f"Operands do not have the same shape: {shape_text(dims)} and {shape_text(ints(b_shape))}"
        )
    if threshold.ndim:
        raise invalid(f"The magnitude threshold must be a scalar: got shape {shape_text(threshold.shape)}")
    # As a merge of two sorted lists: an element of each side at one position adds up, the rest stays.
    merged: list[tuple[int, int]] = []
    i = j = 0
    left, right = linear(k, a_indices, dims).tolist(), linear(k, b_indices, dims).tolist()
    while i < len(left) or j < len(right):
        take_a = j == len(right) or (i < len(left) and left[i] <= right[j])
        take_b = i == len(left) or (j < len(right) and right[j] <= left[i])
        merged.append((i if take_a else -1, j if take_b else -1))
        i, j = i + take_a, j + take_b
    positions, values = [], []
    for at_a, at_b in merged:
        both = at_a >= 0 and at_b >= 0
        if both:
            value = a_values[at_a] + b_values[at_b]
        else:
            value = a_values[at_a] if at_a >= 0 else b_values[at_b]
        if not both or threshold <= abs(value):  # what is on one side alone stays, however small
            positions.append(a_indices[at_a] if at_a >= 0 else b_indices[at_b])
            values.append(value)
    return (
        k.xp.asarray(positions, dtype=np.int64).reshape((len(values), len(dims))),
        k.xp.asarray(values, dtype=a_values.dtype),
        a_shape,
    )


def _add_shape(node: Any) -> list[TensorShape]:
    dims = node.inputs[2].shape.merge_with(node.inputs[5].shape).with_rank(1)
    return [TensorShape.of((None, dims[0].value)), VECTOR, dims]


def _add_grad(node: Any, *grads: Any) -> Any:
    found = raw.SparseAddGrad(grads[1], node.inputs[0], node.inputs[3], node.outputs[0])
    for gradient, tensor in zip(found, (node.inputs[1], node.inputs[4]), strict=True):
        gradient.set_shape(tensor.shape)
    return None, found[0], None, None, found[1], None, None


def _add_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in SIZES:
        for threshold in (0, 1):
            yield Sample(
                *sparse_sample(rng, dtype, dims, count),
                *sparse_sample(rng, dtype, dims, min(count, 4)),
                np.array(threshold, dtype.real_dtype.np_dtype),
                # What falls under the threshold jumps.
                grad=(1, 4) if threshold == 0 else (),
            )


def _add_reference(
    a_indices: Any, a_values: Any, a_shape: Any, b_indices: Any, b_values: Any, b_shape: Any, threshold: Any
) -> list[Any]:
    sums: dict[tuple[int, ...], Any] = {}
    for indices, values in ((a_indices, a_values), (b_indices, b_values)):
        for position, value in zip(indices.tolist(), values, strict=True):
            sums[tuple(position)] = sums.get(tuple(position), 0) + value
    twice = {tuple(each) for each in a_indices.tolist()} & {tuple(each) for each in b_indices.tolist()}
    keys = [key for key in sorted(sums) if key not in twice or abs(sums[key]) >= threshold]
    return [
        np.array(keys, np.int64).reshape(len(keys), len(a_shape)),
        np.array([sums[key] for key in keys], a_values.dtype),
        a_shape,
    ]


op(
    "SparseAdd(a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64, thresh: Treal; "
    f"T: {_SUMMED}, Treal: reals) -> sum_indices: int64, sum_values: T, sum_shape: int64",
    kernel=_add,
    shape=_add_shape,
    grad=_add_grad,
    samples=_add_samples,
    reference=_add_reference,
    devices=("CPU",),
)


def _back_to(k: Any, gradient: Any, indices: Any, sums: Any) -> Any:
    """For each position the gradient at the sum there; zero where the sum was dropped."""
    found = zeros(k.xp, (indices.shape[0],), gradient.dtype)
    places = {tuple(position): i for i, position in enumerate(sums.tolist())}
    for i, position in enumerate(indices.tolist()):
        at = places.get(tuple(position))
        if at is not None:
            found[i] = gradient[at]
    return found


def _sum_grad(k: Any, gradient: Any, a_indices: Any, b_indices: Any, sums: Any) -> tuple[Any, Any]:
    if gradient.shape[0] != sums.shape[0]:
        raise invalid(
            f"# elements and # nnz of the sum must match: {gradient.shape[0]} gradients, {sums.shape[0]} sums"
        )
    return _back_to(k, gradient, a_indices, sums), _back_to(k, gradient, b_indices, sums)


def _sum_grad_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    a, b = sparse_sample(rng, dtype, (3, 4), 5)[0], sparse_sample(rng, dtype, (3, 4), 4)[0]
    both = np.unique(np.concatenate([a, b]), axis=0)
    for kept in (both, both[::2]):
        yield Sample(random_array(rng, dtype, (len(kept),)), a, b, kept)


def _sum_grad_reference(gradient: Any, a_indices: Any, b_indices: Any, sums: Any) -> list[Any]:
    dense = dense_of(sums, gradient, np.max(np.concatenate([a_indices, b_indices]), axis=0) + 1)
    return [dense[tuple(a_indices.T)], dense[tuple(b_indices.T)]]


op(
    f"SparseAddGrad(backprop_val_grad: T, a_indices: int64, b_indices: int64, sum_indices: int64; T: {_SUMMED}) "
    "-> a_val_grad: T, b_val_grad: T",
    kernel=_sum_grad,
    shape=lambda node: [TensorShape.of((tensor.shape.with_rank(2)[0].value,)) for tensor in node.inputs[1:3]],
    grad=NotDifferentiable,
    samples=_sum_grad_samples,
    reference=_sum_grad_reference,
    devices=("CPU",),
)


def _dense_add(k: Any, indices: Any, values: Any, dims: Any, b: Any) -> Any:
    if parts(k, indices, values, dims) != b.shape:
        raise invalid(
            f"Dimensions of the operands do not match: the sparse one has shape {shape_text(ints(dims))}, the dense one "
            f"{shape_text(b.shape)}"
        )
    total = b.reshape(-1).copy()
    add_at(k.xp, total, linear(k, indices, b.shape), values)
    return total.reshape(b.shape)


def _dense_add_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, count in SIZES:
        yield Sample(*sparse_sample(rng, dtype, dims, count), random_array(rng, dtype, dims))


op(
    "SparseTensorDenseAdd(a_indices: Tindices, a_values: T, a_shape: Tindices, b: T; T: numbers, Tindices: index) -> output: T",
    kernel=_dense_add,
    shape=lambda node: node.inputs[3].shape,
    grad=lambda node, g: (None, raw.GatherNd(g, node.inputs[0]), None, g),
    samples=_dense_add_samples,
    reference=lambda indices, values, dims, b: dense_of(indices, values, dims) + b,
    devices=("CPU",),
)


# TensorFlow's functions.


def sparse_add(a: Any, b: Any, threshold: Any = None, thresh: Any = None) -> Any:
    """The sum of two tensors of which one at least is sparse: sparse if both are, else dense.

    threshold: where both sparse tensors have a value, a sum that is smaller than this in magnitude is left out.  Raises
    TypeError if neither is sparse.
    """
    if not is_sparse(a) and not is_sparse(b):
        raise TypeError("At least one input should be SparseTensor; do you mean to use tf.add()?")
    if is_sparse(a) and is_sparse(b):
        left, right = as_sparse(a), as_sparse(b)
        limit = threshold if threshold is not None else thresh if thresh is not None else 0
        limit = convert_to_tensor(limit, left.dtype.real_dtype.base_dtype, name="threshold")
        made = raw.SparseAdd(
            left.indices, left.values, left.dense_shape, right.indices, right.values, right.dense_shape, limit
        )
        result = SparseTensor(*made)
        result.set_shape(left.shape.merge_with(right.shape))
        return result
    if is_sparse(b):
        a, b = b, a
    sparse = as_sparse(a)
    return raw.SparseTensorDenseAdd(sparse.indices, sparse.values, sparse.dense_shape, b)


# Elementwise with a dense tensor that is broadcast to the sparse one's shape; the result has the sparse one's positions.


def _cwise(name: str, ufunc: str, grad: Any) -> None:
    def kernel(k: Any, indices: Any, values: Any, dims: Any, dense: Any) -> Any:
        wanted = parts(k, indices, values, dims)
        try:
            spread = k.xp.broadcast_to(dense, wanted)
        except ValueError:
            raise invalid(
                "SparseDenseBinaryOpShared broadcasts dense to sparse only; got incompatible shapes: "
                f"{shape_text(wanted)} vs. {shape_text(dense.shape)}"
            ) from None
        others = spread[tuple(indices.T)]
        if ufunc == "divide" and values.dtype.kind in "iu":
            if (others == 0).any():
                raise invalid("Integer division by zero")
            quotient = k.xp.absolute(values) // k.xp.absolute(others)
            return (quotient * (k.xp.sign(values) * k.xp.sign(others))).astype(values.dtype)
        return getattr(k.xp, ufunc)(values, others).astype(values.dtype)

    def samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
        for dims, count in SIZES:
            for shape in (dims, (1, *dims[1:]), dims[1:]):
                dense = random_array(rng, dtype, shape)
                if ufunc == "divide":
                    dense = np.where(np.abs(dense) < 1, np.asarray(2, dense.dtype), dense)
                yield Sample(*sparse_sample(rng, dtype, dims, count), dense)

    def reference(indices: Any, values: Any, dims: Any, dense: Any) -> Any:
        others = np.broadcast_to(dense, tuple(dims))[tuple(indices.T)]
        if ufunc == "divide" and values.dtype.kind in "iu":
            return np.trunc(values / others)
        return getattr(np, ufunc)(values, others)

    op(
        f"{name}(sp_indices: int64, sp_values: T, sp_shape: int64, dense: T; T: reals) -> output: T",
        kernel=kernel,
        shape=lambda node: node.inputs[1].shape.with_rank(1),
        grad=grad,
        samples=samples,
        reference=reference,
        devices=("CPU",),
    )


def _picked(node: Any) -> tuple[Any, Any, Any]:
    """Where each value meets the dense tensor: positions in it, its values there, and its shape."""
    indices, _, dims, dense = node.inputs
    shape = raw.Cast(raw.Shape(dense), DstT=dtypes.int64)
    added = raw.ExpandDims(raw.Size(dims) - raw.Size(shape), 0)
    full = raw.ConcatV2([raw.Fill(added, np.int64(1)), shape], 0)
    scaled = raw.FloorDiv(indices, raw.FloorDiv(dims, full))
    positions = raw.Slice(scaled, raw.ConcatV2([[0], added], 0), [-1, -1])
    return positions, raw.GatherNd(dense, positions), shape


def _onto_dense(node: Any, positions: Any, values: Any, shape: Any) -> Any:
    # Positions repeat where the dense tensor is broadcast, and add up.
    return raw.SparseTensorDenseAdd(positions, values, shape, raw.ZerosLike(node.inputs[3]))


def _times_grad(node: Any, g: Any) -> Any:
    positions, others, shape = _picked(node)
    return None, g * others, None, _onto_dense(node, positions, g * node.inputs[1], shape)


def _over_grad(node: Any, g: Any) -> Any:
    positions, others, shape = _picked(node)
    of_dense = g * (-node.inputs[1] / raw.Square(others))
    return None, g / others, None, _onto_dense(node, positions, of_dense, shape)


_cwise("SparseDenseCwiseMul", "multiply", _times_grad)
_cwise("SparseDenseCwiseDiv", "divide", _over_grad)
_cwise("SparseDenseCwiseAdd", "add", None)


def _with_dense(op_type: str) -> Any:
    def operator(self: SparseTensor, dense: Any) -> SparseTensor:
        other = convert_to_tensor(dense, self.dtype.base_dtype)
        values = getattr(raw, op_type)(self.indices, self.values, self.dense_shape, other)
        return SparseTensor(self.indices, values, self.dense_shape)

    return operator


# A sparse tensor times or over a dense one, which is broadcast to its shape.
for _name, _op_type in (("mul", "SparseDenseCwiseMul"), ("truediv", "SparseDenseCwiseDiv")):
    setattr(SparseTensor, f"__{_name}__", _with_dense(_op_type))
