"""Max and average pooling of images, and the gradients of both.

A window is at most a few pixels wide, so the loops go over the places in a window, and each step works on all windows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import pool_samples
from engine.op.kernels import ints, invalid, shape_text
from engine.op.registry import HOST, op, raw
from engine.op.shapes import constant_value_as_shape
from engine.op.windows import (
    Windows,
    channel,
    four,
    from_nhwc,
    image_shape,
    spatial,
    static_output,
    to_nhwc,
    windows,
)
from engine.types import errors
from engine.types.shape import TensorShape

__all__ = ["avg_pool", "max_pool"]


def _window_size(attrs: Any) -> tuple[int, int]:
    size, data_format = attrs["ksize"], attrs["data_format"]
    if len(size) != 4 or min(size) <= 0:
        raise invalid(f"ksize must be 4 positive numbers, got {list(size)}")
    if size[0] != 1 or size[channel(data_format)] != 1:
        raise errors.UnimplementedError(
            None,
            None,
            f"Pooling is supported along height and width only, got ksize {list(size)} for {data_format}",
        )
    rows, columns = spatial(data_format)
    return size[rows], size[columns]


def _windows(k: Any, images: Any) -> Windows:
    return windows(k.attrs, images.shape[1:3], _window_size(k.attrs))


def _places(window: Windows) -> Iterator[tuple[slice, slice]]:
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            yield window.slices(row, column)


def _lowest(dtype: Any) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _max_pool(k: Any, images: Any) -> Any:
    xp, data_format = k.xp, k.attrs["data_format"]
    moved = to_nhwc(xp, images, data_format)
    window = _windows(k, moved)
    padded = window.pad(xp, moved, _lowest(moved.dtype))
    result = None
    for down, across in _places(window):
        part = padded[:, down, across]
        result = part if result is None else xp.maximum(result, part)
    return from_nhwc(xp, result, data_format)


def _largest_places(xp: Any, window: Windows, padded: Any) -> Iterator[tuple[slice, slice, Any]]:
    """For each place in a window, in order, where it is the first that holds its window's maximum: a bool array."""
    largest: Any = None
    for down, across in _places(window):
        part = padded[:, down, across]
        largest = part if largest is None else xp.maximum(largest, part)
    free = xp.ones(largest.shape, bool)
    for down, across in _places(window):
        here = (padded[:, down, across] == largest) & free
        free &= ~here
        yield down, across, here


def _check_same(xp: Any, gradients: Any, data_format: str, wanted: Sequence[int], what: str) -> Any:
    moved = to_nhwc(xp, gradients, data_format)
    if moved.shape != tuple(wanted):
        raise invalid(
            f"{what} has shape {shape_text(moved.shape)} where the pooling needs {shape_text(wanted)} "
            "(batch, height, width, channels)",
        )
    return moved


def _max_pool_grad(k: Any, images: Any, pooled: Any, gradients: Any) -> Any:
    """The gradient of a window goes to the first of its pixels that is the largest."""
    xp, data_format = k.xp, k.attrs["data_format"]
    moved = to_nhwc(xp, images, data_format)
    window = _windows(k, moved)
    shape = (len(moved), *window.output, moved.shape[3])
    _check_same(xp, pooled, data_format, shape, "orig_output")
    g = _check_same(xp, gradients, data_format, shape, "grad")
    padded = window.pad(xp, moved, _lowest(moved.dtype))
    result = xp.zeros(padded.shape, gradients.dtype)
    zero = gradients.dtype.type(0)
    for down, across, here in _largest_places(xp, window, padded):
        result[:, down, across] += xp.where(here, g, zero)
    return from_nhwc(xp, window.crop(result), data_format)


def _max_pool_grad_grad(k: Any, images: Any, pooled: Any, gradients: Any) -> Any:
    """What `gradients`, shaped like the images, holds where each window's maximum is."""
    xp, data_format = k.xp, k.attrs["data_format"]
    moved = to_nhwc(xp, images, data_format)
    window = _windows(k, moved)
    shape = (len(moved), *window.output, moved.shape[3])
    _check_same(xp, pooled, data_format, shape, "orig_output")
    g = window.pad(xp, _check_same(xp, gradients, data_format, moved.shape, "grad"))
    result = xp.zeros(shape, gradients.dtype)
    for down, across, here in _largest_places(xp, window, window.pad(xp, moved, _lowest(moved.dtype))):
        result = xp.where(here, g[:, down, across], result)
    return from_nhwc(xp, result, data_format)


