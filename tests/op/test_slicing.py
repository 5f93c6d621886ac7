"""``tensor[…]`` against NumPy's own indexing, its gradient, static shapes, masks, and assignment to slices of variables."""

from __future__ import annotations

import re
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import engine as tf
from engine.op.strided import Masks, index, static_shape
from engine.types import errors


@st.composite
def indexings(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and an index into it that NumPy takes: ints, slices, new axes, and at most one ellipsis."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    spec: list[Any] = []
    for size in shape:
        kinds = ["slice", "slice", "slice", "stop"] + (["int"] if size else [])
        kind = draw(st.sampled_from(kinds))
        if kind == "stop":
            break
        if kind == "int":
            spec.append(draw(st.integers(-size, size - 1)))
        else:
            ends = st.none() | st.integers(-size - 2, size + 2)
            step = draw(st.none() | st.sampled_from([1, 2, 3, -1, -2]))
            spec.append(slice(draw(ends), draw(ends), step))
    if draw(st.booleans()):
        # An ellipsis may take the place of any run of entries.
        start = draw(st.integers(0, len(spec)))
        spec[start : draw(st.integers(start, len(spec)))] = [Ellipsis]
    for _ in range(draw(st.integers(0, 2))):
        spec.insert(draw(st.integers(0, len(spec))), None)
    x = np.zeros(shape)
    try:
        x[tuple(spec)]
    except IndexError:  # entries after the ellipsis met axes of other sizes
        return shape, ()
    return shape, tuple(spec)


@given(indexings())
def test_getitem_is_numpys(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, spec = case
    x = np.arange(float(np.prod(shape))).reshape(shape)
    wanted = x[spec]
    with tf.Graph().as_default(), tf.Session() as session:
        known, unknown = tf.placeholder(tf.float64, shape), tf.placeholder(tf.float64)
        ys = [known[spec], unknown[spec]]
        gradients = tf.gradients(ys, [known, unknown])
        feeds = {known: x, unknown: x}
        results = session.run(ys, feeds)
        slopes = session.run(gradients, feeds)
    for y, result in zip(ys, results):
        np.testing.assert_array_equal(result, wanted)
        assert np.shape(result) == wanted.shape
        assert y.shape.is_compatible_with(wanted.shape)
    assert ys[0].shape.as_list() == list(wanted.shape)
    marked = np.zeros(shape)
    marked[spec] = 1
    for slope in slopes:
        np.testing.assert_array_equal(slope, marked)


@given(indexings(), st.data())
def test_static_shape_with_unknown_sizes(case: Any, data: st.DataObject) -> None:
    """Whatever is left open, the static shape fits the result."""
    shape, spec = case
    known = [size if data.draw(st.booleans()) else None for size in shape]
    with tf.Graph().as_default():
        y = tf.placeholder(tf.float64, known)[spec]
    assert y.shape.is_compatible_with(np.zeros(shape)[spec].shape)
    assert y.shape.ndims == np.zeros(shape)[spec].ndim


SPEC = st.tuples(
    *[st.lists(st.integers(-5, 5), min_size=3, max_size=3)] * 2,
    st.lists(st.sampled_from([1, 2, -1, -3]), min_size=3, max_size=3),
    *[st.integers(0, 7)] * 5,
)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=3), SPEC)
def test_what_the_graph_knows_is_what_the_kernel_does(shape: list[int], spec: Any) -> None:
    """For any masks: the same shape and the same complaints while building and while running."""
    begin, end, strides, *bits = spec
    masks = Masks(*bits)
    try:
        _, taken = index(tuple(shape), tuple(begin), tuple(end), tuple(strides), masks)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            static_shape(shape, begin, end, strides, masks)
        return
    assert static_shape(shape, begin, end, strides, masks) == taken
    x = np.zeros(shape)
    assert x[index(tuple(shape), tuple(begin), tuple(end), tuple(strides), masks)[0]].shape == taken
    unknown = static_shape([None] * 3, [None] * 3, [None] * 3, [None] * 3, masks)
    assert len(unknown) == len(taken)
    assert all(size is None or size == real for size, real in zip(unknown, taken))


def test_tensors_as_indices() -> None:
    x = np.arange(24.0).reshape(4, 6)
    for dtype in (tf.int32, tf.int64):
        with tf.Graph().as_default(), tf.Session() as session:
            i, t = tf.placeholder(dtype, []), tf.constant(x)
            pairs = [
                (t[i], x[2]),
                (t[i:], x[2:]),
                (t[:i, 1], x[:2, 1]),
                (t[0, i::-1], x[0, 2::-1]),
                (t[..., i], x[..., 2]),
            ]
            results = session.run([y for y, _ in pairs], {i: 2})
        for result, (y, wanted) in zip(results, pairs):
            np.testing.assert_array_equal(result, wanted)
            assert y.shape.is_compatible_with(wanted.shape)


def test_static_shapes_from_partly_known_indices() -> None:
    i = tf.placeholder(tf.int32, [])
    x = tf.placeholder(tf.float32, [None, 7, 8])
    assert x[:, i].shape.as_list() == [None, 8]
    assert x[i, 2:5].shape.as_list() == [3, 8]
    assert x[:, 2:i].shape.as_list() == [None, None, 8]
    assert x[:, ::2, i:].shape.as_list() == [None, 4, None]
    dims = tf.shape(x)
    assert tf.zeros(dims[1:]).shape.as_list() == [7, 8]
    assert tf.zeros([dims[0], dims[2] * 2 + 1]).shape.as_list() == [None, 17]
    assert tf.reshape(x, [-1, dims[1] * dims[2]]).shape.as_list() == [None, 56]
    assert tf.reshape(x, tf.concat([dims[:1], [-1, 14]], 0)).shape.as_list() == [None, None, 14]
    assert tf.slice(x, [0, 1, i], [-1, -1, 3]).shape.as_list() == [None, 6, 3]


