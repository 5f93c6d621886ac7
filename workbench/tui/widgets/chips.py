"""The drawing of a level, with a cursor that goes from chip to chip; and the scope tree's list."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

from viz.cells import Drawing, Hit
from workbench.tui.actions import bindings
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.row_list import DrawRow, RowList


class ChipView(DrawingView):
    """A drawing of chips; arrows select the nearest chip in their direction."""

    BINDINGS = bindings("chips")
    DEFAULT_CSS = "ChipView { overflow: auto auto; }"
    centred = True

    class Moved(Message):
        """Another chip was selected with the keyboard."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.selected: str | None = None

    def show_chips(self, drawing: Drawing, selected: str | None, *, home: bool = False) -> None:
        """Show a drawing with that chip selected."""
        self.selected = selected
        self.show(drawing, home=home)

    def go(self, dx: int, dy: int) -> None:
        """Select the nearest chip in a direction."""
        found = nearest(list(self.drawing.hits), self.selected, dx, dy)
        if found is not None:
            self.post_message(self.Moved(found))
        elif dy:
            self.scroll_relative(y=dy * 2, animate=False)


def nearest(hits: list[Hit], current: str | None, dx: int, dy: int) -> str | None:
    """The key of the hit nearest to `current` in a direction: on its row for left and right, else on the nearest row that way."""
    here = next((hit for hit in hits if hit.key == current), None)
    if here is None:
        return str(hits[0].key) if hits else None
    middle = (here.start + here.end) / 2
    if dx:
        side = [hit for hit in hits if hit.row == here.row and (hit.start - here.start) * dx > 0]
        beside = min(side, key=lambda hit: abs(hit.start - here.start), default=None)
        return None if beside is None else str(beside.key)
    rows = [hit for hit in hits if (hit.row - here.row) * dy > 0]
    if not rows:
        return None
    row = min(rows, key=lambda hit: abs(hit.row - here.row)).row
    on_row = (hit for hit in rows if hit.row == row)
    return str(min(on_row, key=lambda hit: abs((hit.start + hit.end) / 2 - middle)).key)


class TreeList(RowList):
    """A list whose rows open and close: `fold(index, open)`, None for toggling."""

    BINDINGS = bindings("tree")

    def __init__(
        self, draw: DrawRow, fold: Callable[[int, bool | None], None], *, id: str | None = None
    ) -> None:
        super().__init__(draw, id=id)
        self._fold = fold

    def unfold(self, is_open: bool | None) -> None:
        """Open, close or toggle the row under the cursor."""
        self._fold(self.cursor, is_open)
