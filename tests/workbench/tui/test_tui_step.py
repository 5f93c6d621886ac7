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
            "3 ready", "▶ ∙ a", "○ ∙ b", "○ ∙ c", "next  ∙ a", "waiting  1", "✗ 0 left:0  dead", "· 1 right:0", "not yet",
            "loading", "n next", "c continue", "#0",
        ):  # fmt: skip
            assert words in text
        if size[1] < 30:  # where there is no room for them, source and frames are a key away
            await pilot.press("l")
        await until(pilot, ["train.py:3", "3 ▸ y = tf.add(a, b)"])
        await pilot.press("f")
        await until(pilot, ["root  3 ready  1 waiting"])


async def test_keys_are_commands(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("n")
        await until(pilot, ["2 ready", "▶ ∙ b"])
        for key in "socurxUSOCzZ":
            await pilot.press(key)
        await pilot.press("left_square_bracket", "right_square_bracket")
        await pilot.pause()
        assert debug.lines == [
            "n", "s", "o", "c", "back", "r", "pause", "redo", "s-", "o-", "c-", "it", "it-", "jump back", "jump forward",
        ]  # fmt: skip


async def test_breakpoints(debug: Any, reply: Any, until: Any) -> None:
    debug.answers["b b"] = reply(True, "breakpoint 1 at b")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("down", "b")
        await until(pilot, ["answer  to b b", "breakpoint 1 at b"])
        ready = tuple(replace(row, breakpoint=row.activation.node == "b") for row in debug.snapshot.ready)
        debug.change(breakpoints=(BreakpointView(1, "b"),), ready=ready)
        await until(pilot, ["●   ○ ∙ b"])
        await pilot.press("b")  # the cursor has stayed: the step has not moved
        await pilot.pause()
        assert debug.lines == ["b b", "d 1"]


async def test_printing(debug: Any, reply: Any, until: Any) -> None:
    first = debug.snapshot.ready[0].activation
    debug.change(history=(ExecutedView(0, first, ()),), last=ExecutedView(0, first, ()), executed=1)
    debug.answers["p a"] = reply(True, "a:0  float32[2]\n[1. 2.]")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await until(pilot, ["1 executed", "0 • ∙ a"])
        await pilot.press("p")
        await until(pilot, ["answer  to p a", "[1. 2.]"])
        await pilot.press("up", "i")
        await pilot.pause()
        assert debug.lines == ["p a", "info a"] and app.screen.selected.node == "a"
        await pilot.press("y", "down", "i")
        await pilot.pause()
        assert debug.lines[2:] == ["info b"]


async def test_the_command_line(debug: Any, reply: Any, until: Any) -> None:
    debug.answers["info sum"] = reply(False, "there is no node 'summ'")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("colon")
        await until(pilot, ["a debugger command"])
        await pilot.press(*"info", "space", *"sum", "enter")
        await until(pilot, ["answer  to info sum", "there is no node 'summ'"])
        await pilot.press("colon", "escape", "n")
        await until(pilot, ["2 ready"])
        assert debug.lines == ["info sum", "n"]
        await pilot.press("colon", "q", "enter")
        await pilot.pause()
    assert debug.terminated


async def test_clicks_ask_about_nodes(debug: Any, reply: Any, find: Any, until: Any) -> None:
    debug.answers["info left"] = reply(True, "left is a Switch")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.click(offset=find(app, "left:0"))
        await until(pilot, ["left is a Switch"])


async def test_a_script_that_fails(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
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
        await until(pilot, ["3 ready"])
        await pilot.press("2")
        await until(pilot, ["Nothing is recorded beside the stepping"])


async def test_everything_is_redrawn_in_the_other_theme(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("d")
        await until(pilot, ["3 ready", "▶ ∙ a"])
        assert not app.palette.dark


@pytest.mark.usefixtures("as_written")
async def test_the_graph_of_a_recorded_script_is_beside(debug: Any, tmp_path: Path, until: Any) -> None:
    import os

    import engine as tf
    import tracing

    debug.agent_pid = os.getpid()
    app = WorkbenchApp(debug=debug, logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        with tf.Graph().as_default():
            tracing.start(tmp_path, name="stepped", tensorboard=False)
            with tf.Session() as session:
                session.run(tf.add(tf.placeholder_with_default(1.0, [], name="b"), 2.0, name="a"))
                await until(pilot, ["· 1 step"])
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
        await until(pilot, ["40 run", "▶"])
        await pilot.press("f")
        await until(pilot, ["40 run", "begun", "iteration 0"])
        await pilot.press("f")
        assert any("dead" in row for row in screen(app))
        await pilot.press("u")
        await until(pilot, ["39 run"])
        await pilot.press("c", "c")
        await until(pilot, ["the script has ended", "result 15.0", "start 3.0"])
    assert client.poll() is not None


@pytest.fixture
def gradient_script(tmp_path: Path) -> Path:
    """A cond in a while_loop that runs two iterations at a time, and its gradient."""
    path = tmp_path / "gradient.py"
    path.write_text(
        "import engine as tf\n"
        "x = tf.constant(1.5, name='x')\n"
        "def body(i, v):\n"
        "    for _ in range(4):\n"
        "        v = tf.sin(v)\n"
        "    return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: v * x, lambda: tf.cos(v), name='choose')\n"
        "y = tf.while_loop(lambda i, v: i < 4, body, [0, x], parallel_iterations=2, name='loop')[1]\n"
        "g = tf.gradients(y, x)[0]\n"
        "with tf.Session() as session:\n"
        "    print('gradient', session.run(g))\n"
    )
    return path


@pytest.mark.slow
async def test_frames_stacks_and_ways_of_dead_tokens(gradient_script: Path, until: Any) -> None:
    client = DebugClient.launch(gradient_script)
    app = WorkbenchApp(debug=client)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["Session.run begins", "f frames", "t stacks", "w why"])
        shown = app.screen
        await pilot.press("colon", *"b", "space", *"loop", "slash", *"choose", "slash", *"Cos", "enter")
        await until(pilot, ["breakpoint 1"])
        await pilot.press("c")
        await until(pilot, ["breakpoint 1 at loop/choose/Cos", "dead"])
        # Why: of the node that is about to run; nothing has stopped the deadness yet.
        await pilot.press("w")
        await until(pilot, ["loop/choose/Cos is dead", "killed by", "was True", "output 0 is", "nothing yet"])
        assert shown.focused is shown.rails  # the arrows go on choosing
        # Frames: how they were entered, and by which line.
        await pilot.press("f")
        await until(pilot, ["loop", "iteration 0", "from the root", "loop/Enter"])
        await pilot.press(*["pagedown"] * 2)
        await until(pilot, ["made at", "gradient.py:7"])
        assert shown.focused is shown.tabs.flow["frames"]
        await until(pilot, lambda: any("of 2" in row for row in shown.tabs.flow["frames"].drawing.rows()))
        # Stacks: a row of an element leads to the execution that pushed it.
        await pilot.press("c")
        await until(pilot, lambda: not shown.step.next or not shown.step.next.dead)
        await pilot.press("c")
        await until(pilot, lambda: bool(shown.step.next and shown.step.next.iteration == 2))
        await pilot.press("t")
        await until(pilot, ["stack", "keeps", "read by", "top"])
        rows = shown.tabs.flow["stacks"].drawing.rows()
        at = next(i for i, row in enumerate(rows) if "top" in row)
        key = shown.tabs.flow["stacks"].key_at(at)
        assert key[0] == "execution" and "StackPush" in key[2]
        await pilot.press(*["down"] * at, "enter")
        await until(pilot, lambda: shown.rails.selected is not None and shown.rails.selected[0] == key[1])
        await until(pilot, [f"#{key[1]}  ", "StackPushV2"])
        # The same key goes back to what waits.
        await pilot.press("t")
        await until(pilot, lambda: shown.tabs.current == "waiting")
        await pilot.press("y", "colon", *"d", "enter", "c")
        await until(pilot, ["the script has ended", "gradient"])


async def test_why_of_a_node_that_lives_is_answered(debug: Any, reply: Any, until: Any) -> None:
    debug.answers["why a"] = reply(False, "'a' was alive there")
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("w")
        await until(pilot, ["answer  to why a", "'a' was alive there"])
        assert app.screen.tabs.current == "waiting"


async def test_tabs_can_be_clicked(debug: Any, find: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.click(offset=find(app, "stacks"))
        await until(pilot, ["the session has no resources yet"])
        await pilot.click(offset=find(app, "why"))
        await until(pilot, ["Choose a dead node"])
        await pilot.click(offset=find(app, "B"))
        await until(pilot, ["No breakpoints"])
        await pilot.click(offset=find(app, "waiting"))
        await until(pilot, ["waiting  1", "right:0"])
