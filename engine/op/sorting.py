"""The greatest entries along the last axis: TopK, TopKV2, and `sort` and `argsort` made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import rank, reshape
from engine.op.array import shape as shape_of
from engine.op.kernels import integer, invalid, orderable
from engine.op.permute import transpose
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, array
from engine.op.shapes import constant_value
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["argsort", "sort"]  # `top_k` is in `engine.nn`

_ORDERED = "{float32, float64, int32, uint8, int16, int8, int64, bfloat16, uint16, float16, uint32, uint64}"


def _top(k: Any, x: Any, count: int, index_type: Any) -> tuple[Any, Any]:
    """The `count` greatest entries of each row, greatest first; of equal ones the first comes first."""
    if x.ndim < 1:
        raise invalid("input must be >= 1-D, got a scalar")
    size = x.shape[-1]
    if count < 0:
        raise invalid(f"Need k >= 0, got {count}")
    if size < count:
        raise invalid(f"input must have at least k columns. Had {size}, needed {count}")
    # A stable ascending sort of the reversed row, read from its end, keeps equal entries in their own order.
    ascending = k.xp.argsort(orderable(x)[..., ::-1], axis=-1, kind="stable")
    places = (size - 1 - ascending[..., ::-1])[..., :count]
    return k.xp.take_along_axis(x, places, axis=-1), places.astype(index_type)


def _top_shape(x: TensorShape, count: int | None) -> list[TensorShape]:
    dims = x.with_rank_at_least(1).dims_or_none
    if dims is None:
        return [TensorShape.of(None)] * 2
    last = dims[-1]
    if count is not None and last is not None and last < count:
        raise ValueError(f"input must have last dimension >= k = {count} but is {last}: its shape is {x}")
    return [TensorShape.of((*dims[:-1], count))] * 2


def _top_v2_shape(node: Any) -> list[TensorShape]:
    node.inputs[1].shape.with_rank(0)
    count = constant_value(node.inputs[1])
    return _top_shape(node.inputs[0].shape, None if count is None else int(count))


def _top_grad(node: Any, g: Any, _: Any = None) -> list[Any]:
    """Scatter each row's gradient to where its values stood, by their places in the flattened input."""
    x, places = node.inputs[0], node.outputs[1]
    x_shape, kept = shape_of(x), shape_of(places)
    width, count = (raw.GatherV2(dims, raw.Sub(raw.Size(dims), 1), 0) for dims in (x_shape, kept))
    total = raw.Prod(x_shape, [0])
    rows = raw.Prod(kept, [0]) // raw.Maximum(count, 1)
    flat = reshape(raw.Cast(places, DstT="int32"), raw.Pack([rows, count]))
    starts = raw.Mul(raw.Range(0, rows, 1), width)
    index = reshape(raw.AddV2(flat, raw.ExpandDims(starts, 1)), [-1, 1])
    result = reshape(raw.ScatterNd(index, reshape(g, [-1]), raw.Pack([total])), x_shape)
    return [result, None][: len(node.inputs)]


def _rows(rng: np.random.Generator, dtype: DType) -> Iterator[tuple[Any, int]]:
    """Rows of different numbers, so that a small step for finite differences changes no order."""
    for dims, count in (((2, 5), 3), ((4,), 1), ((2, 2, 3), 3), ((3, 2), 0), ((0, 3), 2)):
        values = np.array([rng.permutation(dims[-1]) for _ in range(int(np.prod(dims[:-1])))], np.float64)
        yield array(values.reshape(dims), dtype), count
    yield array([[1, 3, 1, 3], [2, 2, 2, 2]], dtype), 3


