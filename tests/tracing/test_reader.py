"""Opening runs: what is not one, what is damaged, what is newer; and following one that is being written."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.observe import Override, Value
from tracing import directory
from tracing.errors import RunError
from tracing.reader import Run
from tracing.recorder import Recorder
from tracing.report import report

Recorders = Callable[..., Recorder]


@pytest.fixture
def finished(recorders: Recorders, synthetic: Any) -> Path:
    """A finished run of four steps, with everything in it."""
    recorder = recorders()
    stage = synthetic.small_stage()
    for step in range(1, 5):
        changed = (
            Override(step, 3, "set", "set loss:0 = é", 1, 0, 0, 0),
            Override(9 + step, 4, "set var", "w"),
        )
        values = (Value(0, 0, np.arange(5.0)),)
        synthetic.run_step(recorder, stage, step, values=values, overrides=changed)
        recorder.scalar("loss", 1 / step, step)
    recorder.close()
    return recorder.path


def _read_everything(path: Path) -> int:
    """Read all there is in a run; returns the number of its steps."""
    with Run.open(path) as run:
        for stage in run.stages():
            assert run.stage(stage.id).name == stage.name
        steps = [*run.steps(), *run.unfinished()]
        for step in steps:
            run.executions(step.id)
            run.partitions(step.id)
            run.health(step.id)
            run.tokens(step.id)
            run.frames(step.id)
            run.values(step.id)
            run.resource_writes(step.id)
            run.overrides(step.id)
            run.descents(step.id)
            assert step.fetches == ("loss:0",)
        for source in run.sources():
            run.source(source)
        run.scalars()
        run.histograms()
        run.counters()
        run.refresh()
        report(run)
        return len(steps)


def _refusal(path: Path) -> str | None:
    """Read all there is in a run; returns the RunError's message if that fails."""
    try:
        assert _read_everything(path) <= 4
    except RunError as error:
        return str(error)
    return None


def test_a_finished_run_can_be_opened_by_its_database_too(finished: Path) -> None:
    for path in (finished, finished / "run.sqlite", str(finished)):
        with Run.open(path) as run:
            assert run.path == finished
            assert run.name == "made up"
            assert run.state == "finished"
            assert len(run.steps()) == 4
            assert run.environment["packages"]["numpy"] == np.__version__
            assert run.ended_unix_ns is not None and run.ended_unix_ns > run.created_unix_ns
            np.testing.assert_array_equal(run.scalars()["loss"][1], [1, 1 / 2, 1 / 3, 1 / 4])


def test_what_is_not_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run directory"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(RunError, match="is not a run directory: there is no run.sqlite in it"):
        Run.open(tmp_path)
    database = tmp_path / "run.sqlite"
    database.touch()
    with pytest.raises(RunError, match="is empty"):
        Run.open(tmp_path)
    database.write_bytes(b"this is a text, and a long one at that" * 200)
    with pytest.raises(RunError, match="is damaged: run.sqlite cannot be read"):
        Run.open(tmp_path)
    database.unlink()
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    with pytest.raises(RunError, match="some other SQLite database"):
        Run.open(tmp_path)
    with pytest.raises(RunError):
        Run.open(tmp_path / "a\0b")


def test_a_newer_schema_is_refused(finished: Path) -> None:
    connection = sqlite3.connect(finished / "run.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        RunError, match="newer version of the workbench: its schema is 99, and this version reads up to 4"
    ):
        Run.open(finished)


def test_messages_are_one_sentence(finished: Path) -> None:
    with Run.open(finished) as run:
        for wrong in (lambda: run.step(12345678), lambda: run.stage(99)):
            with pytest.raises(RunError, match=r"^the run in .* has no (step|stage) \d+$"):
                wrong()
    with pytest.raises(RunError, match="cannot be read"):
        run.steps()
        run.stages()


def test_truncated_at_every_length(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "run.sqlite").read_bytes()
    lengths = sorted(
        {*range(0, 200, 13), *range(0, len(whole), 1021), *range(0, len(whole), 4096), len(whole) - 1}
    )
    refused = 0
    for length in lengths:
        target = tmp_path / "cut"
        target.mkdir(exist_ok=True)
        (target / "run.sqlite").write_bytes(whole[:length])
        said = _refusal(target)
        if said is not None:
            refused += 1
            assert str(target) in said
            assert "\n" not in said
        shutil.rmtree(target)
    assert refused > len(lengths) // 2


