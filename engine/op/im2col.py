"""Convolution of NHWC images as one matrix product, and the products that are its gradients.

Every window of an image is copied out into one row (im2col: a copy through strides); rows times filters is the convolution.
A few images are done at a time, so that the copied windows stay in the cache.  On a GPU the copies are kernels of their own
(`engine.op.cuda_images`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op import cuda_images
from engine.op.windows import Windows

_CACHED_BYTES = 1 << 21  # of copied windows at once on the CPU
_DEVICE_BYTES = 1 << 28


def _images_at_once(xp: Any, window: Windows, channels: int, itemsize: int) -> int:
    rows = window.output[0] * window.output[1] * window.size[0] * window.size[1]
    budget = _CACHED_BYTES if xp is np else _DEVICE_BYTES
    return int(max(1, budget // max(rows * channels * itemsize, 1)))


def _copied_windows(xp: Any, images: Any, window: Windows) -> Any:
    """All windows of `images` [n, h, w, c] as rows: [n · oh · ow, kh · kw · c]."""
    if hasattr(xp, "RawKernel"):
        return cuda_images.im2col(xp, images, window)
    padded = window.pad(xp, images)
    count, _, _, channels = padded.shape
    by_image, by_row, by_column, by_channel = padded.strides
    view = xp.lib.stride_tricks.as_strided(
        padded,
        (count, *window.output, *window.size, channels),
        (
            by_image,
            by_row * window.stride[0],
            by_column * window.stride[1],
            by_row * window.dilation[0],
            by_column * window.dilation[1],
            by_channel,
        ),
    )
    return view.reshape(-1, window.size[0] * window.size[1] * channels)


def forward(xp: Any, images: Any, filters: Any, window: Windows) -> Any:
    """[n, h, w, c] and [kh, kw, c, o] → [n, oh, ow, o]."""
    outputs = filters.shape[3]
    matrix = filters.reshape(-1, outputs)
    if window.is_plain:
        return (images.reshape(-1, matrix.shape[0]) @ matrix).reshape(*images.shape[:3], outputs)
    result = xp.empty((images.shape[0], *window.output, outputs), images.dtype)
    step = _images_at_once(xp, window, images.shape[3], images.itemsize)
    for i in range(0, images.shape[0], step):
        rows = _copied_windows(xp, images[i : i + step], window)
        part = result[i : i + step]
        xp.matmul(rows, matrix, out=part.reshape(-1, outputs))
    return result


def to_input(xp: Any, filters: Any, gradients: Any, window: Windows) -> Any:
    """[kh, kw, c, o] and [n, oh, ow, o] → [n, h, w, c]: each window's gradient added where the window was."""
    height, width, channels, outputs = filters.shape
    matrix = filters.reshape(-1, outputs).T
    count = gradients.shape[0]
    if window.is_plain:
        return (gradients.reshape(-1, outputs) @ matrix).reshape(count, *window.image, channels)
    result = xp.empty((count, *window.image, channels), gradients.dtype)
    step = _images_at_once(xp, window, channels, gradients.itemsize)
    for i in range(0, count, step):
        part = gradients[i : i + step]
        rows = part.reshape(-1, outputs) @ matrix
        if hasattr(xp, "RawKernel"):
            result[i : i + step] = cuda_images.col2im(xp, rows, window, channels)
            continue
        rows = rows.reshape(len(part), *window.output, height, width, channels)
        padded = window.empty_padded(xp, len(part), channels, gradients.dtype)
        for row in range(height):
            for column in range(width):
                down, across = window.slices(row, column)
                padded[:, down, across] += rows[:, :, :, row, column]
        result[i : i + step] = window.crop(padded)
    return result


def to_filter(xp: Any, images: Any, gradients: Any, window: Windows) -> Any:
    """[n, h, w, c] and [n, oh, ow, o] → [kh, kw, c, o]."""
    channels, outputs = images.shape[3], gradients.shape[3]
    shape = (*window.size, channels, outputs)
    if window.is_plain:
        return (images.reshape(-1, channels).T @ gradients.reshape(-1, outputs)).reshape(shape)
    result = xp.zeros((window.size[0] * window.size[1] * channels, outputs), gradients.dtype)
    step = _images_at_once(xp, window, channels, images.itemsize)
    for i in range(0, images.shape[0], step):
        rows = _copied_windows(xp, images[i : i + step], window)
        result += rows.T @ gradients[i : i + step].reshape(-1, outputs)
    return result.reshape(shape)
