"""The array functions that are more than one op, against NumPy; and gradients that stay sparse."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import engine as tf


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetches, feeds)


def both(array: Any) -> list[Any]:
    """A constant, and a placeholder that says nothing of its shape but the value."""
    value = np.asarray(array)
    return [tf.constant(value), tf.placeholder_with_default(value, None)]


# Masks.


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_boolean_mask(axis: int | None) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    size = x.shape[axis or 0]
    mask = np.arange(size) % 2 == 0
    for tensor in both(x):
        if axis == -1 and tensor.shape.ndims is None:
            continue  # to count from the end needs the rank
        result = run(tf.boolean_mask(tensor, mask, axis=axis))
        np.testing.assert_array_equal(result, np.compress(mask, x, axis=axis or 0))


def test_boolean_mask_of_several_dimensions() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    mask = x[..., 0] % 8 == 0
    for tensor in both(x):
        result = tf.boolean_mask(tensor, mask)
        np.testing.assert_array_equal(run(result), x[mask])
        assert result.shape.is_compatible_with(x[mask].shape)
    assert tf.boolean_mask(tf.constant(x), mask).shape.as_list() == [None, 4]
    empty = run(tf.boolean_mask(x, np.zeros((2, 3), bool)))
    assert empty.shape == (0, 4)


def test_gradient_of_boolean_mask() -> None:
    x = tf.placeholder(tf.float64, [4])
    (slope,) = tf.gradients(tf.boolean_mask(x, [True, False, True, True]) ** 2, x)
    np.testing.assert_allclose(run(tf.convert_to_tensor(slope), {x: [1.0, 2, 3, 4]}), [2, 0, 6, 8])


def test_sequence_mask() -> None:
    lengths = np.array([[1, 0], [3, 2]])
    wanted = np.arange(3) < lengths[..., None]
    for tensor in both(lengths):
        np.testing.assert_array_equal(run(tf.sequence_mask(tensor)), wanted)
        found = run(tf.sequence_mask(tensor, 2, dtype=tf.float16))
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, wanted[..., :2])
    assert run(tf.sequence_mask(np.zeros(0, np.int32), 3)).shape == (0, 3)
    assert tf.sequence_mask([1, 2], 5).shape.as_list() == [2, 5]


def test_where_with_one_argument() -> None:
    for value in (np.array([[0, 2], [3, 0]]), np.array([True, False, True]), np.array(1.5), np.zeros((0, 2))):
        for tensor in both(value):
            result = tf.where(tensor)
            np.testing.assert_array_equal(run(result), np.argwhere(value))
            assert run(result).dtype == np.int64


# Sorting.

ORDERED = ["int8", "int32", "int64", "uint8", "uint16", "float16", "float32", "float64", "bfloat16"]


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_and_argsort(name: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    dtype = tf.as_dtype(name)
    x = rng.integers(0, 5, (4, 6)).astype(dtype.np_dtype)
    if dtype.is_integer:
        x[0, 0], x[1, 1], x[3, 5] = dtype.min, dtype.max, dtype.min
    wide = x.astype(np.float64) if dtype.is_floating else x
    for tensor in both(x):
        up, down, up_places, down_places = run(
            [
                tf.sort(tensor, axis=axis),
                tf.sort(tensor, axis=axis, direction="DESCENDING"),
                tf.argsort(tensor, axis=axis),
                tf.argsort(tensor, axis=axis, direction="DESCENDING"),
            ]
        )
        wanted = np.sort(wide, axis=axis)
        assert up.dtype == dtype.np_dtype
        np.testing.assert_array_equal(up.astype(wide.dtype), wanted)
        np.testing.assert_array_equal(down.astype(wide.dtype), np.flip(wanted, axis))
        np.testing.assert_array_equal(up_places, np.argsort(wide, axis=axis, kind="stable"))
        np.testing.assert_array_equal(np.take_along_axis(wide, down_places, axis), np.flip(wanted, axis))


def test_sort_of_an_axis_that_turns_out_to_be_the_last() -> None:
    for dims, axis in (((3,), 0), ((2, 3), 1), ((2, 3, 2), 2), ((2, 3, 2), 0), ((2, 3, 2), -2)):
        x = np.random.default_rng(1).permutation(int(np.prod(dims))).reshape(dims)
        for tensor in both(x):
            np.testing.assert_array_equal(run(tf.sort(tensor, axis=axis)), np.sort(x, axis=axis))


def test_gradient_of_sort() -> None:
    x = tf.placeholder(tf.float64, [2, 3])
    weights = np.array([[1.0, 2, 3], [4, 5, 6]])
    (slope,) = tf.gradients(tf.sort(x) * weights, x)
    np.testing.assert_allclose(run(slope, {x: [[3.0, 1, 2], [0, -1, 7]]}), [[3, 1, 2], [5, 4, 6]])


# Making and joining.


def test_meshgrid() -> None:
    vectors = [np.arange(2), np.arange(3) * 10, np.arange(4) * 100]
    for count in (1, 2, 3):
        for indexing in ("xy", "ij"):
            wanted = np.meshgrid(*vectors[:count], indexing=indexing)  # type: ignore[call-overload]
            given = [tensor for value in vectors[:count] for tensor in both(value)]
            for arguments in (given[::2], given[1::2], vectors[:count]):
                for result, grid in zip(run(tf.meshgrid(*arguments, indexing=indexing)), wanted, strict=True):
                    np.testing.assert_array_equal(result, grid)


def test_range_takes_the_widest_dtype() -> None:
    i, j = tf.constant(3), tf.constant(9, tf.int64)
    assert tf.range(i, j).dtype == tf.int64
    assert tf.range(i, 6.5).dtype == tf.float32
    assert tf.range(i, dtype=tf.float64).dtype == tf.float64
    np.testing.assert_array_equal(run(tf.range(i, 6.5)), np.array([3, 4, 5, 6], np.float32))
    assert tf.range(i, 6.5).shape.as_list() == [4]


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_range_of_integers(start: int, limit: int, delta: int) -> None:
    if (limit - start) * delta < 0:
        return
    with tf.Graph().as_default():
        result = tf.range(start, limit, delta)
        found = run(result)
    assert found.tolist() == list(range(start, limit, delta))
    assert result.shape.as_list() == [len(found)]


def test_range_counts_floats_in_their_own_precision() -> None:
    """0.3 / 0.1 is 3 in float32, though a little more with the same numbers in float64."""
    assert run(tf.range(0.0, 0.3, 0.1)).shape == (3,)
    assert run(tf.range(0.0, tf.placeholder_with_default(np.float32(0.3), []), 0.1)).shape == (3,)


@pytest.mark.parametrize("like", [tf.zeros_like, tf.ones_like])
def test_zeros_and_ones_like(like: Any) -> None:
    for value in (np.ones((2, 3)), np.array(3), np.zeros((0, 2), np.complex64)):
        for tensor in both(value):
            for dtype in (None, tf.int8, tf.bool):
                result = run(like(tensor, dtype=dtype))
                assert np.asarray(result).dtype == (value.dtype if dtype is None else dtype.np_dtype)
                np.testing.assert_array_equal(
                    result, np.full(value.shape, like is tf.ones_like, np.asarray(result).dtype)
                )


def test_zeros_of_strings_and_of_many() -> None:
    assert run(tf.zeros([2], tf.string)).tolist() == [b"", b""]
    assert run(tf.zeros_like(tf.placeholder_with_default(np.array([b"a"], object), None))).tolist() == [b""]
    assert run(tf.zeros([40, 50])).shape == (40, 50)
    assert tf.zeros([40, 50]).op.type == "Fill"
    assert run(tf.ones(3, tf.bool)).tolist() == [True] * 3


def test_unstack_of_nothing() -> None:
    assert tf.unstack(tf.zeros([0, 2])) == []


def test_split_concat_stack_unstack_come_back() -> None:
    x = np.arange(60.0).reshape(3, 4, 5)
    for tensor in both(x):
        for axis in (0, 1, 2, -1):
            size = x.shape[axis]
            parts = [
                tf.concat(tf.split(tensor, [1, -1], axis), axis),
                tf.concat(tf.split(tensor, size, axis), axis),
                tf.stack(tf.unstack(tensor, size, axis), axis),
            ]
            for result in run(parts):
                np.testing.assert_array_equal(result, x)


@given(st.data())
def test_gather_nd_with_batch_dims(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    batch = data.draw(st.integers(0, len(dims) - 1))
    depth = data.draw(st.integers(0, len(dims) - batch))
    inner = data.draw(st.lists(st.integers(0, 2), max_size=1))
    x = np.arange(int(np.prod(dims))).reshape(dims)
    limits = np.array(dims[batch : batch + depth], int)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    picks = rng.integers(0, limits, (*dims[:batch], *inner, depth))
    wanted = np.empty((*dims[:batch], *inner, *dims[batch + depth :]), x.dtype)
    for position in np.ndindex(*dims[:batch], *inner):
        wanted[position] = x[(*position[:batch], *picks[position])]
    with tf.Graph().as_default():
        for params, indices in zip(both(x), both(picks)):
            found = run(tf.gather_nd(params, indices, batch_dims=batch))
            np.testing.assert_array_equal(found, wanted)


def test_batch_gather() -> None:
    x = np.arange(12).reshape(2, 6)
    picks = np.array([[5, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(run(tf.batch_gather(x, picks)), np.take_along_axis(x, picks, 1))


def test_one_hot_dtypes() -> None:
    assert tf.one_hot([1], 3).dtype == tf.float32
    assert tf.one_hot([1], 3, 5, 6).dtype == tf.int32
    assert run(tf.one_hot([1, 9], 3, True, False)).tolist() == [[False, True, False], [False] * 3]
    assert run(tf.one_hot([0], 2, "a", "b")).tolist() == [[b"a", b"b"]]
    with pytest.raises(TypeError, match="needs both on_value and off_value"):
        tf.one_hot([1], 3, dtype=tf.bool)


def test_a_view_is_not_the_value_it_was_taken_from() -> None:
    """What a caller does to a fetched array changes nothing that the graph holds."""
    c = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    fetches = [tf.transpose(c), tf.reshape(c, [-1]), c[0], tf.broadcast_to(c, [2, 2, 2]), tf.identity(c)]
    with tf.Session() as session:
        first = session.run(fetches)
        for array in first:
            array[...] = -1
        for array in session.run(fetches):
            assert (array > 0).all()


# Gradients that stay sparse.


def test_gradient_of_gather_is_indexed_slices() -> None:
    x = tf.placeholder(tf.float64, [4, 2])
    picks = np.array([[2, 0], [2, 3]])
    weights = np.arange(8.0).reshape(2, 2, 2)
    (slope,) = tf.gradients(tf.gather(x, picks) * weights, x)
    assert isinstance(slope, tf.IndexedSlices)
    values, indices, shape = run([slope.values, slope.indices, slope.dense_shape], {x: np.zeros((4, 2))})
    assert indices.tolist() == [2, 0, 2, 3]
    assert shape.tolist() == [4, 2]
    np.testing.assert_array_equal(values, weights.reshape(4, 2))
    dense = np.zeros((4, 2))
    np.add.at(dense, picks, weights)
    np.testing.assert_array_equal(run(tf.convert_to_tensor(slope), {x: np.zeros((4, 2))}), dense)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sparse_gradient_through_concat(axis: int) -> None:
    a, b = tf.placeholder(tf.float64, [2, 3]), tf.placeholder(tf.float64, [2, 3])
    joined = tf.concat([a, b], axis)
    slopes = tf.gradients(tf.gather(joined, [1, 1]) * 2.0, [a, b])
    found = run([tf.convert_to_tensor(slope) for slope in slopes], {a: np.ones((2, 3)), b: np.ones((2, 3))})
    wanted = np.zeros((4, 3) if axis == 0 else (2, 6))
    wanted[1] = 4
    for part, expected in zip(found, np.split(wanted, 2, axis)):
        np.testing.assert_array_equal(part, expected)


def test_sparse_gradient_through_tile() -> None:
    x = tf.placeholder(tf.float64, [2, 3])
    (slope,) = tf.gradients(tf.gather(tf.tile(x, [3, 2]), [1, 5, 0]), x)
    np.testing.assert_array_equal(run(slope, {x: np.ones((2, 3))}), [[2, 2, 2], [4, 4, 4]])


def test_sparse_gradient_through_identity_and_stack() -> None:
    x = tf.placeholder(tf.float64, [2, 3])
    (slope,) = tf.gradients(tf.gather(tf.identity(x), [1]), x)
    assert isinstance(slope, tf.IndexedSlices)
    (slope,) = tf.gradients(tf.gather(tf.stack([x, x]), [1]), x)
    np.testing.assert_array_equal(run(tf.convert_to_tensor(slope), {x: np.ones((2, 3))}), np.ones((2, 3)))


def test_gradient_of_many_joined() -> None:
    """More than sixteen are cut by one SplitV."""
    parts = [tf.placeholder(tf.float64, [None, 2]) for _ in range(17)]
    slopes = tf.gradients(tf.concat(parts, 0) ** 2, parts)
    feeds = {part: np.full((i % 3, 2), float(i)) for i, part in enumerate(parts)}
    for i, slope in enumerate(run(slopes, feeds)):
        np.testing.assert_array_equal(slope, np.full((i % 3, 2), 2.0 * i))


def test_gradients_of_unused_parts_are_zero() -> None:
    x = tf.placeholder(tf.float64, [4, 2])
    for parts in (
        tf.split(x, 2),
        tf.unstack(x),
        tf.split(x, [1, 3]),
        tf.dynamic_partition(x, [0, 1, 1, 0], 2),
    ):
        (slope,) = tf.gradients(parts[0], x)
        total = run(tf.reduce_sum(slope), {x: np.ones((4, 2))})
        assert total == run(tf.size(parts[0]), {x: np.ones((4, 2))})


def test_prevent_gradient() -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.raw_ops.PreventGradient(x, message="no second order")
    with pytest.raises(LookupError, match="no second order"):
        tf.gradients(y, x)
    assert tf.gradients(tf.stop_gradient(x), x) == [None]


def test_gradient_of_check_numerics_checks_the_gradient() -> None:
    x = tf.placeholder(tf.float32, [])
    (slope,) = tf.gradients(tf.check_numerics(x, "here") * np.float32(np.inf), x)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"detected in gradient.* here"):
        run(slope, {x: 1.0})
