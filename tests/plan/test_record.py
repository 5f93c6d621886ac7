"""What a plan tells observers, against what the interpreter tells them."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradient_programs import PROGRAMS
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_programs import Program, build, programs
from recorded import (
    MADE,
    Made,
    agree,
    branching,
    check_sample,
    config,
    counting,
    gradient_of_loop,
    traced_run,
)
from running import interrupt, once_it_runs
from searches import examples
from traced import Told, check_order, told

import engine as tf
from engine.function import Defun
from engine.observe import FrameChange, FrameEvent, StepInfo, TraceLevel
from engine.runtime.plan import python, record, replay

LEVELS = [TraceLevel.TIMES, TraceLevel.VALUES]
LOOKS = st.sampled_from(LEVELS)


def trace(program: Program, plans: str, optimized: bool, level: TraceLevel) -> Told:
    """What is told of one run of `program`."""
    built = build(program, tf)
    with tf.Session(graph=built.graph, config=config(plans, optimized)) as session:
        session.run(built.initializer)
        with told(level) as watching:
            session.run(built.fetches, built.feeds)
    if plans == "always":
        assume(watching.steps[0].executor == "plan (python)")
    else:
        assert watching.steps[0].executor == "interpreter: ConfigProto.plans is 'off'"
    return watching


@given(programs(), st.booleans(), LOOKS)
@examples(12)
def test_as_the_interpreter(program: Program, optimized: bool, level: TraceLevel) -> None:
    agree(trace(program, "always", optimized, level), trace(program, "off", optimized, level))


@pytest.mark.deep
@pytest.mark.slow
@given(programs(depth=4), st.booleans(), LOOKS)
@settings(max_examples=40)
def test_deeper_programs(program: Program, optimized: bool, level: TraceLevel) -> None:
    agree(trace(program, "always", optimized, level), trace(program, "off", optimized, level))


# --- programs by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", MADE)
def test_programs_by_hand(make: Callable[[], Made], level: TraceLevel) -> None:
    agree(traced_run(make, "always", level), traced_run(make, "off", level))


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_programs(name: str) -> None:
    def make() -> Made:
        return PROGRAMS[name](tf, Defun)

    plan = traced_run(make, "always", TraceLevel.VALUES, optimized=False)
    agree(plan, traced_run(make, "off", TraceLevel.VALUES, optimized=False))


@given(programs(effects=False), st.booleans())
@examples(5)
def test_gradients(program: Program, optimized: bool) -> None:
    def traced(plans: str) -> Told:
        built = build(program, tf)
        with built.graph.as_default():
            place = next(key for key in built.feeds if key.dtype == tf.float64)
            (gradient,) = tf.gradients(built.fetches[1], place)
        assume(gradient is not None)
        with (
            tf.Session(graph=built.graph, config=config(plans, optimized)) as session,
            told(TraceLevel.VALUES) as found,
        ):
            session.run(gradient, built.feeds)
        assume(plans == "off" or found.steps[0].executor == "plan (python)")
        return found

    agree(traced("always"), traced("off"))


def test_full_is_interpreted() -> None:
    with tf.Graph().as_default() as graph:
        fetches, feeds = counting()
    with tf.Session(graph=graph, config=config("always")) as session, told(TraceLevel.FULL) as watching:
        session.run(fetches, feeds)
    assert watching.steps[0].executor == "interpreter: the level 'full' tells of every token"


def test_the_first_run_is_interpreted() -> None:
    with tf.Graph().as_default() as graph:
        y = tf.constant(2.0) * 3
    with tf.Session(graph=graph, config=tf.ConfigProto(plans="auto")) as session, told() as watching:
        session.run(y)
        session.run(y)
    assert [step.executor for step in watching.steps] == ["interpreter: the first run", "plan (python)"]


# --- errors and interrupts ------------------------------------------------------------------------------------------------


def failing() -> Made:
    """A loop that fails in its fourth iteration."""

    def body(i: Any, a: Any) -> Any:
        with tf.control_dependencies([tf.Assert(i < 3, [i])]):
            return i + 1, tf.identity(a) * 2

    return list(tf.while_loop(lambda i, a: i < 10, body, [0, 1])), {}


@pytest.mark.parametrize("level", LEVELS)
def test_an_error_leaves_the_rows_before_it(level: TraceLevel) -> None:
    plan = traced_run(failing, "always", level, raises=tf.errors.InvalidArgumentError)
    interpreter = traced_run(failing, "off", level, raises=tf.errors.InvalidArgumentError)
    assert [type(error) for error in plan.errors] == [tf.errors.InvalidArgumentError]
    assert max(plan.column("iteration")) == 3
    ran = Counter(place for place in plan.places() if place[2] < 3)
    assert ran == Counter(place for place in interpreter.places() if place[2] < 3)
    assert not any("Assert" in name and iteration == 3 for name, _, iteration, _ in plan.places())
    check_order(plan)
    changes = plan.changes()
    assert sum(changes[change] for change in changes if change[0] is FrameChange.ITERATION_BEGIN) == 4
    assert not any(change[0] is FrameChange.FRAME_END for change in changes)


def test_an_error_in_a_straight_program() -> None:
    def make() -> Made:
        x = tf.placeholder(tf.float32, [])
        return [tf.check_numerics(tf.log(x + 0), "bad") * 2], {x: np.float32(-1)}

    plan = traced_run(make, "always", TraceLevel.VALUES, raises=tf.errors.InvalidArgumentError)
    interpreter = traced_run(make, "off", TraceLevel.VALUES, raises=tf.errors.InvalidArgumentError)
    assert Counter(plan.places()) <= Counter(interpreter.places())
    assert any("log" in name.lower() for name, *_ in plan.places())
    assert not any("CheckNumerics" in name or "mul" in name for name, *_ in plan.places())


def test_an_interrupt() -> None:
    with tf.Graph().as_default() as graph:
        fetches, feeds = counting(1 << 30)
    with (
        tf.Session(graph=graph, config=config("always")) as session,
        told() as watching,
        once_it_runs(interrupt, after=20),
        pytest.raises(KeyboardInterrupt),
    ):
        session.run(fetches, feeds)
    assert isinstance(watching.errors[0], KeyboardInterrupt)
    assert len(watching.column("node")) > 100
    check_order(watching)


@pytest.mark.parametrize("plans", ["off", "always"])
def test_an_interrupt_while_observers_are_told(plans: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Told.frames

    def frames(self: Told, step: StepInfo, batch: tuple[FrameEvent, ...]) -> None:
        signal.raise_signal(signal.SIGINT)
        heard(self, step, batch)

    monkeypatch.setattr(Told, "frames", frames)
    monkeypatch.setattr(record, "LOG_ENTRIES", 1000)
    with tf.Graph().as_default() as graph:
        fetches, feeds = counting(1 << 30)
    with (
        tf.Session(graph=graph, config=config(plans)) as session,
        told() as watching,
        pytest.raises(KeyboardInterrupt),
    ):
        session.run(fetches, feeds)
    assert isinstance(watching.errors[0], KeyboardInterrupt)
    if plans == "always":
        check_order(watching)
    else:  # iterations of the interpreter overlap, and their events are told with the next rows
        assert [batch.first for batch in watching.batches] == np.cumsum(
            [0, *(len(batch) for batch in watching.batches[:-1])]
        ).tolist()
        assert (np.diff(watching.column("end_ns")) >= 0).all()


def test_a_timeout() -> None:
    with tf.Graph().as_default() as graph:
        fetches, feeds = counting(1 << 30)
    with (
        tf.Session(graph=graph, config=config("always")) as session,
        told() as watching,
        pytest.raises(tf.errors.DeadlineExceededError),
    ):
        session.run(fetches, feeds, options=tf.RunOptions(timeout_in_ms=100))
    assert isinstance(watching.errors[0], tf.errors.DeadlineExceededError)


# --- long loops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", [lambda: counting(400), branching, gradient_of_loop])
def test_a_log_in_parts(make: Callable[[], Made], level: TraceLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = traced_run(make, "off", level)
    monkeypatch.setattr(record, "LOG_ENTRIES", 1)
    monkeypatch.setattr(python, "COUNTDOWN", 2)
    plan = traced_run(make, "always", level)
    assert len(plan.batches) > 2
    agree(plan, interpreter)


@pytest.mark.parametrize("level", LEVELS)
def test_a_sample_has_exact_counts(level: TraceLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Made:
        def body(i: Any, a: Any) -> Any:
            inner = tf.while_loop(lambda j: j < 3, lambda j: j + 1, [0])
            return i + 1, tf.cond(i % 3 < 1, lambda: a + inner, lambda: a - 1)

        return list(tf.while_loop(lambda i, a: i < 500, body, [0, 1])), {}

    interpreter = traced_run(make, "off", level)
    assert not interpreter.sums
    monkeypatch.setattr(record, "LOG_ENTRIES", 250)
    monkeypatch.setattr(record, "TOLD_BYTES", 50_000)
    plan = traced_run(make, "always", level)
    check_sample(plan, interpreter)
    (totals,) = plan.sums
    took = np.bincount(plan.column("node"), plan.column("end_ns") - plan.column("start_ns"))[totals.node]
    assert (totals.total_ns >= took).all()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0

    class Watched(replay.Replay):
        def advance(self, log: Any, measured: Any, *, final: bool) -> None:
            nonlocal longest
            longest = max(longest, len(log))
            super().advance(log, measured, final=final)

    monkeypatch.setattr(record, "Replay", Watched)
    monkeypatch.setattr(record, "LOG_ENTRIES", 5000)
    monkeypatch.setattr(record, "TOLD_BYTES", 100_000)
    plan = traced_run(lambda: counting(20_000), "always", TraceLevel.TIMES)
    assert longest < 10_000
    assert len(plan.column("node")) < 30_000
    assert plan.sums[0].executions.max() == 20_001