@pytest.mark.parametrize("dtype", [tf.string, tf.bool, tf.bfloat16, tf.complex64])
def test_other_dtypes(dtype: tf.DType) -> None:
    values = {tf.string: [[b"a", b"b"], [b"c", b"d"]], tf.bool: [[True, False], [False, False]]}
    x = np.array(values.get(dtype, [[1, 2], [3, 4]])).astype(dtype.np_dtype)
    with tf.Session() as session:
        t = tf.constant(x, dtype)
        results = session.run([t[0, 1], t[::-1, 0], t[:, None], t[2:]])
    for result, wanted in zip(results, [x[0, 1], x[::-1, 0], x[:, None], x[2:]]):
        assert np.asarray(result).tolist() == np.asarray(wanted).tolist()


def test_iteration_and_masks() -> None:
    x = tf.constant([[1, 2], [3, 4], [5, 6]])
    with tf.Session() as session:
        assert [row.tolist() for row in session.run(list(x))] == [[1, 2], [3, 4], [5, 6]]
        assert session.run(x[[True, False, True]]).tolist() == [[1, 2], [5, 6]]
        assert session.run(x[x > 2]).tolist() == [3, 4, 5, 6]
        assert session.run(x[np.array([False, True, True])]).tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (5, ValueError, "slice index 5 of dimension 0 out of bounds"),
        (-4, ValueError, "slice index -4 of dimension 0 out of bounds"),
        ((0, 0, 0), ValueError, "input has only 2 dims"),
        (slice(None, None, 0), ValueError, r"strides\[0\] must be non-zero"),
        ((Ellipsis, Ellipsis), ValueError, "Multiple ellipses"),
        ("a", TypeError, "Only integers, slices"),
        (1.5, TypeError, "Only integers, slices"),
        (True, TypeError, "Only integers, slices"),
        (slice("a", None), TypeError, "Only integers, slices"),
        (([0, 1],), TypeError, "Only integers, slices"),
    ],
)
def test_bad_indices_while_building(index: Any, error: type[Exception], text: str) -> None:
    x = tf.placeholder(tf.float32, [3, 4])
    with pytest.raises(error, match=text):
        x[index]


def test_float_and_vector_tensors_are_no_indices() -> None:
    x = tf.placeholder(tf.float32, [3, 4])
    with pytest.raises(TypeError, match="an index is an integer scalar"):
        x[tf.constant(1.0)]
    with pytest.raises(TypeError, match=r"tf\.gather"):
        x[tf.constant([1, 2])]


def test_bad_indices_while_running() -> None:
    x = tf.placeholder_with_default(np.zeros((2, 3), np.float32), None)
    step = tf.placeholder_with_default(0, [])
    cases = [
        (x[2], "slice index 2 of dimension 0 out of bounds"),
        (x[:, -4], "slice index -4 of dimension 1 out of bounds"),
        (x[0, 0, 0], "input has only 2 dims"),
        (x[::step], r"strides\[0\] must be non-zero"),
        (tf.slice(x, [0, 4], [1, 1]), r"Expected begin\[1\] in \[0, 3\], but got 4"),
        (tf.slice(x, [0, 1], [1, 3]), r"Expected size\[1\] in \[0, 2\], but got 3"),
        (tf.slice(x, [0], [1]), "1-D tensors of size 2"),
    ]
    with tf.Session() as session:
        for tensor, text in cases:
            with pytest.raises(errors.InvalidArgumentError, match=text) as info:
                session.run(tensor)
            assert "test_slicing.py" in str(info.value)


def test_second_gradient() -> None:
    x = tf.placeholder(tf.float64, [5])
    y = tf.reduce_sum(x[1:4] ** 3)
    (first,) = tf.gradients(y, x)
    (second,) = tf.gradients(first[2] + 2 * first[0], x)
    with tf.Session() as session:
        result = session.run(second, {x: [1.0, 2, 3, 4, 5]})
    np.testing.assert_allclose(result, [0, 0, 18, 0, 0])


def test_assigning_to_slices_of_a_variable() -> None:
    start = np.arange(12.0).reshape(3, 4)
    v = tf.Variable(start, dtype=tf.float64)
    i = tf.placeholder(tf.int32, [])
    steps: list[tuple[Any, Any, Any]] = [
        (v[1], slice(1, 2), [9.0, 8, 7, 6]),
        (v[::2, 1:3], np.s_[::2, 1:3], [[1.0, 2], [3, 4]]),
        (v[i, -1], np.s_[2, -1], 5.0),
        (v[..., None, 0], np.s_[..., None, 0], [[7.0], [8], [9]]),
        (v[:, 0], np.s_[:, 0], 0.5),
        (v[3:], np.s_[3:], np.zeros((0, 4))),
    ]
    wanted = start.copy()
    with tf.Session() as session:
        nodes = [part.assign(value) for part, _, value in steps]
        session.run(v.initializer)
        for node, (_, where, value) in zip(nodes, steps):
            result = session.run(node, {i: 2})
            wanted[where] = value
            np.testing.assert_array_equal(result, wanted)
        np.testing.assert_array_equal(session.run(v), wanted)
        bad = v[0].assign([1.0, 2.0])
        with pytest.raises(
            errors.InvalidArgumentError, match=r"shape \[2\] cannot be assigned to a slice of shape \[4\]"
        ):
            session.run(bad)
        np.testing.assert_array_equal(session.run(v), wanted)
    assert nodes[0].name == "strided_slice/_assign:0"
