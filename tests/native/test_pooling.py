"""Native pooling: the bits that the NumPy kernels give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import windows_by_hand as by_hand
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from native_kernels import run, unaligned

from engine.native import compiler, pooling
from engine.native.conv_geometry import Padding, geometry
from engine.native.emitter import Machine
from engine.op import pool

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def kernel_attrs(ksize: Pair, strides: Pair, padding: Padding) -> Any:
    """What the NumPy kernels are given."""
    attrs: dict[str, Any] = {"ksize": (1, *ksize, 1), "strides": (1, *strides, 1), "data_format": "NHWC"}
    if isinstance(padding, str):
        attrs["padding"] = padding
    else:
        attrs |= {"padding": "EXPLICIT", "explicit_paddings": (0, 0, *padding[0], *padding[1], 0, 0)}
    return SimpleNamespace(xp=np, attrs=attrs)


def same(found: Array, wanted: Array) -> None:
    """The same numbers, NaN where there is NaN, and the same signs of zeros."""
    np.testing.assert_array_equal(found, wanted)
    real = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found)[real], np.signbit(wanted)[real])


def check_all(
    images: Array,
    ksize: Pair,
    strides: Pair,
    padding: Padding,
    machine: Machine | None = None,
    chunk: int | None = None,
) -> None:
    window = geometry(images.shape[1:3], ksize, strides, padding)
    assert window is not None
    rng = np.random.default_rng(1)
    gradients = rng.standard_normal((len(images), *window.output, images.shape[3])).astype(images.dtype)
    gradients[rng.random(gradients.shape) < 0.1] = -0.0
    k = kernel_attrs(ksize, strides, padding)
    with np.errstate(all="ignore"):
        pooled = pool._max_pool(k, images)
        shape = np.array(images.shape, np.int32)
        wanted = {
            "max_pool": ([images], pooled),
            "avg_pool": ([images], pool._avg_pool(k, images)),
            "max_pool_grad": ([images, pooled, gradients], pool._max_pool_grad(k, images, pooled, gradients)),
            "avg_pool_grad": ([gradients], pool._avg_pool_grad(k, shape, gradients)),
        }
    for name, (inputs, exact) in wanted.items():
        kernel = getattr(pooling, name)(images.shape, ksize, strides, padding, images.dtype, machine=machine)
        found = np.full(exact.shape, np.nan, images.dtype)
        run(kernel, [*inputs, found], chunk)
        same(found, exact)


def values(shape: tuple[int, ...], kind: str, dtype: str) -> Array:
    rng = np.random.default_rng(0)
    found = rng.standard_normal(shape)
    if kind == "ties":
        found = np.round(found) * rng.choice([1.0, 0.0, -0.0], shape)
    if kind == "extremes":
        found[rng.random(shape) < 0.1] = np.nan
        found[rng.random(shape) < 0.1] = np.inf
        found[rng.random(shape) < 0.1] = -1e30
    return found.astype(dtype)


@settings(max_examples=20)
@given(
    by_hand.images,
    by_hand.sizes,
    by_hand.strides,
    by_hand.paddings,
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["plain", "ties", "extremes"]),
    st.sampled_from([None, Machine(16, 16), Machine(64, 32)]),
    st.sampled_from([None, 1, 2]),
)
def test_against_numpy(
    shape: tuple[int, int, int, int],
    ksize: Pair,
    strides: Pair,
    padding: Padding,
    dtype: str,
    kind: str,
    machine: Machine | None,
    chunk: int | None,
) -> None:
    assume(geometry(shape[1:3], ksize, strides, padding) is not None)
    check_all(values(shape, kind, dtype), ksize, strides, padding, machine, chunk)


@pytest.mark.parametrize(
    ("ksize", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 3), (1, 1)), ((6, 6), (6, 6))]
)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_usual_windows(ksize: Pair, strides: Pair, padding: str) -> None:
    check_all(values((3, 14, 13, 35), "ties", "float32"), ksize, strides, padding, chunk=2)


def test_windows_all_in_the_padding() -> None:
    check_all(values((1, 3, 3, 5), "plain", "float32"), (2, 2), (2, 2), ((4, 0), (0, 4)))


def test_arrays_that_are_hardly_aligned() -> None:
    images = values((2, 6, 6, 11), "plain", "float32")
    kernel = pooling.max_pool(images.shape, (2, 2), (2, 2), "VALID", np.float32)
    assert kernel is not None
    found = unaligned(np.empty((2, 3, 3, 11), np.float32))
    run(kernel, [unaligned(images), found])
    same(found, images.reshape(2, 3, 2, 3, 2, 11).max((2, 4)))


def test_minus_infinity_everywhere() -> None:
    """The first pixel takes the gradient, also where the window begins in the padding (NumPy's padding would take it)."""
    images = np.full((1, 2, 2, 1), -np.inf, np.float32)
    kernel = pooling.max_pool_grad(images.shape, (2, 2), (1, 1), ((1, 0), (1, 0)), np.float32)
    assert kernel is not None
    found = np.empty_like(images)
    run(kernel, [images, np.full_like(images, -np.inf), np.ones_like(images), found])
    assert found.ravel().tolist() == [4, 0, 0, 0]


@pytest.mark.parametrize("name", ["max_pool", "avg_pool", "max_pool_grad", "avg_pool_grad"])
def test_what_is_left_to_others(name: str) -> None:
    make = getattr(pooling, name)
    assert make((1, 4, 4, 2), (2, 2), (2, 2), "SAME", np.float16) is None
    assert make((1, 4, 0, 2), (2, 2), (2, 2), "SAME", np.float32) is None
    assert make((1, 4, 4, 2), (5, 5), (2, 2), "VALID", np.float32) is None
    assert make((1, 4, 4, 2), (2, 2), (2, 2), "FULL", np.float32) is None
