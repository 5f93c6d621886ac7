"""Gradients of random conds and loops: Merges whose sides lie apart, and those that join what has nothing in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_programs import Built, inputs, program

import engine as tf


def run(built: Any, feeds: Any, **options: Any) -> list[Any]:
    wanted = [built.result, *(g for g in built.gradients if g is not None)]
    with tf.Session(config=tf.ConfigProto(exact=True, **options)) as session:
        return [np.asarray(value) for _ in range(4) for value in session.run(wanted, feeds)]


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.deep if seed % 16 else ()) for seed in range(0, 80, 4)]
)
def test_as_the_interpreter(seed: int) -> None:
    built = Built(tf, program(seed))
    feeds = dict(zip(built.inputs, inputs(seed), strict=True))
    expected = run(built, feeds, plans="off")
    for native in (False, True):
        found = run(built, feeds, plans="always", native=native)
        assert [array.tobytes() for array in found] == [array.tobytes() for array in expected]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_a_merge_whose_sides_lie_in_python_and_in_a_tape(taken: bool, native: bool) -> None:
    v = tf.Variable([1.5, 2.0])
    pred = tf.placeholder(tf.bool, [])
    reference = tf.cond(pred, lambda: v._ref(), lambda: tf.raw_ops.RefIdentity(v._ref()))
    _, last = tf.while_loop(
        lambda i, _: i < 2, lambda i, r: (i + 1, r), [0, reference], parallel_iterations=1
    )
    (gradient,) = tf.gradients(last * last, v)
    with tf.Session(config=tf.ConfigProto(plans="always", native=native)) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            assert session.run(gradient, {pred: taken}).tolist() == [3, 4]
