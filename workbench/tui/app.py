"""WorkbenchApp: the screens, what they share, and the processes that belong to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from textual.app import App
from textual.command import Provider
from textual.screen import Screen
from textual.scrollbar import ScrollBar
from textual.worker import Worker, WorkerState

from tracing.errors import RunError
from viz import format as fmt
from viz.cells import Line, line_width
from viz.draw_runs import state_piece
from viz.palette import Palette
from viz.runs_model import RunRow
from workbench.process import describe_exit
from workbench.tui.actions import Action, Performer, bindings, footer
from workbench.tui.commands import WorkbenchCommands
from workbench.tui.protocols import Child, Debug
from workbench.tui.screens.base import BaseScreen
from workbench.tui.screens.graph import GraphScreen
from workbench.tui.screens.help import Overlay, help_page, output_page
from workbench.tui.screens.runs import RunsScreen
from workbench.tui.screens.step import StepScreen
from workbench.tui.screens.timeline import TimelineScreen
from workbench.tui.store import OpenRun, StageView, StepData, Store
from workbench.tui.theme import THEMES
from workbench.tui.widgets.thin_bar import ThinScrollBar

T = TypeVar("T")

POLL_SECONDS = 0.5
NEEDS = {"output": "script", "step": "debugger"}


class WorkbenchApp(Performer, App[int]):
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
        super().__init__()
        ScrollBar.renderer = ThinScrollBar
        for theme, _ in THEMES.values():
            self.register_theme(theme)
        self.theme = os.environ.get("WORKBENCH_THEME", "workbench-dark")
        if self.theme not in THEMES:
            self.theme = "workbench-dark"
        self.store = Store(logdir, run)
        self.child = child
        self.debug_source = debug
        self.rows: list[RunRow] = []
        self.opened: OpenRun | None = None
        self.stage: StageView | None = None
        self.step: StepData | None = None
        self.around = 0
        self.following = True
        by_default = "step" if debug is not None else "graph" if run is not None and child is None else "runs"
        self._first = start or by_default
        self._path = Path(run).absolute() if run is not None else None
        self.problem = ""  # why the run cannot be read
        self._wanted_node: str | None = None
        self._wanted_bars: tuple[str, ...] = ()
        self._exit_code: int | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._polling = False

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
        self.set_interval(POLL_SECONDS, self.poll)
        self.poll()
        if self._path is not None:
            self.open_run(self._path, then=None)

    async def on_unmount(self) -> None:
        await asyncio.to_thread(self.end_scripts)
        self._reader.submit(self.store.close)
        self._reader.shutdown(wait=False)

    def end_scripts(self) -> None:
        """End what runs beside the app; returns when nothing is left of it."""
        for process in (self.child, self.debug_source):
            if process is not None:
                process.terminate()

    # Reading, on the one thread that reads.

    def read(self, work: Callable[[], T], done: Callable[[T], None], group: str) -> None:
        """Call `done` with what `work` returns, which runs on the reading thread; a newer one of the group takes its place."""

        async def go() -> None:
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._reader, work)
            except RunError as error:
                self.problem = str(error)
                self.notify(self.problem, severity="error", timeout=8)
                self.sync()
                return
            done(found)

        self.run_worker(go(), group=group, exclusive=True, exit_on_error=True)

    def poll(self) -> None:
        """Look for what has changed: the script, the list of runs, the open run."""
        self._look_at_child()
        if self._polling:
            return
        self._polling = True

        def look() -> tuple[list[RunRow], OpenRun | None]:
            opened = self.opened
            return self.store.poll(), self.store.look_again(opened) if opened is not None else None

        self.read(look, self._polled, "poll")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.worker.group == "poll" and event.state in (
            WorkerState.SUCCESS,
            WorkerState.ERROR,
            WorkerState.CANCELLED,
        ):
            self._polling = False

    def _polled(self, found: tuple[list[RunRow], OpenRun | None]) -> None:
        rows, opened = found
        changed = len(rows) != len(self.rows) or any(a is not b for a, b in zip(rows, self.rows))
        self.rows = rows
        if self.debug_source is not None and self.opened is None and self._path is None:
            # A script that is stepped may be recorded beside.
            for row in rows:
                if row.state == "running" and row.environment.get("process") == self.debug_source.agent_pid:
                    self.open_run(row.path, then=None)
                    break
        if opened is not None and self.opened is not None and opened.path == self.opened.path:
            self.opened = opened
            if self.stage is None and opened.main_stage() is not None:
                self._show_opened(opened)
            elif self.following and opened.state == "running":
                self.follow()
            changed = True
        if changed:
            self.sync()

    def _look_at_child(self) -> None:
        if self.child is None:
            return
        path = getattr(self.child, "run_path", None)
        if path is not None and self.opened is None and self._path is None:
            self._path = Path(path).absolute()
            self.store.model.add(self._path)
            self.open_run(self._path, then=None)
        code = self.child.poll()
        if code is not None and self._exit_code is None:
            self._exit_code = code
            if code:
                self.show_output()
            else:
                self.notify("the script has finished", timeout=4)
        if isinstance(self.screen, BaseScreen):
            self.screen.refresh_bars()

    # The open run.

    @property
    def open_path(self) -> Path | None:
        return self.opened.path if self.opened is not None else self._path

    def open_run(self, path: Path, then: str | None) -> None:
        """Open the run at `path`, and show it on screen `then`."""
        self._path = path
        self.problem = ""
        self.following = True

        def done(opened: OpenRun) -> None:
            if then is not None:
                self.show(then)
            self._show_opened(opened)

        self.read(lambda: self.store.open(path), done, "open")

    def _show_opened(self, opened: OpenRun) -> None:
        if self.opened is None or self.opened.path != opened.path:
            self.stage = self.step = None
        self.opened = opened
        stage_id = opened.main_stage()
        if stage_id is None:
            self.sync()
            return
        self.show_stage(stage_id)

    def show_stage(self, stage_id: int) -> None:
        """Show a stage of the open run, with the times of the last step that ran it."""
        opened = self.opened
        if opened is None:
            return

        def done(view: StageView) -> None:
            self.stage = view
            self.sync()
            last = opened.last_step(stage_id)
            if last is not None and (self.step is None or self.step.step.stage_id != stage_id):
                self.show_step(last.id)

        self.read(lambda: self.store.stage(opened, stage_id), done, "stage")

    def show_step(self, step_id: int) -> None:
        """Show what a step of the open run did."""
        opened, around = self.opened, self.around
        if opened is None:
            return
        index = opened.step_index(step_id)
        if index < 0:
            return
        row = opened.steps[index]

        def done(step: StepData) -> None:
            self.step = step
            self.sync()

        self.read(lambda: self.store.step(opened, row, around), done, "step")

    def follow(self) -> None:
        """Show the newest step of the stage."""
        opened = self.opened
        if opened is None or self.stage is None:
            return
        # Only what is looked at costs anything.
        if isinstance(self.screen, TimelineScreen | GraphScreen):
            last = opened.last_step(self.stage.row.id)
            if last is not None and (self.step is None or last.id != self.step.step.id):
                self.show_step(last.id)

    def go_stage(self, offset: int) -> None:
        """Show the stage before or after the one that is shown."""
        if self.opened is None or self.stage is None:
            return
        ids = [row.id for row in self.opened.stages]
        at = ids.index(self.stage.row.id) + offset if self.stage.row.id in ids else -1
        if 0 <= at < len(ids):
            self.show_stage(ids[at])
        else:
            self.notify("there is no stage " + ("before" if offset < 0 else "after") + " this one", timeout=2)

    def go_step(self, offset: int) -> None:
        """Show the step before or after the one that is shown."""
        if self.opened is None or self.step is None:
            return
        self.following = False
        at = self.opened.step_index(self.step.step.id) + offset
        if 0 <= at < len(self.opened.steps):
            self.show_step(self.opened.steps[at].id)
        else:
            self.notify("there is no step " + ("before" if offset < 0 else "after") + " this one", timeout=2)

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

    # What is said where.

    def headline(self, palette: Palette, room: int) -> Line:
        """The right end of the top row: what is open, and how the script does."""
        pieces: Line = []
        if self.child is not None:
            if self._exit_code is None:
                pieces.append(("● script runs", palette.style(palette.good)))
            elif self._exit_code:
                pieces.append((f"✗ script {describe_exit(self._exit_code)}", palette.style(palette.bad)))
        if self.opened is not None:
            mark, colour = state_piece(self.opened.state, palette)
            steps = f" · {fmt.plural(len(self.opened.steps), 'step')}"
            if pieces:
                pieces.append(("  ", palette.dim))
            left = room - line_width(pieces) - len(steps) - 1
            pieces.append((fmt.shorten(f"{mark} {self.opened.name}", max(6, left)), palette.style(colour)))
            pieces.append((steps, palette.quiet))
        pieces.append((" ", palette.dim))
        if line_width(pieces) > room:
            pieces = [*pieces[:1], (" ", palette.dim)] if room > 14 else []
        return pieces

    def no_runs_text(self) -> str:
        """What the empty list of runs says."""
        if self.store.model.problem:
            return f"There are no runs yet:\n{self.store.model.problem}."
        if self.store.model.logdir is None:
            return "No log directory was given."
        return f"There are no runs in {self.store.model.logdir} yet."

    def no_graph_text(self) -> str:
        """What the graph screen says without a graph."""
        if self.problem:
            return self.problem
        if self.opened is None:
            if self.child is not None and self._exit_code is None:
                return "Waiting for the script's first Session.run …"
            if self.debug_source is not None:
                return (
                    "Nothing is recorded beside the stepping:\nworkbench step --trace times SCRIPT does that."
                )
            return "No run is open.\nChoose one on the Runs screen (1)."
        if self.opened.state == "running":
            return "The run has no stage yet.\nOne appears with its first Session.run."
        return "The run has no stage: nothing was run in it."

    def no_timeline_text(self) -> str:
        """What the timeline says without a step."""
        if self.problem:
            return self.problem
        if self.opened is None:
            return "No run is open: choose one on the Runs screen (1)."
        return "No step of this run has ended yet." if not self.opened.steps else "Reading …"

    def footer_actions(self, where: str) -> list[Action]:
        """What the bottom row offers on a screen."""
        left_out = {"runs", "graph", "timeline", "step", "interrupt"}
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
