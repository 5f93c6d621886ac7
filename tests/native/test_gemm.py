"""Native products of matrices: NumPy's bits, however the work is cut and shared out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native import blas, compiler, gemm, pool, ufuncs
from engine.native.kernel import NativeKernel
from engine.native.pool import Pool

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

Array = npt.NDArray[Any]
FLOATS = ("float32", "float64", "complex64", "complex128")


@pytest.fixture(scope="module")
def threads() -> Iterator[Pool]:
    with Pool(3) as made:
        yield made


def random(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(dtype)
    values = rng.standard_normal(shape) * 10
    if kind.kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    elif kind.kind == "u":
        values = abs(values)
    return np.ascontiguousarray(values.astype(kind))


def turned(x: Array, flip: bool) -> Array:
    return np.swapaxes(x, -1, -2) if flip else x


def wanted(a: Array, b: Array, flip_a: bool, flip_b: bool) -> Array:
    with blas.single_threaded():
        product: Array = np.matmul(turned(a, flip_a), turned(b, flip_b))
    return product


def run(kernel: NativeKernel, a: Array, b: Array, shape: tuple[int, ...], threads: Pool) -> Array:
    out = np.full(shape, 77, a.dtype)
    args = np.array([each.ctypes.data for each in (a, b, out)], np.int64)
    (phase,) = kernel.phases
    assert phase.args == (0, 1, 2) and (kernel.inputs, kernel.outputs) == (2, 1)
    with blas.single_threaded():
        threads.parallel_for(phase.address, args.ctypes.data, 0, phase.extent, phase.grain)
    return out


def check(dtype: Any, m: int, n: int, k: int, flips: tuple[bool, bool], threads: Pool, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    kernel = gemm.gemm(m, n, k, dtype, *flips)
    assert kernel is not None and kernel.ulps == 0
    a = random(rng, dtype, (k, m) if flips[0] else (m, k))
    b = random(rng, dtype, (n, k) if flips[1] else (k, n))
    right = wanted(a, b, *flips)
    for limit in (1, 2, 3):
        got = run(kernel, a, b, (m, n), threads.limit(limit))
        assert ufuncs.same_bits(got, right), (dtype, m, n, k, flips, limit)


SIZES = st.one_of(st.integers(0, 5), st.integers(2, 40), st.integers(40, 330))


@given(
    st.sampled_from(FLOATS),
    SIZES,
    SIZES,
    SIZES,
    st.tuples(st.booleans(), st.booleans()),
    st.integers(0, 2**32 - 1),
)
def test_numpys_bits(
    threads: Pool, dtype: str, m: int, n: int, k: int, flips: tuple[bool, bool], seed: int
) -> None:
    check(dtype, m, n, k, flips, threads, seed)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "shape",
    [(128, 256, 784), (784, 256, 128), (128, 784, 256), (256, 256, 256), (600, 24, 600), (24, 700, 500)],
)
def test_the_shapes_of_layers(threads: Pool, shape: tuple[int, int, int], flips: tuple[bool, bool]) -> None:
    check("float32", *shape, flips, threads)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
def test_larger_ones(threads: Pool, dtype: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        m, n, k = (int(each) for each in rng.integers(100, 800, 3))
        check(dtype, m, n, k, (bool(rng.integers(2)), bool(rng.integers(2))), threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_cut_at_whole_units_keeps_the_bits(dtype: str) -> None:
    rng = np.random.default_rng(1)
    m, n, k = 500, 130, 210
    kernel = gemm.gemm(m, n, k, dtype)
    assert kernel is not None
    (phase,) = kernel.phases
    a, b = random(rng, dtype, (m, k)), random(rng, dtype, (k, n))
    right = wanted(a, b, False, False)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(phase.address)
    for _ in range(20):
        out = np.zeros((m, n), dtype)
        args = np.array([each.ctypes.data for each in (a, b, out)], np.int64)
        with blas.single_threaded():
            begin = 0
            while begin < phase.extent:
                end = begin + phase.grain + int(rng.integers(0, 5))
                end = phase.extent if end + phase.grain > phase.extent else end
                call(args.ctypes.data, begin, end)
                begin = end
        assert ufuncs.same_bits(out, right)


def test_large_products_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    if not blas.available():
        pytest.skip(blas.why_not())
    monkeypatch.setattr(pool, "processors", lambda: 2)
    kernel = gemm.gemm(1031, 257, 129, "float32")
    assert kernel is not None
    (phase,) = kernel.phases
    assert phase.extent // phase.grain >= 2


@pytest.mark.parametrize("shape", [(5000, 900, 300), (70_000, 130, 40), (40, 9000, 700)])
def test_a_part_stands_for_the_whole(shape: tuple[int, int, int]) -> None:
    whole = gemm._Shape(*shape, np.dtype(np.float32), False, True)
    for cut in gemm._cuts(whole):
        part = gemm._part(whole, cut)
        sizes = (whole.m, whole.n)[cut.axis], (part.m, part.n)[cut.axis]
        others = (whole.m, whole.n)[1 - cut.axis], (part.m, part.n)[1 - cut.axis]
        assert part.work <= whole.work and part.k == whole.k
        assert sizes[0] % cut.unit == sizes[1] % cut.unit and others[0] % 64 == others[1] % 64
        assert len(list(gemm._pieces(sizes[1], cut))) >= 2


def test_a_cut_that_changes_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gemm._cut.cache_clear()
    monkeypatch.setattr(ufuncs, "same_bits", lambda a, b: False)
    shape = gemm._Shape(900, 900, 300, np.dtype(np.float32), False, False)
    try:
        assert gemm._cut(shape, True) == gemm._Cut()
        assert gemm._cut(shape, False).unit > 0 or not blas.available()
    finally:
        gemm._cut.cache_clear()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (60, 70, 80), (1, 300, 40), (300, 1, 40), (0, 3, 2), (2, 3, 0)])
def test_what_is_no_float(threads: Pool, dtype: str, shape: tuple[int, int, int]) -> None:
    for flips in ((False, False), (True, False), (False, True), (True, True)):
        check(dtype, *shape, flips, threads)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("m", "k"), [(5, 3), (90, 40), (400, 170)])
def test_a_matrix_times_its_own_transpose(threads: Pool, dtype: str, m: int, k: int) -> None:
    rng = np.random.default_rng(4)
    a = random(rng, dtype, (m, k))
    for flips, size, inner in (((False, True), m, k), ((True, False), k, m)):
        kernel = gemm.gemm(size, size, inner, dtype, *flips)
        assert kernel is not None
        for other in (a, a.copy()):
            got = run(kernel, a, other, (size, size), threads)
            assert ufuncs.same_bits(got, wanted(a, other, *flips))


BATCHES = [((5,), (5,)), ((2, 3), (2, 3)), ((4,), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (0,)), ((0,), (0,))]


@pytest.mark.parametrize(("batch_a", "batch_b"), BATCHES)
@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 6, 7), (70, 90, 40), (200, 150, 128)])
def test_batches(
    threads: Pool, batch_a: tuple[int, ...], batch_b: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(5)
    m, n, k = shape
    for flips in ((False, False), (True, False), (False, True)):
        kernel = gemm.gemm(m, n, k, "float32", *flips, batch_a=batch_a, batch_b=batch_b)
        assert kernel is not None
        a = random(rng, "float32", (*batch_a, *((k, m) if flips[0] else (m, k))))
        b = random(rng, "float32", (*batch_b, *((n, k) if flips[1] else (k, n))))
        right = wanted(a, b, *flips)
        got = run(kernel, a, b, right.shape, threads)
        assert ufuncs.same_bits(got, right)


def test_leading_dimensions_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        gemm.gemm(2, 2, 2, "float32", batch_a=(2,), batch_b=(3,))


def test_cut_anywhere_it_is_still_the_product(threads: Pool) -> None:
    rng = np.random.default_rng(6)
    for m, n, k in ((128, 256, 784), (50, 900, 300), (333, 333, 333)):
        kernel = gemm.gemm(m, n, k, "float32", exact=False)
        assert kernel is not None and kernel.ulps > 0
        a, b = random(rng, "float32", (m, k)), random(rng, "float32", (k, n))
        got = run(kernel, a, b, (m, n), threads)
        exact = a.astype(np.float64) @ b
        np.testing.assert_allclose(got, exact, atol=k * 1e-5, rtol=1e-5)


def test_not_finite(threads: Pool) -> None:
    rng = np.random.default_rng(7)
    a, b = random(rng, "float32", (128, 300)), random(rng, "float32", (300, 120))
    a[3, 5], a[90, 7], b[8, 100] = np.nan, np.inf, -np.inf
    kernel = gemm.gemm(128, 120, 300, "float32")
    assert kernel is not None
    assert ufuncs.same_bits(run(kernel, a, b, (128, 120), threads), wanted(a, b, False, False))


@pytest.mark.parametrize("dtype", ["float16", "object", "datetime64[s]", ">f4"])
def test_dtypes_without_a_loop(dtype: str) -> None:
    assert gemm.gemm(3, 4, 5, dtype) is None


def test_one_kernel_for_one_shape() -> None:
    assert gemm.gemm(17, 18, 19, "float32") is gemm.gemm(17, 18, 19, np.float32)
    assert gemm.gemm(17, 18, 19, "float32") is not gemm.gemm(17, 18, 19, "float32", True)
