"""A timeline as a plotly figure: one row a lane, bars coloured by scope."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from viz import format as fmt
from viz.figures.loops import add_counters, add_loops
from viz.loop_tracks import LoopTrack
from viz.palette import DARK, LIGHT, Palette
from viz.scope_colours import ScopeColours
from viz.timeline_model import Timeline

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "displaylogo": False,
    "scrollZoom": True,
    "responsive": True,
}
_MOST_BARS = 20_000


def timeline_figure(
    timeline: Timeline,
    colours: ScopeColours,
    *,
    dark: bool = False,
    loops: Sequence[LoopTrack] = (),
    originals: Mapping[str, str] | None = None,
) -> Figure:
    """A figure of `timeline`: hover shows a bar's node, time, frame and iteration.

    loops: drawn above, each loop's frames and iterations, and below, how many iterations were under way against the limit.
    originals: for nodes of gradients, the forward node, which hover shows.

    One trace a colour, so that the legend switches scopes on and off.  A timeline of more bars than a page can hold shows
    the longest ones, and its title says so.
    """
    from plotly import graph_objects

    palette = DARK if dark else LIGHT
    length = timeline.end - timeline.start
    shown = np.arange(len(timeline))
    if len(shown) > _MOST_BARS:
        shown = np.sort(np.argsort(-length, kind="stable")[:_MOST_BARS])
    labels = _lane_labels(timeline)
    forward = originals or {}
    figure = graph_objects.Figure()
    for colour in np.unique(timeline.colour[shown]).tolist():
        chosen = shown[timeline.colour[shown] == colour]
        bars = [timeline.bar(index) for index in chosen.tolist()]
        figure.add_trace(
            graph_objects.Bar(
                name=colours.label(colour - 1),
                orientation="h",
                base=(timeline.start[chosen] - timeline.begin) / 1e6,
                x=length[chosen] / 1e6,
                y=[labels[bar.lane] for bar in bars],
                customdata=[
                    [
                        *(bar.node, fmt.duration(bar.duration), bar.step, bar.frame, bar.iteration),
                        f"<br>gradient of {forward[bar.node]}" if forward.get(bar.node) else "",
                    ]
                    for bar in bars
                ],
                hovertemplate=(
                    "<b>%{customdata[0]}</b><br>%{customdata[1]} at %{base:.4f} ms<br>"
                    "step %{customdata[2]}, frame %{customdata[3]}, iteration %{customdata[4]}%{customdata[5]}<extra></extra>"
                ),
                marker={"color": palette.hue(colour - 1), "line": {"width": 0}},
            )
        )
    _changes(figure, timeline, labels, palette)
    above = add_loops(figure, loops, timeline.begin, palette)
    _style(figure, timeline, palette, [*above, *labels], len(shown))
    if loops:
        add_counters(figure, loops, timeline.begin, palette)
    return figure


def _changes(figure: Figure, timeline: Timeline, labels: Sequence[str], palette: Palette) -> None:
    """Mark what was changed by hand, on the first lane."""
    from plotly import graph_objects

    changed = [each for step in timeline.steps for each in step.changed]
    if changed and labels:
        figure.add_trace(
            graph_objects.Scatter(
                name="changed by hand",
                mode="markers",
                x=[(at - timeline.begin) / 1e6 for at, _ in changed],
                y=[labels[0]] * len(changed),
                customdata=[[html.escape(text)] for _, text in changed],
                hovertemplate="<b>changed by hand</b><br>%{customdata[0]} at %{x:.4f} ms<extra></extra>",
                marker={"symbol": "diamond", "size": 11, "color": palette.warning},
            )
        )


def _lane_labels(timeline: Timeline) -> list[str]:
    found: list[str] = []
    for lane in timeline.lanes:
        label = lane.label or f"{found[-1].split(' (')[0]} ({lane.part + 1})"
        found.append(label)
    return found


def _style(figure: Figure, timeline: Timeline, palette: Palette, labels: list[str], shown: int) -> None:
    steps = timeline.steps
    title = steps[0].label if len(steps) == 1 else fmt.plural(len(steps), "step")
    title += f" · {fmt.duration(timeline.finish - timeline.begin)} · {fmt.plural(len(timeline), 'execution')}"
    if shown < len(timeline):
        title += f" (the longest {fmt.count(shown)} shown)"
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        barmode="overlay",
        bargap=0.25,
        height=160 + 48 * max(1, len(labels)),
        paper_bgcolor=palette.background,
        plot_bgcolor=palette.background,
        font={"color": palette.text, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": -0.25},
        margin={"l": 80, "r": 20, "t": 50, "b": 40},
        dragmode="pan",
    )
    figure.update_xaxes(title="ms", gridcolor=palette.panel, zeroline=False)
    figure.update_yaxes(
        categoryorder="array", categoryarray=labels[::-1], gridcolor=palette.panel, fixedrange=True
    )


def timeline_html(
    timeline: Timeline,
    colours: ScopeColours,
    *,
    dark: bool = False,
    loops: Sequence[LoopTrack] = (),
    originals: Mapping[str, str] | None = None,
) -> str:
    """The figure as a page that needs nothing from the network."""
    figure = timeline_figure(timeline, colours, dark=dark, loops=loops, originals=originals)
    return str(figure.to_html(include_plotlyjs=True, full_html=True, config=CONFIG))
