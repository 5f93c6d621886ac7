"""A list of any length with a cursor, drawn row by row when it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Self

from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from viz.cells import Line, over
from workbench.tui.actions import Performer, bindings
from workbench.tui.widgets.strips import QuietStrips, base_style, strip_of

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

    cursor: reactive[int] = reactive(0, repaint=False)
    keeps_lines = True
    _looks = 0  # grows when all rows may look different

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
        self.show_changes()
        if cursor is not None:
            self.show_row(self.cursor)

    def set_empty(self, text: str) -> None:
        """What to say while there is no row."""
        if text != self._empty:
            self._empty = text
            if not self.count:
                self.redraw()

    def redraw(self) -> None:
        """The rows look different now."""
        self.refresh()

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        if not regions:
            self._looks += 1
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def show_changes(self) -> None:
        """Draw what may look different: all rows, unless it is known of each what it shows (`row_looks`)."""
        self.redraw()

    def row_looks(self, index: int) -> Any:
        """What the looks of a row depend on."""
        return self._looks

    def line_key(self, y: int) -> tuple[Hashable, Any]:
        index = y + self.scroll_offset.y
        if index >= self.count:
            return ("none", y), (self.count, self._empty, self._looks)
        return index, (self.row_looks(index), index == self.cursor and (self.has_focus, self._looks))

    def watch_cursor(self, old: int, new: int) -> None:
        width, height = self.size
        top = self.scroll_offset.y
        rows = {index - top for index in (old, new) if 0 <= index - top < height}
        if rows:
            self.refresh(*(Region(0, row, width, 1) for row in rows))

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        if index >= self.count:
            line: Line = []
            if not self.count and self._empty:
                lines = self._empty.splitlines()
                if y < len(lines):
                    line = [(" " + lines[y], Style.from_color(self.styles.color.rich_color))]
            return strip_of(line, width, style=base_style(self))
        line = self._draw(index, width)
        if index == self.cursor:
            name = "row-list--cursor" if self.has_focus else "row-list--blurred"
            style = self.get_component_rich_style(name, partial=True)
            return strip_of(over(line, style), width, style=base_style(self) + style)
        return strip_of(line, width, style=base_style(self))

    def watch_has_focus(self, focused: bool) -> None:
        super().watch_has_focus(focused)
        self.watch_cursor(self.cursor, self.cursor)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._looks += 1

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
