"""Lines of a drawing as Textual strips."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Line

if TYPE_CHECKING:
    from textual.geometry import Size

    _Base = Widget
else:
    _Base = object

_KEPT = 400  # strips that a widget keeps beside those that are seen


def strip_of(line: Line, width: int, start: int = 0, style: Style | None = None) -> Strip:
    """Cells `start` to `start + width` of a line, filled up with blanks; `style` lies under all of it."""
    strip = Strip([Segment(text, piece) for text, piece in line])
    strip = strip.crop_extend(start, start + width, None)
    return strip.apply_style(style) if style is not None else strip


def base_style(widget: Widget) -> Style:
    """`widget.rich_style`, worked out again only when the styles of the widget or of what it is in have changed."""
    key = [node.styles._cache_key for node in widget.ancestors_with_self]
    known: tuple[list[int], Style] | None = widget.__dict__.get("_base_style")
    if known is None or known[0] != key:
        known = widget.__dict__["_base_style"] = key, widget.rich_style
    return known[1]


class QuietStrips(_Base):
    """A widget that keeps the strips of its lines, so that a line which looks as it did costs nothing.

    Textual knows a line by where it stands; here, if `keeps_lines`, it is known by what it shows (`line_key`), and may scroll.

    A strip that was divided holds itself, and each such circle waits for a full collection, which takes 50 ms and more in an
    app with many objects.  So whatever is no longer kept is cut open.
    """

    keeps_lines = False
    _strips: dict[
        Any, tuple[Any, Strip]
    ]  # by the name of a line, its looks and its strip; those seen last come last
    _given: list[Strip]
    _drawn_for: tuple[Any, ...] = ()
    _shown: Sequence[Any] = ()  # the keys of the lines as they were drawn last

    def line_key(self, y: int) -> tuple[Hashable, Any]:
        """The name of the line that is to be seen in row `y`, and what its looks depend on beside `draw_for`."""
        raise NotImplementedError

    def draw_for(self) -> tuple[Any, ...]:
        """What the looks of all lines depend on."""
        return ()

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

    def refresh_changed(self) -> None:
        """Draw the lines again that look different now, and only these; nothing of a widget that is not on the screen."""
        if not self.is_attached or self not in self.screen._compositor.visible_widgets:
            return  # to ask for it would have the whole screen laid out again; its lines are looked at when it comes up
        shown, (width, height) = self._shown, self.size
        if len(shown) != height or self._drawn_for != self._draws_for():
            self.refresh()
            return
        changed = [y for y in range(height) if shown[y] != self.line_key(y)]
        if len(changed) > height // 2:
            self.refresh(Region(0, 0, width, height))
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def _draws_for(self) -> tuple[Any, ...]:
        return self.size, self.scrollable_content_region.width, base_style(self), *self.draw_for()

    def render_lines(self, crop: Region) -> list[Strip]:
        if not self.keeps_lines or self.styles.gutter or self.opacity != 1.0:
            for strip in self.__dict__.get("_given", ()):
                strip._divide_cache.clear()
            self._given = super().render_lines(crop)
            return self._given
        drawn_for = self._draws_for()
        kept = self.__dict__.setdefault("_strips", {})
        if drawn_for != self._drawn_for:
            self._drop(kept, 0)
            self._drawn_for = drawn_for
        width, height = self.size
        self._shown = keys = [self.line_key(y) for y in range(height)]
        lines = range(crop.y, min(crop.bottom, height))
        strips = []
        for y in lines:
            name, looks = keys[y]
            known = kept.pop(name, None)
            if known is None or known[0] != looks:
                if known is not None:
                    _cut_open(known[1])
                strip = self.render_line(y).adjust_cell_length(width, drawn_for[2])
                for each in self.get_line_filters():
                    strip = strip.apply_filter(each, self.background_colors[1])
                known = looks, strip
            kept[name] = known
            strips.append(known[1])
        self._drop(kept, _KEPT + height)
        if crop.column_span != (0, width):
            strips = [strip.crop(crop.x, crop.right) for strip in strips]
        return strips

    @staticmethod
    def _drop(kept: dict[Any, tuple[Any, Strip]], most: int) -> None:
        for name in list(kept)[: max(0, len(kept) - most)]:
            _cut_open(kept.pop(name)[1])


def _cut_open(strip: Strip) -> None:
    strip._divide_cache.clear()
