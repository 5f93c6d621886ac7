"""The lines of a step's list: what has executed, what runs next and what else is ready, beside their rails.

Marks on the rails: ``•`` executed, ``▶`` runs next, ``○`` ready, ``▲`` changed by hand, ``△`` descends from that, ``✗`` gave a
NaN or infinity, ``⊞`` an iteration that is folded.  ``●`` at the edge: a breakpoint, brighter where it has stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from viz import format as fmt
from viz.cells import Line, Piece, line_width, spread
from viz.families import family
from viz.flow_model import short_path
from viz.palette import Palette
from viz.rails_model import Cell, Execution
from viz.step_model import Ready

_RAIL_HUES = (0, 3, 4, 1, 6, 2, 5, 7)
_LEAST_NAME = 12
MOST_LANES = 8  # that are drawn in a narrow list


def rail_style(palette: Palette, lane: int, devices: int = 1) -> str:
    """The colour of a rail: a device has the one that it has elsewhere, and a frame none that a device has."""
    if lane < devices:
        return palette.hue(lane)
    hues = [each for each in _RAIL_HUES if each >= devices] or _RAIL_HUES
    return palette.hue(hues[(lane - devices) % len(hues)])


def draw_rails(
    cells: Sequence[Cell], palette: Palette, mark: Piece, room: int, devices: int = 1, device: int = 0
) -> Line:
    """The rails of a line in at most `room` cells; `mark` stands on its own, or on that of its device if there is no room."""
    line: Line = []
    shown = cells[: max(1, room // 2)]
    here = next((at for at, cell in enumerate(shown) if cell.mark), min(device, len(shown) - 1))
    for at, cell in enumerate(shown):
        own, joint = (
            palette.style(palette.tint(rail_style(palette, lane, devices), 0.9 if cell.moves else 0.6))
            for lane in (cell.lane, cell.joint)
        )
        line += [mark if at == here else (cell.glyph, own), (cell.join, joint)]
    return line


def draw_executed(
    row: Execution,
    cells: Sequence[Cell],
    palette: Palette,
    width: int,
    *,
    digits: int = 4,
    breakpoint: bool = False,
    devices: int = 1,
) -> Line:
    """A line of what has executed; where there are several devices, its mark has the colour of its own."""
    colour = palette.style(rail_style(palette, row.device if devices > 1 else row.lane, devices))
    mark: Piece = ("•", colour)
    if row.change:
        mark = ("▲", palette.style(palette.warning, bold=True))
    elif row.bad:
        mark = ("✗", palette.style(palette.bad, bold=True))
    elif row.count > 1:
        mark = ("⊞", colour)
    elif row.tainted:
        mark = ("△", palette.style(palette.warning))
    elif row.dead:
        mark = ("·", palette.dim)
    line = [*_edge(palette, breakpoint, row.hit), *_gutter(f"{row.row:>{digits}} ", palette, width)]
    line += draw_rails(cells, palette, mark, _rail_room(width), devices, row.device)
    if row.count > 1:
        text = f"{short_path(row.path).rpartition(' › ')[2] or row.node}"
        line += [
            (f"{text}  ", palette.style(palette.hues[3])),
            (fmt.plural(row.count, "node"), palette.quiet),
        ]
        outer = short_path(row.path).rpartition(" › ")[0]
        return spread(line, [(outer + " ", palette.dim)] if outer else [], width)
    if row.change:
        line.append(
            (fmt.shorten(row.change, max(6, width - line_width(line) - 1)), palette.style(palette.warning))
        )
        return spread(line, [], width)
    value: list[Piece] = []
    if row.bad:
        value.append((f"{row.text} ", palette.style(palette.bad)))
    elif row.text and width >= 60:
        value.append((f"{row.text} ", palette.dim))
    if row.writes:
        value.insert(0, ("✎ ", palette.style(palette.warning)))
    if row.effect:
        value.insert(0, ("! ", palette.style(palette.warning)))
    return _named(line, row.node, row.type, short_path(row.path), row.dead, value, palette, width)


def draw_coming(
    row: Ready,
    cells: Sequence[Cell],
    palette: Palette,
    width: int,
    *,
    digits: int = 4,
    error: str = "",
    devices: int = 1,
    device: int = 0,
) -> Line:
    """A line of what is ready, on `device` of so many."""
    here = row.activation
    mark: Piece = ("○", palette.style(rail_style(palette, device, devices) if devices > 1 else palette.muted))
    if row.index == 0:
        mark = ("▶", palette.style(palette.bad if error else palette.accent, bold=True))
    line = [*_edge(palette, row.breakpoint, False), *_gutter(" " * (digits + 1), palette, width)]
    line += draw_rails(cells, palette, mark, _rail_room(width), devices, device)
    right: list[Piece] = (
        [("fails ", palette.style(palette.bad, bold=True))] if error and not row.index else []
    )
    if row.note:
        right.append((f"{row.note} ", palette.style(palette.good)))
    return _named(line, here.node, here.type, here.where, here.dead, right, palette, width, row.index == 0)


def draw_unknown(line_number: int, palette: Palette, width: int, digits: int = 4) -> Line:
    """In place of a line that has not come yet."""
    return spread(
        [(" ", palette.dim), *_gutter(f"{line_number:>{digits}} ", palette, width), ("┊ …", palette.dim)],
        [],
        width,
    )


def _edge(palette: Palette, breakpoint: bool, hit: bool) -> Line:
    if hit:
        return [("●", palette.style(palette.bad, bold=True))]
    return [("●", palette.style(palette.tint(palette.bad, 0.75))) if breakpoint else (" ", palette.dim)]


def _gutter(text: str, palette: Palette, width: int) -> Line:
    """Numbers of executions, where there is room for them."""
    return [(text, palette.dim)] if width >= 34 else []


def _rail_room(width: int) -> int:
    return 2 * MOST_LANES if width >= 60 else max(4, width // 4)


def _named(
    line: Line,
    node: str,
    kind_name: str,
    where: str,
    dead: bool,
    value: list[Piece],
    palette: Palette,
    width: int,
    strong: bool = False,
) -> Line:
    kind = family(kind_name)
    line.append((f"{kind.mark} ", palette.style(palette.faint if dead else palette.hue(kind.hue))))
    room = width - line_width(line) - 1
    where = fmt.shorten(where, max(0, min(len(where), room - _LEAST_NAME)))
    left = room - (len(where) + 2 if where else 0)
    size = line_width(value)
    if size and left - size < _LEAST_NAME:
        value, size = [], 0
    style = palette.style(palette.faint, strike=True) if dead else palette.strong if strong else palette.plain
    line.append((fmt.shorten_name(node, max(4, left - size - (5 if dead else 0) - 1)), style))
    if dead:
        line.append((" dead", palette.style(palette.tint(palette.bad, 0.7))))
    right = [*value, *([(where + " ", palette.style(palette.hues[3]))] if where else [])]
    return spread(line, right, width)
