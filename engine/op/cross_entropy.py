"""Cross entropies: between distributions and logits, between class numbers and logits, and for independent classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import control_dependencies, name_scope
from engine.op import cuda
from engine.op.array import rank, shape
from engine.op.fills import zeros_like
from engine.op.joining import concat
from engine.op.kernels import invalid, require, shape_text
from engine.op.registry import op, raw, register_kernel
from engine.op.samples import Sample, array, random_array
from engine.op.shapes import broadcast
from engine.types import dtypes
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.tensor import Tensor
    from engine.types.dtypes import DType

__all__ = [
    "sigmoid_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]


def _widened(x: Any) -> Any:
    """The 16-bit floats in float32: sums of exponentials need its precision."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _log_sum(xp: Any, logits: Any) -> tuple[Any, Any, Any, Any]:
    """logits less their maximum, the exponentials, their sum, and its logarithm; shapes [rows, classes] and [rows, 1]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exp = xp.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    return shifted, exp, total, xp.log(total)


def _two_alike(xp: Any, features: Any, labels: Any) -> tuple[Any, Any]:
    """Logits and labels of one shape.  Raises InvalidArgumentError if they are not matrices that broadcast."""
    if features.ndim != 2 or labels.ndim != 2:
        raise invalid(
            f"logits and labels must be 2-D: got shapes {shape_text(features.shape)} and {shape_text(labels.shape)}",
        )
    if features.shape != labels.shape:
        try:
            features, labels = xp.broadcast_arrays(features, labels)
        except ValueError:
            raise invalid(
                "logits and labels must be broadcastable: "
                f"logits_size={shape_text(features.shape)} labels_size={shape_text(labels.shape)}",
            ) from None
    return features, labels


def _softmax_cross_entropy(k: Any, features: Any, labels: Any) -> Any:
    xp, dtype = k.xp, features.dtype
    features, labels = _two_alike(xp, features, labels)
    if features.size == 0:
        return xp.zeros(features.shape[:1], dtype), xp.zeros(features.shape, dtype)
    logits, targets = _widened(features), _widened(labels)
    shifted, exp, total, log_total = _log_sum(xp, logits)
    loss = (targets * (log_total - shifted)).sum(axis=1)
    backprop = exp / total - targets
    return loss.astype(dtype, copy=False), backprop.astype(dtype, copy=False)


def _softmax_cross_entropy_shape(node: Any) -> list[TensorShape]:
    both = broadcast(node).with_rank(2)
    dims = both.dims_or_none
    return [TensorShape.of((None if dims is None else dims[0],)), both]


def _is_zero(g: Any) -> bool:
    """Whether a gradient is there only because every output has one."""
    return g is None or g.op.type in ("ZerosLike", "Zeros")


def _second_order(node: Any, grad: Any, grad_of_backprop: Any) -> Any:
    """Adds to the logits' gradient what comes back through the output `backprop` = softmax - labels."""
    if _is_zero(grad_of_backprop):
        return grad
    softmax = raw.Softmax(node.inputs[0])
    inner = raw.Squeeze(
        raw.BatchMatMulV2(raw.ExpandDims(grad_of_backprop, 1), raw.ExpandDims(softmax, 2)), squeeze_dims=[1]
    )
    return grad + (grad_of_backprop - inner) * softmax


def _softmax_cross_entropy_gradient(node: Any, grad_loss: Any, grad_backprop: Any) -> Any:
    grad = raw.ExpandDims(grad_loss, -1) * node.outputs[1]
    grad = _second_order(node, grad, grad_backprop)
    to_labels = raw.ExpandDims(grad_loss, -1) * -raw.LogSoftmax(node.inputs[0])
    if not _is_zero(grad_backprop):
        to_labels = to_labels - grad_backprop
    return grad, to_labels


def _softmax_cross_entropy_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for size in ((2, 3), (1, 5), (4, 1), (0, 3)):
        labels = np.abs(random_array(rng, dtypes.float64, size)) + 0.1
        labels /= labels.sum(axis=1, keepdims=True)
        yield Sample(random_array(rng, dtype, size), array(labels, dtype))
    row = array([[0.25, 0.75]], dtype)
    yield Sample(random_array(rng, dtype, (3, 2)), row, grad=(), note="labels broadcast")
    yield Sample(array([[1e4, -1e4, 0.0]], dtype), array([[1, 0, 0]], dtype), grad=(), note="no overflow")


