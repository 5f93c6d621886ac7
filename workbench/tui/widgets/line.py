"""One row of a screen that is drawn by a function."""

from __future__ import annotations

from collections.abc import Callable

from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Line
from workbench.tui.widgets.strips import base_style, strip_of


class LineWidget(Widget):
    """A row drawn by `draw(width)`."""

    DEFAULT_CSS = "LineWidget { height: 1; }"

    def __init__(self, draw: Callable[[int], Line], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._draw = draw

    def render_line(self, y: int) -> Strip:
        return strip_of(self._draw(self.size.width), self.size.width, style=base_style(self))
