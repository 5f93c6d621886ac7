"""What users call: start, stop, record, scalar, histogram."""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import tracing
from engine import observe
from engine.observe import TraceLevel
from tracing.errors import RunError
from tracing.reader import Run


def test_a_recording_from_start_to_stop(tmp_path: Path) -> None:
    recorder = tracing.start(tmp_path, "values", "mine", tensorboard=False)
    assert recorder in observe.installed()
    assert recorder.level is TraceLevel.VALUES
    assert tracing.active() == (recorder,)
    path = tracing.stop()
    assert path == recorder.path
    assert path.parent == tmp_path and "_mine-" in path.name
    assert recorder not in observe.installed()
    assert tracing.stop() is None
    with Run.open(path) as run:
        assert (run.name, run.state, run.level) == ("mine", "finished", "values")
    assert [each.name for each in path.iterdir()] == ["run.sqlite"]


def test_the_block_form_says_how_it_ended(tmp_path: Path) -> None:
    with tracing.record(tmp_path, name="good") as good:
        pass
    with pytest.raises(ZeroDivisionError), tracing.record(tmp_path, name="bad") as bad:
        print(1 / 0)
    with pytest.raises(SystemExit), tracing.record(tmp_path, name="left") as left:
        raise SystemExit(0)
    with pytest.raises(KeyboardInterrupt), tracing.record(tmp_path, name="interrupted") as interrupted:
        raise KeyboardInterrupt
    expected = {
        good: ("finished", None),
        bad: ("failed", "ZeroDivisionError: division by zero"),
        left: ("finished", None),
        interrupted: ("failed", "KeyboardInterrupt: "),
    }
    for recorder, ended in expected.items():
        with Run.open(recorder.path) as run:
            assert (run.state, run.error) == ended


def test_an_unknown_level_and_an_impossible_place(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="'everything' is not a trace level: give one of times, values, full"
    ):
        tracing.start(tmp_path, "everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not a trace level"):
        tracing.start(tmp_path, TraceLevel.OFF)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="no run directory can be made"):
        tracing.start(tmp_path / "file")
    assert tracing.active() == ()


def test_logging_without_a_recording_does_nothing() -> None:
    tracing.scalar("loss", object(), 1)  # type: ignore[arg-type]
    tracing.histogram("weights", "no numbers", 1)


def test_what_is_logged_goes_to_all_recordings(tmp_path: Path) -> None:
    with tracing.record(tmp_path, name="outer") as outer:
        tracing.scalar("loss", 1, 1)
        with tracing.record(tmp_path, name="inner") as inner:
            tracing.scalar("loss", np.float32(0.5), 2)
            tracing.scalar("loss", np.array([[0.25]]), 3)
            tracing.scalar("other", ml_dtypes.bfloat16(2), np.int64(4))
            tracing.histogram("w", [1, 2, 3], 4)
        tracing.scalar("loss", np.nan, 5)
        tracing.scalar("loss", np.inf, 6)
    with Run.open(outer.path) as run:
        steps, values = run.scalars()["loss"]
        assert steps.tolist() == [1, 2, 3, 5, 6]
        np.testing.assert_array_equal(values, [1, 0.5, 0.25, np.nan, np.inf])
        assert run.scalars()["other"][1].tolist() == [2]
    with Run.open(inner.path) as run:
        assert run.scalars()["loss"][0].tolist() == [2, 3]
        ((step, histogram),) = run.histograms()["w"]
        assert step == 4
        assert (histogram.number, histogram.minimum, histogram.maximum, histogram.sum) == (3, 1, 3, 6)


def test_what_is_not_a_number_is_refused(tmp_path: Path) -> None:
    with tracing.record(tmp_path, tensorboard=False):
        with pytest.raises(
            ValueError, match=r"the scalar 'loss' is one number, not an array of shape \(2,\)"
        ):
            tracing.scalar("loss", [1, 2], 1)
        with pytest.raises(TypeError, match="the scalar 'loss' is a real number, not <U1"):
            tracing.scalar("loss", "1", 1)
        with pytest.raises(TypeError, match="real numbers"):
            tracing.histogram("w", ["a"], 1)


def test_recording_raises_no_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tracing.record(tmp_path):
            tracing.scalar("loss", 1, 1)
