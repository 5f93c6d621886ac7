"""Pages of a step that runs, the devices' rails, and who wrote what is there, kept up to date wherever the step goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from debug_fronts import Script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as tf
from engine.runtime.resources import NO_KEY, Stack
from workbench.debugger import flow_views
from workbench.debugger.core import Debugger
from workbench.debugger.paging import Paging

pytestmark = pytest.mark.usefixtures("as_written")


def stepped(look: Any, build: Any, cpus: int = 1) -> None:
    """Call `look(stepping)` at the beginning of a step of what `build` makes."""
    with tf.Graph().as_default():
        fetches, variables = build()
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": cpus})) as session:
            for variable in variables:
                session.run(variable.initializer)
            debugger = Debugger(Script(lambda found: look(found.stepping)))
            with debugger.installed():
                session.run(fetches)


def loop() -> Any:
    w = tf.Variable(1.0, name="w")
    x = tf.while_loop(lambda i, v: i < 6, lambda i, v: (i + 1, v * w), [0, tf.constant(2.0)], name="loop")[1]
    with tf.control_dependencies([x]):
        more = tf.assign_add(w, 1.0, name="more")
    (gradient,) = tf.gradients(x, [w])  # keeps what it needs on stacks
    return [x, gradient, more], [w]


def devices() -> Any:
    with tf.device("/cpu:1"):
        a = tf.tanh(tf.constant(np.ones(3, np.float32)), name="a")
    with tf.device("/cpu:0"):
        b = tf.exp(a, name="b")
    with tf.device("/cpu:2"):
        c = tf.add(b, a, name="c")
    return [c], []


def test_the_end_of_a_step_that_runs() -> None:
    def look(stepping: Any) -> None:
        paging = Paging()
        before = 0
        while stepping.ready:
            page = paging.live(stepping, 4, (), 0)
            executed = stepping.executed
            assert page.executed == page.lines == executed and page.start == max(0, executed - 4)
            assert [row.row for row in page.rows] == list(range(page.start, executed))
            assert page.now is not None and page.now.node == stepping.ready[0].name
            again = paging.live(stepping, 4, (), page.edition)
            assert again.rows == page.rows and again.now_ns >= page.now_ns == 0
            assert again.stable >= before
            before = executed
            stepping.execute()
        assert paging.live(stepping, 4, (), 0).now is None

    stepped(look, loop)


def test_transfers_know_both_ends_and_devices_are_sorted() -> None:
    def look(stepping: Any) -> None:
        while stepping.ready:
            stepping.execute()
        page = Paging().page(stepping, 0, 256, (), 0)
        assert page.devices == ("cpu:0", "cpu:1", "cpu:2") and page.lanes == 3
        ends = {(row.type, row.device, row.peer) for row in page.rows if row.peer >= 0}
        assert ends >= {
            ("_Send", 1, 0), ("_Recv", 0, 1), ("_Send", 1, 2), ("_Recv", 2, 1), ("_Send", 0, 2), ("_Recv", 2, 0),
        }  # fmt: skip
        assert all((row.peer >= 0) is (row.type in ("_Send", "_Recv")) for row in page.rows)

    stepped(look, devices, cpus=3)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(-25, 40), min_size=2, max_size=8))
def test_writers_are_those_that_the_history_has(moves: list[int]) -> None:
    """Against all executions, gone through one by one."""

    def look(stepping: Any) -> None:
        for move in moves:
            for _ in range(abs(move)):
                if move > 0 and stepping.ready:
                    stepping.execute()
                elif move < 0 and stepping.history:
                    stepping.back()
            expected: dict[Any, int] = {}
            for entry in stepping.history:
                for write in entry.writes:
                    if isinstance(write.resource, Stack) and write.key is NO_KEY:
                        if write.kind == "push":
                            expected[id(write.resource), id(write.new)] = entry.row
                    else:
                        key = None if write.key is NO_KEY else write.key
                        expected[id(write.resource), key] = entry.row
            writers = flow_views._writers_of(stepping)
            found = {key: rows[-1] for key, rows in writers._by.items() if rows}
            assert found == expected

    stepped(look, loop)
