"""The composed math functions against NumPy, with static shapes known and unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf

X = np.array([[1.0, -2.0, 3.5], [0.5, 4.0, -1.5]])
Z = X + 1j * X[::-1]
BIG = X * 1000

CASES: dict[str, tuple[Any, Any, Any]] = {
    "logsumexp": (X, tf.reduce_logsumexp, lambda x: np.log(np.exp(x).sum())),
    "logsumexp axis": (X, lambda x: tf.reduce_logsumexp(x, 1), lambda x: np.log(np.exp(x).sum(1))),
    "logsumexp big": (
        BIG,
        lambda x: tf.reduce_logsumexp(x, 1, keepdims=True),
        lambda x: x.max(1, keepdims=True),
    ),
    "logsumexp -inf": (X - np.inf, tf.reduce_logsumexp, lambda x: -np.inf),
    "variance": (X, tf.reduce_variance, np.var),
    "variance complex": (Z, tf.reduce_variance, np.var),
    "std": (X, lambda x: tf.reduce_std(x, 0), lambda x: np.std(x, 0)),
    "count_nonzero": (np.floor(X), lambda x: tf.count_nonzero(x, 1), lambda x: np.count_nonzero(x, 1)),
    "norm": (X, tf.norm, np.linalg.norm),
    "norm axis": (X, lambda x: tf.norm(x, axis=1), lambda x: np.linalg.norm(x, axis=1)),
    "norm 1": (X, lambda x: tf.norm(x, 1, axis=0), lambda x: np.linalg.norm(x, 1, axis=0)),
    "norm 3": (X, lambda x: tf.norm(x, 3, axis=1), lambda x: np.linalg.norm(x, 3, axis=1)),
    "norm inf": (X, lambda x: tf.norm(x, np.inf, axis=1), lambda x: np.linalg.norm(x, np.inf, axis=1)),
    "norm matrix": (X, lambda x: tf.norm(x, "fro", axis=[0, 1]), np.linalg.norm),
    "norm keep": (
        X,
        lambda x: tf.norm(x, axis=1, keepdims=True),
        lambda x: np.linalg.norm(x, axis=1, keepdims=True),
    ),
    "norm complex": (Z, tf.norm, np.linalg.norm),
    "euclidean": (X, lambda x: tf.reduce_euclidean_norm(x, 1), lambda x: np.linalg.norm(x, axis=1)),
    "l2": (X, tf.l2_loss, lambda x: (x**2).sum() / 2),
    "tensordot 1": (X, lambda x: tf.tensordot(x, X.T, 1), lambda x: x @ X.T),
    "tensordot axes": (X, lambda x: tf.tensordot(x, X, [[0], [0]]), lambda x: x.T @ X),
    "tensordot all": (X, lambda x: tf.tensordot(x, X, [[1, 0], [1, 0]]), lambda x: (x * X).sum()),
    "tensordot none": (X, lambda x: tf.tensordot(x, X, 0), lambda x: np.multiply.outer(x, X)),
    "matmul adjoint": (Z, lambda z: tf.matmul(z, z, adjoint_a=True), lambda z: np.conj(z.T) @ z),
    "matmul batch transpose": (
        np.stack([Z, Z + 1]),
        lambda z: tf.matmul(z, z, transpose_b=True),
        lambda z: z @ np.swapaxes(z, 1, 2),
    ),
    "matmul broadcast": (np.stack([X, X + 1]), lambda x: tf.matmul(x, X.T), lambda x: x @ X.T),
    "matmul operator": (X, lambda x: x @ X.T, lambda x: x @ X.T),
    "clip": (X, lambda x: tf.clip_by_value(x, -1.0, 2.0), lambda x: np.clip(x, -1, 2)),
    "angle": (X, tf.angle, np.angle),
    "imag": (X, tf.imag, np.zeros_like),
    "abs complex": (Z, tf.abs, np.abs),
    "saturate": (
        BIG,
        lambda x: tf.saturate_cast(x, tf.int8),
        lambda x: np.clip(x, -128, 127).astype(np.int8),
    ),
    "saturate to int32": (
        np.array([-1e30, 1e30, 5.7]),
        lambda x: tf.saturate_cast(tf.cast(x, tf.float32), tf.int32),
        lambda x: np.array([-(2**31), 2**31 - 128, 5], np.int32),
    ),
    "logical_xor": (X, lambda x: tf.logical_xor(x > 0, x > 2), lambda x: (x > 0) ^ (x > 2)),
    "where rows": (X, lambda x: tf.where([True, False], x, -x), lambda x: x * [[1], [-1]]),
    "div ints": (X, lambda x: tf.div(tf.cast(x, tf.int32), 2), lambda x: x.astype(np.int32) // 2),
    "truediv ints": (X, lambda x: tf.cast(x, tf.int32) / 2, lambda x: x.astype(np.int32) / 2),
    "truediv int8": (
        X,
        lambda x: tf.cast(x, tf.int8) / 2,
        lambda x: (x.astype(np.int8) / 2).astype(np.float32),
    ),
    "segment mean": (
        X,
        lambda x: tf.unsorted_segment_mean(x, [[2, 0, 0], [0, 2, -1]], 3),
        lambda x: np.array([(x[0, 1] + x[0, 2] + x[1, 0]) / 3, 0, (x[0, 0] + x[1, 1]) / 2]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value(name: str) -> None:
    value, function, reference = CASES[name]
    wanted = np.asarray(reference(value))
    with tf.Graph().as_default(), tf.Session() as session, np.errstate(all="ignore"):
        known = tf.placeholder(value.dtype, value.shape)
        result = function(known)
        assert result.shape.is_compatible_with(wanted.shape)
        found = session.run(result, {known: value})
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted)
        partly = tf.placeholder(value.dtype, [None] * value.ndim)
        np.testing.assert_allclose(session.run(function(partly), {partly: value}), wanted)


@pytest.mark.parametrize("axis", [None, 0, [0, 1], [-1]])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "function", [tf.reduce_sum, tf.reduce_mean, tf.reduce_prod, tf.reduce_max], ids=lambda f: f.__name__
)
def test_reductions_of_unknown_rank_and_their_gradients(function: Any, axis: Any, keep: bool) -> None:
    value = X + 0.25
    with tf.Graph().as_default(), tf.Session() as session:
        known, unknown = tf.placeholder(tf.float64, value.shape), tf.placeholder(tf.float64)
        outputs, gradients = [], []
        for x in (known, unknown):
            y = function(x, axis, keepdims=keep)
            outputs.append(y)
            gradients.append(tf.gradients(y * y, x)[0])
        feeds = {known: value, unknown: value}
        np.testing.assert_allclose(*session.run(outputs, feeds))
        np.testing.assert_allclose(*session.run(gradients, feeds))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_floats_are_summed_in_float32(dtype: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        ones = tf.cast(tf.ones([3000]), dtype)
        assert float(session.run(tf.reduce_sum(ones))) == pytest.approx(3000, rel=2e-2)
        assert float(session.run(tf.reduce_mean(ones))) == 1
        row = tf.reshape(ones, [1, 3000])
        assert float(session.run(tf.matmul(row, row, transpose_b=True))[0, 0]) == pytest.approx(
            3000, rel=2e-2
        )


def test_gradient_goes_to_the_first_of_equal_operands() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.constant([1.0, 2.0]), tf.constant([1.0, 2.0])
        for function in (tf.maximum, tf.minimum):
            first, second = session.run(tf.gradients(function(x, y), [x, y]))
            assert first.tolist() == [1, 1]
            assert second.tolist() == [0, 0]


def test_gradient_of_an_extreme_is_shared_by_equal_elements() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
        found = session.run(tf.gradients(tf.reduce_max(x, 1), x)[0])
        assert found.tolist() == [[0, 0.5, 0.5], [1, 0, 0]]


def test_gradient_of_a_product_with_zeros() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]])
        assert session.run(tf.gradients(tf.reduce_prod(x, 1), x)[0]).tolist() == [[0, 6, 0], [0, 0, 0]]


def test_gradient_of_pow_at_zero() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.constant([0.0, 0.0, -1.0]), tf.constant([2.0, 0.0, 2.0])
        grad_x, grad_y = session.run(tf.gradients(x**y, [x, y]))
        assert grad_x[0] == 0
        assert grad_x[2] == -2
        assert grad_y.tolist() == [0, 0, 0]


def test_the_name_may_follow_the_inputs() -> None:
    with tf.Graph().as_default():
        x = tf.constant(2.0)
        assert tf.square(x, "squared").name == "squared:0"
        assert tf.maximum(x, 1.0, "most").name == "most:0"
        assert tf.equal(x, x, None).name == "Equal:0"
        with pytest.raises(TypeError, match="Square takes 1 inputs"):
            tf.square(x, x)
