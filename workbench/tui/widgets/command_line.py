"""The line to type debugger commands into: completion, history, and what the command is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from viz import format as fmt
from viz.cells import Line
from viz.palette import Palette
from workbench.tui.actions import Performer, bindings
from workbench.tui.completing import Past, Place, explained, place_of, words
from workbench.tui.widgets.strips import base_style, strip_of

SHOWN = 5  # completions

Names = Callable[[str, Callable[[Sequence[str]], None]], None]


class CommandInput(Performer, Input):
    """The line itself; its keys are those of the table, and what they do is its parent's."""

    BINDINGS = bindings("command")

    @property
    def line(self) -> CommandLine:
        assert isinstance(self.parent, CommandLine)
        return self.parent


class Hints(Widget):
    """What could stand in the line, and what the command does."""

    DEFAULT_CSS = "Hints { height: 0; background: $panel; }"

    def __init__(self, palette: Callable[[], Palette]) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.palette_of = palette

    def show(self, lines: list[Line]) -> None:
        """Show these rows."""
        self.lines = lines
        self.styles.height = len(lines)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else []
        return strip_of(line, self.size.width, style=base_style(self))


class CommandLine(Vertical):
    """`names(prefix, found)` asks for names of the step that go on from a prefix; `found` is called with them when they come."""

    DEFAULT_CSS = """
    CommandLine {
        height: auto; display: none;
        & CommandInput { height: 1; border: none; padding: 0 1; background: $panel; &:focus { border: none; } }
    }
    """

    class Given(Message):
        """A line was given."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    def __init__(self, palette: Callable[[], Palette], names: Names, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.past = Past()
        self.input = CommandInput(
            placeholder="a debugger command: tab completes, ↑ ↓ go through those before, ^r searches them, h lists all",
            select_on_focus=False,
        )
        self.hints = Hints(palette)
        self._palette_of = palette
        self._names = names
        self._place = Place(0, "", None)
        self._found: list[str] = []
        self._at = -1  # the completion that stands in the line
        self._typed = ""  # what stood there before
        self._searching = False
        self._skip = 0
        self._completing = False

    def compose(self) -> ComposeResult:
        yield self.hints
        yield self.input

    # Coming and going.

    def open(self, text: str = "") -> None:
        """Take the keyboard, with `text` in the line."""
        self.display = True
        self._searching = False
        self.past.rewind()
        self._put(text)
        self.input.focus()
        self._look()

    def close(self) -> None:
        """Be gone."""
        self.display = False
        self._searching = False
        self.hints.show([])

    def escape(self) -> bool:
        """Leave the search; False if there is none to leave."""
        if not self._searching:
            return False
        self._searching = False
        self._put("")
        self._look()
        return True

    def _put(self, text: str) -> None:
        with self.input.prevent(Input.Changed):
            self.input.value = text
        self.input.cursor_position = len(text)

    # Typing.

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        message.stop()
        self._skip = 0
        self._look()

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        line = message.value.strip()
        if self._searching:
            found = self.past.search(line, self._skip)
            self._searching = False
            self._put(found or line)
            self._look()
            return
        self.past.add(line)
        self.post_message(self.Given(line))

    def _look(self) -> None:
        """Find what may stand there."""
        line = self.input.value
        self._at, self._typed = -1, line
        if self._searching:
            self._draw()
            return
        self._place = place = place_of(line)
        self._found = words(place) if line.strip() else []
        self._draw()
        if place.names and place.word:
            self._names(place.word, lambda found: self._came(line, found))

    def _came(self, line: str, found: Sequence[str]) -> None:
        if self._typed == line and not self._searching and self._at < 0:
            self._found += [name for name in found if name not in self._found]
            self._draw()

    # Keys.

    def complete(self, offset: int) -> None:
        """Put the next completion into the line."""
        if self._searching or not self._found:
            return
        self._at = (
            (self._at + offset) % len(self._found) if self._at >= 0 or offset > 0 else len(self._found) - 1
        )
        self._put(self._typed[: self._place.start] + self._found[self._at])
        if len(self._found) == 1 and self._place.command is None:
            self._put(self.input.value + " ")
            self._look()
            return
        self._draw()

    def recall(self, offset: int) -> None:
        """Put an earlier line there, or a later one."""
        if self._searching:
            return
        line = self.past.go(offset, self.input.value)
        if line is not None:
            self._put(line)
            self._look()

    def search(self) -> None:
        """Search the lines given before; again, for an earlier one."""
        if self._searching:
            if self.past.search(self.input.value, self._skip + 1) is not None:
                self._skip += 1
        else:
            self._searching, self._skip = True, 0
            self._put("")
        self._draw()

    # Drawing.

    def _draw(self) -> None:
        palette, width = self._palette_of(), max(20, self.size.width or 80)
        lines: list[Line] = []
        if self._searching:
            found = self.past.search(self.input.value, self._skip)
            shown = found if found is not None else "none of the commands given before has this in it"
            lines.append(
                [
                    (" search ", palette.style(palette.accent, bold=True)),
                    (fmt.shorten(shown, width - 10), palette.plain),
                ]
            )
        else:
            usage, says = explained(self.input.value)
            first = max(0, min(self._at - SHOWN // 2, len(self._found) - SHOWN))
            for index, name in list(enumerate(self._found))[first : first + SHOWN]:
                lines.append(self._candidate(name, index == self._at, palette, width))
            if len(self._found) > SHOWN:
                lines.append([(f"   … {len(self._found)} in all", palette.dim)])
            if usage:
                room = max(8, width - len(usage) - 5)
                lines.append(
                    [
                        (f" {fmt.shorten(usage, width - 2)}", palette.strong),
                        (f"  {fmt.shorten(says, room)}", palette.quiet),
                    ]
                )
        self.hints.show(lines)

    def _candidate(self, name: str, here: bool, palette: Palette, width: int) -> Line:
        style = palette.style(palette.text, palette.selection, bold=True) if here else palette.plain
        line: Line = [
            (" ▸ " if here else "   ", palette.style(palette.accent)),
            (fmt.shorten_name(name, width - 4), style),
        ]
        if self._place.command is None:
            usage, says = explained(name)
            rest = usage.partition(" ")[2]
            line.append((f" {rest}" if rest else "", palette.dim))
            line.append((f"  {says}", palette.quiet))
        return line
