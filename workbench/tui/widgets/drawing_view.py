"""A drawing of `viz` that scrolls both ways and can be pointed at."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from viz.cells import EMPTY, Drawing
from workbench.tui.actions import Performer, bindings
from workbench.tui.widgets.strips import QuietStrips, base_style, strip_of

NOTHING = Drawing(())


class DrawingView(Performer, QuietStrips, ScrollView, can_focus=True):
    """Shows a `Drawing`; a click on one of its regions is a `Picked` message."""

    BINDINGS = bindings("page")
    DEFAULT_CSS = """
    DrawingView {
        scrollbar-size: 1 1;
        overflow: hidden auto;
    }
    """

    class Picked(Message):
        """A region was clicked; `again` if it was a double click."""

        def __init__(self, view: DrawingView, key: Any, again: bool, x: int, y: int) -> None:
            super().__init__()
            self.view = view
            self.key = key
            self.again = again
            self.x = x
            self.y = y

        @property
        def control(self) -> DrawingView:
            return self.view

    class Resized(Message):
        """The view is wider or narrower now: what it shows should be drawn for its width."""

    centred = False
    keeps_lines = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.drawing = NOTHING
        self._drawn_width = 0

    @property
    def indent(self) -> int:
        """The cells left of a drawing that stands in the middle."""
        return max(0, (self.scrollable_content_region.width - self.drawing.width) // 2) if self.centred else 0

    def show(self, drawing: Drawing, *, home: bool = False) -> None:
        """Show another drawing; `home` scrolls to its top left."""
        self.drawing = drawing
        self.extend(Size(drawing.width, drawing.height))
        if home:
            self.scroll_to(0, 0, animate=False)
        self.refresh_changed()

    def bring_into_view(self, key: Any, margin: int = 2) -> None:
        """Scroll so that the first region with that key can be seen, with some space around it."""
        hits = self.drawing.hits_of(key)
        if hits:
            hit = hits[0]
            region = Region(
                hit.start - margin, hit.row - margin, hit.end - hit.start + 2 * margin, 1 + 2 * margin
            )
            self.scroll_to_region(region, animate=False, force=True)

    def draw_for(self) -> tuple[Any, ...]:
        return self.scroll_offset.x, self.indent

    def line_key(self, y: int) -> tuple[Hashable, Any]:
        row = y + self.scroll_offset.y
        return row, self.drawing.lines[row] if row < self.drawing.height else None

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        x, top = self.scroll_offset
        row = top + y
        line = self.drawing.lines[row] if row < self.drawing.height else []
        if self.indent:
            line = [(" " * self.indent, EMPTY), *line]
        return strip_of(line, width, x, base_style(self))

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        if width != self._drawn_width:
            self._drawn_width = width
            self.post_message(self.Resized())

    def on_show(self) -> None:
        # What is not on the screen need not be drawn anew.
        self.post_message(self.Resized())

    def on_click(self, event: events.Click) -> None:
        x, y = event.x + self.scroll_offset.x - self.indent, event.y + self.scroll_offset.y
        key = self.drawing.at(x, y)
        if key is not None:
            event.stop()
            self.post_message(self.Picked(self, key, event.chain > 1, x, y))
