"""Loops on a timeline as terminal rows: frames, their iterations (held back: ``░``), and how many are under way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.style import Style

from tracing.frames import frame_label
from viz import format as fmt
from viz.cells import Hit, Line, Page, fit
from viz.loop_tracks import LoopSpan, LoopTrack, TrackRow
from viz.palette import Palette, mix
from viz.timeline_model import Window

_HUES = (3, 6, 4)  # of loops by how many are around them
_LEVELS = " ▁▂▃▄▅▆▇█"
_MOST_SPANS = 2_000  # drawn one by one in a row; of more, only those that are a cell or longer


def draw_loop_rows(
    tracks: Sequence[LoopTrack],
    rows: Sequence[TrackRow],
    window: Window,
    palette: Palette,
    label_width: int,
    cells: int,
    selected: LoopSpan | None = None,
) -> tuple[list[Line], list[Hit]]:
    """The rows, `label_width` cells of labels before `cells` of time; hits are the rows, as `TrackRow`."""
    lines: list[Line] = []
    hits: list[Hit] = []
    for row in rows:
        track = tracks[row.track]
        hue = loop_hue(track, palette)
        hits.append(Hit(len(lines), 0, label_width + cells, row))
        if row.kind == "counter":
            pieces = _counter(track, window, palette, hue, cells)
        else:
            spans = (track.frames if row.kind == "frames" else track.iterations)[row.lane]
            pieces = _spans(spans, window, palette, hue, cells, row.kind == "frames", selected)
        label, style = _label(track, row, palette, label_width - 1)
        lines.append([(fmt.pad(label, label_width - 1) + " ", style), *fit(pieces, cells)])
    return lines, hits


def loop_hue(track: LoopTrack, palette: Palette) -> str:
    """The colour of a loop."""
    return palette.hue(_HUES[min(track.depth, len(_HUES) - 1)])


def _label(track: LoopTrack, row: TrackRow, palette: Palette, width: int) -> tuple[str, Style]:
    indent = " " * (1 + track.depth)
    if row.kind == "frames":
        name = fmt.shorten_name(track.label, width - len(indent))
        return indent + (name if not row.lane else ""), palette.quiet
    if row.kind == "iterations":
        return indent + (" iter" if not row.lane else ""), palette.dim
    return (
        indent + f" {track.most} of {track.limit}" if track.limit else indent + f" most {track.most}",
        palette.dim,
    )


def _spans(
    spans: Sequence[LoopSpan],
    window: Window,
    palette: Palette,
    hue: str,
    cells: int,
    is_frame: bool,
    selected: LoopSpan | None,
) -> Line:
    size = window.length / cells
    text = [" "] * cells
    fg: list[str | None] = [None] * cells
    bg: list[str | None] = [None] * cells
    first = int(np.searchsorted([span.end for span in spans], window.start, side="right"))
    last = int(np.searchsorted([span.start for span in spans], window.end, side="left"))
    shown = spans[first:last]
    if len(shown) > _MOST_SPANS:
        shown = [span for span in shown if span.end - span.start >= size]
    for number, span in enumerate(shown, first):
        low = max(0, int((span.start - window.start) / size))
        begin = max(0, int((span.start + span.wait - window.start) / size))
        high = min(cells, max(int(np.ceil((span.end - window.start) / size)), low + 1))
        base = mix(hue, palette.background, 0.62 if is_frame else 0.45 + 0.15 * (number % 2))
        if not span.frame.live:
            base = mix(palette.faint, palette.background, 0.6)
        if span == selected:
            base = palette.text
        for x in range(low, high):
            if x < begin and span.wait:
                text[x], fg[x], bg[x] = "░", palette.warning, None
            else:
                text[x], fg[x], bg[x] = " ", None, base
        room = high - max(begin, low) - 1
        said = span.text if len(span.text) <= room else ""
        for offset, character in enumerate(said):
            x = max(begin, low) + offset + (1 if room > len(said) else 0)
            if x < cells:
                text[x], fg[x] = character, palette.on(base)
    return [(text[x], palette.style(fg[x], bg[x])) for x in range(cells)]


def _counter(track: LoopTrack, window: Window, palette: Palette, hue: str, cells: int) -> Line:
    """A bar a cell, as high as the mean of the counter; in the warning colour where the limit was reached."""
    mean, most = track.levels(window.start, window.end, cells)
    top = max(track.limit or track.most, 1)
    line: Line = []
    for level, peak in zip(mean.tolist(), most.tolist()):
        eighths = min(8, round(level / top * 8))
        if level > 0:
            eighths = max(1, eighths)
        full = bool(track.limit) and peak >= track.limit and track.deferred > 0
        line.append((_LEVELS[eighths], palette.style(palette.warning if full else hue)))
    return line


def draw_loop_card(page: Page, track: LoopTrack, span: LoopSpan, start: int, palette: Palette) -> None:
    """Add what there is to say of a frame or an iteration; `start` is when its step began."""
    frame, each = span.frame, span.iteration
    title = track.label if each is None else f"{track.label}, iteration {each.number}"
    page.add(
        (" ■ ", palette.style(loop_hue(track, palette))), (fmt.shorten(title, page.width - 4), palette.strong)
    )
    facts: list[tuple[str, str]] = []
    if each is not None:
        facts.append(("took", fmt.duration(each.end_ns - each.begin_ns)))
        facts.append(("began", f"{fmt.duration(each.begin_ns - start)} into the step"))
        facts.append(("rows", f"#{each.begin_row} – " + (f"#{each.end_row}" if each.end_row >= 0 else "")))
        if each.deferred_row >= 0:
            facts.append(("held back", f"{fmt.duration(each.waited_ns)}, from #{each.deferred_row}"))
    else:
        facts.append(("took", fmt.duration(frame.end_ns - frame.begin_ns)))
        facts.append(("began", f"{fmt.duration(frame.begin_ns - start)} into the step"))
    facts.append(("frame", f"{frame.id}" + ("" if frame.live else ", entered by dead tokens only")))
    if frame.parent:
        facts.append(("inside", f"frame {frame.parent}, iteration {frame.parent_iteration}"))
    facts.append(("begun", f"{fmt.plural(frame.begun, 'iteration')}, {frame.ended} ended"))
    limit = f" of {frame.limit}" if frame.limit else ""
    facts.append(
        ("under way", f"at most {frame.most_under_way}{limit}, {frame.mean_under_way:.2f} on average")
    )
    held = len(frame.deferred)
    facts.append(("held back", f"{held}, {fmt.duration(frame.waited_ns)} in all" if held else "none"))
    if frame.gradient_of:
        facts.append(("backward", f"of the loop {frame_label(frame.gradient_of)}"))
    entered = [token for token in frame.enters if token.row == frame.begin_row]
    for token in entered:
        facts.append(("by", f"{token.node} #{token.row}"))
    if frame.site is not None:
        facts.append(("made at", f"{frame.site.file.rsplit('/', 1)[-1]}:{frame.site.line}"))
    for label, text in facts:
        key = entered[0].node if label == "by" else None
        page.add(
            (f" {label:<9} ", palette.quiet), (fmt.shorten(text, page.width - 11), palette.plain), key=key
        )
    if frame.site is not None and frame.site.source:
        page.add(("   " + fmt.shorten(frame.site.source, page.width - 4), palette.dim))
