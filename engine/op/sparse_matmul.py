"""A sparse matrix times a dense one: SparseTensorDenseMatMul."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.sparse_tensor import is_sparse
from engine.op.array import expand_dims, squeeze
from engine.op.gather import gather
from engine.op.kernels import ints, invalid, shape_text, zeros
from engine.op.matmul import matmul
from engine.op.permute import matrix_transpose, transpose
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value_as_shape
from engine.op.sparse_parts import add_at, as_sparse, check_bounds, sparse_sample
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["sparse_tensor_dense_matmul"]


def _matmul(k: Any, indices: Any, values: Any, dims: Any, b: Any) -> Any:
    if dims.shape != (2,) or b.ndim != 2:
        raise invalid(
            f"Both operands must be matrices: the sparse one has {dims.size} dimensions, the dense one has shape "
            f"{shape_text(b.shape)}"
        )
    height, width = ints(dims)
    rows, columns = indices[:, 0], indices[:, 1]
    check_bounds(k, indices, (height, width))
    if k.attrs["adjoint_a"]:
        rows, columns, height, width = columns, rows, width, height
        values = k.xp.conjugate(values) if values.dtype.kind == "c" else values
    if k.attrs["adjoint_b"]:
        b = k.xp.conjugate(b.T) if b.dtype.kind == "c" else b.T
    if width != b.shape[0]:
        raise invalid(
            f"Cannot multiply A and B because inner dimension does not match: {width} vs. {b.shape[0]}.  "
            "Did you forget a transpose?"
        )
    product = zeros(k.xp, (height, b.shape[1]), values.dtype)
    if values.dtype.itemsize == 2 and values.dtype.kind in "fV":
        wide = values.astype(np.float32)[:, None] * b.astype(np.float32)[columns]
        total = k.xp.zeros(product.shape, np.float32)
        k.xp.add.at(total, rows, wide)
        return total.astype(values.dtype)
    add_at(k.xp, product, rows, values[:, None] * b[columns])
    return product


def _matmul_shape(node: Any) -> TensorShape:
    a = constant_value_as_shape(node.inputs[2]).with_rank(2).as_list()
    b = node.inputs[3].shape.with_rank(2).as_list()
    if node.attrs["adjoint_a"]:
        a.reverse()
    if node.attrs["adjoint_b"]:
        b.reverse()
    if None not in (a[1], b[0]) and a[1] != b[0]:
        raise ValueError(f"Dimensions must be equal, but are {a[1]} and {b[0]}")
    return TensorShape.of((a[0], b[1]))


def _matmul_grad(node: Any, g: Any) -> Any:
    indices, values, dims, b = node.inputs
    adjoint_a, adjoint_b = node.attrs["adjoint_a"], node.attrs["adjoint_b"]
    of_b = raw.SparseTensorDenseMatMul(indices, values, dims, g, adjoint_a=not adjoint_a)
    if adjoint_b:
        of_b = matrix_transpose(of_b, conjugate=True)
    # The gradient of a's element (r, c) is the product of row r of g with column c of b's adjoint: one small product each.
    rows, columns = indices[:, 0], indices[:, 1]
    left = gather(g, columns if adjoint_a else rows)
    right = gather(transpose(b) if adjoint_b else b, rows if adjoint_a else columns)
    axis = -1 if adjoint_a else -2
    of_values = matmul(
        expand_dims(left, axis),
        expand_dims(right, -1 if adjoint_a != adjoint_b else -2),
        adjoint_a=adjoint_a,
        adjoint_b=adjoint_a == adjoint_b,
    )
    return None, squeeze(of_values, axis=[-2, -1]), None, of_b


def _matmul_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for adjoint_a in (False, True):
        for adjoint_b in (False, True):
            inner = 3 if adjoint_a else 4
            dense = (2, inner) if adjoint_b else (inner, 2)
            yield Sample(
                *sparse_sample(rng, dtype, (3, 4), 6),
                random_array(rng, dtype, dense),
                attrs={"adjoint_a": adjoint_a, "adjoint_b": adjoint_b},
            )
    indices, values, dims = sparse_sample(rng, dtype, (3, 4), 5)
    repeated = np.concatenate([indices, indices[:1]]).astype(np.int32)
    yield Sample(
        repeated,
        np.concatenate([values, values[:1]]),
        dims,
        random_array(rng, dtype, (4, 2)),
        note="repeated",
    )
    yield Sample(*sparse_sample(rng, dtype, (3, 4), 0), random_array(rng, dtype, (4, 2)))


def _matmul_reference(
    indices: Any, values: Any, dims: Any, b: Any, adjoint_a: bool = False, adjoint_b: bool = False
) -> Any:
    a = np.zeros(tuple(dims), values.dtype)
    for (row, column), value in zip(indices.tolist(), values, strict=True):
        a[row, column] += value
    return (a.conj().T if adjoint_a else a) @ (b.conj().T if adjoint_b else b)


op(
    "SparseTensorDenseMatMul(a_indices: Tindices, a_values: T, a_shape: int64, b: T; "
    # The dtypes that TensorFlow has kernels for.
    "T: {bfloat16, float16, float32, float64, int32, complex64, complex128}, Tindices: index = int64, "
    "adjoint_a: bool = False, adjoint_b: bool = False) -> product: T",
    kernel=_matmul,
    shape=_matmul_shape,
    grad=_matmul_grad,
    samples=_matmul_samples,
    reference=_matmul_reference,
    memory={"a_shape": HOST},
)


def sparse_tensor_dense_matmul(
    sp_a: Any, b: Any, adjoint_a: bool = False, adjoint_b: bool = False, name: str | None = None
) -> Any:
    """A sparse matrix times a dense one (either may be the sparse one), each transposed and conjugated if its flag says so."""
    if is_sparse(b):
        # (a b) is the adjoint of (b's adjoint times a's adjoint).
        with name_scope(name, "SparseTensorDenseMatMul", [sp_a]):
            turned = sparse_tensor_dense_matmul(b, sp_a, not adjoint_b, not adjoint_a)
            return transpose(turned, conjugate=True)
    sparse = as_sparse(sp_a)
    with name_scope(name, "SparseTensorDenseMatMul", [sparse.indices, sparse.values, b]):
        dense = convert_to_tensor(b, name="b")
        return raw.SparseTensorDenseMatMul(
            sparse.indices,
            sparse.values,
            sparse.dense_shape,
            dense,
            adjoint_a=adjoint_a,
            adjoint_b=adjoint_b,
        )
