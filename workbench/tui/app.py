"""WorkbenchApp: the screens, what they share, and the processes that belong to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual.command import Provider
from textual.screen import Screen
from textual.scrollbar import ScrollBar

from viz.palette import Palette
from viz.runs_model import RunRow
from workbench.process import describe_exit
from workbench.tui.actions import Action, Performer, bindings, footer
from workbench.tui.commands import WorkbenchCommands
from workbench.tui.protocols import Child, Debug
from workbench.tui.reading import RunApp
from workbench.tui.screens.base import BaseScreen
from workbench.tui.screens.devices import DevicesScreen
from workbench.tui.screens.graph import GraphScreen
from workbench.tui.screens.help import Overlay, help_page, output_page
from workbench.tui.screens.runs import RunsScreen
from workbench.tui.screens.step import StepScreen
from workbench.tui.screens.timeline import TimelineScreen
from workbench.tui.theme import THEMES
from workbench.tui.widgets.thin_bar import ThinScrollBar

POLL_SECONDS = 0.5


class WorkbenchApp(Performer, RunApp):
    """The terminal application.

    logdir: where the runs are that the Runs screen lists.
    run: a run directory to open at once.
    child: a script that runs beside it: its output and its end are shown; a run that it records is opened when it appears.
    debug: a script under the debugger, for the Step screen.
    start: the screen to begin with; by default Step with a debugger, Graph with a run that nobody is writing, else Runs.

    `child` and `debug` are terminated when the app ends, however it ends (`run_app` makes sure).
    """

    TITLE = "workbench"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {WorkbenchCommands}
    BINDINGS = bindings("app")
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "runs": RunsScreen,
        "graph": GraphScreen,
        "timeline": TimelineScreen,
        "devices": DevicesScreen,
        "step": StepScreen,
    }
    CSS = """
    Screen { background: $background; }
    Toast { background: $panel; }
    .surface, .surface > * {
        background: $surface;
        scrollbar-background: $surface;
        scrollbar-background-hover: $surface;
        scrollbar-background-active: $surface;
        scrollbar-corner-color: $surface;
    }
    CommandPalette {
        & > Vertical { max-width: 90; }
        & #--input { border: none; background: $panel; }
        & SearchIcon { display: none; }
        & CommandInput { padding-left: 1; }
        & CommandList { border: none; background: $panel; padding: 0 0 1 0; }
        & CommandList > .option-list--option { text-style: none; }
    }
    """

    def __init__(
        self,
        *,
        logdir: str | os.PathLike[str] | None = None,
        run: str | os.PathLike[str] | None = None,
        child: Child | None = None,
        debug: Debug | None = None,
        start: str | None = None,
    ) -> None:
        super().__init__(logdir, run)
        ScrollBar.renderer = ThinScrollBar
        for theme, _ in THEMES.values():
            self.register_theme(theme)
        self.theme = os.environ.get("WORKBENCH_THEME", "workbench-dark")
        if self.theme not in THEMES:
            self.theme = "workbench-dark"
        self.child = child
        self.debug_source = debug
        by_default = "step" if debug is not None else "graph" if run is not None and child is None else "runs"
        self._first = start or by_default
        self._wanted_node: str | None = None
        self._wanted_bars: tuple[str, ...] = ()
        self.exit_code: int | None = None

    # Coming and going.

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # An app in a thread other than the main one gets no signals.
            try:
                loop.add_signal_handler(number, self.exit, 128 + number)
            except (RuntimeError, ValueError):
                break
        self.switch_mode(self._first)
        self.set_interval(POLL_SECONDS, self._look_at_script)
        self.start_reading()

    async def on_unmount(self) -> None:
        await asyncio.to_thread(self.end_scripts)
        self.stop_reading()

    def end_scripts(self) -> None:
        """End what runs beside the app; returns when nothing is left of it."""
        for process in (self.child, self.debug_source):
            if process is not None:
                process.terminate()

    # The script beside.

    def _look_at_script(self) -> None:
        """Open the run that the script records as soon as it is there; say how the script ends."""
        if self.child is None:
            return
        path = getattr(self.child, "run_path", None)
        if path is not None and self.open_path is None:
            self.store.model.add(path)
            self.open_run(Path(path).absolute())
        code = self.child.poll()
        if code is not None and self.exit_code is None:
            self.exit_code = code
            if code:
                self.show_output()
            else:
                self.notify("the script has finished", timeout=4)
        if isinstance(self.screen, BaseScreen):
            self.screen.refresh_bars()

    def polled(self, rows: list[RunRow]) -> None:
        # A script that is stepped may be recorded beside.
        if self.debug_source is not None and self.open_path is None:
            for row in rows:
                if row.state == "running" and row.environment.get("process") == self.debug_source.agent_pid:
                    self.open_run(row.path)
                    break

    def looks_at_steps(self) -> bool:
        return isinstance(self.screen, TimelineScreen | GraphScreen | DevicesScreen)

    # From screen to screen.

    def show(self, screen: str) -> None:
        """Go to a screen."""
        if isinstance(self.screen, Overlay):
            self.pop_screen()
        if not self.has_screen(screen):
            self.notify("no script is being stepped; workbench step SCRIPT does that", timeout=4)
            return
        if screen != self.current_mode:
            self.switch_mode(screen)

    def has_screen(self, screen: str) -> bool:
        """Whether there is anything that the screen could show."""
        return screen != "step" or self.debug_source is not None

    def go_to_node(self, name: str) -> None:
        """Show a node in the graph."""
        self._wanted_node = name
        step = self.step
        if step is not None and (self.stage is None or name not in self.stage.stage.nodes):
            self.stage = step.stage
            self.base_id = None
        self.show("graph")
        self.sync()

    def take_wanted_node(self) -> str | None:
        """The node that the graph is asked to show, once."""
        wanted, self._wanted_node = self._wanted_node, None
        return wanted

    def show_in_timeline(self, names: Iterable[str]) -> None:
        """Show the bars of these nodes in the timeline."""
        self._wanted_bars = tuple(names)
        self.show("timeline")
        self.sync()

    def take_wanted_bars(self) -> tuple[str, ...]:
        """The nodes that the timeline is asked to show, once."""
        wanted, self._wanted_bars = self._wanted_bars, ()
        return wanted

    def sync(self) -> None:
        """Let the screen show what there is now."""
        screen = self.screen_stack[0] if self.screen_stack else None
        if isinstance(screen, BaseScreen) and screen.is_mounted:
            screen.sync()
            screen.refresh_bars()

    # What is offered.

    def footer_actions(self, where: str) -> list[Action]:
        """What the bottom row offers on a screen."""
        left_out = {"runs", "graph", "timeline", "devices", "step", "interrupt"}
        return [action for action in footer(where) if action.id not in left_out and self.offers(action.id)]

    def offers(self, action_id: str) -> bool:
        """Whether an action of the app makes sense now."""
        if action_id == "output":
            return self.child is not None or self.debug_source is not None
        return self.has_screen(action_id)

    @property
    def palette(self) -> Palette:
        """The colours of the theme."""
        return THEMES[self.theme][1] if self.theme in THEMES else THEMES["workbench-dark"][1]

    # Actions.

    def toggle_theme(self) -> None:
        """The other of the two themes."""
        self.theme = "workbench-light" if self.palette.dark else "workbench-dark"
        for screen in self.screen_stack:
            if isinstance(screen, BaseScreen):
                screen.recolour()
                screen.refresh_bars()

    def show_help(self) -> None:
        """The keys of the screen."""
        if isinstance(self.screen, BaseScreen):
            where = self.screen.where
            self.push_screen(Overlay(f"{where.capitalize()}: keys", help_page(where)))

    def show_output(self) -> None:
        """What the script printed, live."""
        source = self.child or self.debug_source
        if source is None:
            self.notify("no script runs beside the workbench", timeout=3)
            return
        if isinstance(self.screen, Overlay):
            return

        def ended() -> str:
            code = source.poll()
            return "" if code is None else f"the script {describe_exit(code)}"

        page = output_page(lambda: source.output_tail(100_000), ended)
        self.push_screen(Overlay("Output of the script", page, live=True))


def run_app(app: WorkbenchApp) -> int:
    """Run the app in this terminal and give its exit status: 0, or 128 and the number of the signal that ended it.

    Whatever happens, the scripts that were handed to it have ended when this returns or raises.
    """
    try:
        result = app.run()
    finally:
        app.end_scripts()
    return result if result is not None else app.return_code or 0
