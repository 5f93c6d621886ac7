"""A level of the graph as a terminal drawing: one-row chips joined by box-drawing lines that go down.

A chip is a mark that tells the kind (``▸`` a scope, ``≡`` a series, else the op's family) and a label, on a tint of its scope's
colour.  Inputs and outputs of the level are written without a chip.  The lines of the selected chip are lifted out: what it
reads in one colour, what reads it in another.  Control edges are dashed; a line that runs up has an arrow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.cells import cell_len
from rich.style import Style

from viz import format as fmt
from viz.canvas import Canvas, Cell, Trace, trace
from viz.cells import Drawing, Hit, Line, fit, line_width, spread
from viz.families import family
from viz.graph_model import Item, Kind, Level, ScopeTree
from viz.layout import Box, Layout, Link, Route, layout
from viz.palette import Palette
from viz.scope_colours import ScopeColours

LABEL_WIDTH = 26


@dataclass(frozen=True)
class PlacedLevel:
    """A level with its layout, to be drawn again and again with another selection."""

    level: Level
    layout: Layout
    badges: Mapping[str, Line] = field(default_factory=dict)

    @cached_property
    def lines(self) -> Trace:
        """The cells of all lines."""
        return trace(_painted(route) for route in self.layout.routes)


def _painted(route: Route) -> tuple[tuple[Cell, ...], bool]:
    return route.points, route.kind == "control"


def place_level(
    level: Level,
    tree: ScopeTree,
    *,
    room: int = 120,
    airy: bool = False,
    badges: Mapping[str, Line] | None = None,
) -> PlacedLevel:
    """Lay a level out for a drawing about `room` cells wide; `airy` leaves more rows between chips.

    `badges` are put at the ends of chips, by item key.
    """
    badges = badges or {}
    boxes = [
        Box(item.key, cell_len(_label(item, tree)) + 2 + line_width(badges.get(item.key, ())))
        for item in level.items
    ]
    links = [
        Link(edge.source, edge.target, "control" if edge.is_control else "data", max(1, edge.tensors))
        for edge in level.edges
    ]
    return PlacedLevel(level, layout(boxes, links, room=room, least_rows=2 if airy else 1), badges)


def _label(item: Item, tree: ScopeTree) -> str:
    mark = _mark(item, tree)
    text = fmt.shorten_name(item.label, LABEL_WIDTH)
    if item.kind in (Kind.SCOPE, Kind.SERIES):
        return f"{mark} {text} {fmt.count(item.size)}"
    if item.kind is Kind.OP and item.key in tree.notes:
        text = f"{text} {tree.notes[item.key]}"
    return f"{mark} {text}" if mark else text


def _mark(item: Item, tree: ScopeTree) -> str:
    if item.kind is Kind.SCOPE:
        return "▸"
    if item.kind is Kind.SERIES:
        return "≡"
    if item.kind is Kind.OP:
        return family(tree.stage.nodes[item.node].type).mark
    return ""


def draw_level(
    placed: PlacedLevel,
    tree: ScopeTree,
    colours: ScopeColours,
    palette: Palette,
    *,
    selected: str | None = None,
    marked: frozenset[str] = frozenset(),
    gone: Collection[str] = (),
) -> Drawing:
    """Draw a level; `selected` is the key of the chosen item, `marked` are keys to underline (search results, say).

    `gone` are ops that a later stage no longer has: they are struck through.

    The hits' keys are item keys.
    """
    plan = placed.layout
    into = palette.style(palette.incoming)
    out = palette.style(palette.outgoing)
    lifted = [
        (trace(_painted(route) for route in plan.routes if route.target == selected), into),
        (trace(_painted(route) for route in plan.routes if route.source == selected), out),
    ]
    canvas = Canvas(plan.width + 1, plan.height, placed.lines, palette.style(palette.faint), lifted)
    for route in plan.routes:
        if route.back:
            style = out if route.source == selected else into if route.target == selected else palette.quiet
            x, y = route.points[-1]
            canvas.mark(x, y + 1, "▴", style)
    hits = []
    for item in placed.level.items:
        place = plan.places[item.key]
        line = _chip(
            item,
            tree,
            colours,
            palette,
            place.width,
            item.key == selected,
            item.key in marked,
            item.key in gone,
        )
        badge = placed.badges.get(item.key)
        if badge is not None:
            background = line[-1][1].bgcolor
            kept = fit(line, place.width - line_width(badge) - 1)
            filling = [(" ", line[-1][1])]
            if item.key == selected:
                badge = [(text, line[-1][1]) for text, _ in badge]
            line = [*kept, *((text, style + Style(bgcolor=background)) for text, style in badge), *filling]
        if item.key in placed.level.loops:
            canvas.mark(place.x + place.width, place.y, "↺", palette.quiet)
        canvas.label(place.x, place.y, line)
        hits.append(Hit(place.y, place.x, place.x + place.width, item.key))
    return Drawing(canvas.lines(), hits, plan.width + 1)


def _chip(
    item: Item,
    tree: ScopeTree,
    colours: ScopeColours,
    palette: Palette,
    width: int,
    selected: bool,
    marked: bool,
    gone: bool,
) -> Line:
    hue = palette.hue(colours.of(item.target))
    mark = _mark(item, tree)
    text = fmt.shorten_name(item.label, LABEL_WIDTH)
    if item.kind in (Kind.INPUT, Kind.OUTPUT):
        style = (
            palette.style(palette.on(palette.accent), palette.accent, bold=True)
            if selected
            else palette.style(hue, italic=True)
        )
        return [(fmt.pad(f" {text}", width), style)]
    if item.kind is Kind.OP:
        kind = family(tree.stage.nodes[item.node].type)
        mark_colour = palette.hue(kind.hue)
        background, foreground = palette.panel, palette.faint if gone else palette.text
        if colours.tints_ops:
            background = palette.tint(hue, 0.34 if palette.dark else 0.26)
    else:
        mark_colour = hue
        background, foreground = palette.tint(hue, 0.24 if palette.dark else 0.18), palette.text
    if selected:
        background = palette.accent
        foreground = mark_colour = palette.on(background)
    bold = selected or item.kind is not Kind.OP
    body = palette.style(foreground, background, bold=bold, underline=marked, strike=gone)
    line: Line = [(f" {mark} ", palette.style(mark_colour, background)), (text, body)]
    used = 3 + cell_len(text)
    if item.kind is not Kind.OP:
        number = f" {fmt.count(item.size)}"
        colour = foreground if selected else palette.muted
        line.append((number, palette.style(colour, background)))
        used += cell_len(number)
    elif item.key in tree.notes:
        note = f" {tree.notes[item.key]}"
        line.append((note, palette.style(foreground if selected else palette.muted, background)))
        used += cell_len(note)
    line.append((" " * (width - used), palette.style(foreground, background)))
    return line


def draw_crumbs(level: Level, notes: Sequence[str], palette: Palette, width: int) -> Line:
    """The way to a level, and what was collapsed on it; at the right the first of `notes` for which there is room.

    A way that is too long loses its beginning.
    """
    labels = [fmt.shorten_name(label, 24) for _, label in level.crumbs]
    note = f"   {level.note}" if level.note else ""
    while len(labels) > 2 and sum(map(len, labels)) + 3 * len(labels) + len(note) > width:
        labels[:2] = ["…"]
    line: Line = [(" ", palette.dim)]
    for label in labels[:-1]:
        line += [(label, palette.quiet), (" / ", palette.dim)]
    line += [(labels[-1], palette.strong), (note, palette.style(palette.warning))]
    for right in notes:
        if line_width(line) + len(right) < width:
            return spread(line, [(right, palette.dim)], width)
    return fit(line, width)
