"""The demonstration: it learns, it is recorded, and it says where to look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from workbench.demo.show import SCRIPT, STEPS

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
Left = Callable[[], Sequence[tuple[int, str]]]


def test_the_shipped_digits_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = sklearn.load_digits()
    with np.load(SCRIPT.with_name("digits.npz")) as file:
        np.testing.assert_array_equal(file["images"], digits.data)
        np.testing.assert_array_equal(file["labels"], digits.target)


Demonstrated = tuple["subprocess.CompletedProcess[str]", Path]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Demonstrated:
    """What thirty steps print, and the directory that they ran in."""
    folder = tmp_path_factory.mktemp("demonstrated")
    command = [sys.executable, "-m", "workbench", "demo", "--headless", "--steps", "30"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    ), folder


def test_headless_says_how_it_went_where_the_run_is_and_what_to_type(
    run_python: Run, demonstrated: Demonstrated
) -> None:
    done, folder = demonstrated
    assert done.returncode == 0 and done.stderr == "" and "\x1b" not in done.stdout
    for said in (
        "step   30 of 30: loss",
        "loss      ",
        "accuracy  ",
        "one training step, on 2 devices",
        "CPU:0 → CPU:1  ",
        "CPU:1 → CPU:0  ",
        "slowest operations",
        "digits.py:",
        "the run is in runs/",
    ):
        assert said in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    command = next(line for line in lines if line.startswith("workbench open ")).split()[:3]
    shown = run_python("-m", "workbench", "show", command[2], "--json", cwd=folder)
    report = json.loads(shown.stdout)
    assert report["state"] == "finished"
    assert report["steps"] == 32  # the initializer, thirty of training, one evaluation
    assert report["dead"] > 0 and report["frames"] > 0 and report["iterations"] > 6
    assert {row["tag"] for row in report["scalars"]} == {"loss", "accuracy"}


def test_without_a_terminal_it_is_headless_and_the_log_directory_is_where_one_says(
    run_python: Run, tmp_path: Path
) -> None:
    done = run_python(
        "-m", "workbench", "demo", "--steps", "5", "--logdir", tmp_path / "elsewhere", cwd=tmp_path
    )
    assert done.returncode == 0
    from tracing import directory

    (path,) = directory.find(tmp_path / "elsewhere")
    assert str(path.relative_to(tmp_path)) in done.stdout
    assert not (tmp_path / "runs").exists()


def test_the_script_runs_by_itself_and_leaves_nothing(run_python: Run, tmp_path: Path) -> None:
    done = run_python("-m", "workbench.demo.digits", "--steps", "3", cwd=tmp_path)
    assert done.returncode == 0 and "held-out digits read right" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_graph_has_a_loop_and_a_conditional_and_only_one_branch_runs(demonstrated: Demonstrated) -> None:
    from tracing import directory
    from tracing.reader import Run as Recorded

    (path,) = directory.find(demonstrated[1] / "runs")
    with Recorded.open(path) as run:
        training, evaluation = run.steps()[1], run.steps()[-1]
        stage = run.stage(training.stage_id)
        executions = run.executions(training.id)
        dead = {stage.order[node] for node in executions.node[executions.dead]}
        assert any(name.startswith("shake/cond/") for name in dead)
        assert any(node.type == "RandomStandardNormal" for node in stage if node.name not in dead)
        loop = {node.type for node in run.stage(evaluation.stage_id)}
        assert {"Enter", "Exit", "NextIteration", "LoopCond", "Merge", "Switch"} <= loop
        turns = max(event.iteration for event in run.frames(evaluation.id))
        assert turns == 6  # 360 digits, 60 a turn


def test_it_is_spread_over_the_devices_that_one_asks_for(run_python: Run, tmp_path: Path) -> None:
    from tracing import directory
    from tracing.reader import Run as Recorded

    losses = []
    for devices, kinds in (
        ("CPU:2", {"CPU:0", "CPU:1"}),
        ("GPU:1", {"CPU:0", "GPU:0"}),
        ("CPU:1", {"CPU:0"}),
    ):
        folder = tmp_path / devices.replace(":", "")
        done = run_python(
            "-m",
            "workbench",
            "demo",
            "--headless",
            "--steps",
            "4",
            "--devices",
            devices,
            "--logdir",
            folder,
            cwd=tmp_path,
        )
        assert done.returncode == 0 and ("modelled" in done.stdout) == ("GPU" in devices)
        (path,) = directory.find(folder)
        with Recorded.open(path) as run:
            step = run.steps()[2]
            stage = run.stage(step.stage_id)
            assert {name.rpartition("device:")[2] for name in stage.devices if name} in (kinds, set())
            moved = {each.key.split(";")[3].partition("_")[2] for each in run.transfers(step.id)}
            assert any("read/hidden" in key for key in moved) == (len(kinds) > 1)
            assert [state.modelled for state in run.devices(step.id)].count(True) == ("GPU" in devices)
            losses.append(run.scalars()["loss"][1])
    np.testing.assert_array_equal(losses[0], losses[2])
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)


@pytest.mark.slow
def test_an_interrupt_ends_it_in_order(
    tmp_path: Path, python_environment: dict[str, str], nothing_left: Left
) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "workbench",
                "demo",
                "--headless",
                "--steps",
                "100000",
                "--logdir",
                tmp_path / "runs",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=python_environment,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        assert process.returncode == status and "Traceback" not in errors
        assert nothing_left() == []


@pytest.mark.slow
def test_it_learns_to_read(run_python: Run, tmp_path: Path) -> None:
    done = run_python("-m", "workbench", "demo", "--headless", cwd=tmp_path, timeout=300)
    assert done.returncode == 0
    report = json.loads(run_python("-m", "workbench", "show", "latest", "--json", cwd=tmp_path).stdout)
    scalars = {row["tag"]: row for row in report["scalars"]}
    assert scalars["accuracy"]["last"] >= 0.95 and scalars["accuracy"]["step"] == STEPS
    assert scalars["loss"]["last"] < 0.3
