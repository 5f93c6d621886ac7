"""Convolution's copies in CUDA: the windows of images as rows (im2col), and rows added back into images (col2im).

A thread an element, channels next to each other, so that neighbours read and write neighbours.  Padding is not copied: what lies
in it is 0.  A pixel adds the windows that it was in in the order of their elements, as `engine.op.im2col` does: the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from engine.op.cuda import THREADS
from engine.op.windows import Windows

GEOMETRY = (
    "int channels, int height, int width, int rows, int columns, int window_rows, int window_columns, "
    "int down, int across, int apart_rows, int apart_columns, int top, int left"
)

IMAGES = r"""
typedef INDEX index_t;

// Row r of windows is the window at (n, y, x); in it stand its elements (ky, kx) with their channels.
extern "C" __global__ void im2col(const ELEMENT* images, ELEMENT* windows, index_t count, GEOMETRY) {
    index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    index_t rest = i;
    int c = (int)(rest % channels); rest /= channels;
    int kx = (int)(rest % window_columns); rest /= window_columns;
    int ky = (int)(rest % window_rows); rest /= window_rows;
    int x = (int)(rest % columns); rest /= columns;
    int y = (int)(rest % rows); rest /= rows;
    int row = y * down + ky * apart_rows - top, column = x * across + kx * apart_columns - left;
    bool inside = row >= 0 && row < height && column >= 0 && column < width;
    windows[i] = inside ? images[(((long long)rest * height + row) * width + column) * channels + c] : (ELEMENT)0;
}

extern "C" __global__ void col2im(const ELEMENT* windows, ELEMENT* images, index_t count, GEOMETRY) {
    index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    index_t rest = i;
    int c = (int)(rest % channels); rest /= channels;
    int column = (int)(rest % width); rest /= width;
    int row = (int)(rest % height); rest /= height;
    ELEMENT total = 0;
    for (int ky = 0; ky < window_rows; ky++) {
        int y = row + top - ky * apart_rows;
        if (y < 0 || y % down || y / down >= rows) continue;
        for (int kx = 0; kx < window_columns; kx++) {
            int x = column + left - kx * apart_columns;
            if (x < 0 || x % across || x / across >= columns) continue;
            long long window = ((long long)rest * rows + y / down) * columns + x / across;
            total += windows[((window * window_rows + ky) * window_columns + kx) * channels + c];
        }
    }
    images[i] = total;
}
""".replace("GEOMETRY", GEOMETRY)

KERNELS = ("im2col", "col2im")
ELEMENTS = {"float32": "float", "float64": "double", "int32": "unsigned"}  # unsigned: sums wrap around
_NARROW = 1 << 31


def options(dtype: str, wide: bool) -> tuple[str, ...]:
    """What the compiler is given for arrays of `dtype`; `wide`: with 2³¹ elements or more."""
    return (f"-DELEMENT={ELEMENTS[dtype]}", f"-DINDEX=unsigned {'long long' if wide else 'int'}")


@cache
def _kernel(xp: Any, name: str, dtype: str, wide: bool) -> Any:
    return xp.RawKernel(IMAGES, name, options=options(dtype, wide))


def _launch(xp: Any, name: str, source: Any, target: Any, window: Windows, channels: int) -> None:
    wide = target.size >= _NARROW
    (top, _), (left, _) = window.pads
    geometry = (
        channels,
        *window.image,
        *window.output,
        *window.size,
        *window.stride,
        *window.dilation,
        top,
        left,
    )
    count = np.uint64(target.size) if wide else np.uint32(target.size)
    arguments = (xp.ascontiguousarray(source), target, count, *map(np.int32, geometry))
    _kernel(xp, name, target.dtype.name, wide)((-(-target.size // THREADS),), (THREADS,), arguments)


def im2col(xp: Any, images: Any, window: Windows) -> Any:
    """All windows of `images` [n, h, w, c], float32, float64 or int32, as rows: [n · oh · ow, kh · kw · c]."""
    count, _, _, channels = images.shape
    row = window.size[0] * window.size[1] * channels
    result = xp.empty((count * window.output[0] * window.output[1], row), images.dtype)
    if result.size:
        _launch(xp, "im2col", images, result, window, channels)
    return result


def col2im(xp: Any, rows: Any, window: Windows, channels: int) -> Any:
    """Images [n, h, w, c], each element the sum of what `rows` [n · oh · ow, kh · kw · c] has of it."""
    count = rows.shape[0] // (window.output[0] * window.output[1])
    result = xp.empty((count, *window.image, channels), rows.dtype)
    if result.size:
        _launch(xp, "col2im", rows, result, window, channels)
    return result
