"""The timeline's drawing as a widget: click selects, the wheel zooms where the mouse is."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from viz.cells import Drawing
from viz.draw_timeline import LABEL_WIDTH, cell_time, cells_for, draw_timeline
from viz.loop_tracks import LoopSpan, LoopTrack, TrackRow
from viz.palette import Palette
from viz.timeline_model import Timeline, Window
from workbench.tui.widgets.drawing_view import NOTHING
from workbench.tui.widgets.strips import QuietStrips, strip_of


class TimelineBand(QuietStrips, Widget, can_focus=True):
    """Draws a window of a timeline; what it shows is set from outside with `show`."""

    DEFAULT_CSS = "TimelineBand { height: 8; }"

    class Clicked(Message):
        """A cell of a lane was clicked: the stretch of time under it."""

        def __init__(self, lane: int, start: float, end: float, again: bool) -> None:
            super().__init__()
            self.lane = lane
            self.start = start
            self.end = end
            self.again = again

    class LoopClicked(Message):
        """A cell of a loop's row was clicked: the row, and the stretch of time under it."""

        def __init__(self, row: TrackRow, start: float, end: float) -> None:
            super().__init__()
            self.row = row
            self.start = start
            self.end = end

    class Moved(Message):
        """The wheel asks for a zoom (`factor`) around a time, or a click in the overview for a move there (`factor` 1)."""

        def __init__(self, time: float, factor: float) -> None:
            super().__init__()
            self.time = time
            self.factor = factor

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.timeline: Timeline | None = None
        self.window: Window | None = None
        self.selected: int | None = None
        self.lane = 0
        self.related: frozenset[int] = frozenset()
        self.step: int | None = None
        self.loops: tuple[LoopTrack, ...] = ()
        self.loop_rows: tuple[TrackRow, ...] = ()
        self.loop: LoopSpan | None = None
        self._palette: Palette | None = None
        self._drawing: Drawing | None = None
        self._drawn_for = (0, 0)

    def show(
        self,
        timeline: Timeline | None,
        window: Window | None,
        palette: Palette,
        selected: int | None,
        lane: int,
        related: frozenset[int],
        step: int | None,
        loops: tuple[LoopTrack, ...] = (),
        loop_rows: tuple[TrackRow, ...] = (),
        loop: LoopSpan | None = None,
    ) -> None:
        """Show that window."""
        self.loops, self.loop_rows, self.loop = loops, loop_rows, loop
        self.timeline, self.window, self._palette = timeline, window, palette
        self.selected, self.lane, self.related, self.step = selected, lane, related, step
        self._drawing = None
        self.refresh()

    @property
    def drawing(self) -> Drawing:
        width, height = self.size
        if self._drawing is None or self._drawn_for != (width, height):
            self._drawing, self._drawn_for = NOTHING, (width, height)
            if self.timeline is not None and self.window is not None and self._palette is not None:
                self._drawing = draw_timeline(
                    self.timeline,
                    self.window,
                    self._palette,
                    width,
                    height,
                    selected=self.selected,
                    lane=self.lane,
                    related=self.related,
                    step=self.step,
                    loops=self.loops,
                    loop_rows=self.loop_rows,
                    loop=self.loop,
                )
        return self._drawing

    def on_resize(self) -> None:
        self._drawing = None

    def render_line(self, y: int) -> Strip:
        lines = self.drawing.lines
        return strip_of(lines[y] if y < len(lines) else [], self.size.width, style=self.rich_style)

    def on_click(self, event: events.Click) -> None:
        key = self.drawing.at(event.x, event.y)
        if key is None or self.timeline is None or self.window is None:
            return
        event.stop()
        kind, number = key
        if kind == "axis":
            share = (event.x - LABEL_WIDTH + 0.5) / cells_for(self.size.width)
            whole = self.timeline.finish - self.timeline.begin
            self.post_message(self.Moved(self.timeline.begin + share * whole, 1.0))
        elif kind == "lane" and event.x >= LABEL_WIDTH:
            start, end = cell_time(self.window, event.x, self.size.width)
            self.post_message(self.Clicked(number, start, end, event.chain > 1))
        elif kind == "lane":
            self.post_message(self.Clicked(number, -1, -1, False))
        elif kind == "loop":
            start, end = cell_time(self.window, max(event.x, LABEL_WIDTH), self.size.width)
            self.post_message(self.LoopClicked(self.loop_rows[number], start, end))
        elif kind == "step":
            span = next(span for span in self.timeline.steps if span.id == number)
            self.post_message(self.Moved((span.start + span.end) / 2, 1.0))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, 0.8)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1.25)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        if self.window is None:
            return
        event.stop()
        event.prevent_default()
        start, end = cell_time(self.window, max(event.x, LABEL_WIDTH), self.size.width)
        self.post_message(self.Moved((start + end) / 2, factor))
