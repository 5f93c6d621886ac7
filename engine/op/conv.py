"""Convolution of images and its two gradient ops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import conv_samples, im2col
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
from engine.types.shape import TensorShape

__all__ = ["conv2d", "conv2d_backprop_filter", "conv2d_backprop_input", "conv2d_transpose"]

# What the three kernels share: dtype, data format, groups, checks.


def _working(*arrays: Any) -> tuple[Any, ...]:
    """The 16-bit floats are multiplied in float32: BLAS has no product of theirs, and their sums would lose too much."""
    return tuple(each.astype(np.float32) if each.itemsize == 2 else each for each in arrays)


def _groups(images: int, filters: Sequence[int]) -> int:
    """How many groups the channels fall into: each has filters of its own.  Raises InvalidArgumentError if they don't divide."""
    depth, outputs = filters[2], filters[3]
    if depth == 0 or images % depth:
        raise invalid(f"input depth must be evenly divisible by filter depth: {images} vs {depth}")
    groups = images // depth
    if groups and outputs % groups:
        raise invalid(f"output depth must be evenly divisible by number of groups: {outputs} vs {groups}")
    return groups


def _parts(groups: int, *channels: int) -> Iterator[tuple[slice, ...]]:
    for group in range(groups):
        yield tuple(slice(group * size // groups, (group + 1) * size // groups) for size in channels)


def _check_filter(filters: Sequence[int]) -> None:
    if len(filters) != 4:
        raise invalid(f"filter must be 4-dimensional: {shape_text(filters)}")
    if min(filters) <= 0:
        raise invalid(
            f"filter must not have zero elements (i.e. all dimensions must be non-zero): {shape_text(filters)}"
        )


def _sizes(values: Any, what: str) -> tuple[int, ...]:
    if values.shape != (4,):
        raise invalid(f"{what} must be a vector of 4 sizes, got shape {shape_text(values.shape)}")
    return ints(values)


def _checked_gradients(
    xp: Any, gradients: Any, data_format: str, batch: int, window: Windows, outputs: int
) -> Any:
    moved = to_nhwc(xp, gradients, data_format)
    wanted = (batch, *window.output, outputs)
    if moved.shape != wanted:
        raise invalid(
            "out_backprop does not have the shape that the convolution's output has: "
            f"{shape_text(moved.shape)} instead of {shape_text(wanted)} (batch, height, width, channels)",
        )
    return xp.ascontiguousarray(moved)


def _conv2d(k: Any, images: Any, filters: Any) -> Any:
    xp, data_format, dtype = k.xp, k.attrs["data_format"], images.dtype
    _check_filter(filters.shape)
    moved = to_nhwc(xp, images, data_format)
    groups = _groups(moved.shape[3], filters.shape)
    window = windows(k.attrs, moved.shape[1:3], filters.shape[:2])
    outputs = filters.shape[3]
    if moved.shape[0] == 0 or 0 in window.output or groups == 0:
        result = xp.zeros((moved.shape[0], *window.output, outputs), dtype)
    else:
        moved, filters = _working(xp.ascontiguousarray(moved), xp.ascontiguousarray(filters))
        if groups == 1:
            result = im2col.forward(xp, moved, filters, window)
        else:
            result = xp.concatenate(
                [
                    im2col.forward(xp, xp.ascontiguousarray(moved[..., part]), filters[..., out], window)
                    for part, out in _parts(groups, moved.shape[3], outputs)
                ],
                axis=3,
            )
    return from_nhwc(xp, result, data_format).astype(dtype, copy=False)


def _conv2d_backprop_input(k: Any, input_sizes: Any, filters: Any, gradients: Any) -> Any:
    xp, data_format, dtype = k.xp, k.attrs["data_format"], filters.dtype
    _check_filter(filters.shape)
    sizes = _sizes(input_sizes, "input_sizes")
    batch, channels = sizes[0], sizes[channel(data_format)]
    image = tuple(sizes[axis] for axis in spatial(data_format))
    groups = _groups(channels, filters.shape)
    window = windows(k.attrs, image, filters.shape[:2])
    gradients = _checked_gradients(xp, gradients, data_format, batch, window, filters.shape[3])
    if gradients.size == 0:
        result = xp.zeros((batch, *image, channels), dtype)
    else:
        filters, gradients = _working(filters, gradients)
        if groups == 1:
            result = im2col.to_input(xp, filters, gradients, window)
        else:
            result = xp.concatenate(
                [
                    im2col.to_input(xp, filters[..., out], gradients[..., out], window)
                    for (out,) in _parts(groups, filters.shape[3])
                ],
                axis=3,
            )
    return from_nhwc(xp, result, data_format).astype(dtype, copy=False)


def _conv2d_backprop_filter(k: Any, images: Any, filter_sizes: Any, gradients: Any) -> Any:
    xp, data_format, dtype = k.xp, k.attrs["data_format"], images.dtype
    shape = _sizes(filter_sizes, "filter_sizes")
    _check_filter(shape)
    moved = to_nhwc(xp, images, data_format)
    groups = _groups(moved.shape[3], shape)
    window = windows(k.attrs, moved.shape[1:3], shape[:2])
    gradients = _checked_gradients(xp, gradients, data_format, moved.shape[0], window, shape[3])
    if gradients.size == 0:
        return xp.zeros(shape, dtype)
    moved, gradients = _working(xp.ascontiguousarray(moved), gradients)
    if groups == 1:
        return im2col.to_filter(xp, moved, gradients, window).astype(dtype, copy=False)
    parts = [
        im2col.to_filter(
            xp, xp.ascontiguousarray(moved[..., part]), xp.ascontiguousarray(gradients[..., out]), window
        )
        for part, out in _parts(groups, moved.shape[3], shape[3])
    ]
    return xp.concatenate(parts, axis=3).astype(dtype, copy=False)


# Shapes and gradients.


def _conv2d_shape(node: Any) -> TensorShape:
    data_format = node.attrs["data_format"]
    images = node.inputs[0].shape.with_rank(4).dims_or_none or (None,) * 4
    filters = node.inputs[1].shape.with_rank(4).dims_or_none or (None,) * 4
    depth, inputs = filters[2], images[channel(data_format)]
    if depth and inputs is not None and inputs % depth:
        raise ValueError(f"Depth of input ({inputs}) is not a multiple of input depth of filter ({depth})")
    size = static_output(node.attrs, [images[axis] for axis in spatial(data_format)], filters[:2])
    return image_shape(data_format, images[0], size, filters[3])


def _attrs(node: Any) -> dict[str, Any]:
    names = ("strides", "padding", "use_cudnn_on_gpu", "explicit_paddings", "data_format", "dilations")
    return {name: node.attrs[name] for name in names}


def _conv2d_gradient(node: Any, g: Any) -> Any:
    images, filters = node.inputs
    image_sizes, filter_sizes = raw.ShapeN([images, filters])
    return (
        raw.Conv2DBackpropInput(image_sizes, filters, g, **_attrs(node)),
        raw.Conv2DBackpropFilter(images, filter_sizes, g, **_attrs(node)),
    )


def _backprop_input_gradient(node: Any, g: Any) -> Any:
    _, filters, gradients = node.inputs
    return (
        None,
        raw.Conv2DBackpropFilter(g, raw.Shape(filters), gradients, **_attrs(node)),
        raw.Conv2D(g, filters, **_attrs(node)),
    )


def _backprop_filter_gradient(node: Any, g: Any) -> Any:
    images, _, gradients = node.inputs
    return (
        raw.Conv2DBackpropInput(raw.Shape(images), g, gradients, **_attrs(node)),
        None,
        raw.Conv2D(images, g, **_attrs(node)),
    )


_CONV_ATTRS = (
    "strides: list(int), use_cudnn_on_gpu: bool = True, padding: {'SAME', 'VALID', 'EXPLICIT'}, "
    "explicit_paddings: list(int) = [], data_format: {'NHWC', 'NCHW'} = 'NHWC', dilations: list(int) = [1, 1, 1, 1]"
)

op(
    f"Conv2D(input: T, filter: T; T: {{float16, bfloat16, float32, float64, int32}}, {_CONV_ATTRS}) -> output: T",
    kernel=_conv2d,
    shape=_conv2d_shape,
    grad=_conv2d_gradient,
    samples=conv_samples.conv2d_samples,
    reference=conv_samples.conv2d_reference,
)

op(
    "Conv2DBackpropInput(input_sizes: int32, filter: T, out_backprop: T; "
    f"T: {{float16, bfloat16, float32, float64, int32}}, {_CONV_ATTRS}) -> output: T",
    kernel=_conv2d_backprop_input,
    shape=lambda node: constant_value_as_shape(node.inputs[0]).with_rank(4),
    grad=_backprop_input_gradient,
    samples=conv_samples.backprop_input_samples,
    reference=conv_samples.backprop_input_reference,
    memory={"input_sizes": HOST},
)

op(
    f"Conv2DBackpropFilter(input: T, filter_sizes: int32, out_backprop: T; T: floats, {_CONV_ATTRS}) -> output: T",
    kernel=_conv2d_backprop_filter,
    shape=lambda node: constant_value_as_shape(node.inputs[1]).with_rank(4),
    grad=_backprop_filter_gradient,
    samples=conv_samples.backprop_filter_samples,
    reference=conv_samples.backprop_filter_reference,
    memory={"filter_sizes": HOST},
)


# Public functions.


def _padding(padding: Any) -> dict[str, Any]:
    """The attrs for a padding given by name, or as a list of (before, after) for each dimension."""
    if isinstance(padding, list | tuple):
        if len(padding) != 4 or any(len(pair) != 2 for pair in padding):
            raise ValueError(
                f"Explicit padding is a list of 4 pairs [before, after], one a dimension, not {padding!r}"
            )
        return {"padding": "EXPLICIT", "explicit_paddings": [size for pair in padding for size in pair]}
    if not isinstance(padding, str):
        raise ValueError(f"padding must be 'SAME', 'VALID' or a list of 4 pairs, not {padding!r}")
    if padding == "EXPLICIT":
        raise ValueError("'EXPLICIT' is not a valid value for `padding`: give the list of paddings itself")
    return {"padding": padding}


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Any:
    """Images convolved with filters, as `tf.nn.conv2d` (in truth a cross-correlation: the filters are not flipped).

    input: [batch, height, width, channels], or [batch, channels, height, width] for data_format "NCHW"; filter (or `filters`):
    [height, width, channels, outputs] in both.  strides, dilations: 1, 2 (height, width) or 4 numbers.  padding: "SAME", "VALID",
    or 4 pairs of zeros before and after each dimension.  Raises ValueError if the static shapes do not fit.
    """
    if (filter is None) == (filters is None):
        raise ValueError("conv2d takes `filter` or `filters`, exactly one of them")
    return raw.Conv2D(
        input,
        filter if filters is None else filters,
        strides=four(strides, data_format, "strides"),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=four(dilations, data_format, "dilations"),
        name=name,
        **_padding(padding),
    )


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Any:
    """The gradient of `conv2d` with respect to its input of shape `input_sizes`, as `tf.nn.conv2d_backprop_input`."""
    return raw.Conv2DBackpropInput(
        input_sizes,
        filter if filters is None else filters,
        out_backprop,
        strides=four(strides, data_format, "strides"),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=four(dilations, data_format, "dilations"),
        name=name,
        **_padding(padding),
    )


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Any:
    """The gradient of `conv2d` with respect to its filter of shape `filter_sizes`, as `tf.nn.conv2d_backprop_filter`."""
    return raw.Conv2DBackpropFilter(
        input,
        filter_sizes,
        out_backprop,
        strides=four(strides, data_format, "strides"),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=four(dilations, data_format, "dilations"),
        name=name,
        **_padding(padding),
    )


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Any:
    """The transpose ("deconvolution") of `conv2d`, as `tf.nn.conv2d_transpose`.

    value (or `input`): what a convolution with these filters [height, width, outputs, channels] and strides would give for an
    input of shape `output_shape`, which is the result's.
    """
    given = value if input is None else input
    weights = filter if filters is None else filters
    with name_scope(name, "conv2d_transpose", [given, weights, output_shape]) as scope:
        return raw.Conv2DBackpropInput(
            convert_to_tensor(output_shape, name="input_sizes"),
            weights,
            given,
            strides=four(strides, data_format, "strides"),
            data_format=data_format,
            dilations=four(dilations, data_format, "dilations"),
            name=scope,
            **_padding(padding),
        )
