"""Random programs under random commands: the results are plain Python's, and every picture on the way is consistent."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from debug_fronts import Quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, evaluate, programs

import engine as tf
from engine.runtime.program import MERGE
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.snapshot import Status, TokenState

raw = tf.raw_ops
COMMANDS = (
    "n",
    "n 7",
    "n 40",
    "s",
    "o",
    "back",
    "back 5",
    "back 60",
    "info frames",
    "info waiting",
    "info transfers",
    "w",
)


class Wanderer(Quiet):
    """Gives random commands for a while, and checks every snapshot against the machine's own counts."""

    def __init__(self, seed: int, commands: int) -> None:
        self.random = random.Random(seed)
        self.commands = commands

    def command(self, debugger: Debugger) -> str:
        self.commands -= 1
        return self.random.choice(COMMANDS) if self.commands > 0 else "c"

    def stopped(self, debugger: Debugger) -> None:
        snapshot, stepping = debugger.snapshot(), debugger.stepping
        assert stepping is not None and snapshot.status is Status.STOPPED
        state = stepping.state
        assert [view.activation.node for view in snapshot.ready] == [each.name for each in stepping.ready]
        assert set(stepping.ready) == set(stepping.step.ready)
        assert {frame.id for frame in snapshot.frames} == {frame.id for frame in state.live_frames()}
        assert snapshot.executed == len(stepping.history) or not stepping.history
        if snapshot.next is not None:
            assert snapshot.next == snapshot.ready[0].activation
            assert snapshot.next.type == "Merge" or all(
                t.state is not TokenState.MISSING for t in snapshot.next_inputs
            )
            assert (
                snapshot.next.dead
                or snapshot.next.type == "Merge"
                or all(t.state is TokenState.VALUE for t in snapshot.next_inputs)
            )
        frames = {frame.id: frame for frame in state.live_frames()}
        for view in snapshot.waiting:
            at = view.activation
            item = stepping.step.program.by_name[at.node]
            pending = frames[at.frame].iterations[at.iteration].pending[item.local]
            ready = {(each.item, each.frame.id, each.iteration) for each in stepping.ready}
            assert (item, at.frame, at.iteration) not in ready
            assert item.index not in stepping.done.get((at.frame, at.iteration), {}), "it has executed"
            if item.flow != MERGE:
                # Every token that the machine still waits for is shown as missing, control edges included.
                assert sum(token.state is TokenState.MISSING for token in view.inputs) == pending
            assert any(token.state is not TokenState.MISSING for token in view.inputs)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        assert answer.ok or "nothing to take back" in answer.text
        self.stopped(debugger)


@given(programs(), st.integers(0, 1 << 30), st.integers(1, 25))
@settings(max_examples=30)
def test_wandering_through_a_program_changes_nothing(program: Program, seed: int, commands: int) -> None:
    built = build(program, tf)
    outcome = evaluate(program)
    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with Debugger(Wanderer(seed, commands)).installed():
            results: Any = session.run(built.fetches, built.feeds)
        variables = session.run(built.variables)
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)
    for name, value in variables.items():
        np.testing.assert_allclose(value, outcome.variables[name], rtol=1e-9, atol=1e-12, err_msg=name)


@given(programs(), st.integers(0, 1 << 30), st.integers(1, 25))
@settings(max_examples=20)
def test_wandering_through_a_program_on_several_devices(program: Program, seed: int, commands: int) -> None:
    built = build(program, tf, device=anywhere(seed, ["/cpu:0", "/cpu:1", "/cpu:2"]))
    outcome = evaluate(program)
    with tf.Session(graph=built.graph, config=tf.ConfigProto(device_count={"CPU": 3})) as session:
        session.run(built.initializer)
        with Debugger(Wanderer(seed, commands)).installed():
            results: Any = session.run(built.fetches, built.feeds)
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)


class Walker(Wanderer):
    """One node at a time, to the end; looks at each stop."""

    def __init__(self) -> None:
        super().__init__(0, 0)

    def command(self, debugger: Debugger) -> str:
        return "n"


def walk(fetches: Any) -> Any:
    with Debugger(Walker()).installed(), tf.Session() as session:
        return session.run(fetches)


def test_control_edges_out_of_an_enter() -> None:
    """A loop by hand, in whose body a node waits for a constant Enter."""
    with tf.Graph().as_default():
        enter = raw.Enter(data=tf.constant(0), frame_name="loop")
        held, one, limit = (
            raw.Enter(data=tf.constant(value), frame_name="loop", is_constant=True) for value in (5, 1, 3)
        )
        merge, _ = raw.Merge(inputs=[enter, enter])
        leave, stay = raw.Switch(data=merge, pred=raw.LoopCond(input=tf.less(merge, limit)))
        with tf.control_dependencies([held.op]):
            late = tf.identity(stay, name="late")
        merge.op._update_input(1, raw.NextIteration(data=tf.add(late, one)))
        assert walk(raw.Exit(data=leave)) == 3


def test_control_edges_out_of_an_inner_loops_exit() -> None:
    with tf.Graph().as_default():

        def body(i: Any, total: Any) -> Any:
            inner = tf.while_loop(lambda j: tf.less(j, i), lambda j: tf.add(j, 1), [0], name="in")
            with tf.control_dependencies([inner]):
                after = tf.identity(total, name="after")
            return tf.add(i, 1), tf.add(after, 1)

        _, total = tf.while_loop(lambda i, t: tf.less(i, 4), body, [0, 0], name="out")
        taken = tf.cond(
            tf.constant(False),
            lambda: tf.while_loop(lambda i: tf.less(i, 2), lambda i: tf.add(i, 1), [0]),
            lambda: tf.constant(7),
        )
        with tf.control_dependencies([taken.op]):
            late = tf.identity(total, name="late")
        assert walk([late, taken]) == [4, 7]
