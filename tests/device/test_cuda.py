"""The kernels written in CUDA, without a GPU: they compute what they should when C++ runs them, and NVRTC compiles them.

Their arithmetic, indexing and barriers are run on the host, a thread for each thread; what that does not show is a GPU's own
rounding, its memory model and its speed.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.op import cuda
from engine.op import philox as reference

HERE = Path(__file__).parent
THREADS = 8


@pytest.fixture(scope="module", params=["float32", "float64"])
def library(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, np.dtype[Any]]:
    """The kernels, compiled for the host."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("cuda")
    text = (HERE / "cuda_on_host.cpp").read_text(encoding="utf-8")
    source = folder / "kernels.cpp"
    source.write_text(text.replace("\nKERNELS\n", cuda.ROWS + cuda.PHILOX), encoding="utf-8")
    target = folder / "kernels.so"
    flags = [
        "-std=c++20",
        "-O1",
        "-pthread",
        "-shared",
        "-fPIC",
        f"-DREAL={cuda.REALS[request.param]}",
        f"-DTHREADS={THREADS}",
    ]
    done = subprocess.run(
        [compiler, *flags, str(source), "-o", str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target)), np.dtype(request.param)


def pointer(array: Any) -> Any:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def rows_for(dtype: np.dtype[Any]) -> Any:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (4, 8), (2, 9), (5, 37)):
        yield rng.normal(size=shape).astype(dtype) * 5
    yield np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [0.0, -np.inf, 1.0]], dtype)


def log_softmax(x: Any) -> Any:
    wide = x.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(library: Any, logarithm: bool) -> None:
    run, dtype = library
    for x in rows_for(dtype):
        found = np.full_like(x, 7)
        run.run_softmax(x.shape[0], pointer(x), pointer(found), ctypes.c_longlong(x.shape[1]), int(logarithm))
        wanted = log_softmax(x) if logarithm else np.exp(log_softmax(x))
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_a_nan_spoils_its_row_and_no_other(library: Any) -> None:
    run, dtype = library
    x = np.array([[1, np.nan, 2], [1, 2, 3]], dtype)
    found = np.empty_like(x)
    run.run_softmax(2, pointer(x), pointer(found), ctypes.c_longlong(3), 0)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def test_sparse_cross_entropy(library: Any) -> None:
    run, dtype = library
    rng = np.random.default_rng(1)
    for x in rows_for(dtype):
        labels = rng.integers(0, x.shape[1], x.shape[0])
        labels[-1] = -1 if x.shape[0] > 3 else labels[-1]
        loss, backprop = np.empty(x.shape[0], dtype), np.full_like(x, 7)
        run.run_sparse_cross_entropy(
            x.shape[0],
            pointer(x),
            pointer(labels),
            pointer(loss),
            pointer(backprop),
            ctypes.c_longlong(x.shape[1]),
        )
        p = log_softmax(x)
        chosen = np.arange(x.shape[1])[None, :] == labels[:, None]
        wanted = np.where(labels >= 0, -np.where(chosen, p, 0).sum(axis=1), np.nan)
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(loss, wanted, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(backprop, np.exp(p) - chosen, rtol=tolerance, atol=tolerance)


def test_philox_words_are_the_same(library: Any) -> None:
    run, _ = library
    u64 = ctypes.c_ulonglong
    for key, low, high in ((0, 0, 0), (2**64 - 1, 2**64 - 2, 2**64 - 1), (0x1234_5678_9ABC_DEF0, 5, 7)):
        offsets = np.array([0, 1, 2, 3, 2**32, 2**63, 2**64 - 1, 9, 10], np.uint64)
        words = np.zeros((len(offsets), 4), np.uint32)
        blocks = -(-len(offsets) // THREADS)
        run.run_philox(
            blocks, pointer(offsets), pointer(words), u64(len(offsets)), u64(key), u64(low), u64(high)
        )
        wanted = reference.words(np, reference.Stream(key, low, high), offsets)
        np.testing.assert_array_equal(words, wanted)


# With CuPy and NVIDIA's compiler at hand.


@pytest.mark.parametrize("dtype", list(cuda.REALS))
@pytest.mark.parametrize("name", list(cuda.SOURCES))
def test_nvrtc_compiles_for_hopper(name: str, dtype: str) -> None:
    pytest.importorskip("cupy")
    from cupy.cuda import compiler

    try:
        cubin, _ = compiler._NVRTCProgram(cuda.SOURCES[name], f"{name}.cu", method="cubin").compile(
            ("-arch=sm_90", *cuda.options(dtype))
        )
    except Exception as error:
        if type(error).__name__ != "DynamicLibNotFoundError":
            raise
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc-cu12, and its folder in LD_LIBRARY_PATH")
    assert name.encode() in bytes(cubin)
