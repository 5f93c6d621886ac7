"""Softmax and its logarithm, and whether a class is among the k most probable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import cuda
from engine.op.array import rank
from engine.op.elementwise import in_float32
from engine.op.kernels import invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw, register_kernel
from engine.op.samples import Sample, array, random_array
from engine.op.shapes import constant_value
from engine.types import dtypes
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.tensor import Tensor
    from engine.types.dtypes import DType

__all__ = ["in_top_k", "log_softmax", "softmax"]


def _check_logits(logits: Any) -> None:
    if logits.ndim < 1:
        raise invalid("logits must have >= 1 dimension, got a scalar")


@in_float32
def _softmax(k: Any, logits: Any) -> Any:
    _check_logits(logits)
    if logits.size == 0:
        return logits
    xp = k.xp
    exp = xp.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


@in_float32
def _log_softmax(k: Any, logits: Any) -> Any:
    _check_logits(logits)
    if logits.size == 0:
        return logits
    xp = k.xp
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def _fused_softmax(logarithm: bool) -> Any:
    """One CUDA kernel for a softmax or its logarithm."""

    def kernel(k: Any, logits: Any) -> Any:
        _check_logits(logits)
        return cuda.softmax(k.xp, logits, logarithm) if logits.size else logits

    return kernel


def _logits_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.inputs[0].shape.with_rank_at_least(1)
    return shape


def _softmax_gradient(node: Any, g: Any) -> Any:
    softmax_ = node.outputs[0]
    return (g - raw.Sum(g * softmax_, -1, keep_dims=True)) * softmax_


def _log_softmax_gradient(node: Any, g: Any) -> Any:
    softmax_ = raw.Exp(node.outputs[0])
    return g - raw.Sum(g, -1, keep_dims=True) * softmax_


def _samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for shape in ((2, 3), (5,), (2, 1, 4), (1, 1), (0, 3), (3, 0)):
        yield Sample(random_array(rng, dtype, shape))
    yield Sample(array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype), grad=(), note="no overflow")
    yield Sample(array([[0.0, -np.inf, 1.0]], dtype), grad=(), note="an impossible class")


def _row_by_row(function: Callable[[list[float]], Any]) -> Callable[..., Any]:
    def reference(logits: Any) -> Any:
        rows = np.asarray(logits, np.float64).reshape(-1, logits.shape[-1]).tolist() if logits.size else []
        return np.array([function(row) for row in rows], np.float64).reshape(logits.shape)

    return reference


def _softmax_row(row: list[float]) -> Any:
    # Each probability alone: 1 over the sum of the others' odds against it.
    return [
        1.0 / np.sum(np.exp(np.clip(np.subtract(row, x), -800, 700))) if x > -np.inf else 0.0 for x in row
    ]


op(
    "Softmax(logits: T; T: floats) -> softmax: T",
    kernel=_softmax,
    shape=_logits_shape,
    grad=_softmax_gradient,
    samples=_samples,
    reference=_row_by_row(_softmax_row),
)
register_kernel("Softmax", device="CUDA")(_fused_softmax(logarithm=False))

op(
    "LogSoftmax(logits: T; T: floats) -> logsoftmax: T",
    kernel=_log_softmax,
    shape=_logits_shape,
    grad=_log_softmax_gradient,
    samples=_samples,
    reference=_row_by_row(lambda row: row - np.logaddexp.reduce(row)),
)
register_kernel("LogSoftmax", device="CUDA")(_fused_softmax(logarithm=True))


# Is the target among the k best?


def _in_top_k(k: Any, predictions: Any, targets: Any, count: Any = None) -> Any:
    """A class ties with those of equal score; a row with a score that is not finite has no best."""
    xp = k.xp
    if predictions.ndim != 2:
        raise invalid(f"predictions must be 2-dimensional, got shape {shape_text(predictions.shape)}")
    if targets.ndim != 1 or targets.shape[0] != predictions.shape[0]:
        raise invalid(
            "targets must be a vector with one class for each row of predictions: "
            f"got shapes {shape_text(targets.shape)} and {shape_text(predictions.shape)}",
        )
    classes = predictions.shape[1]
    if classes == 0:
        return xp.zeros(targets.shape, bool)
    best = int(k.attrs["k"] if count is None else count)
    known = (targets >= 0) & (targets < classes)
    index = xp.where(known, targets, 0).astype(xp.int64)
    score = xp.take_along_axis(predictions, index[:, None], axis=1)
    better = (predictions > score).sum(axis=1)
    return known & xp.isfinite(predictions).all(axis=1) & (better < best)


def _in_top_k_shape(node: Any) -> TensorShape:
    rows = node.inputs[0].shape.with_rank(2).dims_or_none
    targets: TensorShape = node.inputs[1].shape.with_rank(1)
    return targets if rows is None else targets.merge_with(TensorShape.of(rows[:1]))


def _top_k_cases(rng: np.random.Generator, dtype: DType | None) -> Iterator[tuple[Any, Any]]:
    assert dtype is not None
    predictions = random_array(rng, dtypes.float32, (6, 5))
    yield predictions, array(rng.integers(0, 5, 6), dtype)
    yield np.round(predictions), array(rng.integers(0, 5, 6), dtype)  # ties
    odd = predictions.copy()
    odd[0, 1], odd[1, 2], odd[2, 3] = np.nan, np.inf, -np.inf
    yield odd, array([0, 2, 3, 5, -1, 1], dtype)
    yield np.zeros((0, 5), np.float32), array(np.zeros(0), dtype)


def _in_top_k_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    for predictions, targets in _top_k_cases(rng, dtype):
        for count in (0, 1, 3, 9):
            yield Sample(predictions, targets, attrs={"k": count}, grad=())


def _in_top_k_v2_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for predictions, targets in _top_k_cases(rng, dtype):
        for count in (0, 1, 3, 9):
            yield Sample(predictions, targets, array(count, dtype), grad=())


def _in_top_k_reference(predictions: Any, targets: Any, k: Any) -> Any:
    def decide(row: list[float], target: int) -> bool:
        if not 0 <= target < len(row) or not np.isfinite(row).all():
            return False
        return sorted(row, reverse=True).index(row[target]) < int(k)

    return np.array([decide(row, int(t)) for row, t in zip(predictions.tolist(), targets, strict=True)], bool)


op(
    "InTopK(predictions: float32, targets: T; k: int, T: index = int32) -> precision: bool",
    kernel=_in_top_k,
    shape=_in_top_k_shape,
    grad=NotDifferentiable,
    samples=_in_top_k_samples,
    reference=_in_top_k_reference,
)

op(
    "InTopKV2(predictions: float32, targets: T, k: T; T: index = int32) -> precision: bool",
    kernel=_in_top_k,
    shape=_in_top_k_shape,
    grad=NotDifferentiable,
    samples=_in_top_k_v2_samples,
    reference=_in_top_k_reference,
    memory={"k": HOST},
)


# Public functions.


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(logits) / sum(exp(logits)) along `axis` (the last one by default; `dim` is its older name), as `tf.nn.softmax`.

    logits: floating, rank 1 or more.  Raises InvalidArgumentError for an axis that the logits don't have.
    """
    return _along(raw.Softmax, logits, _axis(axis, dim), name)


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """logits - log(sum(exp(logits))) along `axis`; see `softmax`."""
    return _along(raw.LogSoftmax, logits, _axis(axis, dim), name)


