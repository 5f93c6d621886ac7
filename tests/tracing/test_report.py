"""The report against sums worked out from what was told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.observe import Value
from tracing.reader import Run
from tracing.recorder import Recorder
from tracing.report import Report, duration, report, report_json, report_text, size

Recorders = Callable[..., Recorder]


@pytest.fixture
def made(recorders: Recorders, synthetic: Any) -> Report:
    recorder = recorders(value_cap=100)
    stage = synthetic.small_stage()
    values = (Value(0, 0, np.zeros(4)), Value(1, 0, np.zeros(100)))
    for step in range(1, 4):
        error = ValueError("no good") if step == 3 else None
        synthetic.run_step(recorder, stage, step, count=20, values=values, error=error, session=step % 2)
        recorder.scalar("loss", 1 / step, step)
    recorder.scalar("bad", float("nan"), 1)
    recorder.close("failed", "ValueError: no good\nand more")
    with Run.open(recorder.path) as run:
        return report(run)


def test_sums(made: Report, synthetic: Any) -> None:
    batch = synthetic.executions(synthetic.small_stage(), 20, start_ns=0)
    took = batch.end_ns - batch.start_ns
    assert (made.steps, made.sessions, made.stages, made.unfinished) == (3, 2, 2, 0)
    assert made.steps_ns == 3 * 40_000
    assert made.kernels_ns == 3 * took.sum()
    assert made.overhead_ns == made.steps_ns - made.kernels_ns
    assert (made.executions, made.dead) == (60, 6)
    assert (made.frames, made.iterations) == (3, 6)
    assert (made.captured, made.captured_bytes, made.dropped, made.dropped_bytes) == (3, 96, 3, 2400)
    assert made.recorder_ns > 0 and made.duration_ns > 0


def test_slowest_nodes(made: Report, synthetic: Any) -> None:
    stage = synthetic.small_stage()
    batch = synthetic.executions(stage, 20, start_ns=0)
    costs = {node.name: node for node in made.slowest}
    assert set(costs) == set(stage.order)
    totals = [node.total_ns for node in made.slowest]
    assert totals == sorted(totals, reverse=True)
    for number, name in enumerate(stage.order):
        mine = (batch.node == number) & ~batch.dead
        assert costs[name].executions == 3 * mine.sum()
        assert costs[name].total_ns == 3 * (batch.end_ns - batch.start_ns)[mine].sum()
        assert costs[name].mean_ns == pytest.approx(costs[name].total_ns / costs[name].executions)
        assert costs[name].type == stage.nodes[name].type
        assert "conftest.py:" in costs[name].source and costs[name].text


def test_by_type(made: Report) -> None:
    constants = next(row for row in made.types if row.type == "Const")
    names = [node for node in made.slowest if node.type == "Const"]
    assert constants.nodes == len(names) == 2
    assert constants.total_ns == sum(node.total_ns for node in names)
    assert sum(row.executions for row in made.types) == made.executions - made.dead


def test_as_json(made: Report) -> None:
    data = json.loads(report_json(made))
    assert data["steps"] == 3
    assert data["state"] == "failed"
    assert data["error"].startswith("ValueError: no good")
    assert {row["tag"]: row["last"] for row in data["scalars"]} == {"loss": pytest.approx(1 / 3), "bad": None}
    assert data["errors"][0]["error"] == "ValueError: no good"
    assert data["slowest"][0]["mean_ns"] > 0
    assert data["overhead_ns"] == made.overhead_ns


def test_as_text(made: Report) -> None:
    text = report_text(made)
    assert text.startswith("made up: failed: ValueError: no good\n")
    assert "3 steps in 2 sessions" in text
    assert "60 executions, 6 of them dead; 3 frames, 6 iterations" in text
    assert "values: 3 kept (96 B), 3 dropped (2.34 KiB)" in text
    assert "loss: 0.333333 (step 3, 3 in all)" in text
    assert "layer/matmul (MatMul)" in text
    assert "raised ValueError: no good" in text


def test_a_run_without_steps(recorders: Recorders) -> None:
    recorder = recorders()
    with Run.open(recorder.path) as run:
        made = report(run)
    assert (made.steps, made.state, made.duration_ns) == (0, "running", 0)
    assert "0 steps in 0 sessions" in report_text(made)
    json.loads(report_json(made))


def test_times_and_sizes_for_people() -> None:
    times = {
        0: "0 ns",
        999: "999 ns",
        3_420: "3.42 µs",
        15_100_000: "15.1 ms",
        999_960_000: "1.00 s",
        200e9: "3 min 20 s",
    }
    assert {ns: duration(ns) for ns in times} == times
    sizes = {0: "0 B", 1000: "1000 B", 3 * 1024: "3.00 KiB", 15 << 20: "15.0 MiB", 5 << 30: "5.00 GiB"}
    assert {n: size(n) for n in sizes} == sizes
