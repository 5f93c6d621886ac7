"""Diagonals: Diag and DiagPart of whole tensors; MatrixDiag, MatrixDiagPart, MatrixSetDiag and MatrixBandPart of matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.op.kernels import integer, invalid, shape_text, zeros
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, arrays, random_array
from engine.op.shapes import unchanged
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["diag", "diag_part", "matrix_band_part", "matrix_diag", "matrix_diag_part", "matrix_set_diag"]

_DIAG_TYPES = "{bfloat16, float16, float32, float64, int32, int64, complex64, complex128}"


def _diag(k: Any, diagonal: Any) -> Any:
    size = math.prod(diagonal.shape)
    result = zeros(k.xp, (size, size), diagonal.dtype)
    places = k.xp.arange(size)
    result[places, places] = diagonal.reshape(-1)
    return result.reshape((*diagonal.shape, *diagonal.shape))


def _diag_reference(diagonal: Any, **_: Any) -> Any:
    result = np.zeros((*diagonal.shape, *diagonal.shape), diagonal.dtype)
    for position in np.ndindex(*diagonal.shape):
        result[(*position, *position)] = diagonal[position]
    return result


op(
    f"Diag(diagonal: T; T: {_DIAG_TYPES}) -> output: T",
    kernel=_diag,
    shape=lambda node: node.inputs[0].shape.with_rank_at_least(1).concatenate(node.inputs[0].shape),
    grad=lambda node, g: raw.DiagPart(g),
    samples=arrays((3,), (2, 3), (0,)),
    reference=_diag_reference,
)


def _diag_part(k: Any, x: Any) -> Any:
    half = x.ndim // 2
    if x.ndim % 2 or not half:
        raise invalid(f"The rank of the tensor should be even and positive, got shape {shape_text(x.shape)}")
    for i in range(half):
        if x.shape[i] != x.shape[half + i]:
            raise invalid(f"Invalid shape {shape_text(x.shape)}: dimensions {i} and {half + i} do not match.")
    dims = x.shape[:half]
    size = math.prod(dims)
    places = k.xp.arange(size)
    return x.reshape((size, size))[places, places].reshape(dims)


def _diag_part_shape(node: Any) -> TensorShape:
    shape = node.inputs[0].shape
    if shape.ndims is None:
        return TensorShape.of(None)
    if shape.ndims % 2 or not shape.ndims:
        raise ValueError(f"The input of DiagPart must have an even rank of at least 2, not shape {shape}")
    half = shape.ndims // 2
    return shape[:half].merge_with(shape[half:])  # type: ignore[no-any-return]


op(
    f"DiagPart(input: T; T: {_DIAG_TYPES}) -> diagonal: T",
    kernel=_diag_part,
    shape=_diag_part_shape,
    grad=lambda node, g: raw.Diag(g),
    samples=arrays((3, 3), (2, 3, 2, 3), (0, 0)),
    reference=lambda x, **_: _each_diagonal(x),
)


def _each_diagonal(x: Any) -> Any:
    dims = x.shape[: x.ndim // 2]
    result = np.empty(dims, x.dtype)
    for position in np.ndindex(*dims):
        result[position] = x[(*position, *position)]
    return result


# Of the innermost matrices.


def _matrix_diag(k: Any, diagonal: Any) -> Any:
    if diagonal.ndim < 1:
        raise invalid("diagonal must be at least 1-dim, received shape: []")
    size = diagonal.shape[-1]
    result = zeros(k.xp, (*diagonal.shape, size), diagonal.dtype)
    places = k.xp.arange(size)
    result[..., places, places] = diagonal
    return result


def _matrix_diag_shape(node: Any) -> TensorShape:
    shape = node.inputs[0].shape.with_rank_at_least(1)
    return TensorShape.of(None) if shape.ndims is None else shape.concatenate(shape[-1:])


def _matrices(x: Any) -> Iterator[tuple[int, ...]]:
    return iter(np.ndindex(*x.shape[:-2]))


def _matrix_diag_reference(diagonal: Any, **_: Any) -> Any:
    size = diagonal.shape[-1]
    result = np.empty((*diagonal.shape, size), diagonal.dtype)
    result[...] = b"" if diagonal.dtype == object else 0
    for position in np.ndindex(*diagonal.shape):
        result[(*position, position[-1])] = diagonal[position]
    return result


op(
    "MatrixDiag(diagonal: T; T: type) -> output: T",
    kernel=_matrix_diag,
    shape=_matrix_diag_shape,
    grad=lambda node, g: raw.MatrixDiagPart(g),
    samples=arrays((3,), (2, 3), (0,), (2, 0)),
    reference=_matrix_diag_reference,
)


def _matrix_diag_part(k: Any, x: Any) -> Any:
    if x.ndim < 2:
        raise invalid(f"input must be at least 2-dim, received shape: {shape_text(x.shape)}")
    places = k.xp.arange(min(x.shape[-2:]))
    return x[..., places, places]


def _diagonal_shape(shape: TensorShape) -> TensorShape:
    dims = shape.with_rank_at_least(2).dims_or_none
    if dims is None:
        return TensorShape.of(None)
    rows, columns = dims[-2:]
    shorter = None if rows is None or columns is None else min(rows, columns)
    return TensorShape.of((*dims[:-2], shorter))


def _matrix_diag_part_grad(node: Any, g: Any) -> Any:
    x = node.inputs[0]
    dims = x.shape.dims_or_none
    if dims is not None and dims[-1] is not None and dims[-1] == dims[-2]:
        return raw.MatrixDiag(g)
    return raw.MatrixSetDiag(raw.ZerosLike(x), g)


def _diagonals(x: Any) -> Any:
    count = min(x.shape[-2:])
    result = np.empty((*x.shape[:-2], count), x.dtype)
    for batch in _matrices(x):
        for i in range(count):
            result[(*batch, i)] = x[(*batch, i, i)]
    return result


op(
    "MatrixDiagPart(input: T; T: type) -> diagonal: T",
    kernel=_matrix_diag_part,
    shape=lambda node: _diagonal_shape(node.inputs[0].shape),
    grad=_matrix_diag_part_grad,
    samples=arrays((3, 3), (2, 3, 2), (2, 4), (0, 2)),
    reference=lambda x, **_: _diagonals(x),
)


def _matrix_set_diag(k: Any, x: Any, diagonal: Any) -> Any:
    if x.ndim < 2:
        raise invalid(f"input must be at least 2-dim, received shape: {shape_text(x.shape)}")
    count = min(x.shape[-2:])
    if diagonal.shape != (*x.shape[:-2], count):
        raise invalid(
            f"must have diagonal.shape == input.shape[:-2] + min(input.shape[-2:]), but received input shape: "
            f"{shape_text(x.shape)} and diagonal shape: {shape_text(diagonal.shape)}"
        )
    result = x.copy()
    places = k.xp.arange(count)
    result[..., places, places] = diagonal
    return result


def _set_diags(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims in ((3, 3), (2, 2, 4), (0, 2)):
        yield Sample(random_array(rng, dtype, dims), random_array(rng, dtype, (*dims[:-2], min(dims[-2:]))))


def _set_diag_grad(node: Any, g: Any) -> Any:
    return raw.MatrixSetDiag(g, raw.ZerosLike(node.inputs[1])), raw.MatrixDiagPart(g)


def _set_diag_reference(x: Any, diagonal: Any, **_: Any) -> Any:
    result = np.array(x, copy=True)
    for position in np.ndindex(*diagonal.shape):
        result[(*position, position[-1])] = diagonal[position]
    return result


def _set_diag_shape(node: Any) -> TensorShape:
    x, diagonal = (tensor.shape for tensor in node.inputs)
    _diagonal_shape(x).assert_is_compatible_with(diagonal)
    return x  # type: ignore[no-any-return]


op(
    "MatrixSetDiag(input: T, diagonal: T; T: type) -> output: T",
    kernel=_matrix_set_diag,
    shape=_set_diag_shape,
    grad=_set_diag_grad,
    samples=_set_diags,
    reference=_set_diag_reference,
)


def _matrix_band_part(k: Any, x: Any, num_lower: Any, num_upper: Any) -> Any:
    if x.ndim < 2:
        raise invalid(f"input must be at least 2-dim, received shape: {shape_text(x.shape)}")
    rows, columns = x.shape[-2:]
    lower, upper = integer(num_lower, "num_lower"), integer(num_upper, "num_upper")
    if not -1 <= lower <= rows:
        raise invalid(f"num_lower must be negative or less or equal to number of rows ({rows}) got: {lower}")
    if not -1 <= upper <= columns:
        raise invalid(
            f"num_upper must be negative or less or equal to number of columns ({columns}) got: {upper}"
        )
    below = k.xp.arange(rows)[:, None] - k.xp.arange(columns)[None, :]
    inside = (below <= (rows if lower < 0 else lower)) & (-below <= (columns if upper < 0 else upper))
    return k.xp.where(inside, x, zeros(k.xp, (), x.dtype))


def _bands(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, lower, upper) in enumerate(
        (((3, 4), 1, -1), ((3, 4), 0, 0), ((2, 3, 3), -1, 1), ((0, 2), 0, 0), ((2, 2), -1, -1))
    ):
        index_type = (np.int64, np.int32)[i % 2]
        yield Sample(random_array(rng, dtype, dims), np.array(lower, index_type), np.array(upper, index_type))


def _band_reference(x: Any, num_lower: Any, num_upper: Any, **_: Any) -> Any:
    result = np.array(x, copy=True)
    for position in np.ndindex(*x.shape):
        row, column = position[-2:]
        if 0 <= num_lower < row - column or 0 <= num_upper < column - row:
            result[position] = b"" if x.dtype == object else 0
    return result


op(
    "MatrixBandPart(input: T, num_lower: Tindex, num_upper: Tindex; T: type, Tindex: index = int64) -> band: T",
    kernel=_matrix_band_part,
    shape=unchanged,
    grad=lambda node, g: (raw.MatrixBandPart(g, *node.inputs[1:]), None, None),
    samples=_bands,
    reference=_band_reference,
    memory={"num_lower": HOST, "num_upper": HOST},
)


# Under TensorFlow 1's names.


def diag(diagonal: Any, name: str | None = None) -> Any:
    """A tensor of shape [*s, *s] with `diagonal`, of shape s, where both indices are equal, and zeros elsewhere."""
    return raw.Diag(diagonal, name=name)


def diag_part(input: Any, name: str | None = None) -> Any:
    """The entries of `input`, of shape [*s, *s], whose two indices are equal: a tensor of shape s."""
    return raw.DiagPart(input, name=name)


def matrix_diag(diagonal: Any, name: str | None = "diag") -> Any:
    """Square matrices [..., n, n] with the vectors `diagonal` [..., n] on their diagonals."""
    return raw.MatrixDiag(diagonal, name=name or "diag")


def matrix_diag_part(input: Any, name: str | None = "diag_part") -> Any:
    """The main diagonals [..., min(m, n)] of the matrices `input` [..., m, n]."""
    return raw.MatrixDiagPart(input, name=name or "diag_part")


def matrix_set_diag(input: Any, diagonal: Any, name: str | None = "set_diag") -> Any:
    """The matrices `input` [..., m, n] with their main diagonals replaced by `diagonal` [..., min(m, n)]."""
    return raw.MatrixSetDiag(input, diagonal, name=name or "set_diag")


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Any:
    """The matrices `input` with zeros outside of a band: `num_lower` diagonals below the main one, `num_upper` above.

    A negative number keeps all of that side.
    """
    return raw.MatrixBandPart(input, num_lower, num_upper, name=name)
