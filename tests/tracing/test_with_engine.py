"""Recordings of real sessions: what the run says happened is what the program computed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.config_pb2 import RunMetadata

import engine as tf
import tracing
from engine.observe import FrameChange
from engine.types import errors
from tracing.metadata import step_metadata
from tracing.reader import Run
from tracing.report import report


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def _loop(limit: Any) -> Any:
    """Doubles 1.0 `limit` times."""
    return tf.while_loop(lambda i, x: i < limit, lambda i, x: (i + 1, x * 2.0), [0, 1.0])[1]


def _names(run: Run, step: Any, rows: Any) -> list[str]:
    order = run.stage(step.stage_id).order
    return [order[node] for node in run.executions(step.id).node[rows].tolist()]


def test_a_loop_in_a_branch(tmp_path: Path) -> None:
    """The branch taken runs its loop; in the other, everything is dead, and its loop's frame never lives."""
    choose = tf.placeholder(tf.bool, [], name="choose")
    result = tf.cond(choose, lambda: _loop(3), lambda: _loop(5))
    with tracing.record(tmp_path, "full", "branches") as recorder, tf.Session() as session:
        found = [session.run(result, {choose: choice}) for choice in (True, False)]
    assert found == [8.0, 32.0]
    with Run.open(recorder.path) as run:
        for step, iterations in zip(run.steps(), (3, 5)):
            executions = run.executions(step.id)
            assert step.executions == len(executions)
            assert step.dead == executions.dead.sum() > 0
            assert (executions.start_ns[executions.dead] == executions.end_ns[executions.dead]).all()
            begun = [event for event in run.frames(step.id) if event.change is FrameChange.ITERATION_BEGIN]
            live = {
                event.frame
                for event in run.frames(step.id)
                if event.change is FrameChange.FRAME_END and event.live
            }
            assert len(live) == 1
            # As many bodies as iterations, and one more test of the condition.
            assert sum(event.frame in live for event in begun) == iterations + 1
            products = [
                row
                for row in range(len(executions))
                if not executions.dead[row] and executions.frame[row] in live
            ]
            types = [run.stage(step.stage_id).nodes[name].type for name in _names(run, step, products)]
            assert types.count("Mul") == iterations
            tokens = run.tokens(step.id)
            assert len(tokens) > len(executions) - 1 and tokens.dead.any()
        assert report(run).steps == 2


