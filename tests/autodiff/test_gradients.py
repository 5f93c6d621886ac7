"""`gradients`: against finite differences on random programs, and each of its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine.autodiff.check import compute_gradient, compute_gradient_error

UNARY: list[Callable[[Any], Any]] = [
    tf.sin,
    tf.tanh,
    tf.sigmoid,
    lambda x: tf.exp(x * 0.3),
    tf.square,
    lambda x: tf.reduce_sum(x, axis=0, keepdims=True),
    lambda x: tf.reduce_mean(x, axis=1, keepdims=True),
    lambda x: tf.transpose(tf.transpose(x)),
    lambda x: tf.reshape(tf.reshape(x, [-1]), tf.shape(x)),
    lambda x: x[:, ::-1],
    tf.nn.softplus,
    tf.nn.softmax,
]
WHOLE = np.zeros((3, 4))  # a sum with it has the full shape, whatever was reduced before
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 1.0),
    lambda a, b: tf.matmul(a + WHOLE, b + WHOLE, transpose_b=True)[:, :1] + a,
    tf.squared_difference,
]


@st.composite
def programs(draw: Any) -> list[tuple[int, int, int]]:
    """Instructions (kind, left, right): what to apply to which earlier values."""
    length = draw(st.integers(1, 8))
    found = []
    for position in range(length):
        kind = draw(st.integers(0, len(UNARY) + len(BINARY) - 1))
        found.append((kind, draw(st.integers(0, position)), draw(st.integers(0, position))))
    return found


def build(program: list[tuple[int, int, int]], x: Any) -> Any:
    values = [x]
    for kind, left, right in program:
        if kind < len(UNARY):
            values.append(UNARY[kind](values[left]))
        else:
            values.append(BINARY[kind - len(UNARY)](values[left], values[right]))
    return tf.add_n([tf.reduce_sum(value) for value in values[1:]])


@examples(20)
@given(programs(), st.integers(0, 2**16))
def test_random_programs_agree_with_finite_differences(
    program: list[tuple[int, int, int]], seed: int
) -> None:
    start = np.random.default_rng(seed).uniform(-1, 1, (3, 4))
    with tf.Graph().as_default(), tf.Session():
        x = tf.placeholder(tf.float64, [3, 4])
        y = build(program, x)
        symbolic, numeric = compute_gradient(x, [3, 4], y, [], start, delta=1e-5)
    scale = np.abs(numeric).max() + 1.0
    np.testing.assert_allclose(symbolic / scale, numeric / scale, atol=1e-6)


def test_the_checker_catches_a_wrong_gradient() -> None:
    @tf.RegisterGradient("WrongSin")
    def _wrong(op: Any, grad: Any) -> Any:
        return grad * 0.5 * tf.cos(op.inputs[0])

    x = tf.placeholder(tf.float64, [2])
    with tf.get_default_graph().gradient_override_map({"Sin": "WrongSin"}):
        wrong = tf.sin(x)
    right = tf.sin(x)
    with tf.Session():
        assert compute_gradient_error(x, [2], right, [2], delta=1e-5) < 1e-8
        assert compute_gradient_error(x, [2], wrong, [2], delta=1e-5) > 0.1


def values(*fetches: Any, feed: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(list(fetches), feed)


def test_grad_ys_weights_each_y() -> None:
    x = tf.constant([1.0, 2.0])
    a, b = x * x, x * 3.0
    (grad,) = tf.gradients([a, b], x, grad_ys=[tf.constant([1.0, 10.0]), None])
    np.testing.assert_allclose(values(grad)[0], [2 * 1 + 3, 10 * 4 + 3])


def test_stop_gradients_and_stop_gradient() -> None:
    a = tf.constant(2.0)
    b = a * 3.0
    (through,) = tf.gradients(a + b, a)
    (stopped,) = tf.gradients(a + b, a, stop_gradients=[b])
    (inside,) = tf.gradients(a + tf.stop_gradient(b), a)
    assert values(through, stopped, inside) == [4.0, 1.0, 1.0]


def test_unconnected() -> None:
    a, b = tf.constant(2.0), tf.constant([1.0, 2.0])
    assert tf.gradients(a * 2.0, b) == [None]
    (zero,) = tf.gradients(a * 2.0, b, unconnected_gradients="zero")
    np.testing.assert_array_equal(values(zero)[0], [0.0, 0.0])
    with pytest.raises(ValueError, match="unconnected_gradients"):
        tf.gradients(a, b, unconnected_gradients="maybe")


def test_an_x_in_the_middle_gets_its_own_gradient() -> None:
    a = tf.constant(2.0)
    b = a * 3.0
    c = b * b
    grad_a, grad_b = tf.gradients(c, [a, b])
    assert values(grad_a, grad_b) == [36.0, 12.0]


def test_gather_gives_indexed_slices_that_add_up() -> None:
    table = tf.constant(np.arange(8.0).reshape(4, 2))
    rows = tf.gather(table, [1, 3, 1])
    (grad,) = tf.gradients(tf.reduce_sum(rows * [[1.0, 2.0]]), table)
    assert isinstance(grad, tf.IndexedSlices)
    dense = tf.convert_to_tensor(grad)
    np.testing.assert_array_equal(values(dense)[0], [[0, 0], [2, 4], [0, 0], [1, 2]])
    (twice,) = tf.gradients([tf.reduce_sum(rows), tf.reduce_sum(tf.gather(table, [0]))], table)
    np.testing.assert_array_equal(values(tf.convert_to_tensor(twice))[0], [[1, 1], [2, 2], [0, 0], [1, 1]])


def test_integers_are_refused_and_do_not_carry() -> None:
    i = tf.constant(3)
    with pytest.raises(TypeError, match="int32 tensors are not defined: 'Const:0'"):
        tf.gradients(i, i)
    x = tf.constant(2.0)
    assert tf.gradients(tf.cast(tf.cast(x, tf.int32), tf.float32), x) == [None]


def test_an_op_without_a_gradient_is_named_with_its_line() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.get_default_graph().gradient_override_map({"Sin": "NobodyWroteThis"}):
        y = tf.sin(x, name="lonely")
    with pytest.raises(LookupError, match=r"'lonely' \(op type: NobodyWroteThis\).*test_gradients.py:\d+"):
        tf.gradients(y, x)


def test_a_gradient_function_that_breaks_its_promise_is_named() -> None:
    @tf.RegisterGradient("TwoForOne")
    def _two(op: Any, grad: Any) -> Any:
        return grad, grad

    @tf.RegisterGradient("WrongShape")
    def _shape(op: Any, grad: Any) -> Any:
        return tf.constant([[1.0]])

    x = tf.constant([1.0, 2.0])
    for name, message in (
        ("TwoForOne", "Num gradients 2"),
        ("WrongShape", r"shape \(2,\); its gradient has shape \(1, 1\)"),
    ):
        with tf.get_default_graph().gradient_override_map({"Sin": name}):
            y = tf.sin(x)
        with pytest.raises(ValueError, match=message):
            tf.gradients(y, x)


def test_registering_twice_is_refused() -> None:
    with pytest.raises(KeyError, match="'Sin'"):
        tf.RegisterGradient("Sin")(lambda op, grad: grad)


def test_colocation() -> None:
    with tf.device("/device:CPU:0"):
        x = tf.constant(1.0)
        y = tf.sin(x)
    (grad,) = tf.gradients(y, x, colocate_gradients_with_ops=True)
    assert b"loc:@Sin" in grad.op.colocation_groups()
    assert grad.device == "/device:CPU:0"


def test_gating_makes_all_gradients_of_an_op_wait_for_each_other() -> None:
    a, b = tf.constant(2.0), tf.constant(3.0)
    grads = tf.gradients(a * b, [a, b], gate_gradients=True)
    assert [grad.op.type for grad in grads] == ["Identity", "Identity"]
    assert grads[0].op.control_inputs == grads[1].op.control_inputs
    assert values(*grads) == [3.0, 2.0]


def test_second_order() -> None:
    x = tf.constant(0.7, tf.float64)
    (first,) = tf.gradients(tf.sin(x) * x, x)
    (second,) = tf.gradients(first, x)
    np.testing.assert_allclose(values(second)[0], 2 * np.cos(0.7) - 0.7 * np.sin(0.7), rtol=1e-12)
