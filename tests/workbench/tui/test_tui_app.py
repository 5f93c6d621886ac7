"""The app as a whole: screens, the table of actions, themes, overlays, scripts beside it, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandPalette

from viz.palette import DARK, LIGHT
from workbench.tui.actions import ACTIONS, BY_ID, actions_of, key_name
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.help import Overlay, help_page

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (120, 40)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


# The table of actions.


def test_no_key_means_two_things_on_a_screen() -> None:
    for where in ("runs", "graph", "timeline", "step"):
        keys = Counter(
            key for action in (*actions_of(where), *actions_of("app")) for key in action.key.split(",")
        )
        assert [key for key, count in keys.items() if count > 1] == []


def test_every_action_is_explained() -> None:
    assert len(BY_ID) == len(ACTIONS)
    for action in ACTIONS:
        assert action.help[0].isupper()
        assert not action.help.endswith(".")
        assert len(action.label) <= 14


@pytest.mark.parametrize("where", ["runs", "graph", "timeline", "step"])
def test_the_help_page_has_every_action(where: str) -> None:
    rows = help_page(where)(DARK, 90).rows()
    for action in (*actions_of(where), *actions_of("app")):
        assert any(action.help in row and key_name(action.key.split(",")[0]) in row for row in rows)


# The screens.


@pytest.mark.parametrize("size", SMALL)
async def test_keys_go_from_screen_to_screen(
    runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["dense", "▸ loss", "stage"])
        for key, words in (
            ("1", ["mnist", "crash", "steps"]),
            ("3", ["costliest in the window", "CPU:0"]),
            ("2", ["scopes"]),
        ):
            await pilot.press(key)
            await until(pilot, words)
        await pilot.press("4")
        await pilot.pause()
        assert app.current_mode == "graph"
        assert "4 Step" not in screen(app)[0]


@pytest.mark.parametrize("size", SMALL)
async def test_the_mouse_goes_from_screen_to_screen(
    runs: Path, mnist: Path, size: tuple[int, int], find: Any, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage"])
        await pilot.click(offset=find(app, "3 Timeline"))
        await until(pilot, ["costliest in the window"])
        await pilot.click(offset=find(app, "1 Runs"))
        await until(pilot, ["over time"])
        assert app.current_mode == "runs"


async def test_keys_in_the_footer_can_be_clicked(runs: Path, mnist: Path, find: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["stage"])
        await pilot.click(offset=find(app, "? help"))
        await until(pilot, ["Graph: keys"])
        await pilot.press("escape")
        await pilot.click(offset=find(app, "/ search"))
        await until(pilot, ["words of a name or a type"])


@pytest.mark.parametrize("where", ["runs", "graph", "timeline"])
async def test_the_footer_keeps_the_most_important_keys(
    runs: Path, mnist: Path, where: str, screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start=where)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["mnist"])
        narrow = screen(app)[-1]
        assert "? help" in narrow
        assert "^p commands" in narrow
        await pilot.resize_terminal(160, 40)
        await until(pilot, lambda: "q quit" in screen(app)[-1])
        wide = screen(app)[-1]
        assert len(wide.split("  ")) > len(narrow.split("  "))


async def test_help_explains_the_screen(runs: Path, mnist: Path, screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["stage"])
        await pilot.press("question_mark")
        await until(pilot, ["Graph: keys", "on this screen (graph)", "Look inside the selected scope"])
        await pilot.press("pagedown", "q")
        await pilot.pause()
        assert app.is_running
        assert not isinstance(app.screen, Overlay)


async def test_the_palette_finds_actions_and_nodes(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["stage"])
        await pilot.press("ctrl+p")
        await until(pilot, ["Look inside the selected scope"])
        await pilot.press(*"what ran when".replace(" ", "\x20"))
        await until(pilot, ["Show what ran when in the open run"])
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "timeline")
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"dense/matmul")
        await until(pilot, ["MatMul, in the graph"])
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "graph")
        await until(pilot, ["graph / dense", "matmul"])


async def test_both_themes(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["stage"])
        for palette in (DARK, LIGHT, DARK):
            assert app.palette is palette
            strips = app.screen._compositor.render_strips()
            backgrounds = Counter(
                segment.style.bgcolor.name
                for strip in strips
                for segment in strip
                if segment.style is not None and segment.style.bgcolor is not None
            )
            assert backgrounds.most_common(1)[0][0] in (palette.background, palette.surface)
            await pilot.press("d")
            await pilot.pause()


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (200, 60)])
async def test_odd_sizes(runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        for key in "123":
            await pilot.press(key)
            await pilot.pause()
            assert {len(row) for row in screen(app)} == {size[0]}


# Scripts beside the app.


async def test_a_script_that_crashes_shows_its_traceback(runs: Path, child: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, child=child)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["● script runs"])
        child.output += 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: no data\n'
        child.code = 1
        await until(pilot, ["Output of the script", "ValueError: no data", "the script exited with status 1"])
        await pilot.press("escape")
        await until(pilot, ["✗ script exited with status 1", "crash"])
    assert child.terminated


async def test_a_script_that_is_killed_says_by_what(runs: Path, child: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, child=child)
    async with app.run_test(size=(80, 24)) as pilot:
        child.code = -11
        await until(pilot, ["SIGSEGV"])


async def test_output_can_be_watched(runs: Path, child: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, child=child)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("v")
        await until(pilot, ["Output of the script", "loading"])
        child.output += "".join(f"step {i}\n" for i in range(100))
        await until(pilot, ["step 99"])
        await pilot.press("v")
        await until(pilot, ["over time"])


async def test_the_run_of_a_script_is_opened_when_it_appears(
    tmp_path: Path, make_run: Callable[..., Path], child: Any, until: Any
) -> None:
    logdir = tmp_path / "runs"
    logdir.mkdir()
    app = WorkbenchApp(logdir=logdir, child=child, start="graph")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["Waiting for the script's first Session.run"])
        child.run_path = await asyncio.to_thread(make_run, logdir, "live", 2)
        await until(pilot, ["▸ dense", "▸ loss"])


async def test_a_script_is_ended_with_the_app(runs: Path, child: Any) -> None:
    app = WorkbenchApp(logdir=runs, child=child)
    async with app.run_test() as pilot:
        await pilot.press("q")
        await pilot.pause()
    assert child.terminated == 1
    assert child.code == -15


async def test_ctrl_c_leaves(runs: Path) -> None:
    app = WorkbenchApp(logdir=runs)
    async with app.run_test() as pilot:
        await pilot.press("question_mark")
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert not app.is_running or app._exit


async def test_sigterm_leaves(runs: Path, child: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, child=child)
    async with app.run_test() as pilot:
        await pilot.pause()
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(3_000):
            if app.return_value is not None:
                break
            await asyncio.sleep(0.02)
        assert app.return_value == 128 + signal.SIGTERM
    assert child.terminated


# Nothing to show.


async def test_nothing_there(tmp_path: Path, screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["There are no runs", "workbench demo", "workbench step SCRIPT"])
        for key, words in (("2", ["No run is open"]), ("3", ["No run is open"])):
            await pilot.press(key)
            await until(pilot, words)
        # Every key of the empty screens is safe.
        for where in ("graph", "timeline"):
            await pilot.press({"graph": "2", "timeline": "3"}[where])
            for action in actions_of(where):
                await pilot.press(action.key.split(",")[0])
                await pilot.pause()
        assert app.is_running


async def test_a_directory_that_is_no_run(tmp_path: Path, until: Any) -> None:
    app = WorkbenchApp(run=tmp_path / "nowhere")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["there is no run directory"])


@pytest.mark.slow
async def test_every_key_is_safe_on_a_real_run(runs: Path, mnist: Path, screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["stage"])
        for key, where in (("2", "graph"), ("3", "timeline"), ("1", "runs")):
            for action in actions_of(where):
                await pilot.press(key)
                for each in action.key.split(","):
                    await pilot.press(each)
                    screen(app)  # what it shows now can be drawn
                await pilot.press("escape")
        assert app.is_running
