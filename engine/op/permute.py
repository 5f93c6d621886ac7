"""Ops that reorder axes: Transpose, ConjugateTranspose, InvertPermutation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.array import rank
from engine.op.kernels import ints, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.types import errors
from engine.types.dtypes import DType
from engine.types.shape import TensorShape, unknown_shape

__all__ = ["invert_permutation", "matrix_transpose", "transpose"]


# Transpose.


def _permutation(perm: Any, ndim: int) -> tuple[int, ...]:
    axes = ints(perm)
    if len(axes) != ndim:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"transpose expects a vector of size {ndim}. But input(1) is a vector of size {len(axes)}",
        )
    for axis in axes:
        if not -ndim <= axis < ndim:
            raise errors.InvalidArgumentError(None, None, f"{axis} is out of range [0 .. {ndim})")
    positive = tuple(axis % ndim for axis in axes)
    if len(set(positive)) != ndim:
        missing = min(set(range(ndim)) - set(positive))
        raise errors.InvalidArgumentError(None, None, f"{missing} is missing from {shape_text(axes)}.")
    return positive


def _transpose(k: Any, x: Any, perm: Any) -> Any:
    return x.transpose(_permutation(perm, x.ndim))


def _conjugate_transpose(k: Any, x: Any, perm: Any) -> Any:
    moved = x.transpose(_permutation(perm, x.ndim))
    return moved.conj() if moved.dtype.kind == "c" else moved


def _transpose_shape(node: Any) -> TensorShape:
    x, perm = node.inputs
    perm_dims = perm.shape.with_rank(1).as_list()
    shape = x.shape if perm_dims[0] is None else x.shape.with_rank(perm_dims[0])
    dims, axes = shape.dims_or_none, constant_value(perm)
    if axes is None:
        return unknown_shape(shape.ndims)
    order = ints(axes)
    if dims is None:
        return unknown_shape(len(order))
    for axis in order:
        if not -len(dims) <= axis < len(dims):
            raise ValueError(f"perm dim {axis} is out of range of input rank {len(dims)}")
    if len({axis % len(dims) for axis in order}) != len(dims):
        raise ValueError(f"perm {list(order)} is not a permutation of the {len(dims)} axes of shape {shape}")
    return TensorShape.of(tuple(dims[axis] for axis in order))


def _transposes(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, perm) in enumerate((((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((), ()), ((0, 3), (1, 0)))):
        yield Sample(random_array(rng, dtype, dims), np.array(perm, (np.int32, np.int64)[i % 2]))
    # The gradient inverts the permutation, which needs it counted from the front, as in TensorFlow.
    yield Sample(
        random_array(rng, dtype, (2, 3)), np.array((-1, 0), np.int32), grad=(), note="counted from the end"
    )


def _moved(x: Any, perm: Any, **_: Any) -> Any:
    result = np.empty([x.shape[int(axis)] for axis in perm], x.dtype)
    for position in np.ndindex(*x.shape):
        result[tuple(position[int(axis)] for axis in perm)] = x[position]
    return result


transpose_op = op(
    "Transpose(x: T, perm: Tperm; T: type, Tperm: index = int32) -> y: T",
    kernel=_transpose,
    shape=_transpose_shape,
    grad=lambda node, g: (transpose(g, invert_permutation(node.inputs[1])), None),
    samples=_transposes,
    reference=_moved,
    memory={"perm": HOST},
    int32_on_host=True,
)

conjugate_transpose_op = op(
    "ConjugateTranspose(x: T, perm: Tperm; T: type, Tperm: index = int32) -> y: T",
    kernel=_conjugate_transpose,
    shape=_transpose_shape,
    grad=lambda node, g: (
        transpose(g, invert_permutation(node.inputs[1]), conjugate=node.outputs[0].dtype.is_complex),
        None,
    ),
    samples=_transposes,
    reference=lambda x, perm, **_: np.conj(_moved(x, perm)) if x.dtype.kind == "c" else _moved(x, perm),
    memory={"perm": HOST},
)


def _invert_permutation(k: Any, x: Any) -> Any:
    if x.ndim != 1:
        raise errors.InvalidArgumentError(
            None, None, f"invert_permutation expects a 1D vector, got shape {shape_text(x.shape)}"
        )
    size = x.shape[0]
    values = ints(x)
    seen = set()
    for value in values:
        if not 0 <= value < size:
            raise errors.InvalidArgumentError(None, None, f"{value} is not between 0 and {size}")
        if value in seen:
            raise errors.InvalidArgumentError(None, None, f"{value} is duplicated in the input.")
        seen.add(value)
    inverse = k.xp.empty_like(x)
    inverse[x] = k.xp.arange(size, dtype=x.dtype)
    return inverse


def _permutations(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for count in (4, 1, 0, 7):
        yield Sample(rng.permutation(count).astype(dtype.np_dtype))


invert_permutation_op = op(
    "InvertPermutation(x: T; T: index = int32) -> y: T",
    kernel=_invert_permutation,
    shape=lambda node: node.inputs[0].shape.with_rank(1),
    grad=NotDifferentiable,
    samples=_permutations,
    reference=lambda x, **_: np.argsort(x),
    memory=HOST,
)


# Under TensorFlow 1's names.


def transpose(a: Any, perm: Any = None, name: str | None = "transpose", conjugate: bool = False) -> Any:
    """`a` with its axes in the order `perm` (an int vector), or reversed; conjugated too where `conjugate` and complex."""
    with name_scope(name, "transpose", [a]) as scope:
        tensor = convert_to_tensor(a, name="a")
        build = raw.ConjugateTranspose if conjugate and tensor.dtype.is_complex else raw.Transpose
        if perm is None:
            ndims = tensor.shape.ndims
            if ndims is None:
                perm = raw.Range(rank(tensor) - 1, -1, -1)
            else:
                perm = np.arange(ndims - 1, -1, -1, dtype=np.int32)
        return build(tensor, perm, name=scope)


def matrix_transpose(a: Any, name: str | None = "matrix_transpose", conjugate: bool = False) -> Any:
    """`a`, of shape [..., m, n], with its last two axes exchanged.  Raises ValueError if it has fewer than two."""
    with name_scope(name, "matrix_transpose", [a]):
        tensor = convert_to_tensor(a, name="a")
        ndims = tensor.shape.ndims
        if ndims is None:
            count = rank(tensor)
            front = raw.Range(0, count - 2, 1)
            perm: Any = raw.ConcatV2([front, [count - 1, count - 2]], 0, name="concat")
        elif ndims < 2:
            raise ValueError(
                f"Argument 'a' should be a (batch) matrix, with rank >= 2, not of shape {tensor.shape}"
            )
        else:
            perm = [*range(ndims - 2), ndims - 1, ndims - 2]
        return transpose(tensor, perm, conjugate=conjugate)


def invert_permutation(x: Any, name: str | None = None) -> Any:
    """The inverse of the permutation `x`, an int vector with each of 0 … n-1 once."""
    return raw.InvertPermutation(x, name=name)
