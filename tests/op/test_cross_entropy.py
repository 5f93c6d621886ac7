"""Cross entropies and softmax under their public names: ranks, axes, precision, gradients to labels, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf

RNG = np.random.default_rng(0)


def run(*tensors: Any) -> Any:
    with tf.Session() as session:
        return session.run(list(tensors))


def log_softmax(x: Any, axis: int = -1) -> Any:
    return x - np.logaddexp.reduce(x, axis=axis, keepdims=True)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (2, 1, 2, 5)])
def test_both_agree_at_every_rank(shape: tuple[int, ...]) -> None:
    logits = RNG.normal(size=shape)
    labels = RNG.integers(0, shape[-1], shape[:-1])
    expected = -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]
    one_hot = np.eye(shape[-1])[labels]
    dense = tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant(one_hot), logits=tf.constant(logits)
    )
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.constant(labels), logits=tf.constant(logits)
    )
    assert dense.shape.as_list() == sparse.shape.as_list() == list(shape[:-1])
    for value in run(dense, sparse):
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_shapes_known_only_when_run() -> None:
    logits, one_hot = tf.placeholder(tf.float32, None), tf.placeholder(tf.float32, None)
    labels = tf.placeholder(tf.int32, None)
    dense = tf.nn.softmax_cross_entropy_with_logits_v2(labels=one_hot, logits=logits)
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    values = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    classes = RNG.integers(0, 4, (2, 3))
    with tf.Session() as session:
        a, b = session.run([dense, sparse], {logits: values, one_hot: np.eye(4)[classes], labels: classes})
        np.testing.assert_allclose(a, b, rtol=1e-6)
        with pytest.raises(tf.errors.InvalidArgumentError, match="shape of labels"):
            session.run(sparse, {logits: values, labels: classes[0]})


def test_another_axis() -> None:
    logits, labels = RNG.normal(size=(2, 5, 3)), RNG.dirichlet(np.ones(5), (2, 3)).transpose(0, 2, 1)
    cost = tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant(labels), logits=tf.constant(logits), axis=1
    )
    assert cost.shape.as_list() == [2, 3]
    (value,) = run(cost)
    np.testing.assert_allclose(value, -(labels * log_softmax(logits, 1)).sum(1), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("known", [True, False])
def test_softmax_along_an_axis(axis: int, known: bool) -> None:
    x = RNG.normal(size=(2, 3, 4))
    given = tf.constant(x) if known else tf.placeholder_with_default(x, None)
    a, b = run(tf.nn.softmax(given, axis=axis), tf.nn.log_softmax(given, axis=axis))
    np.testing.assert_allclose(b, log_softmax(x, axis), rtol=1e-12)
    np.testing.assert_allclose(a, np.exp(log_softmax(x, axis)), rtol=1e-12)


def test_gradients_reach_labels_only_in_the_second_version() -> None:
    logits, labels = tf.constant(RNG.normal(size=(3, 4))), tf.constant(RNG.dirichlet(np.ones(4), 3))
    old = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    new = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    assert tf.gradients(old, labels) == [None]
    to_logits, to_labels, old_to_logits, values = run(
        *tf.gradients(new, [logits, labels]), *tf.gradients(old, logits), logits
    )
    np.testing.assert_allclose(to_labels, -log_softmax(values), rtol=1e-12)
    np.testing.assert_allclose(to_logits, np.exp(log_softmax(values)) - run(labels)[0], rtol=1e-12)
    np.testing.assert_allclose(to_logits, old_to_logits)


def test_half_precision_is_computed_in_float32() -> None:
    logits = tf.constant(np.full((1, 4096), 1.0, np.float16))
    (value,) = run(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[3], logits=logits))
    assert value.dtype == np.float16
    assert value[0] == pytest.approx(np.log(4096), rel=1e-3)


def test_large_logits_do_not_overflow() -> None:
    logits = tf.constant([[1e30, -1e30, 0.0], [-3e38, -3e38, -3e38]])
    values = run(
        tf.nn.softmax(logits),
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 0], logits=logits),
        tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.constant([1.0, 0.0]), logits=tf.constant([1e30, -1e30])
        ),
    )
    np.testing.assert_allclose(values[0], [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    np.testing.assert_allclose(values[1], [0, np.log(3)], rtol=1e-6)
    np.testing.assert_array_equal(values[2], [0, 0])


def test_sigmoid_and_weighted() -> None:
    x, z = RNG.normal(size=(3, 4)) * 5, RNG.uniform(size=(3, 4))
    p = 1 / (1 + np.exp(-x))
    plain, weighted = run(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.constant(z), logits=tf.constant(x)),
        tf.nn.weighted_cross_entropy_with_logits(
            labels=tf.constant(z), logits=tf.constant(x), pos_weight=3.0
        ),
    )
    np.testing.assert_allclose(plain, -z * np.log(p) - (1 - z) * np.log1p(-p), rtol=1e-6)
    np.testing.assert_allclose(weighted, -3 * z * np.log(p) - (1 - z) * np.log1p(-p), rtol=1e-6)


def test_in_top_k() -> None:
    scores = tf.constant([[0.1, 0.5, 0.4], [0.3, 0.3, 0.2]])
    assert run(*[tf.nn.in_top_k(scores, [2, 1], k) for k in (1, 2)])[0].tolist() == [False, True]
    assert run(tf.nn.in_top_k(scores, [2, 1], 2))[0].tolist() == [True, True]


def test_a_label_out_of_range_is_named() -> None:
    labels = tf.placeholder(tf.int32, [None])
    cost = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.zeros([2, 5]))
    with tf.Session() as session:
        for wrong in (5, -1):
            with pytest.raises(
                tf.errors.InvalidArgumentError,
                match=rf"label value of {wrong} .*range of \[0, 5\).*2 {wrong}",
            ):
                session.run(cost, {labels: [2, wrong]})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: tf.nn.softmax_cross_entropy_with_logits(tf.zeros([2, 2]), tf.zeros([2, 2])),
            "named arguments",
        ),
        (lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1]), "must be provided"),
        (
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[[1]], logits=tf.zeros([1, 3])),
            "Rank mismatch",
        ),
        (
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1, 2], logits=tf.zeros([1, 3])),
            "Shape mismatch",
        ),
        (lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=1, logits=1.0), "scalars"),
        (
            lambda: tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.zeros([2]), logits=tf.zeros([3])),
            "same shape",
        ),
        (
            lambda: tf.nn.softmax_cross_entropy_with_logits_v2(
                labels=tf.zeros([2, 3]), logits=tf.zeros([2, 4])
            ),
            "3.*4|4.*3",
        ),
        (lambda: tf.nn.softmax(tf.zeros([2]), axis=0, dim=0), "both 'axis' and 'dim'"),
    ],
)
def test_calls_that_cannot_be(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="axis"):
        tf.nn.softmax(tf.zeros([2, 3]), axis=2)
