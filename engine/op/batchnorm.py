"""Batch normalization: the fused ops and their gradients, and `moments` and `batch_normalization` built from other ops.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift" (2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import batchnorm_samples
from engine.op.batchnorm_samples import channel
from engine.op.kernels import invalid, shape_text
from engine.op.registry import op, raw
from engine.types import dtypes
from engine.types.shape import TensorShape

__all__ = ["batch_normalization", "fused_batch_norm", "moments"]


def _layout(k: Any, x: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes over which statistics are taken, and the shape that spreads a vector of channels over x."""
    if x.ndim not in (4, 5):
        raise invalid(f"input must be 4 or 5-dimensional{shape_text(x.shape)}")
    axis = channel(k.attrs["data_format"], x.ndim)
    axes = tuple(i for i in range(x.ndim) if i != axis)
    return axes, tuple(x.shape[i] if i == axis else 1 for i in range(x.ndim))


def _check_vectors(channels: int, **vectors: Any) -> None:
    for name, vector in vectors.items():
        if vector.shape != (channels,):
            raise invalid(
                f"{name} must have one element for each channel of x: "
                f"got shape {shape_text(vector.shape)} and {channels} channels"
            )


def _forward(k: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> tuple[Any, ...]:
    """y, the moving mean and variance, and the mean and variance that y was made with: what the three versions share."""
    xp, attrs = k.xp, k.attrs
    axes, spread = _layout(k, x)
    channels = x.shape[channel(attrs["data_format"], x.ndim)]
    _check_vectors(channels, scale=scale, offset=offset)
    epsilon, factor = attrs["epsilon"], attrs["exponential_avg_factor"]
    dtype = scale.dtype
    wide = x.astype(dtype, copy=False)
    if not attrs["is_training"]:
        _check_vectors(channels, mean=mean, variance=variance)
        used_mean, used_variance = mean, variance
        kept_mean, kept_variance = mean, variance
    else:
        count = x.size // max(channels, 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # no element at all: NaN, as in TensorFlow
            used_mean = xp.divide(wide.sum(axis=axes), count, dtype=dtype)
            centered = wide - used_mean.reshape(spread)
            used_variance = xp.divide((centered * centered).sum(axis=axes), count, dtype=dtype)
        # The variance that is kept is that of the population: divided by one less.
        kept_mean = used_mean
        kept_variance = used_variance * dtype.type(count / max(count - 1, 1))
        if factor != 1.0:
            _check_vectors(channels, mean=mean, variance=variance)
            new, old = dtype.type(factor), dtype.type(1.0 - factor)
            kept_mean = old * mean + new * kept_mean
            kept_variance = old * variance + new * kept_variance
    gain = scale / xp.sqrt(used_variance + dtype.type(epsilon))
    y = (wide - used_mean.reshape(spread)) * gain.reshape(spread) + offset.reshape(spread)
    return y.astype(x.dtype, copy=False), kept_mean, kept_variance, used_mean, used_variance


def _forward_v3(k: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> tuple[Any, ...]:
    # The last output is what a GPU library wants back for the gradient; nothing here does.
    return (*_forward(k, x, scale, offset, mean, variance), k.xp.zeros((), scale.dtype))


def _backward(
    k: Any, gradient: Any, x: Any, scale: Any, mean: Any, variance: Any, *_: Any
) -> tuple[Any, ...]:
    xp, attrs = k.xp, k.attrs
    axes, spread = _layout(k, x)
    if gradient.shape != x.shape:
        raise invalid(
            f"x and y_backprop must have same shape, but x has shape {shape_text(x.shape)} "
            f"and y_backprop has shape {shape_text(gradient.shape)}"
        )
    _check_vectors(x.shape[channel(attrs["data_format"], x.ndim)], scale=scale, mean=mean, variance=variance)
    dtype = scale.dtype
    g = gradient.astype(dtype, copy=False)
    centered = x.astype(dtype, copy=False) - mean.reshape(spread)
    inverse = 1 / xp.sqrt(variance + dtype.type(attrs["epsilon"]))
    total, projected = g.sum(axis=axes), (g * centered).sum(axis=axes)
    to_scale = projected * inverse
    gain = (scale * inverse).reshape(spread)
    if attrs["is_training"]:
        # The statistics depend on x, too: what they take up of the gradient is taken out of it.
        count = dtype.type(max(x.size // max(x.shape[channel(attrs["data_format"], x.ndim)], 1), 1))
        along = (projected * inverse * inverse / count).reshape(spread)
        to_x = gain * (g - (total / count).reshape(spread) - centered * along)
    else:
        to_x = gain * g
    none = xp.zeros((0,), dtype)
    return to_x.astype(x.dtype, copy=False), to_scale.astype(dtype), total.astype(dtype), none, none


def _channels_of(node: Any, x: TensorShape, *vectors: TensorShape) -> tuple[TensorShape, TensorShape]:
    """The static shape of x and of a vector of its channels, each refined by the other."""
    vector = TensorShape.of((None,))
    for each in vectors:
        vector = vector.merge_with(each)
    dims = x.dims_or_none
    if dims is None:
        return x, vector
    if len(dims) not in (4, 5):
        raise ValueError(f"Shape must be rank 4 or 5 but is rank {len(dims)}: {x}")
    axis = channel(node.attrs["data_format"], len(dims))
    vector = vector.merge_with(TensorShape.of((dims[axis],)))
    refined = list(dims)
    (refined[axis],) = vector.dims_or_none or (None,)
    return TensorShape.of(tuple(refined)), vector


def _forward_shape(node: Any) -> list[TensorShape]:
    shapes = [tensor.shape for tensor in node.inputs]
    own = 3 if node.attrs["is_training"] and node.attrs["exponential_avg_factor"] == 1.0 else 5
    x, vector = _channels_of(node, *shapes[:own])
    rest = [TensorShape.of(())] if len(node.outputs) == 6 else []
    return [x, vector, vector, vector, vector, *rest]


def _backward_shape(node: Any) -> list[TensorShape]:
    shapes = [tensor.shape for tensor in node.inputs]
    x, vector = _channels_of(node, shapes[0].merge_with(shapes[1]), shapes[2], shapes[3], shapes[4])
    none = TensorShape.of((0,))
    return [x, vector, vector, none, none]


def _gradient(grad_op: str) -> Any:
    def gradient(node: Any, *grads: Any) -> Any:
        x, scale = node.inputs[:2]
        training = node.attrs["is_training"]
        mean, variance = node.outputs[3:5] if training else node.inputs[3:5]
        found = getattr(raw, grad_op)(
            grads[0],
            x,
            scale,
            mean,
            variance,
            *node.outputs[5:],
            epsilon=node.attrs["epsilon"],
            data_format=node.attrs["data_format"],
            is_training=training,
        )
        return found[0], found[1], found[2], None, None

    return gradient


_FORWARD_ATTRS = "epsilon: float = 0.0001, exponential_avg_factor: float = 1.0"
_FOUR = "data_format: {'NHWC', 'NCHW'} = 'NHWC', is_training: bool = True"
_FIVE = "data_format: {'NHWC', 'NCHW', 'NDHWC', 'NCDHW'} = 'NHWC', is_training: bool = True"
_INPUTS = "x: T, scale: U, offset: U, mean: U, variance: U"
_OUTPUTS = "y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U"

op(
    "FusedBatchNorm(x: T, scale: T, offset: T, mean: T, variance: T; T: {float32}, "
    f"{_FORWARD_ATTRS}, {_FOUR}) -> y: T, batch_mean: T, batch_variance: T, reserve_space_1: T, reserve_space_2: T",
    kernel=_forward,
    shape=_forward_shape,
    grad=_gradient("FusedBatchNormGrad"),
    samples=batchnorm_samples.forward_samples(False),
    reference=batchnorm_samples.forward_reference,
)

op(
    f"FusedBatchNormV2({_INPUTS}; T: {{float16, bfloat16, float32}}, U: {{float32}}, {_FORWARD_ATTRS}, {_FOUR}) -> {_OUTPUTS}",
    kernel=_forward,
    shape=_forward_shape,
    grad=_gradient("FusedBatchNormGradV2"),
    samples=batchnorm_samples.forward_samples(False),
    reference=batchnorm_samples.forward_reference,
)

op(
    f"FusedBatchNormV3({_INPUTS}; T: {{float16, bfloat16, float32}}, U: {{bfloat16, float32}}, {_FORWARD_ATTRS}, {_FIVE}) -> "
    f"{_OUTPUTS}, reserve_space_3: U",
    kernel=_forward_v3,
    shape=_forward_shape,
    grad=_gradient("FusedBatchNormGradV3"),
    samples=batchnorm_samples.forward_samples(True),
    reference=batchnorm_samples.v3_reference,
)

op(
    "FusedBatchNormGrad(y_backprop: T, x: T, scale: T, reserve_space_1: T, reserve_space_2: T; T: {float32}, "
    f"epsilon: float = 0.0001, {_FOUR}) -> "
    "x_backprop: T, scale_backprop: T, offset_backprop: T, reserve_space_3: T, reserve_space_4: T",
    kernel=_backward,
    shape=_backward_shape,
    samples=batchnorm_samples.backward_samples(False, False),
    reference=batchnorm_samples.backward_reference,
)

op(
    "FusedBatchNormGradV2(y_backprop: T, x: T, scale: float32, reserve_space_1: U, reserve_space_2: U; "
    f"T: {{float16, bfloat16, float32}}, U: {{float32}}, epsilon: float = 0.0001, {_FOUR}) -> "
    "x_backprop: T, scale_backprop: U, offset_backprop: U, reserve_space_3: U, reserve_space_4: U",
    kernel=_backward,
    shape=_backward_shape,
    samples=batchnorm_samples.backward_samples(False, False),
    reference=batchnorm_samples.backward_reference,
)

op(
    "FusedBatchNormGradV3(y_backprop: T, x: T, scale: float32, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U; "
    f"T: {{float16, bfloat16, float32}}, U: {{float32}}, epsilon: float = 0.0001, {_FIVE}) -> "
    "x_backprop: T, scale_backprop: U, offset_backprop: U, reserve_space_4: U, reserve_space_5: U",
    kernel=_backward,
    shape=_backward_shape,
    samples=batchnorm_samples.backward_samples(True, True),
    reference=batchnorm_samples.backward_reference,
)


# Public functions.

_LEAST_EPSILON = 1.001e-5  # the least that a GPU library takes; TensorFlow uses it everywhere


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
    exponential_avg_factor: float = 1.0,
) -> tuple[Any, Any, Any]:
    """Batch normalization by one op, as `tf.nn.fused_batch_norm`: (y, mean, variance).

    x: [batch, height, width, channels] or with the channels second, float16, bfloat16 or float32; scale, offset, mean, variance:
    float32, one a channel.  Training: the statistics are x's own, and those returned are for a moving average (the variance
    divided by n - 1), blended into `mean` and `variance` if exponential_avg_factor is not 1.  Otherwise `mean` and `variance`
    are used.
    Raises ValueError if those are needed and missing.
    """
    if (not is_training or exponential_avg_factor != 1.0) and (mean is None or variance is None):
        raise ValueError(
            "Both `mean` and `variance` must be given if `is_training` is False or `exponential_avg_factor` is not 1.0"
        )
    values = convert_to_tensor(x, name="input")
    gain = convert_to_tensor(scale, name="scale")
    shift = convert_to_tensor(offset, name="offset")
    nothing = np.zeros((0,), np.float32)
    old_mean = convert_to_tensor(nothing if mean is None else mean, name="Const" if mean is None else "mean")
    old_variance = convert_to_tensor(
        nothing if variance is None else variance, name="Const" if variance is None else "variance"
    )
    found = raw.FusedBatchNormV3(
        values,
        gain,
        shift,
        old_mean,
        old_variance,
        epsilon=max(epsilon, _LEAST_EPSILON),
        exponential_avg_factor=exponential_avg_factor,
        data_format=data_format,
        is_training=is_training,
        name=name,
    )
    return found[0], found[1], found[2]


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Any, Any]:
    """Mean and variance (divided by n) of x over `axes`, as `tf.nn.moments`; float16 is computed in float32.

    keepdims (or keep_dims, its older name): whether the dimensions stay, with size 1.  `shift` is ignored, as in TensorFlow.
    """
    del shift
    if keep_dims is not None and keepdims is not None:
        raise ValueError("Cannot specify both 'keep_dims' and 'keepdims'")
    keep = bool(keepdims if keepdims is not None else keep_dims)
    with name_scope(name, "moments", [x, axes]):
        values = convert_to_tensor(x, name="x")
        dtype = values.dtype.base_dtype
        wide = raw.Cast(values, DstT=dtypes.float32) if dtype is dtypes.float16 else values
        mean = raw.Mean(wide, axes, keep_dims=True, name="mean")
        squares = raw.SquaredDifference(wide, raw.StopGradient(mean))
        variance = raw.Mean(squares, axes, keep_dims=True, name="variance")
        if not keep:
            dims = [axes] if isinstance(axes, int) else list(axes)
            mean, variance = raw.Squeeze(mean, squeeze_dims=dims), raw.Squeeze(variance, squeeze_dims=dims)
        if wide is not values:
            mean, variance = raw.Cast(mean, DstT=dtype), raw.Cast(variance, DstT=dtype)
        return mean, variance


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: str | None = None,
) -> Any:
    """(x - mean) / sqrt(variance + variance_epsilon) · scale + offset, broadcast, as `tf.nn.batch_normalization`.

    offset and scale may be None: 0 and 1.
    """
    with name_scope(name, "batchnorm", [x, mean, variance, scale, offset]):
        gain = raw.Rsqrt(variance + variance_epsilon)
        if scale is not None:
            gain = gain * scale
        scaled = x * gain
        return scaled + (offset - mean * gain if offset is not None else -mean * gain)