def _counts(xp: Any, window: Windows) -> Any:
    """How many pixels of each window lie inside the image: shape [oh, ow, 1]; padding does not count in an average."""
    by_axis = []
    for axis in (0, 1):
        start = np.arange(window.output[axis]) * window.stride[axis] - window.pads[axis][0]
        inside = np.minimum(start + window.size[axis], window.image[axis]) - np.maximum(start, 0)
        by_axis.append(np.maximum(inside, 1))
    return xp.asarray((by_axis[0][:, None] * by_axis[1])[:, :, None])


def _wide(values: Any) -> Any:
    return values.astype(np.float32) if values.dtype.itemsize == 2 else values


def _avg_pool(k: Any, images: Any) -> Any:
    xp, data_format = k.xp, k.attrs["data_format"]
    moved = _wide(to_nhwc(xp, images, data_format))
    window = _windows(k, moved)
    padded = window.pad(xp, moved)
    total = xp.zeros((len(moved), *window.output, moved.shape[3]), moved.dtype)
    for down, across in _places(window):
        total += padded[:, down, across]
    result = total / _counts(xp, window).astype(moved.dtype)
    return from_nhwc(xp, result, data_format).astype(images.dtype, copy=False)


def _avg_pool_grad(k: Any, image_shape_: Any, gradients: Any) -> Any:
    xp, data_format = k.xp, k.attrs["data_format"]
    if image_shape_.shape != (4,):
        raise invalid(
            f"out_backprop's orig_input_shape must have 4 elements, got shape {shape_text(image_shape_.shape)}"
        )
    sizes = ints(image_shape_)
    size = tuple(sizes[axis] for axis in spatial(data_format))
    batch, channels = sizes[0], sizes[channel(data_format)]
    window = windows(k.attrs, size, _window_size(k.attrs))
    g = _check_same(xp, gradients, data_format, (batch, *window.output, channels), "grad")
    share = _wide(g) / _counts(xp, window).astype(_wide(g).dtype)
    result = window.empty_padded(xp, batch, channels, share.dtype)
    for down, across in _places(window):
        result[:, down, across] += share
    return from_nhwc(xp, window.crop(result), data_format).astype(gradients.dtype, copy=False)


# Shapes and gradients.


def _pool_shape(node: Any) -> TensorShape:
    attrs, data_format = node.attrs, node.attrs["data_format"]
    images = node.inputs[0].shape.with_rank(4).dims_or_none or (None,) * 4
    try:
        size = _window_size(attrs)
    except errors.InvalidArgumentError as error:
        raise ValueError(error.message) from None
    except errors.UnimplementedError:  # which is for the kernel to say
        return TensorShape.of((None,) * 4)
    output = static_output(attrs, [images[axis] for axis in spatial(data_format)], size)
    return image_shape(data_format, images[0], output, images[channel(data_format)])


def _max_pool_grad_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.inputs[0].shape.with_rank(4)
    return shape


def _max_pool_grad_grad_shape(node: Any) -> TensorShape:
    node.inputs[0].shape.merge_with(node.inputs[2].shape)
    return _pool_shape(node)


def _attrs(node: Any, *names: str) -> dict[str, Any]:
    return {name: node.attrs[name] for name in ("ksize", "strides", "padding", "data_format", *names)}


def _max_pool_gradient(node: Any, g: Any) -> Any:
    return raw.MaxPoolGrad(node.inputs[0], node.outputs[0], g, **_attrs(node, "explicit_paddings"))


def _max_pool_grad_gradient(node: Any, g: Any) -> Any:
    images, pooled, _ = node.inputs
    return (
        raw.ZerosLike(images),
        raw.ZerosLike(pooled),
        raw.MaxPoolGradGrad(images, pooled, g, **_attrs(node)),
    )


def _max_pool_grad_grad_gradient(node: Any, g: Any) -> Any:
    images, pooled, _ = node.inputs
    return raw.ZerosLike(images), raw.ZerosLike(pooled), raw.MaxPoolGrad(images, pooled, g, **_attrs(node))