def _softmax_cross_entropy_reference(features: Any, labels: Any) -> Any:
    features, labels = np.broadcast_arrays(np.asarray(features, np.float64), np.asarray(labels, np.float64))
    log_p = features - np.logaddexp.reduce(features, axis=1, keepdims=True)
    losses = [-np.dot(target, row) for target, row in zip(labels, log_p, strict=True)]
    return np.array(losses, np.float64), np.exp(log_p) - labels


op(
    "SoftmaxCrossEntropyWithLogits(features: T, labels: T; T: floats) -> loss: T, backprop: T",
    kernel=_softmax_cross_entropy,
    shape=_softmax_cross_entropy_shape,
    grad=_softmax_cross_entropy_gradient,
    samples=_softmax_cross_entropy_samples,
    reference=_softmax_cross_entropy_reference,
)


@register_kernel("SoftmaxCrossEntropyWithLogits", device="CUDA")
def _fused_cross_entropy(k: Any, features: Any, labels: Any) -> Any:
    """One CUDA kernel for the losses and their gradient."""
    xp = k.xp
    features, labels = _two_alike(xp, features, labels)
    if not features.size:
        return xp.zeros(features.shape[:1], features.dtype), xp.zeros(features.shape, features.dtype)
    return cuda.cross_entropy(xp, features, labels)


def _check_labels(k: Any, features: Any, labels: Any) -> None:
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0]:
        raise invalid(
            "logits must be 2-D, labels 1-D, and both must have the same first dimension: got logits shape "
            f"{shape_text(features.shape)} and labels shape {shape_text(labels.shape)}",
        )
    rows, classes = features.shape
    if classes == 0:
        raise invalid(f"Must have at least one class, but got logits shape {shape_text(features.shape)}")
    wrong = (labels < 0) | (labels >= classes)
    require(
        k,
        wrong,
        lambda: invalid(
            f"Received a label value of {int(labels[wrong][0])} which is outside the valid range of [0, {classes}).  "
            f"Label values: {' '.join(map(str, labels[:20].tolist()))}{' …' if rows > 20 else ''}",
        ),
    )


def _sparse_cross_entropy(k: Any, features: Any, labels: Any) -> Any:
    xp, dtype = k.xp, features.dtype
    _check_labels(k, features, labels)
    rows = features.shape[0]
    if rows == 0:
        return xp.zeros((0,), dtype), xp.zeros(features.shape, dtype)
    shifted, exp, total, log_total = _log_sum(xp, _widened(features))
    index = labels.astype(xp.int64, copy=False)[:, None]
    loss = (log_total - xp.take_along_axis(shifted, index, axis=1))[:, 0]
    backprop = exp / total
    backprop[xp.arange(rows), index[:, 0]] -= backprop.dtype.type(1)
    return loss.astype(dtype, copy=False), backprop.astype(dtype, copy=False)


def _sparse_cross_entropy_shape(node: Any) -> list[TensorShape]:
    logits = node.inputs[0].shape.with_rank(2)
    loss = node.inputs[1].shape.with_rank(1)
    dims = logits.dims_or_none
    if dims is not None:
        loss = loss.merge_with(TensorShape.of(dims[:1]))
        logits = TensorShape.of((loss.dims_or_none[0], dims[1]))
    return [loss, logits]


def _sparse_cross_entropy_gradient(node: Any, grad_loss: Any, grad_backprop: Any) -> Any:
    grad = raw.ExpandDims(grad_loss, -1) * node.outputs[1]
    return _second_order(node, grad, grad_backprop), None


def _sparse_cross_entropy_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for size in ((2, 3), (5, 4), (3, 1), (0, 3)):
        for label_type in (np.int32, np.int64):
            labels = rng.integers(0, size[1], size[0]).astype(label_type)
            yield Sample(random_array(rng, dtype, size), labels)
    yield Sample(array([[1e4, -1e4, 0.0]], dtype), np.array([0]), grad=(), note="no overflow")


