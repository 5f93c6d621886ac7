"""Step: a script inside its Session.run, between two nodes."""

from __future__ import annotations

import gc
import time
from collections import deque
from dataclasses import replace
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from viz import format as fmt
from viz.cells import Drawing
from viz.draw_flow import draw_frames
from viz.draw_rails import rail_style
from viz.draw_step import draw_text, lasts
from viz.step_model import Ready, StepView, activation, step_view, title_of
from workbench.debugger.pages import MAX_ROWS, Page, Query
from workbench.debugger.plain import encode
from workbench.debugger.snapshot import to_dict
from workbench.tui.actions import bindings
from workbench.tui.screens.step_answers import StepAnswers
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.drawn_rows import DrawnRows
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.tabs import TabTitle

POLL_SECONDS = 0.1
FREEZE_SECONDS = 1.0
PACE = 8  # looks at a step that runs over which its pace is taken
TO_WALK = ("frames", "stacks", "breaks", "answer")  # tabs that take the keyboard when they are shown


class StepScreen(StepAnswers):
    """The debugger."""

    AUTO_FOCUS = "#rails RailList"
    BINDINGS = bindings("step")
    DEFAULT_CSS = """
    StepScreen {
        & #status { height: 1; background: $panel; }
        & #scrubber { height: 1; background: $surface; }
        & #body { height: 1fr; }
        & #rails { width: 9fr; height: 1fr; }
        & #side { width: 11fr; layout: vertical; }
        & #middle, & #right { height: 1fr; width: 1fr; }
        & #source, & #frames { display: none; }
        & #values { height: 1fr; }
        & #tabs { height: 1fr; }
        & #console { height: 4; }
        &.-wide #rails { width: 1fr; }
        &.-wide #side { width: 1fr; }
        &.-tall {
            & #source { display: block; height: 8; }
            & #middle { height: 3fr; }
            & #right { height: 2fr; }
            & #console { height: 6; }
        }
        &.-huge {
            & #rails { width: 2fr; }
            & #side { width: 3fr; layout: horizontal; }
            & #middle, & #right { height: 1fr; }
            & #right { margin-left: 1; }
            & #source { height: 16; }
            & #frames { display: block; height: 2fr; }
            & #tabs { height: 3fr; }
            & #console { height: 8; }
        }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._serial = -2
        self._output = ""
        self._failed = False
        self._looking_on = False  # it has been asked how far the step is
        self._pace: deque[tuple[float, int]] = deque(maxlen=PACE)  # when it was how far

    def compose_body(self) -> ComposeResult:
        yield self.status
        yield self.scrubber
        with Horizontal(id="body"):
            yield Panel("steps", self.rails, id="rails", classes="surface")
            with Vertical(id="side"):
                with Vertical(id="middle"):
                    yield Panel("next and last", self.values, id="values")
                    yield Panel("source", self.source, id="source", classes="surface")
                with Vertical(id="right"):
                    yield Panel("frames", self.frames, id="frames", classes="surface")
                    yield self.tabs
        yield Panel("output", self.console, id="console", classes="surface")
        yield self.line

    def on_mount(self) -> None:
        self.set_interval(POLL_SECONDS, self.look)
        self.look()
        # What is there now stays: a full collection that goes through all of it would come between a key and what it shows.
        self.set_timer(FREEZE_SECONDS, gc.freeze)

    # Showing.

    def sync(self) -> None:
        self.look()

    def look(self) -> None:
        source = self.workbench.debug_source
        if source is None:
            return
        snapshot = source.snapshot
        if snapshot.serial == self._serial and snapshot.output == self._output:
            return
        self._serial, self._output = snapshot.serial, snapshot.output
        before = self.step
        if snapshot.status.value == before.status == "running" and title_of(snapshot) == before.title:
            # It has only gone on: of all that is shown, the count and the output are others, and what `_run_on` tells.
            executed = max(snapshot.executed, before.executed)
            self.step = replace(before, executed=executed, output=snapshot.output, serial=snapshot.serial)
            self.rails.step = self.step
            self.status.refresh()
            self._title_list()
            self._run_on()
            if self.step.output != before.output:
                self.show_console()
            return
        # What has executed is asked for in pages.
        self.step = step_view(to_dict(replace(snapshot, history=())))
        self._pace.clear()
        moved = _position(before) != _position(self.step)
        if self.step.title != before.title and self.step.title:
            self.detail = None
        self._show(moved, another=self.step.title != before.title)
        if self.step.status == "running":
            self._run_on()
        if self.step.status == "failed" and not self._failed:
            self._failed = True
            self.answer = ""
            self.show_console()

    # While it runs.

    def _run_on(self) -> None:
        """Ask how far the step is: one question at a time, so that a busy script is not asked more than it can answer."""
        if not self._looking_on:
            self._looking_on = True
            history = self.history
            count = min(MAX_ROWS, max(32, self.rails.size.height))
            self.ask_page(
                Query("live", count=count, folds=history.folds, edition=history.edition), self._ran_on
            )

    def _ran_on(self, page: Page) -> None:
        self._looking_on = False
        step = self.step
        if not page.ok or step.status != "running" or page.executed < self.history.executed:
            return
        now = activation(encode(page.now)) if page.now is not None else None
        self._pace.append((time.monotonic(), page.executed))
        (since, had), (until, has) = self._pace[0], self._pace[-1]
        self.step = replace(
            step,
            executed=page.executed,
            first_row=page.first_row,
            ready=(Ready(0, now, False, lasts(page.now_ns)),) if now is not None else (),
            ready_count=0,
            now=now,
            now_ns=page.now_ns,
            pace=(has - had) / (until - since) if until > since else 0.0,
        )
        self.rails.run_on(self.step, page)
        self.status.refresh()
        self.scrubber.ran_on(page.executed, page.first_row)
        self._title_list()

    def recolour(self) -> None:
        self._show(False)

    def laid_out(self) -> None:
        self._show(False)

    def _show(self, moved: bool, another: bool = False) -> None:
        step, palette = self.step, self.palette
        self.status.refresh()
        if step.status == "stopped" or another:
            self.history.moved(step.executed, step.first_row, another=another)
        self.rails.set_empty(self._nothing_ready())
        self.rails.show(step, moved and step.can_step)
        self._title_list()
        if step.can_step and (moved or self.detail is None):
            self.look_at_selected()
        self.show_scrubber()
        if self.panel("frames").display:
            self.frames.show(draw_frames(step, palette, self.width_of(self.frames)))
        self.show_values()
        self.tabs.draw(step, palette, home=moved and self.tabs.current == "waiting")
        self.show_console()

    def history_came(self) -> None:
        super().history_came()
        self._title_list()

    def _title_list(self) -> None:
        step = self.step
        ready = f"{fmt.count(step.ready_count)} ready" if step.ready_count else ""
        run = f"{fmt.count(step.executed)} executed" if step.executed else ""
        if step.status == "running":
            ready = "running"
        folded = "folded" if self.history.folds else ""
        devices = self.history.devices if len(self.history.devices) > 1 else ()
        legend = [
            (device.upper(), rail_style(self.palette, number, len(devices)))
            for number, device in enumerate(devices)
        ]
        note = " · ".join(part for part in (run, ready, folded) if part)
        self.panel("rails").set_title("steps", note, legend)

    def _nothing_ready(self) -> str:
        if self.step.status == "stopped":
            return "nothing is ready: the step is over"
        return {"running": "the step runs …", "waiting_for_run": "the script runs its own code …"}.get(
            self.step.status, "the script has ended"
        )

    def show_console(self) -> None:
        width = self.width_of(self.console)
        step, palette = self.step, self.palette
        if self.answer:
            self.panel("console").set_title("answer", f"to {self.answered}")
            style = palette.plain if self.answer_ok else palette.style(palette.bad)
            self.console.show(draw_text(self.answer, style, width), home=True)
            return
        if step.error:
            self.panel("console").set_title("error", "v shows all that the script printed")
            text = step.traceback.rstrip() or step.error
            self._at_end(draw_text(text, palette.style(palette.bad), width))
            return
        self.panel("console").set_title(
            "output", "" if step.output else "the script has not printed anything"
        )
        self._at_end(draw_text(step.output, palette.plain, width))

    def _at_end(self, drawing: Drawing) -> None:
        self.console.show(drawing)
        self.call_after_refresh(self.console.scroll_end, animate=False)

    # Tabs.

    def show_tab(self, name: str) -> None:
        name = "waiting" if name == self.tabs.current else name
        had_focus, was_waiting = self.tabs.shown.has_focus, self.tabs.current == "waiting"
        self.tabs.show_tab(name)
        if was_waiting != (name == "waiting"):
            self._make_room()
            self.call_after_refresh(self._show, False)
        if name in TO_WALK:
            self.tabs.shown.focus()
        elif had_focus:
            self.rails.focus()
        self.tabs.draw(self.step, self.palette, home=True)

    def on_resize(self) -> None:
        super().on_resize()
        self._make_room()

    def _make_room(self) -> None:
        """Give more room to a tab that is looked at, where there is not enough for all.

        A class would do, but have the rules matched anew for all that is on the screen, which takes as long as drawing it.
        """
        looking = self.tabs.current != "waiting" and not self.has_class("-huge")
        tall = self.has_class("-tall")
        middle, right = (("2fr", "3fr") if tall else ("1fr", "2fr")) if looking else (None, None)
        self.query_one("#middle").styles.height = middle
        self.query_one("#right").styles.height = right
        self.panel("source").styles.display = "none" if looking and tall else None

    @on(TabTitle.Chosen)
    def _tab_chosen(self, message: TabTitle.Chosen) -> None:
        if message.name != self.tabs.current:
            self.show_tab(message.name)

    # Rows.

    @on(RowList.Chosen)
    def _chosen(self, message: RowList.Chosen) -> None:
        if isinstance(message.rows, DrawnRows):
            self.follow(message.rows.key_at(message.index))
        elif message.rows is self.rails:
            row = self.rails.executed_at(message.index)
            if row is not None and row.count > 1:
                self.fold_selected(False)
            else:
                self.info()

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        if message.rows is not self.rails:
            return
        self.look_at_selected()
        # While ways of dead tokens are looked at, that of the node under the cursor is.
        here = self.rails.selected
        if self.tabs.current == "why" and here is not None and here[1].dead:
            self.command(f"why {here[0]}" if here[0] >= 0 else f"why {here[1].node}")

    @on(DrawingView.Picked)
    def _picked(self, message: DrawingView.Picked) -> None:
        self.follow(message.key)


def _position(step: StepView) -> tuple[Any, ...]:
    """Where a script stands: a view of the same place is that of a command that only looked."""
    return step.status, step.title, step.executed, step.next, len(step.ready)
