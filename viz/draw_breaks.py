"""Breakpoints and what they have logged, as a list.

Hits are ``("break", number)`` and ``("execution", row, "")``.
"""

from __future__ import annotations

from viz import format as fmt
from viz.cells import Drawing, Line, Page, spread, wrap
from viz.palette import Palette
from viz.step_model import Break, StepView

_NONE = (
    "No breakpoints. b sets one at the selected node; : b WHERE if CONDITION sets any other (: h b says how), "
    ": watch NAME stops when a variable changes."
)


def described(point: Break) -> str:
    """A breakpoint as it would be typed."""
    parts = [f"watch {point.node}" if point.kind == "watch" else point.node or "anywhere"]
    conditions = []
    if point.iteration is not None:
        conditions.append(f"iteration {point.comparison} {point.iteration}")
    if point.condition:
        conditions.append(point.condition)
    if conditions:
        parts.append("if " + " and ".join(conditions))
    if point.after:
        parts.append(f"after {point.after}")
    if point.once:
        parts.append("once")
    if point.log:
        parts.append(f"log {point.log}")
    return " ".join(parts)


def draw_breaks(view: StepView, palette: Palette, width: int) -> Drawing:
    """The breakpoints with their hits, then the latest lines that were logged, the last one first."""
    page = Page(width)
    for point in view.breakpoints:
        mark = ("●", palette.style(palette.bad)) if point.enabled else ("○", palette.dim)
        hits = f"{fmt.plural(point.hits, 'hit')} "
        left: Line = [(" ", palette.dim), mark, (f" {point.number}  ", palette.quiet)]
        room = max(8, width - 6 - len(str(point.number)) - len(hits))
        style = palette.plain if point.enabled else palette.dim
        left.append((fmt.shorten(described(point), room), style))
        page.add(
            *spread(left, [(hits, palette.quiet if point.hits else palette.dim)], width),
            key=("break", point.number),
        )
        for line in wrap(point.problem, max(8, width - 7))[:2]:
            page.add((f"      {line}", palette.style(palette.warning)), key=("break", point.number))
    if not view.breakpoints:
        page.words(_NONE, palette.dim)
    if view.logged:
        page.blank()
        page.add(
            (" logged", palette.title), (f"  {fmt.count(view.logged_count)}, the latest first", palette.dim)
        )
        for each in reversed(view.logged):
            row = f"#{each.row} " if each.row >= 0 else ""
            text = f" {each.place}  {each.text}"
            line_: Line = [(fmt.shorten(text, max(8, width - len(row) - 2)), palette.plain)]
            page.add(
                *spread(line_, [(row, palette.style(palette.hues[3]))], width),
                key=("execution", each.row, ""),
            )
    return page.drawing()
