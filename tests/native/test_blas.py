"""NumPy's own OpenBLAS: found, called, and held to one thread."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.native import blas
from engine.types.errors import NotFoundError

needs_blas = pytest.mark.skipif(not blas.available(), reason=blas.why_not())


@pytest.fixture
def two_threads() -> Iterator[None]:
    setting, before = blas.blas().function("openblas_set_num_threads"), blas.threads()
    setting(2)
    yield
    setting(before)


def forget() -> None:
    blas._search.cache_clear()
    blas._setting.cache_clear()


@needs_blas
def test_it_is_the_one_in_numpys_wheel() -> None:
    found = blas.blas()
    assert blas.why_not() == "" and found is blas.blas()
    assert "blas" in Path(found.path).name
    assert found.integer in (32, 64)
    assert found.address("cblas_sgemm") and found.address("cblas_dsyrk") and found.address("cblas_zgemv")
    with pytest.raises(NotFoundError, match="cblas_nothing"):
        found.address("cblas_nothing")


@needs_blas
def test_a_vectors_product_through_its_address() -> None:
    integer = ctypes.c_int64 if blas.blas().integer == 64 else ctypes.c_int32
    pointer = ctypes.c_void_p
    dot = ctypes.CFUNCTYPE(ctypes.c_double, integer, pointer, integer, pointer, integer)(
        blas.blas().address("cblas_ddot")
    )
    x, y = np.arange(7.0), np.arange(14.0)
    assert dot(7, x.ctypes.data, 1, y.ctypes.data, 2) == x @ y[::2]


@needs_blas
def test_one_thread_inside_and_what_was_before_after(two_threads: None) -> None:
    if blas.threads() != 2:
        pytest.skip("this OpenBLAS has one thread")
    with blas.single_threaded():
        assert blas.threads() == 1
        with blas.single_threaded():
            assert blas.threads() == 1
        assert blas.threads() == 1
    assert blas.threads() == 2
    with pytest.raises(KeyError), blas.single_threaded():
        raise KeyError
    assert blas.threads() == 2


@needs_blas
def test_blocks_of_several_threads_overlap(two_threads: None) -> None:
    if blas.threads() != 2:
        pytest.skip("this OpenBLAS has one thread")
    wrong: list[int] = []

    def work() -> None:
        for _ in range(200):
            with blas.single_threaded():
                if blas.threads() != 1:
                    wrong.append(blas.threads())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong and blas.threads() == 2


@needs_blas
def test_a_child_forked_inside_keeps_one_thread_until_its_block_ends(two_threads: None) -> None:
    if blas.threads() != 2:
        pytest.skip("this OpenBLAS has one thread")
    with blas.single_threaded():
        child = os.fork()
        if child == 0:
            os._exit(0 if blas.threads() == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert blas.threads() == 2


def test_a_numpy_without_openblas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "libother_openblas.so"
    other.write_bytes(b"no library")
    monkeypatch.setattr(blas, "_paths", lambda: iter([tmp_path / "missing.so", other]))
    forget()
    try:
        assert not blas.available() and "no OpenBLAS" in blas.why_not() and blas.threads() == 1
        with pytest.raises(NotFoundError, match="no OpenBLAS"):
            blas.blas()
        with blas.single_threaded():
            assert blas.threads() == 1
    finally:
        forget()


@needs_blas
def test_a_blas_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    right = blas.blas()
    monkeypatch.setattr(blas, "_opened", lambda path: right)
    monkeypatch.setattr(np, "array_equal", lambda a, b: False)
    forget()
    try:
        assert not blas.available() and "other products than NumPy" in blas.why_not()
    finally:
        forget()
