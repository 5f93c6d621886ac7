"""What a recorder is told, a reader finds: for all kinds of batches, several threads, long steps, small budgets."""

from __future__ import annotations

import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from engine import observe
from engine.observe import Allocation, TraceLevel, Transfer, Value
from engine.types import errors
from tracing.reader import Run
from tracing.recorder import Recorder

Recorders = Callable[..., Recorder]


def _equal(found: Any, told: Any, names: tuple[str, ...]) -> None:
    for name in names:
        mine, theirs = np.asarray(getattr(found, name)), np.asarray(getattr(told, name))
        assert mine.dtype == theirs.dtype or name == "row", name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


EXECUTIONS = ("node", "frame", "iteration", "start_ns", "end_ns", "thread", "dead")
HEALTH = ("row", "slot", "dtype", "minimum", "maximum", "mean", "nan", "inf", "nbytes")
TOKENS = ("row", "source_slot", "node", "slot", "frame", "iteration", "dead")


def test_everything_that_a_step_tells_is_found(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    info = synthetic.step_info(stage, step=3, session=2)
    executions = synthetic.executions(stage, 30)
    health, tokens = synthetic.health(30), synthetic.tokens(40)
    transfer = Transfer("key", "a", "b", 1, 2, 100, 5, 6, False)
    allocation = Allocation(synthetic.cpu, 3, 77, -100, 2000)
    values = (Value(1, 0, np.float32(2.5)), Value(2, 1, np.array([b"a", b"bc"], object)))
    recorder.stage(stage)
    recorder.step_begin(info)
    recorder.executions(info, executions)
    recorder.health(info, health)
    recorder.tokens(info, tokens)
    recorder.frames(info, synthetic.loop_events())
    recorder.resource_writes(info, (synthetic.write_of(2), synthetic.write_of(4, 2)))
    recorder.transfers(info, (transfer,))
    recorder.allocations(info, (allocation,))
    recorder.values(info, values)
    recorder.step_end(info, info.started_ns + 12345, None)

    with Run.open(recorder.path) as run:
        (step,) = run.steps()
        assert (step.id, step.session, step.step) == (info.id, 2, 3)
        assert (step.started_ns, step.started_unix_ns, step.duration_ns) == (
            info.started_ns,
            info.started_unix_ns,
            12345,
        )
        assert (step.fetches, step.feeds, step.targets) == (("loss:0",), ("x:0",), ())
        assert step.thread == info.thread
        assert step.finished and step.error is None
        assert step.site == info.site and step.site[0].source == info.site[0].source
        assert (step.executions, step.dead, step.frames, step.iterations) == (30, 4, 1, 2)
        assert step.recorder_ns > 0
        assert [row.name for row in run.stages()] == ["built", "pruned"]
        assert run.stage(step.stage_id).order == stage.order
        found = run.executions(info.id)
        assert (found.device, found.first) == (synthetic.cpu, 0)
        _equal(found, executions, EXECUTIONS)
        _equal(run.health(info.id), health, HEALTH)
        assert run.health(info.id).shapes == health.shapes
        _equal(run.tokens(info.id), tokens, TOKENS)
        assert run.frames(info.id) == synthetic.loop_events()
        assert run.resource_writes(info.id) == (synthetic.write_of(2), synthetic.write_of(4, 2))
        assert run.transfers(info.id) == (transfer,)
        assert run.allocations(info.id) == (allocation,)
        kept = run.values(info.id)
        assert [(value.row, value.slot) for value in kept] == [(1, 0), (2, 1)]
        assert kept[0].array.dtype == np.float32 and kept[0].array == 2.5
        assert kept[1].array.tolist() == [b"a", b"bc"]
        assert run.step(info.id) == step
        assert __file__ in run.sources()
        assert "def test_everything_that_a_step_tells_is_found" in (run.source(__file__) or "")


def test_a_step_that_tells_nothing(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    info = synthetic.step_info(synthetic.small_stage(), site=())
    recorder.step_begin(info)
    recorder.step_end(info, info.started_ns, None)
    with Run.open(recorder.path) as run:
        assert run.steps()[0].site == ()
        assert len(run.executions(info.id)) == len(run.health(info.id)) == len(run.tokens(info.id)) == 0
        assert run.frames(info.id) == run.values(info.id) == run.dropped(info.id) == ()


def test_levels_keep_what_they_say(recorders: Recorders, synthetic: Any) -> None:
    for level, health, tokens in (
        (TraceLevel.TIMES, 0, 0),
        (TraceLevel.VALUES, 10, 0),
        (TraceLevel.FULL, 10, 10),
    ):
        recorder = recorders(level)
        info = synthetic.run_step(recorder, synthetic.small_stage(), values=(Value(1, 0, np.ones(3)),))
        with Run.open(recorder.path) as run:
            assert run.level == level.name.lower()
            assert len(run.executions(info.id)) == 10
            assert len(run.health(info.id)) == health
            assert len(run.tokens(info.id)) == tokens
            assert len(run.values(info.id)) == (level is TraceLevel.FULL)


def test_an_error_of_a_step_is_kept(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    error = errors.InvalidArgumentError(None, stage.nodes["layer/matmul"], "shapes do not fit")
    info = synthetic.run_step(recorder, stage, error=error)
    with Run.open(recorder.path) as run:
        step = run.step(info.id)
        assert step.error is not None and step.error.startswith("InvalidArgumentError: shapes do not fit")
        assert step.error_node == "layer/matmul"


def test_rows_of_several_devices_are_put_in_order(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    info = synthetic.step_info(stage)
    whole = synthetic.executions(stage, 40, start_ns=1000)
    recorder.step_begin(info)
    for device, first, count in (("gpu", 10, 5), ("cpu", 0, 10), ("cpu", 15, 20), ("gpu", 35, 5)):
        recorder.executions(info, synthetic.executions(stage, count, first, device, start_ns=1000))
    recorder.step_end(info, info.started_ns, None)
    with Run.open(recorder.path) as run:
        found = run.executions(info.id)
        assert found.device == ""
        _equal(found, whole, EXECUTIONS)
        parts = run.partitions(info.id)
        assert {device: [(b.first, len(b)) for b in batches] for device, batches in parts.items()} == {
            "gpu": [(10, 5), (35, 5)],
            "cpu": [(0, 10), (15, 20)],
        }
        _equal(parts["gpu"][1], synthetic.executions(stage, 5, 35, "gpu", start_ns=1000), EXECUTIONS)


def test_long_steps_are_written_in_parts(
    recorders: Recorders, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracing.recorder.SPILL_BYTES", 50_000)
    recorder = recorders()
    stage = synthetic.small_stage()
    before = synthetic.run_step(recorder, stage)
    info = synthetic.step_info(stage, 2)
    recorder.step_begin(info)
    with Run.open(recorder.path) as run:
        for i in range(20):
            recorder.executions(info, synthetic.executions(stage, 500, 500 * i, start_ns=info.started_ns))
            recorder.health(info, synthetic.health(500, 500 * i))
            recorder.frames(info, synthetic.loop_events())
            assert recorder._steps[info.id].nbytes <= 50_000
        run.refresh()
        assert [step.id for step in run.steps()] == [before.id]
        (unfinished,) = run.unfinished()
        assert unfinished.id == info.id and not unfinished.finished and unfinished.duration_ns == 0
        assert len(run.executions(info.id)) >= 9000
        recorder.step_end(info, info.started_ns + 10**9, None)
        assert run.refresh()
        assert [step.id for step in run.steps()] == [before.id, info.id]
        assert run.unfinished() == []
        step = run.step(info.id)
        assert (step.executions, step.frames, step.duration_ns) == (10_000, 20, 10**9)
        _equal(
            run.executions(info.id), synthetic.executions(stage, 10_000, start_ns=info.started_ns), EXECUTIONS
        )
        assert run.health(info.id).shapes == synthetic.health(10_000).shapes
        assert run.frames(info.id) == synthetic.loop_events() * 20


def test_steps_under_way_when_recording_ends_stay_unfinished(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    info = synthetic.step_info(stage)
    recorder.step_begin(info)
    recorder.executions(info, synthetic.executions(stage, 5))
    recorder.close()
    recorder.step_end(info, info.started_ns, None)
    with Run.open(recorder.path) as run:
        assert run.state == "finished"
        assert run.steps() == []
        assert [step.id for step in run.unfinished()] == [info.id]
        assert len(run.executions(info.id)) == 5


def test_a_step_that_began_before_the_recorder_is_left_out(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage = synthetic.small_stage()
    info = synthetic.step_info(stage)
    recorder.executions(info, synthetic.executions(stage, 5))
    recorder.step_end(info, info.started_ns, None)
    with Run.open(recorder.path) as run:
        assert run.steps() == run.unfinished() == []


def test_many_threads_at_once(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stages = [synthetic.small_stage() for _ in range(3)]
    told: dict[int, int] = {}

    def work(session: int) -> None:
        for step in range(1, 26):
            stage = stages[(session + step) % 3]
            told[synthetic.run_step(recorder, stage, step, count=session + 10, session=session).id] = session

    threads = [threading.Thread(target=work, args=(session,)) for session in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.failure is None
    with Run.open(recorder.path) as run:
        steps = run.steps()
        assert {step.id: step.session for step in steps} == told
        assert len(run.stages()) == 6
        for step in steps[::10]:
            assert len(run.executions(step.id)) == step.executions == step.session + 10


def test_values_of_every_type_come_back(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    arrays = [
        np.arange(6, dtype=np.float64).reshape(2, 3),
        np.array(True),
        np.zeros((0, 4), np.int8),
        np.ones(3, ml_dtypes.bfloat16),
        np.complex64(1 + 2j),
        np.array(b"text", object),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(6, dtype=np.float64).reshape(2, 3) + 1,
    ]
    values = tuple(Value(i, 0, array) for i, array in enumerate(arrays))
    info = synthetic.run_step(recorder, synthetic.small_stage(), values=values)
    with Run.open(recorder.path) as run:
        found = run.values(info.id)
        assert [value.row for value in found] == list(range(len(arrays)))
        for value, array in zip(found, arrays):
            assert value.array.dtype == array.dtype
            assert value.array.shape == array.shape
            assert value.array.tolist() == array.tolist()


def test_values_are_copied_when_they_are_told(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders()
    stage, buffer = synthetic.small_stage(), np.zeros(4)
    info = synthetic.step_info(stage)
    recorder.step_begin(info)
    recorder.values(info, (Value(0, 0, buffer),))
    buffer += 1
    recorder.step_end(info, info.started_ns, None)
    with Run.open(recorder.path) as run:
        assert run.values(info.id)[0].array.tolist() == [0, 0, 0, 0]


def test_the_byte_budget_is_kept_and_what_is_dropped_is_said(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders(value_budget=1000, value_cap=400)
    stage = synthetic.small_stage()
    values = (
        Value(0, 0, np.zeros(50)),  # 400 bytes: kept
        Value(1, 0, np.zeros(51)),  # over the cap
        Value(2, 1, np.zeros(50)),  # kept
        Value(3, 0, np.zeros(26)),  # 208: over the budget
        Value(4, 0, np.zeros(25)),  # kept, and nothing is left
        Value(5, 0, np.array([object()], object)),  # no stored form
    )
    first = synthetic.run_step(recorder, stage, values=values)
    second = synthetic.run_step(recorder, stage, 2, values=values)
    with Run.open(recorder.path) as run:
        assert [value.row for value in run.values(first.id)] == [0, 2, 4]
        assert [(value.row, value.slot, value.nbytes) for value in run.dropped(first.id)] == [
            (1, 0, 408),
            (3, 0, 208),
            (5, 0, 8),
        ]
        step = run.step(first.id)
        assert (step.captured, step.captured_bytes, step.dropped, step.dropped_bytes) == (3, 1000, 3, 624)
        assert run.step(second.id).captured == 0
    recorder.close()
    with Run.open(recorder.path) as run:
        counters = run.counters()
        assert (counters["captured"], counters["captured_bytes"]) == (3, 1000)
        assert (counters["dropped"], counters["dropped_bytes"]) == (9, 624 + 1624)


def test_array_like_values_of_a_device_are_fetched(recorders: Recorders, synthetic: Any) -> None:
    class OnDevice:
        __cuda_array_interface__: Any = {}
        nbytes = 24
        dtype = np.dtype(np.float64)

        def get(self) -> Any:
            return np.arange(3.0)

    recorder = recorders()
    info = synthetic.run_step(recorder, synthetic.small_stage(), values=(Value(0, 0, OnDevice()),))
    with Run.open(recorder.path) as run:
        assert run.values(info.id)[0].array.tolist() == [0, 1, 2]


def test_what_recording_costs_is_measured(recorders: Recorders, synthetic: Any) -> None:
    shares: list[float] = []
    while not shares or (shares[-1] < 0.25 and len(shares) < 10):  # a busy machine may take time anywhere
        recorder = recorders()
        stage = synthetic.small_stage()
        began = time.perf_counter_ns()
        for step in range(5):
            synthetic.run_step(recorder, stage, step)
        took = time.perf_counter_ns() - began
        recorder.close()
        with Run.open(recorder.path) as run:
            counters = run.counters()
            spent = sum(
                counters[name] for name in ("observe_ns", "values_ns", "stages_ns", "write_ns", "logged_ns")
            )
            assert spent < took
            assert sum(step.recorder_ns for step in run.steps()) <= spent
            shares.append(spent / took)
    assert shares[-1] > 0.25


def test_a_failing_disk_ends_the_recording_and_not_the_program(
    recorders: Recorders, synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorders()
    observe.install(recorder)
    stage = synthetic.small_stage()
    good = synthetic.run_step(recorder, stage)

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(recorder._writer, "end_step", full)
        with pytest.warns(
            RuntimeWarning,
            match="has stopped, the program goes on: OperationalError: database or disk is full",
        ):
            synthetic.run_step(recorder, stage, 2)
    assert recorder not in observe.installed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        synthetic.run_step(recorder, stage, 3)
        recorder.scalar("loss", 1.0, 1)
        recorder.close()
    with Run.open(recorder.path) as run:
        assert [step.id for step in run.steps()] == [good.id]
        assert run.recorder_error == "OperationalError: database or disk is full"
