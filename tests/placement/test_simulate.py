"""The simulator against an independent one that goes tick by tick, over placements of small graphs; the greedy placement against
the best of all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_devices import StandIn, TableCosts, cpus, with_gpus
from placement_graphs import constrained, small
from searches import examples

import engine as tf
from engine.passes.build import Builder
from engine.passes.stage import Stage
from engine.placement.assumptions import Assumptions
from engine.placement.constraints import Constraints
from engine.placement.costs import StaticCosts
from engine.placement.flow import flow_of
from engine.placement.greedy import Greedy
from engine.placement.place import PlacementOptions, place
from engine.placement.simulate import prediction_of, simulate
from engine.placement.timeline import Timeline
from engine.placement.unroll import unroll

TWO = cpus(2)


def on(stage: Stage, devices: dict[str, str]) -> Stage:
    nodes = {name: replace(node, device=devices[name]) for name, node in stage.nodes.items()}
    return Stage("placed", MappingProxyType(nodes), before=stage)


def ticks(stage: Stage, costs: TableCosts, shared: bool) -> dict[str, tuple[int, int]]:
    """(start, end) of each node that is no constant, in whole ticks: costs are positive whole numbers.

    A tick is: what ends now sends its tensors off; each link then, and each device, takes the first that has come.
    """
    nodes = [node for node in stage if node.type != "Const"]
    reads = {
        node.name: list(
            dict.fromkeys((*((n, s) for n, s in node.inputs), *((n, -1) for n in node.control_inputs)))
        )
        for node in nodes
    }
    started: dict[str, int] = {}
    ended: dict[str, int] = {}
    there: dict[tuple[str, int, str], int] = {}  # when a tensor is on a device
    line: dict[tuple[str, str], list[tuple[str, int, str]]] = {}
    link_busy: dict[tuple[str, str], int] = {}
    busy: dict[str, int] = {}
    for device in {node.device for node in stage}:
        busy[device] = 0
    for node in stage:
        if node.type == "Const":
            for device in busy:
                there[node.name, 0, device] = there[node.name, -1, device] = 0
    ready: list[str] = []
    done = set()

    def end(name: str) -> None:
        """What waits for `name` last takes its place in the queue."""
        done.add(name)
        for reader in nodes:
            if reader.name not in ready and all(source in done for source, _ in reads[reader.name]):
                ready.append(reader.name)

    for node in stage:
        if node.type == "Const":
            end(node.name)
    now = 0
    while len(ended) < len(nodes) or now == 0:
        for node in nodes:
            if node.name in started and started[node.name] + costs.compute_ns(node, node.device) == now:
                ended[node.name] = now
                end(node.name)
                for reader in nodes:
                    for name, slot in reads[reader.name]:
                        key = (name, slot, reader.device)
                        if name == node.name and key not in there:
                            if reader.device == node.device:
                                there[key] = now
                            elif key not in line.setdefault((node.device, reader.device), []):
                                line[node.device, reader.device].append(key)
        for way, keys in line.items():
            for key in list(keys):
                if key in there:
                    continue
                if not shared:
                    there[key] = now + int(costs.transfer)
                elif link_busy.get(way, 0) <= now:
                    there[key] = link_busy[way] = now + int(costs.transfer)
        for device, until in busy.items():
            if until > now:
                continue
            waiting = []
            for node in nodes:
                keys = [(name, slot, device) for name, slot in reads[node.name]]
                if (
                    node.device == device
                    and node.name not in started
                    and all(there.get(key, now + 1) <= now for key in keys)
                ):
                    waiting.append(
                        (max((there[key] for key in keys), default=0), ready.index(node.name), node)
                    )
            if waiting:
                _, _, node = min(waiting, key=lambda each: each[:2])
                started[node.name] = now
                busy[device] = now + int(costs.compute_ns(node, device))
        now += 1
        assert now < 10_000
    return {name: (started[name], ended[name]) for name in started}


def tables(stage: Stage, draw: Any) -> dict[tuple[str, str], float]:
    whole = st.integers(1, 6)
    return {(node.name, device.name): draw(whole) for node in stage for device in TWO if node.type != "Const"}


def busy_nodes(stage: Stage) -> list[str]:
    return [node.name for node in stage if node.type != "Const"]


def placements(stage: Stage) -> Iterable[dict[str, str]]:
    """Every way to put the nodes on two devices; a constant is with its first reader."""
    names = busy_nodes(stage)
    for chosen in itertools.product([device.name for device in TWO], repeat=len(names)):
        devices = dict(zip(names, chosen, strict=True))
        yield {name: devices.get(name) or devices[stage.consumers[name][0]] for name in stage.nodes}


@examples(20)
@given(st.data(), st.booleans())
def test_the_simulator_agrees_with_one_that_goes_tick_by_tick(data: Any, shared: bool) -> None:
    stage = data.draw(small())
    costs = TableCosts(tables(stage, data.draw), data.draw(st.integers(1, 5)))
    every = list(placements(stage))
    for devices in (
        every if len(every) <= 16 else data.draw(st.lists(st.sampled_from(every), min_size=16, max_size=16))
    ):
        placed = on(stage, devices)
        prediction = simulate(placed, costs, TWO, shared_links=shared)
        found = {
            span.node: (span.start_ns, span.end_ns)
            for span in prediction.spans
            if span.node in busy_nodes(stage)
        }
        assert found == ticks(placed, costs, shared)
        assert prediction.makespan_ns == max(end for _, end in found.values())


@examples(15)
@given(st.data())
def test_greedy_lies_between_the_best_of_all_placements_and_the_best_device(data: Any) -> None:
    stage = data.draw(small(most=7))
    costs = TableCosts(tables(stage, data.draw), data.draw(st.integers(0, 5)))
    placed = place(stage, TWO, PlacementOptions(placement="greedy"), costs)
    greedy = simulate(placed, costs, TWO, shared_links=False).makespan_ns
    best = min(
        simulate(on(stage, devices), costs, TWO, shared_links=False).makespan_ns
        for devices in placements(stage)
    )
    alone = [
        simulate(
            on(stage, dict.fromkeys(stage.nodes, device.name)), costs, TWO, shared_links=False
        ).makespan_ns
        for device in TWO
    ]
    assert best <= greedy <= min(alone)
    for device, makespan in zip(TWO, alone, strict=True):  # one device is never idle
        assert makespan == sum(costs.compute[name, device.name] for name in busy_nodes(stage))


@examples(20)
@given(st.data(), st.integers(1, 4))
def test_greedy_keeps_grahams_bound_where_transfers_are_free(data: Any, count: int) -> None:
    """List scheduling on m equal machines takes at most W/m + (1 - 1/m) C (Graham 1969): W all work, C the longest chain."""
    stage = data.draw(small(most=12))
    devices = cpus(count)
    work = {node.name: data.draw(st.integers(1, 9)) for node in stage if node.type != "Const"}
    costs = TableCosts({(name, device.name): ns for name, ns in work.items() for device in devices}, 0)
    constraints = Constraints(stage, devices, soft=False)
    greedy = Greedy(constraints)
    flow = flow_of(stage)
    timeline = Timeline(unroll(stage, flow, costs.assumptions), costs, devices, {}, choose=greedy).run()
    chain: dict[str, float] = {}
    for name in flow.order:
        before = [source for source, _ in stage.nodes[name].inputs] + list(stage.nodes[name].control_inputs)
        chain[name] = work.get(name, 0) + max((chain[source] for source in before), default=0)
    longest = max(chain.values())
    assert timeline.makespan_ns <= sum(work.values()) / count + (1 - 1 / count) * longest + 1e-9
    assert timeline.makespan_ns >= max(longest, sum(work.values()) / count) - 1e-9
    # What it expected of each node is what came.
    for execution, end in zip(timeline.executions, timeline.end_ns, strict=True):
        name = execution.node.name
        if name in work:
            assert greedy.finish_ns[name][timeline.place[name]] == end


@examples(15)
@given(constrained(), st.integers(1, 2))
def test_what_greedy_saw_is_what_the_simulator_predicts(stage: Stage, gpus: int) -> None:
    devices = with_gpus(gpus, cpus=2)
    costs = StaticCosts(devices).on(stage)
    try:
        constraints = Constraints(stage, devices, soft=True)
    except tf.errors.InvalidArgumentError:
        return
    flow = flow_of(stage)
    timeline = Timeline(
        unroll(stage, flow, costs.assumptions), costs, devices, {}, choose=Greedy(constraints)
    ).run()
    seen = prediction_of(replace_place(timeline, stage, devices))
    placed = on(stage, timeline.place)
    predicted = simulate(placed, costs, devices, shared_links=False)
    assert predicted.spans == seen.spans
    assert set(predicted.transfers) == set(seen.transfers)
    assert predicted.makespan_ns == seen.makespan_ns
    assert predicted.peak_bytes == seen.peak_bytes
    # No instant passes in which nothing happens: a step is never longer than all of its work and all of its transfers.
    work = sum(span.end_ns - span.start_ns for span in predicted.spans)
    moved = sum(move.end_ns - move.start_ns for move in predicted.transfers)
    assert predicted.makespan_ns <= work + moved + 1e-6


def replace_place(timeline: Timeline, stage: Stage, devices: tuple[StandIn, ...]) -> Timeline:
    """What nobody reads has no place in a greedy simulation: give it the host's."""
    for name in stage.nodes:
        timeline.place.setdefault(name, devices[0].name)
    return timeline


