"""The geometry of windows that slide over images: convolution and pooling share it.

Sizes follow TensorFlow: with SAME padding the output has ceil(input / stride) positions and the zeros are split evenly, the
odd one behind; with VALID there is no padding; with EXPLICIT the user says how much.  Everything here is about (height, width)
pairs; `to_nhwc` and `from_nhwc` bring the other data format to batch, height, width, channels and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.op.kernels import invalid, shape_text
from engine.types.shape import TensorShape

Pair = tuple[int, int]


class WindowError(ValueError):
    """Windows that do not fit: a ValueError while the graph is built, an InvalidArgumentError when it runs."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `size` taken every `stride` from an image of `image`, with `dilation` between the elements of one.

    `pads` are the zeros before and after, by dimension; `output` is the number of windows by dimension.
    """

    image: Pair
    size: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]
    output: Pair

    @property
    def is_plain(self) -> bool:
        """Whether each window is one pixel, each pixel in one window: a 1×1 convolution."""
        return self.size == (1, 1) and self.stride == (1, 1) and self.pads == ((0, 0), (0, 0))

    def slices(self, row: int, column: int) -> tuple[slice, slice]:
        """Where in the padded image element (row, column) of each window lies."""
        return self._along(0, row), self._along(1, column)

    def _along(self, axis: int, element: int) -> slice:
        start = element * self.dilation[axis]
        return slice(start, start + (self.output[axis] - 1) * self.stride[axis] + 1, self.stride[axis])

    def pad(self, xp: Any, images: Any, value: Any = 0) -> Any:
        """`images` [n, h, w, c] with `value` around them, or as they are if no padding is needed."""
        if self.pads == ((0, 0), (0, 0)):
            return images
        (top, _), (left, _) = self.pads
        padded = self.empty_padded(xp, images.shape[0], images.shape[3], images.dtype, value)
        padded[:, top : top + self.image[0], left : left + self.image[1]] = images
        return padded

    def empty_padded(self, xp: Any, count: int, channels: int, dtype: Any, value: Any = 0) -> Any:
        """`count` padded images with `value` everywhere."""
        (top, bottom), (left, right) = self.pads
        size = (count, self.image[0] + top + bottom, self.image[1] + left + right, channels)
        if value == 0:
            return xp.zeros(size, dtype)
        found = xp.empty(size, dtype)
        found[...] = value
        return found

    def crop(self, padded: Any) -> Any:
        """What of padded images lies inside the padding."""
        (top, _), (left, _) = self.pads
        return padded[:, top : top + self.image[0], left : left + self.image[1]]


def one_dimension(
    image: int | None, size: int | None, stride: int, dilation: int, padding: str, explicit: Pair
) -> tuple[int | None, Pair]:
    """The number of windows along one dimension and the padding before and after it; None where sizes are unknown.

    Raises WindowError if the window is larger than the padded image.
    """
    if image is None or (size is None and padding != "SAME"):
        return None, (0, 0)
    if padding == "SAME":
        count = -(-image // stride)
        if size is None:
            return count, (0, 0)
        reach = (size - 1) * dilation + 1
        missing = max((count - 1) * stride + reach - image, 0)
        return count, (missing // 2, missing - missing // 2)
    assert size is not None
    reach = (size - 1) * dilation + 1
    pads = explicit if padding == "EXPLICIT" else (0, 0)
    count = (image + sum(pads) - reach + stride) // stride
    if count < 0:
        raise WindowError(
            f"Computed output size would be negative: {count} "
            f"[input_size: {image}, effective_filter_size: {reach}, stride: {stride}]"
        )
    return count, pads


def spatial(data_format: str) -> Pair:
    """Which dimensions of an image tensor are height and width."""
    return (1, 2) if data_format == "NHWC" else (2, 3)


def channel(data_format: str) -> int:
    """Which dimension of an image tensor are the channels."""
    return 3 if data_format == "NHWC" else 1


def _by_dimension(attrs: Mapping[str, Any], name: str) -> tuple[int, ...]:
    values: tuple[int, ...] = attrs.get(name, (1, 1, 1, 1))
    if len(values) != 4:
        raise WindowError(f"{name} must have 4 values, one a dimension, got {list(values)}")
    if min(values) <= 0:
        raise WindowError(f"{name} must be positive, got {list(values)}")
    outside = [values[i] for i in (0, channel(attrs["data_format"]))]
    if outside != [1, 1]:
        raise WindowError(f"{name} along the batch and channel dimensions must be 1, got {list(values)}")
    return values


def _explicit(attrs: Mapping[str, Any]) -> tuple[Pair, Pair]:
    values = attrs.get("explicit_paddings", ())
    if attrs["padding"] != "EXPLICIT":
        if values:
            raise WindowError(
                f"explicit_paddings must be empty for padding {attrs['padding']}, got {list(values)}"
            )
        return (0, 0), (0, 0)
    if len(values) != 8 or min(values) < 0:
        raise WindowError(
            f"explicit_paddings must be 8 non-negative values, two a dimension, got {list(values)}"
        )
    for i in (0, channel(attrs["data_format"])):
        if values[2 * i] or values[2 * i + 1]:
            raise WindowError(
                f"explicit_paddings along the batch and channel dimensions must be 0, got {list(values)}"
            )
    rows, columns = spatial(attrs["data_format"])
    return (values[2 * rows], values[2 * rows + 1]), (values[2 * columns], values[2 * columns + 1])


def static_output(
    attrs: Mapping[str, Any], image: Sequence[int | None], size: Sequence[int | None]
) -> tuple[int | None, int | None]:
    """The number of windows along height and width, as far as it is known."""
    strides, dilations = _by_dimension(attrs, "strides"), _by_dimension(attrs, "dilations")
    explicit = _explicit(attrs)
    found = []
    for i, axis in enumerate(spatial(attrs["data_format"])):
        length, window = image[i], size[i]
        if length is not None and window is not None and attrs["padding"] != "SAME":
            reach, padded = (window - 1) * dilations[axis] + 1, length + sum(explicit[i])
            if reach > padded:
                raise WindowError(f"Negative dimension size caused by subtracting {reach} from {padded}")
        count, _ = one_dimension(
            length, window, strides[axis], dilations[axis], attrs["padding"], explicit[i]
        )
        found.append(count)
    return found[0], found[1]


def windows(attrs: Mapping[str, Any], image: Sequence[int], size: Sequence[int]) -> Windows:
    """The windows of an op with these attrs on an image of that (height, width).

    Raises InvalidArgumentError if they do not fit.
    """
    try:
        strides, dilations = _by_dimension(attrs, "strides"), _by_dimension(attrs, "dilations")
        explicit = _explicit(attrs)
        pads: list[Pair] = []
        output: list[int] = []
        axes = spatial(attrs["data_format"])
        for i, axis in enumerate(axes):
            count, around = one_dimension(
                image[i], size[i], strides[axis], dilations[axis], attrs["padding"], explicit[i]
            )
            assert count is not None
            output.append(count)
            pads.append(around)
    except WindowError as error:
        raise invalid(str(error)) from None
    rows, columns = axes
    return Windows(
        (image[0], image[1]),
        (size[0], size[1]),
        (strides[rows], strides[columns]),
        (dilations[rows], dilations[columns]),
        (pads[0], pads[1]),
        (output[0], output[1]),
    )


def to_nhwc(xp: Any, images: Any, data_format: str) -> Any:
    """A view (or copy) of `images` in batch, height, width, channels order.  Raises InvalidArgumentError unless of rank 4."""
    if images.ndim != 4:
        raise invalid(f"images must be 4-dimensional: {shape_text(images.shape)}")
    return images if data_format == "NHWC" else images.transpose(0, 2, 3, 1)


def from_nhwc(xp: Any, images: Any, data_format: str) -> Any:
    """`images` [n, h, w, c] in `data_format`, contiguous."""
    return xp.ascontiguousarray(images if data_format == "NHWC" else images.transpose(0, 3, 1, 2))


def image_shape(
    data_format: str, batch: int | None, size: Sequence[int | None], channels: int | None
) -> TensorShape:
    """A static shape in `data_format`."""
    rows, columns = size
    if data_format == "NHWC":
        return TensorShape.of((batch, rows, columns, channels))
    return TensorShape.of((batch, channels, rows, columns))


def four(value: Any, data_format: str, name: str) -> list[int]:
    """Strides, dilations or a window's size as TensorFlow takes them: one number, two for height and width, or all four."""
    values = [1] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if len(values) == 4:
        return values
    if len(values) not in (1, 2):
        raise ValueError(f"{name} should be of length 1, 2 or 4 but was {len(values)}")
    pair = values * 2 if len(values) == 1 else values
    return [1, *pair, 1] if data_format == "NHWC" else [1, 1, *pair]