def _sparse_cross_entropy_reference(features: Any, labels: Any) -> Any:
    one_hot = np.array([[float(label == c) for c in range(features.shape[1])] for label in labels]).reshape(
        features.shape
    )
    return _softmax_cross_entropy_reference(features, one_hot)


op(
    "SparseSoftmaxCrossEntropyWithLogits(features: T, labels: Tlabels; T: floats, Tlabels: index = int64)"
    " -> loss: T, backprop: T",
    kernel=_sparse_cross_entropy,
    shape=_sparse_cross_entropy_shape,
    grad=_sparse_cross_entropy_gradient,
    samples=_sparse_cross_entropy_samples,
    reference=_sparse_cross_entropy_reference,
)


@register_kernel("SparseSoftmaxCrossEntropyWithLogits", device="CUDA")
def _fused_sparse_cross_entropy(k: Any, features: Any, labels: Any) -> Any:
    """One CUDA kernel for the losses and their gradient."""
    _check_labels(k, features, labels)
    if not features.size:
        return k.xp.zeros((0,), features.dtype), k.xp.zeros(features.shape, features.dtype)
    return cuda.sparse_cross_entropy(k.xp, features, labels)


# Public functions.


def _named_only(function: str, sentinel: Any, labels: Any, logits: Any) -> None:
    if sentinel is not None:
        raise ValueError(f"Only call `{function}` with named arguments (labels=..., logits=..., ...)")
    if labels is None or logits is None:
        raise ValueError("Both `labels` and `logits` must be provided.")


def _precise(logits: Tensor) -> Tensor:
    if logits.dtype.base_dtype.size == 2:
        widened: Tensor = raw.Cast(logits, DstT=dtypes.float32)
        return widened
    return logits


def _flat_rows(values: Tensor) -> Any:
    """`values` as a matrix: all dimensions but the last become one."""
    last = raw.Sub(rank(values), 1)
    classes = raw.Slice(shape(values), [last], [1])
    return raw.Reshape(values, concat([[-1], classes], 0))


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Tensor:
    """-sum(labels · log(softmax(logits))) along `axis`, as `tf.nn.softmax_cross_entropy_with_logits_v2`.

    labels, logits: of equal shape and floating dtype; each row of labels a probability distribution.  The result lacks `axis`
    (the last one by default; `dim` is its older name).  Gradients flow to both.
    """
    if axis is not None and dim is not None:
        raise ValueError("Cannot specify both 'axis' and 'dim': `dim` is the older name of `axis`")
    axis = dim if axis is None else axis
    axis = -1 if axis is None else axis
    with name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        scores = convert_to_tensor(logits, name="logits")
        targets = convert_to_tensor(labels, name="labels")
        precise = _precise(scores)
        targets = (
            raw.Cast(targets, DstT=precise.dtype.base_dtype)
            if targets.dtype.base_dtype != precise.dtype.base_dtype
            else targets
        )
        static = scores.shape.dims_or_none
        count = rank(precise)
        if axis != -1:
            precise, targets = _axis_last(precise, axis), _axis_last(targets, axis)
        size = shape(precise)
        rows, target_rows = _flat_rows(precise), _flat_rows(targets)
        cost = raw.SoftmaxCrossEntropyWithLogits(rows, target_rows, name=scope)[0]
        result: Tensor = raw.Reshape(cost, raw.Slice(size, [0], [raw.Sub(count, 1)]))
        if static is not None:
            left = list(static)
            del left[axis]
            result.set_shape(TensorShape.of(tuple(left)))
        return raw.Cast(result, DstT=scores.dtype.base_dtype) if precise.dtype is not scores.dtype else result


