"""Small dialogs of the Step screen: one to override a value, one to choose from a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from viz import format as fmt
from viz.cells import Line, spread
from viz.palette import Palette
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.row_list import RowList

Check = Callable[[str, Callable[[bool, str], None]], None]

_CSS = """
    {name} {{
        align: center middle;
        background: $background 60%;
        & #dialog {{
            width: 76; max-width: 94%; height: auto; max-height: 80%;
            background: $surface; border: round $panel; padding: 0 1;
        }}
        & .title {{ height: 1; text-style: bold; }}
        & .label {{ height: 1; color: $secondary; margin-top: 1; }}
        & Input {{ height: 1; border: none; padding: 0 1; background: $panel; &:focus {{ border: none; }} }}
        & RowList {{ height: auto; max-height: 16; margin-top: 1; }}
        & #verdict {{ margin-top: 1; }}
    }}
"""


class Override(ModalScreen[tuple[str, str] | None]):
    """Asks for a tensor (or ``var NAME``, ``next``) and a value, and has them checked before anything is sent.

    `check(text, told)` says whether ``set text`` would be taken, and what it comes to; `told` is called when that is known.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]
    DEFAULT_CSS = _CSS.format(name="Override")

    def __init__(self, target: str, check: Check, palette: Palette) -> None:
        super().__init__()
        self._check = check
        self._palette_now = palette
        self._target = Input(
            target, placeholder="NODE:OUTPUT, next, or var NAME", id="target", select_on_focus=False
        )
        self._value = Input(placeholder="1.5, [1, 2], zeros((2, 3)), old * 0.5 …", id="value")
        self.verdict: tuple[bool | None, str] = (None, "")
        self._asked = ""
        self._line = LineWidget(self._draw, id="verdict")

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="surface"):
            yield Static("Override a value", classes="title", markup=False)
            yield Static("set", classes="label")
            yield self._target
            yield Static("to", classes="label")
            yield self._value
            yield self._line

    def on_mount(self) -> None:
        (self._value if self._target.value else self._target).focus()

    def _draw(self, width: int) -> Line:
        palette = self._palette_now
        ok, text = self.verdict
        if ok is None:
            return [("⏎ sets it, esc leaves; it is an entry of the history: u takes it back", palette.dim)]
        mark = ("✓ ", palette.style(palette.good)) if ok else ("✗ ", palette.style(palette.bad))
        return [mark, (fmt.shorten(text, width - 3), palette.plain)]

    @property
    def text(self) -> str:
        """What is to be set, as ``set`` takes it."""
        return f"{self._target.value.strip()} = {self._value.value.strip()}"

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        message.stop()
        self._ask()

    def _ask(self, then: Callable[[], None] | None = None) -> None:
        asked = self._asked = self.text
        if not (self._target.value.strip() and self._value.value.strip()):
            self.verdict = (None, "")
            self._line.refresh()
            return

        def told(ok: bool, text: str) -> None:
            if asked == self._asked and self.is_attached:
                self.verdict = (ok, text)
                self._line.refresh()
                if ok and then is not None:
                    then()

        self._check(asked, told)

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        if not self._value.value.strip():
            self._value.focus()
            return
        result = self._target.value.strip(), self._value.value.strip()

        def leave() -> None:
            self.dismiss(result)

        self._ask(leave)

    def action_leave(self) -> None:
        self.dismiss(None)


@dataclass(frozen=True, slots=True)
class Choice:
    """A row of a `Chooser`: what it says, what is said of it, and what choosing it gives."""

    label: str
    note: str
    result: str


class Chooser(ModalScreen[str | None]):
    """A list to choose from; gives the result of the choice, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", show=False)]
    DEFAULT_CSS = _CSS.format(name="Chooser")

    def __init__(self, title: str, choices: Sequence[Choice], palette: Palette) -> None:
        super().__init__()
        self._title_text = title
        self._choices = choices
        self._palette_now = palette
        self.rows = RowList(self._draw)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="surface"):
            yield Static(self._title_text, classes="title", markup=False)
            yield self.rows

    def on_mount(self) -> None:
        self.rows.styles.height = len(self._choices)
        self.rows.set_count(len(self._choices))
        self.rows.focus()

    def _draw(self, index: int, width: int) -> Line:
        palette, choice = self._palette_now, self._choices[index]
        left: Line = [(f" {choice.label}", palette.plain)]
        room = width - len(choice.label) - 4
        return spread(left, [(fmt.shorten(choice.note, max(0, room)) + " ", palette.dim)], width)

    @on(RowList.Chosen)
    def _chosen(self, message: RowList.Chosen) -> None:
        message.stop()
        self.dismiss(self._choices[message.index].result)

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        message.stop()

    def action_leave(self) -> None:
        self.dismiss(None)
