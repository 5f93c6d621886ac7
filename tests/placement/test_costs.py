"""Work and costs, by hand; what an earlier run says; a measured step beside its prediction."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from placement_devices import SPEED, StandIn, TableCosts, cpus, with_gpus

import engine as tf
from engine import observe
from engine.device.device import Link, Speed
from engine.op.registry import all_ops
from engine.passes.build import Builder
from engine.passes.stage import Stage
from engine.placement import work
from engine.placement.assumptions import Assumptions
from engine.placement.costs import MeasuredCosts, StaticCosts
from engine.placement.measured import Measured, measured_ns, observed
from engine.placement.place import PlacementOptions, place
from engine.placement.simulate import Prediction, Span, compare, simulate
from engine.placement.work import Work, work_of
from engine.types.dtypes import DType


def built(program: Any) -> Stage:
    with tf.Graph().as_default() as graph:
        program()
    return Builder(graph).stage()


def work_in(stage: Stage, name: str, unknown: int = 32) -> Work:
    node = stage.nodes[name]
    return work_of(node, [stage.nodes[source].output_shapes[slot] for source, slot in node.inputs], unknown)


def test_every_row_of_the_table_is_an_op() -> None:
    known = {definition.name for definition in all_ops()}
    assert set(work._RULES) | work._NO_TRAFFIC <= known


def test_a_fused_node_does_what_the_nodes_do_that_it_stands_for() -> None:
    with tf.Graph().as_default():
        x, w = tf.placeholder(tf.float32, [8, 16]), tf.placeholder(tf.float32, [16, 32])
        layer = tf.nn.relu(tf.matmul(x, w) + tf.zeros([32]))
        image = tf.placeholder(tf.float32, [2, 6, 6, 3])
        kernel = tf.placeholder(tf.float32, [3, 3, 3, 4])
        conv = tf.nn.elu(tf.nn.bias_add(tf.nn.conv2d(image, kernel, 1, "SAME"), tf.zeros([4])))
        norm = tf.nn.relu(tf.nn.fused_batch_norm(conv, tf.ones([4]), tf.zeros([4]))[0])
        chain = tf.tanh(tf.sigmoid(x) * x) + 1.0
        fetches, feeds = [layer, norm, chain], [x, w, image, kernel]
        with tf.Session() as session:
            chain_of = session.stage_for(fetches, feeds).chain()
    after = chain_of[-1]
    before = next(
        stage
        for stage in reversed(chain_of)
        if "optimized/remap" not in stage.name and "fuse" not in stage.name
    )

    def total(stage: Stage) -> Work:
        each = [work_in(stage, node.name) for node in stage]
        return Work(sum(one.flops for one in each), sum(one.nbytes for one in each))

    fused = {node.type for node in after} & {
        "_FusedMatMul",
        "_FusedConv2D",
        "_FusedBatchNormEx",
        "_FusedElementwise",
    }
    assert len(fused) == 4
    assert total(after).flops == total(before).flops
    # A square reads its operand twice, a fused one takes it in once.
    assert 0.9 * total(before).nbytes <= total(after).nbytes <= total(before).nbytes


def test_products_and_convolutions_count_a_multiplication_and_an_addition_each() -> None:
    def program() -> None:
        a, b = tf.zeros([3, 5]), tf.zeros([5, 7])
        tf.matmul(a, b, name="plain")
        tf.matmul(tf.zeros([5, 3]), b, transpose_a=True, name="transposed")
        tf.matmul(tf.zeros([2, 3, 5]), tf.zeros([2, 5, 7]), name="batch")
        image, kernel = tf.zeros([2, 8, 8, 3]), tf.zeros([3, 3, 3, 4])
        conv = tf.nn.conv2d(image, kernel, [1, 1, 1, 1], "SAME", name="conv")
        tf.gradients(conv, [image, kernel], name="grads")
        tf.nn.max_pool(image, [1, 2, 2, 1], [1, 2, 2, 1], "VALID", name="pool")

    stage = built(program)
    assert work_in(stage, "plain") == Work(2 * 3 * 5 * 7, 4 * (15 + 35 + 21))
    assert work_in(stage, "transposed").flops == 2 * 3 * 5 * 7
    assert work_in(stage, "batch").flops == 2 * 2 * 3 * 5 * 7
    conv = 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
    assert work_in(stage, "conv").flops == conv
    backward = [node.name for node in stage if node.type.startswith("Conv2DBackprop")]
    assert len(backward) == 2 and {work_in(stage, name).flops for name in backward} == {conv}
    assert work_in(stage, "pool").flops == 2 * 4 * 4 * 3 * 4


def test_what_hands_on_its_input_costs_nothing_but_its_launch() -> None:
    def program() -> None:
        x = tf.identity(tf.placeholder(tf.float32, [1000]), name="same")
        tf.reshape(x, [10, 100], name="view")

    stage = built(program)
    assert work_in(stage, "same") == work_in(stage, "view") == Work(0.0, 0)


def test_an_unknown_dimension_is_assumed() -> None:
    stage = built(lambda: tf.exp(tf.placeholder(tf.float32, [None, 10]), name="y"))
    assert work_in(stage, "y", unknown=5).nbytes == 2 * 4 * 50
    assert work_in(stage, "y", unknown=7).nbytes == 2 * 4 * 70
    stage = built(lambda: tf.exp(tf.placeholder(tf.float32), name="y"))
    assert work_in(stage, "y", unknown=7).nbytes == 2 * 4 * 7


def test_the_roofline() -> None:
    def program() -> None:
        tf.matmul(tf.zeros([100, 100]), tf.zeros([100, 100]), name="product")
        tf.add(tf.zeros([1000]), tf.zeros([1000]), name="sum")

    stage = built(program)
    speed = Speed(flops={"float32": 2e9}, bytes_per_second=1e9, launch_ns=100.0)
    devices = (
        StandIn("CPU", 0, speed),
        StandIn("CPU", 1, speed, Link(bytes_per_second=1e9, latency_ns=50.0)),
    )
    costs = StaticCosts(devices).on(stage)
    name = devices[0].name
    assert (
        costs.compute_ns(stage.nodes["product"], name) == 100 + 2 * 100**3 / 2
    )  # bound by arithmetic: 120 kB take 120 µs
    assert costs.compute_ns(stage.nodes["sum"], name) == 100 + 3 * 4000  # bound by memory
    assert costs.transfer_ns(1000, devices[1].name, name) == 100 + 100 + 50 + 1000
    assert costs.transfer_ns(1000, name, name) == 0
    with pytest.raises(KeyError):
        costs.compute_ns(stage.nodes["sum"], "/device:GPU:3")


def test_int32_arithmetic_on_a_gpu_is_the_hosts() -> None:
    stage = built(lambda: tf.add(tf.constant([1]), tf.constant([2]), name="sum"))
    slow = Speed(flops={"float32": 1.0}, bytes_per_second=1.0, launch_ns=0.0)
    devices = (StandIn("CPU", 0, SPEED), StandIn("GPU", 0, slow))
    costs = StaticCosts(devices).on(stage)
    node = stage.nodes["sum"]
    if node.opdef.memory_of(node).on_host:
        assert costs.compute_ns(node, devices[1].name) == costs.compute_ns(node, devices[0].name)


def test_measured_times_come_first() -> None:
    stage = built(lambda: tf.exp(tf.constant([1.0]), name="y"))
    devices = with_gpus()
    fallback = StaticCosts(devices)
    costs = MeasuredCosts({("y", "GPU"): 7.0}, fallback).on(stage)
    node = stage.nodes["y"]
    assert costs.compute_ns(node, devices[1].name) == 7.0
    assert costs.compute_ns(node, devices[0].name) == fallback.on(stage).compute_ns(node, devices[0].name)
    assert costs.transfer_ns(9, devices[0].name, devices[1].name) == fallback.transfer_ns(
        9, devices[0].name, devices[1].name
    )


def test_measured_costs_change_the_placement() -> None:
    def program() -> None:
        x = tf.exp(tf.constant([1.0]), name="x")
        tf.matmul(tf.zeros([50, 50]), tf.zeros([50, 50]), name="y")
        del x

    stage, devices = built(program), with_gpus()
    greedy = PlacementOptions(placement="greedy")
    for fast, slow in (("CPU", "GPU"), ("GPU", "CPU")):
        costs = MeasuredCosts({("y", fast): 10.0, ("y", slow): 1e9}, StaticCosts(devices))
        placed = place(stage, devices, greedy, costs)
        assert placed.nodes["y"].device.endswith(f"{fast}:0")
        decision = placed.nodes["y"].decision
        assert decision is not None and set(decision.finish_ns) == {device.name for device in devices}
        assert "it would finish there first" in decision.reason or "all that may be on" in decision.reason


def test_the_median_of_an_earlier_run() -> None:
    cpu = "/job:localhost/replica:0/task:0/device:CPU:0"
    rows = [Measured("a", cpu, 0, 900), Measured("a", cpu, 1000, 1010), Measured("a", cpu, 2000, 2011)]
    assert measured_ns([*rows, Measured("a", cpu, 0, 0, dead=True)]) == {("a", "CPU"): 11}


class Rows(observe.Observer):
    """Every execution of the steps that it sees."""

    def __init__(self) -> None:
        self.rows: list[Measured] = []
        self.stage_run: Stage | None = None

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        self.stage_run = step.stage
        cpu = cpus(1)[0].name
        for node, start, end, dead in zip(batch.node, batch.start_ns, batch.end_ns, batch.dead, strict=True):
            self.rows.append(Measured(step.stage.order[node], cpu, float(start), float(end), bool(dead)))


def run_and_watch(program: Any) -> tuple[Stage, list[Measured]]:
    """Run what `program` returns with its feeds in a real session; the stage that ran and its executions."""
    rows = Rows()
    with tf.Graph().as_default() as graph:
        fetches, feeds = program()
        with tf.Session(graph=graph) as session:
            observe.install(rows)
            try:
                session.run(fetches, feeds)
            finally:
                observe.uninstall(rows)
    assert rows.stage_run is not None
    return rows.stage_run, rows.rows


def nested() -> Any:
    x = tf.placeholder(tf.float32, [3], name="x")

    def body(i: Any, y: Any) -> Any:
        _, z = tf.while_loop(lambda j, z: j < 2, lambda j, z: (j + 1, tf.sin(z)), [tf.constant(0), y])
        return i + 1, z * 0.5

    _, last = tf.while_loop(lambda i, y: i < 5, body, [tf.constant(0), x])
    chosen = tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.exp(last), lambda: tf.cos(tf.tanh(last)))
    (grad,) = tf.gradients(chosen, [x])
    return [chosen, grad], {x: np.ones(3, np.float32)}


def test_a_step_is_predicted_to_have_the_executions_that_it_has() -> None:
    """Loops, a conditional and their gradients: node by node as many live executions as the engine's own run.

    But for a ControlTrigger, which is alive whatever it waits for, and is left out where all of that is dead.
    """
    stage, rows = run_and_watch(nested)
    devices = cpus(1)
    assumptions = observed(stage, rows, Assumptions(iterations=1))
    costs = StaticCosts(devices, assumptions)
    prediction = simulate(place(stage, devices, PlacementOptions()), costs, devices)
    count: dict[str, int] = {}
    for row in rows:
        count[row.node] = count.get(row.node, 0) + (not row.dead)
    predicted: dict[str, int] = {}
    for span in prediction.spans:
        predicted[span.node] = predicted.get(span.node, 0) + 1
    triggers = {node.name for node in stage if node.type == "ControlTrigger"}
    for name in set(count) - triggers:
        assert predicted.get(name, 0) == count[name], name
    table = compare(prediction, rows)
    assert all(
        row.measured_end_ns is not None and row.predicted_end_ns is not None
        for row in table
        if row.node not in triggers
    )
    assert min(row.measured_start_ns for row in table if row.measured_start_ns is not None) == 0


def test_measured_costs_of_a_run_predict_its_length() -> None:
    """With one device and its own times, the predicted step is as long as the executions that were measured together."""
    stage, rows = run_and_watch(nested)
    devices = cpus(1)
    costs = MeasuredCosts(measured_ns(rows), StaticCosts(devices, observed(stage, rows, Assumptions())))
    prediction = simulate(place(stage, devices, PlacementOptions()), costs, devices)
    times = measured_ns(rows)
    busy = sum(times[span.node, "CPU"] for span in prediction.spans if span.end_ns > span.start_ns)
    assert prediction.makespan_ns == pytest.approx(busy)


def test_compare_pairs_executions_in_order_and_keeps_the_rest() -> None:
    prediction = Prediction(
        (Span("a", "d0", 0, 5), Span("b", "d1", 5, 7), Span("a", "d0", 7, 9, (1,))), (), 9, {}
    )
    rows = [
        Measured("a", "d0", 130, 150),
        Measured("a", "d0", 100, 110),
        Measured("send", "d0", 120, 121),
        Measured("b", "d1", 90, 95, dead=True),
    ]
    assert [tuple(row) for row in compare(prediction, rows)] == [
        ("a", "d0", 0, 5, 0, 10),
        ("b", "d1", 5, 7, None, None),
        ("a", "d0", 7, 9, 30, 50),
        ("send", "d0", None, None, 20, 21),
    ]
    assert compare(prediction, [])[0][4:] == (None, None)


def test_an_empty_stage() -> None:
    placed = place(built(lambda: None), cpus(2), PlacementOptions(placement="greedy"))
    assert len(placed) == 0
    assert simulate(placed, TableCosts({}, 1), cpus(2)).makespan_ns == 0


def test_sizes_are_of_the_base_dtype() -> None:
    def program() -> None:
        tf.Variable(tf.zeros([6]), name="v")
        tf.as_string(tf.zeros([2]), name="text")

    stage = built(program)
    assert work.tensor_bytes(stage.nodes["v"], 0, 32) == 24
    dtype: DType = stage.nodes["text"].output_dtypes[0]
    assert work.tensor_bytes(stage.nodes["text"], 0, 32) == 2 * dtype.size


def test_the_page_says_where_its_program_puts_things(tmp_path: Path) -> None:
    """Names and devices; the times are those of a device that states other speeds some day."""
    root = Path(__file__).parents[2]
    page = (root / "docs/placement.md").read_text(encoding="utf-8")
    (program,), (expected,) = (
        re.findall(r"```python\n(.*?)```", page, re.S),
        re.findall(r"```text\n(.*?)```", page, re.S),
    )
    (tmp_path / "towers.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "towers.py")],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[:2] for line in done.stdout.splitlines()[:-2]] == [
        line.split()[:2] for line in expected.splitlines()[:-2]
    ]