def test_one_tensor_goes_to_a_device_once() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.exp(tf.constant(1.0, name="c"), name="x")
        y = [tf.exp(x, name=f"y{i}") for i in range(3)]
        with tf.control_dependencies([x.op]):
            tf.no_op(name="z")
        del y
    stage = Builder(graph).stage()
    devices = {name: TWO[1 if name[0] in "yz" else 0].name for name in stage.nodes}
    prediction = simulate(on(stage, devices), TableCosts({}, 5), TWO)
    assert sorted(move.tensor for move in prediction.transfers) == ["^x", "x:0"]


def loop_stage() -> Stage:
    with tf.Graph().as_default() as graph:

        def inner(j: Any, y: Any) -> Any:
            return j + 1, tf.multiply(y, 2.0, name="double")

        def body(i: Any, x: Any) -> Any:
            _, y = tf.while_loop(lambda j, y: j < 3, inner, [tf.constant(0), x])
            return i + 1, y

        tf.while_loop(lambda i, x: i < 2, body, [tf.constant(0), tf.constant(1.0)], name="outer")
    return Builder(graph).stage()


def test_loops_go_round_as_often_as_assumed() -> None:
    stage = loop_stage()
    frames = {node.attrs["frame_name"] for node in stage if node.opdef.flow == "enter"}
    outer, inner = sorted(frames, key=len)
    costs = TableCosts({}, 1, Assumptions(loops={outer: 2, inner: 3}))
    placed = place(stage, cpus(2), PlacementOptions(placement="greedy"), costs)
    spans = [span for span in simulate(placed, costs, cpus(2)).spans if span.node.endswith("double")]
    assert sorted(span.iteration for span in spans) == [(i, j) for i in range(2) for j in range(3)]
    assert [span.iteration for span in spans] == sorted(span.iteration for span in spans)


