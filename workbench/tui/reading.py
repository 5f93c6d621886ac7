"""RunApp: the part of the app that reads runs, on a thread of its own, so that a key is never late.

Everything is read on one thread (`read`); what comes of it is put into attributes on the app's own thread, and `sync` tells the
screen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from textual.app import App
from textual.worker import Worker, WorkerState

from tracing.errors import RunError
from viz.runs_model import RunRow
from workbench.tui.store import OpenRun, StageView, StepData, Store

T = TypeVar("T")

POLL_SECONDS = 0.5


class RunApp(App[int]):
    """Holds what is read.

    - `rows` are the rows of the list of runs.
    - `base_id` is the stage with which the one that is shown is compared, if any.
    - `opened` is the open run; `stage` and `step` are what of it is shown.  `around` is the number of steps read on either side.
    - `following`: of a run that goes on, the newest step is shown.
    - `problem` says why the run cannot be read, else ''.
    """

    def __init__(self, logdir: str | os.PathLike[str] | None, run: str | os.PathLike[str] | None) -> None:
        super().__init__()
        self.store = Store(logdir, run)
        self.rows: list[RunRow] = []
        self.opened: OpenRun | None = None
        self.stage: StageView | None = None
        self.step: StepData | None = None
        self.base_id: int | None = None
        self.around = 0
        self.following = True
        self.problem = ""
        self._path = Path(run).absolute() if run is not None else None
        self._chose_stage = False
        self._polling = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def start_reading(self) -> None:
        """Open the run that was given, and look for news from now on."""
        self.set_interval(POLL_SECONDS, self.poll)
        self.poll()
        if self._path is not None:
            self.open_run(self._path)

    def stop_reading(self) -> None:
        """Close all runs."""
        self._reader.submit(self.store.close)
        self._reader.shutdown(wait=False)

    # What a subclass says.

    def sync(self) -> None:
        """Something that is shown has changed."""

    def show(self, screen: str) -> None:
        """Go to a screen."""

    def polled(self, rows: list[RunRow]) -> None:
        """The list of runs was read."""

    def looks_at_steps(self) -> bool:
        """Whether the screen shows a step, so that it is worth while to read new ones."""
        return True

    # Reading.

    def read(self, work: Callable[[], T], done: Callable[[T], None], group: str) -> None:
        """Call `done` with what `work` returns, which runs on the reading thread; a newer one of the group takes its place."""

        async def go() -> None:
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._reader, work)
            except RunError as error:
                if str(error) != self.problem:
                    self.problem = str(error)
                    self.notify(self.problem, severity="error", timeout=8)
                    self.sync()
                return
            done(found)

        self.run_worker(go(), group=group, exclusive=True, exit_on_error=True)

    def poll(self) -> None:
        """Look for what has changed in the list of runs and in the open run."""
        if self._polling:
            return
        self._polling = True

        def look() -> tuple[list[RunRow], OpenRun | None]:
            opened = self.opened
            return self.store.poll(), self.store.look_again(opened) if opened is not None else None

        self.read(look, self._polled, "poll")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        over = (WorkerState.SUCCESS, WorkerState.ERROR, WorkerState.CANCELLED)
        if event.worker.group == "poll" and event.state in over:
            self._polling = False

    def _polled(self, found: tuple[list[RunRow], OpenRun | None]) -> None:
        rows, opened = found
        changed = len(rows) != len(self.rows) or any(a is not b for a, b in zip(rows, self.rows))
        self.rows = rows
        self.polled(rows)
        if opened is not None and self.opened is not None and opened.path == self.opened.path:
            self.opened = opened
            self._news(opened)
            changed = True
        if changed:
            self.sync()

    def _news(self, opened: OpenRun) -> None:
        """The open run has grown."""
        stage_id = opened.main_stage()
        if self.stage is None or (stage_id != self.stage.row.id and not self._chose_stage):
            # The first stage of a run is seldom the one that most steps run.
            self._show_opened(opened)
        elif self.following and opened.state == "running":
            self.follow()

    # The open run.

    @property
    def open_path(self) -> Path | None:
        """The run that is open or about to be."""
        return self.opened.path if self.opened is not None else self._path

    def open_run(self, path: Path, then: str | None = None) -> None:
        """Open the run at `path`, and show it on screen `then`."""
        self._path = path
        self.problem = ""
        self.following = True
        self._chose_stage = False

        def done(opened: OpenRun) -> None:
            if then is not None:
                self.show(then)
            self._show_opened(opened)

        self.read(lambda: self.store.open(path), done, "open")

    def _show_opened(self, opened: OpenRun) -> None:
        if self.opened is None or self.opened.path != opened.path:
            self.stage = self.step = None
            self.base_id = None
        self.opened = opened
        stage_id = opened.main_stage()
        if stage_id is None:
            self.sync()
        else:
            self.show_stage(stage_id)

    def show_stage(self, stage_id: int) -> None:
        """Show a stage of the open run, with the times of the last step that ran it."""
        opened = self.opened
        if opened is None:
            return

        def look() -> StageView | None:
            if self.base_id is not None and self.base_id != stage_id:
                return self.store.compared(opened, self.base_id, stage_id)
            return self.store.stage(opened, stage_id)

        def done(view: StageView | None) -> None:
            if view is None:
                self.base_id = None
                self.notify("these two stages are not of one chain", severity="warning", timeout=3)
                self.show_stage(stage_id)
                return
            self.stage = view
            self.sync()
            last = opened.last_step(stage_id)
            if last is not None and (self.step is None or self.step.step.stage_id != stage_id):
                self.show_step(last.id)

        self.read(look, done, "stage")

    def choose_stage(self, stage_id: int) -> None:
        """Show a stage that somebody chose: news of the run do not take its place."""
        self._chose_stage = True
        self.show_stage(stage_id)

    def compare_with(self, base_id: int | None) -> None:
        """Lay the stage that is shown over an earlier one; None: show it alone."""
        if self.stage is not None:
            self.base_id = base_id
            self.choose_stage(self.stage.row.id)

    def show_step(self, step_id: int) -> None:
        """Show what a step of the open run did."""
        opened, around = self.opened, self.around
        index = opened.step_index(step_id) if opened is not None else -1
        if opened is None or index < 0:
            return
        row = opened.steps[index]

        def done(step: StepData) -> None:
            self.step = step
            self.sync()

        self.read(lambda: self.store.step(opened, row, around), done, "step")

    def follow(self) -> None:
        """Show the newest step of the stage, if steps are looked at at all."""
        if self.opened is None or self.stage is None or not self.looks_at_steps():
            return
        last = self.opened.last_step(self.stage.row.id)
        if last is not None and (self.step is None or last.id != self.step.step.id):
            self.show_step(last.id)

    def go_stage(self, offset: int) -> None:
        """Show the stage before or after the one that is shown."""
        if self.opened is None or self.stage is None:
            return
        ids = [row.id for row in self.opened.stages]
        at = ids.index(self.stage.row.id) + offset if self.stage.row.id in ids else -1
        if 0 <= at < len(ids):
            self._chose_stage = True
            self.show_stage(ids[at])
        else:
            self.notify(f"there is no stage {'before' if offset < 0 else 'after'} this one", timeout=2)

    def go_step(self, offset: int) -> None:
        """Show the step before or after the one that is shown."""
        if self.opened is None or self.step is None:
            return
        self.following = False
        at = self.opened.step_index(self.step.step.id) + offset
        if 0 <= at < len(self.opened.steps):
            self.show_step(self.opened.steps[at].id)
        else:
            self.notify(f"there is no step {'before' if offset < 0 else 'after'} this one", timeout=2)
