"""A list of any length with a cursor, drawn row by row when it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from viz.cells import Line, over
from workbench.tui.actions import Performer, bindings
from workbench.tui.widgets.strips import QuietStrips, strip_of

DrawRow = Callable[[int, int], Line]


class RowList(Performer, QuietStrips, ScrollView, can_focus=True):
    """Rows from a function `draw(index, width)`; arrows or the mouse move the cursor, enter or a second click choose."""

    BINDINGS = bindings("list")
    COMPONENT_CLASSES = {"row-list--cursor", "row-list--blurred"}
    DEFAULT_CSS = """
    RowList {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        & > .row-list--cursor { background: $block-cursor-background; }
        & > .row-list--blurred { background: $panel; }
    }
    """

    cursor: reactive[int] = reactive(0, repaint=True)

    class Highlighted(Message):
        """The cursor is on another row."""

        def __init__(self, rows: RowList, index: int) -> None:
            super().__init__()
            self.rows = rows
            self.index = index

        @property
        def control(self) -> RowList:
            return self.rows

    class Chosen(Message):
        """A row was chosen."""

        def __init__(self, rows: RowList, index: int) -> None:
            super().__init__()
            self.rows = rows
            self.index = index

        @property
        def control(self) -> RowList:
            return self.rows

    def __init__(self, draw: DrawRow, *, id: str | None = None, empty: str = "") -> None:
        super().__init__(id=id)
        self._draw = draw
        self._empty = empty
        self.count = 0

    def set_count(self, count: int, cursor: int | None = None) -> None:
        """There are `count` rows now; the cursor goes to `cursor`, or stays where it is as far as possible."""
        self.count = count
        self.extend(Size(self.size.width, count))
        wanted = self.cursor if cursor is None else cursor
        self.set_reactive(RowList.cursor, max(0, min(wanted, count - 1)))
        self.refresh()
        if cursor is not None:
            self.show_row(self.cursor)

    def set_empty(self, text: str) -> None:
        """What to say while there is no row."""
        self._empty = text
        self.refresh()

    def redraw(self) -> None:
        """The rows look different now."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        if index >= self.count:
            line: Line = []
            if not self.count and self._empty:
                lines = self._empty.splitlines()
                if y < len(lines):
                    line = [(" " + lines[y], Style.from_color(self.styles.color.rich_color))]
            return strip_of(line, width, style=self.rich_style)
        line = self._draw(index, width)
        if index == self.cursor:
            name = "row-list--cursor" if self.has_focus else "row-list--blurred"
            style = self.get_component_rich_style(name, partial=True)
            return strip_of(over(line, style), width, style=self.rich_style + style)
        return strip_of(line, width, style=self.rich_style)

    def watch_has_focus(self, focused: bool) -> None:
        super().watch_has_focus(focused)
        self.refresh()

    def on_resize(self) -> None:
        self.extend(Size(self.size.width, self.count))

    # Moving.

    def move(self, offset: int) -> None:
        """Move the cursor by `offset` rows."""
        self.move_to(max(0, min(self.cursor + offset, self.count - 1)))

    def move_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.move(pages * max(1, self.size.height - 1))

    def move_to(self, index: int) -> None:
        """Put the cursor on a row; -1 is the last."""
        if not self.count:
            return
        index = self.count - 1 if index < 0 else min(index, self.count - 1)
        moved = index != self.cursor
        self.cursor = index
        self.show_row(index)
        if moved:
            self.post_message(self.Highlighted(self, index))

    def show_row(self, index: int) -> None:
        """Scroll so that the row can be seen."""
        self.scroll_to_region(Region(0, index, 1, 1), animate=False, force=True)

    def choose(self) -> None:
        """Choose the row under the cursor."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        index = event.y + self.scroll_offset.y
        if 0 <= index < self.count:
            event.stop()
            again = index == self.cursor
            self.move_to(index)
            if again or event.chain > 1:
                self.choose()
