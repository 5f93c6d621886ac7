"""A session goes from the interpreter to plans and back, whoever asks for it, and nobody can tell from the results."""

from __future__ import annotations

from typing import Any

import numpy as np

import engine as tf
from engine import observe
from engine.runtime import driver as drivers


class Watching(observe.Observer):
    """Remembers what ran each step."""

    def __init__(self, level: observe.TraceLevel) -> None:
        self.level = level
        self.executors: list[str] = []

    def step_begin(self, step: observe.StepInfo) -> None:
        self.executors.append(step.executor)


def steps(session: Any, train: Any, loss: Any, feeds: Any, count: int) -> list[Any]:
    return [session.run([train, loss], feeds)[1] for _ in range(count)]


def test_between_interpreter_plan_and_watched_steps() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.Variable(tf.ones([3, 2]))
    loss = tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, w)) - 0.5))
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    rng = np.random.default_rng(0)
    feeds = {x: rng.normal(size=(5, 3)).astype(np.float32)}

    with tf.Session(config=tf.ConfigProto(plans="off")) as session:
        session.run(tf.global_variables_initializer())
        expected = steps(session, train, loss, feeds, 20)
    with tf.Session(config=tf.ConfigProto(plans="always", exact=True)) as session:
        session.run(tf.global_variables_initializer())
        found = steps(session, train, loss, feeds, 5)
        drivers.install(drivers.Sequential())
        try:
            found += steps(session, train, loss, feeds, 3)
        finally:
            drivers.uninstall()
        found += steps(session, train, loss, feeds, 3)
        for level in (observe.TraceLevel.TIMES, observe.TraceLevel.VALUES, observe.TraceLevel.FULL):
            watching = Watching(level)
            observe.install(watching)
            try:
                found += steps(session, train, loss, feeds, 2)
            finally:
                observe.uninstall(watching)
            how = "interpreter" if level is observe.TraceLevel.FULL else "plan"
            assert [each.split()[0].rstrip(":") for each in watching.executors] == [how] * 2
        found += steps(session, train, loss, feeds, 3)
    assert [value.tobytes() for value in found] == [value.tobytes() for value in expected]


def test_a_graph_that_grows_and_feeds_that_change() -> None:
    x = tf.placeholder(tf.float32, None)
    y = x * 2.0 + 1.0
    with tf.Session(config=tf.ConfigProto(plans="always")) as session:
        for shape in ((), (3,), (2, 3), (3,), (), (1, 1)):
            value = np.full(shape, 3.0, np.float32)
            for _ in range(4):
                assert np.array_equal(session.run(y, {x: value}), np.full(shape, 7.0))
        z = tf.square(y)
        for _ in range(4):
            assert session.run([y, z], {x: 1.0}) == [3.0, 9.0]
            assert session.run(y, {"Placeholder:0": 1}) == 3.0
