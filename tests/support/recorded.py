"""Programs whose runs are recorded, and what is told of a run by a plan and by the interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from traced import Told, check_order, told

import engine as tf
from engine.observe import FrameChange, TraceLevel
from engine.passes.settings import Level, OptimizerOptions


def config(plans: str, optimized: bool = True, native: bool = False) -> tf.ConfigProto:
    level = OptimizerOptions() if optimized else OptimizerOptions(opt_level=Level.L0)
    return tf.ConfigProto(plans=plans, native=native, graph_options=tf.GraphOptions(optimizer_options=level))


def agree(plan: Told, interpreter: Told) -> None:
    """Raise AssertionError unless two traces tell the same."""
    check_order(plan)
    assert Counter(plan.places()) == Counter(interpreter.places())
    assert plan.changes() == interpreter.changes()
    assert plan.written() == interpreter.written()
    assert plan.seen() == interpreter.seen()


def check_sample(plan: Told, interpreter: Told) -> None:
    """Raise AssertionError unless `plan` tells a sample of what `interpreter` tells, and exact counts of all."""
    check_order(plan)
    (totals,) = plan.sums
    node, dead = interpreter.column("node"), interpreter.column("dead")
    assert totals.executions.sum() == len(node) == totals.skipped + len(plan.column("node"))
    assert totals.skipped > len(node) / 2
    assert np.array_equal(totals.executions, np.bincount(node)[totals.node])
    assert np.array_equal(
        totals.dead, np.bincount(node[dead], minlength=len(plan.steps[0].stage))[totals.node]
    )
    # What is told of is told as a whole: every iteration that began has all of its rows, and has ended.
    begun = {(e.frame, e.iteration) for e in plan.events if e.change is FrameChange.ITERATION_BEGIN}
    ended = {(e.frame, e.iteration) for e in plan.events if e.change is FrameChange.ITERATION_END}
    rows = set(zip(plan.column("frame").tolist(), plan.column("iteration").tolist(), strict=True))
    assert begun == ended == rows - {(0, 0)}


Made = tuple[Any, dict[Any, Any]]


def perceptron() -> Made:
    x = tf.placeholder(tf.float32, [4, 8])
    w = tf.Variable(np.full((8, 3), 0.1, np.float32))
    b = tf.Variable(np.zeros(3, np.float32))
    loss = tf.reduce_mean(tf.square(tf.nn.relu(tf.matmul(x, w) + b)))
    return [tf.train.AdamOptimizer(0.1).minimize(loss), loss], {x: np.ones((4, 8), np.float32)}


def counting(n: int = 20) -> Made:
    i, a = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * 1.5), [0, 1.0])
    return [i, a], {}


def branching() -> Made:
    """A loop with a branch in it, in which is a loop."""

    def body(i: Any, a: Any) -> Any:
        inner = tf.while_loop(lambda j: j < i, lambda j: j + 1, [0])
        return i + 1, tf.cond(tf.equal(i % 3, 0), lambda: a + 1, lambda: a * inner)

    return list(tf.while_loop(lambda i, a: i < 6, body, [0, 1])), {}


def loop_in_branch() -> Made:
    p = tf.placeholder(tf.bool, [])
    taken = tf.cond(p, lambda: tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0]), lambda: tf.constant(7))
    return [taken], {p: False}


def gradient_of_loop() -> Made:
    x = tf.placeholder(tf.float32, [])
    _, y = tf.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, tf.sin(y * x)), [0, x])
    return tf.gradients(y, x), {x: np.float32(0.7)}


def array_of_tensors() -> Made:
    return [tf.map_fn(lambda x: x * x, tf.constant([1.0, 2.0, 3.0]))], {}


MADE = [perceptron, counting, branching, loop_in_branch, gradient_of_loop, array_of_tensors]


def traced_run(
    make: Callable[[], Made],
    plans: str,
    level: TraceLevel,
    optimized: bool = True,
    raises: Any = None,
    native: bool = False,
    runs: int = 0,
) -> Told:
    """What is told of one run, after so many others."""
    with tf.Graph().as_default() as graph:
        fetches, feeds = make()
        start = tf.global_variables_initializer()
    with tf.Session(graph=graph, config=config(plans, optimized, native)) as session:
        session.run(start)
        for _ in range(runs):
            session.run(fetches, feeds)
        with told(level) as watching:
            if raises is None:
                session.run(fetches, feeds)
            else:
                with pytest.raises(raises):
                    session.run(fetches, feeds)
    expected = "interpreter" if plans == "off" else "plan (tape)" if native else "plan (python)"
    assert watching.steps[0].executor.startswith(expected)
    return watching
