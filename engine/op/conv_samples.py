"""What the convolution ops are proven on: small images and filters, and references that go from product to product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.samples import Sample, random_array
from engine.op.windows import static_output, windows

if TYPE_CHECKING:
    from engine.types.dtypes import DType

_CASES: tuple[tuple[tuple[int, int, int, int], tuple[int, int, int, int], dict[str, Any]], ...] = (
    ((2, 4, 5, 2), (2, 3, 2, 3), {"strides": (1, 1, 1, 1), "padding": "VALID"}),
    ((1, 4, 5, 1), (3, 2, 1, 2), {"strides": (1, 2, 2, 1), "padding": "SAME"}),
    (
        (1, 5, 4, 2),
        (2, 2, 2, 1),
        {"strides": (1, 2, 1, 1), "padding": "EXPLICIT", "explicit_paddings": (0, 0, 1, 0, 0, 2, 0, 0)},
    ),
    ((1, 6, 6, 1), (2, 3, 1, 1), {"strides": (1, 1, 1, 1), "padding": "SAME", "dilations": (1, 2, 2, 1)}),
    ((2, 2, 3, 3), (1, 1, 3, 2), {"strides": (1, 1, 1, 1), "padding": "VALID"}),
    ((1, 5, 5, 1), (1, 1, 1, 2), {"strides": (1, 2, 2, 1), "padding": "VALID"}),
    ((1, 2, 2, 1), (3, 3, 1, 1), {"strides": (1, 1, 1, 1), "padding": "SAME"}),
    ((1, 3, 3, 4), (2, 2, 2, 2), {"strides": (1, 1, 1, 1), "padding": "VALID"}),
    ((0, 3, 3, 1), (2, 2, 1, 1), {"strides": (1, 1, 1, 1), "padding": "VALID"}),
)


def _cases() -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    """(images', filters' and output's shape, attrs), the first two cases also with the channels first."""
    for images, filters, attrs in _CASES:
        attrs = {"data_format": "NHWC", **attrs}
        output = (images[0], *static_output(attrs, images[1:3], filters[:2]), filters[3])
        yield images, filters, output, attrs
    for images, filters, attrs in _CASES[:3]:
        attrs = {"data_format": "NCHW", **attrs}
        for name in ("strides", "dilations"):
            if name in attrs:
                attrs[name] = tuple(attrs[name][i] for i in (0, 3, 1, 2))
        if "explicit_paddings" in attrs:
            around = attrs["explicit_paddings"]
            attrs["explicit_paddings"] = (*around[:2], *around[6:], *around[2:6])
        output = (images[0], *static_output(attrs, images[1:3], filters[:2]), filters[3])
        first = [tuple(shape[i] for i in (0, 3, 1, 2)) for shape in (images, output)]
        yield first[0], filters, first[1], attrs


def conv2d_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, filters, _, attrs in _cases():
        yield Sample(random_array(rng, dtype, images), random_array(rng, dtype, filters), attrs=attrs)


def backprop_input_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, filters, output, attrs in _cases():
        sizes = np.array(images, np.int32)
        yield Sample(sizes, random_array(rng, dtype, filters), random_array(rng, dtype, output), attrs=attrs)


def backprop_filter_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, filters, output, attrs in _cases():
        sizes = np.array(filters, np.int32)
        yield Sample(random_array(rng, dtype, images), sizes, random_array(rng, dtype, output), attrs=attrs)


def _products(images: Sequence[int], filters: Sequence[int], attrs: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Which (pixel, weight, output) of a convolution belong together, in the attrs' data format: the definition, one by one."""
    nhwc = attrs["data_format"] == "NHWC"
    n, height, width, channels = images if nhwc else (images[i] for i in (0, 2, 3, 1))
    kh, kw, depth, outputs = filters
    window = windows(attrs, (height, width), (kh, kw))
    (top, _), (left, _) = window.pads
    per_group = outputs // (channels // depth)
    for image, y, x, out, i, j, c in np.ndindex(n, *window.output, outputs, kh, kw, depth):
        row = y * window.stride[0] + i * window.dilation[0] - top
        column = x * window.stride[1] + j * window.dilation[1] - left
        if 0 <= row < height and 0 <= column < width:
            source = out // per_group * depth + c
            pixel = (image, row, column, source) if nhwc else (image, source, row, column)
            output = (image, y, x, out) if nhwc else (image, out, y, x)
            yield pixel, (i, j, c, out), output


def _defaults(attrs: dict[str, Any]) -> dict[str, Any]:
    return {"data_format": "NHWC", "dilations": (1, 1, 1, 1), "explicit_paddings": (), **attrs}


def conv2d_reference(images: Any, filters: Any, **given: Any) -> Any:
    attrs = _defaults(given)
    nhwc = attrs["data_format"] == "NHWC"
    window = windows(attrs, images.shape[1:3] if nhwc else images.shape[2:], filters.shape[:2])
    size = (len(images), *window.output, filters.shape[3])
    result = np.zeros(size if nhwc else (size[0], size[3], *window.output), images.dtype)
    for pixel, weight, output in _products(images.shape, filters.shape, attrs):
        result[output] += images[pixel] * filters[weight]
    return result


def backprop_input_reference(input_sizes: Any, filters: Any, gradients: Any, **given: Any) -> Any:
    result = np.zeros(tuple(int(size) for size in input_sizes), gradients.dtype)
    for pixel, weight, output in _products(result.shape, filters.shape, _defaults(given)):
        result[pixel] += gradients[output] * filters[weight]
    return result


def backprop_filter_reference(images: Any, filter_sizes: Any, gradients: Any, **given: Any) -> Any:
    result = np.zeros(tuple(int(size) for size in filter_sizes), gradients.dtype)
    for pixel, weight, output in _products(images.shape, result.shape, _defaults(given)):
        result[weight] += images[pixel] * gradients[output]
    return result