def _avg_pool_gradient(node: Any, g: Any) -> Any:
    return raw.AvgPoolGrad(raw.Shape(node.inputs[0]), g, **_attrs(node))


_SIZES = "ksize: list(int) >= 4, strides: list(int) >= 4"
_ANY_PADDING = "padding: {'SAME', 'VALID', 'EXPLICIT'}, explicit_paddings: list(int) = [], data_format: {'NHWC', 'NCHW'} = 'NHWC'"
_NAMED_PADDING = "padding: {'SAME', 'VALID'}, data_format: {'NHWC', 'NCHW'} = 'NHWC'"

op(
    "MaxPool(input: T; T: {float16, bfloat16, float32, float64, int32, int64, uint8, int16, int8, uint16} = float32, "
    f"{_SIZES}, {_ANY_PADDING}) -> output: T",
    kernel=_max_pool,
    shape=_pool_shape,
    grad=_max_pool_gradient,
    samples=pool_samples.max_pool_samples,
    reference=pool_samples.max_pool_reference,
)

op(
    f"MaxPoolGrad(orig_input: T, orig_output: T, grad: T; {_SIZES}, {_ANY_PADDING}, T: reals = float32) -> output: T",
    kernel=_max_pool_grad,
    shape=_max_pool_grad_shape,
    grad=_max_pool_grad_gradient,
    samples=pool_samples.max_pool_grad_samples,
    reference=pool_samples.max_pool_grad_reference,
)

op(
    f"MaxPoolGradGrad(orig_input: T, orig_output: T, grad: T; {_SIZES}, {_NAMED_PADDING}, T: reals) -> output: T",
    kernel=_max_pool_grad_grad,
    shape=_max_pool_grad_grad_shape,
    grad=_max_pool_grad_grad_gradient,
    samples=pool_samples.max_pool_grad_grad_samples,
    reference=pool_samples.max_pool_grad_grad_reference,
)

op(
    f"AvgPool(value: T; {_SIZES}, {_NAMED_PADDING}, T: floats) -> output: T",
    kernel=_avg_pool,
    shape=_pool_shape,
    grad=_avg_pool_gradient,
    samples=pool_samples.avg_pool_samples,
    reference=pool_samples.avg_pool_reference,
)

op(
    f"AvgPoolGrad(orig_input_shape: int32, grad: T; {_SIZES}, {_NAMED_PADDING}, T: floats) -> output: T",
    kernel=_avg_pool_grad,
    shape=lambda node: constant_value_as_shape(node.inputs[0]).with_rank(4),
    grad=lambda node, g: (None, raw.AvgPool(g, **_attrs(node))),
    samples=pool_samples.avg_pool_grad_samples,
    reference=pool_samples.avg_pool_grad_reference,
    memory={"orig_input_shape": HOST},
)


# Public functions.


def _pool(
    kind: Any,
    scope_name: str,
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str,
    name: str | None,
) -> Any:
    data_format = data_format or "NHWC"
    if data_format not in ("NHWC", "NCHW"):
        raise ValueError(f"data_format must be 'NHWC' or 'NCHW', not '{data_format}'")
    extra: dict[str, Any] = {"padding": padding}
    if isinstance(padding, list | tuple):
        extra = {"padding": "EXPLICIT", "explicit_paddings": [size for pair in padding for size in pair]}
    with name_scope(name, scope_name, [value]) as scope:
        return kind(
            convert_to_tensor(value, name="input"),
            ksize=four(ksize, data_format, "ksize"),
            strides=four(strides, data_format, "strides"),
            data_format=data_format,
            name=scope,
            **extra,
        )


def max_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Any:
    """The largest value in each window, as `tf.nn.max_pool`.

    value (or `input`): [batch, height, width, channels], or channels second for data_format "NCHW".  ksize, strides: 1, 2 or 4
    numbers.  padding: "SAME", "VALID", or 4 pairs.  Raises ValueError if the static shapes do not fit.
    """
    return _pool(
        raw.MaxPool, "MaxPool", value if input is None else input, ksize, strides, padding, data_format, name
    )


def avg_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Any:
    """The mean of each window, padding not counted, as `tf.nn.avg_pool`; arguments as for `max_pool`."""
    return _pool(
        raw.AvgPool, "AvgPool", value if input is None else input, ksize, strides, padding, data_format, name
    )