def _axis_last(values: Tensor, axis: int) -> Any:
    dims = values.shape.dims_or_none
    if dims is None:
        raise ValueError("A cross entropy along another axis than the last needs logits of known rank")
    order = [i for i in range(len(dims)) if i != axis % len(dims)]
    return raw.Transpose(values, [*order, axis % len(dims)], name="transpose")


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Tensor:
    """As `softmax_cross_entropy_with_logits_v2`, but no gradient flows to the labels; the arguments must be named."""
    _named_only("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        constant = raw.StopGradient(labels, name="labels_stop_gradient")
        return softmax_cross_entropy_with_logits_v2(constant, logits, dim if axis is None else axis, scope)


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """-log(softmax(logits)[label]) for each label, as `tf.nn.sparse_softmax_cross_entropy_with_logits`.

    labels: int32 or int64, shape [d0, …, dn]; logits: floating, shape [d0, …, dn, classes].  The result has the shape of labels.
    Raises ValueError if the static shapes do not fit; a label out of range is an InvalidArgumentError when it runs.
    """
    _named_only("sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits", [labels, logits]):
        classes = convert_to_tensor(labels)
        scores = convert_to_tensor(logits)
        precise = _precise(scores)
        label_dims, dims = classes.shape.dims_or_none, scores.shape.dims_or_none
        size = shape(classes)
        if dims is not None:
            if not dims:
                raise ValueError("Logits cannot be scalars - received shape ().")
            if label_dims is not None and len(label_dims) != len(dims) - 1:
                raise ValueError(
                    f"Rank mismatch: Rank of labels (received {len(label_dims)}) should equal rank of logits minus 1 "
                    f"(received {len(dims)})."
                )
            if not classes.shape.is_compatible_with(TensorShape.of(dims[:-1])):
                raise ValueError(
                    "Shape mismatch: The shape of labels (received "
                    f"{classes.shape}) should equal the shape of logits except for the last dimension (received {scores.shape})."
                )
        result: Tensor
        if dims is not None and len(dims) == 2:
            result = raw.SparseSoftmaxCrossEntropyWithLogits(precise, classes)[0]
        else:
            result = _sparse_of_any_rank(classes, scores, precise, size)
        return raw.Cast(result, DstT=scores.dtype.base_dtype) if precise.dtype is not scores.dtype else result


def _sparse_of_any_rank(classes: Tensor, scores: Tensor, precise: Tensor, size: Any) -> Any:
    checks = []
    if not (classes.shape.is_fully_defined() and scores.shape[:-1].is_fully_defined()):
        have, wanted = shape(classes), shape(scores)[:-1]
        message = "The shape of labels must be the shape of logits except for the last dimension:"
        checks.append(raw.Assert(raw.All(raw.Equal(have, wanted), [0]), [message, have, wanted]))
    with control_dependencies(checks):
        count = shape(scores)[rank(scores) - 1]
        rows = raw.Reshape(precise, [-1, count])
        cost = raw.SparseSoftmaxCrossEntropyWithLogits(rows, raw.Reshape(classes, [-1]))[0]
        result = raw.Reshape(cost, size)
        result.set_shape(classes.shape)
    return result


def _pair(labels: Any, logits: Any) -> tuple[Tensor, Tensor]:
    scores = convert_to_tensor(logits, name="logits")
    targets = convert_to_tensor(labels, name="labels")
    if not scores.shape.is_compatible_with(targets.shape):
        raise ValueError(
            f"`logits` and `labels` must have the same shape, received ({scores.shape} vs {targets.shape})."
        )
    return targets, scores


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """Cross entropy where each element is a yes or no of its own, as `tf.nn.sigmoid_cross_entropy_with_logits`.

    labels, logits: of equal shape and dtype; so is the result: max(x, 0) - x·z + log(1 + exp(-|x|)) for logits x and labels z.
    """
    _named_only("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        targets, scores = _pair(labels, logits)
        zeros = zeros_like(scores)
        positive = scores >= zeros
        relu = raw.Select(positive, scores, zeros)
        negative = raw.Select(positive, -scores, scores)
        result: Tensor = raw.AddV2(relu - scores * targets, raw.Log1p(raw.Exp(negative)), name=scope)
        return result


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Tensor:
    """As `sigmoid_cross_entropy_with_logits`, with the positive labels' part multiplied by `pos_weight`."""
    if labels is not None and targets is not None:
        raise ValueError(
            "Cannot specify both 'labels' and 'targets': `targets` is the older name of `labels`"
        )
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        wanted, scores = _pair(targets if labels is None else labels, logits)
        weight = 1 + (pos_weight - 1) * wanted
        linear = (1 - wanted) * scores
        rest = raw.Log1p(raw.Exp(-raw.Abs(scores))) + raw.Relu(-scores)
        result: Tensor = raw.AddV2(linear, weight * rest, name=scope)
        return result
