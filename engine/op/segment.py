"""Reductions of rows by sorted segment numbers: rows that carry the same number are combined.

The last number tells how many segments there are.  One without rows gets the neutral element; 0 for the extremes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.op import shapes
from engine.op.atomics import combine_at
from engine.op.elementwise import conjugate, is_half
from engine.op.kernels import filled, invalid, require
from engine.op.registry import Kernel, OpDef, op, raw
from engine.op.samples import Sample, array, random_array
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

__all__ = ["segment_max", "segment_mean", "segment_min", "segment_prod", "segment_sum"]


def combine_rows(xp: Any, ufunc: str, rows: Any, ids: Any, count: int, neutral: Any) -> Any:
    """`rows` (n, …) combined into (count, …) by their numbers; those not in [0, count) are dropped."""
    dtype = rows.dtype
    wide = np.dtype(np.float32) if is_half(dtype) else dtype
    result = filled(xp, (count, *rows.shape[1:]), wide, neutral)
    inside = (ids >= 0) & (ids < count)
    if xp is np and not inside.all():
        rows, ids = rows[inside], ids[inside]
    if len(ids) and result.size:
        rows = rows.astype(wide)
        if xp is np:
            # Sorted rows combine in one pass, several times faster than `at`, which goes element by element.
            if (ids[1:] < ids[:-1]).any():
                order = np.argsort(ids, kind="stable")
                rows, ids = rows[order], ids[order]
            starts = np.flatnonzero(np.concatenate([np.ones(1, bool), ids[1:] != ids[:-1]]))
            result[ids[starts]] = getattr(np, ufunc).reduceat(rows, starts, axis=0, dtype=wide)
        else:
            # A row more takes those that are dropped, so that nobody need wait to know how many they are.
            result = filled(xp, (count + 1, *rows.shape[1:]), wide, neutral)
            combine_at(xp, ufunc, result, xp.where(inside, ids, count), rows)
            result = result[:count]
    return result.astype(dtype)


# Sorted segments.


def _checked_ids(k: Any, data: Any, ids: Any) -> int:
    """The number of sorted segments."""
    if ids.ndim != 1:
        raise errors.InvalidArgumentError(None, None, "segment_ids should be a vector.")
    if data.ndim == 0 or data.shape[0] != ids.shape[0]:
        raise errors.InvalidArgumentError(
            None, None, "segment_ids should be the same size as dimension 0 of input."
        )
    if not ids.size:
        return 0
    require(k, ids[:1] < 0, lambda: invalid(f"segment ids must be >= 0, but the first is {int(ids[0])}"))
    falls = ids[1:] < ids[:-1]

    def explain() -> errors.InvalidArgumentError:
        at = int(falls.argmax()) + 1
        return invalid(f"segment ids are not increasing: {int(ids[at])} at {at} follows {int(ids[at - 1])}")

    require(k, falls, explain)
    return max(int(ids[-1]) + 1, 0)


def _sorted_kernel(ufunc: str, neutral: Callable[[np.dtype[Any]], Any], clear: bool = False) -> Kernel:
    def kernel(k: Any, data: Any, ids: Any) -> Any:
        count = _checked_ids(k, data, ids)
        result = combine_rows(k.xp, ufunc, data, ids, count, neutral(data.dtype))
        if clear:
            present = k.xp.zeros(count, bool)
            present[ids] = True
            result[~present] = 0
        return result

    return kernel


def _mean_kernel(k: Any, data: Any, ids: Any) -> Any:
    count = _checked_ids(k, data, ids)
    dtype = data.dtype
    wide = np.float32 if is_half(dtype) else np.int64 if dtype.kind in "iu" else dtype
    total = combine_rows(k.xp, "add", data.astype(wide), ids, count, 0)
    numbers = k.xp.bincount(ids, minlength=count) if ids.size else k.xp.zeros(count, np.int64)
    numbers = k.xp.maximum(numbers, 1).reshape((-1,) + (1,) * (data.ndim - 1))
    if dtype.kind in "iu":
        return (k.xp.sign(total) * (k.xp.absolute(total) // numbers)).astype(dtype)
    return (total / numbers.astype(total.real.dtype)).astype(dtype)


def _sorted_shape(op: Any) -> TensorShape:
    data, ids = (tensor.shape for tensor in op.inputs)
    ids.with_rank(1)
    if data.ndims is None:
        return shapes.UNKNOWN
    if data.ndims == 0:
        raise ValueError("The data of a segment reduction must have a dimension to go along, not be a scalar")
    return TensorShape.of((None, *data.dims_or_none[1:]))


def _sorted_samples(lo: float, hi: float, distinct: bool = False) -> Any:
    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        for shape, ids, index in (
            ((4, 3), [0, 0, 1, 2], dtypes.int32),
            ((5,), [0, 0, 3, 3, 3], dtypes.int64),
            ((3, 2, 2), [1, 1, 1], dtypes.int32),
            ((0, 2), [], dtypes.int32),
            ((3, 0), [0, 1, 1], dtypes.int32),
        ):
            yield Sample(rows_of(rng, dtype, shape, lo, hi, distinct), array(ids, index))

    return samples


def rows_of(
    rng: np.random.Generator, dtype: Any, shape: tuple[int, ...], lo: float, hi: float, distinct: bool
) -> Any:
    if distinct:
        size = int(np.prod(shape))
        return array(rng.permutation(size).reshape(shape) + 0.25, dtype)
    return random_array(rng, dtype, shape, lo, hi)


def by_loop(combine: Callable[..., Any], empty: float) -> Any:
    """Segment by segment; `empty` is the value of one without rows."""

    def reference(data: Any, ids: Any, num_segments: Any = None) -> Any:
        flat = np.ravel(ids)
        rows = data.reshape((flat.size, *data.shape[np.ndim(ids) :]))
        last = int(flat.max()) + 1 if flat.size else 0
        count = last if num_segments is None else int(num_segments)
        parts = [
            combine(rows[flat == i], axis=0) if (flat == i).any() else np.full(rows.shape[1:], empty)
            for i in range(count)
        ]
        return np.stack(parts) if parts else np.zeros((0, *rows.shape[1:]))

    return reference


def _int_mean(rows: Any, axis: int) -> Any:
    mean = np.mean(rows, axis=axis)
    return np.trunc(mean) if rows.dtype.kind in "iu" else mean


def _segment_op(name: str, types: str, kernel: Kernel, grad: Any, samples: Any, reference: Any) -> OpDef:
    return op(
        f"{name}(data: T, segment_ids: Tindices; T: {types}, Tindices: index) -> output: T",
        kernel=kernel,
        shape=_sorted_shape,
        grad=grad,
        samples=samples,
        reference=reference,
    )


def _per_row(vector: Any, data: Any) -> Any:
    """A vector with one element a row of `data`, or a segment of it, shaped to broadcast against rows."""
    rank = data.shape.ndims
    if rank is not None:
        return raw.Reshape(vector, np.array([-1] + [1] * (rank - 1), np.int32))
    ones = raw.Fill(raw.Reshape(raw.Rank(data) - 1, [1]), np.int32(1))
    return raw.Reshape(vector, raw.ConcatV2([np.array([-1], np.int32), ones], 0))


def _mean_grad(op: Any, g: Any) -> Any:
    data, ids = op.inputs
    numbers = raw.SegmentSum(raw.Cast(raw.OnesLike(ids), DstT=g.dtype.base_dtype), ids)
    return raw.GatherV2(g / _per_row(numbers, data), ids, 0), None


def _extreme_grad(op: Any, g: Any) -> Any:
    """g shared evenly by all the rows that are the extreme."""
    data, ids = op.inputs
    chosen = raw.Equal(data, raw.GatherV2(op.outputs[0], ids, 0))
    share = g / raw.SegmentSum(raw.Cast(chosen, DstT=g.dtype.base_dtype), ids)
    return raw.SelectV2(chosen, raw.GatherV2(share, ids, 0), raw.ZerosLike(data)), None


def product_grad(combine: str, gather: Callable[[Any, Any], Any]) -> Any:
    """g times the product of the others: the product over the element, unless that is 0, the only 0 of its segment.

    `combine` is 'Segment' or 'UnsortedSegment', ``gather(values, ids)`` gives each row the value of its segment.
    """

    def grad(op: Any, g: Any) -> Any:
        data, ids, *rest = op.inputs
        is_zero = raw.Equal(data, 0)
        zeros = getattr(raw, combine + "Sum")(raw.Cast(is_zero, DstT=dtypes.int32), ids, *rest)
        g = raw.SelectV2(raw.Greater(zeros, 1), raw.ZerosLike(g), g)
        safe = raw.SelectV2(is_zero, raw.OnesLike(data), data)
        without_zeros = getattr(raw, combine + "Prod")(safe, ids, *rest)
        product = conjugate(
            raw.SelectV2(is_zero, gather(without_zeros, ids), gather(op.outputs[0], ids) / safe)
        )
        return gather(g, ids) * product, None, *([None] * len(rest))

    return grad


def _gather(values: Any, ids: Any) -> Any:
    return raw.GatherV2(values, ids, 0)


_REALS, _NUMBERS = "reals", "numbers"

segment_sum = _segment_op(
    "SegmentSum",
    _NUMBERS,
    _sorted_kernel("add", lambda dtype: 0),
    lambda op, g: (raw.GatherV2(g, op.inputs[1], 0), None),
    _sorted_samples(-9, 9),
    by_loop(np.sum, 0),
)
segment_mean = _segment_op(
    "SegmentMean", _NUMBERS, _mean_kernel, _mean_grad, _sorted_samples(-9, 9), by_loop(_int_mean, 0)
)
segment_prod = _segment_op(
    "SegmentProd",
    _NUMBERS,
    _sorted_kernel("multiply", lambda dtype: 1),
    product_grad("Segment", _gather),
    _sorted_samples(-2, 2),
    by_loop(np.prod, 1),
)
segment_max = _segment_op(
    "SegmentMax",
    _REALS,
    _sorted_kernel("maximum", lambda dtype: dtypes.as_dtype(dtype).min, clear=True),
    _extreme_grad,
    _sorted_samples(0, 9, distinct=True),
    by_loop(np.max, 0),
)
segment_min = _segment_op(
    "SegmentMin",
    _REALS,
    _sorted_kernel("minimum", lambda dtype: dtypes.as_dtype(dtype).max, clear=True),
    _extreme_grad,
    _sorted_samples(0, 9, distinct=True),
    by_loop(np.min, 0),
)
