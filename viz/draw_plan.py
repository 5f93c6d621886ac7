"""The program of a plan as lines of text, the lives of its values beside it like the rails of a version history."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.style import Style

from engine.runtime.plan.explain import Partition, place_text, segments_text, why_text
from engine.runtime.plan.lines import PYTHON
from viz import format as fmt
from viz.cells import Drawing, Line, Page, fit, line_width, over, wrap
from viz.palette import Palette
from viz.plan_model import Bar, PlanModel, PlanRow
from viz.stage_model import generalized
from viz.timings import NodeTiming

MOST_TRACKS = 12  # rails beside a narrow program; the rest is counted
_LEVELS = " ▁▂▃▄▅▆▇"
_LIGHT, _HEAVY = ("╷", "│", "╵", "·"), ("╻", "┃", "╹", "▪")  # begins, goes on, ends, all in one line
_WORDS = re.compile(r"(%\d+|\bf\d+\b)")
_DEVICE = re.compile(r"/job:\S+/device:\w+:\d+")
_KEYWORDS = {
    "loop": 3, "frame": 3, "leave": 3, "next": 3, "left": 3, "if": 6, "else": 6, "return": 0, "fed": 0, "variable": 0, "read": 0,
}  # fmt: skip
_LISTED = 12  # reasons
_NAME_LINES = 3


@dataclass(frozen=True)
class Columns:
    """How the cells of a row are shared out: line numbers, rails, text, the node's name, what is made, nothing, the time."""

    number: int
    tracks: int
    hidden: int
    text: int
    node: int
    makes: int
    gap: int
    time: int


