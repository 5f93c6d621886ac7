"""TensorArrays, and the loops over rows that are built on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.autodiff.check import compute_gradient
from engine.types import errors


def run(fetch: Any, feed: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetch, feed)


ROWS = np.arange(12.0).reshape(4, 3)


def test_write_read_stack_gather_size() -> None:
    ta = tf.TensorArray(tf.float64, size=3, clear_after_read=False)
    ta = ta.write(0, [1.0, 2.0]).write(2, [5.0, 6.0]).write(1, [3.0, 4.0])
    got = run(
        {
            "read": ta.read(2),
            "stack": ta.stack(),
            "gather": ta.gather([2, 0]),
            "size": ta.size(),
            "concat": ta.concat(),
        }
    )
    np.testing.assert_array_equal(got["read"], [5, 6])
    np.testing.assert_array_equal(got["stack"], [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(got["gather"], [[5, 6], [1, 2]])
    np.testing.assert_array_equal(got["concat"], [1, 2, 3, 4, 5, 6])
    assert got["size"] == 3
    assert ta.stack().shape.as_list() == [3, 2]


def test_unstack_scatter_split_and_dynamic_size() -> None:
    rows = tf.TensorArray(tf.float64, size=4).unstack(ROWS)
    scattered = tf.TensorArray(tf.float64, size=4).scatter([3, 1, 0, 2], ROWS)
    pieces = tf.TensorArray(tf.float64, size=2, infer_shape=False).split(ROWS, [3, 1])
    grown = tf.TensorArray(tf.int32, size=0, dynamic_size=True).write(2, 7).write(0, 5).write(1, 6)
    got = run([rows.read(3), scattered.stack(), pieces.read(0), grown.stack(), grown.size()])
    np.testing.assert_array_equal(got[0], ROWS[3])
    np.testing.assert_array_equal(got[1], ROWS[[2, 1, 3, 0]])
    np.testing.assert_array_equal(got[2], ROWS[:3])
    np.testing.assert_array_equal(got[3], [5, 6, 7])
    assert got[4] == 3


def fresh(**options: Any) -> Any:
    return tf.TensorArray(tf.float32, size=2, tensor_array_name="mine", **options)


def test_reading_twice_is_explained() -> None:
    ta = fresh().write(0, 1.0)
    first = ta.read(0)
    with tf.control_dependencies([first]):
        second = ta.read(0)
    with pytest.raises(
        errors.InvalidArgumentError, match="Could not read index 0 twice.*clear_after_read = false"
    ):
        run(second)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fresh().write(0, 1.0).write(0, 2.0).flow, "index 0 because it has already been written to"),
        (lambda: fresh().write(5, 1.0).flow, "index 5 but array is not resizeable and size is: 2"),
        (lambda: fresh().write(-1, 1.0).flow, "index -1"),
        (
            lambda: fresh(infer_shape=False).write(0, 1.0).read(1),
            "index 1 because it has not been written to",
        ),
        (lambda: fresh().read(7), "read from index 7 but array size is: 2"),
        (lambda: fresh().unstack([1.0, 2.0, 3.0]).flow, "index 2 but array is not resizeable"),
        (lambda: fresh().split([1.0, 2.0], [1, 2]).flow, "sum of lengths is 3"),
        (
            lambda: fresh(infer_shape=False).write(0, [1.0]).write(1, [1.0, 2.0]).stack(),
            "inconsistent shapes",
        ),
        (lambda: tf.TensorArray(tf.float32, size=-1).flow, "Size should be >= 0, got -1"),
    ],
)
def test_mistakes_are_explained(build: Any, message: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=message):
        run(build())


def test_what_has_not_been_written_is_zeros_of_the_shape_that_all_elements_have() -> None:
    assert run(fresh().write(0, [3.0, 4.0]).read(1)).tolist() == [0.0, 0.0]
    assert run(fresh().write(0, 1.0).stack()).tolist() == [1.0, 0.0]


def test_a_static_shape_that_does_not_fit_is_refused_while_building() -> None:
    with pytest.raises(ValueError, match=r"saw \(2,\) but expected \(1,\)"):
        fresh().write(0, [1.0]).write(1, [1.0, 2.0])


def test_two_steps_have_their_own_arrays() -> None:
    x = tf.placeholder(tf.float32, [])
    ta = fresh().write(0, x).write(1, x * 2.0)
    stacked = ta.stack()
    with tf.Session() as session:
        for value in (1.0, 3.0):
            np.testing.assert_array_equal(session.run(stacked, {x: value}), [value, 2 * value])
        assert [resource.kind for resource in session.resources] == []


def check_gradient(build: Any, start: Any) -> None:
    start = np.asarray(start, np.float64)
    x = tf.placeholder(tf.float64, start.shape)
    y = tf.reduce_sum(build(x))
    with tf.Session():
        symbolic, numeric = compute_gradient(x, start.shape, y, [], start, delta=1e-5)
    np.testing.assert_allclose(symbolic, numeric, rtol=1e-6, atol=1e-6)


WEIGHTS = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0], [2.0, 1.0, 1.0], [-1.0, 0.0, 4.0]])


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.TensorArray(tf.float64, 4).unstack(x).stack() * WEIGHTS,
        lambda x: tf.TensorArray(tf.float64, 4).unstack(x).read(2) * [1.0, 2.0, 3.0],
        lambda x: (
            tf.TensorArray(tf.float64, 4, clear_after_read=False).unstack(x).gather([1, 1, 3]) * WEIGHTS[:3]
        ),
        lambda x: tf.TensorArray(tf.float64, 2, infer_shape=False).split(x, [1, 3]).concat() * WEIGHTS,
        lambda x: tf.TensorArray(tf.float64, 1).write(0, x).read(0) * WEIGHTS,
        lambda x: tf.map_fn(lambda row: tf.sin(row) * row[0], x) * WEIGHTS,
        lambda x: tf.foldl(lambda a, row: tf.sin(a) + row * a, x) * [1.0, 2.0, 3.0],
        lambda x: tf.foldr(lambda a, row: tf.sin(a) * row, x) * [1.0, 2.0, 3.0],
        lambda x: tf.scan(lambda a, row: tf.tanh(a + row), x) * WEIGHTS,
        lambda x: tf.scan(lambda a, row: tf.tanh(a + row), x, initializer=x[0], reverse=True) * WEIGHTS,
    ],
)
def test_gradients(build: Any) -> None:
    check_gradient(build, ROWS / 10)


def test_a_recurrent_network_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    inputs, w, u = rng.normal(size=(5, 2, 3)), rng.normal(size=(3, 4)), rng.normal(size=(4, 4))
    x = tf.constant(inputs)
    states = tf.scan(
        lambda h, row: tf.tanh(tf.matmul(row, w) + tf.matmul(h, u)),
        x,
        initializer=tf.zeros([2, 4], tf.float64),
    )
    h, expected = np.zeros((2, 4)), []
    for row in inputs:
        h = np.tanh(row @ w + h @ u)
        expected.append(h)
    np.testing.assert_allclose(run(states), expected)


def test_map_of_structures() -> None:
    pairs = (tf.constant([1, 2, 3]), tf.constant([10.0, 20.0, 30.0]))
    summed, product = tf.map_fn(
        lambda pair: (tf.cast(pair[0], tf.float32) + pair[1], pair[0] * 2),
        pairs,
        dtype=(tf.float32, tf.int32),
    )
    got = run([summed, product])
    np.testing.assert_array_equal(got[0], [11, 22, 33])
    np.testing.assert_array_equal(got[1], [2, 4, 6])


def test_a_tensor_array_through_a_cond() -> None:
    pred = tf.placeholder(tf.bool, [])
    ta = tf.TensorArray(tf.float32, size=1)
    chosen = tf.cond(pred, lambda: ta.write(0, 1.0), lambda: ta.write(0, 2.0))
    value = chosen.read(0)
    assert run(value, {pred: True}) == 1.0
    assert run(value, {pred: False}) == 2.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="not compatible"):
        tf.map_fn(lambda pair: pair[0], (tf.zeros([2]), tf.zeros([3])))
    with pytest.raises(ValueError, match="scalar"):
        tf.map_fn(lambda x: x, tf.constant(1.0))
