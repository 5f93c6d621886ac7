"""Random programs: the graph against plain Python, whatever the order in which ready nodes are taken."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizing import plain
from random_programs import Built, Outcome, Program, anywhere, build, evaluate, programs
from schedules import Shuffled, driven_by
from searches import examples

import engine as tf
from engine import observe
from engine.observe import FrameChange, TraceLevel
from engine.runtime import driver as drivers


def run(
    built: Built, driver: drivers.Driver | None = None, threads: int = 0
) -> tuple[list[Any], dict[str, Any]]:
    """The results and the variables after them."""
    config = tf.ConfigProto(inter_op_parallelism_threads=threads)
    with tf.Session(graph=built.graph, config=config) as session:
        session.run(built.initializer)
        with driven_by(driver):
            results = session.run(built.fetches, built.feeds)
        return results, session.run(built.variables)


def check(outcome: Outcome, results: list[Any], variables: dict[str, Any]) -> None:
    """Integers agree exactly, floats closely."""
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)
    assert variables.keys() == outcome.variables.keys()
    for name, value in variables.items():
        np.testing.assert_allclose(value, outcome.variables[name], rtol=1e-9, atol=1e-12, err_msg=name)


@given(programs())
@examples(12)
def test_results_and_variables_are_those_of_plain_python(program: Program) -> None:
    check(evaluate(program), *run(build(program, tf)))


@given(programs(), st.integers(0, 1 << 30))
@examples(15)
def test_the_order_of_execution_does_not_matter(program: Program, seed: int) -> None:
    check(evaluate(program), *run(build(program, tf), Shuffled(seed, rewind=False)))


@given(programs(), st.integers(0, 1 << 30))
@examples(20)
def test_rewinding_on_the_way_does_not_matter(program: Program, seed: int) -> None:
    check(evaluate(program), *run(build(program, tf), Shuffled(seed, rewind=True)))


@given(programs())
@examples(10)
def test_threads_do_not_matter(program: Program) -> None:
    check(evaluate(program), *run(build(program, tf), threads=3))


@given(programs(depth=2))
@examples(10)
def test_a_graph_that_went_through_a_graph_def_computes_the_same(program: Program) -> None:
    built = build(program, tf)
    names = [tensor.name for tensor in built.fetches]
    feeds = {tensor.name: value for tensor, value in built.feeds.items()}
    copy = tf.Graph()
    with copy.as_default():
        tf.import_graph_def(built.graph.as_graph_def(), name="")
    with tf.Session(graph=copy) as session:
        session.run(built.initializer.name)
        results = session.run(names, feeds)
        variables = session.run({name: f"{name}:0" for name in built.variables})
    check(evaluate(program), results, variables)


@pytest.mark.slow
@pytest.mark.deep
@given(programs(depth=4))
@settings(max_examples=50)
def test_deeper_programs(program: Program) -> None:
    outcome, built = evaluate(program), build(program, tf)
    check(outcome, *run(built))
    check(outcome, *run(built, Shuffled(len(outcome.total), rewind=True)))


# --- what the interpreter tells of such a run ---------------------------------------------------------------------------------


class Everything(observe.Observer):
    """Keeps all batches of the last step."""

    level = TraceLevel.FULL

    def step_begin(self, step: observe.StepInfo) -> None:
        self.step = step
        self.executed: list[tuple[int, int, int, bool]] = []  # node, frame, iteration, dead
        self.delivered: list[tuple[int, int, int, int, int, bool, int]] = []
        self.changes: list[observe.FrameEvent] = []
        self.ended = False

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        columns = batch.node, batch.frame, batch.iteration, batch.dead
        self.executed.extend(zip(*(column.tolist() for column in columns), strict=True))

    def tokens(self, step: observe.StepInfo, batch: observe.Tokens) -> None:
        columns = (
            batch.node,
            batch.slot,
            batch.frame,
            batch.iteration,
            batch.source_slot,
            batch.dead,
            batch.row,
        )
        self.delivered.extend(zip(*(column.tolist() for column in columns), strict=True))

    def frames(self, step: observe.StepInfo, batch: tuple[observe.FrameEvent, ...]) -> None:
        self.changes.extend(batch)

    def step_end(self, step: observe.StepInfo, ended_ns: int, error: BaseException | None) -> None:
        self.ended = True


def watch(built: Built, driver: drivers.Driver | None = None, devices: int = 1) -> Everything:
    seen = Everything()
    with tf.Session(graph=built.graph, config=plain(device_count={"CPU": devices})) as session:
        session.run(built.initializer)
        observe.install(seen)
        try:
            with driven_by(driver):
                session.run(built.fetches, built.feeds)
        finally:
            observe.uninstall(seen)
    assert seen.ended
    return seen


@given(programs(), st.none() | st.integers(0, 1 << 30))
@examples(20)
def test_every_block_executes_as_often_as_it_must(program: Program, seed: int | None) -> None:
    """Alive and dead, branches not taken and loops never entered included."""
    outcome = evaluate(program)
    seen = watch(build(program, tf, keep_all=True), None if seed is None else Shuffled(seed, rewind=False))
    order = seen.step.stage.order
    alive: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for node, _, _, dead in seen.executed:
        name = order[node].rpartition("/")[2]
        if name.startswith("mark"):
            number = int(name[4:].partition("_")[0])
            total[number] += 1
            alive[number] += not dead
    assert +alive == +outcome.alive
    assert total == outcome.total


@given(programs(), st.none() | st.integers(0, 1 << 30), st.sampled_from([1, 1, 3]))
@examples(12)
def test_nothing_is_left_over(program: Program, seed: int | None, devices: int) -> None:
    """Every frame and iteration that begins ends; every token is taken by one execution, which waited for all of its own."""
    built = build(program, tf, device=anywhere(seed or 0, [f"/cpu:{i}" for i in range(devices)]))
    seen = watch(built, None if seed is None else Shuffled(seed, rewind=False), devices)
    nodes = [seen.step.stage.nodes[name] for name in seen.step.stage.order]

    began, ended = Counter[Any](), Counter[Any]()
    for event in seen.changes:
        match event.change:
            case FrameChange.FRAME_BEGIN:
                began[event.frame] += 1
            case FrameChange.FRAME_END:
                ended[event.frame] += 1
            case FrameChange.ITERATION_BEGIN:
                began[event.frame, event.iteration] += 1
            case FrameChange.ITERATION_END:
                ended[event.frame, event.iteration] += 1
    assert began == ended
    assert set(began.values()) <= {1}

    executed = Counter((node, frame, iteration) for node, frame, iteration, _ in seen.executed)
    assert set(executed.values()) <= {1}
    assert {frame for _, frame, _ in executed} <= {0, *(event.frame for event in seen.changes)}

    data: dict[Any, list[tuple[int, bool]]] = defaultdict(list)
    control: Counter[Any] = Counter()
    for node, slot, frame, iteration, _, dead, _ in seen.delivered:
        if slot < 0:
            control[node, frame, iteration] += 1
        else:
            data[node, frame, iteration].append((slot, dead))
    assert set(data) | set(control) <= set(executed)
    died = {(node, frame, iteration): dead for node, frame, iteration, dead in seen.executed}
    for activation in executed:
        node = nodes[activation[0]]
        arrived = data[activation]
        assert control[activation] == len(node.control_inputs), node.name
        if node.type in ("Merge", "RefMerge"):
            assert died[activation] == all(dead for _, dead in arrived), node.name
        else:
            assert sorted(slot for slot, _ in arrived) == list(range(len(node.inputs))), node.name


@given(programs(effects=False))
@examples(15)
def test_dead_means_that_something_before_was_dead_or_switched_away(program: Program) -> None:
    """Deadness begins at a Switch, and nowhere else; Enter, Exit and NextIteration alone may hold a token back."""
    seen = watch(build(program, tf))
    nodes = [seen.step.stage.nodes[name] for name in seen.step.stage.order]
    arrivals: dict[Any, list[bool]] = defaultdict(list)
    for node, slot, frame, iteration, _, dead, row in seen.delivered:
        arrivals[node, frame, iteration].append(dead)
        cause, _, _, cause_dead = seen.executed[row]
        if slot < 0:
            assert dead == cause_dead
        elif nodes[node].inputs[slot][0] != nodes[cause].name:
            producer = seen.step.stage.nodes[nodes[node].inputs[slot][0]]
            assert producer.opdef.flow in ("enter", "exit", "next_iteration"), producer.name
        elif nodes[cause].opdef.flow == "switch" and not cause_dead:
            pass
        else:
            assert dead == cause_dead, nodes[cause].name
    for node, frame, iteration, dead in seen.executed:
        if dead:
            assert any(arrivals[node, frame, iteration]), nodes[node].name
        elif nodes[node].opdef.flow not in ("merge", "control_trigger"):
            assert not any(arrivals[node, frame, iteration]), nodes[node].name
