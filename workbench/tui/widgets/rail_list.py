"""The list of a step: what has executed, lazily, what runs next, and what else is ready, in one scroll."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from viz.cells import Line
from viz.draw_rails import draw_coming, draw_executed, draw_unknown
from viz.palette import Palette
from viz.rails_model import Cell
from viz.step_model import Activation, Ready, StepView
from workbench.debugger.pages import Page, RowView
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
        self._rails_of: dict[
            tuple[int, str], Sequence[Cell]
        ] = {}  # beside what is ready, by frame and device
        self._follows = True  # the cursor stays on what runs next

    # Showing.

    def show(self, step: StepView, moved: bool) -> None:
        """Show another view of the step; where it has `moved`, the cursor goes to what runs next."""
        self.step = step
        self._broken = frozenset(point.node for point in step.breakpoints if point.enabled)
        self.recount(follow=moved)

    def run_on(self, step: StepView, page: Page) -> None:
        """The step runs, and `page` has the last of its lines: the cursor stays with what executes, or where it was put."""
        self.step = step
        follows, before = self._follows, self.history.first_row
        self.history.went_on(page)
        gone = 0 if self.history.folds else self.history.first_row - before
        if gone and not follows:
            # The oldest lines are kept no more: what is looked at stays where it is.
            self.set_reactive(RailList.cursor, max(0, self.cursor - gone))
            self.scroll_to(y=max(0, self.scroll_offset.y - gone), animate=False, force=True)
        self.recount(follow=follows)

    def recount(self, follow: bool = False) -> None:
        """The history has another number of lines."""
        self._rails_of.clear()
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

    def select_ready(self, node: str) -> None:
        """The cursor to a node that is ready; it stays where it is if the node is not."""
        index = next((i for i, each in enumerate(self.step.ready) if each.activation.node == node), None)
        if index is not None:
            self.move_to(self.history.lines + index)

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

    def show_changes(self) -> None:
        self.refresh_changed()

    def draw_for(self) -> tuple[Any, ...]:
        return self._palette_of(), self._digits, self.history.devices

    def row_looks(self, index: int) -> Any:
        history = self.history
        if index < history.lines:
            row = history.row(index)
            if row is None:
                return history.first_row
            return row, history.cells(index), row.node in self._broken
        ready = self.step.ready[index - history.lines]
        return ready, self._coming(ready), self.step.error

    def _coming(self, ready: Ready) -> Sequence[Cell]:
        """The rails beside what is ready."""
        here = ready.activation.frame, ready.activation.device
        known = self._rails_of.get(here)
        if known is None:
            known = self._rails_of[here] = self.history.coming(*here)
        return known

    @property
    def _digits(self) -> int:
        return max(2, len(str(self.history.executed)))

    def _line(self, index: int, width: int) -> Line:
        palette, digits, devices = self._palette_of(), self._digits, len(self.history.devices)
        if index < self.history.lines:
            row = self.history.row(index)
            if row is None:
                return draw_unknown(index + self.history.first_row, palette, width, digits)
            cells = self.history.cells(index)
            return draw_executed(
                row,
                cells,
                palette,
                width,
                digits=digits,
                breakpoint=row.node in self._broken,
                devices=devices,
            )
        ready = self.step.ready[index - self.history.lines]
        cells = self._coming(ready)
        device = self.history.number_of(ready.activation.device)
        return draw_coming(
            ready,
            cells,
            palette,
            width,
            digits=digits,
            error=self.step.error,
            devices=devices,
            device=device,
        )
