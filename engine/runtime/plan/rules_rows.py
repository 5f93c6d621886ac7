"""Softmax, cross entropies, layer normalization and sums over rows as native kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.reduce import axes_of
from engine.runtime.plan.rule_table import call, constant, is_empty, rule

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder

_WORTH = 512  # elements: a smaller sum is as fast in NumPy's loops, and needs no compiler


def _by_row(name: str) -> Any:
    def along(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
        from engine.native import rows

        (logits,) = inputs
        if not logits.shape or is_empty(logits):
            return None
        kernel = getattr(rows, name)(logits.shape, logits.dtype)
        return None if kernel is None else call(recorder, kernel, inputs, [(logits.dtype, logits.shape)])

    return along


rule("Softmax")(_by_row("softmax"))
rule("LogSoftmax")(_by_row("log_softmax"))


@rule("SoftmaxCrossEntropyWithLogits")
def _cross_entropy(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.rows import cross_entropy

    logits, labels = inputs
    if len(logits.shape) != 2 or labels.shape != logits.shape or is_empty(logits):
        return None
    rows, classes = logits.shape
    kernel = cross_entropy(rows, classes, logits.dtype)
    if kernel is None:
        return None
    return call(recorder, kernel, inputs, [(logits.dtype, logits.shape[:1]), (logits.dtype, logits.shape)])


@rule("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_cross_entropy(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    """A label that is no class fails the run: the op's own kernel then says which one it was."""
    from engine.native.rows import sparse_cross_entropy

    logits, labels = inputs
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1] or is_empty(logits):
        return None
    rows, classes = logits.shape
    kernel = sparse_cross_entropy(rows, classes, logits.dtype, labels.dtype)
    if kernel is None:
        return None
    kinds = [(logits.dtype, logits.shape[:1]), (logits.dtype, logits.shape), (np.int64, ())]
    loss, backprop, wrong = call(recorder, kernel, inputs, kinds)
    bad = recorder.new(np.dtype(np.bool_), ())
    recorder.ufunc("not_equal", [wrong, recorder.constant(np.int64(0))], [bad])
    recorder.fail_if(bad)
    return [loss, backprop]


@rule("_FusedLayerNorm")
def _layer_norm(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.layer_norm import layer_norm

    attrs = node.attrs
    x, epsilon, axes, vectors = inputs[0], constant(inputs[1]), constant(inputs[-1]), inputs[2:-1]
    if epsilon is None or axes is None or epsilon.size != 1 or not x.shape or is_empty(x):
        return None
    width = x.shape[-1]
    if axes_of(axes, len(x.shape)) != (len(x.shape) - 1,) or any(each.shape != (width,) for each in vectors):
        return None
    rows = math.prod(x.shape[:-1])
    kernel = layer_norm(rows, width, float(epsilon.reshape(())), x.dtype)
    if kernel is None:
        return None
    scale = vectors[0] if attrs["has_scale"] else np.ones(width, x.dtype)
    offset = vectors[-1] if attrs["has_offset"] else np.zeros(width, x.dtype)
    kinds = [(x.dtype, x.shape), (x.dtype, (rows,)), (x.dtype, (rows,))]
    return call(recorder, kernel, [x, scale, offset], kinds)[:1]


# Sums over rows, whose bits are NumPy's.


def _column_sums(recorder: Recorder, x: Any, leading: int, shape: Sequence[int]) -> list[View] | None:
    """The sum of x over its first `leading` dimensions, as an array of `shape`."""
    from engine.native.channels import column_sums

    rows, columns = math.prod(x.shape[:leading]), math.prod(x.shape[leading:])
    if rows < 2 or columns < 2 or rows * columns < _WORTH:
        return None
    if not isinstance(x, np.ndarray | np.generic) and not x.is_contiguous:
        return None  # whose sum NumPy would take in another order
    kernel = column_sums(rows, columns, x.dtype)
    return None if kernel is None else call(recorder, kernel, [x], [(x.dtype, shape)])


@rule("BiasAddGrad", exact=True)
def _bias_add_grad(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    (x,) = inputs
    rank = len(x.shape)
    if rank < 2 or node.attrs.get("data_format", "NHWC") != "NHWC":
        return None
    return _column_sums(recorder, x, rank - 1, x.shape[-1:])


@rule("Sum", exact=True)
def _sum(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    x, axes = inputs[0], constant(inputs[1])
    if axes is None or axes.ndim > 1:
        return None
    rank = len(x.shape)
    leading = tuple(sorted(axes_of(axes, rank)))
    if leading != tuple(range(len(leading))) or not leading:
        return None
    kept = x.shape[len(leading) :]
    ones = (1,) * len(leading) if node.attrs["keep_dims"] else ()
    return _column_sums(recorder, x, len(leading), (*ones, *kept))
