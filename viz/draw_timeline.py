"""A window of a timeline as a terminal drawing: a row of steps, an axis, and for each lane a band of bars.

A cell is filled to the share of it that was busy, in the colour of the scope that was busiest; a bar that is two cells or
longer is drawn for itself, with its node's name in it if that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.style import Style

from viz import format as fmt
from viz.cells import EMPTY, Drawing, Hit, Line, fit
from viz.draw_loops import draw_loop_rows
from viz.loop_tracks import LoopSpan, LoopTrack, TrackRow
from viz.palette import Palette, mix
from viz.timeline_model import Timeline, Window, ticks

LABEL_WIDTH = 13
CHANGED = "◆"  # where something was changed by hand
_LEVELS = " ▁▂▃▄▅▆▇█"
_LEFT = " ▏▎▍▌▋▊▉█"
_MOST_BARS = 4000


@dataclass(slots=True)
class _Cell:
    text: str = " "
    fg: str | None = None
    bg: str | None = None
    bold: bool = False


def cells_for(width: int) -> int:
    """How many cells of a drawing `width` cells wide show time; one at its end stays free."""
    return max(1, width - LABEL_WIDTH - 1)


def cell_time(window: Window, x: int, width: int) -> tuple[float, float]:
    """The stretch of time that column `x` of a drawing `width` cells wide shows (the labels' columns lie before it)."""
    size = window.length / cells_for(width)
    at = window.start + (x - LABEL_WIDTH) * size
    return at, at + size


def draw_timeline(
    timeline: Timeline,
    window: Window,
    palette: Palette,
    width: int,
    height: int,
    *,
    selected: int | None = None,
    lane: int = 0,
    related: frozenset[int] = frozenset(),
    step: int | None = None,
    loops: Sequence[LoopTrack] = (),
    loop_rows: Sequence[TrackRow] = (),
    loop: LoopSpan | None = None,
) -> Drawing:
    """Draw `window` in `width` by `height` cells.

    selected: the number of the chosen bar; lane: the chosen lane; related: other bars to lift out (of the same node);
    step: the id of the step to mark; loops: what `loop_rows` are rows of; loop: the chosen frame or iteration.
    Hits have the keys ``("lane", number)``, ``("step", id)``, ``("loop", row of loop_rows)`` and ``("axis", 0)``.
    """
    cells = cells_for(width)
    lines: list[Line] = []
    hits: list[Hit] = []
    lines.append(_overview(timeline, window, palette, cells))
    hits.append(Hit(0, LABEL_WIDTH, width, ("axis", 0)))
    lines.append(_axis(timeline, window, palette, cells))
    lines.append(_steps(timeline, window, palette, cells, hits, len(lines), step))
    made, marks = draw_loop_rows(loops, loop_rows, window, palette, LABEL_WIDTH, cells, loop)
    hits += [Hit(len(lines) + hit.row, hit.start, hit.end, ("loop", hit.row)) for hit in marks]
    lines += made
    count = len(timeline.lanes)
    room = height - len(lines)
    band = max(1, min(3, (room - max(0, count - 1)) // max(1, count))) if count else 1
    gap = 1 if band > 1 or room >= 2 * count else 0
    if count:
        bins = timeline.bins(window.start, window.end, cells)
        occupancy, colour = bins.occupancy(), bins.colour()
        for number in range(count):
            if gap:
                lines.append([])
            rows = _band(timeline, window, palette, number, occupancy[number], colour[number], band)
            _bars(timeline, window, palette, number, rows, selected, related)
            label = timeline.lanes[number].label
            for position, row in enumerate(rows):
                hits.append(Hit(len(lines), 0, width, ("lane", number)))
                name = label if position == (band - 1) // 2 else ""
                style = palette.style(palette.accent, bold=True) if number == lane else palette.quiet
                lines.append([(fmt.pad(" " + name, LABEL_WIDTH - 1) + " ", style), *_join(row, palette)])
    return Drawing([fit(line, width) for line in lines], hits, width)


def _join(row: list[_Cell], palette: Palette) -> Line:
    line: Line = []
    last: tuple[str | None, str | None, bool] | None = None
    for cell in row:
        kind = cell.fg, cell.bg, cell.bold
        if kind == last:
            line[-1] = (line[-1][0] + cell.text, line[-1][1])
        else:
            line.append((cell.text, palette.style(cell.fg, cell.bg, bold=cell.bold)))
            last = kind
    return line


def _overview(timeline: Timeline, window: Window, palette: Palette, cells: int) -> Line:
    """All of the timeline in one row, the window marked by its background."""
    line: Line = [(" " * LABEL_WIDTH, EMPTY)]
    if not timeline.lanes or window.is_whole:
        return line
    bins = timeline.bins(timeline.begin, timeline.finish, cells)
    busy = bins.occupancy().max(axis=0)
    whole = timeline.finish - timeline.begin
    low = int((window.start - timeline.begin) / whole * cells)
    high = max(low + 1, round((window.end - timeline.begin) / whole * cells))
    for x, share in enumerate(busy.tolist()):
        inside = low <= x < high
        style = palette.style(
            palette.accent if inside else palette.faint, palette.selection if inside else None
        )
        line.append((_level(share, 1, 0), style))
    return line


def _level(share: float, band: int, row: int) -> str:
    """The character of a cell in row `row` (from the bottom) of a band that is `band` rows high."""
    eighths = min(8 * band, round(share * 8 * band))
    if share > 0.01:
        eighths = max(1, eighths)
    return _LEVELS[min(8, max(0, eighths - 8 * row))]


def _axis(timeline: Timeline, window: Window, palette: Palette, cells: int) -> Line:
    marks, step = ticks(window.start - timeline.begin, window.end - timeline.begin, max(2, cells // 14))
    row = [" "] * cells
    size = window.length / cells
    for at in marks:
        x = int((at - (window.start - timeline.begin)) / size)
        label = "╷" + fmt.axis_time(at, step)
        if x + len(label) <= cells:
            row[x : x + len(label)] = list(label)
    return [
        (fmt.pad(" " + fmt.duration(window.length), LABEL_WIDTH - 1) + " ", palette.quiet),
        ("".join(row), palette.dim),
    ]


def _steps(
    timeline: Timeline,
    window: Window,
    palette: Palette,
    cells: int,
    hits: list[Hit],
    row: int,
    current: int | None,
) -> Line:
    size = window.length / cells
    found = [_Cell() for _ in range(cells)]
    for number, span in enumerate(timeline.steps):
        low = int((span.start - window.start) / size)
        high = int(np.ceil((span.end - window.start) / size))
        if high <= 0 or low >= cells:
            continue
        low, high = max(0, low), min(cells, max(high, low + 1))
        colour = palette.bad if span.failed else palette.panel
        if span.id == current and len(timeline.steps) > 1 and not span.failed:
            colour = mix(palette.accent, palette.background, 0.45)
        elif number % 2 and not span.failed:
            colour = mix(colour, palette.background, 0.4)
        text = fmt.pad(f" {span.label}" if high - low > len(span.label) + 1 else "", high - low)
        for x in range(low, high):
            ink = palette.on(colour) if span.failed else palette.muted
            found[x] = _Cell(text[x - low], ink, colour)
        for at, _ in span.changed:
            x = int((at - window.start) / size)
            if low <= x < high:
                found[x] = _Cell(CHANGED, palette.warning, colour, bold=True)
        hits.append(Hit(row, LABEL_WIDTH + low, LABEL_WIDTH + high, ("step", span.id)))
    label = "steps" if len(timeline.steps) != 1 else "step"
    return [(fmt.pad(" " + label, LABEL_WIDTH), palette.quiet), *_join(found, palette)]


def _band(
    timeline: Timeline,
    window: Window,
    palette: Palette,
    lane: int,
    occupancy: np.ndarray[tuple[int], np.dtype[np.float64]],
    colour: np.ndarray[tuple[int], np.dtype[np.intp]],
    band: int,
) -> list[list[_Cell]]:
    """The lane's cells, filled to how busy they were: `band` rows, the top one first."""
    rows = [[_Cell() for _ in occupancy] for _ in range(band)]
    for x, (share, index) in enumerate(zip(occupancy.tolist(), colour.tolist())):
        if share <= 0:
            continue
        hue = palette.hue(index - 1)
        for row in range(band):
            text = _level(share, band, row)
            if text == "█":
                rows[band - 1 - row][x] = _Cell(" ", None, hue)
            elif text != " ":
                rows[band - 1 - row][x] = _Cell(text, hue)
    return rows


def _bars(
    timeline: Timeline,
    window: Window,
    palette: Palette,
    lane: int,
    rows: list[list[_Cell]],
    selected: int | None,
    related: frozenset[int],
) -> None:
    """Draw bars of two cells and more over the band."""
    cells = len(rows[0])
    size = window.length / cells
    inside = timeline.within(lane, window.start, window.end)
    if len(inside) <= _MOST_BARS:
        there = slice(inside.start, inside.stop)
        long = np.flatnonzero(timeline.end[there] - timeline.start[there] >= 2 * size) + inside.start
    else:
        long = np.zeros(0, np.int64)
    for index in long.tolist():
        low = (int(timeline.start[index]) - window.start) / size
        high = (int(timeline.end[index]) - window.start) / size
        hue = palette.hue(int(timeline.colour[index]) - 1)
        shade = hue if index % 2 else mix(hue, palette.background, 0.18)
        if index == selected:
            shade = palette.text
        elif index in related:
            shade = mix(hue, palette.text, 0.45)
        _bar(rows, low, high, shade, timeline.names[timeline.node[index]], palette, index == selected)
    if selected is not None and int(timeline.lane[selected]) == lane and selected not in long:
        middle = (int(timeline.start[selected]) + int(timeline.end[selected])) / 2
        x = int((middle - window.start) / size)
        if 0 <= x < cells:
            for row in rows:
                row[x] = _Cell(" ", None, palette.text)


def _bar(
    rows: list[list[_Cell]], low: float, high: float, shade: str, name: str, palette: Palette, bold: bool
) -> None:
    cells = len(rows[0])
    first, last = int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9))
    for row in rows:
        for x in range(max(0, first), min(cells, last)):
            row[x] = _Cell(" ", None, shade)
        # The two ends, to an eighth (right) and to a half (left) of a cell.
        if 0 <= last < cells and last > low:
            row[last] = _Cell(_LEFT[int((high - last) * 8)], shade, row[last].bg)
        if 0 < first <= cells and first - low >= 0.5:
            before = row[first - 1]
            if before.text in _LEFT[1:] and before.fg is not None and before.bg is None:
                row[first - 1] = _Cell(before.text, before.fg, shade)
            else:
                row[first - 1] = _Cell("▐", shade, None)
    start, stop = max(0, first), min(cells, last)
    room = stop - start - 2
    if room >= 3:
        text = fmt.shorten_name(name, room)
        if len(text) > room or (text.count("…") and room < 6):
            text = fmt.shorten(name.rsplit("/", 1)[-1], room)
        middle = rows[(len(rows) - 1) // 2]
        ink: Style | str = palette.on(shade)
        for offset, character in enumerate(text):
            middle[start + 1 + offset] = _Cell(character, str(ink), shade, bold)
