"""Gradients of random programs, through conditionals and loops, against finite differences of plain Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import assume, given
from random_programs import Program, build, evaluate, programs
from searches import examples

import engine as tf

STEP = 1e-6


def total(program: Program, x: Any) -> float:
    """The sum of the floating result, as a function of the floating input."""
    moved = replace(program, inputs=(program.inputs[0], ("f0", tuple(x))))
    return float(np.sum(evaluate(moved).results[1]))


def slopes(program: Program, x: Any) -> Any:
    """Central differences, or None where the function has a kink (max and min) near `x`."""
    found = np.zeros(2)
    middle = total(program, x)
    for i in range(2):
        aside = np.zeros(2)
        aside[i] = STEP
        above, below = total(program, x + aside), total(program, x - aside)
        if abs((above - middle) - (middle - below)) > 1e-3 * STEP:
            return None
        found[i] = (above - below) / (2 * STEP)
    return found


@given(programs(depth=2, effects=False))
@examples(20)
def test_gradients_are_slopes(program: Program) -> None:
    # Away from the numbers that constants have, where max and min would be tied.
    x = np.array([0.31, -0.57])
    want = slopes(program, x)
    assume(want is not None)
    built = build(program, tf)
    place = next(tensor for tensor in built.feeds if tensor.op.name == "f0")
    with built.graph.as_default():
        (gradient,) = tf.gradients(built.fetches[1], place)
    if gradient is None:
        np.testing.assert_allclose(want, 0.0, atol=1e-6)
        return
    with tf.Session(graph=built.graph) as session:
        got = session.run(gradient, {**built.feeds, place: x})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
