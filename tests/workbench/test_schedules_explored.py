"""Exploration against a naive enumeration of every order of a small program's events, and races against Floyd and Warshall."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from racing_programs import VARIABLES, Op, build, naive_outcomes, programs

import engine as tf
from workbench.debugger import schedules
from workbench.debugger.schedules.counting import inversions, linear_extensions, swaps
from workbench.debugger.schedules.races import find_races

pytestmark = pytest.mark.usefixtures("as_written")


def result_of(outcome: schedules.Outcome, ops: Sequence[Op]) -> tuple[float, ...]:
    read = [float(value) for value in outcome.fetches]
    held = [float(outcome.changed.get(f"v{i}", 10 * i + 1)) for i in range(VARIABLES)]
    return (*read, *held)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs())
def test_exploration_finds_what_all_orders_come_to_and_no_more(ops: list[Op]) -> None:
    with tf.Graph().as_default():
        initializers, nodes = build(ops)
        with tf.Session() as session:
            session.run(initializers)
            before = session.run([f"v{i}:0" for i in range(VARIABLES)])
            (found,) = schedules.explore(lambda: session.run(nodes))
            expected, orders = naive_outcomes(ops)
            assert found.complete
            assert {result_of(each.outcome, ops) for each in found.outcomes} == expected
            assert len(found.outcomes) == len(expected)
            assert found.orders == orders and found.accesses == len(ops)
            assert len(expected) <= found.explored <= orders
            # Each schedule comes to its outcome again, from the same beginning.
            for each in found.outcomes:
                _restore(session, before)
                with schedules.driver(schedules.Replay(each.schedule)) as driven:
                    fetched = [v for v in session.run(nodes) if v is not None]
                held = session.run([f"v{i}:0" for i in range(VARIABLES)])
                assert (*map(float, fetched), *map(float, held)) == result_of(each.outcome, ops)
                assert driven.schedules == [each.schedule]
            if found.pair is not None:
                assert found.pair.first.outcome != found.pair.second.outcome
                assert found.pair.swapped is not None and found.pair.differences


def _restore(session: Any, values: Sequence[Any]) -> None:
    for index, value in enumerate(values):
        session.resources.lookup(f"v{index}").value = np.asarray(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs())
def test_races_are_the_conflicting_pairs_without_a_path(ops: list[Op]) -> None:
    with tf.Graph().as_default():
        _, nodes = build(ops)
        with tf.Session() as session:
            taken = session._take_apart(nodes)
            executable = session._executable(taken, [])
    names = [getattr(node, "op", node).name for node in nodes]
    found = {frozenset((race.first.node, race.second.node)) for race in find_races(executable.program)}
    stage = executable.stage
    order = list(stage.nodes)
    index = {name: i for i, name in enumerate(order)}
    reach = np.zeros((len(order), len(order)), bool)
    for node in stage:
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            reach[index[source], index[node.name]] = True
    for middle in range(len(order)):  # Floyd and Warshall
        reach |= reach[:, middle : middle + 1] & reach[middle : middle + 1, :]
    expected = set()
    for (i, a), (j, b) in itertools.combinations(enumerate(ops), 2):
        if a.variable != b.variable or (a.kind == b.kind == "read"):
            continue
        if not reach[index[names[i]], index[names[j]]] and not reach[index[names[j]], index[names[i]]]:
            expected.add(frozenset((names[i], names[j])))
    assert found == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs())
def test_a_program_without_races_has_one_outcome(ops: list[Op]) -> None:
    """The other way round a race need not show: two additions come to the same."""
    with tf.Graph().as_default():
        initializers, nodes = build(ops)
        with tf.Session() as session:
            session.run(initializers)
            found = find_races(session._executable(session._take_apart(nodes), []).program)
            (explored,) = schedules.explore(lambda: session.run(nodes))
            assert found or explored.agree
            assert found or explored.explored == 1


class Naive:
    """A driver that goes through every order of what may matter, without any reduction, and keeps what these come to.

    What is not in `PURE` may run at any time; the rest at once.
    """

    record = True
    PURE = frozenset(
        [
            "Const",
            "NoOp",
            "Add",
            "AddV2",
            "Mul",
            "Less",
            "Greater",
            "Equal",
            "Cast",
            "Switch",
            "Merge",
            "Enter",
            "Exit",
            "NextIteration",
            "LoopCond",
            "Identity",
            "VariableV2",
            "_Arg",
            "Reciprocal",
            "LogicalNot",
            "Sub",
        ]
    )

    def __init__(self) -> None:
        self.outcomes: set[Any] = set()
        self.orders = 0

    def drive(self, step: Any) -> None:
        ready = list(step.begin())
        self._go(step, ready)
        while ready:
            activation = ready.pop(0)
            ready += step.finish(activation, step.execute(activation)).run

    def _go(self, step: Any, ready: list[Any]) -> None:
        pure = [each for each in ready if each.item.node.type in self.PURE and not each.item.derefs]
        if not ready:
            self.orders += 1
            held = tuple(
                sorted((each.name, repr(each.value)) for each in step.resources if each.kind == "variable")
            )
            self.outcomes.add((tuple(map(repr, step.context.results)), held))
            return
        for activation in pure[:1] or ready:
            run = step.finish(activation, step.execute(activation)).run
            self._go(step, [*(each for each in ready if each != activation), *run])
            step.undo()


def _flow_programs() -> dict[str, Callable[[Any, Any], Any]]:
    def branch_on_a_race(v: Any, w: Any) -> Any:
        """Which branch is taken depends on the order."""
        write = tf.assign(v, 5.0).op
        taken = tf.greater(v.read_value(), 2.0)
        chosen = tf.cond(
            taken, lambda: tf.assign_add(w, 10.0) + 0.0, lambda: tf.assign(w, v.read_value() * 3.0) + 0.0
        )
        return [write, chosen]

    def loop_and_write(v: Any, w: Any) -> Any:
        """A loop reads in each of its iterations what is written outside."""

        def body(i: Any, x: Any) -> Any:
            with tf.control_dependencies([i]):
                return i + 1, x * 2.0 + v.read_value()

        total = tf.while_loop(lambda i, x: tf.less(i, 3), body, [0, 0.0])[1]
        return [total, tf.assign(v, 7.0).op]

    def iterations_at_once(v: Any, w: Any) -> Any:
        """Iterations write one variable in no order."""

        def kept(i: Any, x: Any) -> Any:
            changed = tf.assign(v, tf.cast(i, tf.float32) + 1.0)
            return i + 1, changed + 0.0

        return tf.while_loop(lambda i, x: tf.less(i, 2), kept, [0, 0.0])[1]

    def two_loops(v: Any, w: Any) -> Any:
        """A loop writes what the other one reads."""

        def write(i: Any) -> Any:
            with tf.control_dependencies([tf.assign_add(v, 1.0)]):
                return i + 1

        def read(i: Any, x: Any) -> Any:
            with tf.control_dependencies([i]):
                now = v.read_value()
            with tf.control_dependencies([now]):
                return i + 1, x + now

        writing = tf.while_loop(lambda i: tf.less(i, 2), write, [0], name="writing")
        reading = tf.while_loop(lambda i, x: tf.less(i, 2), read, [0, 0.0], name="reading")[1]
        return [writing, reading]

    return {each.__name__: each for each in (branch_on_a_race, loop_and_write, iterations_at_once, two_loops)}


@pytest.mark.parametrize("name", _flow_programs())
def test_control_flow_is_explored_like_every_order_of_it(name: str) -> None:
    v, w = tf.Variable(1.0, name="v"), tf.Variable(2.0, name="w")
    fetches = _flow_programs()[name](v, w)
    with tf.Session() as session:
        session.run([v.initializer, w.initializer])
        before = {each: each.value for each in session.resources}
        naive = Naive()
        with schedules.driver(naive):  # type: ignore[arg-type]  # a driver of our own
            session.run(fetches)
        for each, value in before.items():
            each.value = value
        (found,) = schedules.explore(lambda: session.run(fetches), limit=20_000)
    assert found.complete and found.explored <= naive.orders
    assert len(found.outcomes) == len(naive.outcomes) > 1


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6))
def test_linear_extensions_are_counted(edges: list[set[int]]) -> None:
    before = [sum(1 << j for j in mask if j < i) for i, mask in enumerate(edges)]
    count = 0
    for order in itertools.permutations(range(len(before))):
        done = 0
        for each in order:
            if before[each] & ~done:
                break
            done |= 1 << each
        else:
            count += 1
    assert linear_extensions(before) == count


@given(st.permutations(range(6)))
def test_swaps_lead_from_one_order_to_the_other(order: list[int]) -> None:
    way = swaps(range(6), order)
    assert way[0] == list(range(6)) and way[-1] == order
    assert len(way) - 1 == inversions(range(6), order)
    for one, other in itertools.pairwise(way):
        differing = [i for i in range(6) if one[i] != other[i]]
        assert len(differing) == 2 and differing[1] == differing[0] + 1
