"""The bar over a step's history, to be dragged with the mouse or moved with keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from viz.draw_scrubber import Scrub, bar_room, draw_scrubber
from viz.palette import Palette
from workbench.tui.actions import Performer, bindings
from workbench.tui.widgets.strips import base_style, strip_of


class Scrubber(Performer, Widget, can_focus=True):
    """Shows a `Scrub`.  While it is dragged, `Dragged` says where it is; `Dropped` says where it was let go."""

    BINDINGS = bindings("scrubber")
    DEFAULT_CSS = "Scrubber { height: 1; }"

    class Dragged(Message):
        """It is over execution `row`."""

        def __init__(self, row: int) -> None:
            super().__init__()
            self.row = row

    class Dropped(Dragged):
        """It was let go there, or a key went there."""

    def __init__(self, palette: Callable[[], Palette], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.scrub = Scrub()
        self._palette_of = palette
        self._dragging = False

    def show(self, scrub: Scrub) -> None:
        """Show another one; a drag goes on."""
        if self._dragging:
            scrub = Scrub(scrub.executed, scrub.future, scrub.first, scrub.marks, self.scrub.at)
        self.scrub = scrub
        self.refresh()

    def render_line(self, y: int) -> Strip:
        line = draw_scrubber(self.scrub, self._palette_of(), self.size.width, self.has_focus)
        return strip_of(line, self.size.width, style=base_style(self))

    def ran_on(self, executed: int, first: int) -> None:
        """The step runs, and is so far."""
        if not self._dragging:
            self.scrub = replace(self.scrub, executed=executed, future=0, first=first)
            self.refresh()

    # Moving.

    def nudge(self, part: float) -> None:
        """Go on or back by a part of the history, at least one execution."""
        here = self.scrub.at if self.scrub.at >= 0 else self.scrub.executed
        offset = round(self.scrub.total * part) or (1 if part > 0 else -1)
        self.go_to(here + offset)

    def go_to(self, row: int) -> None:
        """Go to an execution, as far as the history goes."""
        row = max(self.scrub.first, min(self.scrub.total, row))
        if row != self.scrub.executed or self.scrub.at >= 0:
            self._at(row)
            self.post_message(self.Dropped(row))

    def arrived(self) -> None:
        """The step stands where it was to go."""
        if not self._dragging and self.scrub.at >= 0:
            self._at(-1)

    def _at(self, row: int) -> None:
        old = self.scrub
        self.scrub = Scrub(old.executed, old.future, old.first, old.marks, row)
        self.refresh()

    def _row_of(self, event: events.MouseEvent) -> int:
        return self.scrub.row_at(event.x - 1, bar_room(self.scrub, self.size.width))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        event.stop()
        if not self.scrub.total:
            return
        self._dragging = True
        self.capture_mouse()
        self._drag(self._row_of(event))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragging:
            event.stop()
            self._drag(self._row_of(event))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._dragging:
            event.stop()
            self._dragging = False
            self.release_mouse()
            row = self._row_of(event)
            self._at(row)
            self.post_message(self.Dropped(row))

    def _drag(self, row: int) -> None:
        if row != self.scrub.at:
            self._at(row)
            self.post_message(self.Dragged(row))

    def watch_has_focus(self, focused: bool) -> None:
        super().watch_has_focus(focused)
        self.refresh()
