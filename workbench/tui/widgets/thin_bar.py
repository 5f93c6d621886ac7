"""Scrollbars as a thin line instead of a block."""

from __future__ import annotations

from math import ceil

from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style
from textual.scrollbar import ScrollBarRender


class ThinScrollBar(ScrollBarRender):
    """Draws the thumb half a cell wide, or a quarter of a cell high, and nothing else; drags and clicks work as ever."""

    @classmethod
    def render_bar(
        cls,
        size: int = 25,
        virtual_size: float = 50,
        window_size: float = 20,
        position: float = 0,
        thickness: int = 1,
        vertical: bool = True,
        back_color: Color = Color.parse("#555555"),
        bar_color: Color = Color.parse("bright_magenta"),
    ) -> Segments:
        glyph, blank = (
            ("▐" if vertical else "▂") * (thickness if vertical else 1),
            " " * (thickness if vertical else 1),
        )
        segments = [Segment(blank, Style(bgcolor=back_color))] * int(size)
        if window_size and size and virtual_size and size != virtual_size:
            thumb = max(1.0, window_size * size / virtual_size)
            reach = max(1e-9, virtual_size - window_size)
            start = min(int(size) - 1, max(0, int((size - thumb) * position / reach + 0.5)))
            end = min(int(size), start + ceil(thumb))
            upper = Segment(blank, Style(bgcolor=back_color, meta={"@mouse.down": "scroll_up"}))
            lower = Segment(blank, Style(bgcolor=back_color, meta={"@mouse.down": "scroll_down"}))
            grab = Segment(glyph, Style(color=bar_color, bgcolor=back_color, meta={"@mouse.down": "grab"}))
            segments = [upper] * start + [grab] * (end - start) + [lower] * (int(size) - end)
        if vertical:
            return Segments(segments, new_lines=True)
        return Segments([*segments, Segment.line()] * thickness, new_lines=False)
