"""A part of a screen that shows one of several things, under a title that names them all."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Drawing, Hit, Line, line_width
from viz.palette import Palette
from workbench.tui.widgets.strips import base_style, strip_of


@dataclass(slots=True)
class Tab:
    """One of the things: its name, the key that shows it ('' for none), its widget, and a note behind the name."""

    name: str
    key: str
    body: Widget
    note: str = ""


class TabTitle(Widget):
    """The row with the names; a click chooses."""

    DEFAULT_CSS = "TabTitle { height: 1; }"

    class Chosen(Message):
        """A name was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, tabs: Tabs) -> None:
        super().__init__()
        self._tabs = tabs
        self._drawing = Drawing(())

    def render_line(self, y: int) -> Strip:
        from workbench.tui.app import WorkbenchApp

        assert isinstance(self.app, WorkbenchApp)
        self._drawing = self._tabs.draw_title(self.app.palette, self.size.width)
        return strip_of(list(self._drawing.lines[0]), self.size.width, style=base_style(self))

    def on_click(self, event: events.Click) -> None:
        name = self._drawing.at(event.x, event.y)
        if name is not None:
            event.stop()
            self.post_message(self.Chosen(name))


class Tabs(Vertical):
    """Shows the widget of the tab `current`; the title lights up while it has the focus."""

    DEFAULT_CSS = "Tabs { height: 1fr; }"

    def __init__(self, *tabs: Tab, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tabs = {tab.name: tab for tab in tabs}
        self.current = tabs[0].name
        self._title = TabTitle(self)

    def compose(self) -> ComposeResult:
        yield self._title
        for tab in self.tabs.values():
            tab.body.display = tab.name == self.current
            yield tab.body

    def on_descendant_focus(self) -> None:
        self._title.refresh()

    def on_descendant_blur(self) -> None:
        self._title.refresh()

    @property
    def shown(self) -> Widget:
        """The widget of the current tab."""
        return self.tabs[self.current].body

    def show_tab(self, name: str) -> None:
        """Show another tab."""
        self.current = name
        for tab in self.tabs.values():
            tab.body.display = tab.name == name
        self._title.refresh()

    def set_note(self, name: str, note: str) -> None:
        """What stands behind a tab's name, fainter."""
        if self.tabs[name].note != note:
            self.tabs[name].note = note
            self._title.refresh()

    def draw_title(self, palette: Palette, width: int = 0) -> Drawing:
        """The names, the current one lit and with its note, the others with their keys.

        Where `width` has no room for all, the last ones are their keys alone.
        """
        tabs = list(self.tabs.values())
        drawing = self._title_of(tabs, len(tabs), palette, 3)
        for whole in range(len(tabs), -1, -1):
            for noted in (True, False):
                if not width or drawing.width <= width + 2:  # blanks at the end may be cut
                    return drawing
                drawing = self._title_of(tabs, whole, palette, 2, noted)
        return drawing

    def _title_of(
        self, tabs: list[Tab], whole: int, palette: Palette, gap: int, noted: bool = True
    ) -> Drawing:
        """The title with the names of the first `whole` tabs, the note of the current one if it is to be `noted`."""
        line: Line = [(" ", palette.dim)]
        hits = []
        for index, tab in enumerate(tabs):
            start = line_width(line)
            if tab.name == self.current:
                colour = palette.accent if tab.body.has_focus else palette.muted
                line.append((tab.name, palette.style(colour, bold=True)))
            else:
                short = bool(tab.key) and index >= whole
                key = f"{tab.key}{'' if short else ' '}" if tab.key else ""
                line += [(key, palette.style(palette.accent)), ("" if short else tab.name, palette.dim)]
            if noted and tab.note and tab.name == self.current:
                line.append((f"  {tab.note}", palette.dim))
            hits.append(Hit(0, start, line_width(line), tab.name))
            line.append((" " if index >= whole else " " * gap, palette.dim))
        return Drawing([line], hits)
