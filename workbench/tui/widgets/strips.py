"""Lines of a drawing as Textual strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from viz.cells import Line

if TYPE_CHECKING:
    from textual.geometry import Region
    from textual.widget import Widget

    _Base = Widget
else:
    _Base = object


def strip_of(line: Line, width: int, start: int = 0, style: Style | None = None) -> Strip:
    """Cells `start` to `start + width` of a line, filled up with blanks; `style` lies under all of it."""
    strip = Strip([Segment(text, piece) for text, piece in line])
    strip = strip.crop_extend(start, start + width, None)
    return strip.apply_style(style) if style is not None else strip


class QuietStrips(_Base):
    """A widget whose strips are no garbage: a strip that was divided holds itself, and each such circle waits for a full
    collection, which takes 50 ms and more in an app with many objects."""

    _given: list[Strip]

    def render_lines(self, crop: Region) -> list[Strip]:
        for strip in getattr(self, "_given", ()):
            strip._divide_cache.clear()
        self._given = super().render_lines(crop)
        return self._given
