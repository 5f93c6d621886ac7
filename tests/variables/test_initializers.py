"""Initializers: values, variances, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf


def value(initializer: Any, shape: Any, dtype: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(initializer(shape, dtype=dtype))


def test_constants() -> None:
    assert value(tf.zeros_initializer(), [2]).tolist() == [0, 0]
    assert value(tf.ones_initializer(), [2], tf.int32).tolist() == [1, 1]
    assert value(tf.constant_initializer(3), [2, 1]).tolist() == [[3], [3]]
    assert value(tf.constant_initializer([1, 2, 3, 4]), [2, 2]).tolist() == [[1, 2], [3, 4]]
    assert value(tf.initializers.identity(gain=2.0), [2, 3]).tolist() == [[2, 0, 0], [0, 2, 0]]
    with pytest.raises(TypeError, match="shape"):
        value(tf.constant_initializer([1, 2], verify_shape=True), [3])
    with pytest.raises(TypeError, match="Invalid type"):
        tf.constant_initializer(object())
    with pytest.raises(ValueError, match="2D"):
        value(tf.initializers.identity(), [2])


# Name, expected variance for shape [3, 5, 40, 60], and the limit (None: normal and unbounded).
FAN_IN, FAN_OUT = 3 * 5 * 40, 3 * 5 * 60
VARIANCES: tuple[tuple[Any, float, float | None], ...] = (
    (lambda: tf.glorot_uniform_initializer(seed=1), 2 / (FAN_IN + FAN_OUT), np.sqrt(6 / (FAN_IN + FAN_OUT))),
    (
        lambda: tf.glorot_normal_initializer(seed=1),
        2 / (FAN_IN + FAN_OUT),
        2 * np.sqrt(2 / (FAN_IN + FAN_OUT)) / 0.8796,
    ),
    (lambda: tf.initializers.he_normal(seed=1), 2 / FAN_IN, 2 * np.sqrt(2 / FAN_IN) / 0.8796),
    (lambda: tf.initializers.he_uniform(seed=1), 2 / FAN_IN, np.sqrt(6 / FAN_IN)),
    (lambda: tf.initializers.lecun_normal(seed=1), 1 / FAN_IN, 2 * np.sqrt(1 / FAN_IN) / 0.8796),
    (lambda: tf.initializers.lecun_uniform(seed=1), 1 / FAN_IN, np.sqrt(3 / FAN_IN)),
    (
        lambda: tf.variance_scaling_initializer(0.5, "fan_out", "untruncated_normal", seed=1),
        0.5 / FAN_OUT,
        None,
    ),
    (lambda: tf.uniform_unit_scaling_initializer(1.5, seed=1), 1.5**2 / FAN_IN, 1.5 * np.sqrt(3 / FAN_IN)),
    (lambda: tf.random_normal_initializer(stddev=0.3, seed=1), 0.09, None),
    (lambda: tf.truncated_normal_initializer(stddev=0.3, seed=1), (0.3 * 0.8796) ** 2, 0.6),
    (lambda: tf.random_uniform_initializer(-0.3, 0.3, seed=1), 0.03, 0.3),
)


@pytest.mark.parametrize(("make", "variance", "limit"), VARIANCES)
def test_variances_and_limits(make: Any, variance: float, limit: float | None) -> None:
    values = value(make(), [3, 5, 40, 60])
    assert values.dtype == np.float32
    assert abs(values.mean()) < 4 * np.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.04)
    if limit is not None:
        assert np.abs(values).max() <= limit * 1.0001
        assert np.abs(values).max() > 0.95 * limit


def test_refusals() -> None:
    with pytest.raises(ValueError, match="scale"):
        tf.variance_scaling_initializer(0.0)
    with pytest.raises(ValueError, match="mode"):
        tf.variance_scaling_initializer(mode="fan")
    with pytest.raises(ValueError, match="distribution"):
        tf.variance_scaling_initializer(distribution="cauchy")
    with pytest.raises(ValueError, match="floating"):
        tf.random_normal_initializer(dtype=tf.int32)
