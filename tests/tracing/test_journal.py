"""The journal: what has been said and is not in the database yet is read all the same, each thing once, whatever was damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as tf
import tracing
from engine import observe
from engine.observe import TraceLevel
from tracing import database, journal, schema, writer
from tracing.errors import RunError
from tracing.reader import Run
from tracing.recorder import Recorder

ROOT = Path(__file__).parents[2]
Recorders = Callable[..., Recorder]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing moves from the journal to the database by itself."""
    monkeypatch.setattr(writer, "_MOVED_RECORDS", 1 << 60)
    monkeypatch.setattr(writer, "_MOVED_BYTES", 1 << 60)
    monkeypatch.setattr(writer, "_MOVED_SECONDS", 1e9)
    monkeypatch.setattr(writer.RunWriter, "_move_late", lambda _: False)


def _ids(path: Path) -> list[int]:
    with Run.open(path) as run:
        return [step.id for step in run.steps()]


def _read(run: Run) -> Any:
    """All that a run has, in a form that can be compared."""
    return [
        (
            step,
            run.executions(step.id).end_ns.tolist(),
            run.executions(step.id).node.tolist(),
            run.health(step.id).maximum.tobytes(),
            run.tokens(step.id).row.tolist(),
            run.frames(step.id),
            run.resource_writes(step.id),
        )
        for step in run.steps()
    ], {tag: (steps.tolist(), values.tolist()) for tag, (steps, values) in run.scalars().items()}


def _steps(recorder: Recorder, synthetic: Any, count: int) -> list[int]:
    stage = synthetic.small_stage()
    found = []
    for step in range(count):
        found.append(synthetic.run_step(recorder, stage, step).id)
        recorder.scalar("loss", 1 / (step + 1), step)
    return found


def _copy(path: Path, target: Path) -> Path:
    """The directory as a process that is killed now leaves it."""
    shutil.copytree(path, target, ignore=shutil.ignore_patterns("*-shm"))
    return target


@pytest.mark.usefixtures("still")
def test_what_is_in_the_journal_alone_is_read(recorders: Recorders, synthetic: Any, tmp_path: Path) -> None:
    recorder = recorders()
    ids = _steps(recorder, synthetic, 6)
    left = _copy(recorder.path, tmp_path / "left")
    connection = sqlite3.connect(left / "run.sqlite")
    assert connection.execute("SELECT count(*) FROM steps").fetchone() == (
        0,
    )  # there would be nothing to test
    connection.close()
    with Run.open(left) as run:
        found = _read(run)
        assert [row[0].id for row in found[0]] == ids
        assert len(found[1]["loss"][0]) == 6
        assert run.unfinished() == [] and run.step(ids[3]).finished
    recorder.close()
    assert not (recorder.path / "run.journal").exists()
    with Run.open(recorder.path) as run:
        assert _read(run) == found


