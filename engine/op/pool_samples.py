"""What the pooling ops are proven on: small images, and references that look at one window after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.samples import Sample, array, random_array
from engine.op.windows import spatial, static_output, windows

if TYPE_CHECKING:
    from engine.types.dtypes import DType

_CASES: tuple[tuple[tuple[int, ...], tuple[int, int], tuple[int, int], str], ...] = (
    ((2, 4, 4, 2), (2, 2), (2, 2), "VALID"),
    ((1, 5, 4, 2), (2, 3), (2, 1), "SAME"),
    ((1, 5, 5, 1), (3, 3), (1, 1), "SAME"),
    ((1, 5, 5, 1), (2, 2), (3, 3), "VALID"),
    ((1, 3, 4, 2), (1, 1), (1, 1), "SAME"),
    ((0, 4, 4, 1), (2, 2), (2, 2), "VALID"),
)


def _cases(explicit: bool = False) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    """(images' shape, output's shape, attrs) in both data formats."""
    for images, size, stride, padding in _CASES:
        attrs: dict[str, Any] = {
            "ksize": (1, *size, 1),
            "strides": (1, *stride, 1),
            "padding": padding,
            "data_format": "NHWC",
        }
        yield images, (images[0], *_known(static_output(attrs, images[1:3], size)), images[3]), attrs
    images = (2, 2, 5, 4)
    attrs = {"ksize": (1, 1, 2, 2), "strides": (1, 1, 2, 1), "padding": "SAME", "data_format": "NCHW"}
    yield images, (2, 2, *_known(static_output(attrs, images[2:], (2, 2)))), attrs
    if explicit:
        around = (0, 0, 1, 0, 0, 1, 0, 0)
        attrs = {
            "ksize": (1, 2, 2, 1),
            "strides": (1, 2, 2, 1),
            "padding": "EXPLICIT",
            "explicit_paddings": around,
            "data_format": "NHWC",
        }
        yield (1, 3, 3, 2), (1, *_known(static_output(attrs, (3, 3), (2, 2))), 2), attrs


def _known(size: tuple[int | None, int | None]) -> tuple[int, int]:
    assert size[0] is not None and size[1] is not None
    return size[0], size[1]


def _distinct(rng: np.random.Generator, dtype: DType, shape: Sequence[int]) -> Any:
    """Values no two of which are near each other, so that finite differences do not change which is the largest."""
    count = int(np.prod(shape))
    if dtype.is_floating:
        return array(rng.permutation(count).reshape(shape) / 4 - count / 8, dtype)
    return random_array(rng, dtype, shape, -60, 60)


def max_pool_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, _, attrs in _cases(explicit=True):
        yield Sample(_distinct(rng, dtype, images), attrs=attrs)
    ties = array(np.ones((1, 4, 4, 1)), dtype)
    yield Sample(
        ties, attrs={"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": "VALID"}, grad=(), note="ties"
    )


def _pooled(images: Any, dtype: DType, attrs: dict[str, Any]) -> Any:
    return array(max_pool_reference(np.asarray(images, np.float64), **attrs), dtype)


def max_pool_grad_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, output, attrs in _cases(explicit=True):
        values = _distinct(rng, dtype, images)
        yield Sample(
            values,
            _pooled(values, dtype, attrs),
            random_array(rng, dtype, output),
            attrs=attrs,
            grad=(2,) if "explicit_paddings" not in attrs else (),
        )
    ties = array(np.ones((1, 4, 4, 1)), dtype)
    attrs = {"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": "VALID", "data_format": "NHWC"}
    yield Sample(
        ties,
        _pooled(ties, dtype, attrs),
        random_array(rng, dtype, (1, 2, 2, 1)),
        attrs=attrs,
        grad=(),
        note="ties",
    )


def max_pool_grad_grad_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, _, attrs in _cases():
        values = _distinct(rng, dtype, images)
        yield Sample(
            values, _pooled(values, dtype, attrs), random_array(rng, dtype, images), attrs=attrs, grad=(2,)
        )


def avg_pool_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, _, attrs in _cases():
        yield Sample(random_array(rng, dtype, images), attrs=attrs)


def avg_pool_grad_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for images, output, attrs in _cases():
        yield Sample(np.array(images, np.int32), random_array(rng, dtype, output), attrs=attrs)


def _regions(
    shape: Sequence[int], given: dict[str, Any]
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Each output element with the image elements in its window, as indices."""
    attrs = {"data_format": "NHWC", **given}
    nhwc = attrs["data_format"] == "NHWC"
    rows, columns = spatial(attrs["data_format"])
    window = windows(attrs, (shape[rows], shape[columns]), (attrs["ksize"][rows], attrs["ksize"][columns]))
    for n, y, x, c in np.ndindex(shape[0], *window.output, shape[3] if nhwc else shape[1]):
        top, left = y * window.stride[0] - window.pads[0][0], x * window.stride[1] - window.pads[1][0]
        inside: list[tuple[int, ...]] = [
            (n, i, j, c) if nhwc else (n, c, i, j)
            for i in range(max(top, 0), min(top + window.size[0], shape[rows]))
            for j in range(max(left, 0), min(left + window.size[1], shape[columns]))
        ]
        yield (n, y, x, c) if nhwc else (n, c, y, x), inside


def _gathered(choose: Callable[[Any, list[tuple[int, ...]]], Any]) -> Callable[..., Any]:
    def reference(images: Any, **attrs: Any) -> Any:
        found = {index: choose(images, inside) for index, inside in _regions(images.shape, attrs)}
        shape = tuple(np.max(list(found), axis=0) + 1) if found else _empty_shape(images.shape, attrs)
        result = np.zeros(shape, images.dtype)
        for index, value in found.items():
            result[index] = value
        return result

    return reference


def _empty_shape(shape: Sequence[int], given: dict[str, Any]) -> tuple[int, ...]:
    attrs = {"data_format": "NHWC", **given}
    return (shape[0], *_known(static_output(attrs, shape[1:3], attrs["ksize"][1:3])), shape[3])


max_pool_reference = _gathered(lambda images, inside: max(images[pixel] for pixel in inside))
avg_pool_reference = _gathered(lambda images, inside: sum(images[pixel] for pixel in inside) / len(inside))


def max_pool_grad_reference(images: Any, pooled: Any, gradients: Any, **attrs: Any) -> Any:
    result = np.zeros(images.shape, gradients.dtype)
    for index, inside in _regions(images.shape, attrs):
        result[max(inside, key=lambda pixel: images[pixel])] += gradients[index]
    return result


def max_pool_grad_grad_reference(images: Any, pooled: Any, gradients: Any, **attrs: Any) -> Any:
    result = np.zeros(pooled.shape, gradients.dtype)
    for index, inside in _regions(images.shape, attrs):
        result[index] = gradients[max(inside, key=lambda pixel: images[pixel])]
    return result


def avg_pool_grad_reference(image_shape_: Any, gradients: Any, **attrs: Any) -> Any:
    result = np.zeros(tuple(int(size) for size in image_shape_), gradients.dtype)
    for index, inside in _regions(result.shape, attrs):
        for pixel in inside:
            result[pixel] += gradients[index] / len(inside)
    return result
