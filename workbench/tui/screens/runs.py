"""Runs: the run directories, newest first, and what there is to say of the one under the cursor."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from viz import format as fmt
from viz.cells import Drawing, Line, Page
from viz.draw_runs import draw_run_detail, draw_run_row, draw_runs_head
from viz.runs_model import RunRow, now_unix_ns
from workbench.tui import words
from workbench.tui.actions import bindings
from workbench.tui.screens.base import BaseScreen
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList

ORDERS = (("newest first", None), ("lowest loss first", "loss"))


class RunsScreen(BaseScreen):
    """The list of runs, live."""

    where = "runs"
    AUTO_FOCUS = "#list"
    BINDINGS = bindings("runs")
    DEFAULT_CSS = """
    RunsScreen {
        & #columns { height: 1; }
        & #list { height: 1fr; min-height: 4; }
        & #body { layout: vertical; height: 1fr; }
        & #detail { height: 1fr; }
        & #left { height: 1fr; }
        &.-wide #body { layout: horizontal; }
        &.-wide #left { width: 3fr; }
        &.-wide #detail { width: 2fr; height: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[RunRow] = []
        self.order = 0
        self.beat = False
        self.touched = False  # until somebody moves the cursor it stays on the open run
        self.columns = LineWidget(lambda width: draw_runs_head(self.palette, width), id="columns")
        self.list = RowList(self._draw_row, id="list")
        self.detail = DrawingView()

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield self.columns
                yield self.list
            yield Panel("run", self.detail, id="detail", classes="surface")

    def on_mount(self) -> None:
        self.set_interval(0.5, self._tick)

    def _tick(self) -> None:
        if any(row.state == "running" for row in self.rows) and self.is_current:
            self.beat = not self.beat
            self.list.redraw()

    def sync(self) -> None:
        current = self.selected
        rows = list(self.workbench.rows)
        if ORDERS[self.order][1] == "loss":
            rows.sort(key=_loss_key)
        self.rows = rows
        opened = self.workbench.open_path
        path = current.path if current is not None and (self.touched or opened is None) else opened
        index = next((i for i, row in enumerate(rows) if row.path == path), 0)
        self.list.set_empty(words.no_runs(self.workbench))
        self.list.set_count(len(rows), cursor=index)
        self.columns.display = bool(rows)
        self._show_detail()

    def recolour(self) -> None:
        self.columns.refresh()
        self.list.redraw()
        self._show_detail()

    def laid_out(self) -> None:
        self._show_detail()

    @property
    def selected(self) -> RunRow | None:
        """The run under the cursor."""
        return self.rows[self.list.cursor] if self.list.cursor < len(self.rows) else None

    def _draw_row(self, index: int, width: int) -> Line:
        row = self.rows[index]
        return draw_run_row(row, self.palette, width, now_unix_ns(), self.beat)

    def _show_detail(self) -> None:
        row = self.selected
        panel = self.query_one("#detail", Panel)
        width = self.detail.scrollable_content_region.width
        if row is None or width <= 0:
            panel.set_title("run" if row is not None else "")
            self.detail.show(self._welcome(width))
            return
        panel.set_title("run", ORDERS[self.order][0] if self.order else "")
        self.detail.show(draw_run_detail(row, self.palette, width, now_unix_ns()))

    def _welcome(self, width: int) -> Drawing:
        page = Page(max(20, width))
        lines = (
            ("workbench demo", "train a small network, live"),
            ("workbench run SCRIPT", "record a script of yours"),
            ("workbench step SCRIPT", "stop at its first Session.run"),
        )
        for command, what in lines:
            accent = self.palette.style(self.palette.accent)
            page.add((f" {fmt.pad(command, 24)}", accent), (what, self.palette.quiet))
        return page.drawing()

    @on(RowList.Highlighted)
    def _moved(self) -> None:
        self.touched = True
        self._show_detail()
        self.detail.scroll_to(0, 0, animate=False)

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.open_run("graph")

    # Actions.

    def open_run(self, screen: str) -> None:
        """Open the run under the cursor and show it on another screen."""
        row = self.selected
        if row is None:
            return
        if row.broken:
            self.app.notify(row.broken, severity="error")
            return
        self.workbench.open_run(row.path, then=screen)

    def next_order(self) -> None:
        """Sort by the next criterion."""
        self.order = (self.order + 1) % len(ORDERS)
        self.sync()


def _loss_key(row: RunRow) -> tuple[bool, float]:
    last = row.last(row.loss_tag)
    return last is None, last if last is not None else 0.0
