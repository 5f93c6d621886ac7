"""The bar over a step's history: where it stands, what is ahead again, what has fallen out, and what is remarkable where.

``━`` has executed, ``─`` was taken back and is ahead, ``┄`` is no longer kept.  Marks: ``●`` a breakpoint stopped, ``▲`` changed
by hand, ``✎`` a variable was written, ``✗`` an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from viz import format as fmt
from viz.cells import Line, Piece
from viz.palette import Palette

# kind: mark, palette colour, rank (the higher one is shown where two meet)
MARKS = {
    "write": ("✎", "warning", 0),
    "change": ("▲", "warning", 1),
    "hit": ("●", "bad", 2),
    "error": ("✗", "bad", 3),
}


class Mark(Protocol):
    """Something remarkable at an execution."""

    @property
    def row(self) -> int: ...
    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Scrub:
    """What the bar shows: `executed` of them have been, `future` are ahead again, those before `first` are no longer kept.

    `at` is where it is dragged to (the execution that would be next), -1: nowhere.
    """

    executed: int = 0
    future: int = 0
    first: int = 0
    marks: Sequence[Mark] = ()
    at: int = -1

    @property
    def total(self) -> int:
        return self.executed + self.future

    def row_at(self, x: float, width: int) -> int:
        """The execution that is next where cell `x` of a bar of `width` cells stands for it."""
        if width < 2:
            return self.executed
        share = min(1.0, max(0.0, x / (width - 1)))
        return max(self.first, min(self.total, round(share * self.total)))

    def cell_of(self, row: int, width: int) -> int:
        """The cell that stands for execution `row`."""
        return min(width - 1, max(0, round(row / self.total * (width - 1)))) if self.total else 0

    def next_mark(self, row: int, forward: bool, kinds: frozenset[str] = frozenset(MARKS)) -> int | None:
        """The nearest remarkable execution after (or before) `row` that can be gone to."""
        rows = [
            mark.row for mark in self.marks if mark.kind in kinds and self.first <= mark.row <= self.total
        ]
        found = [each for each in rows if (each > row if forward else each < row)]
        if not found:
            return None
        return min(found) if forward else max(found)


def draw_scrubber(scrub: Scrub, palette: Palette, width: int, focused: bool = False) -> Line:
    """The bar, with the number of the execution that is next on its right."""
    label = f" #{fmt.count(scrub.at if scrub.at >= 0 else scrub.executed)} "
    if scrub.future and width >= 50:
        label += f"of {fmt.count(scrub.total)} "
    room = bar_room(scrub, width)
    if not scrub.total:
        return [(" " + "┄" * room, palette.dim), (label, palette.quiet)]
    head = scrub.cell_of(scrub.at if scrub.at >= 0 else scrub.executed, room)
    first = scrub.cell_of(scrub.first, room) if scrub.first else 0
    here = scrub.cell_of(scrub.executed, room)
    done = palette.style(palette.accent if focused else palette.tint(palette.accent, 0.7))
    cells = [
        ("┄", palette.dim) if each < first else ("━", done) if each <= here else ("─", palette.dim)
        for each in range(room)
    ]
    ranks = [-1] * room
    for mark in scrub.marks:
        glyph, colour, rank = MARKS.get(mark.kind, ("?", "muted", 0))
        if scrub.first <= mark.row <= scrub.total:
            at = scrub.cell_of(mark.row, room)
            if rank > ranks[at]:
                ranks[at] = rank
                cells[at] = (glyph, palette.style(getattr(palette, colour), bold=rank > 1))
    knob = palette.style(palette.on(palette.accent), palette.accent, bold=True)
    cells[head] = (cells[head][0] if ranks[head] >= 0 else "┃", knob)
    return [(" ", palette.dim), *_runs(cells), (label, palette.strong if focused else palette.quiet)]


def _runs(cells: Sequence[Piece]) -> Iterator[Piece]:
    """Neighbours of one style as one piece."""
    for style, run in groupby(cells, key=itemgetter(1)):
        yield "".join(text for text, _ in run), style


def bar_room(scrub: Scrub, width: int) -> int:
    """The cells of the bar itself, which begins at cell 1."""
    label = 3 + len(fmt.count(max(scrub.total, 1)))
    if scrub.future and width >= 50:
        label += 4 + len(fmt.count(scrub.total))
    return max(4, width - label - 1)
