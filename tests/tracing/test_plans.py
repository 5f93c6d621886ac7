"""Recordings of plans: what ran the steps, and loops too long to be recorded one execution after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import engine as tf
import tracing
from engine.runtime.plan import record
from tracing.reader import Run
from tracing.report import report, report_json, report_text

LONG = 20_000


def recorded(folder: Path, level: str = "times", long: int = 10) -> Run:
    """A run of two steps, of which the second is a loop of so many iterations."""
    with tf.Graph().as_default() as graph:
        x = tf.constant(2.0) * 3
        total = tf.while_loop(lambda i, t: i < long, lambda i, t: (i + 1, t + i), [0, 0], name="long")[1]
    config = tf.ConfigProto(plans="always")
    with (
        tracing.record(folder, level, tensorboard=False) as recorder,
        tf.Session(graph=graph, config=config) as session,
    ):
        session.run(x)
        assert session.run(total) == long * (long - 1) // 2
    return Run.open(recorder.path)


def test_what_ran_the_steps_is_recorded(tmp_path: Path) -> None:
    with recorded(tmp_path) as run:
        assert [step.executor for step in run.steps()] == ["plan (python)", "plan (tape)"]
        assert run.totals(run.steps()[0].id) is None
        text = report_text(report(run))
        assert "run by plan (python): 1 step" in text and "run by plan (tape): 1 step" in text
    with recorded(tmp_path, "full") as run:
        text = report_text(report(run))
        assert "run by interpreter: the level 'full' tells of every token: 2 steps" in text


def test_a_sample_is_recorded_with_exact_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "TOLD_BYTES", 2_000_000)
    monkeypatch.setattr(record, "LOG_ENTRIES", 10_000)
    with recorded(tmp_path, long=LONG) as run:
        step = run.steps()[1]
        stage = run.stage(step.stage_id)
        executions, totals = run.executions(step.id), run.totals(step.id)
        assert totals is not None
        assert len(executions) == step.executions < LONG * 4
        assert totals.executions.sum() == len(executions) + totals.skipped
        times = dict(
            zip((stage.order[node] for node in totals.node), totals.executions.tolist(), strict=True)
        )
        assert times["long/LoopCond"] == LONG + 1
        assert totals.total_ns.sum() >= (executions.end_ns - executions.start_ns).sum()
        # What there is of it can be read as ever.
        tree = run.frame_tree(step.id)
        (loop,) = tree.children(0)
        assert loop.live
        assert np.unique(executions.iteration).max() < LONG
        made = report(run)
        assert made.skipped == totals.skipped
        assert made.executions == totals.executions.sum() + run.steps()[0].executions
        assert f"{totals.skipped:,} of these executions, in long loops" in report_text(made)
        assert '"skipped"' in report_json(made)
