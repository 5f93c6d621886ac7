"""What a partition looks like: where it is cut, with what, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from spread import check_whole, cpus, pruned, run, same

import engine as tf
from engine.partition.late import schedule
from engine.partition.options import PartitionOptions
from engine.partition.partition import partition
from engine.passes.stage import Stage
from engine.runtime.metadata import partition_graphs
from engine.types import errors

DEVICES = cpus(3)
NAMES = [device.name for device in DEVICES]
AS_SOON_AS_POSSIBLE = PartitionOptions(late_bytes=None)


def placed(stage: Stage, at: Mapping[str, int], default: int = 0) -> Stage:
    """`stage` with each node on the device with the number in `at`, by name or by the name before the first slash."""
    nodes = {
        name: replace(node, device=NAMES[at.get(name, at.get(name.partition("/")[0], default))])
        for name, node in stage.nodes.items()
    }
    return replace(stage, name="placed", nodes=MappingProxyType(nodes), before=stage)


def parts(
    fetches: list[Any], at: Mapping[str, int], options: PartitionOptions | None = AS_SOON_AS_POSSIBLE
) -> Stage:
    return partition(placed(pruned(tf.get_default_graph(), fetches), at), DEVICES, options)


def of_type(stage: Stage, kind: str) -> list[Any]:
    return [node for node in stage if node.type == kind]


def test_a_tensor_goes_to_a_device_once() -> None:
    x = tf.constant([1.0, 2.0], name="x")
    outs = [tf.sqrt(x, name="a"), tf.square(x, name="b"), tf.negative(x, name="c")]
    stage = parts([tf.add_n(outs, name="sum")], {"a": 1, "b": 1, "c": 2, "sum": 0})
    check_whole(stage)
    sent = Counter((node.inputs[0], node.attrs["recv_device"]) for node in of_type(stage, "_Send"))
    assert sent == {
        (("x", 0), NAMES[1]): 1,
        (("x", 0), NAMES[2]): 1,
        (("a", 0), NAMES[0]): 1,
        (("b", 0), NAMES[0]): 1,
        (("c", 0), NAMES[0]): 1,
    }
    send = stage.nodes["x/_Send_CPU_1"]
    assert send.lineage.by == "partitioned" and send.lineage.sources == ("x",)
    assert send.lineage.reason == "sends x:0 from CPU:0 to CPU:1"
    assert stage.origin("x/_Recv_CPU_1") == ("x",) and stage.nodes["x/_Recv_CPU_1"].site is x.op.site
    assert send.attrs["send_device"] == NAMES[0] and send.attrs["tensor_name"].endswith("_x")
    assert send.attrs["send_device_incarnation"] % (1 << 64) == DEVICES[0].incarnation
    assert not send.attrs["client_terminated"]
    graphs = partition_graphs(stage)
    assert [{node.device for node in graph.node} for graph in graphs] == [{name} for name in stage.devices]
    assert sum(len(graph.node) for graph in graphs) == len(stage)


def test_outputs_of_one_node_are_sent_each_by_itself() -> None:
    first, second = tf.split(tf.constant([[1.0], [2.0]], name="x"), 2, name="pieces")
    stage = parts(
        [tf.add(first, second, name="sum"), tf.subtract(second, first, name="difference")],
        {"sum": 1, "difference": 1},
    )
    assert {node.inputs[0] for node in of_type(stage, "_Send") if node.attrs["recv_device"] == NAMES[1]} == {
        ("pieces", 0),
        ("pieces", 1),
    }
    assert [float(value[0, 0]) for value in run(stage, devices=DEVICES).results] == [3.0, 1.0]


def test_a_control_edge_is_carried_by_an_empty_constant() -> None:
    v = tf.Variable(1.0, name="v")
    changed = tf.assign(v, 5.0, name="assign")
    with tf.control_dependencies([changed]):
        late = tf.constant(2.0, name="late")
        later = tf.constant(3.0, name="later")
    stage = parts([tf.add(late, later, name="sum")], {"late": 1, "later": 1, "sum": 1})
    check_whole(stage)
    (dummy,) = [node for node in of_type(stage, "Const") if "_control" in node.name]
    assert dummy.control_inputs == ("assign",) and dummy.attrs["value"].shape == (0,)
    (recv,) = [node for node in of_type(stage, "_Recv") if node.attrs["recv_device"] == NAMES[1]]
    assert stage.nodes["late"].control_inputs == stage.nodes["later"].control_inputs == (recv.name,)


def test_what_stays_on_one_device_is_left_alone() -> None:
    x = tf.constant(1.0, name="x")
    before = placed(pruned(tf.get_default_graph(), [tf.sqrt(x)]), {}, default=1)
    assert partition(before, DEVICES) is before


def test_a_loop_on_one_device_gets_no_control_loop() -> None:
    _, total = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2.0), [0, 1.0], name="loop")
    stage = parts([tf.sqrt(total, name="root")], {"root": 1})
    assert len(of_type(stage, "LoopCond")) == 1 and not [node for node in stage if "_control/" in node.name]


def spread_loop() -> tuple[Any, dict[str, int]]:
    def body(i: Any, x: Any) -> Any:
        return i + 1, tf.multiply(tf.add(x, 1.0, name="there"), 2.0, name="back")

    _, total = tf.while_loop(lambda i, x: i < 3, body, [0, 1.0], name="loop")
    return total, {"loop/there": 1, "loop/there/y": 1}


def test_each_participant_of_a_loop_gets_a_control_loop() -> None:
    total, at = spread_loop()
    stage = parts([total], at)
    check_whole(stage)
    for device in (0, 1):
        scope = f"loop/while_context/_control/CPU_{device}"
        kinds = ["Const", "Enter", "Merge", "Switch", "NextIteration"]
        const, enter, merge, switch, around = (stage.nodes[f"{scope}/{kind}"] for kind in kinds)
        assert {each.device for each in (const, enter, merge, switch, around)} == {NAMES[device]}
        assert enter.attrs["frame_name"] == "loop/while_context" and enter.attrs["parallel_iterations"] == 10
        assert merge.inputs == ((enter.name, 0), (around.name, 0))
        assert switch.inputs[0] == (merge.name, 0) and around.inputs == ((switch.name, 1),)
        pred = stage.nodes[switch.inputs[1][0]]
        assert (pred.type, pred.device) == (("LoopCond", NAMES[0]) if device == 0 else ("_Recv", NAMES[1]))
        inside = [node for node in of_type(stage, "_Recv") if node.device == NAMES[device]]
        assert inside and all(node.control_inputs == (merge.name,) for node in inside)
    assert stage.nodes["loop/while_context/_control/CPU_1/Merge"].lineage.sources == ("loop/LoopCond",)
    result = run(stage, devices=DEVICES)
    assert result.results == [22.0]
    there = [(iteration, dead) for name, _, iteration, dead in result.executed if name == "loop/there"]
    assert sorted(there) == [(0, False), (1, False), (2, False), (3, True)]


def test_the_control_loops_of_nested_loops_feed_each_other() -> None:
    def inner(x: Any) -> Any:
        return tf.while_loop(
            lambda j, y: j < 2, lambda j, y: (j + 1, tf.add(y, 1.0, name="there")), [0, x], name="in"
        )[1]

    _, total = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, inner(x)), [0, 0.0], name="out")
    stage = parts([total], {"out/in/there": 1, "out/in/there/y": 1})
    check_whole(stage)
    for device in (0, 1):
        enter = stage.nodes[f"out/in/while_context/_control/CPU_{device}/Enter"]
        assert enter.inputs == ((f"out/while_context/_control/CPU_{device}/Merge", 0),)
    assert run(stage, devices=DEVICES).results == [6.0]


def test_switches_and_loop_edges_move_to_their_neighbours() -> None:
    total, at = spread_loop()
    moved = {"loop/NextIteration_1": 2, "loop/Enter_1": 2, "loop/Switch_1": 2, "loop/Exit_1": 2}
    stage = parts([total], {**at, **moved})
    assert {stage.nodes[name].device for name in moved} == {NAMES[0]}
    assert stage.nodes["loop/NextIteration_1"].lineage.reason == "moved to CPU:0, where 'loop/Merge_1' is"
    assert run(stage, devices=DEVICES).results == [22.0]


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.int32])
def test_float32_may_be_shortened_on_the_wire(dtype: Any) -> None:
    values = [1.0, 3.14159265, -2.71828] if dtype is not tf.int32 else [1, 2, 70_001]
    x = tf.constant(values, dtype, name="x")
    stage = parts([tf.identity(x, name="y")], {"y": 1}, PartitionOptions(wire="bfloat16", late_bytes=None))
    check_whole(stage)
    (result,) = run(stage, devices=DEVICES).results
    want = np.array(values, dtype.np_dtype)
    if dtype is tf.float32:
        # There and back: the lower half of each float's bits dropped.
        want = (want.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        assert {node.attrs["T"].name for node in of_type(stage, "_Send")} == {"bfloat16"}
    assert same(result, want)


def test_an_unknown_way_to_send_is_refused() -> None:
    with pytest.raises(ValueError, match="'' or 'bfloat16', not 'int8'"):
        PartitionOptions(wire="int8")


def test_a_variable_is_read_when_its_reader_would_read_it() -> None:
    """One reader before and one after an assignment, both on another device, of the variable itself."""
    v = tf.Variable(1.0, name="v")
    ref = v._variable if hasattr(v, "_variable") else v.op.outputs[0]
    early = tf.add(ref, 0.0, name="early")
    with tf.control_dependencies([early]):
        change = tf.assign(v, 5.0, name="assign")
    with tf.control_dependencies([change]):
        late = tf.add(ref, 0.0, name="late")
    start = pruned(tf.get_default_graph(), [], targets=[v.initializer.name])
    stage = parts([early, late], {"early": 1, "late": 1})
    check_whole(stage)
    assert len([node for node in of_type(stage, "_Send") if node.inputs[0] == ("v", 0)]) == 2
    from engine.runtime.resources import ResourceManager

    resources = ResourceManager()
    run(start, resources=resources)
    assert run(stage, devices=DEVICES, resources=resources).results == [1.0, 5.0]


def test_a_reference_does_not_travel() -> None:
    v = tf.Variable(1.0, name="v")
    change = tf.assign(v, 5.0, name="assign")
    with pytest.raises(errors.InvalidArgumentError) as caught:
        parts([change], {"assign": 1})
    text = str(caught.value)
    assert "'assign' on CPU:1 needs a reference to 'v'" in text and "which is on CPU:0" in text
    assert text.count("test_partition.py:") >= 2


def test_a_loop_without_a_condition_cannot_be_spread() -> None:
    raw = tf.raw_ops
    inside = raw.Enter(data=tf.constant(1.0), frame_name="frame", name="enter")
    there = tf.negative(inside, name="there")
    with pytest.raises(
        errors.InvalidArgumentError, match="loop 'frame' is on several devices and has no LoopCond"
    ):
        parts([raw.Exit(data=tf.sqrt(there, name="here"))], {"there": 1})


def test_receives_are_held_back_until_shortly_before_they_are_needed() -> None:
    """Twenty tensors, all there from the start, needed one after the other: few wait on the receiving device at any time."""
    size = 20
    made = [tf.fill([100], float(i), name=f"made_{i}") for i in range(size)]
    total = made[0]
    for i in range(1, size):
        total = tf.add(total, made[i], name=f"used_{i}")

    def most_waiting(options: PartitionOptions) -> int:
        stage = parts([total], {f"used_{i}": 1 for i in range(size)}, options)
        check_whole(stage)
        ran = run(stage, devices=DEVICES)
        assert ran.results[0][0] == sum(range(size))
        waiting = most = 0
        for name, *_ in ran.executed:
            received, used = name.endswith("_Recv_CPU_1"), name.startswith("used_") and "/" not in name
            waiting += received - used
            most = max(most, waiting)
        return most

    assert most_waiting(AS_SOON_AS_POSSIBLE) > 15
    assert most_waiting(PartitionOptions(late_bytes=400)) < 6
    assert most_waiting(PartitionOptions(late_bytes=401)) > 15  # each has 400 bytes


def test_times_respect_every_edge_across_devices() -> None:
    total, at = spread_loop()
    stage = parts([tf.sqrt(total, name="root")], {**at, "root": 2})
    from engine.placement.flow import flow_of

    sends = {node.attrs["tensor_name"]: node.name for node in of_type(stage, "_Send")}
    routes = {sends[node.attrs["tensor_name"]]: node.name for node in of_type(stage, "_Recv")}
    times = schedule(stage.nodes, flow_of(stage).frames, routes)
    for node in stage:
        assert times.earliest[node.name] <= times.latest[node.name]
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            if stage.nodes[source].type != "NextIteration":
                assert times.earliest[source] + times.takes[source] <= times.earliest[node.name]
                assert times.latest[source] + times.takes[source] <= times.latest[node.name]
    for send, recv in routes.items():
        assert times.latest[send] + times.takes[send] <= times.latest[recv]