def test_a_loop_that_does_not_run_leaves_its_body_out() -> None:
    stage = loop_stage()
    costs = TableCosts({}, 1, Assumptions(iterations=0))
    placed = place(stage, cpus(2), PlacementOptions(placement="greedy"), costs)
    prediction = simulate(placed, costs, cpus(2))
    assert not any(span.node.endswith("double") for span in prediction.spans)
    assert any(stage.nodes[span.node].opdef.flow == "exit" for span in prediction.spans)


@pytest.mark.parametrize("taken", [True, False, None])
def test_a_conditional_goes_as_assumed_or_both_ways(taken: bool | None) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [], name="x")
        tf.cond(x > 0.0, lambda: tf.exp(x, name="yes"), lambda: tf.tanh(x, name="no"), name="choice")
    stage = Builder(graph).stage()
    costs = TableCosts({}, 1, Assumptions(taken={} if taken is None else {"Greater:0": taken}))
    placed = place(stage, cpus(1), PlacementOptions(placement="greedy"), costs)
    ran = {span.node for span in simulate(placed, costs, cpus(1)).spans}
    assert ("choice/yes" in ran, "choice/no" in ran) == {
        True: (True, False),
        False: (False, True),
        None: (True, True),
    }[taken]
    assert "choice/Merge" in ran


def test_peak_bytes_by_hand() -> None:
    """a (4 kB constant) → b → c → d: at most the constant and two of the others are alive; a copy of c is on the other device."""
    with tf.Graph().as_default() as graph:
        a = tf.placeholder(tf.float32, [1000], name="a")
        b = tf.exp(a, name="b")
        c = tf.exp(tf.reshape(b, [10, 100], name="view"), name="c")
        d = tf.exp(c, name="d")
        tf.exp(d, name="e")
    stage = Builder(graph).stage()
    devices = {name: TWO[1 if name in ("d", "e") else 0].name for name in stage.nodes}
    prediction = simulate(on(stage, devices), TableCosts({}, 1), TWO)
    constants = sum(
        node.output_shapes[0].num_elements() * 4
        for node in stage
        if node.type == "Const"  # type: ignore[operator]
    )
    assert prediction.peak_bytes == {TWO[0].name: 4000 + 2 * 4000 + constants, TWO[1].name: 2 * 4000}


def test_a_stage_must_be_placed_and_free_of_cycles() -> None:
    stage = loop_stage()
    with pytest.raises(ValueError, match="is on '', which is none of .*: place the stage first"):
        simulate(stage, TableCosts({}, 1), TWO)


def test_the_same_every_time() -> None:
    stage = loop_stage()
    runs = [place(stage, with_gpus(2, 2), PlacementOptions(placement="greedy")) for _ in range(2)]
    assert [node.decision for node in runs[0]] == [node.decision for node in runs[1]]
