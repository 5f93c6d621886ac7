"""What steps have in common is stored once, and what is read is what was told, whoever ran the step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing
from engine import observe
from engine.observe import Executions, ResourceWrites, TraceLevel
from tracing import batches, columns, kinds, rows
from tracing.errors import RunError
from tracing.reader import Run
from tracing.recorder import Recorder

Recorders = Callable[..., Recorder]
COLUMNS = ("node", "frame", "iteration", "start_ns", "end_ns", "thread", "dead")


class Told(observe.Observer):
    """Keeps all batches, by step and kind."""

    def __init__(self, level: TraceLevel) -> None:
        self.level = level
        self.kept: dict[int, dict[str, list[Any]]] = {}

    def step_begin(self, step: observe.StepInfo) -> None:
        self.kept[step.id] = {}

    def _keep(self, step: observe.StepInfo, kind: str, batch: Any) -> None:
        self.kept[step.id].setdefault(kind, []).append(batch)

    def executions(self, step: observe.StepInfo, batch: Executions) -> None:
        self._keep(step, "executions", batch)

    def resource_writes(self, step: observe.StepInfo, batch: Any) -> None:
        self._keep(step, "resource_writes", batch)

    def health(self, step: observe.StepInfo, batch: observe.Health) -> None:
        self._keep(step, "health", batch)

    def tokens(self, step: observe.StepInfo, batch: observe.Tokens) -> None:
        self._keep(step, "tokens", batch)

    def frames(self, step: observe.StepInfo, batch: Any) -> None:
        self._keep(step, "frames", batch)


def _equal(found: Any, told: list[Any], names: tuple[str, ...]) -> None:
    for name in names:
        mine = getattr(found, name)
        theirs = np.concatenate([getattr(batch, name) for batch in told]) if told else mine[:0]
        assert mine.tobytes() == theirs.astype(mine.dtype).tobytes(), name


def _training() -> tuple[Any, Any]:
    """A small model under Adam: variables, and scalars that change from step to step."""
    x = tf.placeholder(tf.float32, [4, 3])
    w = tf.Variable(np.ones((3, 2), np.float32), name="w")
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w)))
    return [loss, tf.train.AdamOptimizer().minimize(loss)], {x: np.ones((4, 3), np.float32)}


def _branches() -> tuple[Any, Any]:
    """Which branch is taken, and how often a loop goes round, differs from step to step."""
    count = tf.Variable(0, name="count")
    more = count.assign_add(1)
    y = tf.cond(tf.equal(more % 2, 0), lambda: tf.sin(2.0), lambda: tf.cos(1.0) + 1.0)
    z = tf.while_loop(lambda i: i < more, lambda i: i + 1, [0])
    return [y, z], {}


@pytest.mark.parametrize("level", ["times", "values", "full"])
@pytest.mark.parametrize("plans", ["always", "off"])
@pytest.mark.parametrize("program", [_training, _branches])
def test_what_is_read_is_what_was_told(tmp_path: Path, program: Any, plans: str, level: str) -> None:
    with tf.Graph().as_default() as graph:
        fetches, feeds = program()
        init = tf.global_variables_initializer()
    told = Told(TraceLevel[level.upper()])
    with tf.Session(graph=graph, config=tf.ConfigProto(plans=plans)) as session:
        session.run(init)
        observe.install(told)
        try:
            with tracing.record(tmp_path, level, tensorboard=False) as recorder:
                for _ in range(9):
                    session.run(fetches, feeds)
        finally:
            observe.uninstall(told)
    with Run.open(recorder.path) as run:
        assert [step.id for step in run.steps()] == list(told.kept)
        for step in run.steps():
            kept = told.kept[step.id]
            found = run.executions(step.id)
            _equal(found, kept["executions"], COLUMNS)
            assert step.executions == len(found)
            assert step.dead == np.count_nonzero(found.dead)
            writes = [write for batch in kept.get("resource_writes", ()) for write in batch]
            assert list(run.resource_writes(step.id)) == writes
            frames = [event for batch in kept.get("frames", ()) for event in batch]
            assert list(run.frames(step.id)) == frames
            _equal(run.health(step.id), kept.get("health", []), ("row", "slot", "minimum", "mean", "nan"))
            _equal(run.tokens(step.id), kept.get("tokens", []), ("row", "node", "slot", "dead"))
            ((_, parts),) = run.partitions(step.id).items()
            assert sum(map(len, parts)) == len(found)


def _count(path: Path, statement: str) -> Any:
    connection = sqlite3.connect(path / "run.sqlite")
    try:
        return connection.execute(statement).fetchone()[0]
    finally:
        connection.close()


def test_steps_that_are_the_same_are_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for steps in (100, 200):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [500])
            y = x
            for _ in range(40):
                y = tf.matmul(tf.reshape(y, [1, 500]), tf.ones([500, 1])) + x
            init = tf.no_op()
        with (
            tf.Session(graph=graph) as session,
            tracing.record(tmp_path, tensorboard=False) as recorder,
        ):
            session.run(init)
            for _ in range(4):
                session.run(y, {x: np.ones(500, np.float32)})
            for _ in range(steps):
                session.run(y, {x: np.ones(500, np.float32)})
        assert 1 <= _count(recorder.path, "SELECT count(*) FROM bases") <= 4
        assert _count(recorder.path, "SELECT count(*) FROM batches WHERE base_id IS NULL") <= 6
        sizes[steps] = _count(recorder.path, "SELECT sum(length(data)) FROM batches")
        with Run.open(recorder.path) as run:
            executions = run.steps()[-1].executions
    assert (sizes[200] - sizes[100]) / 100 < 4 * executions + 300  # bytes a step


def test_made_up_steps_share_what_they_can(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    infos = [synthetic.run_step(recorder, stage, step, count=10 + step // 5) for step in range(20)]
    recorder.close()
    assert 4 <= _count(recorder.path, "SELECT count(*) FROM bases") <= 25
    with Run.open(recorder.path) as run:
        for number, info in enumerate(infos):
            count = 10 + number // 5
            assert run.executions(info.id).start_ns.tolist() == [
                info.started_ns + 2000 * i for i in range(count)
            ]
            assert run.health(info.id).shapes == synthetic.health(count).shapes
            assert run.tokens(info.id).row.tolist() == list(range(count))
            assert run.frames(info.id) == synthetic.loop_events()
            assert run.resource_writes(info.id) == (synthetic.write_of(2), synthetic.write_of(4, 2))


def test_a_base_that_is_gone_or_damaged_is_a_run_error(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    first, *_, last = [synthetic.run_step(recorder, stage, step) for step in range(4)]
    recorder.close()
    connection = sqlite3.connect(recorder.path / "run.sqlite", isolation_level=None)
    connection.execute("UPDATE bases SET data = x'00'")
    with Run.open(recorder.path) as run, pytest.raises(RunError, match="executions of step"):
        run.executions(last.id)
    connection.execute("DELETE FROM bases")
    with Run.open(recorder.path) as run:
        with pytest.raises(RunError, match="base 1, is not there"):
            run.executions(last.id)
        assert len(run.executions(first.id)) == 10
    connection.close()


def test_runs_of_version_3_open(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    info = synthetic.run_step(recorder, synthetic.small_stage())
    recorder.close()
    connection = sqlite3.connect(recorder.path / "run.sqlite", isolation_level=None)
    connection.execute("DROP TABLE moved")
    connection.execute("DROP TABLE bases")
    connection.execute("ALTER TABLE batches DROP COLUMN base_id")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with Run.open(recorder.path) as run:
        assert run.schema_version == 3
        assert len(run.executions(info.id)) == 10


def test_damaged_columns_of_a_pattern_are_refused() -> None:
    good = {
        "device": kinds.byte_strings(["cpu"]),
        "first": np.array([0]),
        "count": np.array([2]),
        **{name: np.zeros(2, np.int32) for name in ("node", "frame", "iteration", "thread", "dead")},
        "start_at": np.array([0, 1]),
        "end_at": np.array([1, 2]),
        "times": np.array([5, 6, 9]),
    }
    assert batches.read_executions(good).batch.end_ns.tolist() == [6, 9]
    for name, wrong in (
        ("end_at", np.array([1, 3])),
        ("start_at", np.array([-1, 1])),
        ("start_at", np.array([1])),
    ):
        with pytest.raises(columns.ColumnsError, match="do not add up"):
            batches.read_executions({**good, name: wrong})


def test_rows_of_a_columnar_batch() -> None:
    pattern = observe.WritePattern(
        *((1, 2), (3, 4), (0, 0), (0, 0), ("c", "c"), ("v", "w"), ("assign", "push"), (8, 4)),
        ("float32 [2]", None),
        (-1, -1),
    )
    batch = ResourceWrites(pattern, (7, 8), np.array([10, 11]), ["float32 1.5"])
    assert len(batch) == 2 and batch[1].summary == "float32 1.5" and batch[0:1][0].version == 7
    kind = rows.RESOURCE_WRITES
    assert kind.read([kind.write([batch])]) == tuple(batch)
    assert kind.read([kind.write([batch, tuple(batch)])]) == (*batch, *batch)
    broken = {**kind.write([batch]), "summary:own": np.frombuffer(b"[]", np.uint8)}
    with pytest.raises(columns.ColumnsError, match="a text is missing"):
        kind.read([broken])
