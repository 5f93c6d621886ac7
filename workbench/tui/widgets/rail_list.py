"""The list of a step: what has executed, lazily, what runs next, and what else is ready, in one scroll."""

from __future__ import annotations

from collections.abc import Callable

from viz.cells import Line
from viz.draw_rails import draw_coming, draw_executed, draw_unknown
from viz.palette import Palette
from viz.step_model import Activation, Ready, StepView
from workbench.debugger.pages import RowView
from workbench.tui.actions import bindings
from workbench.tui.history import History
from workbench.tui.widgets.row_list import RowList


class RailList(RowList):
    """Shows `history` and then what is ready; the row of what runs next is line `history.lines`.

    `fold(line, folded)` is called to fold or unfold (None: either) the loop that a line is in.
    """

    BINDINGS = bindings("rails")

    def __init__(
        self, history: History, palette: Callable[[], Palette], fold: Callable[[bool | None], None]
    ) -> None:
        super().__init__(self._line, empty="nothing is ready")
        self.history = history
        self.step = StepView()
        self._palette_of = palette
        self._fold = fold
        self._broken: frozenset[str] = frozenset()
        self._follows = True  # the cursor stays on what runs next

    # Showing.

    def show(self, step: StepView, moved: bool) -> None:
        """Show another view of the step; where it has `moved`, the cursor goes to what runs next."""
        self.step = step
        self._broken = frozenset(point.node for point in step.breakpoints if point.enabled)
        self.recount(follow=moved)

    def recount(self, follow: bool = False) -> None:
        """The history has another number of lines."""
        lines, ready = self.history.lines, len(self.step.ready)
        count = lines + ready
        at_next = follow or (self._follows and self.cursor != lines)
        before = self.cursor
        if at_next and count:
            self._follows = True
            self.set_count(count, cursor=min(lines, count - 1))
            self._look_around()
        else:
            self.set_count(count, cursor=min(before, max(0, count - 1)) if before >= count else None)

    def _look_around(self) -> None:
        """Scroll so that something of what has executed is above what runs next, and of what is ready below."""
        line, height = self.history.lines, self.scrollable_content_region.height
        if height > 4 and self.count > height:
            ready = len(self.step.ready)
            below = min(max(0, ready - 1), height // 3)
            self.scroll_to(y=max(0, line - (height - 1 - below)), animate=False, force=True)

    def on_resize(self) -> None:
        super().on_resize()
        if self._follows and self.count:
            self.call_after_refresh(self._look_around)
        elif self.count:
            self.call_after_refresh(self.show_row, self.cursor)

    def move_to(self, index: int) -> None:
        super().move_to(index)
        self._follows = self.cursor == self.history.lines

    def go_to_next(self) -> None:
        """The cursor to what runs next."""
        self.move_to(min(self.history.lines, max(0, self.count - 1)))
        self._look_around()

    # What a line is.

    def executed_at(self, line: int) -> RowView | None:
        """The execution at a line, if it is one and has come."""
        return self.history.known(line) if line < self.history.lines else None

    def ready_at(self, line: int) -> Ready | None:
        """What is ready at a line."""
        index = line - self.history.lines
        return self.step.ready[index] if 0 <= index < len(self.step.ready) else None

    @property
    def selected(self) -> tuple[int, Activation] | None:
        """The activation under the cursor with the number of its execution, -1 if it is to come."""
        ready = self.ready_at(self.cursor)
        if ready is not None:
            return -1, ready.activation
        row = self.executed_at(self.cursor)
        if row is None:
            return None
        return row.row, Activation(row.node, row.type, "", 0, row.path, row.iteration, row.dead)

    def fold(self, folded: bool | None) -> None:
        """Fold the loop under the cursor, or unfold it."""
        self._fold(folded)

    # Drawing.

    def _line(self, index: int, width: int) -> Line:
        palette = self._palette_of()
        digits = max(2, len(str(self.history.executed)))
        if index < self.history.lines:
            row = self.history.row(index)
            if row is None:
                return draw_unknown(index + self.history.first_row, palette, width, digits)
            cells = self.history.cells(index)
            return draw_executed(
                row, cells, palette, width, digits=digits, breakpoint=row.node in self._broken
            )
        ready = self.step.ready[index - self.history.lines]
        here = ready.activation
        cells = self.history.coming(here.frame, here.device)
        return draw_coming(ready, cells, palette, width, digits=digits, error=self.step.error)