def columns(model: PlanModel, width: int, timed: bool) -> Columns:
    """The columns for `width` cells: what says less goes first where there is little room."""
    number = len(str(len(model.rows))) + 1
    tracks = min(model.tracks, MOST_TRACKS if width < 120 else 2 * MOST_TRACKS, max(0, width // 8))
    hidden = model.tracks - tracks
    left = number + 1 + tracks + (1 if hidden else 0) + (2 if tracks else 0)
    time = 9 if timed else 0
    room = width - left - time
    longest = max((2 * row.depth + len(row.text) for row in model.rows), default=0) + 1
    wanted = min(longest, max(24, room // 2))
    names = max((len(_who(row)) for row in model.rows), default=0) + 1
    makes = max((len(row.makes) for row in model.rows), default=0) + 1
    makes = makes if room - wanted - min(names, 18) >= makes else 0
    node = max(0, min(names, room - wanted - makes))
    node = node if node >= 10 or node == names else 0
    text = min(longest, room - node - makes)
    return Columns(number, tracks, hidden, text, node, makes, room - text - node - makes, time)


def draw_row(
    model: PlanModel,
    index: int,
    palette: Palette,
    into: Columns,
    *,
    time: NodeTiming | None = None,
    marked: Collection[int] = (),
) -> Line:
    """Row `index` (from 0); lines whose numbers are `marked` stand out.

    In the time's column a line that ran and took no time of its own has a dot, one that did not run nothing.
    """
    row = model.rows[index]
    here = row.number in marked
    peak = row.number == model.peak_line
    number_style = (
        palette.style(palette.accent, bold=True)
        if here
        else palette.style(palette.warning)
        if peak
        else palette.dim
    )
    line: Line = [(f"{row.number:>{into.number - 1}}", number_style), _mark(model, row, palette, here)]
    line += _rails(model, row, into, palette)
    line += fit([(" ", palette.dim), *_coloured(row, into.text - 1, palette, here)], into.text + 1)
    if into.node:
        line.append((fmt.pad(fmt.shorten_name(_who(row), into.node - 1), into.node), palette.quiet))
    if into.makes:
        line.append((fmt.pad(row.makes, into.makes), palette.dim))
    if into.time:
        line.append((" " * into.gap, palette.dim))
        text = "" if time is None or not time.runs else fmt.duration(time.total_ns) if time.total_ns else "·"
        line.append((fmt.pad(text, into.time, "right"), palette.plain))
    return over(line, Style(bold=True)) if here else line


def _mark(model: PlanModel, row: PlanRow, palette: Palette, here: bool) -> tuple[str, Style]:
    """Behind a line's number: that it was chosen, or that machine code runs it."""
    if here:
        return "▌", palette.style(palette.accent, bold=True)
    return ("▏", palette.style(palette.good)) if model.backend(row.number) != PYTHON else (" ", palette.dim)


def _who(row: PlanRow) -> str:
    more = len(row.nodes) - 1
    return (row.nodes[0] + (f" +{more}" if more else "")) if row.nodes else ""


def _coloured(row: PlanRow, width: int, palette: Palette, here: bool) -> Line:
    """The line's text: words of control in colours, values in the accent."""
    indent = "  " * min(row.depth, max(0, width // 4))
    text = fmt.shorten(row.text, max(0, width - len(indent)))
    line: Line = [(indent, palette.dim)]
    first, space, rest = text.partition(" ")
    if first in _KEYWORDS:
        line.append((first + space, palette.style(palette.hue(_KEYWORDS[first]), bold=here)))
        text = rest
    plain = palette.quiet if row.kind == "move" else palette.plain
    value = palette.style(palette.incoming)
    line += [(piece, value if i % 2 else plain) for i, piece in enumerate(_WORDS.split(text)) if piece]
    return line


def _rails(model: PlanModel, row: PlanRow, into: Columns, palette: Palette) -> Line:
    line: Line = []
    for track in range(into.tracks):
        bar = model.bar_at(track, row.number)
        if bar is None:
            line.append((" ", palette.dim))
        else:
            line.append((_rail(bar, row.number, model.peak_bytes), palette.style(palette.hue(track))))
    if into.hidden:
        more = any(model.bar_at(track, row.number) for track in range(into.tracks, model.tracks))
        line.append(("+" if more else " ", palette.dim))
    if into.tracks:
        level = _level(row.live_bytes, model.peak_bytes)
        colour = palette.warning if row.number == model.peak_line else palette.faint
        line += [(" ", palette.dim), (level, palette.style(colour))]
    return line


def _rail(bar: Bar, number: int, peak: int) -> str:
    heavy = bar.nbytes is not None and 8 * bar.nbytes >= peak > 0
    begins, on, ends, alone = _HEAVY if heavy else _LIGHT
    if bar.first == bar.last:
        return alone
    return begins if number == bar.first else ends if number == bar.last else on


def _level(live: int, peak: int) -> str:
    return _LEVELS[min(len(_LEVELS) - 1, -(-live * (len(_LEVELS) - 1) // peak))] if peak else " "


# The whole page.


def draw_plan(
    model: PlanModel, palette: Palette, width: int = 80, times: Sequence[NodeTiming] | None = None
) -> Drawing:
    """Who runs it, the program with its rails, the memory, what was fused and what was not; a line's key is its number."""
    page = Page(width)
    said = model.said
    told = ""
    for each in said.partitions:
        _partition(page, each, palette, again=_why(each) == told)
        told = _why(each)
    if said.note:
        _hanging(page, "  ", said.note, palette.quiet)
    if model.rows:
        page.blank()
        _hanging(page, "", counts_text(model), palette.quiet)
        into = columns(model, width, times is not None)
        for index in range(len(model.rows)):
            time = times[index] if times is not None else None
            page.add(*draw_row(model, index, palette, into, time=time), key=index + 1)
        if text := memory_text(model):
            _hanging(page, "peak  ", text, palette.quiet, palette.style(palette.warning))
    fused_ones = [(each.reason, f"{each.node} {place_text(each.where)}".strip()) for each in said.fused]
    alone = [(generalized(each.reason, said.stage.nodes), each.node) for each in said.apart]
    _reasons(page, "in Python all the same", [(each.reason, each.node) for each in said.kept], palette)
    _reasons(page, "fused", fused_ones, palette)
    _reasons(page, "elementwise, and by itself", alone, palette)
    return page.drawing()


def counts_text(model: PlanModel) -> str:
    """``26 lines: 19 instructions, 2 branches, 1 loop``, and which backend runs which, where there are several."""
    said = model.said
    stretches = segments_text(said.listing.segments) if said.listing is not None else ""
    return (
        f"{fmt.plural(len(model.rows), 'line')}: {fmt.plural(said.instructions, 'instruction')}, "
        f"{fmt.plural(said.branches, 'branch', 'branches')}, {fmt.plural(said.loops, 'loop')}"
        + (f"; {stretches}" if stretches else "")
    )


def memory_text(model: PlanModel) -> str:
    """The peak in words; '' where nothing takes memory."""
    open_ones = (
        f"{fmt.plural(model.unsized, 'value')} of a size that shapes leave open" if model.unsized else ""
    )
    if not model.peak_bytes:
        return f"not known: {open_ones}" if open_ones else ""
    text = f"{fmt.nbytes(model.peak_bytes)} at line {model.peak_line}, by shapes"
    return f"{text}; {open_ones}" if open_ones else text


def _partition(page: Page, partition: Partition, palette: Palette, again: bool) -> None:
    """What runs on a device, and why, unless that is the same `again`."""
    colour = palette.good if not partition.reason else palette.warning
    page.add(
        (fmt.device(partition.device) if partition.device else "host", palette.strong),
        (f"  {fmt.plural(partition.nodes, 'node')}  ", palette.dim),
        (partition.executor, palette.style(colour)),
    )
    if partition.reason and again:
        page.add(("  because  ", palette.dim), ("of the same", palette.plain))
        return
    if partition.reason:
        _hanging(page, "  because  ", _why(partition), palette.plain, palette.dim)
    if partition.where is not None:
        source = partition.where.source
        page.add(
            (f"  {place_text(partition.where)}  ", palette.dim),
            (f"│ {source}" if source else "", palette.dim),
        )


def _why(partition: Partition) -> str:
    """Why the interpreter runs a partition, with devices called by their short names."""
    return _DEVICE.sub(lambda found: fmt.device(found[0]), why_text(partition))


def why_lines(model: PlanModel, width: int) -> list[str]:
    """Why there is no program, in lines of at most `width` cells; [] where there is one."""
    found: list[str] = []
    for each in model.said.partitions:
        if each.reason and not found:
            found += wrap("The interpreter runs this:", width) + wrap(_why(each), width)
            if each.where is not None:
                found += wrap(place_text(each.where), width)
    return found


def _reasons(page: Page, title: str, found: Sequence[tuple[str, str]], palette: Palette) -> None:
    """Nodes under the reasons that they have in common, the most common first."""
    groups: dict[str, list[str]] = {}
    for reason, name in found:
        groups.setdefault(reason, []).append(name)
    if not groups:
        return
    page.blank()
    page.add((title, palette.title))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    for reason, names in ordered[:_LISTED]:
        _hanging(page, f"  {len(names):>3,}  ", reason, palette.plain)
        lines = wrap(", ".join(names), max(20, page.width - 7))
        for line in lines[:_NAME_LINES]:
            page.add(("       " + line, palette.dim))
        if len(lines) > _NAME_LINES:
            page.add(("       …", palette.dim))
    if len(ordered) > _LISTED:
        page.add((f"  … and {fmt.plural(len(ordered) - _LISTED, 'more reason')}", palette.dim))


def _hanging(page: Page, lead: str, text: str, style: Style, lead_style: Style | None = None) -> None:
    """`text` behind `lead`, its further lines under its first."""
    start = line_width([(lead, style)])
    for i, line in enumerate(wrap(text, max(20, page.width - start))):
        page.add((lead if i == 0 else " " * start, lead_style or style), (line, style))
