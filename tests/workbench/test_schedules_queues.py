"""Schedules of steps that use queues: replayed, their races found, and refused where they would have to wait."""

from __future__ import annotations

from typing import Any

import pytest
from debug_fronts import Script

import engine as tf
from workbench.debugger import schedules
from workbench.debugger.core import Debugger
from workbench.debugger.schedules.races import find_races

pytestmark = pytest.mark.usefixtures("as_written")


def queue_with(values: int) -> tuple[Any, Any, list[Any]]:
    queue = tf.FIFOQueue(10, [tf.float32], shapes=[[]], name="queue")
    puts = [queue.enqueue([float(i)], name=f"put{i}") for i in range(values)]
    return queue, queue.dequeue(name="take"), puts


def test_two_enqueues_in_no_order_are_a_race() -> None:
    _, _, puts = queue_with(2)
    with tf.Session() as session:
        (race,) = find_races(session._executable(session._take_apart(puts), []).program)
        assert (race.kind, race.first.node, race.second.node) == ("queue", "put0", "put1")
        (found,) = schedules.explore(lambda: session.run(puts))
        assert len(found.outcomes) == 2 and found.complete


def test_a_step_that_waits_for_its_own_enqueue_is_replayed() -> None:
    _, take, puts = queue_with(1)
    with tf.Session() as session:
        with schedules.driver(schedules.ranked("longest-wait")) as driven:
            assert session.run([take, *puts])[0] == 0.0
        with schedules.driver(schedules.Delay(["put0"])) as driven:
            assert session.run([take, *puts])[0] == 0.0  # which waits first
        with schedules.driver(schedules.Replay(driven.schedules[0])) as again:
            assert session.run([take, *puts])[0] == 0.0
        assert again.schedules == driven.schedules


def test_what_has_to_wait_is_not_explored() -> None:
    _, take, puts = queue_with(1)
    front = Script("explore", "races show 1", "n 100", "c")
    with tf.Session() as session, Debugger(front).installed():
        assert session.run([take, *puts])[0] == 0.0
    assert [answer.ok for answer in front.answers] == [False, False]
    assert all("has to wait for a queue" in text for text in front.texts)
