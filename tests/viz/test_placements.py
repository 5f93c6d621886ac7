"""Several placements beside each other, and recorded devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import engine as tf
from engine.device.device import Device, make_devices
from engine.observe import Transfer
from engine.placement.costs import MeasuredCosts, StaticCosts
from engine.placement.measured import Measured
from viz.devices_model import devices_view, ends_of_key, plain_tensor, tensor_of_key, transfer_ways
from viz.draw_devices import draw_devices
from viz.draw_placements import draw_compared, draw_decisions, draw_lanes, draw_summary
from viz.palette import DARK
from viz.placement_model import Bar, Lane, decisions, fill, lanes_of, measured_lanes, placements


@pytest.fixture
def two() -> tuple[Device, ...]:
    return make_devices(
        tf.ConfigProto(device_count={"CPU": 1, "GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
    )


@pytest.fixture
def stage() -> Iterator[Any]:
    """Two large products that do not need each other, and their sum; not placed."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [512, 512], name="x")
        left, right = tf.matmul(x, x, name="left"), tf.matmul(x, x, transpose_b=True, name="right")
        y = tf.add(left, right, name="y")
        yield tf.Session().stage_for(y, [x])


def test_two_cpus_beat_one_when_two_products_may_run_at_once(stage: Any) -> None:
    devices = make_devices(tf.ConfigProto(device_count={"CPU": 2}))
    simple, greedy = placements(stage, devices, ["simple", "greedy"], StaticCosts(devices))
    assert simple.prediction.makespan_ns > 1.5 * greedy.prediction.makespan_ns
    assert simple.moved_bytes == 0 and greedy.moved_bytes >= 512 * 512 * 4
    on = {row.node: row.device for row in decisions(greedy)}
    assert on["left"] != on["right"]
    (row,) = [row for row in decisions(greedy) if row.node == "right"]
    assert set(row.finish_ns) == {device.name for device in devices} and row.reason
    assert row.finish_ns[row.device] == min(row.finish_ns.values())


def test_modelled_devices_are_called_so(stage: Any, two: tuple[Device, ...]) -> None:
    rows = placements(stage, two, ["greedy"], StaticCosts(two))
    lanes = lanes_of(rows[0], two)
    assert [lane.label for lane in lanes.lanes[:2]] == ["CPU:0", "GPU:0"]
    assert [lane.modelled for lane in lanes.lanes[:2]] == [False, True]
    assert all(lane.modelled for lane in lanes.lanes[2:])  # a way to or from a model is modelled too
    text = "\n".join(draw_lanes([lanes], DARK, 80).rows())
    assert "GPU:0*" in text and "* modelled: a model's times, not a device's" in text
    for drawing in (
        draw_lanes([lanes], DARK, 80),
        draw_summary(rows, two, DARK, 80),
        draw_decisions(rows[0], DARK, 80),
    ):
        assert max(map(len, drawing.rows())) <= 80


def test_a_measured_step_is_laid_beside(stage: Any) -> None:
    devices = make_devices(tf.ConfigProto(device_count={"CPU": 2}))
    name = devices[0].name
    measured = [
        Measured("left", name, 100.0, 1100.0),
        Measured("right", name, 1100.0, 1300.0),
        Measured("other", name, 1300.0, 1301.0),
    ]
    costs = MeasuredCosts({("left", "CPU"): 1000.0, ("right", "CPU"): 200.0}, StaticCosts(devices))
    (row,) = placements(stage, devices, ["simple"], costs, measured=measured)
    found = {each.node: each for each in row.compared}
    left = found["left"]
    assert left.predicted_start_ns is not None and left.predicted_end_ns is not None
    assert left.predicted_end_ns - left.predicted_start_ns == pytest.approx(1000.0)
    assert (left.measured_start_ns, left.measured_end_ns) == (0.0, 1000.0)
    assert found["other"].predicted_start_ns is None
    lanes = measured_lanes("measured", measured, {})
    assert lanes.length_ns == 1201.0 and lanes.lanes[0].busy_ns == 1201.0
    assert "1 only measured" in "\n".join(draw_compared(row, DARK, 80).rows())


def test_cells_are_filled_to_the_share_that_was_busy() -> None:
    lane = Lane("CPU:0", (Bar("a", 0.0, 15.0), Bar("b", 30.0, 40.0)))
    assert fill(lane, 40.0, 4).tolist() == [1.0, 0.5, 0.0, 1.0]
    assert fill(Lane("CPU:1", ()), 0.0, 3).tolist() == [0.0, 0.0, 0.0]


A, B = "/job:localhost/replica:0/task:0/device:CPU:0", "/job:localhost/replica:0/task:0/device:CPU:1"


def test_ways_and_keys() -> None:
    key = f"{A};00000001;{B};edge_3_w/read;0:0"
    assert tensor_of_key(key) == "w/read" and ends_of_key(key) == (A, B)
    assert plain_tensor("edge_x") == "edge_x" and plain_tensor("edge_12_a_b") == "a_b"
    transfers = [
        Transfer(key, A, B, 0, 0, 100, 5, 9, False),
        Transfer(key, A, B, 0, 1, 100, 6, 9, True),
        Transfer(key, B, A, 0, 0, 900, 7, 9, False),
    ]
    ways = transfer_ways(transfers)
    assert [(way.label, way.tensors, way.nbytes, way.dead) for way in ways] == [
        ("CPU:1 → CPU:0", 1, 900, 0),
        ("CPU:0 → CPU:1", 2, 100, 1),
    ]


def test_a_recorded_step_by_device(tmp_path: Any) -> None:
    import tracing
    from tracing.reader import Run

    with tf.Graph().as_default():
        with tf.device("/CPU:0"):
            x = tf.placeholder(tf.float32, [2], name="x")
            a = tf.square(x, name="a")
        with tf.device("/GPU:0"):
            b = tf.exp(a, name="b")
        config = tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
        with (
            tracing.record(tmp_path, name="two", tensorboard=False) as recorder,
            tf.Session(config=config) as session,
        ):
            session.run(b, {x: [1.0, 2.0]})
    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        stage = run.stage(step.stage_id)
        batches = [batch for each in run.partitions(step.id).values() for batch in each]
        states = run.devices(step.id)
        cpu, gpu_state = sorted(states, key=lambda state: state.type)
        assert (cpu.modelled, gpu_state.modelled) == (False, True) and "modelled" in gpu_state.description
        assert gpu_state.limit > 0 and {stream.name for stream in gpu_state.streams} >= {"compute"}
        view = devices_view(
            "step 1",
            stage,
            batches,
            run.transfers(step.id),
            run.allocations(step.id),
            step.started_ns,
            states,
        )
        assert stage.nodes["b"].decision is not None and stage.nodes["b"].decision.requested.endswith("GPU:0")
    assert {device.name.rpartition("device:")[2] for device in view.devices} == {"CPU:0", "GPU:0"}
    assert sum(device.ran for device in view.devices) == step.executions - step.dead
    there = next(way for way in view.ways if way.destination.endswith("GPU:0"))
    assert there.nbytes == 8  # float32[2]
    assert {row.tensor for row in view.sent} >= {"a"} and all(
        row.received_ns > row.sent_ns for row in view.sent
    )
    gpu = next(device for device in view.devices if device.modelled)
    assert gpu.memory and max(size for _, size in gpu.memory) >= 8
    text = "\n".join(draw_devices(view, DARK, 80).rows())
    assert "GPU:0  modelled" in text and "CPU:0 ⇢ GPU:0" in text and "modelling them took" in text
