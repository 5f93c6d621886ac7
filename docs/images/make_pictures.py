"""Makes the pictures of this folder: ``python docs/images/make_pictures.py`` (with the package installed).

Each is a screen of the workbench as Textual exports it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workbench.debugger.client import DebugClient
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.step import StepScreen

HERE = Path(__file__).parent
BUGS = HERE.parents[1] / "workbench" / "examples" / "bugs"
SIZE = (118, 30)
TALL = (118, 40)


async def picture(
    app: WorkbenchApp,
    name: str,
    keys: list[str],
    size: tuple[int, int] = SIZE,
    commands: Sequence[str] = (),
) -> None:
    """Give `commands`, press `keys` and write what the screen shows then to ``name.svg``."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.5)
        for command in commands:
            assert isinstance(app.screen, StepScreen)
            app.screen.command(command)
            await pilot.pause(2.0)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.15)
        await pilot.pause(1.0)
        (HERE / f"{name}.svg").write_text(app.export_screenshot(title="workbench"))


def typed(command: str) -> list[str]:
    """The keys of a debugger command."""
    keys = {" ": "space", "/": "slash"}
    return ["colon", *(keys.get(character, character) for character in command), "enter"]


def step_screen() -> None:
    """The nested loop, stopped in its second iteration, where one branch is dead."""
    with DebugClient.launch(HERE / "nested.py") as client:
        asyncio.run(picture(WorkbenchApp(debug=client), "workbench", ["n"] * 66))


def flow_screens() -> None:
    """A loop with its gradient: why a node is dead, what the stacks hold, and its frames on the timeline."""
    forward = typed("n 161")
    with DebugClient.launch(HERE / "gradient.py") as client:
        asyncio.run(
            picture(WorkbenchApp(debug=client), "why", [*forward, *typed("why loop/choose/mul")], TALL)
        )
    with DebugClient.launch(HERE / "gradient.py") as client:
        asyncio.run(picture(WorkbenchApp(debug=client), "stacks", [*forward, "t"], TALL))
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "workbench", "run", "--logdir", logdir, str(HERE / "parallel.py")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (run,) = Path(logdir).iterdir()
        asyncio.run(picture(WorkbenchApp(run=run, logdir=Path(logdir)), "loops", ["3"]))


def debugging_screens() -> None:
    """Three mistakes, where the debugger has found them."""
    for name, commands, keys in (
        ("nan_in_a_loop", ("r", "r", "b * if has_nan(outputs)", "c", "origin nan"), []),
        ("unordered_assigns", ("r", "races", "explore"), []),
        ("wrong_broadcast", ("r", "b * if out.size > 32", "c", "why error"), []),
    ):
        with DebugClient.launch(BUGS / f"{name}.py") as client:
            asyncio.run(picture(WorkbenchApp(debug=client), name, keys, TALL, commands))


def run_screens() -> None:
    """The demonstration's graph and timeline."""
    with tempfile.TemporaryDirectory() as logdir:
        command = [
            sys.executable,
            "-m",
            "workbench",
            "demo",
            "--headless",
            "--steps",
            "60",
            "--logdir",
            logdir,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (run,) = Path(logdir).iterdir()
        asyncio.run(picture(WorkbenchApp(run=run, logdir=Path(logdir)), "graph", []))
        asyncio.run(picture(WorkbenchApp(run=run, logdir=Path(logdir)), "timeline", ["3"]))


if __name__ == "__main__":
    step_screen()
    flow_screens()
    debugging_screens()
    run_screens()
