"""The state machine by itself: no session, events fed by hand, kernels run by the test."""

from __future__ import annotations

import random
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optimizing import plain
from searches import examples

import engine as tf
from engine.observe import FrameChange
from engine.runtime.context import StepContext
from engine.runtime.driver import Executable, StepRun
from engine.runtime.frames import ABSENT, DEAD, Activation, Finished
from engine.runtime.resources import ResourceManager
from engine.runtime.state import ExecutorState
from engine.types import errors


def executable(fetches: Any, feeds: Any = ()) -> Executable:
    with tf.Session(config=plain()) as session:
        return Executable(session.stage_for(fetches, feeds))


def step_of(fetches: Any, feeds: dict[Any, Any] | None = None, **options: Any) -> StepRun:
    feeds = feeds or {}
    made = executable(fetches, list(feeds))
    values = [np.asarray(value, tensor.dtype.np_dtype) for tensor, value in feeds.items()]
    context = StepContext(1, values, len(made.stage.fetches))
    return StepRun(made, None, context, ResourceManager(), None, **options)


def snapshot(state: ExecutorState) -> Any:
    """Everything there is to know of a state, in plain comparable form."""

    def frame_key(frame: Any) -> Any:
        return frame.path, frame.id

    def token(value: Any) -> Any:
        return value if value is DEAD or value is ABSENT else np.asarray(value).tolist()

    return (
        [(a.item.index, frame_key(a.frame), a.iteration) for a in state.ready],
        sorted(
            (
                frame_key(frame),
                frame.count,
                frame.pending_enters,
                frame.live,
                [(item.index, token(value)) for item, value in frame.deferred],
                [(item.index, token(value)) for item, value in frame.invariants],
                [item.index for item in frame.dead_exits],
                sorted(
                    (
                        number,
                        it.pending,
                        [str(token(value)) for value in it.inputs],
                        sorted(it.dead.items()),
                        it.outstanding,
                        it.children,
                    )
                    for number, it in frame.iterations.items()
                ),
            )
            for frame in state.live_frames()
        ),
        state._next_frame,
        state._next_ready,
    )


def nested_program(x: tf.Tensor) -> tf.Tensor:
    """A loop with a cond in it, whose one branch holds a loop."""

    def inner(v: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda j, a: j < 3, lambda j, a: (j + 1, a + 1), [0, v], parallel_iterations=2)[
            1
        ]

    def body(i: tf.Tensor, v: tf.Tensor) -> Any:
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: inner(v), lambda: v * 2)

    return tf.while_loop(lambda i, v: i < 5, body, [0, x])[1]


def by_hand(x: int) -> int:
    for i in range(5):
        x = x + 3 if i % 2 == 0 else x * 2
    return x


def drive(step: StepRun, choose: Any) -> list[str]:
    """Run a step to its end, letting `choose` pick among the ready activations; the names in the order run."""
    step.begin()
    order = []
    while not step.state.finished:
        activation = choose(step.state.ready)
        order.append(activation.name)
        step.finish(activation, step.execute(activation))
    return order


@examples(25)
@given(st.randoms(use_true_random=False), st.integers(-5, 5))
def test_the_schedule_does_not_change_the_result(rng: random.Random, start: int) -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.int32, [])
        step = step_of(nested_program(x), {x: start})
        drive(step, rng.choice)
    assert step.context.results == [by_hand(start)]
    assert list(step.state.live_frames()) == [step.state.root]


@examples(15)
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_undo_restores_every_earlier_state_exactly(rng: random.Random, hops: list[int]) -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.int32, [])
        step = step_of(nested_program(x), {x: 1}, record=True)
        step.begin()
        seen = [snapshot(step.state)]
        for hop in hops:
            for _ in range(hop):
                if step.state.finished:
                    break
                activation = rng.choice(step.state.ready)
                step.finish(activation, step.execute(activation))
                seen.append(snapshot(step.state))
            for _ in range(rng.randrange(hop + 1)):
                if len(seen) > 1:
                    step.undo()
                    seen.pop()
                    assert snapshot(step.state) == seen[-1]
        while not step.state.finished:
            activation = rng.choice(step.state.ready)
            step.finish(activation, step.execute(activation))
    assert step.context.results == [by_hand(1)]


def test_undo_takes_variables_back() -> None:
    v = tf.Variable(3.0)
    bump = tf.assign_add(v, 2.0)
    with tf.Session() as session:
        session.run(v.initializer)
        made = Executable(session.stage_for(bump))
        step = StepRun(made, None, StepContext(1, [], 1), session.resources, None, record=True)
        variable = session.resources.lookup(v.op.name)
        assert variable is not None
        step.begin()
        done = 0
        while not step.state.finished:
            activation = step.state.ready[0]
            step.finish(activation, step.execute(activation))
            done += 1
        assert variable.value == 5.0 and variable.version == 2
        for _ in range(done):
            step.undo()
        assert variable.value == 3.0 and variable.version == 1
        with pytest.raises(IndexError):
            step.undo()


def test_a_state_without_a_journal_says_so() -> None:
    step = step_of(tf.constant(1) + 1)
    step.begin()
    with pytest.raises(ValueError, match="record=True"):
        step.undo()


def test_dead_tokens_stop_at_the_merge() -> None:
    pred = tf.placeholder(tf.bool, [])
    x = tf.constant(4.0)
    result = tf.cond(pred, lambda: tf.sqrt(tf.sqrt(x)), lambda: tf.negative(x), name="branch")
    step = step_of(result, {pred: False}, record=True)
    step.begin()
    dead = []
    while not step.state.finished:
        activation = step.state.ready[0]
        outcome = step.execute(activation)
        if outcome.outputs is None:
            dead.append(activation.name)
        step.finish(activation, outcome)
    assert step.context.results == [-4.0]
    assert sorted(dead) == ["branch/Sqrt", "branch/Sqrt_1"]