def _axis(axis: Any, dim: Any) -> Any:
    if axis is not None and dim is not None:
        raise ValueError("Cannot specify both 'axis' and 'dim': `dim` is the older name of `axis`")
    return dim if axis is None else axis if axis is not None else -1


def _along(kind: Any, logits: Any, axis: Any, name: str | None) -> Tensor:
    if axis is None:
        axis = -1
    values = convert_to_tensor(logits)
    dims = values.shape.dims_or_none
    if not isinstance(axis, int):
        known = constant_value(convert_to_tensor(axis))
        if known is None:
            raise ValueError("The axis of a softmax must be known while the graph is built")
        axis = int(known)
    if dims is not None and len(dims) and not -len(dims) <= axis < len(dims):
        raise invalid(
            f"`axis` must be in the range [{-len(dims)}, {len(dims)}) where {len(dims)} is the rank, got {axis}"
        )
    result: Tensor
    if axis == -1 or (dims is not None and axis == len(dims) - 1):
        return kind(values, name=name)  # type: ignore[no-any-return]
    swapped = _swap_with_last(values, axis, None)
    result = _swap_with_last(kind(swapped), axis, name)
    result.set_shape(values.shape)
    return result


def _swap_with_last(values: Tensor, axis: int, name: str | None) -> Any:
    """`values` with dimension `axis` and the last one exchanged."""
    dims = values.shape.dims_or_none
    if dims is not None:
        order = list(range(len(dims)))
        order[axis], order[-1] = order[-1], order[axis]
        return raw.Transpose(values, order, name=name or "transpose")
    count = rank(values)
    places = raw.Range(0, count, 1)
    first, last = axis if axis >= 0 else count + axis, count - 1
    order = raw.SelectV2(raw.Equal(places, first), last, raw.SelectV2(raw.Equal(places, last), first, places))
    return raw.Transpose(values, order, name=name or "transpose")


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """For each row, whether fewer than `k` classes score higher than the target's, as `tf.nn.in_top_k`.

    predictions: float32, shape [rows, classes]; targets: int32 or int64, shape [rows].  The result is bool, shape [rows]; False
    where the target is no class, or where a score in the row is not finite.
    """
    with name_scope(name, "in_top_k", None):
        result: Tensor = raw.InTopKV2(predictions, targets, k)
        return result
