"""Gradients through cond and while_loop, nested both ways, against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine.autodiff.check import compute_gradient


def check(build: Any, start: Any, feed: Any = None, tolerance: float = 1e-6) -> Any:
    """Build ``y = build(x)`` and compare its Jacobian with central differences; gives y."""
    start = np.asarray(start, np.float64)
    x = tf.placeholder(tf.float64, start.shape, name="x")
    y = tf.reduce_sum(build(x))
    with tf.Session() as session:
        symbolic, numeric = compute_gradient(x, start.shape, y, [], start, delta=1e-5, extra_feed_dict=feed)
        value = session.run(y, {x: start, **(feed or {})})
    np.testing.assert_allclose(symbolic, numeric, rtol=tolerance, atol=tolerance)
    return value


def loop(times: Any, body: Any, start: Any, **options: Any) -> Any:
    return tf.while_loop(lambda i, v: i < times, lambda i, v: (i + 1, body(i, v)), [0, start], **options)[1]


@pytest.mark.parametrize("parallel", [1, 2, 10])
@pytest.mark.parametrize("times", [0, 1, 4])
def test_a_loop_with_a_loop_invariant(times: int, parallel: int) -> None:
    check(
        lambda x: loop(times, lambda i, v: tf.sin(v) * x + v * v * 0.1, x, parallel_iterations=parallel),
        [0.3, -0.7],
    )


@pytest.mark.parametrize("taken", [True, False])
def test_a_cond(taken: bool) -> None:
    pred = tf.placeholder(tf.bool, [])
    check(lambda x: tf.cond(pred, lambda: tf.sin(x) * x, lambda: tf.exp(x)), [0.3, 0.8], {pred: taken})


@pytest.mark.parametrize("taken", [True, False])
def test_a_cond_where_one_branch_does_not_use_x(taken: bool) -> None:
    pred = tf.placeholder(tf.bool, [])
    check(
        lambda x: tf.cond(pred, lambda: x * x, lambda: tf.ones([2], tf.float64)) + x,
        [0.3, 0.8],
        {pred: taken},
    )


def test_a_cond_in_a_loop() -> None:
    check(
        lambda x: loop(
            5,
            lambda i, v: tf.cond(
                tf.equal(i % 2, 0), lambda: tf.sin(v) * x, lambda: v * v + tf.cast(i, tf.float64)
            ),
            x,
        ),
        [0.3, 0.8],
    )


def test_a_loop_in_a_cond() -> None:
    pred = tf.placeholder(tf.bool, [])

    def build(x: Any) -> Any:
        return tf.cond(pred, lambda: loop(3, lambda i, v: tf.sin(v) + x * v, x), lambda: x * 2.0)

    check(build, [0.3, 0.8], {pred: True})


def test_a_loop_in_a_loop_with_different_counts() -> None:
    def body(i: Any, v: Any) -> Any:
        return loop(i, lambda j, w: tf.tanh(w) * x_of[0] + w * 0.3, v)

    x_of: list[Any] = []

    def build(x: Any) -> Any:
        x_of.append(x)
        return loop(4, body, x)

    check(build, [0.3, 0.8])


def test_a_cond_in_a_loop_in_a_cond_in_a_loop() -> None:
    pred = tf.placeholder(tf.bool, [])

    def inner(x: Any, v: Any) -> Any:
        return loop(2, lambda j, w: tf.cond(tf.equal(j, 0), lambda: w * x, lambda: tf.sin(w)), v)

    def build(x: Any) -> Any:
        return loop(
            3,
            lambda i, v: tf.cond(
                tf.logical_and(pred, tf.greater(i, 0)), lambda: inner(x, v), lambda: v + x * 0.5
            ),
            x,
        )

    check(build, [0.3, 0.8], {pred: True})


def test_a_shape_that_grows() -> None:
    def build(x: Any) -> Any:
        return tf.while_loop(
            lambda i, v: i < 3,
            lambda i, v: (i + 1, tf.concat([tf.sin(v), v[:1] * x[0]], 0)),
            [0, x],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )[1]

    check(build, [0.3, 0.8])


def test_several_results_some_unused() -> None:
    def build(x: Any) -> Any:
        _, a, _, c = tf.while_loop(
            lambda i, a, b, c: i < 3,
            lambda i, a, b, c: (i + 1, a * b, b + x, tf.sin(c)),
            [0, x, x * 0.5, x],
        )
        return a + c

    check(build, [0.3, 0.8])


def test_a_variable_that_does_not_depend_on_itself() -> None:
    def build(x: Any) -> Any:
        return tf.while_loop(lambda i, a, b: i < 3, lambda i, a, b: (i + 1, tf.sin(b), b * 1.1), [0, x, x])[1]

    check(build, [0.3, 0.8])


def test_an_invariant_of_unknown_shape() -> None:
    x = tf.placeholder(tf.float64, [None])
    y = tf.reduce_sum(loop(3, lambda i, v: v * tf.reduce_sum(tf.sin(x)), tf.constant(1.0, tf.float64)))
    (grad,) = tf.gradients(y, x)
    with tf.Session() as session:
        got = session.run(grad, {x: [0.1, 0.2, 0.3]})
    v = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(got, 3 * np.sin(v).sum() ** 2 * np.cos(v))


def test_the_gradient_inside_a_loop_body() -> None:
    x = tf.constant(0.5, tf.float64)

    def body(i: Any, v: Any) -> Any:
        (slope,) = tf.gradients(tf.sin(v) * v, v)
        return v - 0.1 * slope

    with tf.Session() as session:
        got = session.run(loop(3, body, x))
    v = 0.5
    for _ in range(3):
        v -= 0.1 * (np.cos(v) * v + np.sin(v))
    np.testing.assert_allclose(got, v)


def test_back_prop_false_stops_the_gradient() -> None:
    x = tf.constant(2.0)
    y = loop(2, lambda i, v: v * x, x, back_prop=False)
    assert tf.gradients(y, x) == [None]


@st.composite
def bodies(draw: Any, depth: int = 0) -> Any:
    """A random expression of (x, v), with conds and loops inside; a function of tensors."""
    kinds = ["sin", "mul", "add", "scale"] + (["cond", "loop", "cond", "loop"] if depth < 2 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "sin":
        return lambda i, x, v: tf.sin(v)
    if kind == "scale":
        factor = draw(st.floats(-1, 1))
        return lambda i, x, v: v * factor
    first, second = draw(bodies(depth + 1)), draw(bodies(depth + 1))
    if kind == "mul":
        return lambda i, x, v: tf.tanh(first(i, x, v)) * x
    if kind == "add":
        return lambda i, x, v: first(i, x, v) + second(i, x, v) * 0.5
    if kind == "cond":
        residue = draw(st.integers(0, 1))
        return lambda i, x, v: tf.cond(
            tf.equal(i % 2, residue), lambda: first(i, x, v), lambda: second(i, x, v)
        )
    times = draw(st.integers(0, 3))
    parallel = draw(st.sampled_from([1, 3]))
    return lambda i, x, v: tf.while_loop(
        lambda j, w: j < times, lambda j, w: (j + 1, first(j, x, w)), [0, v], parallel_iterations=parallel
    )[1]


@examples(20)
@given(bodies(), st.integers(0, 3))
def test_random_nested_control_flow(body: Any, start: int) -> None:
    with tf.Graph().as_default():
        i = tf.constant(start)
        check(lambda x: body(i, x, x * 1.1), [0.3, -0.6], tolerance=1e-5)
