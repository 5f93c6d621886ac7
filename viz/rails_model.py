"""Rails: which of them run past an execution, which begin and end there, as a version history draws its branches.

Each device has a rail, and each frame one of its own from the execution that enters it to the one after which it is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Span(Protocol):
    """A frame's stretch of the history on rail `lane`, which leaves rail `parent`; `end` is -1 while it is open."""

    @property
    def frame(self) -> int: ...
    @property
    def lane(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def begin(self) -> int: ...
    @property
    def end(self) -> int: ...


class Execution(Protocol):
    """A line of the history: an execution, or `count` of them in one iteration of a loop that is folded.

    `peer` is the other device of a transfer, -1 for none.
    """

    @property
    def row(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def lane(self) -> int: ...
    @property
    def device(self) -> int: ...
    @property
    def peer(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def loop(self) -> str: ...
    @property
    def dead(self) -> bool: ...
    @property
    def tainted(self) -> str: ...
    @property
    def change(self) -> str: ...
    @property
    def effect(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def bad(self) -> bool: ...
    @property
    def writes(self) -> bool: ...
    @property
    def hit(self) -> bool: ...
    @property
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands on one rail beside a line: `glyph`, and what joins it to the next rail; `lane` and `joint` say whose colours.

    `mark` is true where the line's own mark goes.  `moves`: a tensor goes along there from device to device.
    """

    glyph: str
    join: str
    lane: int
    joint: int
    mark: bool = False
    moves: bool = False


def rails(
    begin: int,
    end: int,
    lane: int,
    spans: Iterable[Span],
    lanes: int,
    devices: int,
    transfer: tuple[int, int, bool] | None = None,
) -> Sequence[Cell]:
    """The cells beside the executions from `begin` to `end` (exclusive), whose mark is on rail `lane`.

    The rails of the `devices` go all the way.  `transfer`: from and to which device it takes a tensor,
    and whether it is the one who sends it.
    """
    glyphs = ["│" if each < devices else " " for each in range(lanes)]
    joins = [" "] * lanes
    joint = list(range(lanes))
    branches: list[tuple[int, int, str]] = []
    for span in spans:
        if not 0 <= span.lane < lanes:
            continue
        over = span.end if span.end >= 0 else end + 1
        if span.begin >= end or over < begin:
            continue
        starts, stops = begin <= span.begin, over < end
        if starts and stops:
            continue  # all of it is inside this line
        if starts:
            branches.append((min(span.parent, lanes - 1), span.lane, "╮"))
        elif stops:
            branches.append((min(span.parent, lanes - 1), span.lane, "╯"))
        else:
            glyphs[span.lane] = "│"
    for parent, child, corner in branches:
        low, high = min(parent, child), max(parent, child)
        for each in range(low, high):
            joins[each], joint[each] = "─", child
        for each in range(low + 1, high):
            if each != lane:
                glyphs[each] = "┼" if glyphs[each] == "│" else "─" if glyphs[each] == " " else glyphs[each]
        if parent != lane:
            glyphs[parent] = "├" if child > parent else "┤"
        if child != lane:
            glyphs[child] = corner if child > parent else {"╮": "╭", "╯": "╰"}[corner]
    cells = [
        Cell(
            glyphs[each],
            joins[each],
            each if glyphs[each] != "─" else joint[each - 1],
            joint[each],
            each == lane,
        )
        for each in range(lanes)
    ]
    if transfer is not None:
        _transfer(cells, lane, *transfer)
    return cells


def _transfer(cells: list[Cell], lane: int, source: int, destination: int, sends: bool) -> None:
    """Draw a line between the mark and the rail of the other device: an arrow into it, or a branch out of it."""
    other = destination if sends else source
    if not 0 <= other < len(cells) or other == lane:
        return
    low, high = min(lane, other), max(lane, other)
    for each in range(low, high + 1):
        cell = cells[each]
        glyph = cell.glyph
        if each == other and sends:
            glyph = "▸" if other > lane else "◂"
        elif each == other:
            glyph = "├" if other < lane else "┤"
        elif not cell.mark:
            glyph = "┼" if glyph in "│┼" else "─"
        joined = each < high
        cells[each] = Cell(
            glyph,
            "─" if joined else cell.join,
            cell.lane if glyph in "┼├┤" else source,
            source if joined else cell.joint,
            cell.mark,
            joined or glyph in "▸◂",
        )
