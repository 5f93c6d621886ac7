"""A part of a screen: a quiet title over one widget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static


class Panel(Vertical):
    """`title` over `body`; the title lights up while the body has the focus."""

    DEFAULT_CSS = """
    Panel {
        height: 1fr;
        & > .title { height: 1; padding: 0 1; color: $secondary; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
        &:focus-within > .title { color: $accent; }
    }
    """

    def __init__(
        self, title: str, body: Widget, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._title = Static(Content(title), classes="title")
        self._text: tuple[Any, ...] = (title, "")
        self._stale = False
        self.body = body

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.body

    def set_title(self, title: str, note: str = "", legend: Sequence[tuple[str, str]] = ()) -> None:
        """Another title; behind it stand what is in a `legend` (texts and their colours) and, fainter, a `note`."""
        if (title, note, *legend) != self._text:
            self._text = (title, note, *legend)
            self._stale = True
            if self.display:  # to change what is not there would have the whole screen laid out again
                self._show_title()

    def on_show(self) -> None:
        self._show_title()

    def _show_title(self) -> None:
        title, note, *legend = self._text
        if self._stale:
            self._stale = False
            # Its size does not depend on what it says, so that the screen need not be laid out anew.
            self._title.update(
                Content.assemble(
                    title,
                    *((f"  {text}", f"{colour} not bold") for text, colour in legend),
                    ("  " + note, "$foreground 45% not bold") if note else "",
                ),
                layout=False,
            )
