"""The kernels written in CUDA, without a GPU: they compute what they should when C++ runs them, and NVRTC compiles them.

Their arithmetic, indexing and barriers are run on the host, and the code that launches them; what that does not show is a GPU's
own rounding, its memory model and its speed (`test_gpu.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda, nvrtc

from engine.op import cuda, cuda_images, im2col
from engine.op import philox as reference
from engine.op.windows import Windows, windows
from engine.types.dtypes import as_dtype

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5, "float64": 1e-12}


@pytest.fixture(scope="module")
def xp(tmp_path_factory: pytest.TempPathFactory) -> HostCuda:
    return HostCuda(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=list(cuda.REALS))
def dtype(request: Any) -> np.dtype[Any]:
    return np.dtype(as_dtype(request.param).np_dtype)


def close(found: Any, wanted: Any, dtype: np.dtype[Any]) -> None:
    assert found.dtype == dtype
    tolerance = TOLERANCE[dtype.name]
    np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


def rows_for(dtype: np.dtype[Any]) -> Any:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (4, 8), (2, 9), (5, 37)):
        yield (rng.normal(size=shape) * 5).astype(dtype)
    yield np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [0.0, -np.inf, 1.0]]).astype(dtype)


def log_softmax(x: Any) -> Any:
    wide = x.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(xp: HostCuda, dtype: np.dtype[Any], logarithm: bool) -> None:
    for x in rows_for(dtype):
        wanted = log_softmax(x) if logarithm else np.exp(log_softmax(x))
        close(cuda.softmax(xp, x, logarithm), wanted, dtype)
    assert cuda.softmax(xp, x.reshape(3, 1, 3), logarithm).shape == (3, 1, 3)


def test_a_nan_spoils_its_row_and_no_other(xp: HostCuda, dtype: np.dtype[Any]) -> None:
    found = cuda.softmax(xp, np.array([[1, np.nan, 2], [1, 2, 3]]).astype(dtype), False).astype(np.float64)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def test_sparse_cross_entropy(xp: HostCuda, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(1)
    for x in rows_for(dtype):
        labels = rng.integers(0, x.shape[1], x.shape[0])
        labels[-1] = -1 if x.shape[0] > 3 else labels[-1]
        loss, backprop = cuda.sparse_cross_entropy(xp, x, labels.astype(np.int32))
        p = log_softmax(x)
        chosen = np.arange(x.shape[1])[None, :] == labels[:, None]
        close(loss, np.where(labels >= 0, -np.where(chosen, p, 0).sum(axis=1), np.nan), dtype)
        close(backprop, np.exp(p) - chosen, dtype)


def test_cross_entropy(xp: HostCuda, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(2)
    for x in list(rows_for(dtype))[:-1]:
        labels = rng.dirichlet(np.ones(x.shape[1]), x.shape[0]).astype(dtype)
        once = np.broadcast_to(labels[:1], x.shape)
        turned = np.asfortranarray(labels)
        for targets in (labels, once, turned):
            loss, backprop = cuda.cross_entropy(xp, x, targets)
            wide = targets.astype(np.float64)
            close(loss, -(wide * log_softmax(x)).sum(axis=1), dtype)
            close(backprop, np.exp(log_softmax(x)) - wide, dtype)


def test_layer_norm(xp: HostCuda, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(3)
    epsilon = np.array(0.0625).astype(dtype)
    for shape in ((1, 1), (3, 5), (2, 2, 37)):
        x, scale, offset = (
            (rng.normal(size=size) * 2 + 1).astype(dtype) for size in (shape, shape[-1:], shape[-1:])
        )
        wide = x.astype(np.float64)
        normal = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 0.0625)
        gain, shift = scale.astype(np.float64), offset.astype(np.float64)
        close(cuda.layer_norm(xp, x, epsilon, None, None), normal, dtype)
        close(cuda.layer_norm(xp, x, epsilon, scale, None), normal * gain, dtype)
        close(cuda.layer_norm(xp, x, epsilon, None, offset), normal + shift, dtype)
        close(cuda.layer_norm(xp, x, epsilon, scale, offset), normal * gain + shift, dtype)


def test_philox_words_are_the_same(xp: HostCuda) -> None:
    for key, low, high in ((0, 0, 0), (2**64 - 1, 2**64 - 2, 2**64 - 1), (0x1234_5678_9ABC_DEF0, 5, 7)):
        offsets = np.array([0, 1, 2, 3, 2**32, 2**63, 2**64 - 1, 9, 10], np.uint64)
        found = cuda.philox(xp, offsets, key, low, high)
        np.testing.assert_array_equal(found, reference.words(np, reference.Stream(key, low, high), offsets))


# Convolution.


def geometries() -> list[Windows]:
    def made(image: Any, size: Any, stride: int, dilation: int, padding: str, explicit: Any = ()) -> Windows:
        attrs = {
            "strides": (1, stride, stride + 1, 1),
            "dilations": (1, dilation, 1, 1),
            "padding": padding,
            "explicit_paddings": explicit,
            "data_format": "NHWC",
        }
        return windows(attrs, image, size)

    return [
        made((5, 6), (3, 2), 1, 1, "SAME"),
        made((7, 5), (3, 3), 2, 1, "VALID"),
        made((8, 8), (2, 3), 2, 2, "SAME"),
        made((4, 5), (3, 3), 1, 1, "EXPLICIT", (0, 0, 2, 1, 0, 3, 0, 0)),
        made((3, 3), (2, 2), 3, 1, "VALID"),
    ]


@pytest.mark.parametrize("dtype_name", list(cuda_images.ELEMENTS))
@pytest.mark.parametrize("number", range(5))
def test_windows_out_of_images_and_back(xp: HostCuda, number: int, dtype_name: str) -> None:
    """The same bits as the copies in NumPy, which the convolutions' own tests compare with plain loops."""
    window = geometries()[number]
    rng = np.random.default_rng(number)
    images = (rng.normal(size=(3, *window.image, 2)) * 9).astype(dtype_name)
    filters = (rng.normal(size=(*window.size, 2, 4)) * 9).astype(dtype_name)
    gradients = (rng.normal(size=(3, *window.output, 4)) * 9).astype(dtype_name)
    xp.launches.clear()
    for function, left, right in (
        (im2col.forward, images, filters),
        (im2col.to_input, filters, gradients),
        (im2col.to_filter, images, gradients),
    ):
        np.testing.assert_array_equal(function(xp, left, right, window), function(np, left, right, window))
    assert xp.launches == ["im2col", "col2im", "im2col"]


# With CuPy and NVIDIA's compiler at hand.


@pytest.mark.parametrize("dtype_name", list(cuda.REALS))
def test_nvrtc_compiles_the_kernels_of_rows_for_hopper(dtype_name: str) -> None:
    nvrtc(cuda.ROWS, cuda.ROW_KERNELS, cuda.options(dtype_name))


def test_nvrtc_compiles_philox_for_hopper() -> None:
    nvrtc(cuda.PHILOX, ["philox"], cuda.options())


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype_name", list(cuda_images.ELEMENTS))
def test_nvrtc_compiles_the_copies_of_convolutions_for_hopper(dtype_name: str, wide: bool) -> None:
    nvrtc(cuda_images.IMAGES, cuda_images.KERNELS, cuda_images.options(dtype_name, wide))