def test_damage_anywhere_is_a_run_error_or_harmless(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "run.sqlite").read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        target = tmp_path / "damaged"
        target.mkdir(exist_ok=True)
        damaged = bytearray(whole)
        start = int(rng.integers(len(whole)))
        for at in range(start, min(len(whole), start + int(rng.choice([1, 30, 2000])))):
            damaged[at] = int(rng.integers(256))
        (target / "run.sqlite").write_bytes(bytes(damaged))
        try:
            _read_everything(target)
        except RunError:
            refused += 1
        except AssertionError:
            pass  # a byte of a name was changed: no one can know
        shutil.rmtree(target)
    assert refused > 30


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("sources", "data"), ("scalars", "step"), ("scalars", "value"), ("stages", "nodes")),
        *(("stages", "data"), ("steps", "duration_ns"), ("steps", "executor"), ("steps", "fetches")),
        *(("batches", "data"), ("counters", "value"), ("meta", "value"), ("sites", "frames")),
    ],
)
def test_a_value_of_another_type_is_a_run_error(finished: Path, table: str, column: str) -> None:
    with closing(sqlite3.connect(finished / "run.sqlite", isolation_level=None)) as connection:
        (kind,) = connection.execute(f"SELECT typeof({column}) FROM {table} LIMIT 1").fetchone()
        other = b"\xff\x00" if kind == "text" else "words"
        connection.execute(f"UPDATE {table} SET {column} = ?", (other,))
    with pytest.raises(RunError, match="is damaged"):
        _read_everything(finished)


def _nothing_more(run: Run) -> bool:
    """Whether nothing is new once the writer has moved into the database what its journal has told already."""
    deadline = time.monotonic() + 60
    while run.refresh():
        if time.monotonic() > deadline:
            return False
    return True


def test_a_live_run_is_followed(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    with Run.open(recorder.path) as run:
        assert run.state == "running"
        assert run.steps() == []
        assert _nothing_more(run)
        for step in range(1, 4):
            synthetic.run_step(recorder, stage, step)
            assert run.refresh()
            assert [row.step for row in run.steps()] == list(range(1, step + 1))
            assert _nothing_more(run)
        recorder.scalar("loss", 0.5, 1)
        assert run.refresh()
        assert run.scalars()["loss"][1].tolist() == [0.5]
        recorder.close()
        assert run.refresh()
        assert run.state == "finished"
        assert len(run.executions(run.steps()[0].id)) == 10
        assert _nothing_more(run)


def test_steps_that_end_out_of_order_are_listed_as_they_began(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    first, second = synthetic.step_info(stage, 1), synthetic.step_info(stage, 1, session=2)
    recorder.step_begin(first)
    recorder.step_begin(second)
    recorder.step_end(second, second.started_ns + 1, None)
    with Run.open(recorder.path) as run:
        assert [step.id for step in run.steps()] == [second.id]
        recorder.step_end(first, first.started_ns + 5, None)
        run.refresh()
        assert [step.id for step in run.steps()] == [first.id, second.id]


def test_runs_of_a_directory_are_found_newest_first(tmp_path: Path) -> None:
    names = ["2026-01-02_03-04-05_a-0000", "2026-01-02_03-04-06_b-0000", "2025-12-31_23-59-59_c-0000"]
    for name in (*names, "no run"):
        (tmp_path / name).mkdir()
    for name in names:
        (tmp_path / name / "run.sqlite").touch()
    assert [path.name for path in directory.find(tmp_path)] == [names[1], names[0], names[2]]
    with pytest.raises(RunError, match="cannot be listed"):
        directory.find(tmp_path / "nowhere")


def test_a_place_that_cannot_hold_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="no run directory can be made in"):
        directory.create(tmp_path / "file", "x")
    made = {directory.create(tmp_path, "x y/../é") for _ in range(20)}
    assert len(made) == 20
    assert all("_x-y-" in path.name and path.parent == tmp_path for path in made)
