"""Lines and labels on a grid of cells.

`trace` paints lines into a mapping from cells to bits: in which directions lines leave the cell, whether one turns there, and
whether any is solid.  It relies on what `viz.routing` makes sure of: lines that lie upon each other belong together.  So where a
line turns, all that meet in the cell join (``├``); elsewhere they cross, the one that goes up and down in front (``│``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from rich.cells import cell_len
from rich.style import Style

from viz.cells import EMPTY, Line

NORTH, EAST, SOUTH, WEST = 1, 2, 4, 8
TURN, SOLID_UPRIGHT, SOLID_LEVEL = 16, 32, 64
_UPRIGHT, _LEVEL = NORTH | SOUTH, EAST | WEST

_SOLID = " ╵╶╰╷│╭├╴╯─┴╮┤┬┼"
_DASHED = " ╵╶╰╷┊╭├╴╯╌┴╮┤┬┼"

Cell = tuple[int, int]
Trace = dict[Cell, int]


def trace(lines: Iterable[tuple[Sequence[Cell], bool]]) -> Trace:
    """Paint lines, each given by its corners (one straight above, below or beside the next) and whether it is dashed."""
    found: Trace = {}
    get = found.get
    for points, dashed in lines:
        upright = _UPRIGHT if dashed else _UPRIGHT | SOLID_UPRIGHT
        level = _LEVEL if dashed else _LEVEL | SOLID_LEVEL
        for (x, y), (after_x, after_y) in pairwise(points):
            if x == after_x:
                low, high = (y, after_y) if y < after_y else (after_y, y)
                ends = ((x, low), upright & ~NORTH), ((x, high), upright & ~SOUTH)
                for row in range(low + 1, high):
                    cell = x, row
                    found[cell] = get(cell, 0) | upright
            else:
                low, high = (x, after_x) if x < after_x else (after_x, x)
                ends = ((low, y), level & ~WEST), ((high, y), level & ~EAST)
                for column in range(low + 1, high):
                    cell = column, y
                    found[cell] = get(cell, 0) | level
            for cell, bits in ends:
                found[cell] = get(cell, 0) | bits
        for corner in points[1:-1]:
            found[corner] |= TURN
    return found


class Canvas:
    """`width` by `height` cells with the lines of `base` in style `plain`; those in `lifted` have another, the last first."""

    def __init__(
        self,
        width: int,
        height: int,
        base: Mapping[Cell, int],
        plain: Style = EMPTY,
        lifted: Sequence[tuple[Mapping[Cell, int], Style]] = (),
    ) -> None:
        self.width = width
        self.height = height
        self._base = base
        self._plain = plain
        self._lifted = lifted[::-1]
        self._marks: dict[Cell, tuple[str, Style]] = {}
        self._labels: dict[int, list[tuple[int, int, Line]]] = {}

    def mark(self, x: int, y: int, character: str, style: Style) -> None:
        """Put one character over whatever line goes through the cell."""
        self._marks[x, y] = character, style

    def label(self, x: int, y: int, pieces: Line) -> None:
        """Put text on row `y` from column `x`, over the lines; labels must not overlap."""
        width = sum(cell_len(text) for text, _ in pieces)
        self._labels.setdefault(y, []).append((x, width, pieces))

    def cell(self, x: int, y: int) -> tuple[str, Style]:
        """The character and style of a cell that no label covers."""
        cell = x, y
        if cell in self._marks:
            return self._marks[cell]
        bits = self._base.get(cell, 0)
        if not bits:
            return " ", EMPTY
        over, style = 0, self._plain
        for lifted, its_style in self._lifted:
            over = lifted.get(cell, 0)
            if over:
                style = its_style
                break
        arms = bits & 15
        solid = bits & (SOLID_UPRIGHT | SOLID_LEVEL)
        if not bits & TURN and arms & _UPRIGHT and arms & _LEVEL:
            # A crossing: the lifted line is in front, else the upright one.
            level = bool(over & _LEVEL) and not over & _UPRIGHT
            arms = _LEVEL if level else _UPRIGHT
            solid = bits & (SOLID_LEVEL if level else SOLID_UPRIGHT)
        return (_SOLID if solid else _DASHED)[arms], style

    def lines(self) -> list[Line]:
        """The canvas as lines of styled text; cells after the last drawn one of a row are left out."""
        by_row: dict[int, set[int]] = {}
        for x, y in (*self._base, *self._marks):
            by_row.setdefault(y, set()).add(x)
        found = []
        for y in range(self.height):
            columns = sorted(by_row.get(y, ()))
            labels = sorted(self._labels.get(y, ()), key=lambda label: label[0])
            found.append(self._row(y, columns, labels))
        return found

    def _row(self, y: int, columns: list[int], labels: list[tuple[int, int, Line]]) -> Line:
        row = _Row()
        waiting = iter(labels)
        label = next(waiting, None)
        covered = -1
        for x in columns:
            while label is not None and label[0] <= x:
                row.put_all(label[0], label[2])
                covered = label[0] + label[1]
                label = next(waiting, None)
            if x >= covered:
                row.put(x, *self.cell(x, y), 1)
        while label is not None:
            row.put_all(label[0], label[2])
            label = next(waiting, None)
        return row.line


class _Row:
    """A line being built from left to right; neighbours of one style are one piece."""

    def __init__(self) -> None:
        self.line: Line = []
        self._at = 0

    def put(self, x: int, text: str, style: Style, width: int) -> None:
        if x > self._at:
            self._add(" " * (x - self._at), EMPTY)
        self._add(text, style)
        self._at = x + width

    def put_all(self, x: int, pieces: Line) -> None:
        for text, style in pieces:
            width = cell_len(text)
            self.put(x, text, style, width)
            x += width

    def _add(self, text: str, style: Style) -> None:
        if self.line and self.line[-1][1] is style:
            self.line[-1] = (self.line[-1][0] + text, style)
        else:
            self.line.append((text, style))
