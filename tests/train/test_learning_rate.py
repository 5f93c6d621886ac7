"""Learning rates that change with the step, against their formulas in Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine as tf


def _polynomial(s: int, steps: float = 10, power: float = 2.0) -> float:
    s = min(s, steps)
    return (0.5 - 0.01) * (1 - s / steps) ** power + 0.01


def _cycled(s: int) -> float:
    return _polynomial(s, 8 * max(1, math.ceil(s / 8)))


CASES: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "exponential": (lambda s: tf.train.exponential_decay(0.5, s, 10, 0.9), lambda s: 0.5 * 0.9 ** (s / 10)),
    "staircase": (
        lambda s: tf.train.exponential_decay(0.5, s, 10, 0.9, staircase=True),
        lambda s: 0.5 * 0.9 ** (s // 10),
    ),
    "natural": (
        lambda s: tf.train.natural_exp_decay(0.5, s, 10, 0.9),
        lambda s: 0.5 * math.exp(-0.9 * s / 10),
    ),
    "inverse": (lambda s: tf.train.inverse_time_decay(0.5, s, 10, 0.9), lambda s: 0.5 / (1 + 0.9 * s / 10)),
    "inverse in steps": (
        lambda s: tf.train.inverse_time_decay(0.5, s, 10, 0.9, staircase=True),
        lambda s: 0.5 / (1 + 0.9 * (s // 10)),
    ),
    "polynomial": (lambda s: tf.train.polynomial_decay(0.5, s, 10, 0.01, 2.0), _polynomial),
    "polynomial cycle": (lambda s: tf.train.polynomial_decay(0.5, s, 8, 0.01, 2.0, cycle=True), _cycled),
    "piecewise": (
        lambda s: tf.train.piecewise_constant(s, [5, 10], [1.0, 0.5, 0.25]),
        lambda s: 1.0 if s <= 5 else 0.5 if s <= 10 else 0.25,
    ),
    "cosine": (
        lambda s: tf.train.cosine_decay(0.5, s, 10, alpha=0.1),
        lambda s: 0.5 * (0.9 * 0.5 * (1 + math.cos(math.pi * min(s, 10) / 10)) + 0.1),
    ),
    "linear cosine": (
        lambda s: tf.train.linear_cosine_decay(0.5, s, 10, 0.5, 0.1, 0.01),
        lambda s: (
            0.5
            * ((0.1 + 1 - min(s, 10) / 10) * 0.5 * (1 + math.cos(2 * math.pi * 0.5 * min(s, 10) / 10)) + 0.01)
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_the_formula(name: str) -> None:
    build, formula = CASES[name]
    step = tf.placeholder(tf.int64, [])
    rate = build(step)
    assert rate.dtype == tf.float32
    with tf.Session() as session:
        for s in range(26):
            np.testing.assert_allclose(session.run(rate, {step: s}), formula(s), rtol=2e-6)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="global_step is required"):
        tf.train.exponential_decay(0.1, None, 10, 0.9)
    with pytest.raises(ValueError, match="1 less"):
        tf.train.piecewise_constant(tf.constant(1), [1, 2], [0.1, 0.2])
