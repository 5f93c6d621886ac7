"""Races: the mistakes that must be found and shown live, and the programs in which there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import partition_programs
import pytest
from debug_fronts import Script, schedule_of

import engine as tf
from engine.runtime.step import StepRun
from workbench.debugger import schedules
from workbench.debugger.core import Debugger
from workbench.debugger.schedules.races import Race, find_races
from workbench.debugger.schedules.showing import Shown, show

TWO = {"CPU": 2}


def races_of(fetches: Any, feeds: tuple[Any, ...] = (), **config: Any) -> list[Race]:
    """The races of the step that runs `fetches`."""
    with tf.Session(config=tf.ConfigProto(**config)) as session:
        executable = session._executable(
            session._take_apart(fetches), [session._feedable(each) for each in feeds]
        )
        return find_races(executable.program)


def pairs_of(races: list[Race]) -> set[frozenset[str]]:
    return {frozenset((race.first.node, race.second.node)) for race in races}


class Showing:
    """A driver that shows every race of a step, and then runs it."""

    record = True

    def __init__(self) -> None:
        self.found: list[tuple[Race, Shown]] = []

    def drive(self, step: StepRun) -> None:
        recorder = schedules.Recorder(step.begin())
        for race in find_races(step.program):
            self.found.append((race, show(step, recorder, race)))
        while recorder.queue:
            activation = recorder.queue[0]
            recorder.executed(activation, step.finish(activation, step.execute(activation)).run)


def shown(fetches: Any, feed: Any = None, **config: Any) -> list[tuple[Race, Shown]]:
    """Each race of the step that runs `fetches`, in both orders; the schedules are replayed and come to the same."""
    made = Showing()
    with tf.Session(config=tf.ConfigProto(**config)) as session:
        session.run(tf.global_variables_initializer())
        values = {each: each.value for each in session.resources if each.kind == "variable"}
        with schedules.driver(made):  # type: ignore[arg-type]  # a driver of our own
            session.run(fetches, feed)
        for _, result in made.found:
            for schedule, outcome in zip(result.schedules, result.outcomes, strict=True):
                for each in session.resources:
                    if each.kind == "variable":
                        each.value = values.get(each)
                with schedules.driver(schedules.Replay(schedule)):
                    session.run(fetches, feed)
                for name, value in outcome.changed.items():
                    held = session.resources.lookup(name) or session.resources.lookup(name, "random")
                    assert held is not None and np.array_equal(held.value, value), name
    return made.found


# Mistakes.


def test_unordered_assigns() -> None:
    v = tf.Variable(1.0, name="v")
    first, second = tf.assign(v, 2.0, name="first"), tf.assign(v, 3.0, name="second")
    ((race, result),) = shown([first.op, second.op])
    assert (race.first.node, race.second.node, race.resource, race.kind) == (
        "first",
        "second",
        "v",
        "variable",
    )
    assert race.first.file.endswith("test_races.py") and 'name="first"' in race.first.source
    assert "no data or control edge leads from first to second" in race.why[0]
    assert result.both and result.differences == ("v: 3. | 2.",)
    assert [float(each.changed["v"]) for each in result.outcomes] == [3.0, 2.0]


def test_a_control_dependency_that_is_missing() -> None:
    v = tf.Variable(1.0, name="v")
    first = tf.assign(v, 2.0, name="first")
    with tf.control_dependencies([first]):
        ordered = tf.assign(v, v.read_value() + 1.0, name="ordered")
    missing = tf.assign(v, 10.0, name="missing")
    assert races_of([first.op, ordered.op]) == []
    found = races_of([first.op, ordered.op, missing.op])
    assert {"missing"} == frozenset.intersection(*pairs_of(found)) and len(found) >= 2


def test_reading_a_variable_beside_its_update() -> None:
    v = tf.Variable(1.0, name="v")
    update = tf.assign_add(v, 1.0, name="update")
    reading = tf.multiply(v.read_value(), 10.0, name="reading")
    ((race, result),) = shown([update.op, reading])
    assert {race.first.kind.value, race.second.kind.value} == {"reads", "adds to"} and not race.adds
    assert result.both and result.differences in (("reading:0: 10. | 20.",), ("reading:0: 20. | 10.",))


def test_fetching_a_variable_beside_its_training_step() -> None:
    w = tf.Variable(2.0, name="w")
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.square(w))
    assert races_of(train) == []
    found = shown([train, w])
    assert len(found) == 1 and found[0][1].both and len(found[0][1].differences) == 1
    assert "w:0: " in found[0][1].differences[0]


def test_two_workers_asynchronous_pushes() -> None:
    """Each worker reads the weights and pushes a gradient; neither waits for the other."""
    with tf.device("/cpu:0"):
        w = tf.Variable(8.0, name="w")
    pushes = []
    for worker in range(2):
        with tf.device(f"/cpu:{worker}"):
            gradient = tf.multiply(w.read_value(), 0.25, name=f"gradient{worker}")
        with tf.device("/cpu:0"):
            pushes.append(tf.assign_sub(w, gradient, name=f"push{worker}").op)
    found = shown(pushes, device_count=TWO)
    both = [
        (race, result) for race, result in found if {race.first.node, race.second.node} == {"push0", "push1"}
    ]
    assert len(both) == 1 and both[0][0].adds
    stale = [
        result
        for race, result in found
        if {race.first.kind.value, race.second.kind.value} == {"reads", "adds to"}
    ]
    assert stale and all(result.both for result in stale)
    # Both gradients of the same weights, or the second of weights that the first has changed.
    values = {float(outcome.changed["w"]) for result in stale for outcome in result.outcomes}
    assert {4.0, 4.5} <= values
    (explored,) = _explored(pushes, device_count=TWO)
    assert {float(each.outcome.changed["w"]) for each in explored.outcomes} == {4.0, 4.5}


def _explored(fetches: Any, **config: Any) -> list[schedules.Exploration]:
    with tf.Session(config=tf.ConfigProto(**config)) as session:
        session.run(tf.global_variables_initializer())
        return schedules.explore(lambda: session.run(fetches))


def test_two_variables_that_share_a_resource() -> None:
    made = [
        tf.raw_ops.VariableV2(shape=[], dtype=tf.float32, shared_name="one", name=name) for name in ("a", "b")
    ]
    found = races_of([tf.assign(each, 1.0, name=f"to_{i}").op for i, each in enumerate(made)])
    assert pairs_of(found) == {frozenset(("to_0", "to_1"))} and found[0].resource == "one"


def test_a_merge_does_not_wait_for_the_branch_that_is_not_taken() -> None:
    v = tf.Variable(1.0, name="v")
    taken = tf.placeholder(tf.bool, [], name="taken")
    write = tf.assign(v, 2.0, name="write")

    def waits() -> Any:
        with tf.control_dependencies([write]):
            return tf.identity(tf.constant(1.0))

    chosen = tf.cond(taken, waits, lambda: tf.constant(2.0))
    with tf.control_dependencies([chosen]):
        late = tf.assign(v, 5.0, name="late")
    found = races_of([late.op, write.op], (taken,))
    assert pairs_of(found) == {frozenset(("write", "late"))}
    assert "Merge" in found[0].why[0]


def test_random_numbers_of_iterations_that_run_at_once() -> None:
    def loop(at_once: int) -> Any:
        return tf.while_loop(
            lambda i, x: i < 3,
            lambda i, x: (i + 1, x * 2.0 + tf.random_uniform([], seed=5, name="draw")),
            [0, 0.0],
            parallel_iterations=at_once,
            name=f"loop{at_once}",
        )[1]

    total = loop(10)
    assert races_of(loop(1)) == []
    ((race, result),) = shown(total)
    assert race.distance == 1 and race.first == race.second and race.kind == "random state"
    assert "iterations" in race.why[0]
    assert result.both, result.why_not
    assert len(result.differences) == 1


def test_an_update_that_iterations_make_at_once() -> None:
    v = tf.Variable(1.0, name="v")

    def body(i: Any, x: Any) -> Any:
        return i + 1, tf.assign(v, tf.cast(i, tf.float32), name="set") + 0.0

    found = races_of(tf.while_loop(lambda i, x: i < 3, body, [0, 0.0], name="loop"))
    assert ("loop/set", "loop/set", 1) in {
        (race.first.node, race.second.node, race.distance) for race in found
    }

    def ordered(i: Any) -> Any:
        with tf.control_dependencies([tf.assign(v, tf.cast(i, tf.float32), name="set")]):
            return i + 1

    assert races_of(tf.while_loop(lambda i: i < 3, ordered, [0])) == []


def test_pushes_on_a_stack_in_no_order() -> None:
    raw = tf.raw_ops
    stack = raw.StackV2(max_size=-1, elem_type=tf.float32, name="stack")
    pushes = [raw.StackPushV2(handle=stack, elem=float(i), name=f"push{i}") for i in range(2)]
    with tf.control_dependencies(pushes):
        top = raw.StackPopV2(handle=stack, elem_type=tf.float32, name="pop")
    found = shown(top)
    assert pairs_of([race for race, _ in found]) == {frozenset(("push0", "push1"))}
    assert found[0][0].kind == "stack" and found[0][1].differences == ("pop:0: 1. | 0.",)


def test_elements_of_an_array() -> None:
    array = tf.TensorArray(tf.float32, 3, name="array")
    raw = tf.raw_ops
    flow = array.flow
    writes = [
        raw.TensorArrayWriteV3(handle=array.handle, index=i, value=1.0, flow_in=flow, name=f"write{i}")
        for i in range(2)
    ]
    assert races_of(writes) == []
    read = raw.TensorArrayReadV3(handle=array.handle, index=1, flow_in=flow, dtype=tf.float32, name="read")
    assert pairs_of(races_of([*writes, read])) == {frozenset(("write1", "read"))}


# None.


def test_a_control_dependency_from_outside_of_a_loop_reads_nothing() -> None:
    """The nodes inside wait for an Identity of the variable, whose value nobody takes."""
    v = tf.Variable(1.0, name="v")
    first = tf.assign(v, 2.0, name="first")

    def body(i: Any) -> Any:
        with tf.control_dependencies([i, first]):
            change = tf.assign(v, 3.0, name="change")
        with tf.control_dependencies([first, change]):
            return i + 1

    assert races_of(tf.while_loop(lambda i: i < 2, body, [0], name="loop")) == []


def test_what_is_ordered_exclusive_or_apart_is_no_race() -> None:
    v, w = tf.Variable(1.0, name="v"), tf.Variable(1.0, name="w")
    taken = tf.placeholder(tf.bool, [], name="taken")
    with tf.control_dependencies([tf.assign(v, 2.0)]):
        after = tf.assign(v, 3.0)
    with tf.control_dependencies([after]):
        last = v.read_value()
    cases: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "control edges": (last, ()),
        "data edges": (tf.assign_add(tf.assign(v, 1.0), 2.0), ()),
        "different variables": ([tf.assign(v, 1.0).op, tf.assign(w, 1.0).op], ()),
        "two reads": ([v.read_value(), v.read_value(), v], ()),
        "exclusive branches": (
            tf.cond(taken, lambda: tf.assign(v, 1.0), lambda: tf.assign(v, 2.0)),
            (taken,),
        ),
        "exclusive by the opposite": (
            [
                tf.cond(taken, lambda: tf.assign(v, 1.0) + 0.0, lambda: tf.constant(0.0)),
                tf.cond(tf.logical_not(taken), lambda: tf.assign(v, 2.0) + 0.0, lambda: tf.constant(0.0)),
            ],
            (taken,),
        ),
    }
    for name, (fetches, feeds) in cases.items():
        assert races_of(fetches, feeds) == [], name


def test_one_cond_after_another_is_a_race() -> None:
    """Different predicates may both be true."""
    v = tf.Variable(1.0, name="v")
    one, two = tf.placeholder(tf.bool, [], name="one"), tf.placeholder(tf.bool, [], name="two")
    fetches = [
        tf.cond(one, lambda: tf.assign(v, 1.0) + 0.0, lambda: tf.constant(0.0)),
        tf.cond(two, lambda: tf.assign(v, 2.0) + 0.0, lambda: tf.constant(0.0)),
    ]
    assert races_of(fetches, (one, two))
    found = shown(fetches, feed={one: True, two: False})
    assert not any(result.both for _, result in found)
    assert any("dead" in why or "does not run" in why for _, result in found for why in result.why_not)
    assert any(result.both for _, result in shown(fetches, feed={one: True, two: True}))


@pytest.mark.parametrize("build", partition_programs.PROGRAMS.values(), ids=list(partition_programs.PROGRAMS))
def test_no_race_in_programs_without_state_on_two_devices(build: Callable[[Any], Any]) -> None:
    assert races_of(build(tf), device_count=TWO) == []


def test_no_race_in_gradients_of_loops() -> None:
    x = tf.Variable(0.5, name="x")

    def inner(i: Any, y: Any) -> Any:
        return i + 1, tf.while_loop(lambda j, z: j < 2, lambda j, z: (j + 1, tf.sin(z * x)), [0, y])[1]

    nested = tf.while_loop(lambda i, y: i < 2, inner, [0, x * 1.0])[1]
    mapped = tf.reduce_sum(tf.map_fn(lambda each: each * tf.cos(each * x), tf.constant([1.0, 2.0])))
    train = tf.train.AdamOptimizer().minimize(nested + mapped)
    assert races_of(train) == []
    assert races_of(tf.gradients(nested + mapped, x), device_count=TWO) == []


def test_no_race_in_a_training_step_on_two_devices() -> None:
    with tf.device("/cpu:0"):
        w = tf.Variable(tf.ones([4, 4]), name="w")
    with tf.device("/cpu:1"):
        u = tf.Variable(tf.ones([4, 4]), name="u")
        loss = tf.reduce_sum(tf.tanh(tf.matmul(tf.tanh(tf.matmul(tf.ones([2, 4]), w)), u)))
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    assert races_of(train, device_count=TWO) == []


# In the debugger.


def test_the_commands_list_show_and_explore() -> None:
    v = tf.Variable(1.0, name="v")
    double = tf.assign(v, v.read_value() * 2.0, name="double").op
    more = tf.assign_add(v, 3.0, name="more").op
    seen: list[str] = []

    def remember(debugger: Debugger) -> None:
        assert debugger.stepping is not None
        stepping = debugger.stepping
        seen.append(
            f"{schedule_of(debugger)} {stepping.executed} {stepping.next and stepping.next.name} {len(stepping.ready)}"
        )

    front = Script("n 4", remember, "races", "races show 2", remember, "explore", remember, "explore 1", "c")
    with tf.Session() as session:
        session.run(v.initializer)
        with Debugger(front).installed():
            session.run([double, more])
        assert float(session.run(v)) in (2.0, 5.0, 8.0)
    listed, told, explored, one = front.texts[-4:]
    assert (
        listed.startswith("2 races\n1. ")
        and "test_races.py:" in listed
        and "tf.control_dependencies" in listed
    )
    assert "the results differ" in told and told.count("schedule replay") == 2
    assert "outcomes of all" in explored and "the smallest difference" in explored
    assert "explored 1 of at least 2" in one
    assert len(seen) == 3 and len(set(seen)) == 1


def test_agreement_is_said() -> None:
    variables = [tf.Variable(1.0, name=f"v{i}") for i in range(4)]
    ops = [tf.assign_add(each, 1.0).op for each in variables]
    front = Script("explore", "races")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with Debugger(front).installed():
            session.run(ops)
    assert front.texts[0].startswith("all 24 schedules agree (1 schedule explored after reduction)"), (
        front.texts[0]
    )
    assert front.texts[1].startswith("no races")


def test_an_error_in_some_orders_is_an_outcome() -> None:
    """Whether the variable is initialized before it is read depends on the order."""
    v = tf.Variable(1.0, name="v")
    read = tf.multiply(v.read_value(), 2.0, name="product")
    with tf.Session() as session:
        made = schedules.Exploring()
        with schedules.driver(schedules.Delay([read.op.inputs[0].op.name])):
            session.run([v.initializer, read])
        session.resources.lookup("v").value = None
        # It runs as always afterwards, and then fails or not.
        with schedules.driver(made), contextlib.suppress(tf.errors.FailedPreconditionError):
            session.run([v.initializer, read])
    (found,) = made.found
    said = {each.outcome.error.partition(" ")[0] for each in found.outcomes}
    assert said == {"", "FailedPreconditionError"} and found.complete


def test_exploring_stops_at_its_bounds() -> None:
    v = tf.Variable(1.0, name="v")
    ops = [tf.assign(v, v.read_value() * 2.0 + float(i)).op for i in range(6)]
    with tf.Session() as session:
        session.run(v.initializer)
        (few,) = schedules.explore(lambda: session.run(ops), limit=10)
        assert (few.explored, few.complete) == (10, False) and few.pending >= 1
        (short,) = schedules.explore(lambda: session.run(ops), seconds=0.05)
        assert not short.complete and short.seconds >= 0.05
        endless = tf.while_loop(lambda i: i < 2_000, lambda i: i + 1, [0])
        (stopped,) = schedules.explore(lambda: session.run(endless), seconds=0.01)
        assert not stopped.complete and stopped.explored == 0
