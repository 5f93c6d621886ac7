"""What all screens have: the two bars, actions from the table, and the app with its right type."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from viz.palette import Palette
from workbench.tui.actions import Performer
from workbench.tui.widgets.bars import KeyBar, TopBar
from workbench.tui.widgets.drawing_view import DrawingView

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


TALL_FROM = 36  # rows


class BaseScreen(Performer, Screen[None]):
    """A screen; `sync` shows what the app holds now, and is called when that changes and when the screen comes up.

    `where` is its name in the table of actions.
    """

    where: ClassVar[str] = ""
    wide_from: ClassVar[int] = 110
    _drawing_again = False
    ESCAPE_TO_MINIMIZE = False

    def compose(self) -> ComposeResult:
        yield TopBar(self.where)
        yield from self.compose_body()
        yield KeyBar(self.where)

    def compose_body(self) -> ComposeResult:
        raise NotImplementedError

    def sync(self) -> None:
        """Show what the app holds now."""

    def recolour(self) -> None:
        """The palette has changed."""

    @property
    def workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    @property
    def palette(self) -> Palette:
        return self.workbench.palette

    def on_resize(self) -> None:
        self.set_class(self.app.size.width >= self.wide_from, "-wide")
        self.set_class(self.app.size.height >= TALL_FROM, "-tall")

    @on(DrawingView.Resized)
    def _resized(self, message: DrawingView.Resized) -> None:
        message.stop()
        # Several views change at once; they are drawn again once.
        if not self._drawing_again:
            self._drawing_again = True
            self.call_after_refresh(self._draw_again)

    def _draw_again(self) -> None:
        self._drawing_again = False
        self.laid_out()

    def laid_out(self) -> None:
        """Sizes have changed."""

    def on_screen_resume(self) -> None:
        self.refresh_bars()
        self.sync()

    def refresh_bars(self) -> None:
        """Draw the top and bottom rows again."""
        for bar in (*self.query(TopBar), *self.query(KeyBar)):
            bar.refresh()

    def focused_is(self, widget: Widget) -> bool:
        """Whether the keyboard belongs to `widget` or something in it."""
        return self.focused is not None and widget in (self.focused, *self.focused.ancestors)
