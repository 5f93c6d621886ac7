"""The row at the top (screens and the open run) and the row at the bottom (keys)."""

from __future__ import annotations

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Drawing, Hit, Line, line_width, spread
from viz.palette import Palette
from workbench.tui.actions import Action, actions_of
from workbench.tui.widgets.strips import base_style, strip_of
from workbench.tui.words import headline

SCREENS = ("runs", "graph", "timeline", "step", "devices")


class Bar(Widget):
    """One row, drawn by `draw`, whose regions' keys are ids of actions of the screen or the app."""

    DEFAULT_CSS = """
    Bar { height: 1; width: 1fr; background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawing = Drawing(())

    def draw(self, palette: Palette, width: int) -> Drawing:
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        from workbench.tui.app import WorkbenchApp

        assert isinstance(self.app, WorkbenchApp)
        self.drawing = self.draw(self.app.palette, self.size.width)
        return strip_of(list(self.drawing.lines[0]), self.size.width, style=base_style(self))

    def on_click(self, event: events.Click) -> None:
        action_id = self.drawing.at(event.x, event.y)
        if action_id is not None:
            event.stop()
            perform(self, action_id)


def perform(widget: Widget, action_id: str) -> None:
    """Carry out an action of the screen or of the app."""
    from workbench.tui.actions import BY_ID

    action = BY_ID[action_id]
    action.handler(widget.app if action.where == "app" else widget.screen)


class TopBar(Bar):
    """The screens, the current one lit, and on the right what is open."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current

    def draw(self, palette: Palette, width: int) -> Drawing:
        from workbench.tui.app import WorkbenchApp

        assert isinstance(self.app, WorkbenchApp)
        line: Line = [
            (" ◆ ", palette.style(palette.accent)),
            ("workbench  " if width >= 70 else "", palette.strong),
        ]
        hits = []
        for action in actions_of("app"):
            if action.id not in SCREENS or not self.app.has_screen(action.id):
                continue
            start = line_width(line)
            here = action.id == self.current
            key = palette.style(palette.accent if here else palette.faint, palette.panel if here else None)
            name = palette.style(
                palette.text if here else palette.muted, palette.panel if here else None, bold=here
            )
            line += [(f" {action.shown_key} ", key), (f"{action.label} ", name)]
            hits.append(Hit(0, start, line_width(line), action.id))
        room = width - line_width(line) - 2
        return Drawing([spread(line, headline(self.app, palette, room), width)], hits, width)


class KeyBar(Bar):
    """The keys of the screen that matter most, as many as fit; help and the palette always."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def draw(self, palette: Palette, width: int) -> Drawing:
        from workbench.tui.app import WorkbenchApp

        assert isinstance(self.app, WorkbenchApp)
        shown = self.app.footer_actions(self.where)
        left = width - 1
        chosen: set[str] = set()
        for action in sorted(shown, key=lambda each: -each.footer):
            size = _size(action)
            if size > left:
                break
            left -= size
            chosen.add(action.id)
        line: Line = [(" ", palette.dim)]
        hits = []
        for action in shown:
            if action.id in chosen:
                start = line_width(line)
                line += [
                    (action.shown_key, palette.style(palette.accent)),
                    (f" {action.label}", palette.quiet),
                ]
                hits.append(Hit(0, start, line_width(line), action.id))
                line.append(("  ", palette.dim))
        return Drawing([line], hits, width)


def _size(action: Action) -> int:
    return len(action.shown_key) + 1 + len(action.label) + 2
