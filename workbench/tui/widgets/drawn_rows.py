"""A drawing as a list with a cursor: its lines are rows, and what a line leads to can be chosen."""

from __future__ import annotations

from typing import Any

from viz.cells import Drawing, Line, fit
from workbench.tui.widgets.drawing_view import NOTHING
from workbench.tui.widgets.row_list import RowList


class DrawnRows(RowList):
    """Shows a `Drawing`; the arrows move over its lines, and `key_at` says what a line stands for."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._line, id=id)
        self.drawing = NOTHING

    def show(self, drawing: Drawing, *, home: bool = False) -> None:
        """Show another drawing; `home` puts the cursor on its first line."""
        self.drawing = drawing
        self.set_count(drawing.height, cursor=0 if home else None)

    def key_at(self, index: int) -> Any:
        """What line `index` stands for; None if it leads nowhere."""
        return self.drawing.at(0, index)

    def show_changes(self) -> None:
        self.refresh_changed()

    def row_looks(self, index: int) -> Any:
        return self.drawing.lines[index]

    def _line(self, index: int, width: int) -> Line:
        return fit(self.drawing.lines[index], width)
