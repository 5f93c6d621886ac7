"""RunMetadata and GraphDefs of stages: what their readers need is there, in every record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto import config_pb2, graph_pb2

from engine.observe import Executions, TraceLevel
from engine.runtime.metadata import fill, run_metadata, stage_graph_def
from tracing.collapse import Collapsed
from tracing.metadata import step_metadata
from tracing.reader import Run
from tracing.recorder import Recorder


def _metadata(synthetic: Any, count: int = 12, with_health: bool = True) -> Any:
    stage = synthetic.small_stage()
    batch = synthetic.executions(stage, count, start_ns=5_000_000)
    found = [synthetic.health(count)] if with_health else []
    return run_metadata(
        stage, [batch], found, started_ns=5_000_000, started_unix_ns=1_700_000_000_000_000_000
    )


def test_a_record_for_every_live_execution(synthetic: Any) -> None:
    (device,) = _metadata(synthetic).step_stats.dev_stats
    assert device.device == synthetic.cpu
    order = synthetic.small_stage().order
    assert [record.node_name for record in device.node_stats] == [
        order[i % 5] for i in range(12) if i % 7 != 6
    ]
    assert dict(device.thread_names) == {11: "thread 11"}


def test_times_are_on_the_wall_clock(synthetic: Any) -> None:
    (device,) = _metadata(synthetic).step_stats.dev_stats
    start = 1_700_000_000_000_000_000
    for number, record in zip((0, 1, 2, 3, 4, 5, 7), device.node_stats):
        assert record.all_start_nanos == start + 2000 * number
        assert record.all_start_micros == (start + 2000 * number) // 1000
        assert record.op_end_rel_nanos == record.all_end_rel_nanos == 1000 + number
        # A microsecond and a nanosecond are rounded up: what began does not end early.
        assert record.op_end_rel_micros == record.all_end_rel_micros == (1 if number == 0 else 2)
        assert record.op_start_rel_micros == 0
        assert record.thread_id == 11


def test_no_execution_takes_zero_microseconds(synthetic: Any) -> None:
    stage = synthetic.small_stage()
    times = np.array([7, 8, 9], np.int64)
    batch = Executions(
        device="",
        first=0,
        node=np.arange(3, dtype=np.int32),
        frame=np.zeros(3, np.int32),
        iteration=np.zeros(3, np.int64),
        start_ns=times,
        end_ns=times + np.array([0, 1, -5]),
        thread=np.array([-1, 0, 1], np.int32),
        dead=np.zeros(3, bool),
    )
    (device,) = run_metadata(stage, [batch], started_ns=0, started_unix_ns=0).step_stats.dev_stats
    assert device.device.endswith("CPU:0")
    assert [record.all_end_rel_micros for record in device.node_stats] == [1, 1, 1]
    assert [record.all_end_rel_nanos for record in device.node_stats] == [0, 1, 0]


def test_labels_are_tensorflows(synthetic: Any) -> None:
    (device,) = _metadata(synthetic).step_stats.dev_stats
    labels = [record.timeline_label for record in device.node_stats][:5]
    assert labels[3] == "layer/matmul = MatMul(x, layer/w)"
    assert labels[4] == "loss = Sum(layer/matmul, ^layer/big)"


def test_every_output_has_a_shape(synthetic: Any) -> None:
    (device,) = _metadata(synthetic).step_stats.dev_stats
    shapes = []
    for record in device.node_stats:
        for output in record.output:
            assert output.tensor_description.HasField("shape")
            assert output.tensor_description.dtype == 1
            shapes.append(tuple(dim.size for dim in output.tensor_description.shape.dim))
    assert shapes[:4] == [(), (2, 3), (0,), ()]
    assert [record.memory[0].total_bytes if record.memory else 0 for record in device.node_stats][:4] == [
        4,
        24,
        0,
        4,
    ]


def test_without_health_there_are_no_outputs(synthetic: Any) -> None:
    (device,) = _metadata(synthetic, with_health=False).step_stats.dev_stats
    assert not any(record.output or record.memory for record in device.node_stats)


def test_a_message_of_the_caller_is_filled(synthetic: Any) -> None:
    made = _metadata(synthetic)
    message = config_pb2.RunMetadata()
    message.step_stats.dev_stats.add(device="old")
    fill(message, made)
    assert message == made


def test_a_recorded_step_gives_the_same(recorders: Callable[..., Recorder], synthetic: Any) -> None:
    recorder = recorders(TraceLevel.VALUES)
    stage = synthetic.small_stage()
    info = synthetic.step_info(stage)
    batches = [
        synthetic.executions(stage, 10, 0, "cpu"),
        synthetic.executions(stage, 5, 10, "gpu"),
        synthetic.executions(stage, 8, 15, "cpu"),
    ]
    recorder.step_begin(info)
    for batch in batches:
        recorder.executions(info, batch)
    recorder.health(info, synthetic.health(23))
    recorder.step_end(info, info.started_ns, None)
    told = run_metadata(
        stage,
        batches,
        [synthetic.health(23)],
        started_ns=info.started_ns,
        started_unix_ns=info.started_unix_ns,
    )
    with Run.open(recorder.path) as run:
        assert step_metadata(run, info.id) == told


def test_a_stage_is_a_graph_def(synthetic: Any) -> None:
    message = stage_graph_def(synthetic.small_stage(), add_shapes=True)
    message = graph_pb2.GraphDef.FromString(message.SerializeToString())
    nodes = {node.name: node for node in message.node}
    assert list(nodes) == ["x", "layer/w", "layer/big", "layer/matmul", "loss"]
    assert nodes["loss"].op == "Sum"
    assert list(nodes["loss"].input) == ["layer/matmul", "^layer/big"]
    assert nodes["loss"].device == synthetic.cpu
    assert nodes["x"].attr["dtype"].type == 1
    assert [dim.size for dim in nodes["x"].attr["shape"].shape.dim] == [-1, 2]
    assert nodes["layer/matmul"].attr["transpose_a"].b is False
    shapes = nodes["layer/matmul"].attr["_output_shapes"].list.shape
    assert [[dim.size for dim in shape.dim] for shape in shapes] == [[2, 3]]
    assert np.frombuffer(nodes["layer/w"].attr["value"].tensor.tensor_content, np.float32).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert message.versions.producer > 0


def test_contents_of_large_constants_may_be_left_out(synthetic: Any) -> None:
    message = stage_graph_def(synthetic.small_stage(), max_tensor_bytes=1024)
    values = {node.name: node.attr["value"].tensor for node in message.node if "value" in node.attr}
    assert values["layer/w"].ByteSize() > 24
    big = values["layer/big"]
    assert (big.dtype, [dim.size for dim in big.tensor_shape.dim]) == (1, [100, 100])
    assert big.ByteSize() < 40


@pytest.mark.parametrize("pieces", [1, 4])
def test_collapsed_executions(synthetic: Any, pieces: int) -> None:
    stage = synthetic.small_stage()
    whole = synthetic.executions(stage, 40, start_ns=1000)
    collapsed = Collapsed(len(stage))
    for i in range(pieces):
        collapsed.add([synthetic.executions(stage, 40 // pieces, 40 // pieces * i, start_ns=1000)])
    (found,) = collapsed.executions()
    assert found.node.tolist() == [0, 1, 2, 3, 4]
    for node in range(5):
        mine = (whole.node == node) & ~whole.dead
        assert found.start_ns[node] == whole.start_ns[mine].min()
        assert found.end_ns[node] == whole.end_ns[mine].max()
