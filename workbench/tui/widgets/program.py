"""The program of a plan as a list: a line is a row, the lines of what is selected elsewhere stand out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from viz.cells import Line, wrap
from viz.draw_plan import Columns, columns, draw_row, memory_text, why_lines
from viz.palette import DARK, Palette
from viz.plan_model import PlanModel
from viz.timings import NodeTiming, Timings
from workbench.tui.widgets.row_list import RowList


class ProgramList(RowList):
    """Shows a `PlanModel`; `marked` are the numbers of the lines that stand out."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._row, id=id)
        self.model: PlanModel | None = None
        self.times: Sequence[NodeTiming] | None = None
        self.marked: Collection[int] = ()
        self.palette: Palette = DARK
        self._columns: tuple[int, Columns] | None = None

    def show_plan(
        self, model: PlanModel | None, why: str, timings: Timings | None, palette: Palette
    ) -> list[str]:
        """Show a program, with what each line cost if that is known, or why there is none; gives notes for a title."""
        width = max(20, self.size.width - 2)
        lines = why_lines(model, width) if model is not None else wrap(why, width)
        self.set_empty("\n".join(lines))
        self.model, self.palette = model, palette
        self.times = (
            model.times(timings) if model is not None and model.rows and timings is not None else None
        )
        self._columns = None
        self.set_count(len(model.rows) if model is not None else 0)
        memory = memory_text(model).partition(",")[0] if model is not None else ""
        return [f"peak {memory}"] if memory else []

    def nodes_at(self, index: int) -> tuple[str, ...]:
        """The nodes for which row `index` stands."""
        known = self.model is not None and index < len(self.model.rows)
        return self.model.nodes_of(index + 1) if self.model is not None and known else ()

    @property
    def chosen_nodes(self) -> frozenset[str]:
        """The nodes of the line under the cursor."""
        return frozenset(self.nodes_at(self.cursor))

    def mark_nodes(self, names: Iterable[str], follow: bool = False) -> None:
        """Let the lines of these nodes stand out; the cursor goes to them unless it has the focus, or `follow` says so."""
        if self.model is not None:
            lines = self.model.lines_of(names)
            elsewhere = self.cursor + 1 not in lines
            self.mark(lines, follow=elsewhere and (follow or not self.has_focus))

    def mark(self, lines: Collection[int], *, follow: bool = False) -> None:
        """Let these lines stand out; with `follow` the cursor goes to the first of them."""
        self.marked = lines
        if follow and lines:
            self.set_count(self.count, cursor=min(lines) - 1)
        else:
            self.redraw()

    def recolour(self, palette: Palette) -> None:
        """Other colours."""
        self.palette = palette
        self.redraw()

    def _row(self, index: int, width: int) -> Line:
        assert self.model is not None
        if self._columns is None or self._columns[0] != width:
            self._columns = width, columns(self.model, width, self.times is not None)
        time = self.times[index] if self.times is not None else None
        return draw_row(self.model, index, self.palette, self._columns[1], time=time, marked=self.marked)
