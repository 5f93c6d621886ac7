"""Lines of a drawing as Textual strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Line

if TYPE_CHECKING:
    from textual.geometry import Region, Size

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

    def extend(self, size: Size) -> None:
        """What can be scrolled over has this size now.

        The screen is laid out anew only if a scrollbar comes or goes: assigning `virtual_size` would do it each time, which
        takes as long as drawing everything.
        """
        if size == self.virtual_size:
            return
        if not self.is_attached or not self.container_size.area:
            self.virtual_size = size
            return
        self.set_reactive(Widget.virtual_size, size)
        self._scroll_update(size)
        self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        for strip in getattr(self, "_given", ()):
            strip._divide_cache.clear()
        self._given = super().render_lines(crop)
        return self._given
