"""Step: a script inside its Session.run, between two nodes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from viz import format as fmt
from viz.cells import Drawing, Line
from viz.draw_flow import draw_frames
from viz.draw_step import (
    draw_history_row,
    draw_inputs,
    draw_ready_row,
    draw_source,
    draw_text,
    status_line,
)
from viz.step_model import Activation, StepView, step_view
from workbench.debugger.snapshot import to_dict
from workbench.tui.actions import bindings
from workbench.tui.screens.base import BaseScreen
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.drawn_rows import DrawnRows
from workbench.tui.widgets.flow_tabs import FlowTabs
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.tabs import TabTitle

POLL_SECONDS = 0.1


class StepScreen(BaseScreen):
    """The debugger."""

    where = "step"
    AUTO_FOCUS = "#ready RowList"
    BINDINGS = bindings("step")
    DEFAULT_CSS = """
    StepScreen {
        & #status { height: 1; background: $panel; }
        & #body { height: 1fr; }
        & #left { width: 9fr; }
        & #right { width: 11fr; }
        & #ready { height: 1fr; }
        & #frames { height: 1fr; }
        & #source { height: 7; }
        & #values { height: 1fr; }
        & #tabs { height: 1fr; }
        & #console { height: 5; }
        &.-looking #tabs { height: 3fr; }
        &.-looking #source { display: none; }
        &.-looking #console { height: 4; }
        &.-looking.-tall #source { display: block; }
        & Input { height: 1; border: none; padding: 0 1; display: none; background: $panel; &:focus { border: none; } }
        &.-asking Input { display: block; }
        &.-wide #left { width: 2fr; }
        &.-wide #right { width: 3fr; }
        &.-tall #source { height: 12; }
        &.-tall #frames, &.-tall #values, &.-tall #tabs { margin-top: 1; }
        &.-tall #console { height: 9; }
        &.-tall.-looking #console { height: 5; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = StepView()
        self.history = False
        self.answer = ""
        self.answer_ok = True
        self.answered = ""
        self._serial = -2
        self._output = ""
        self._failed = False
        self.status = LineWidget(self._draw_status, id="status")
        self.ready = RowList(self._draw_ready, empty="nothing is ready")
        self.frames = DrawingView()
        self.source = DrawingView()
        self.values = DrawingView()
        self.tabs = FlowTabs(id="tabs")
        self.console = DrawingView()
        self.input = Input(placeholder="a debugger command: n, s, o, c, b NODE, p TENSOR, info NODE, h")

    def compose_body(self) -> ComposeResult:
        yield self.status
        with Horizontal(id="body"):
            with Vertical(id="left", classes="surface"):
                yield Panel("ready", self.ready, id="ready", classes="surface")
                yield Panel("frames", self.frames, id="frames", classes="surface")
            with Vertical(id="right"):
                yield Panel("source", self.source, id="source")
                yield Panel("next and last", self.values, id="values")
                yield self.tabs
        yield Panel("output", self.console, id="console", classes="surface")
        yield self.input

    def on_mount(self) -> None:
        self.set_interval(POLL_SECONDS, self.look)
        self.look()

    # Showing.

    def sync(self) -> None:
        self.look()

    def look(self) -> None:
        """Show the latest snapshot, if it is another one."""
        source = self.workbench.debug_source
        if source is None:
            return
        snapshot = source.snapshot
        if snapshot.serial == self._serial and snapshot.output == self._output:
            return
        self._serial, self._output = snapshot.serial, snapshot.output
        before, self.step = self.step, step_view(to_dict(snapshot))
        self._show(_position(before) != _position(self.step))
        if self.step.status == "failed" and not self._failed:
            self._failed = True
            self.answer = ""
            self._show_console()

    def recolour(self) -> None:
        self._show(False)

    def laid_out(self) -> None:
        self._show(False)

    def _show(self, moved: bool) -> None:
        step, palette = self.step, self.palette
        self.status.refresh()
        rows = len(step.history) if self.history else len(step.ready)
        self.ready.set_empty("nothing has run yet" if self.history else self._nothing_ready())
        self.ready.set_count(rows, cursor=0 if moved else None)
        self.ready.redraw()
        if self.history:
            self._panel("ready").set_title("history", f"{fmt.count(step.executed)} run, the latest first")
        else:
            self._panel("ready").set_title("ready", fmt.count(step.ready_count) if step.ready_count else "")
        self.frames.show(draw_frames(step, palette, self._width(self.frames)))
        where = step.source or step.run_source
        title = f"{where.file.rsplit('/', 1)[-1]}:{where.line}" if where is not None else ""
        self._panel("source").set_title(
            "source", title + (f" in {where.function}" if where is not None else "")
        )
        height = max(1, self.source.size.height)
        self.source.show(draw_source(where, palette, self._width(self.source), height), home=True)
        self.values.show(draw_inputs(step, palette, self._width(self.values)))
        self.tabs.draw(step, palette, home=moved and self.tabs.current == "waiting")
        self._show_console()

    def _nothing_ready(self) -> str:
        if self.step.status == "stopped":
            return "nothing is ready: the step is over"
        return {"running": "the step runs …", "waiting_for_run": "the script runs its own code …"}.get(
            self.step.status, "the script has ended"
        )

    def _show_console(self) -> None:
        width = self._width(self.console)
        step, palette = self.step, self.palette
        if self.answer:
            self._panel("console").set_title("answer", f"to {self.answered}")
            style = palette.plain if self.answer_ok else palette.style(palette.bad)
            self.console.show(draw_text(self.answer, style, width), home=True)
            return
        if step.error:
            self._panel("console").set_title("error", "v shows all that the script printed")
            text = step.traceback.rstrip() or step.error
            self._at_end(draw_text(text, palette.style(palette.bad), width))
            return
        self._panel("console").set_title(
            "output", "" if step.output else "the script has not printed anything"
        )
        self._at_end(draw_text(step.output, palette.plain, width))

    def _at_end(self, drawing: Drawing) -> None:
        self.console.show(drawing)
        self.call_after_refresh(self.console.scroll_end, animate=False)

    def _draw_status(self, width: int) -> Line:
        return status_line(self.step, self.palette, width)

    def _draw_ready(self, index: int, width: int) -> Line:
        if self.history:
            return draw_history_row(self.step.history[-1 - index], self.palette, width)
        return draw_ready_row(self.step.ready[index], self.palette, width)

    def _panel(self, name: str) -> Panel:
        return self.query_one(f"#{name}", Panel)

    def _width(self, view: DrawingView) -> int:
        return max(16, view.scrollable_content_region.width)

    # Tabs.

    def show_tab(self, name: str) -> None:
        """Show a tab under the values, or the waiting nodes again if it is shown."""
        name = "waiting" if name == self.tabs.current else name
        had_focus = self.tabs.shown.has_focus
        self.tabs.show_tab(name)
        self.set_class(name != "waiting", "-looking")
        if name in ("frames", "stacks"):
            self.tabs.shown.focus()
        elif had_focus:
            self.ready.focus()
        self.tabs.draw(self.step, self.palette, home=True)
        self.call_after_refresh(self._show, False)

    @on(TabTitle.Chosen)
    def _tab_chosen(self, message: TabTitle.Chosen) -> None:
        if message.name != self.tabs.current:
            self.show_tab(message.name)

    def ask_why(self) -> None:
        """Show why the selected node is dead; if that is shown, the waiting nodes again."""
        here, way = self.selected_row, self.step.way
        asked = (way.asked.row, way.asked.node) if way is not None else None
        if here is None or (self.tabs.current == "why" and asked == (here[0], here[1].node)):
            self.show_tab("why")
        else:
            self._ask_why(*here)

    def _ask_why(self, row: int, activation: Activation) -> None:
        self.command(f"why {row}" if row >= 0 else f"why {activation.node}")

    def jump(self, row: int, node: str) -> None:
        """Go to an execution in the history; where it is no longer there, say what there is to say of the node."""
        place = next((i for i, each in enumerate(reversed(self.step.history)) if each.row == row), None)
        if place is None:
            self.command(f"info {node}")
            return
        self.history = True
        self._show(False)
        self.ready.set_count(len(self.step.history), cursor=place)

    def _follow(self, key: Any) -> None:
        """Go where a row leads."""
        if isinstance(key, str) and key:
            self.command(f"info {key}")
        elif isinstance(key, tuple) and key[0] == "execution":
            self.jump(key[1], key[2])
        elif isinstance(key, tuple) and key[0] == "frame" and self.tabs.current != "frames":
            self.show_tab("frames")

    # Commands.

    @property
    def selected_row(self) -> tuple[int, Activation] | None:
        """The activation under the cursor with the number of its execution, -1 if it is to come."""
        if self.history:
            rows = self.step.history[::-1]
            if self.ready.cursor < len(rows):
                return rows[self.ready.cursor].row, rows[self.ready.cursor].activation
            return None
        here = self.selected
        return (-1, here) if here is not None else None

    @property
    def selected(self) -> Activation | None:
        """The activation under the cursor, or the next one."""
        rows = self.step.history[::-1] if self.history else self.step.ready
        if self.ready.cursor < len(rows):
            return rows[self.ready.cursor].activation
        return self.step.next

    def command(self, line: str) -> None:
        """Give the debugger a command line."""
        source = self.workbench.debug_source
        if source is None:
            return
        future = source.send(line)

        def done(found: Future[Any]) -> None:
            reply = found.result()
            if self.app.is_running:
                self.app.call_later(self._replied, line, bool(reply.ok), str(reply.text))

        future.add_done_callback(done)

    def _replied(self, line: str, ok: bool, text: str) -> None:
        self.answer = ""
        self._serial = -2
        self.look()
        if ok and line.split()[:1] == ["why"]:
            if self.tabs.current != "why":
                self.show_tab("why")
            self.tabs.draw(self.step, self.palette, home=True)
            self.answer = ""
        elif ok or not self.step.is_over:
            self.answer, self.answer_ok, self.answered = text.rstrip(), ok, line
        self._show_console()

    def toggle_breakpoint(self) -> None:
        """Set a breakpoint at the selected node, or delete the one that is there."""
        here = self.selected
        if here is None:
            self.ask("b ")
            return
        known = next((point for point in self.step.breakpoints if point.node == here.node), None)
        self.command(f"d {known.number}" if known is not None else f"b {here.node}")

    def print_selected(self) -> None:
        """Print the latest values of the selected node, or of what it reads if it has not run yet."""
        here = self.selected
        if here is None:
            self.ask("p ")
            return
        if any(row.activation.node == here.node for row in self.step.history):
            self.command(f"p {here.node}")
        elif self.step.last is not None:
            self.command(f"p {self.step.last.activation.node}")
        else:
            self.command(f"info {here.node}")

    def toggle_history(self) -> None:
        """The list shows what has run, or what is ready."""
        self.history = not self.history
        self._show(True)

    def show_node(self) -> None:
        """Show the selected node in the graph, if one is recorded."""
        here = self.selected
        if here is None:
            return
        if self.workbench.stage is None:
            self.app.notify(
                "no graph is recorded beside the stepping: workbench step --trace times SCRIPT", timeout=5
            )
            return
        self.workbench.go_to_node(here.node)

    def ask(self, text: str = "") -> None:
        """Open the command line."""
        self.add_class("-asking")
        self.input.value = text
        self.input.cursor_position = len(text)
        self.input.focus()

    def leave_input(self) -> None:
        """Close the command line."""
        self.remove_class("-asking")
        self.ready.focus()

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        line = message.value.strip()
        self.leave_input()
        if line in ("q", "quit", "exit"):
            self.workbench.exit()
        elif line:
            self.command(line)

    @on(RowList.Chosen)
    def _chosen(self, message: RowList.Chosen) -> None:
        if isinstance(message.rows, DrawnRows):
            self._follow(message.rows.key_at(message.index))
            return
        here = self.selected
        if here is not None:
            self.command(f"info {here.node}")

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        # While ways of dead tokens are looked at, that of the node under the cursor is.
        here = self.selected_row
        if message.rows is self.ready and self.tabs.current == "why" and here is not None and here[1].dead:
            self._ask_why(*here)

    @on(DrawingView.Picked)
    def _picked(self, message: DrawingView.Picked) -> None:
        self._follow(message.key)


def _position(step: StepView) -> tuple[Any, ...]:
    """Where a script stands: a view of the same place is that of a command that only looked."""
    return step.status, step.title, step.executed, step.next, len(step.ready)
