"""Groups, feasible devices, soft placement, and the words of what cannot be."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_devices import StandIn, cpus, with_gpus
from placement_graphs import constrained
from searches import examples

import engine as tf
from engine.passes.build import Builder
from engine.passes.prune import prune
from engine.passes.stage import Stage, StageNode
from engine.placement.place import PlacementOptions, place
from engine.placement.specs import spec_of
from engine.placement.ties import class_ties, is_at_the_edge, is_follower, reference_ties, successors_of

GPU, CPU = with_gpus()[1].name, with_gpus()[0].name
DEVICES = with_gpus(count=2, cpus=2)


def built(program: Any) -> Stage:
    with tf.Graph().as_default() as graph:
        program()
    return Builder(graph).stage()


def devices_of(stage: Stage) -> dict[str, str]:
    return {node.name: node.device[-5:] for node in stage}


def check(placed: Stage, devices: tuple[StandIn, ...]) -> None:
    """Every node is where it may be, with what it must be with."""
    by_name = {device.name: device for device in devices}
    for node in placed:
        decision = node.decision
        assert decision is not None and decision.reason
        assert node.device in decision.possible
        for name in decision.possible:
            kernel = by_name[name].kernel(
                node.opdef, [d.base_dtype for d in (*node.input_dtypes, *node.output_dtypes)]
            )
            assert kernel is not None, (node.name, name)
        assert {placed.nodes[name].device for name in decision.colocated_with} <= {node.device}
        assert placed.nodes[node.name].lineage.by == "placed"
    before = placed.before
    assert before is not None
    for a, b in (*reference_ties(before), *class_ties(before, successors_of(before))):
        assert placed.nodes[a].device == placed.nodes[b].device


@examples(30)
@given(constrained(), st.sampled_from(["simple", "greedy"]))
def test_random_graphs_are_placed_where_they_can_be(stage: Stage, placement: str) -> None:
    placed, refused = attempt(stage, PlacementOptions(allow_soft_placement=True, placement=placement))
    if placed is not None:
        check(placed, DEVICES)
    else:
        # With soft placement only what no device can do: kernels that are not there, two variables asked for in two places.
        assert "because no device type supports both" in refused or "incompatible resource devices" in refused


@examples(30)
@given(constrained(most=6))
def test_what_is_asked_for_is_given_or_refused(stage: Stage) -> None:
    placed, refused = attempt(stage, PlacementOptions())
    if placed is None:
        assert ".py:" in refused
        assert refused.startswith(("Cannot ", "Nodes were connected by a reference"))
        return
    check(placed, DEVICES)
    for node in placed:
        decision = node.decision
        assert decision is not None
        if decision.requested and not is_follower(node) and "what it refers to is on" not in decision.reason:
            assert spec_of(decision.requested).matches(spec_of(node.device)), (node.name, decision)


def attempt(stage: Stage, options: PlacementOptions) -> tuple[Stage | None, str]:
    """The placed stage, or what is said against it."""
    try:
        return place(stage, DEVICES, options), ""
    except tf.errors.InvalidArgumentError as error:
        return None, str(error)


def test_a_follower_goes_with_its_data_whatever_was_asked() -> None:
    def program() -> None:
        with tf.device("/cpu:1"):
            x = tf.exp(tf.constant(1.0), name="x")
        with tf.device("/cpu:0"):
            p = tf.identity(tf.constant(True), name="p")
            tf.raw_ops.Switch(x, p, name="switch")

    placed = place(built(program), cpus(2), PlacementOptions())
    assert placed.nodes["switch"].device[-5:] == "CPU:1"
    assert "stays with its data" in placed.nodes["switch"].decision.reason  # type: ignore[union-attr]


def test_control_flow_that_follows_nothing_but_itself_is_where_it_was_asked_to_be() -> None:
    def program() -> None:
        with tf.device("/cpu:1"):
            start = tf.placeholder(tf.float32, [], name="start")
            entered = tf.raw_ops.Enter(start, frame_name="f", is_constant=True, name="enter")
            tf.raw_ops.Switch(entered, tf.raw_ops.LoopCond(tf.constant(True)), name="switch")

    placed = place(built(program), cpus(2), PlacementOptions())
    assert devices_of(placed)["enter"] == devices_of(placed)["switch"] == "CPU:1"


def test_a_gpu_is_preferred_where_there_are_kernels() -> None:
    def program() -> None:
        x = tf.exp(tf.constant([1.0]), name="x")
        tf.as_string(x, name="text")

    placed = place(built(program), with_gpus(), PlacementOptions())
    assert devices_of(placed) == {"Const": "GPU:0", "x": "GPU:0", "text": "CPU:0"}
    assert placed.nodes["x"].decision.possible == (GPU, CPU)  # type: ignore[union-attr]
    assert placed.nodes["text"].decision.possible == (CPU,)  # type: ignore[union-attr]


def test_a_custom_kind_of_device_is_used_where_it_is_asked_for() -> None:
    def program() -> None:
        x = tf.exp(tf.constant([1.0]), name="x")
        with tf.device("/device:NPU:0"):
            tf.tanh(x, name="there")

    devices = (*cpus(1), StandIn("NPU", 0))
    assert devices_of(place(built(program), devices, PlacementOptions())) == {
        "Const": "CPU:0",
        "x": "CPU:0",
        "there": "NPU:0",
    }


def test_no_kernel_where_it_is_asked_for() -> None:
    def program() -> None:
        with tf.device("/gpu:0"):
            tf.as_string(tf.constant([1.0]), name="text")

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        place(built(program), with_gpus(), PlacementOptions())
    message = caught.value.message
    assert message.startswith(
        "Cannot assign a device for operation text: Could not satisfy explicit device specification '/device:GPU:0' because no "
        "supported kernel for GPU devices is available: text (defined at "
    )
    assert message.endswith("(AsString), whose kernels are for CPU")
    placed = place(built(program), with_gpus(), PlacementOptions(allow_soft_placement=True))
    assert placed.nodes["text"].device == CPU
    assert "/device:GPU:0 was asked for" in placed.nodes["text"].decision.reason  # type: ignore[union-attr]


def test_no_kind_of_device_for_a_group_names_both() -> None:
    """A variable of strings has no kernel on a GPU; here a device that has nothing else makes the two sides disjoint."""

    class Odd(StandIn):
        def kernel(self, opdef: Any, dtypes: Any) -> Any:
            return opdef.kernel if opdef.name == "AsString" else None

    class Even(StandIn):
        def kernel(self, opdef: Any, dtypes: Any) -> Any:
            return opdef.kernel if opdef.name != "AsString" else None

    def program() -> None:
        x = tf.constant([1.0], name="x")
        with tf.get_default_graph().colocate_with(x.op):
            tf.as_string(x, name="text")

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        place(built(program), (Even("CPU", 0), Odd("GPU", 0)), PlacementOptions(allow_soft_placement=True))
    message = caught.value.message
    assert "Cannot colocate nodes text (defined at " in message and ") and x (defined at " in message
    assert (
        "because no device type supports both of those nodes and the other nodes colocated with them"
        in message
    )
    assert (
        "(AsString), whose kernels are for GPU" in message and "(Const), whose kernels are for CPU" in message
    )


def test_no_kernel_anywhere() -> None:
    class Nothing(StandIn):
        def kernel(self, opdef: Any, dtypes: Any) -> Any:
            return None

    with pytest.raises(
        tf.errors.InvalidArgumentError, match="No OpKernel was registered to support Op 'Const'.*float32"
    ):
        place(built(lambda: tf.constant(1.0)), (Nothing("CPU", 0),), PlacementOptions())


def test_a_group_that_is_asked_for_in_halves() -> None:
    """Each request alone could be had: a job here, a device there that this job does not have."""

    def program() -> None:
        with tf.device("/job:localhost"):
            x = tf.exp(tf.constant(1.0), name="x")
        with tf.get_default_graph().colocate_with(x.op):
            y = tf.exp(x, name="y")
        y.op._set_device("/cpu:5")

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        place(built(program), cpus(2), PlacementOptions())
    assert (
        "was colocated with a group of nodes that required incompatible device '/job:localhost/device:CPU:5'. All available "
        f"devices [{cpus(2)[0].name}, {cpus(2)[1].name}]." in caught.value.message
    )
    assert caught.value.hint is not None and "y (defined at" in caught.value.hint


def test_a_target_that_was_pruned_away_still_says_where() -> None:
    def program() -> None:
        with tf.device("/cpu:1"):
            gone = tf.exp(tf.constant(1.0), name="gone")
        kept = tf.exp(tf.constant(2.0), name="kept")
        kept.op.attrs["_class"] = ("loc:@gone",)
        also = tf.tanh(kept, name="also")
        also.op.attrs["_class"] = ("loc:@gone",)
        del gone

    stage = prune(built(program), [], ["also:0"], [])
    assert "gone" not in stage.nodes
    placed = place(stage, cpus(2), PlacementOptions())
    assert devices_of(placed)["kept"] == devices_of(placed)["also"] == "CPU:1"


def test_a_target_that_a_pass_has_merged_into_another_node_is_that_node() -> None:
    def program() -> None:
        first = tf.exp(tf.constant(1.0), name="first")
        follower = tf.tanh(first, name="follower")
        follower.op.attrs["_class"] = ("loc:@first",)

    before = built(program)
    nodes: dict[str, StageNode] = {}
    for node in before:
        name = "renamed" if node.name == "first" else node.name
        inputs = tuple(("renamed" if source == "first" else source, slot) for source, slot in node.inputs)
        lineage = replace(node.lineage, sources=(node.name,), by="pass")
        device = "/device:CPU:1" if name == "renamed" else ""
        nodes[name] = replace(node, name=name, inputs=inputs, lineage=lineage, device=device)
    placed = place(Stage("pass", MappingProxyType(nodes), before=before), cpus(2), PlacementOptions())
    assert devices_of(placed)["follower"] == "CPU:1"


def variable_graph() -> Stage:
    def program() -> None:
        v = tf.Variable([1.0], name="v")
        tf.exp(v, name="y")
        changed = tf.assign(v, [2.0], name="set")
        changed.op._set_device("/device:GPU:1")  # which an imported graph may ask for

    return built(program)


def test_a_variable_is_where_all_of_its_users_can_be_whichever_of_them_run() -> None:
    stage = variable_graph()
    for fetch in ("y:0", "set:0", "v/Assign:0"):
        placed = place(prune(stage, [], [fetch], []), DEVICES, PlacementOptions())
        assert placed.nodes["v"].device[-5:] == "GPU:1", fetch


def test_a_variable_stays_where_an_earlier_program_has_put_it() -> None:
    def program() -> None:
        tf.exp(tf.Variable([1.0], name="v"), name="y")

    stage = built(program)
    homes = {"/v": DEVICES[1].name}
    for placement in ("simple", "greedy"):
        options = PlacementOptions(placement=placement)
        placed = place(prune(stage, [], ["y:0"], []), DEVICES, options, homes=homes)
        decision = placed.nodes["v"].decision
        assert placed.nodes["v"].device == DEVICES[1].name and decision is not None
        assert decision.reason == "the variable 'v' is there in every step of the session"
    found: dict[str, str] = {}
    place(prune(stage, [], ["y:0"], []), DEVICES, PlacementOptions(), homes=found)
    assert found == {"/v": DEVICES[2].name}


def test_initializing_variables_does_not_bind_them() -> None:
    """Two towers with zeros for a start: greedily each goes with its product, though the initializers come first."""

    def program() -> None:
        x = tf.placeholder(tf.float32, [64, 512], name="x")
        for i in range(2):
            w = tf.Variable(tf.zeros([512, 512]), name=f"w{i}")
            tf.matmul(x, w, name=f"y{i}")
        tf.group(*(v.initializer for v in tf.global_variables()), name="init")

    stage, devices, homes = built(program), cpus(2), dict[str, str]()
    greedy = PlacementOptions(placement="greedy")
    first = place(prune(stage, [], [], ["init"]), devices, greedy, homes=homes)
    assert sorted(homes) == ["/w0", "/w1"] and len(set(homes.values())) == 2
    second = place(prune(stage, ["x:0"], ["y0:0", "y1:0"], []), devices, greedy, homes=homes)
    for i in range(2):
        assert first.nodes[f"w{i}"].device == second.nodes[f"w{i}"].device == second.nodes[f"y{i}"].device


def test_fed_and_fetched_values_are_on_the_host() -> None:
    def program() -> None:
        with tf.device("/gpu:0"):
            tf.exp(tf.placeholder(tf.float32, [2], name="x"), name="y")

    stage = prune(built(program), ["x:0"], ["y:0"], [])
    placed = place(stage, with_gpus(), PlacementOptions())
    edge = [node for node in placed if is_at_the_edge(node)]
    assert len(edge) == 2 and {node.device for node in edge} == {CPU}
    assert placed.nodes["y"].device == GPU


def test_log_device_placement(caplog: pytest.LogCaptureFixture) -> None:
    """The line is TensorFlow's: what its placer.cc:162 logs for the same program."""
    stage = prune(
        built(lambda: tf.exp(tf.placeholder(tf.float32, [], name="x"), name="y")), ["x:0"], ["y:0"], []
    )
    with caplog.at_level(logging.INFO, logger="engine.placement"):
        place(stage, cpus(1), PlacementOptions(log_device_placement=True))
    assert [record.getMessage() for record in caplog.records] == [
        "y: (Exp): /job:localhost/replica:0/task:0/device:CPU:0"
    ]


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="placement is one of 'simple', 'greedy', not 'best'"):
        PlacementOptions(placement="best")


def test_a_target_that_a_pass_has_removed_still_says_where() -> None:
    """The way that sessions go: a constant that folding takes, an op that leads nowhere since, a name that there never was."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2], name="x")
        with tf.device("/cpu:1"):
            folded = tf.add(tf.constant(1.0), 2.0, name="folded")
            useless = tf.multiply(x, folded * 0.0 + 1.0, name="useless")
        with tf.colocate_with(folded.op):
            a = tf.exp(x, name="a")
        with tf.colocate_with(useless.op):
            b = tf.sin(useless * 3.0, name="b")
        c = tf.tanh(a + b, name="c")
        c.op.attrs["_class"] = ("loc:@nowhere",)
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            stage = next(each for each in session.stage_for(c, [x]).chain() if each.name == "placed")
            (found,) = session.run([c], {x: [0.5, 1.0]})
    assert {"folded", "useless"}.isdisjoint(stage.nodes)
    assert stage.nodes["a"].device == stage.nodes["b"].device == DEVICES[1].name
    assert stage.nodes["c"].device
    np.testing.assert_allclose(found, np.tanh(np.exp([0.5, 1.0]) + np.sin([1.5, 3.0])), rtol=1e-6)
