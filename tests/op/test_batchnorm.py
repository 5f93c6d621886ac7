"""Batch normalization: gradients by finite differences (the fused ops have no float64), moving averages, plain functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf

RNG = np.random.default_rng(0)
X = RNG.normal(1.5, 2.0, size=(4, 3, 5, 2))
SCALE, OFFSET = np.array([1.5, -0.5]), np.array([0.25, 2.0])
MEAN, VARIANCE = np.array([1.0, -1.0]), np.array([2.0, 0.5])


def normalized(x: Any, scale: Any, offset: Any, training: bool) -> Any:
    mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if training else (MEAN, VARIANCE)
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + offset


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("training", [True, False])
def test_value_and_gradients(data_format: str, training: bool) -> None:
    first = data_format == "NCHW"
    weights = RNG.normal(size=X.shape)
    given = X.transpose(0, 3, 1, 2) if first else X
    x, scale, offset = (tf.constant(a.astype(np.float32)) for a in (given, SCALE, OFFSET))
    statistics = (
        {}
        if training
        else {"mean": tf.constant(MEAN, tf.float32), "variance": tf.constant(VARIANCE, tf.float32)}
    )
    y, _, _ = tf.nn.fused_batch_norm(
        x, scale, offset, data_format=data_format, is_training=training, **statistics
    )
    towards = (weights.transpose(0, 3, 1, 2) if first else weights).astype(np.float32)
    gradients = tf.gradients(y, [x, scale, offset], grad_ys=tf.constant(towards))
    with tf.Session() as session:
        value, to_x, to_scale, to_offset = session.run([y, *gradients])
    if first:
        value, to_x = value.transpose(0, 2, 3, 1), to_x.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(value, normalized(X, SCALE, OFFSET, training), rtol=1e-4, atol=1e-5)

    def slope(argument: int, place: Any) -> float:
        arguments = [X.copy(), SCALE.copy(), OFFSET.copy()]
        ends = []
        for step in (1e-5, -2e-5):
            arguments[argument][place] += step
            ends.append((normalized(*arguments, training) * weights).sum())
        return float((ends[0] - ends[1]) / 2e-5)

    for place in ((0, 0, 0, 0), (3, 2, 4, 1), (1, 1, 2, 0)):
        assert to_x[place] == pytest.approx(slope(0, place), rel=1e-3, abs=1e-4)
    for channel in (0, 1):
        assert to_scale[channel] == pytest.approx(slope(1, channel), rel=1e-3)
        assert to_offset[channel] == pytest.approx(slope(2, channel), rel=1e-3)


def test_the_statistics_are_for_moving_averages() -> None:
    x, one, zero = tf.constant(X, tf.float32), tf.ones([2]), tf.zeros([2])
    _, mean, variance = tf.nn.fused_batch_norm(x, one, zero)
    _, blended_mean, blended_variance = tf.nn.fused_batch_norm(
        x,
        one,
        zero,
        tf.constant(MEAN, tf.float32),
        tf.constant(VARIANCE, tf.float32),
        exponential_avg_factor=0.25,
    )
    with tf.Session() as session:
        found = session.run([mean, variance, blended_mean, blended_variance])
    population = X.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(found[0], X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[1], population, rtol=1e-5)
    np.testing.assert_allclose(found[2], 0.75 * MEAN + 0.25 * X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[3], 0.75 * VARIANCE + 0.25 * population, rtol=1e-5)


def test_inference_needs_statistics() -> None:
    with pytest.raises(ValueError, match="is_training"):
        tf.nn.fused_batch_norm(tf.zeros([1, 2, 2, 2]), tf.ones([2]), tf.zeros([2]), is_training=False)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError):
        tf.nn.fused_batch_norm(tf.zeros([1, 2, 2, 2]), tf.ones([3]), tf.zeros([2]))
    with pytest.raises(ValueError):
        tf.nn.fused_batch_norm(tf.zeros([1, 2, 2]), tf.ones([2]), tf.zeros([2]))
    x, scale = tf.placeholder(tf.float32, None), tf.placeholder(tf.float32, None)
    y, _, _ = tf.nn.fused_batch_norm(x, scale, tf.zeros([2]))
    with (
        tf.Session() as session,
        pytest.raises(tf.errors.InvalidArgumentError, match="scale must have one element"),
    ):
        session.run(y, {x: np.zeros((1, 2, 2, 2)), scale: [1, 1, 1]})


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [[0], [0, 1, 2], [3]])
def test_moments(keep: bool, axes: list[int]) -> None:
    with tf.Session() as session:
        mean, variance = session.run(tf.nn.moments(tf.constant(X), axes, keep_dims=keep))
    np.testing.assert_allclose(mean, X.mean(tuple(axes), keepdims=keep))
    np.testing.assert_allclose(variance, X.var(tuple(axes), keepdims=keep))


def test_moments_of_float16_are_computed_in_float32() -> None:
    x = np.full(4000, 16.0, np.float16)
    with tf.Session() as session:
        mean, variance = session.run(tf.nn.moments(tf.constant(x), [0]))
    assert (mean, variance) == (16, 0)
    assert mean.dtype == np.float16


def test_unfused() -> None:
    args = [tf.constant(a) for a in (X, MEAN, VARIANCE, OFFSET, SCALE)]
    with tf.Session() as session:
        full = session.run(tf.nn.batch_normalization(*args, 1e-3))
        bare = session.run(tf.nn.batch_normalization(*args[:3], None, None, 1e-3))
    np.testing.assert_allclose(full, normalized(X, SCALE, OFFSET, False), rtol=1e-6)
    np.testing.assert_allclose(bare, normalized(X, 1.0, 0.0, False), rtol=1e-6)
