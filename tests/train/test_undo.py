"""A training step taken back and done again: variables, slots, random streams and counters are where they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.runtime import driver


class ThereAndBack:
    """Runs each step to its end, takes all of it back, and runs it again; keeps what the resources held at each turn."""

    record = True

    def __init__(self) -> None:
        self.seen: list[list[dict[str, Any]]] = []

    def drive(self, step: driver.StepRun) -> None:
        held = [self._held(step)]
        count = self._run(step, step.begin())
        held.append(self._held(step))
        first = list(step.context.results)
        last = None
        for _ in range(count):
            last = step.undo()
        held.append(self._held(step))
        assert last is not None
        self._run(step, list(step.state.ready))
        held.append(self._held(step))
        for before, after in zip(first, step.context.results, strict=True):
            np.testing.assert_array_equal(before, after)
        self.seen.append(held)

    @staticmethod
    def _run(step: driver.StepRun, ready: list[Any]) -> int:
        count, queue = 0, list(ready)
        while queue:
            activation = queue.pop(0)
            queue.extend(step.finish(activation, step.execute(activation)).run)
            count += 1
        return count

    @staticmethod
    def _held(step: driver.StepRun) -> dict[str, Any]:
        """Version and value of what has been written at all."""
        return {
            f"{each.container}/{each.name}": (each.version, each.value)
            for each in step.resources
            if each.version
        }


@pytest.fixture
def there_and_back() -> Iterator[ThereAndBack]:
    installed = ThereAndBack()
    driver.install(installed)
    yield installed
    driver.uninstall()


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[key][0] == b[key][0] and np.array_equal(a[key][1], b[key][1]) for key in a
    )


def test_there_and_back(there_and_back: ThereAndBack, capfd: pytest.CaptureFixture[str]) -> None:
    weights = tf.Variable(tf.random_normal([4, 3], seed=1), name="weights")
    table = tf.Variable(tf.ones([5, 3]), name="table")
    x = tf.nn.dropout(tf.random_normal([8, 4]), rate=0.3)
    rows = tf.gather(table, tf.random_uniform([8], 0, 5, tf.int32))
    loss = tf.reduce_mean(tf.square(tf.matmul(x, weights) - rows))
    loss = tf.Print(loss, [tf.constant("once")], first_n=1)
    step = tf.train.get_or_create_global_step()
    train = tf.train.AdamOptimizer(0.1).minimize(loss, global_step=step)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run([loss, train])
        assert session.run(step) == 3
    for before, after, back, again in there_and_back.seen:
        assert same(before, back)
        assert same(after, again)
    assert len(there_and_back.seen) == 5
    first, second = there_and_back.seen[1], there_and_back.seen[2]
    assert not same(first[0], first[1])
    assert not same(first[1], second[1])
    # Taken back and run again it prints again: the count is a resource, too.
    assert capfd.readouterr().err == "[once]\n[once]\n"