def _tops(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (x, count) in enumerate(_rows(rng, dtype)):
        yield Sample(
            x,
            np.array(count, (np.int32, np.int64, np.int16)[i % 3]),
            grad=() if len(set(x.ravel())) < x.shape[-1] else None,
        )


def _old_tops(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for x, count in _rows(rng, dtype):
        yield Sample(x, attrs={"k": count}, grad=() if len(set(x.ravel())) < x.shape[-1] else None)


def _top_reference(x: Any, k: Any = 0, **_: Any) -> tuple[Any, Any]:
    """By Python's own sort of (value, place) pairs."""
    count = int(k)
    values = np.empty((*x.shape[:-1], count), x.dtype)
    places = np.empty(values.shape, np.int64)
    for row in np.ndindex(*x.shape[:-1]):
        ranked = sorted(range(x.shape[-1]), key=lambda i: (-float(x[row][i]), i))[:count]
        values[row] = [x[row][i] for i in ranked]
        places[row] = ranked
    return values, places


op(
    f"TopK(input: T; k: int >= 0, sorted: bool = True, T: {_ORDERED}) -> values: T, indices: int32",
    kernel=lambda k, x: _top(k, x, k.attrs["k"], np.int32),
    shape=lambda node: _top_shape(node.inputs[0].shape, node.attrs["k"]),
    grad=_top_grad,
    samples=_old_tops,
    reference=_top_reference,
)

op(
    f"TopKV2(input: T, k: Tk; sorted: bool = True, T: {_ORDERED}, Tk: {{int16, int32, int64}} = int32, "
    "index_type: {int16, int32, int64} = int32) -> values: T, indices: index_type",
    kernel=lambda k, x, count: _top(k, x, integer(count, "k"), k.attrs["index_type"].np_dtype),
    shape=_top_v2_shape,
    grad=_top_grad,
    samples=_tops,
    reference=_top_reference,
    memory={"k": HOST},
)


def top_k(input: Any, k: Any = 1, sorted: bool = True, name: str | None = None) -> Any:
    """(values, indices): the `k` greatest entries of each row (the last axis) of `input`, greatest first, and where they stand.

    Of equal entries the one that stands first comes first.  indices are int32.
    """
    return raw.TopKV2(input, k, sorted=sorted, name=name)


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None) -> Any:
    """`values` sorted along `axis`, ASCENDING or DESCENDING."""
    with name_scope(name, "sort"):
        return _by_top_k(values, axis, direction, 0)


def argsort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Any:
    """The int32 indices that sort `values` along `axis`, ASCENDING or DESCENDING; equal entries stay in order."""
    del stable  # it always is
    with name_scope(name, "argsort"):
        return _by_top_k(values, axis, direction, 1)


def _by_top_k(values: Any, axis: Any, direction: str, output: int) -> Any:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"Argument `direction` must be 'ASCENDING' or 'DESCENDING', got {direction!r}")
    along = constant_value(convert_to_tensor(axis, name="axis"))
    if along is None:
        raise ValueError("Argument `axis` must be a constant scalar.")
    tensor: Tensor = convert_to_tensor(values, name="values")
    dtype = tensor.dtype.base_dtype
    ascending = direction == "ASCENDING"
    if ascending:
        tensor = _mirrored(tensor, dtype)
    at, ndims = int(along), tensor.shape.ndims
    if ndims is not None and not -ndims <= at < ndims:
        raise ValueError(f"axis {at} is out of range for values of shape {tensor.shape}")
    size = shape_of(tensor)[at]
    last = rank(tensor)
    moves = at != -1 and (ndims is None or at % ndims != ndims - 1)
    if moves:
        order = _axis_last(at, ndims, last)
        tensor = transpose(tensor, order)
    result = raw.TopKV2(tensor, size)[output]
    if moves:
        result = transpose(result, order)
    return _mirrored(result, dtype) if ascending and output == 0 else result


def _axis_last(at: int, ndims: int | None, last: Any) -> Any:
    """The permutation that exchanges axis `at` with the last one; applied twice it changes nothing."""
    if ndims is not None:
        order = np.arange(ndims, dtype=np.int64)
        order[[at, -1]] = order[[-1, at]]
        return convert_to_tensor(order, name="transposition")
    axis, end, places = raw.FloorMod(at, last), raw.Sub(last, 1), raw.Range(0, last, 1)
    return raw.SelectV2(raw.Equal(places, axis), end, raw.SelectV2(raw.Equal(places, end), axis, places))


def _mirrored(tensor: Any, dtype: DType) -> Any:
    """The same entries in the opposite order of size; twice gives them back."""
    if dtype.is_unsigned:
        return raw.Sub(convert_to_tensor(np.array(dtype.max, dtype.np_dtype)), tensor)
    if dtype.is_integer:  # the least integer has no negative
        return raw.Sub(convert_to_tensor(np.array(-1, dtype.np_dtype)), tensor)
    return raw.Neg(tensor)
