"""Gradients of gradients through cond and while_loop, against known derivatives and differences of the gradient before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from finite_differences import slopes
from optimizing import plain
from schedules import Shuffled, driven_by

import engine as tf
from engine.runtime.driver import Driver
from engine.runtime.parallel import Parallel

START = np.array([0.3, -0.7])
WEIGHTS = np.array([0.5, 1.5])


def loop(times: Any, body: Any, start: Any, **options: Any) -> Any:
    return tf.while_loop(lambda i, v: i < times, lambda i, v: (i + 1, body(i, v)), [0, start], **options)[1]


def run(fetch: Any, feeds: dict[Any, Any]) -> Any:
    """What every driver gives: one thread, four, and ready nodes in a random order."""
    with tf.Session() as session:
        found = session.run(fetch, feeds)
        threads = Parallel(4)
        drivers: tuple[Driver, ...] = (Shuffled(seed=1, rewind=False), threads)
        for driver in drivers:
            with driven_by(driver):
                np.testing.assert_allclose(session.run(fetch, feeds), found, rtol=1e-10, atol=1e-12)
        threads.close()
    return found


def check(build: Any, start: Any = START, orders: tuple[int, ...] = (2,), feed: Any = None) -> None:
    """The gradient of each order of sum(build(x)) is the slope of the one before."""
    x = tf.placeholder(tf.float64, np.shape(start), name="x")
    weights = np.resize(WEIGHTS, np.shape(start))
    value = tf.reduce_sum(build(x))
    feeds = {x: np.asarray(start), **(feed or {})}
    for order in range(1, max(orders) + 1):
        (gradient,) = tf.gradients(value, x)
        assert gradient is not None
        gradient = tf.convert_to_tensor(gradient)
        if order in orders:
            with tf.Session(config=plain()) as session:
                wanted = slopes(session, value, x, feeds)
            scale = max(1.0, float(np.max(np.abs(wanted))))
            np.testing.assert_allclose(run(gradient, feeds), wanted, rtol=1e-6, atol=1e-6 * scale)
        value = tf.reduce_sum(gradient * weights)


@pytest.mark.parametrize("power", [0, 1, 2, 5])
def test_every_derivative_of_a_power(power: int) -> None:
    x = tf.placeholder(tf.float64, [])
    y = loop(power, lambda i, v: v * x, tf.constant(1.0, tf.float64))
    wanted, derivatives = np.polynomial.Polynomial([0.0] * power + [1.0]), []
    for _ in range(4):
        (y,) = tf.gradients(y, x, unconnected_gradients="zero")
        wanted = wanted.deriv()
        derivatives.append((y, wanted(1.3)))
    for mine, known in derivatives:
        np.testing.assert_allclose(run(mine, {x: 1.3}), known, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("times", "parallel"), [(0, 2), (1, 10), (4, 1), (4, 10)])
def test_a_loop_with_an_invariant(times: int, parallel: int) -> None:
    check(
        lambda x: loop(
            times, lambda i, v: tf.sin(v) * x + v * v * 0.1, x * x * x, parallel_iterations=parallel
        ),
    )


def test_an_invariant_matrix() -> None:
    matrix = tf.constant([[0.5, -0.3], [0.2, 0.7]], tf.float64)
    check(lambda x: loop(3, lambda i, v: tf.tanh(tf.matmul(matrix * x, v)) + v, x), np.outer(START, WEIGHTS))


def test_a_recurrent_network() -> None:
    inputs = tf.constant(np.linspace(-1, 1, 12).reshape(4, 1, 3))
    state = tf.constant([[0.1, -0.2]], tf.float64)
    kernel = np.linspace(-0.6, 0.9, 10).reshape(5, 2)

    def step(kernel: Any) -> Any:
        return loop(
            4, lambda i, h: tf.tanh(tf.matmul(tf.concat([tf.gather(inputs, i), h], 1), kernel)), state
        )

    check(step, kernel)


def test_no_iteration_that_was_not_known() -> None:
    n = tf.placeholder(tf.int32, [])
    for times in (0, 3):
        check(lambda x: loop(n, lambda i, v: v * v * x, x * x * x), orders=(2,), feed={n: times})


def test_loops_in_loops_with_different_counts() -> None:
    check(lambda x: loop(3, lambda i, v: loop(i, lambda j, w: tf.tanh(w) * x + w * 0.3, v), x), orders=(2, 3))


def test_a_cond_alone() -> None:
    pred = tf.placeholder(tf.bool, [])
    for taken in (True, False):
        check(lambda x: tf.cond(pred, lambda: tf.sin(x) * x, lambda: x * x * x), feed={pred: taken})


@pytest.mark.parametrize(
    "pred",
    [
        lambda i, x, v: tf.equal(i % 2, 0),
        lambda i, x, v: tf.reduce_sum(v) < 0.0,
        lambda i, x, v: x[0] > 0.0,
        lambda i, x, v: x[0] < 0.0,
    ],
    ids=["counter", "value", "invariant", "never"],
)
def test_a_cond_in_a_loop(pred: Any) -> None:
    def body(i: Any, x: Any, v: Any) -> Any:
        return tf.cond(
            pred(i, x, v), lambda: tf.sin(v) * x + v, lambda: v * v * x - tf.cast(i, tf.float64) * 0.1
        )

    check(lambda x: loop(4, lambda i, v: body(i, x, v), x))


def test_conds_in_a_cond_in_a_loop() -> None:
    def body(i: Any, x: Any, v: Any) -> Any:
        inner = lambda: tf.cond(tf.equal(i, 1), lambda: v * x * v, lambda: tf.sin(v))  # noqa: E731
        return tf.cond(i < 2, inner, lambda: tf.cond(x[1] < 0.0, lambda: tf.exp(v * 0.3) * x, lambda: x))

    check(lambda x: loop(4, lambda i, v: body(i, x, v), x), orders=(2, 3))


def test_a_branch_that_uses_only_what_is_outside() -> None:
    check(lambda x: loop(3, lambda i, v: tf.cond(i > 0, lambda: x * x * x, lambda: v * x), x))


def test_a_loop_in_a_cond() -> None:
    pred = tf.placeholder(tf.bool, [])
    for taken in (True, False):
        check(
            lambda x: tf.cond(pred, lambda: loop(3, lambda i, v: tf.sin(v) + x * v, x), lambda: x * x * x),
            feed={pred: taken},
        )


def test_a_cond_in_a_loop_in_a_cond_in_a_loop() -> None:
    def inner(x: Any, v: Any) -> Any:
        return loop(2, lambda j, w: tf.cond(tf.equal(j, 0), lambda: w * x, lambda: tf.sin(w)), v)

    check(
        lambda x: loop(
            3, lambda i, v: tf.cond(tf.greater(i, 0), lambda: inner(x, v), lambda: v * v + x * 0.5), x
        )
    )


def test_a_shape_that_changes() -> None:
    def grow(x: Any) -> Any:
        return tf.while_loop(
            lambda i, v: i < 3,
            lambda i, v: (i + 1, tf.concat([tf.sin(v), v[:1] * x[0]], 0)),
            [0, x],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )[1]

    check(grow, orders=(2, 3))


def test_several_results_some_unused() -> None:
    def build(x: Any) -> Any:
        _, a, _, c = tf.while_loop(
            lambda i, a, b, c: i < 3,
            lambda i, a, b, c: (i + 1, a * b, b + x, tf.sin(c)),
            [0, x, x * 0.5, x],
        )
        return a + c

    check(build)


def test_arrays_of_tensors() -> None:
    check(lambda x: tf.scan(lambda a, e: tf.sin(a) * e + a * x, tf.stack([x, x * x]), x), orders=(2, 3))
    check(lambda x: tf.map_fn(lambda e: tf.sin(e) * x * e, tf.stack([x, x * x, x * 2.0])))


def test_an_array_read_several_times_in_a_branch() -> None:
    def build(x: Any) -> Any:
        array = tf.TensorArray(tf.float64, size=3, clear_after_read=False).unstack(
            tf.stack([x, x * x, x * 2.0])
        )
        return loop(
            4,
            lambda i, v: tf.cond(i < 3, lambda: tf.sin(v) * array.read(i % 3) * v, lambda: v * array.read(0)),
            x,
        )

    check(build)


def test_rows_of_a_table() -> None:
    check(lambda x: loop(3, lambda i, v: v * tf.gather(x, [i % 2]) * tf.gather(v, [1, 0]), x))
    check(
        lambda x: loop(
            3, lambda i, v: tf.cond(tf.equal(i, 1), lambda: v * tf.gather(x, [i % 2]), lambda: tf.sin(v)), x
        )
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda i, x, v: tf.sin(v) * v * x,
        lambda i, x, v: tf.cond(tf.equal(i % 2, 0), lambda: tf.sin(v) * v * x, lambda: v * v * v),
        lambda i, x, v: loop(2, lambda j, w: tf.sin(w) * w * x, v),
        lambda i, x, v: loop(
            2, lambda j, w: tf.cond(tf.equal(j, i % 2), lambda: tf.sin(w) * w * x, lambda: w * w * v), v
        ),
    ],
    ids=["plain", "cond", "loop", "cond in loop"],
)
def test_a_gradient_inside_a_body(function: Any) -> None:
    def body(i: Any, x: Any, v: Any) -> Any:
        (slope,) = tf.gradients(function(i, x, v), v)
        return v - 0.1 * slope

    check(lambda x: loop(3, lambda i, v: body(i, x, v), x), orders=(1, 2))


def test_a_gradient_penalty() -> None:
    """|gradient|² is a common loss."""
    x = tf.placeholder(tf.float64, [2])
    score = tf.reduce_sum(loop(3, lambda i, v: tf.tanh(v) * x + v, x))
    penalty = tf.reduce_sum(tf.square(tf.gradients(score, x)[0]))
    (gradient,) = tf.gradients(penalty, x, gate_gradients=True, aggregation_method=1)
    with tf.Session() as session:
        wanted = slopes(session, penalty, x, {x: START})
    np.testing.assert_allclose(run(gradient, {x: START}), wanted, rtol=1e-7)


def test_what_cannot_be_made_is_said_with_the_line_and_a_way_out() -> None:
    x, pred = tf.placeholder(tf.float64, [2]), tf.placeholder(tf.bool, [])
    y = tf.reduce_sum(loop(3, lambda i, v: tf.sin(v) * x, x))
    rarely = tf.cond(pred, lambda: tf.reduce_sum(tf.gradients(y, x)[0]), lambda: tf.zeros([], tf.float64))
    with pytest.raises(
        TypeError, match=r"gradient of 'while/.*test_higher_order.*branch of a cond.*before tf.cond"
    ):
        tf.gradients(rarely, x)
    (hessian,) = tf.hessians(y, x)
    with pytest.raises(
        TypeError, match=r"gradient of 'while/.*test_higher_order.*inside a loop.*outside of tf.while_loop"
    ):
        tf.gradients(hessian, x)


def test_a_loop_that_came_as_bare_nodes_is_named() -> None:
    x = tf.placeholder(tf.float64, [2], name="x")
    y = loop(3, lambda i, v: tf.sin(v) * x, x)
    tf.identity(tf.gradients(y, x)[0], name="gradient")
    meta_graph = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(meta_graph)
        gradient, x = graph.get_tensor_by_name("gradient:0"), graph.get_tensor_by_name("x:0")
        with pytest.raises(
            TypeError, match="There is no gradient of 'gradients/.*in which the loop was built"
        ):
            tf.gradients(gradient, x)


def test_no_gradient_goes_through_a_stack_of_the_users() -> None:
    x = tf.placeholder(tf.float64, [])
    handle = tf.raw_ops.StackV2(max_size=-1, elem_type=tf.float64)
    pushed = tf.raw_ops.StackPushV2(handle=handle, elem=x * x)
    with tf.control_dependencies([pushed]):
        popped = tf.raw_ops.StackPopV2(handle=handle, elem_type=tf.float64)
    assert tf.gradients([pushed, popped], x) == [None]


# Hessians.


@pytest.mark.parametrize(
    ("build", "start"),
    [
        (lambda x: x * x * x, 1.5),
        (lambda x: tf.reduce_prod(x) + tf.reduce_sum(x**3), [[0.3, 0.7], [-0.5, 2.0]]),
        (lambda x: loop(3, lambda i, v: tf.sin(v) * x + tf.reduce_sum(v), x), START),
        (lambda x: loop(3, lambda i, v: loop(i, lambda j, w: tf.sin(w) * x + v, v), x), START),
        (
            lambda x: tf.cond(
                tf.reduce_sum(x) < 0,
                lambda: loop(3, lambda i, v: tf.cond(i > 0, lambda: tf.sin(v) * x, lambda: v * v * x), x),
                lambda: x,
            ),
            START,
        ),
        (
            lambda x: tf.cond(
                tf.reduce_sum(x) > 0, lambda: loop(3, lambda i, v: v * x, x), lambda: x * x * x * tf.reduce_sum(x)
            ),
            START,
        ),
        (lambda x: tf.scan(lambda a, e: tf.sin(a) * e + a * x, tf.stack([x, x * x]), x), START),
        (lambda x: tf.map_fn(lambda e: tf.sin(e) * x, tf.stack([x, x * x])), START),
    ],
    ids=["scalar", "matrix", "loop", "nested", "loop in cond", "loop not taken", "scan", "map"],
)  # fmt: skip
def test_hessians(build: Any, start: Any) -> None:
    x = tf.placeholder(tf.float64, np.shape(start))
    y = tf.reduce_sum(build(x))
    (hessian,), (gradient,) = tf.hessians(y, x), tf.gradients(y, x)
    assert hessian.shape.as_list() == [*np.shape(start), *np.shape(start)]
    feeds = {x: np.asarray(start)}
    with tf.Session(config=plain()) as session:
        wanted = slopes(session, gradient, x, feeds)
    np.testing.assert_allclose(run(hessian, feeds), wanted, rtol=1e-7, atol=1e-7)


def test_a_hessian_inside_a_loop_of_a_loop_inside() -> None:
    """Newton's method: each iteration has a loop, its Hessian, and stacks of its own."""

    def step(i: Any, v: Any) -> Any:
        y = tf.reduce_sum(loop(2, lambda j, w: w * w + v, v))
        (hessian,), (gradient,) = tf.hessians(y, v), tf.gradients(y, v)
        return v - 0.1 * gradient / tf.reduce_sum(hessian, 1)

    x = tf.placeholder(tf.float64, [2])
    result = loop(3, step, x)
    v = START
    for _ in range(3):  # y = Σ (v² + v)² + v
        first = 2 * (v * v + v) * (2 * v + 1) + 1
        second = 2 * (2 * v + 1) ** 2 + 4 * (v * v + v)
        v = v - 0.1 * first / second
    np.testing.assert_allclose(run(result, {x: START}), v, rtol=1e-12)


def test_hessians_of_several_and_of_unknown_shape() -> None:
    x, z = tf.placeholder(tf.float64, [None]), tf.placeholder(tf.float64, None)
    found = tf.hessians([tf.reduce_sum(x**3) * tf.reduce_sum(z * z), loop(2, lambda i, v: v * v, z)], [x, z])
    with tf.Session() as session:
        by_x, by_z = session.run(found, {x: [1.0, 2.0], z: 0.5})
    np.testing.assert_allclose(by_x, np.diag([6.0, 12.0]) * 0.25)
    np.testing.assert_allclose(by_z, 2 * 9.0 + 12 * 0.25)


def test_hessians_of_nothing_are_named() -> None:
    x = tf.placeholder(tf.float64, [2], name="x")
    with pytest.raises(ValueError, match="None values not supported.*'x:0', on which no y depends"):
        tf.hessians(tf.constant(1.0), x)
    with pytest.raises(
        ValueError, match="None values not supported: the gradient by 'x:0' does not depend on it"
    ):
        tf.hessians(tf.reduce_sum(x * 2.0), x)
    with pytest.raises(ValueError, match="aggregation_method"):
        tf.hessians(tf.reduce_sum(x * x), x, aggregation_method=7)
