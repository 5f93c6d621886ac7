"""The list of runs: real run directories, written by the recorder, among things that are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import engine as tf
import tracing
from viz.cells import line_width
from viz.draw_runs import draw_run_detail, draw_run_row, draw_runs_head
from viz.palette import DARK
from viz.runs_model import RunRow, RunsModel, now_unix_ns


def record(logdir: Path, name: str, steps: int, error: BaseException | None = None) -> Path:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [], name="x")
        y = tf.square(x, name="y")
        recorder = tracing.start(logdir, name=name, tensorboard=False)
        with tf.Session() as session:
            for i in range(steps):
                tracing.scalar("accuracy", i / 10, i)
                tracing.scalar("train/loss", float(session.run(y, {x: float(steps - i)})), i)
        tracing.stop(error)
        return recorder.path


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    record(tmp_path, "first", 5)
    record(tmp_path, "second", 3, ValueError("no data"))
    (tmp_path / "notes").mkdir()
    broken = tmp_path / "2999-01-01_00-00-00_broken-0000"
    broken.mkdir()
    (broken / "run.sqlite").write_bytes(b"SQLite format 3\x00 but not really")
    return tmp_path


def test_rows(logdir: Path) -> None:
    model = RunsModel(logdir)
    rows = {row.name.split("_")[-1]: row for row in model.poll()}
    assert set(rows) == {"first", "second", "broken-0000"}
    first, second = rows["first"], rows["second"]
    assert (first.state, first.steps, first.loss_tag) == ("finished", 5, "train/loss")
    assert first.last("train/loss") == 1.0
    assert first.last("nothing") is None
    assert first.step_ns > 0
    assert second.state == "failed"
    assert "no data" in second.error
    assert rows["broken-0000"].state == "broken"
    assert str(rows["broken-0000"].path) in rows["broken-0000"].broken
    model.close()


def test_polling_gives_the_same_rows_until_something_changes(logdir: Path) -> None:
    model = RunsModel(logdir)
    before = model.poll()
    assert all(a is b for a, b in zip(before, model.poll(), strict=True))
    record(logdir, "third", 1)
    assert len(model.poll()) == 4
    model.close()


def test_only_what_is_looked_at_stays_open(logdir: Path) -> None:
    model = RunsModel(logdir)
    rows = model.poll()
    assert not model._open
    path = next(row.path for row in rows if row.name == "first")
    run = model.run(path)
    model.poll()
    assert model.run(path) is run
    assert len(run.steps()) == 5
    shutil.rmtree(path)
    assert path not in [row.path for row in model.poll()]
    model.close()


def test_a_run_that_is_being_written_grows(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        y = tf.constant(2.0) * 3.0
        tracing.start(tmp_path, name="live", tensorboard=False)
        model = RunsModel(tmp_path)
        with tf.Session() as session:
            session.run(y)
            assert [(row.state, row.steps) for row in model.poll()] == [("running", 1)]
            session.run(y)
            assert [(row.state, row.steps) for row in model.poll()] == [("running", 2)]
        tracing.stop()
        assert [(row.state, row.steps) for row in model.poll()] == [("finished", 2)]
        model.close()


def test_no_directory(tmp_path: Path) -> None:
    model = RunsModel(tmp_path / "nowhere")
    assert model.poll() == []
    assert "nowhere" in model.problem


def test_runs_from_elsewhere_come_first(tmp_path: Path) -> None:
    elsewhere = record(tmp_path / "a", "elsewhere", 1)
    record(tmp_path / "b", "here", 1)
    model = RunsModel(tmp_path / "b")
    model.add(elsewhere)
    model.add(elsewhere)
    assert [row.name for row in model.poll()] == ["elsewhere", "here"]
    model.close()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_drawn_rows_line_up(logdir: Path, width: int) -> None:
    model = RunsModel(logdir)
    rows = model.poll()
    lines = [draw_runs_head(DARK, width), *(draw_run_row(row, DARK, width, now_unix_ns()) for row in rows)]
    assert {line_width(line) for line in lines} == {width}
    texts = ["".join(text for text, _ in line) for line in lines]
    ends = {texts[0].index("steps") + len("steps")}
    for row, text in zip(rows, texts[1:]):
        if not row.broken:
            assert text[max(ends) - 1] == str(row.steps)[-1]
    for row in rows:
        drawing = draw_run_detail(row, DARK, width, now_unix_ns())
        assert all(len(text) <= width for text in drawing.rows())
        assert row.name in drawing.rows()[0]
    model.close()


def test_how_long_a_run_took(tmp_path: Path) -> None:
    row = RunRow(tmp_path, "r", "running", created_unix_ns=1_000)
    assert row.running_ns(5_000) == 4_000
    assert (
        RunRow(tmp_path, "r", "finished", created_unix_ns=1_000, ended_unix_ns=3_000).running_ns(9_000)
        == 2_000
    )
    assert RunRow(tmp_path, "r", "interrupted", created_unix_ns=1_000).running_ns(9_000) == 0


def test_which_scalar_tells_how_training_goes(tmp_path: Path) -> None:
    series = np.arange(2), np.arange(2.0)
    assert RunRow(tmp_path, "r", scalars={"accuracy": series, "Loss/total": series}).loss_tag == "Loss/total"
    assert RunRow(tmp_path, "r", scalars={"accuracy": series}).loss_tag == "accuracy"
    assert RunRow(tmp_path, "r").loss_tag == ""
