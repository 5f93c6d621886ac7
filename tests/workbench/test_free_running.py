"""Running free: what a step leaves behind that nobody looked at is what it leaves behind when each node is executed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
from engine.runtime import driver
from engine.runtime.resources import Resource
from engine.runtime.step import StepRun
from workbench.debugger import free_running
from workbench.debugger.core import Debugger
from workbench.debugger.questions.past import Past, Written
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference


class Front(Quiet):
    def command(self, debugger: Debugger) -> str:
        return "c"


class Keeping(Past):
    def take(self, stepping: Stepping) -> dict[Resource, Written | None]:
        self.stepping = stepping
        return super().take(stepping)


class ByHand:
    record = True

    def __init__(self, kept: int) -> None:
        self.kept = kept

    def drive(self, step: StepRun) -> None:
        self.stepping = Stepping(step, self.kept)
        while self.stepping.ready:
            self.stepping.execute()


def program() -> tuple[Any, Any]:
    """A loop with a branch that is dead at times, a variable that is written, and a value of unknown shape."""
    v = tf.get_variable("v", initializer=np.float32(1))

    def body(i: Any, x: Any) -> Any:
        x = tf.cond(tf.equal(i % 3, 0), lambda: x * 2.0, lambda: x + 1.0)
        return i + 1, x

    x = tf.placeholder(tf.float32, [None])
    _, out = tf.while_loop(lambda i, x: tf.less(i, 40), body, [0, x])
    total = tf.assign_add(v, tf.reduce_sum(out))
    return [out, total], {x: np.ones(3, np.float32)}


def plain(value: Any) -> Any:
    value = value.value if isinstance(value, Reference) else value
    return np.asarray(value).tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def told(entry: Entry) -> Any:
    at = entry.activation
    outputs = None if entry.outputs is None else [plain(value) for value in entry.outputs]
    previous = entry.previous.row if entry.previous is not None else None
    return (
        entry.row,
        at.name,
        at.frame.id,
        at.iteration,
        outputs,
        entry.released,
        previous,
        len(entry.writes),
    )


@pytest.mark.parametrize("kept", [0, 100])
def test_what_ran_freely_is_what_was_executed_by_hand(kept: int) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        fetches, feeds = program()
        by_hand = ByHand(kept)
        debugger = Debugger(Front(), stop_at_first=False)
        debugger.kept = kept
        debugger._past = past = Keeping()
        for each in (by_hand, debugger):
            session.run(tf.global_variables_initializer())
            driver.install(each)
            try:
                session.run(fetches, feeds)
            finally:
                driver.uninstall()
    one, other = by_hand.stepping, past.stepping
    assert one.executed == other.executed > 400
    assert kept == 0 or len(other.history) <= kept * 5 // 4 + free_running.LOOK_EVERY
    last = min(len(one.history), len(other.history), kept or 10**9)
    assert [told(e)[:6] for e in one.history[-last:]] == [told(e)[:6] for e in other.history[-last:]]
    if not kept:
        assert [told(entry) for entry in one.history] == [told(entry) for entry in other.history]
        assert one.held_bytes == other.held_bytes
    assert one.done == other.done
    assert {i: told(e)[:6] for i, e in one.latest.items()} == {
        i: told(e)[:6] for i, e in other.latest.items()
    }
    frames = [
        {n.id: (n.tally, n.begin_row, n.end_row, n.live, n.entered) for n in each.frames.by_id.values()}
        for each in (one, other)
    ]
    assert frames[0] == frames[1]
    (step,) = past.steps
    expected = Past()
    expected.take(one)
    (by_entries,) = expected.steps
    assert {k: [plain(v) for v in o] for k, o in step.outputs.items()} == {
        k: [plain(v) for v in o] for k, o in by_entries.outputs.items()
    }
