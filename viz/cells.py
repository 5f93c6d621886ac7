"""Drawings for a terminal: lines of styled text, and what lies where on them for the mouse.

A `Line` is a list of (text, style) pieces.  A `Drawing` is what every ``draw_…`` function returns: a Textual widget shows it, a
notebook or a command prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

Piece = tuple[str, Style]
Line = list[Piece]

EMPTY = Style.null()


@dataclass(frozen=True, slots=True)
class Hit:
    """Cells `start` to `end` (exclusive) of line `row` stand for `key`."""

    row: int
    start: int
    end: int
    key: Any


@dataclass(frozen=True)
class Drawing:
    """Lines of text and the regions on them that can be pointed at."""

    lines: Sequence[Line]
    hits: Sequence[Hit] = ()
    width: int = 0
    _by_row: dict[int, list[Hit]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.width:
            object.__setattr__(self, "width", max((line_width(line) for line in self.lines), default=0))
        for hit in self.hits:
            self._by_row.setdefault(hit.row, []).append(hit)

    @property
    def height(self) -> int:
        return len(self.lines)

    def at(self, x: int, y: int) -> Any:
        """The key of the region at column `x` of line `y`; of several, the last added; None where there is none."""
        found = None
        for hit in self._by_row.get(y, ()):
            if hit.start <= x < hit.end:
                found = hit.key
        return found

    def hits_of(self, key: Any) -> list[Hit]:
        """The regions that stand for `key`."""
        return [hit for hit in self.hits if hit.key == key]

    def rows(self) -> list[str]:
        """The lines as plain text, trailing spaces gone."""
        return ["".join(text for text, _ in line).rstrip() for line in self.lines]

    def text(self) -> Text:
        """The drawing for rich: to print, or to show in a notebook."""
        return Text("\n").join(Text.assemble(*line) for line in self.lines)


def line_width(line: Iterable[Piece]) -> int:
    """How many cells the line takes."""
    return sum(cell_len(text) for text, _ in line)


def fit(line: Iterable[Piece], width: int, fill: Style = EMPTY) -> Line:
    """`line` in exactly `width` cells: cut, or filled with spaces of style `fill`."""
    found: Line = []
    left = width
    for text, style in line:
        size = cell_len(text)
        if size >= left:
            if left:
                found.append((text if size == left else set_cell_size(text, left), style))
            return found
        found.append((text, style))
        left -= size
    if left:
        found.append((" " * left, fill))
    return found


def over(line: Iterable[Piece], style: Style) -> Line:
    """`line` with `style` laid over every piece (a cursor's background, say)."""
    return [(text, old + style) for text, old in line]


def spread(left: Line, right: Line, width: int, fill: Style = EMPTY) -> Line:
    """`left` and `right` at the two ends of `width` cells; the left one gives way, keeping a space between."""
    size = line_width(right)
    if size >= width:
        return fit(right, width, fill)
    return [*fit(left, width - size - 1, fill), (" ", fill), *right] if size else fit(left, width, fill)


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken between words; a longer word is broken where it must be."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while cell_len(word) > width:
            head = set_cell_size(word, width).rstrip()
            lines += [line, head] if line else [head]
            line, word = "", word[len(head) :]
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


class Page:
    """Builds a drawing line by line."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[Line] = []
        self.hits: list[Hit] = []

    def add(self, *pieces: Piece, key: Any = None) -> None:
        """Append a line of `pieces`, cut to the page's width; with `key`, the whole line stands for it."""
        line = fit(pieces, min(self.width, line_width(pieces)))
        if key is not None:
            self.hits.append(Hit(len(self.lines), 0, self.width, key))
        self.lines.append(line)

    def words(self, text: str, style: Style) -> None:
        """Append `text` in as many lines as it takes, a space from the edges."""
        for line in wrap(text, self.width - 2):
            self.add((f" {line}", style))

    def mark(self, start: int, end: int, key: Any) -> None:
        """Cells `start` to `end` of the line added last stand for `key`."""
        self.hits.append(Hit(len(self.lines) - 1, start, end, key))

    def blank(self) -> None:
        """An empty line, unless there is one already or nothing yet."""
        if self.lines and self.lines[-1]:
            self.lines.append([])

    def drawing(self) -> Drawing:
        return Drawing(self.lines, self.hits, self.width)
