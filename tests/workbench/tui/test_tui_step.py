"""The Step screen, over a stand-in for the debugger and over a real script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.debugger.client import DebugClient
from workbench.debugger.snapshot import BreakpointView, ErrorView, ExecutedView, Status
from workbench.tui.app import WorkbenchApp

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (120, 40)]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_shown(debug: Any, size: tuple[int, int], screen: Screen, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["Session.run begins"])
        text = "\n".join(screen(app))
        for words in (
            "ready  3", "▶ ∙ a", "root  3 ready  1 waiting", "train.py:3", "3 ▸ y = tf.add(a, b)", "next  ∙ a",
            "waiting  1", "✗ 0 left:0  dead", "· 1 right:0", "not yet", "loading", "n next", "c continue",
        ):  # fmt: skip
            assert words in text


async def test_keys_are_commands(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("n")
        await until(pilot, ["ready  2", "▶ ∙ b"])
        for key in "socurx":
            await pilot.press(key)
        await pilot.pause()
        assert debug.lines == ["n", "s", "o", "c", "back", "r", "pause"]


async def test_breakpoints(debug: Any, reply: Any, until: Any) -> None:
    debug.answers["b b"] = reply(True, "breakpoint 1 at b")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("down", "b")
        await until(pilot, ["answer  to b b", "breakpoint 1 at b"])
        ready = tuple(replace(row, breakpoint=row.activation.node == "b") for row in debug.snapshot.ready)
        debug.change(breakpoints=(BreakpointView(1, "b"),), ready=ready)
        await until(pilot, ["● ∙ b"])
        await pilot.press("down", "b")
        await pilot.pause()
        assert debug.lines == ["b b", "d 1"]


async def test_printing(debug: Any, reply: Any, until: Any) -> None:
    first = debug.snapshot.ready[0].activation
    debug.change(history=(ExecutedView(0, first, ()),), last=ExecutedView(0, first, ()))
    debug.answers["p a"] = reply(True, "a:0  float32[2]\n[1. 2.]")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("p")
        await until(pilot, ["answer  to p a", "[1. 2.]"])
        await pilot.press("y")
        await until(pilot, ["history", "0 ∙ a"])


async def test_the_command_line(debug: Any, reply: Any, until: Any) -> None:
    debug.answers["info sum"] = reply(False, "there is no node 'summ'")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("colon")
        await until(pilot, ["a debugger command"])
        await pilot.press(*"info", "space", *"sum", "enter")
        await until(pilot, ["answer  to info sum", "there is no node 'summ'"])
        await pilot.press("colon", "escape", "n")
        await until(pilot, ["ready  2"])
        assert debug.lines == ["info sum", "n"]
        await pilot.press("colon", "q", "enter")
        await pilot.pause()
    assert debug.terminated


async def test_clicks_ask_about_nodes(debug: Any, reply: Any, find: Any, until: Any) -> None:
    debug.answers["info left"] = reply(True, "left is a Switch")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.click(offset=find(app, "left:0"))
        await until(pilot, ["left is a Switch"])


async def test_a_script_that_fails(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        debug.code = 1
        debug.change(
            status=Status.FAILED,
            error=ErrorView(
                "ValueError", "no data", "Traceback (most recent call last):\nValueError: no data"
            ),
            exit_code=1,
            ready=(),
            ready_count=0,
            next=None,
        )
        await until(pilot, ["the script has failed", "exit status 1", "ValueError: no data"])


async def test_busy_is_said(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        debug.change(status=Status.RUNNING, ready=(), ready_count=0, next=None)
        await until(pilot, ["▶ running", "the step runs …"])
        debug.change(status=Status.WAITING_FOR_RUN)
        await until(pilot, ["waiting for its next Session.run"])


async def test_no_graph_without_a_recording(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("2")
        await until(pilot, ["Nothing is recorded beside the stepping"])


async def test_everything_is_redrawn_in_the_other_theme(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        await pilot.press("d")
        await until(pilot, ["ready  3", "▶ ∙ a"])
        assert not app.palette.dark


async def test_the_graph_of_a_recorded_script_is_beside(debug: Any, tmp_path: Path, until: Any) -> None:
    import os

    import engine as tf
    import tracing

    debug.agent_pid = os.getpid()
    app = WorkbenchApp(debug=debug, logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["ready  3"])
        with tf.Graph().as_default():
            tracing.start(tmp_path, name="stepped", tensorboard=False)
            with tf.Session() as session:
                session.run(tf.add(tf.constant(1.0, name="b"), 2.0, name="a"))
                await until(pilot, ["stepped · 1 step"])
                await pilot.press("g")
                await until(pilot, ["scopes", "Add"])
                await until(pilot, lambda: app.screen.selected == "a")
        tracing.stop()


@pytest.mark.slow
async def test_a_real_script(nested_script: Path, screen: Screen, until: Any) -> None:
    """Through a while_loop in a while_loop in a cond: frames, iterations and dead tokens are shown, and undone."""
    client = DebugClient.launch(nested_script)
    app = WorkbenchApp(debug=client)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["Session.run begins"])
        await pilot.press("colon", *"n", "space", *"40", "enter")
        await until(pilot, ["40 run", "begun", "iteration 0"])
        assert any("dead" in row for row in screen(app))
        await pilot.press("u")
        await until(pilot, ["39 run"])
        await pilot.press("c", "c")
        await until(pilot, ["the script has ended", "result 15.0", "start 3.0"])
    assert client.poll() is not None
