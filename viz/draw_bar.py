"""What stands beside a timeline: the legend, the costliest nodes, and the facts of one bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.passes.stage import Stage
from viz import format as fmt
from viz.cells import Line, Page, line_width, spread
from viz.draw_timeline import LABEL_WIDTH
from viz.families import family
from viz.palette import Palette
from viz.scope_colours import ScopeColours
from viz.timeline_model import Hot, Timeline
from viz.timings import Timings


def draw_legend(
    shares: Sequence[tuple[int, float]], colours: ScopeColours, palette: Palette, width: int
) -> Line:
    """The scopes with their colours and shares (hue index, share of busy time), as many as fit."""
    line: Line = [(" " * LABEL_WIDTH, palette.dim)]
    used = LABEL_WIDTH
    for hue, share in shares:
        text = f"{colours.label(hue)} "
        note = f"{fmt.percent(share)}  "
        if used + 2 + len(text) + len(note) > width:
            break
        line += [("■ ", palette.style(palette.hue(hue))), (text, palette.quiet), (note, palette.dim)]
        used += 2 + len(text) + len(note)
    return line


def draw_hot_row(
    row: Hot, most: float, stage: Stage, colours: ScopeColours, palette: Palette, width: int
) -> Line:
    """A node's share of the window; `most` is the greatest share, whose meter is full."""
    node = stage.nodes.get(row.node)
    hue = palette.hue(colours.of(row.node))
    meter = 8 if width >= 56 else 0
    runs = f"×{fmt.count(row.runs)}" if row.runs > 1 else ""
    right: Line = [
        (fmt.pad(runs, 7 if meter else 5, "right"), palette.dim),
        (fmt.pad(fmt.duration(row.total_ns), 9, "right"), palette.plain),
        (fmt.pad(fmt.percent(row.share), 7, "right"), palette.quiet),
        (" " + fmt.meter(row.share / most, meter) if meter and most else "", palette.style(hue)),
        (" ", palette.dim),
    ]
    room = width - line_width(right) - 5
    mark = family(node.type).mark if node is not None else "∙"
    left: Line = [
        (f" {mark} ", palette.style(hue)),
        (fmt.shorten_name(row.node, max(6, room)), palette.plain),
    ]
    return spread(left, right, width)


def draw_bar_card(
    page: Page,
    timeline: Timeline,
    index: int,
    stage: Stage,
    colours: ScopeColours,
    timings: Timings,
    frame_names: Mapping[int, str],
    palette: Palette,
) -> None:
    """Add what there is to say of bar number `index` to `page`; the name is a hit with the node's name."""
    bar = timeline.bar(index)
    node = stage.nodes.get(bar.node)
    path, _, leaf = bar.node.rpartition("/")
    room = page.width - 4
    hue = palette.style(palette.hue(colours.of(bar.node)))
    page.add((" ■ ", hue), (fmt.shorten_name(leaf, room), palette.strong), key=bar.node)
    if path:
        page.add(("   " + fmt.shorten_name("in " + path, room), palette.dim), key=bar.node)
    start = next((span.start for span in timeline.steps if span.id == bar.step), timeline.begin)
    facts = [("type", node.type)] if node is not None else []
    facts.append(("took", fmt.duration(bar.duration)))
    facts.append(("began", f"{fmt.duration(bar.start - start)} into the step"))
    timing = timings.of(bar.node)
    if timing.runs > 1:
        facts.append(("in all", f"{fmt.duration(timing.total_ns)}, {fmt.plural(timing.runs, 'run')}"))
    if timing.total_ns and timings.total_ns:
        facts.append(("share", fmt.percent(timing.total_ns / timings.total_ns) + " of kernel time"))
    if bar.frame or bar.iteration:
        name = frame_names.get(bar.frame, f"frame {bar.frame}").removeprefix("root > ")
        facts.append(("loop", f"{name}, iteration {bar.iteration}"))
    if node is not None and node.original:
        facts.append(("gradient", f"of {node.original}"))
    if node is not None and node.output_dtypes:
        facts.append(("gives", fmt.tensor(node.output_dtypes[0], node.output_shapes[0])))
    lane = timeline.lanes[bar.lane]
    # What modelling a kernel takes here says nothing of the device that is modelled.
    facts.append(("on", fmt.device(lane.device) + (", modelled: not a GPU's time" if lane.modelled else "")))
    site = node.site.user if node is not None and node.site is not None else None
    if site is not None:
        facts.append(("made at", f"{site.file.rsplit('/', 1)[-1]}:{site.line}"))
    for label, text in facts:
        key = (
            node.original
            if node is not None and label == "gradient" and node.original in stage.nodes
            else None
        )
        style = palette.plain if key is None else palette.style(palette.accent)
        page.add((f" {label:<9} ", palette.quiet), (fmt.shorten(text, page.width - 11), style), key=key)
    if site is not None and site.source:
        page.add(("   " + fmt.shorten(site.source, room), palette.dim))
