"""A process that is killed in the middle of a recorded run leaves a directory that opens, with every finished step in it."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tracing
from tracing import database
from tracing.errors import RunError
from tracing.reader import Run
from tracing.report import report

ROOT = Path(__file__).parents[2]
VICTIM = Path(__file__).with_name("kill_me.py")


def _start(logdir: Path, executions: int) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, str(VICTIM), str(logdir), str(executions)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _run(script: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, script], cwd=ROOT, env=env, capture_output=True, text=True)


def _steps(process: subprocess.Popen[str], count: int) -> list[int]:
    """Wait for the process to have finished so many steps; their ids."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


def _kill(process: subprocess.Popen[str]) -> list[int]:
    """The ids of the (other) steps that the process said it had finished."""
    process.kill()
    assert process.stdout is not None
    with process.stdout:
        lines = process.stdout.read().split("\n")
    process.wait()
    return [int(line) for line in lines[:-1]]  # the last may have been cut


def _check(path: Path, said: list[int], executions: int) -> None:
    with Run.open(path) as run:
        assert run.state == "interrupted"
        steps = run.steps()
        ids = [step.id for step in steps]
        assert ids[: len(said)] == said
        assert len(ids) <= len(said) + 1  # one may have been written and not said
        for step in (*steps[:2], *steps[-2:]):
            assert step.finished
            assert (
                len(run.executions(step.id))
                == len(run.health(step.id))
                == len(run.tokens(step.id))
                == executions
            )
            assert len(run.frames(step.id)) == 4
            assert len(run.resource_writes(step.id)) == 2
            assert run.stage(step.stage_id).order
        assert sum(len(steps) for steps, _ in run.scalars().values()) >= len(said)
        assert run.error is None and run.ended_unix_ns is None
        made = report(run)
        assert (
            made.steps == len(steps) and made.state == "interrupted" and (made.duration_ns > 0) == bool(steps)
        )


@pytest.mark.parametrize("executions", [100, 20_000])
def test_kill_9_leaves_every_finished_step(tmp_path: Path, executions: int) -> None:
    process, path = _start(tmp_path, executions)
    with Run.open(path) as run:  # while it is being written
        assert run.state == "running"
        said = _steps(process, 3)
        run.refresh()
        before = len(run.steps())
        assert before >= 3
        said += _steps(process, before - 3 + 2)
        assert run.refresh()
        assert len(run.steps()) >= before + 2
        said += _kill(process)
        run.refresh()
        assert run.state == "interrupted"
    _check(path, said, executions)


@pytest.mark.parametrize(
    "times", [1, pytest.param(8, marks=[pytest.mark.deep, pytest.mark.slow])], ids=["once each", "often"]
)
def test_kill_9_at_many_moments(tmp_path: Path, times: int) -> None:
    for executions in (10, 1000, 30_000) * times:
        process, path = _start(tmp_path, executions)
        time.sleep(random.uniform(0.0, 0.5))
        said = _kill(process)
        _check(path, said, executions)


def test_a_killed_run_can_be_read_where_nothing_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses to open what a killed writer left if it can make no index beside it (which root always can)."""
    process, path = _start(tmp_path, 50)
    said = _steps(process, 20) + _kill(process)
    opened: list[Path] = []
    really = database._readonly

    def readonly(file: Path) -> sqlite3.Connection:
        opened.append(file.parent)
        if file.parent == path:
            raise sqlite3.OperationalError("unable to open database file")
        return really(file)

    monkeypatch.setattr(database, "_readonly", readonly)
    before = {each.name: each.stat().st_mtime_ns for each in path.iterdir()}
    _check(path, said, 50)
    assert {each.name: each.stat().st_mtime_ns for each in path.iterdir()} == before
    assert opened[0] == path and opened[1] != path
    assert not opened[1].exists()


def test_a_killed_run_whose_log_was_cut_has_the_steps_before_the_cut(tmp_path: Path) -> None:
    process, path = _start(tmp_path / "runs", 50)
    said = _steps(process, 300) + _kill(process)
    whole = (path / "run.sqlite-wal").read_bytes()
    found: list[int] = []
    for part in (0.0, 0.001, 0.2, 0.35, 0.5, 0.65, 0.77, 0.9, 0.999):
        target = tmp_path / f"cut at {part}"
        target.mkdir()
        (target / "run.sqlite").write_bytes((path / "run.sqlite").read_bytes())
        (target / "run.sqlite-wal").write_bytes(whole[: int(part * len(whole))])
        try:
            with Run.open(target) as run:
                ids = [step.id for step in run.steps()]
                assert ids == said[: len(ids)]
                assert all(len(run.executions(step_id)) == 50 for step_id in ids)
                found.append(len(ids))
        except RunError:
            found.append(0)
    assert found == sorted(found)
    assert any(0 < each < found[-1] for each in found)  # steps go into the database many at a time


def test_an_uncaught_exception_is_a_failed_run(tmp_path: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(
        "import tracing\n"
        f"tracing.start({str(tmp_path / 'runs')!r})\n"
        "tracing.scalar('loss', 2.0, 1)\n"
        "raise RuntimeError('out of luck')\n"
    )
    done = _run(script)
    assert done.returncode == 1
    assert "out of luck" in done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    assert "_crash-" in path.name
    with Run.open(path) as run:
        assert (run.state, run.error) == ("failed", "RuntimeError: out of luck")
        assert run.script == str(script)
        assert "out of luck" in (run.source(str(script)) or "")


def test_a_script_that_ends_is_a_finished_run(tmp_path: Path) -> None:
    script = tmp_path / "fine.py"
    script.write_text(
        f"import sys, tracing\ntracing.start({str(tmp_path / 'runs')!r}, name='a b/c')\nsys.exit(3)\n"
    )
    done = _run(script)
    assert done.returncode == 3
    (path,) = (tmp_path / "runs").iterdir()
    assert "_a-b-c-" in path.name
    with Run.open(path) as run:
        assert (run.state, run.error, run.name) == ("finished", None, "a b/c")
    assert sorted(each.name.split(".")[0] for each in path.iterdir()) == [
        "events",
        "run",
    ]  # no log beside the database


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_recording_alone(tmp_path: Path) -> None:
    with tracing.record(tmp_path, name="parent") as recorder:
        tracing.scalar("loss", 1.0, 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                tracing.scalar("loss", 2.0, 2)
                tracing.stop()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        tracing.scalar("loss", 3.0, 3)
    with Run.open(recorder.path) as run:
        assert run.scalars()["loss"][0].tolist() == [1, 3]
        assert run.state == "finished"


def test_a_process_number_that_was_given_away_is_not_taken_for_the_writer(tmp_path: Path) -> None:
    """The writer is gone, and another process (this one) has its number."""
    process, path = _start(tmp_path, 10)
    _kill(process)
    connection = sqlite3.connect(path / "run.sqlite")
    (text,) = connection.execute("SELECT value FROM meta WHERE key = 'process'").fetchone()
    connection.execute(
        "UPDATE meta SET value = ? WHERE key = 'process'",
        (json.dumps({**json.loads(text), "pid": os.getpid()}),),
    )
    connection.commit()
    connection.close()
    with Run.open(path) as run:
        assert run.state == "interrupted"


def test_a_stopped_process_is_running(tmp_path: Path) -> None:
    process, path = _start(tmp_path, 10)
    process.send_signal(signal.SIGSTOP)
    try:
        with Run.open(path) as run:
            assert run.state == "running"
    except RunError as error:  # it was stopped before the first transaction
        pytest.fail(str(error))
    finally:
        _kill(process)
