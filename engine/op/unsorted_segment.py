"""Reductions of rows by segment numbers in any order: rows that carry the same number are combined.

The number of segments is an input; rows with a negative number are dropped.  A segment without rows gets the neutral element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import shapes
from engine.op.broadcasting import shape_of
from engine.op.kernels import require, shape_text
from engine.op.registry import HOST, Kernel, OpDef, op, raw
from engine.op.samples import Sample, array
from engine.op.segment import by_loop, combine_rows, product_grad, rows_of
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

__all__ = [
    "unsorted_segment_max", "unsorted_segment_mean", "unsorted_segment_min", "unsorted_segment_prod",
    "unsorted_segment_sqrt_n", "unsorted_segment_sum",
]  # fmt: skip


def _unsorted_kernel(ufunc: str, neutral: Callable[[np.dtype[Any]], Any]) -> Kernel:
    def kernel(k: Any, data: Any, ids: Any, num_segments: Any) -> Any:
        count = int(num_segments)
        if count < 0:
            raise errors.InvalidArgumentError(
                None, None, f"Input num_segments == {count} must not be negative."
            )
        if data.shape[: ids.ndim] != ids.shape:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"data.shape = {shape_text(data.shape)} does not start with segment_ids.shape = {shape_text(ids.shape)}",
            )
        flat = ids.ravel()
        beyond = flat >= count

        def explain() -> errors.InvalidArgumentError:
            at = int(beyond.argmax())
            position = ", ".join(str(i) for i in np.unravel_index(at, ids.shape))
            return errors.InvalidArgumentError(
                None, None, f"segment_ids[{position}] = {int(flat[at])} is out of range [0, {count})"
            )

        require(k, beyond, explain)
        rows = data.reshape((flat.shape[0], *data.shape[ids.ndim :]))
        return combine_rows(k.xp, ufunc, rows, flat, count, neutral(data.dtype))

    return kernel


def _unsorted_shape(op: Any) -> TensorShape:
    data, ids, _ = (tensor.shape for tensor in op.inputs)
    if data.ndims is None or ids.ndims is None:
        return shapes.UNKNOWN
    data[: ids.ndims].assert_is_compatible_with(ids)
    count = shapes.constant_value(op.inputs[2])
    return TensorShape.of((None if count is None else int(count), *data.dims_or_none[ids.ndims :]))


def _unsorted_samples(lo: float, hi: float, distinct: bool = False) -> Any:
    cases: tuple[tuple[tuple[int, ...], Any, int], ...] = (
        ((4, 3), [1, 0, 1, 1], 2),
        ((3, 2), [0, -1, 0], 1),
        ((2, 2, 2), [[1, 0], [0, 0]], 2),
        ((), 0, 1),
        ((2, 2), [[1, 0], [1, 1]], 2),
    )
    if not distinct:  # with segments that stay empty
        cases += (((4,), [3, 0, 3, -1], 5), ((0, 2), [], 3), ((2, 0), [0, 1], 3))

    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        for i, (shape, ids, count) in enumerate(cases):
            index, number = (dtypes.int32, dtypes.int64)[i % 2], (dtypes.int64, dtypes.int32)[i // 2 % 2]
            yield Sample(
                rows_of(rng, dtype, shape, lo, hi, distinct), array(ids, index), array(count, number)
            )

    return samples


def _gather_valid(values: Any, ids: Any) -> Any:
    """The rows of `values` that `ids` name; zeros for negative ids."""
    rows = raw.GatherV2(values, raw.Maximum(ids, 0), 0)
    valid = raw.GreaterEqual(ids, 0)
    missing = (
        None if ids.shape.ndims is None or rows.shape.ndims is None else rows.shape.ndims - ids.shape.ndims
    )
    if missing is not None:
        dims = shape_of(ids)
        if missing and isinstance(dims, np.ndarray):
            valid = raw.Reshape(valid, np.append(dims, np.ones(missing, np.int32)))
        elif missing:
            valid = raw.Reshape(valid, raw.ConcatV2([dims, np.ones(missing, np.int32)], 0))
    else:
        ones = raw.Fill(raw.Reshape(raw.Rank(rows) - raw.Rank(ids), [1]), np.int32(1))
        valid = raw.Reshape(valid, raw.ConcatV2([raw.Shape(ids), ones], 0))
    return raw.SelectV2(valid, rows, raw.ZerosLike(rows))


def _unsorted_extreme_grad(op: Any, g: Any) -> Any:
    data, ids, count = op.inputs
    chosen = raw.Equal(data, _gather_valid(op.outputs[0], ids))
    numbers = raw.UnsortedSegmentSum(raw.Cast(chosen, DstT=g.dtype.base_dtype), ids, count)
    shares = _gather_valid(g / numbers, ids)
    return raw.SelectV2(chosen, shares, raw.ZerosLike(data)), None, None


def _unsorted_op(
    name: str,
    types: str,
    ufunc: str,
    neutral: Callable[[np.dtype[Any]], Any],
    grad: Any,
    samples: Any,
    reference: Any,
    indices: str = "index",
) -> OpDef:
    return op(
        f"{name}(data: T, segment_ids: Tindices, num_segments: Tnumsegments; T: {types}, Tindices: {indices}, "
        "Tnumsegments: index = int32) -> output: T",
        kernel=_unsorted_kernel(ufunc, neutral),
        shape=_unsorted_shape,
        grad=grad,
        samples=samples,
        reference=reference,
        memory={"num_segments": HOST},
    )


unsorted_segment_sum = _unsorted_op(
    "UnsortedSegmentSum",
    "numbers",
    "add",
    lambda dtype: 0,
    lambda op, g: (_gather_valid(g, op.inputs[1]), None, None),
    _unsorted_samples(-9, 9),
    by_loop(np.sum, 0),
    "{int16, int32, int64}",
)
unsorted_segment_prod = _unsorted_op(
    "UnsortedSegmentProd",
    "numbers",
    "multiply",
    lambda dtype: 1,
    product_grad("UnsortedSegment", _gather_valid),
    _unsorted_samples(-2, 2),
    by_loop(np.prod, 1),
)
unsorted_segment_max = _unsorted_op(
    "UnsortedSegmentMax",
    "reals",
    "maximum",
    lambda dtype: dtypes.as_dtype(dtype).min,
    _unsorted_extreme_grad,
    _unsorted_samples(0, 9, distinct=True),
    by_loop(np.max, 0),
)
unsorted_segment_min = _unsorted_op(
    "UnsortedSegmentMin",
    "reals",
    "minimum",
    lambda dtype: dtypes.as_dtype(dtype).max,
    _unsorted_extreme_grad,
    _unsorted_samples(0, 9, distinct=True),
    by_loop(np.min, 0),
)


def _counts(data: Any, ids: Any, num_segments: Any, dtype: Any) -> Any:
    """The number of rows of each segment, at least 1, shaped to broadcast against the sums."""
    numbers = raw.UnsortedSegmentSum(raw.Cast(raw.OnesLike(ids), DstT=dtype), ids, num_segments)
    extra = data.shape.ndims - ids.shape.ndims
    return raw.Maximum(raw.Reshape(numbers, np.array([-1] + [1] * extra, np.int32)), 1)


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any:
    """The mean of the rows of each segment, 0 for one without rows.  The ranks must be known while building."""
    with name_scope(name, "UnsortedSegmentMean"):
        data, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        total = raw.UnsortedSegmentSum(data, ids, num_segments)
        return total / _counts(data, ids, num_segments, data.dtype.base_dtype)


def unsorted_segment_sqrt_n(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any:
    """The sum of the rows of each segment over the square root of their number, 0 for one without rows."""
    with name_scope(name, "UnsortedSegmentSqrtN"):
        data, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        total = raw.UnsortedSegmentSum(data, ids, num_segments)
        return total / raw.Sqrt(_counts(data, ids, num_segments, data.dtype.base_dtype))
