"""Loops in a timeline's figure: frames and iterations as bars, and how many iterations are under way as a step curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from viz import format as fmt
from viz.draw_loops import loop_hue
from viz.loop_tracks import LoopSpan, LoopTrack
from viz.palette import Palette, mix

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST_LANES = 6  # of one loop; the curve shows the rest
_CURVES = 0.3  # the share of the figure's height that the curves take


def add_loops(figure: Figure, loops: Sequence[LoopTrack], begin: int, palette: Palette) -> list[str]:
    """Add each loop's frames and iterations as bars on rows of their own; gives the rows' labels, from the top."""
    rows: list[str] = []
    for number, track in enumerate(loops):
        hue = loop_hue(track, palette)
        indent = "  " * track.depth
        lanes = [(lane, f"{indent}{track.label}", 0.35) for lane in track.frames[:_MOST_LANES]]
        lanes += [(lane, f"{indent}{track.label} iterations", 0.6) for lane in track.iterations[:_MOST_LANES]]
        seen: dict[str, int] = {}
        for lane, name, share in lanes:
            seen[name] = seen.get(name, 0) + 1
            # Rows are told apart by their names.
            row = name if seen[name] == 1 else f"{name} ({seen[name]})"
            row = row if row not in rows else f"{row} #{number}"
            rows.append(row)
            _add_lane(figure, lane, row, begin, mix(hue, palette.background, 1 - share))
    return rows


def _add_lane(figure: Figure, lane: Sequence[LoopSpan], row: str, begin: int, colour: str) -> None:
    from plotly import graph_objects

    figure.add_trace(
        graph_objects.Bar(
            orientation="h",
            showlegend=False,
            base=[(span.start + span.wait - begin) / 1e6 for span in lane],
            x=[(span.end - span.start - span.wait) / 1e6 for span in lane],
            y=[row] * len(lane),
            text=[span.text for span in lane],
            textposition="inside",
            insidetextanchor="start",
            constraintext="inside",
            textangle=0,
            customdata=[_hover(span) for span in lane],
            hovertemplate="%{customdata}<extra></extra>",
            marker={"color": colour, "line": {"width": 0}},
        )
    )


def _hover(span: LoopSpan) -> str:
    frame, each = span.frame, span.iteration
    where = f"frame {frame.id}, entered from frame {frame.parent}, iteration {frame.parent_iteration}"
    name = frame.name if each is None else f"{frame.name}, iteration {each.number}"
    lines = [f"<b>{name}</b>", f"{fmt.duration(span.end - span.start - span.wait)}", where]
    if each is not None and each.deferred_row >= 0:
        lines.append(f"held back for {fmt.duration(each.waited_ns)}")
    if frame.gradient_of:
        lines.append(f"backward loop of {frame.gradient_of}")
    return "<br>".join(lines)


def add_counters(figure: Figure, loops: Sequence[LoopTrack], begin: int, palette: Palette) -> None:
    """Add a curve for each loop under the bars: iterations under way, and its `parallel_iterations` as a dashed line."""
    from plotly import graph_objects

    figure.update_layout(
        height=figure.layout.height + 180,
        yaxis={"domain": [_CURVES, 1.0]},
        yaxis2={"domain": [0.0, _CURVES - 0.06], "title": "under way", "rangemode": "tozero", "anchor": "x"},
    )
    for track in loops:
        hue = loop_hue(track, palette)
        limit = f" of {track.limit}" if track.limit else ""
        name = f"{track.label}: iterations under way, at most {track.most}{limit}"
        times = (track.times - begin) / 1e6
        figure.add_trace(
            graph_objects.Scatter(
                x=times,
                y=track.counts,
                yaxis="y2",
                name=name,
                line={"shape": "hv", "color": hue},
                fill="tozeroy",
            )
        )
        if track.limit and track.deferred and len(times):
            figure.add_trace(
                graph_objects.Scatter(
                    x=np.array([times[0], times[-1]]),
                    y=[track.limit, track.limit],
                    yaxis="y2",
                    name=f"{track.label}: limit {track.limit}",
                    mode="lines",
                    line={"dash": "dash", "color": palette.warning},
                )
            )
