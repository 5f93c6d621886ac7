"""Convolution and pooling in float64 NumPy, one place of the windows after the other, for native kernels to be held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.native.conv_geometry import Geometry, Padding

Array = np.ndarray[Any, Any]


def padded(images: Array, window: Geometry) -> Array:
    return np.pad(images.astype(np.float64), ((0, 0), *window.pads, (0, 0)))


def places(window: Geometry) -> Iterator[tuple[int, int, slice, slice]]:
    """(row, column, and where in padded images that place of all windows is)."""
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            down, across = (
                slice(first, first + (count - 1) * stride + 1, stride)
                for first, count, stride in zip((row, column), window.output, window.stride, strict=True)
            )
            yield row, column, down, across


def forward(images: Array, filters: Array, window: Geometry) -> Array:
    around = padded(images, window)
    found = np.zeros((len(images), *window.output, filters.shape[3]))
    for row, column, down, across in places(window):
        found += around[:, down, across] @ filters[row, column].astype(np.float64)
    return found


def to_input(filters: Array, gradients: Array, window: Geometry) -> Array:
    around = padded(np.zeros((len(gradients), *window.image, filters.shape[2])), window)
    for row, column, down, across in places(window):
        around[:, down, across] += gradients.astype(np.float64) @ filters[row, column].T.astype(np.float64)
    (top, _), (left, _) = window.pads
    return around[:, top : top + window.image[0], left : left + window.image[1]]


def to_filter(images: Array, gradients: Array, window: Geometry) -> Array:
    around, flat = padded(images, window), gradients.astype(np.float64).reshape(-1, gradients.shape[3])
    found = np.zeros((*window.size, images.shape[3], gradients.shape[3]))
    for row, column, down, across in places(window):
        found[row, column] = around[:, down, across].reshape(-1, images.shape[3]).T @ flat
    return found


sides = st.integers(1, 9)
pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))
paddings: st.SearchStrategy[Padding] = st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(pairs, pairs))
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))
images = st.tuples(st.integers(0, 3), sides, sides, st.integers(1, 40))
