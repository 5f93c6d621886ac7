"""Native gathers, scatters, distinct elements and elements of TensorArrays against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_kernels import run
from searches import examples

from engine.native import compiler, indexing

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

INDICES = st.sampled_from([np.int32, np.int64])


def parameters(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 9), INDICES, st.integers(0, 99)
)
@examples(25)
def test_gather(outer: int, rows: int, row: int, count: int, index: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(outer, rows, row)).astype(np.float32)
    numbers = rng.integers(0, rows, count).astype(index)
    found = indexing.gather(outer, rows, 4 * row, count, index)
    assert found is not None
    kernel, sizes = found
    out, failed = np.empty((outer, count, row), np.float32), np.ones((), np.bool_)
    run(kernel, [table, numbers, sizes, out, failed], 2)
    np.testing.assert_array_equal(out, table[:, numbers])
    assert not failed
    numbers[seed % count] = (-1, rows, 1 << 30)[seed % 3]
    run(kernel, [table, numbers, sizes, out, failed])
    assert failed


@pytest.mark.parametrize("how", ["add", "subtract", "update"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_changing_rows(how: str, dtype: Any, index: Any) -> None:
    rng = np.random.default_rng(7)
    rows = (rng.normal(size=(5, 3)) * 9).astype(dtype)
    updates = (rng.normal(size=(8, 3)) * 9).astype(dtype)
    numbers = rng.integers(0, 5, 8).astype(index)
    numbers[6:] = 99  # which do not count
    wanted = rows.copy()
    if how == "update":
        for number, update in zip(numbers[:6], updates[:6], strict=True):
            wanted[number] = update
    else:
        getattr(np, how).at(wanted, numbers[:6], updates[:6])
    kernel = indexing.change_rows(how, dtype, index)
    assert kernel is not None
    failed = np.ones((), np.bool_)
    sizes = parameters(5, rows.strides[0], 3)
    run(kernel, [numbers, updates, sizes, np.int64([6]), rows, rows, failed])
    np.testing.assert_array_equal(rows, wanted)
    assert not failed
    run(kernel, [numbers, updates, sizes, np.int64([7]), rows, rows, failed])
    assert failed


@given(st.lists(st.integers(-5, 5) | st.integers(-(1 << 31), (1 << 31) - 1), min_size=1), INDICES, INDICES)
@examples(25)
def test_distinct_elements(numbers: list[int], dtype: Any, place: Any) -> None:
    array = np.array(numbers, dtype)
    kernel = indexing.unique(array.size, dtype, place)
    assert kernel is not None
    values, places, count = np.empty_like(array), np.empty(array.shape, place), np.zeros((), np.int64)
    run(kernel, [array, values, places, count])
    distinct = list(dict.fromkeys(numbers))
    assert values[: int(count)].tolist() == distinct
    assert places.tolist() == [distinct.index(each) for each in numbers]


def test_what_is_not_done() -> None:
    assert indexing.gather(1, 2, 4, 3, np.int16) is None
    assert indexing.change_rows("add", np.float16) is None
    assert indexing.change_rows("add", np.float32, np.int16) is None
    assert indexing.unique(3, np.float32, np.int32) is None
    assert indexing.write_elements(np.float16, sums=True) is None


class Elements:
    """A TensorArray of `size` elements of two float32."""

    def __init__(self, size: int, sums: bool = False, clears: bool = False, is_shaped: bool = False) -> None:
        self.buffer = np.full((size, 2), np.nan, np.float32)
        self.states = np.zeros(size, np.uint8)
        self.sums, self.clears, self.is_shaped = sums, clears, is_shaped

    def write(self, indices: list[int], values: Any) -> bool:
        kernel = indexing.write_elements(np.float32, self.sums)
        assert kernel is not None
        failed = np.ones((), np.bool_)
        sizes = parameters(len(indices), len(self.states), 8, 2)
        given = [np.int32(indices), np.float32(values), sizes, self.buffer, self.states]
        run(kernel, [*given, self.buffer, self.states, failed])
        return bool(failed)

    def read(self, indices: list[int], others: Any = None) -> Any:
        kernel = indexing.read_elements()
        assert kernel is not None
        out, failed = np.empty((len(indices), 2), np.float32), np.ones((), np.bool_)
        sizes = parameters(len(indices), len(self.states), 8, int(self.clears), int(self.is_shaped))
        others = self.states if others is None else others
        run(kernel, [np.int32(indices), sizes, self.buffer, self.states, others, out, self.states, failed])
        return None if failed else out.tolist()


def test_elements_are_written_once() -> None:
    array = Elements(3)
    assert not array.write([2, 0], [[1, 2], [3, 4]])
    assert array.read([0, 2, 0]) == [[3, 4], [1, 2], [3, 4]]
    assert array.write([2], [[5, 6]]) and array.write([3], [[5, 6]]) and array.write([-1], [[5, 6]])
    assert array.read([1]) is None and array.read([3]) is None and array.read([-1]) is None


def test_elements_that_are_read_may_be_let_go() -> None:
    array = Elements(2, clears=True)
    assert not array.write([0], [[1, 2]])
    assert array.read([0]) == [[1, 2]]
    assert array.states.tolist() == [indexing.CLEARED, indexing.UNWRITTEN]
    assert array.read([0]) is None and array.write([0], [[1, 2]])


def test_sums_and_zeros() -> None:
    array = Elements(3, sums=True)
    assert not array.write([1, 1, 1], [[1, 2], [10, 20], [100, 200]])
    assert array.read([1]) == [[111, 222]]
    assert array.read([0]) is None
    assert array.read([0], others=np.uint8([indexing.CLEARED, 0, 0])) == [[0, 0]]
    assert Elements(1, is_shaped=True).read([0]) == [[0, 0]]
