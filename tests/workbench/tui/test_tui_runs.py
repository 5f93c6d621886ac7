"""The Runs screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engine as tf
import tracing
from workbench.tui.app import WorkbenchApp

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (120, 40)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


@pytest.mark.parametrize("size", SIZES)
async def test_the_list(runs: Path, size: tuple[int, int], screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["mnist", "crash", "took"])
        rows = screen(app)
        assert rows[0].split() == [
            "◆",
            "workbench",
            "1",
            "Runs",
            "2",
            "Graph",
            "3",
            "Timeline",
            "5",
            "Devices",
        ]
        head, first, second = rows[1:4]
        assert head.split()[:4] == ["run", "started", "steps", "loss"]
        assert first.startswith(" ✓ mnist")
        assert second.startswith(" ✗ crash")
        for column in ("steps", "loss"):
            end = head.index(column) + len(column)
            assert first[end - 1].isdigit()
            assert first[end] == " "
        assert "▇" in first
        # the first is selected and explained
        assert any(row.rstrip().endswith("finished") or "✓ finished" in row for row in rows[4:] + rows)


@pytest.mark.parametrize("size", SMALL)
async def test_the_details_follow_the_cursor(
    runs: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["✓ finished"])
        await pilot.press("down")
        await until(pilot, ["✗ failed", "RuntimeError: the disk is full"])
        await pilot.press("up")
        await until(pilot, ["✓ finished"])


@pytest.mark.parametrize("size", SMALL)
async def test_a_click_selects_and_a_second_one_opens(
    runs: Path, size: tuple[int, int], find: Any, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["crash"])
        x, y = find(app, "crash")
        await pilot.click(offset=(x, y))
        await until(pilot, ["✗ failed"])
        await pilot.click(offset=(x, y))
        await until(pilot, lambda: app.current_mode == "graph")
        await until(pilot, ["▸ dense", "✗ crash"])


async def test_enter_opens_and_t_opens_the_timeline(runs: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["mnist"])
        await pilot.press("enter")
        await until(pilot, ["▸ dense", "✓ mnist · 7 steps"])
        await pilot.press("1", "down", "t")
        await until(pilot, ["costliest in the window", "✗ crash · 3 steps"])


async def test_sorting_by_loss(
    tmp_path: Path, make_run: Callable[..., Path], screen: Screen, until: Any
) -> None:
    make_run(tmp_path, "short", 1)
    make_run(tmp_path, "long", 20)
    app = WorkbenchApp(logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["short", "long"])
        await pilot.press("s")
        await until(pilot, ["lowest loss first"])
        losses = [row.last("loss") for row in app.screen.rows]
        assert losses == sorted(losses)
        names = [row.split()[1] for row in screen(app)[2:4]]
        assert names == [row.name for row in app.screen.rows]


async def test_a_run_grows_before_our_eyes(tmp_path: Path, screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=tmp_path)
    with tf.Graph().as_default():
        y = tf.constant(1.0, name="one") + 1.0
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, ["There are no runs"])
            tracing.start(tmp_path, name="live", tensorboard=False)
            with tf.Session() as session:
                for step in range(1, 4):
                    session.run(y)
                    tracing.scalar("loss", 1.0 / step, step)
                    await until(pilot, lambda step=step: any(
                        row.split()[:2] in (["●", "live"], ["○", "live"]) and f" {step} " in row
                        for row in screen(app)
                    ))  # fmt: skip
            tracing.stop()
            await until(pilot, ["✓ live", "✓ finished"])


async def test_a_broken_directory_says_why(tmp_path: Path, make_run: Callable[..., Path], until: Any) -> None:
    make_run(tmp_path, "good", 1)
    broken = tmp_path / "2999-01-01_00-00-00_broken-0000"
    broken.mkdir()
    (broken / "run.sqlite").write_bytes(b"no database")
    app = WorkbenchApp(logdir=tmp_path)
    async with app.run_test(size=(100, 24)) as pilot:
        await until(pilot, ["good", "! 2999", "not readable"])
        await pilot.press("enter")
        await pilot.pause()
        assert app.current_mode == "runs"


async def test_many_runs_scroll(
    tmp_path: Path, make_run: Callable[..., Path], screen: Screen, until: Any
) -> None:
    for i in range(14):
        make_run(tmp_path, f"run{i}", 1)
    app = WorkbenchApp(logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.rows) == 14)
        await pilot.press("end")
        await pilot.pause()
        list_rows = [row for row in screen(app) if row.startswith((" ✓ run", " ● run"))]
        assert app.rows[-1].name in list_rows[-1]
        await pilot.press("home", "pagedown", "pagedown")
        await pilot.pause()
        assert app.rows[0].name not in "\n".join(screen(app)[2:3])
