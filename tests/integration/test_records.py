"""What a step over several devices leaves behind: RunMetadata, a GraphDef, a recorded trace."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing


def program() -> tuple[Any, Any]:
    """A loop on CPU:0 with work on CPU:1 and on a modelled GPU in each of its 3 iterations; fetch, feed."""
    with tf.device("/cpu:0"):
        x = tf.placeholder(tf.float32, [4], name="x")

        def body(i: Any, y: Any) -> Any:
            with tf.device("/gpu:0"):
                y = tf.exp(y, name="on_gpu")
            with tf.device("/cpu:1"):
                y = tf.tanh(y, name="on_cpu")
            return i + 1, y

        _, y = tf.while_loop(lambda i, _: i < 3, body, [0, x], name="loop")
    return y, x


def config() -> Any:
    return tf.ConfigProto(device_count={"CPU": 2, "GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))


def expected() -> Any:
    value = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    for _ in range(3):
        value = np.tanh(np.exp(value))
    return value


FEED = [0.1, 0.2, 0.3, 0.4]


def test_metadata_has_each_device_with_what_ran_there() -> None:
    y, x = program()
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
    with tf.Session(config=config()) as session:
        np.testing.assert_allclose(session.run(y, {x: FEED}, options, metadata), expected(), rtol=1e-6)
    on = {
        each.device[-5:]: Counter(node.node_name for node in each.node_stats)
        for each in metadata.step_stats.dev_stats
    }
    assert set(on) == {"CPU:0", "CPU:1", "GPU:0"}
    assert on["CPU:1"]["loop/on_cpu"] == on["GPU:0"]["loop/on_gpu"] == 3
    for graph in metadata.partition_graphs:
        (device,) = {node.device[-5:] for node in graph.node}
        names = {node.name for node in graph.node}
        assert set(on[device]) <= names
        assert all(
            each.removeprefix("^").partition(":")[0] in names for node in graph.node for each in node.input
        )


def test_a_graph_def_keeps_devices() -> None:
    y, x = program()
    definition = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default() as again:
        tf.import_graph_def(definition, name="")
        assert {op.name: op.device for op in again.get_operations()} == {
            op.name: op.device for op in y.graph.get_operations()
        }
    with tf.Session(graph=again, config=config()) as session:
        np.testing.assert_allclose(session.run(y.name, {x.name: FEED}), expected(), rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 0])
def test_a_recorded_trace_says_where_what_ran(threads: int, tmp_path: Any) -> None:
    y, x = program()
    options = config()
    options.inter_op_parallelism_threads = threads
    with tf.Session(config=options) as session, tracing.record(tmp_path, level="full") as recorder:
        session.run(y, {x: FEED})
    run = tracing.Run.open(recorder.path)
    (step,) = run.steps()
    stage = run.stage(step.stage_id)
    ran: Counter[tuple[str, str, bool]] = Counter()
    for device, batches in run.partitions(step.id).items():
        for batch in batches:
            for node, dead in zip(batch.node.tolist(), batch.dead.tolist(), strict=True):
                assert stage.nodes[stage.order[node]].device == device
                ran[stage.order[node], device[-5:], dead] += 1
    assert ran["loop/on_cpu", "CPU:1", False] == ran["loop/on_gpu", "GPU:0", False] == 3
    assert ran["loop/on_cpu", "CPU:1", True] == 1  # the iteration in which the loop ends
    sent = run.transfers(step.id)
    receives = sum(count for (name, _, _), count in ran.items() if stage.nodes[name].type == "_Recv")
    assert len(sent) == receives and all(each.sent_ns <= each.received_ns for each in sent)
    assert {(each.source[-5:], each.destination[-5:]) for each in sent if "on_gpu" in each.key} == {
        ("GPU:0", "CPU:1")
    }
    allocated = run.allocations(step.id)
    assert allocated and {each.device[-5:] for each in allocated} == {"GPU:0"}
    changes = run.frames(step.id)
    began = [each for each in changes if each.change.name == "FRAME_BEGIN"]
    assert len(began) == 3 and len(changes) == 2 * len(
        [e for e in changes if e.change.name.endswith("BEGIN")]
    )