@pytest.mark.usefixtures("still")
def test_opening_changes_nothing_and_needs_no_right_to_write(
    recorders: Recorders, synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorders()
    ids = _steps(recorder, synthetic, 3)
    left = _copy(recorder.path, tmp_path / "left")
    really = database._readonly

    def readonly(file: Path) -> sqlite3.Connection:
        if file.parent == left:
            raise sqlite3.OperationalError("unable to open database file")
        return really(file)

    monkeypatch.setattr(database, "_readonly", readonly)
    before = {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in left.iterdir()}
    assert _ids(left) == ids
    assert {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in left.iterdir()} == before


@pytest.mark.usefixtures("still")
def test_a_record_counts_once_however_often_it_is_there(
    recorders: Recorders, synthetic: Any, tmp_path: Path
) -> None:
    """A process may be killed between moving records and emptying the journal."""
    recorder = recorders()
    ids = _steps(recorder, synthetic, 5)
    old = (recorder.path / "run.journal").read_bytes()
    recorder._writer._move()
    assert (recorder.path / "run.journal").read_bytes() == b""
    ids += _steps(recorder, synthetic, 4)
    new = (recorder.path / "run.journal").read_bytes()
    for number, data in enumerate((old, old + new, new, b"")):
        left = _copy(recorder.path, tmp_path / str(number))
        (left / "run.journal").write_bytes(data)
        assert _ids(left) == (ids if new in data and new else ids[:5])
        with Run.open(left) as run:
            assert len(run.scalars()["loss"][0]) == len(run.steps())
            assert all(len(run.executions(step.id)) == 10 for step in run.steps())
    # Records that follow ones that are nowhere are left alone: they may refer to these.
    left = _copy(recorder.path, tmp_path / "gap")
    length = journal._HEAD.unpack_from(new)[1] + journal._HEAD.size
    (left / "run.journal").write_bytes(new[length:])
    assert _ids(left) == ids[:5]


@pytest.mark.usefixtures("still")
def test_a_journal_that_was_cut_has_the_records_before_the_cut(
    recorders: Recorders, synthetic: Any, tmp_path: Path
) -> None:
    recorder = recorders()
    ids = _steps(recorder, synthetic, 4)
    left = _copy(recorder.path, tmp_path / "left")
    whole = (left / "run.journal").read_bytes()
    counts = []
    for length in range(0, len(whole) + 1, 97):
        (left / "run.journal").write_bytes(whole[:length])
        found = _ids(left)
        assert found == ids[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts) and counts[0] == 0
    (left / "run.journal").write_bytes(whole + b"DFJ1 and then nothing")
    assert _ids(left) == ids


@pytest.fixture(scope="module")
def left() -> Iterator[Path]:
    """A killed run whose steps are in the journal alone."""
    script = (
        "import importlib.util, os, signal, sys;"
        "spec = importlib.util.spec_from_file_location('synthetic', 'tests/tracing/conftest.py');"
        "made = importlib.util.module_from_spec(spec); sys.modules['synthetic'] = made; spec.loader.exec_module(made);"
        "import tracing; from tracing import writer;"
        "writer._MOVED_SECONDS = 1e9;"
        "recorder = tracing.start({!r}, 'full', 'left', tensorboard=False); stage = made.small_stage();"
        "[made.run_step(recorder, stage, step) for step in range(5)];"
        "tracing.scalar('loss', float('nan'), 1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script.format(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == -signal.SIGKILL
        (path,) = Path(folder).iterdir()
        yield path


def test_a_process_that_kills_itself_leaves_everything(left: Path) -> None:
    with Run.open(left) as run:
        assert run.state == "interrupted"
        assert [step.step for step in run.steps()] == [0, 1, 2, 3, 4]
        (values,) = [values for _, values in run.scalars().values()]
        assert np.isnan(values).all()
    assert (left / "run.journal").stat().st_size > 0


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def _reads(path: Path) -> int:
    """How many steps there are; whatever is wrong is a RunError."""
    try:
        with Run.open(path) as run:
            ids = [step.id for step in run.steps()]
            for step in ids:
                for read in (
                    run.executions,
                    run.health,
                    run.tokens,
                    run.frames,
                    run.resource_writes,
                    run.values,
                ):
                    with contextlib.suppress(RunError):
                        read(step)
            with contextlib.suppress(RunError):
                run.histograms()
            run.scalars()
            run.unfinished()
            return len(ids)
    except RunError:
        return 0


@FUZZ
@given(st.data())
def test_damage_takes_what_comes_behind_it(left: Path, data: st.DataObject) -> None:
    whole = (left / "run.journal").read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        target = _copy(left, Path(folder) / "run")
        (target / "run.journal").write_bytes(bytes(damaged))
        assert _reads(target) < 5 or damaged[: len(whole) // 2] == whole[: len(whole) // 2]


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=2),
)


@st.composite
def _hostile(draw: st.DrawFn) -> list[Any]:
    """Rows that somebody made up, most of them for tables that there are, with values of the right or of other kinds."""
    table = draw(st.sampled_from([*schema.JOURNALED, "meta", "sqlite_master"]))
    values: list[Any] = []
    columns = schema.columns_of(table).values() if table in schema.JOURNALED else [(int,)]
    for kind, *_ in columns:
        fits = {str: st.text(max_size=5), bytes: st.binary(max_size=8), float: st.floats()}
        right = fits.get(kind, st.integers(-3, 8))
        values.append(draw(right if draw(st.integers(0, 19)) else _VALUES))
    return [table, tuple(values)]


@FUZZ
@given(st.lists(st.lists(_hostile(), max_size=4), max_size=4))
def test_a_hostile_journal_is_a_run_error_or_harmless(left: Path, rows: list[Any]) -> None:
    data = b""
    for sequence, several in enumerate(rows, 1):
        with contextlib.suppress(TypeError):  # bytes where JSON has none
            data += journal.record(sequence, several)
    for _, found in journal.records(data, 0):
        assert all(table in schema.JOURNALED for table, _ in found)
    with tempfile.TemporaryDirectory() as folder:
        target = _copy(left, Path(folder) / "run")
        (target / "run.journal").write_bytes(data)
        _reads(target)


@given(st.binary(max_size=300), st.integers(0, 5))
def test_other_bytes_have_no_records(data: bytes, after: int) -> None:
    assert list(journal.records(b"DFJ1" + data, after)) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_journal_that_is_no_file_is_left_alone(left: Path, tmp_path: Path) -> None:
    target = _copy(left, tmp_path / "run")
    (target / "run.journal").unlink()
    os.mkfifo(target / "run.journal")
    assert _ids(target) == []


@pytest.mark.usefixtures("still")
def test_a_live_reader_sees_each_step_once_on_its_way(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    with Run.open(recorder.path) as run:
        assert not run.refresh()
        ids = _steps(recorder, synthetic, 3)
        assert run.refresh() and not run.refresh()
        assert [step.id for step in run.steps()] == ids
        found = _read(run)
        recorder._writer._move()
        assert _read(run) == found  # before it has looked again
        assert run.refresh()
        assert _read(run) == found
        ids += _steps(recorder, synthetic, 2)
        recorder._writer.put_meta({"x": 1})
        ids += _steps(recorder, synthetic, 1)
        assert run.refresh()
        assert [step.id for step in run.steps()] == ids
        found = _read(run)
        recorder.close()
        assert run.refresh() and run.state == "finished"
        assert _read(run) == found


def test_what_waits_is_moved_though_the_program_does_other_things(
    recorders: Recorders, synthetic: Any
) -> None:
    recorder = recorders()
    ids = _steps(recorder, synthetic, 1)
    connection = sqlite3.connect(recorder.path / "run.sqlite")
    for _ in range(5_000):
        found = connection.execute("SELECT id FROM steps").fetchall()
        if found:
            break
        time.sleep(0.02)
    connection.close()
    assert found == [(ids[0],)]
    assert (recorder.path / "run.journal").stat().st_size == 0


def test_many_threads_and_a_reader(
    recorders: Recorders, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MOVED_RECORDS", 5)
    monkeypatch.setattr(writer, "_MOVED_SECONDS", 0.002)
    recorder = recorders()
    stage = synthetic.small_stage()
    told: list[int] = []

    def work() -> None:
        for step in range(30):
            told.append(synthetic.run_step(recorder, stage, step).id)
            recorder.scalar("loss", 1.0, step)

    threads = [threading.Thread(target=work) for _ in range(3)]
    with Run.open(recorder.path) as run:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            before = set(told)
            run.refresh()
            steps = run.steps()
            assert before <= {step.id for step in steps}
            for step in steps[-2:]:
                assert len(run.executions(step.id)) == 10
    assert recorder.failure is None
    recorder.close()
    assert set(_ids(recorder.path)) == set(told) and len(told) == 90
    with Run.open(recorder.path) as run:
        assert len(run.scalars()["loss"][0]) == 90
        assert sorted(row[0].id for row in _read(run)[0]) == sorted(told)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("still")
def test_a_forked_child_leaves_the_journal_alone(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    ids = _steps(recorder, synthetic, 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            synthetic.run_step(recorder, synthetic.small_stage())
            recorder.scalar("loss", 1.0, 1)
            recorder.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    ids += _steps(recorder, synthetic, 2)
    assert _ids(recorder.path) == ids
    recorder.close()
    assert _ids(recorder.path) == ids


@pytest.mark.usefixtures("still")
def test_a_full_disk_ends_the_recording_and_leaves_whole_records(
    recorders: Recorders, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorders()
    observe.install(recorder)
    ids = _steps(recorder, synthetic, 2)
    really = os.write
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", lambda file, data: really(file, data[: len(data) // 2]))
        with pytest.warns(RuntimeWarning, match="has stopped, the program goes on: OSError"):
            synthetic.run_step(recorder, synthetic.small_stage())
    assert recorder not in observe.installed()
    assert _ids(recorder.path) == ids
    recorder.close()
    assert _ids(recorder.path) == ids


def test_why_records_could_not_be_moved_is_said_by_who_writes_next(
    recorders: Recorders, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MOVED_SECONDS", 0.01)
    recorder = recorders()
    _steps(recorder, synthetic, 1)
    recorder._writer._move()

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(recorder._writer, "_put_rows", full)
        patch.setattr(writer, "_MOVED_RECORDS", 1 << 60)
        ids = _steps(recorder, synthetic, 1)
        for _ in range(5_000):
            if recorder._writer._problem is not None:
                break
            time.sleep(0.02)
        with pytest.warns(RuntimeWarning, match="database or disk is full"):
            synthetic.run_step(recorder, synthetic.small_stage())
    assert recorder.failure is not None
    recorder.close()
    assert _ids(recorder.path)[1:] == ids


def test_texts_that_are_not_unicode_and_large_steps(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders(TraceLevel.TIMES)
    stage = synthetic.small_stage()
    rng = np.random.default_rng(1)
    info = synthetic.step_info(stage)
    recorder.step_begin(info)
    batch = synthetic.executions(stage, 400_000)
    batch.start_ns[:] = rng.integers(0, 1 << 60, len(batch))
    recorder.executions(info, batch)
    recorder.step_end(info, info.started_ns, ValueError("a\udc80é"))
    recorder.scalar("a\udc80", 1.0, 2)
    recorder.scalar("inf", float("inf"), 2)
    assert recorder.failure is None
    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        assert step.error == "ValueError: a\\udc80é"
        assert run.executions(step.id).start_ns.tobytes() == batch.start_ns.tobytes()
        assert list(run.scalars()) == ["a\\udc80", "inf"]


def test_interrupts_lose_nothing_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at any moment: every step whose `run` has returned is there, once, and recording goes on."""
    monkeypatch.setattr(writer, "_MOVED_RECORDS", 3)
    with tf.Graph().as_default() as graph:
        y = tf.sin(tf.placeholder_with_default(1.0, []))
    done, armed = threading.Event(), [False]

    def interrupt() -> None:
        while not done.wait(0.01):
            os.kill(os.getpid(), signal.SIGINT)

    def handler(*_: Any) -> None:
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    told = logged = interrupted = 0
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with tf.Session(graph=graph) as session, tracing.record(tmp_path, tensorboard=False) as recorder:
            for _ in range(5):  # which imports things
                session.run(y)
            tracing.scalar("y", 1.0, 0)
            thread.start()
            until = time.monotonic() + 60
            while min(told, interrupted) < 25 and time.monotonic() < until:
                try:
                    armed[0] = True
                    session.run(y)
                    told += 1
                    tracing.scalar("y", 1.0, told)
                    logged += 1
                    armed[0] = False
                except KeyboardInterrupt:
                    interrupted += 1
            assert recorder.failure is None
            with Run.open(recorder.path) as run:
                assert len(run.steps()) >= told + 5
                assert len(run.scalars()["y"][0]) >= logged
            session.run(y)
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert told > 0 and interrupted > 0
    with Run.open(recorder.path) as run:
        steps = run.steps()
        assert len(steps) > told
        assert len({step.id for step in steps}) == len(steps)
        assert run.state == "finished"
