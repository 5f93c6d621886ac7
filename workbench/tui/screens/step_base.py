"""The Step screen's parts and how it talks to the debugger: nothing here waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from viz.cells import Line
from viz.detail_model import Detail
from viz.draw_step import status_line
from viz.step_model import StepView
from workbench.debugger.pages import Page, Query
from workbench.tui.history import History, settle
from workbench.tui.screens.base import BaseScreen
from workbench.tui.widgets.command_line import CommandLine
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.rail_list import RailList
from workbench.tui.widgets.scrubber import Scrubber
from workbench.tui.widgets.step_tabs import StepTabs

HUGE_FROM = 150, 44  # columns and rows from which on there are three columns


class StepBase(BaseScreen):
    """What the parts of the screen share.

    - `step` is the view that is shown; `detail` the selected execution in full, None until it has come.
    - `answer` is what the last command was answered, `answered` that command, `answer_ok` whether it was carried out.
    """

    where = "step"

    def __init__(self) -> None:
        super().__init__()
        self.step = StepView()
        self.detail: Detail | None = None
        self.answer = ""
        self.answer_ok = True
        self.answered = ""
        self.history = History(self.ask_page, self.history_came)
        self.status = LineWidget(self._draw_status, id="status")
        self.scrubber = Scrubber(lambda: self.palette, id="scrubber")
        self.rails = RailList(self.history, lambda: self.palette, self.fold_selected)
        self.frames = DrawingView()
        self.source = DrawingView()
        self.values = DrawingView()
        self.tabs = StepTabs(self.switch_breakpoint, self.delete_breakpoint, id="tabs")
        self.console = DrawingView()
        self.line = CommandLine(lambda: self.palette, self._find_names, id="line")

    def on_resize(self) -> None:
        super().on_resize()
        size = self.app.size
        self.set_class(size.width >= HUGE_FROM[0] and size.height >= HUGE_FROM[1], "-huge")

    # Asking.

    def ask_page(self, query: Query, done: Callable[[Page], None]) -> None:
        """Ask the debugger for data; `done` is called in the app's own thread when it has come."""
        source, app = self.workbench.debug_source, self.app
        if source is None:
            return

        def came(page: Any) -> None:
            if app.is_running:
                app.call_later(self._settled, done, page)

        settle(source.query(query), came)

    def _settled(self, done: Callable[[Page], None], page: Page) -> None:
        if self.is_attached:
            done(page)

    def _find_names(self, prefix: str, found: Callable[[Sequence[str]], None]) -> None:
        self.ask_page(Query("names", prefix), lambda page: found(page.names))

    def history_came(self) -> None:
        """More of the history has come."""
        self.rails.recount()

    # What others do.

    def command(self, line: str) -> None:
        """Give the debugger a command line."""
        raise NotImplementedError

    def ask(self, text: str = "") -> None:
        """Open the command line."""
        raise NotImplementedError

    def show_tab(self, name: str) -> None:
        """Show a tab, or the waiting nodes again if it is shown."""
        raise NotImplementedError

    def fold_selected(self, folded: bool | None) -> None:
        """Fold the loop of the selected line, or unfold it."""
        raise NotImplementedError

    def switch_breakpoint(self, number: int) -> None:
        """Let a breakpoint stop no more, or again."""
        point = next((each for each in self.step.breakpoints if each.number == number), None)
        if point is not None:
            self.command(f"{'disable' if point.enabled else 'enable'} {number}")

    def delete_breakpoint(self, number: int) -> None:
        """Delete a breakpoint."""
        self.command(f"d {number}")

    # Drawing.

    def _draw_status(self, width: int) -> Line:
        return status_line(self.step, self.palette, width)

    def panel(self, name: str) -> Panel:
        """The panel of that id."""
        return self.query_one(f"#{name}", Panel)

    @staticmethod
    def width_of(view: DrawingView) -> int:
        """The cells of a line in `view`."""
        return max(16, view.scrollable_content_region.width)