def test_values_are_those_that_were_computed(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = tf.reduce_sum(
        tf.matmul(x, tf.constant(np.arange(6.0).reshape(3, 2), tf.float32), name="product"), name="total"
    )
    data = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    with tracing.record(tmp_path, "full") as recorder, tf.Session() as session:
        total = session.run(y, {x: data})
    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        assert step.feeds == ("x:0",) and step.fetches == ("total:0",)
        values = {
            name: value.array for value in run.values(step.id) for name in _names(run, step, [value.row])
        }
        np.testing.assert_allclose(values["product"], data @ np.arange(6.0).reshape(3, 2), rtol=1e-5)
        assert values["total"] == total
        health = run.health(step.id)
        for i, row in enumerate(health.row.tolist()):
            (name,) = _names(run, step, [row])
            if name == "product":
                assert health.shapes[i] == (4, 2)
                assert health.minimum[i] == pytest.approx(values["product"].min())
                assert health.mean[i] == pytest.approx(values["product"].mean(), rel=1e-5)
                assert health.nbytes[i] == 32


def test_every_node_leads_to_the_line_that_made_it(tmp_path: Path) -> None:
    a = tf.constant(2.0, name="a")
    b = tf.multiply(a, 3.0, name="b")  # this very line
    with tracing.record(tmp_path) as recorder, tf.Session() as session:
        session.run(b)
    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        stage = run.stage(step.stage_id)
        assert stage.chain()[0].name == "built"
        site = stage.nodes["b"].site
        assert site is not None and site.user is not None
        assert site.user.file == __file__
        assert site.user.source.endswith("# this very line")
        assert step.site[0].source == "session.run(b)"
        node = next(node for node in report(run).slowest if node.name == "b")
        assert node.source.startswith(__file__) and node.text.endswith("# this very line")


def test_a_variable_is_written_with_who_did_it(tmp_path: Path) -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    add = tf.assign_add(v, [1.0, 1.0], name="more")
    with tracing.record(tmp_path) as recorder, tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run(add)
    with Run.open(recorder.path) as run:
        initial, *others = run.steps()
        (write,) = run.resource_writes(initial.id)
        assert write.resource == "v" and write.nbytes == 8
        versions = [write.version]
        for step in others:
            (write,) = run.resource_writes(step.id)
            assert run.stage(step.stage_id).order[write.node] == "more"
            assert _names(run, step, [write.row]) == ["more"]
            versions.append(write.version)
        assert versions == [versions[0], versions[0] + 1, versions[0] + 2]


def test_an_error_is_kept_with_its_node(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, None, name="x")
    y = tf.reshape(x, [7], name="bad")
    with tracing.record(tmp_path) as recorder, tf.Session() as session:
        with pytest.raises(errors.InvalidArgumentError):
            session.run(y, {x: np.zeros(3)})
        session.run(y, {x: np.zeros(7)})
    with Run.open(recorder.path) as run:
        failed, good = run.steps()
        assert failed.error is not None and failed.error.startswith("InvalidArgumentError")
        assert failed.error_node == "bad"
        assert good.error is None
        assert run.state == "finished"
        assert report(run).errors[0].node == "bad"


def test_sessions_of_several_threads(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    y = tf.multiply(_loop(4), x, name="y")
    with tf.Session() as shared, tracing.record(tmp_path, "values", tensorboard=False) as recorder:

        def work(session: Any, start: int) -> None:
            for i in range(10):
                assert session.run(y, {x: start + i}) == 16.0 * (start + i)

        with tf.Session() as other:
            threads = [
                threading.Thread(target=work, args=(s, 100 * n))
                for n, s in enumerate((shared, shared, other))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert recorder.failure is None
    with Run.open(recorder.path) as run:
        steps = run.steps()
        assert len(steps) == 30
        assert len({step.session for step in steps}) == 2
        assert len({step.thread for step in steps}) == 3
        assert len({step.executions for step in steps}) == 1


def test_run_metadata_of_a_session_and_of_the_recording_agree(tmp_path: Path) -> None:
    y = tf.add(_loop(3), 1.0, name="y")
    message = RunMetadata()
    with tracing.record(tmp_path, "values") as recorder, tf.Session() as session:
        session.run(y, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=message)
        untouched = RunMetadata()
        session.run(y, run_metadata=untouched)
    assert not untouched.step_stats.dev_stats
    with Run.open(recorder.path) as run:
        first = run.steps()[0]
        assert step_metadata(run, first.id) == message
        accumulator = EventAccumulator(str(recorder.path)).Reload()
        theirs = accumulator.RunMetadata(f"step_{first.id:04d}")
        assert theirs.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
        graph = {node.name: node for node in accumulator.Graph().node}
        built = run.stage(first.stage_id).chain()[0]
        assert set(graph) == set(built.order)
        records = [record for device in message.step_stats.dev_stats for record in device.node_stats]
        assert {record.node_name for record in records} <= {*run.stage(first.stage_id).order}
        assert sum(record.node_name == "y" for record in records) == 1
        assert all(record.all_end_rel_micros >= 1 for record in records)


@pytest.mark.usefixtures("as_written")
def test_run_metadata_without_a_recording() -> None:
    y = tf.add(tf.constant([1.0, 2.0]), 1.0, name="y")
    message = RunMetadata()
    with tf.Session() as session:
        session.run(y, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=message)
    (record,) = [
        r for device in message.step_stats.dev_stats for r in device.node_stats if r.node_name == "y"
    ]
    assert record.timeline_label.startswith("y = Add")
    assert [dim.size for dim in record.output[0].tensor_description.shape.dim] == [2]


def test_a_long_step_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracing.recorder.SPILL_BYTES", 100_000)
    with tracing.record(tmp_path, tensorboard=False) as recorder, tf.Session() as session:
        counted = tf.while_loop(lambda i: i < 9000, lambda i: i + 1, [0])
        assert session.run(counted) == 9000
    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        executions = run.executions(step.id)
        assert len(executions) == step.executions > 50_000
        assert (np.diff(executions.end_ns) >= 0).all()
        assert executions.iteration.max() == 9000
