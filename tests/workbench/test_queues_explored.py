"""Exploration of steps that use queues against a model in plain Python that goes through every order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_programs import Model, Op, Program, build, programs, putting_back
from running import no_time_to_wait

import engine as tf
from engine.op.queues import Blocked
from engine.runtime.driver import StepRun
from workbench.debugger import schedules
from workbench.debugger.schedules.accesses import may_access

pytestmark = pytest.mark.usefixtures("as_written")


class _Explores:
    """A driver that explores the step and does not run it."""

    record = True
    found: schedules.Exploration

    def drive(self, step: StepRun) -> None:
        recorder = schedules.Recorder(step.begin())
        self.found = schedules.explore_step(step, recorder, limit=20_000, seconds=60)
        raise _Explored


class _Explored(Exception):
    pass


class _ExploresFrom:
    """The same from a point that a random schedule has come to, with what waits there; `path` are the operations tried so far."""

    record = True
    found: schedules.Exploration

    def __init__(self, seed: int, count: int) -> None:
        self.chance, self.count = schedules.Random(seed), count
        self.path: list[int] = []
        self.failed = False
        self.values: dict[str, Any] = {}

    def drive(self, step: StepRun) -> None:
        recorder = schedules.Recorder(step.begin())
        walked = schedules.Walk(step, recorder)
        while recorder.queue and len(walked.trace) < self.count:
            activation = recorder.queue[self.chance.choose(recorder)]
            try:
                walked.do(activation)
            except tf.errors.OpError:
                self.failed = True
                raise _Explored from None
            if activation.name.startswith("op") and activation.name[2:].isdecimal():
                self.path.append(int(activation.name[2:]))
        self.values = {each.name: each.value for each in step.resources if each.kind == "queue"}
        before = (list(recorder.queue), list(step.blocked), recorder.schedule(step.stage))
        self.found = schedules.explore_step(step, recorder, limit=20_000, seconds=60)
        assert before == (list(recorder.queue), list(step.blocked), recorder.schedule(step.stage))
        assert self.values == {each.name: each.value for each in step.resources if each.kind == "queue"}
        raise _Explored


def explored(program: Program, check_schedules: bool = False) -> tuple[schedules.Exploration, set[Any]]:
    """What exploring comes to, and its outcomes as the model has them."""
    with tf.Graph().as_default():
        queues, fill, nodes = build(program)
        with tf.Session() as session:
            put_back = putting_back(session, queues, fill)
            before = [session.resources.lookup(queue.name) for queue in queues]
            values = [each.value for each in before]
            driver = _Explores()
            with schedules.driver(driver), pytest.raises(_Explored):  # type: ignore[arg-type]  # a driver of our own
                session.run(nodes)
            assert [each.value for each in before] == values
            assert not any(each.wanted or each.pending for each in before)
            found = driver.found
            outcomes = {_as_in_the_model(each.outcome, program, values) for each in found.outcomes}
            assert len(outcomes) == len(found.outcomes)
            for each in found.outcomes if check_schedules else ():
                put_back()
                _check_schedule(session, nodes, each, before)
            return found, outcomes


def _check_schedule(session: Any, nodes: Any, found: Any, queues: Any) -> None:
    """The schedule comes to its outcome when a driver replays it."""
    outcome = found.outcome
    options = tf.RunOptions(timeout_in_ms=20) if outcome.stuck else None
    with schedules.driver(schedules.Replay(found.schedule)) as driven, no_time_to_wait():
        if outcome.error or outcome.stuck:
            kind = getattr(tf.errors, outcome.error.partition(" ")[0] or "DeadlineExceededError")
            with pytest.raises(kind):
                session.run(nodes, options=options)
        else:
            given = [each for each in session.run(nodes) if each is not None]
            assert [np.asarray(each).tolist() for each in given] == [
                np.asarray(each).tolist() for each in outcome.fetches
            ]
    if not outcome.error:
        assert driven.schedules == [found.schedule]
        for queue in queues:
            if queue.name in outcome.changed:
                assert repr(queue.value.elements) == repr(outcome.changed[queue.name].elements)


def _as_in_the_model(outcome: schedules.Outcome, program: Program, before: list[Any]) -> Any:
    if outcome.error:
        return ("failed", outcome.error)
    queues = []
    for number, (kind, _, _) in enumerate(program.queues):
        value = outcome.changed.get(f"q{number}", before[number])
        elements = [(int(each[0]) if kind != "FIFO" else 0, float(each[-1])) for each in value.elements]
        queues.append((tuple(elements), value.closed))
    if outcome.stuck:
        return ("stuck", tuple(re.findall(r"(op\d+) waits for", outcome.stuck)), tuple(queues))
    given = []
    for value in map(np.asarray, outcome.fetches):
        given.append(int(value) if value.dtype.kind == "i" else tuple(np.atleast_1d(value).tolist()))
    return ("ended", tuple(given), tuple(queues))


def check(program: Program, check_schedules: bool = False) -> tuple[int, int]:
    """Exploring finds what all orders come to, and no more; how many schedules it took, of how many."""
    found, outcomes = explored(program, check_schedules)
    model = Model(program)
    assert found.complete
    assert outcomes == model.outcomes, (outcomes - model.outcomes, model.outcomes - outcomes)
    assert found.explored <= model.orders
    return found.explored, model.orders


@settings(max_examples=150, deadline=None)
@given(programs(5))
def test_exploring_finds_what_all_orders_come_to(program: Program) -> None:
    check(program)


@settings(max_examples=80, deadline=None)
@given(programs(5), st.integers(0, 1 << 30), st.integers(1, 25))
def test_exploring_goes_on_from_any_point(program: Program, seed: int, count: int) -> None:
    with tf.Graph().as_default():
        queues, fill, nodes = build(program)
        with tf.Session() as session:
            putting_back(session, queues, fill)
            driver = _ExploresFrom(seed, count)
            with schedules.driver(driver), pytest.raises(_Explored):  # type: ignore[arg-type]  # a driver of our own
                session.run(nodes)
    if driver.failed:
        return
    values = [driver.values[queue.name] for queue in queues]
    outcomes = {_as_in_the_model(each.outcome, program, values) for each in driver.found.outcomes}
    assert outcomes == Model(program).outcomes_after(driver.path)


@settings(max_examples=40, deadline=None)
@given(programs(4))
def test_each_schedule_comes_to_its_outcome(program: Program) -> None:
    check(program, check_schedules=True)


@pytest.mark.deep
@pytest.mark.slow
@settings(max_examples=3_000, deadline=None)
@given(programs(6))
def test_exploring_finds_what_all_orders_of_more_come_to(program: Program) -> None:
    check(program)


def put(count: int, queue: int = 0) -> tuple[Op, ...]:
    return (Op("put", queue),) * count


def take(count: int, queue: int = 0) -> tuple[Op, ...]:
    return (Op("take", queue),) * count


# Programs, and how many schedules it takes for all outcomes.
REDUCED: dict[str, tuple[Program, int]] = {
    "one puts and one takes": (Program((("FIFO", 1, 0),), put(1) + take(1)), 1),
    "they do so in a queue that is neither full nor empty": (Program((("FIFO", 4, 2),), put(1) + take(1)), 1),
    "two put and two take": (Program((("FIFO", 1, 0),), put(2) + take(2)), 4),
    "three put into one queue": (Program((("FIFO", -1, 0),), put(3)), 6),
    "two queues that have nothing to do with each other": (
        Program((("FIFO", 2, 0), ("FIFO", 2, 0)), put(2) + put(2, 1)),
        4,
    ),
    "three put and three take": (Program((("FIFO", 2, 1),), put(3) + take(3)), 36),
}


@pytest.mark.parametrize("name", REDUCED)
def test_orders_that_nobody_can_tell_apart_are_run_once(name: str) -> None:
    program, count = REDUCED[name]
    explored_count, orders = check(program)
    assert explored_count == count <= orders


def test_what_was_taken_first_may_be_what_lets_the_next_be_put_in() -> None:
    """The one that waits is tried where it could still have been first, though what lets it go on depends on the other."""
    ops = (Op("take", 0), Op("forward", 0, source=0), Op("take", 0))
    check(Program((("FIFO", 1, 1),), ops), check_schedules=True)


def test_waiting_that_others_can_see_is_an_order_of_its_own() -> None:
    """An enqueue that waits when the queue is closed goes on afterwards; one that comes later is turned away."""
    closing = Program((("FIFO", 1, 1),), (*put(1), Op("close", 0, 0), *take(1)))
    outcomes = explored(closing, check_schedules=True)[1]
    assert {each[0] for each in outcomes} == {"failed", "ended"} and outcomes == Model(closing).outcomes
    larger = Program((("FIFO", 1, 0),), (Op("take_many", 0, 2), Op("put_many", 0, 2), *put(1)))
    assert explored(larger, check_schedules=True)[1] == Model(larger).outcomes


# Control flow, against every order of it on the engine itself.


class _Naive:
    """A driver that goes through every order, without any reduction, and keeps what these come to: for steps in which nobody can
    see that somebody waits."""

    record = True

    def __init__(self) -> None:
        self.outcomes: set[Any] = set()
        self.orders = 0

    def drive(self, step: StepRun) -> None:
        self._go(step, list(step.begin()))
        raise _Explored

    def _go(self, step: StepRun, ready: list[Any]) -> None:
        touching = [each for each in ready if may_access(each.item)]
        pure = [each for each in ready if not may_access(each.item)]
        went = False
        for activation in pure[:1] or touching:
            try:
                executed = step.execute(activation)
            except Blocked:
                continue
            went = True
            run = step.finish(activation, executed).run
            self._go(step, [*(each for each in ready if each != activation), *run])
            step.undo()
        if not went:
            self.orders += 1
            held = tuple(
                sorted(
                    (each.name, repr(_plain(each.value))) for each in step.resources if each.container == ""
                )
            )
            results = () if ready else tuple(map(repr, step.context.results))
            self.outcomes.add((results, bool(ready), tuple(sorted({each.name for each in ready})), held))


def _plain(value: Any) -> Any:
    return (
        [each.tolist() for element in value.elements for each in element]
        if hasattr(value, "elements")
        else value
    )


def _flow_programs() -> dict[str, Callable[[Any, Any], Any]]:
    def drained_by_a_loop(queue: Any, v: Any) -> Any:
        """A loop takes what others put in, in no order, and weighs it."""

        def body(i: Any, x: Any) -> Any:
            with tf.control_dependencies([i]):
                return i + 1, x * 2.0 + queue.dequeue(name="take")

        total = tf.while_loop(lambda i, x: tf.less(i, 3), body, [0, 0.0])[1]
        return [total, *(queue.enqueue([float(each + 1)], name=f"put{each}") for each in range(3))]

    def filled_by_a_loop(queue: Any, v: Any) -> Any:
        """A loop puts more in than there is room for; two take it out, and one of them changes a variable."""

        def body(i: Any) -> Any:
            with tf.control_dependencies([queue.enqueue([tf.cast(i, tf.float32) + 1.0], name="put")]):
                return i + 1

        last = tf.while_loop(lambda i: tf.less(i, 3), body, [0])
        return [
            last,
            tf.assign_add(v, queue.dequeue(name="one")).op,
            tf.identity(v.read_value()),
            queue.dequeue(name="two"),
        ]

    def taken_by_a_branch(queue: Any, v: Any) -> Any:
        """What is taken out decides who puts in again, and whether anybody waits for ever."""
        put = [queue.enqueue([float(each)], name=f"put{each}") for each in range(2)]
        taken = queue.dequeue(name="first")

        def again() -> Any:
            with tf.control_dependencies([queue.enqueue([9.0], name="again")]):
                return tf.constant(1.0)

        chosen = tf.cond(tf.greater(taken, 0.5), again, lambda: queue.dequeue(name="second") + 0.0)
        return [chosen, *put, queue.dequeue(name="third")]

    return {each.__name__: each for each in (drained_by_a_loop, filled_by_a_loop, taken_by_a_branch)}


@pytest.mark.parametrize("name", _flow_programs())
def test_queues_in_loops_and_branches_are_explored_like_every_order(name: str) -> None:
    queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]], name="queue")
    v = tf.Variable(1.0, name="v")
    fetches = _flow_programs()[name](queue, v)
    with tf.Session() as session:
        session.run([v.initializer, queue.size()])
        naive, driver = _Naive(), _Explores()
        for each in (naive, driver):
            with schedules.driver(each), pytest.raises(_Explored):  # type: ignore[arg-type]  # drivers of our own
                session.run(fetches)
    found = driver.found
    assert found.complete and found.explored <= naive.orders
    stuck = sum(bool(each.outcome.stuck) for each in found.outcomes)
    assert len(found.outcomes) == len(naive.outcomes) > 1
    assert stuck == sum(each[1] for each in naive.outcomes)