def test_a_loop_in_a_branch_not_taken_ends_dead() -> None:
    pred = tf.placeholder(tf.bool, [])
    x = tf.constant(4)
    result = tf.cond(pred, lambda: tf.while_loop(lambda v: v < 100, lambda v: v * 2, [x]), lambda: x)
    step = step_of(result, {pred: False})
    changes = []
    step.begin()
    while not step.state.finished:
        activation = step.state.ready[0]
        changes += step.finish(activation, step.execute(activation)).changes
    assert step.context.results == [4]
    ends = [change for change in changes if change.change is FrameChange.FRAME_END]
    assert [change.frame.live for change in ends] == [False]
    assert [change.iteration for change in ends] == [0]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_parallel_iterations_bound_the_iterations_under_way(limit: int) -> None:
    """A slow chain beside a quick counter: the counter runs ahead as far as `parallel_iterations` lets it."""

    def body(i: tf.Tensor, v: tf.Tensor) -> Any:
        slow = v
        for _ in range(6):
            slow = slow + 1
        return i + 1, slow

    result = tf.while_loop(lambda i, v: i < 8, body, [0, 0], parallel_iterations=limit)[1]
    step = step_of(result)
    widest = 0
    deferred = 0
    step.begin()

    def newest(ready: list[Activation]) -> Activation:
        return max(ready, key=lambda activation: activation.iteration)

    while not step.state.finished:
        activation = newest(step.state.ready)
        instructions = step.finish(activation, step.execute(activation))
        deferred += sum(change.change is FrameChange.ITERATION_DEFERRED for change in instructions.changes)
        for frame in step.state.live_frames():
            if frame.parent is not None:
                widest = max(widest, len(frame.iterations))
    assert step.context.results == [48]
    assert widest == limit
    assert deferred > 0


def test_every_iteration_runs_the_body_once() -> None:
    result = tf.while_loop(lambda i: i < 7, lambda i: tf.identity(i, name="here") + 1, [0])
    step = step_of(result)
    runs = []
    step.begin()
    while not step.state.finished:
        activation = step.state.ready[0]
        outcome = step.execute(activation)
        if activation.name == "while/here":
            runs.append((activation.iteration, outcome.outputs is not None))
        step.finish(activation, outcome)
    assert sorted(runs) == [
        (i, i < 7) for i in range(8)
    ]  # the eighth is dead: the Switch sent its token to the Exit


def test_waiting_names_what_has_arrived() -> None:
    a, b = tf.placeholder(tf.float32, [], name="a"), tf.placeholder(tf.float32, [], name="b")
    total = tf.add(a, tf.sqrt(b), name="total")
    step = step_of(total, {a: 1.0, b: 4.0})
    (first, *_rest) = step.begin()
    step.finish(first, step.execute(first))
    ((activation, tokens),) = list(step.state.waiting())
    assert activation.name == "total"
    assert [token if token is ABSENT else float(token) for token in tokens] == [1.0, ABSENT]


def test_finishing_twice_is_refused() -> None:
    step = step_of(tf.constant(1) + 1)
    activation = step.begin()[0]
    outcome = step.execute(activation)
    step.finish(activation, outcome)
    with pytest.raises(KeyError):
        step.state.apply(Finished(activation, outcome.outputs))


def test_a_cycle_is_named() -> None:
    a = tf.placeholder(tf.float32, [], name="a")
    b = tf.sqrt(a, name="b")
    c = tf.square(b, name="c")
    b.op._update_input(0, c)
    with pytest.raises(
        errors.InvalidArgumentError, match="cycle that no NextIteration closes: (b <- c <- b|c <- b <- c)"
    ):
        executable(c)


def test_a_tensor_of_a_loop_used_outside_is_named() -> None:
    inside = []

    def body(i: tf.Tensor) -> tf.Tensor:
        inside.append(i + 1)
        return inside[0]

    tf.while_loop(lambda i: i < 3, body, [0])
    outside = tf.constant(1, name="outside")
    mixed = tf.add(outside, outside)
    mixed.op._update_input(0, inside[0])  # behind the builder's back: it refuses such a graph
    with pytest.raises(
        errors.InvalidArgumentError, match="different frames.*'while/add'|different frames.*'outside'"
    ):
        executable(mixed)


@pytest.mark.parametrize("alive", [True, False])
def test_thousands_of_nested_frames(alive: bool) -> None:
    depths = 3 * sys.getrecursionlimit()  # nothing may go down frame by frame
    x = tf.constant(1.0)
    switched = tf.raw_ops.Switch(data=x, pred=tf.constant(alive))[1]
    for depth in range(depths):
        switched = tf.raw_ops.Enter(data=switched, frame_name=f"frame_{depth}")
    for _ in range(depths):
        switched = tf.raw_ops.Exit(data=switched)
    result, chosen = tf.raw_ops.Merge(inputs=[switched, x])
    with tf.control_dependencies([switched]):
        after = tf.identity(result)
    del after
    with tf.Session() as session:
        assert session.run([result, chosen])[0] == 1.0


def test_a_long_loop_keeps_memory_flat() -> None:
    result = tf.while_loop(lambda i, v: i < 2_000, lambda i, v: (i + 1, v * 1.0), [0, tf.ones([10_000])])
    with tf.Session() as session:
        session.run(result)
        tracemalloc.start()
        try:
            session.run(result)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4_000_000  # 2,000 iterations of 40,000 bytes would be 80 MB
