"""Timeline: what ran when on which device, the costliest nodes of the window, and the selected bar."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from viz import format as fmt
from viz.cells import Line, Page, fit, spread
from viz.draw_bar import draw_bar_card, draw_hot_row, draw_legend
from viz.draw_loops import draw_loop_card
from viz.loop_tracks import LoopSpan, LoopTrack, TrackRow, rows_for
from viz.timeline_model import Hot, Timeline, Window
from workbench.tui import words
from workbench.tui.actions import bindings
from workbench.tui.screens.base import BaseScreen
from workbench.tui.store import AROUND, StepData
from workbench.tui.widgets.band import TimelineBand
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList

MOST_RELATED = 2000


class TimelineScreen(BaseScreen):
    """The bars of a step of the open run."""

    where = "timeline"
    AUTO_FOCUS = "#band"
    BINDINGS = bindings("timeline")
    DEFAULT_CSS = """
    TimelineScreen {
        & #head { height: 1; }
        & #legend { height: 1; margin: 1 0; }
        & #below { height: 1fr; }
        & #hot { width: 3fr; }
        & #bar { width: 2fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.data: StepData | None = None
        self.window: Window | None = None
        self.selected: int | None = None
        self.lane = 0
        self.related: frozenset[int] = frozenset()
        self.hot: list[Hot] = []
        self.with_loops = True
        self.loop: tuple[LoopTrack, LoopSpan] | None = None  # the chosen frame or iteration
        self.head = LineWidget(self._draw_head, id="head")
        self.band = TimelineBand(id="band")
        self.legend = LineWidget(self._draw_legend, id="legend")
        self.hot_list = RowList(self._draw_hot, id="hot-rows")
        self.card = DrawingView()

    def compose_body(self) -> ComposeResult:
        yield self.head
        with Vertical(id="all"):
            yield self.band
            yield self.legend
            with Horizontal(id="below"):
                yield Panel("costliest in the window", self.hot_list, id="hot")
                yield Panel("bar", self.card, id="bar", classes="surface")

    def on_mount(self) -> None:
        self.sync()

    @property
    def timeline(self) -> Timeline | None:
        return self.data.timeline if self.data is not None else None

    # Showing.

    def sync(self) -> None:
        data = self.workbench.step
        if data is None:
            self.data = self.window = None
            self.hot = []
            self._show()
            return
        if data is not self.data:
            self._take(data)
        wanted = self.workbench.take_wanted_bars()
        if wanted:
            self._select_nodes(wanted)

    def _take(self, data: StepData) -> None:
        """Another step: keep the selected node selected, and the window if it shows the same step."""
        old, timeline = self.data, data.timeline
        name = (
            old.timeline.names[old.timeline.node[self.selected]]
            if old and self.selected is not None
            else None
        )
        self.data = data
        same = old is not None and old.step.id == data.step.id
        span = next((span for span in timeline.steps if span.id == data.step.id), None)
        self.window = timeline.whole()
        if span is not None and len(timeline.steps) > 1 and not same:
            self.window = Window(
                span.start, max(span.end, span.start + 1), timeline.begin, timeline.finish
            ).zoom(1.2)
        self.lane = min(self.lane, max(0, len(timeline.lanes) - 1))
        self.selected = self.loop = None
        if name is not None:
            bars = timeline.bars_of(name)
            mine = [int(i) for i in bars if int(timeline.step[i]) == data.step.id]
            self.selected = mine[0] if mine else None
        self._show()

    def recolour(self) -> None:
        self._show()

    def laid_out(self) -> None:
        self._show()

    def _show(self) -> None:
        timeline, window = self.timeline, self.window
        loops = self.data.loops if self.data is not None and self.with_loops else ()
        rows: tuple[TrackRow, ...] = ()
        if timeline is not None:
            lanes = max(1, len(timeline.lanes))
            room = max(5, self.size.height - 16)
            height = min(3 + 4 * lanes, max(3 + 2 * lanes, room), max(6, self.size.height - 12))
            # What stands below keeps a third of the screen.
            rows = rows_for(loops, max(min(2, len(loops)), self.size.height * 2 // 3 - 3 - height))
            self.band.styles.height = height + len(rows)
        self.related = frozenset()
        if timeline is not None and self.selected is not None:
            bars = timeline.bars_of(timeline.names[timeline.node[self.selected]])
            if len(bars) <= MOST_RELATED:
                self.related = frozenset(bars.tolist())
        step = self.data.step.id if self.data is not None else None
        loop = self.loop[1] if self.loop is not None else None
        self.band.show(
            timeline, window, self.palette, self.selected, self.lane, self.related, step, loops, rows, loop
        )
        self.hot = (
            timeline.hot(window.start, window.end) if timeline is not None and window is not None else []
        )
        kept = None
        if self.selected is not None and timeline is not None:
            name = timeline.names[timeline.node[self.selected]]
            kept = next((i for i, row in enumerate(self.hot) if row.node == name), None)
        self.hot_list.set_count(len(self.hot), cursor=kept)
        self.head.refresh()
        self.legend.refresh()
        self._show_card()

    def _draw_head(self, width: int) -> Line:
        palette, data = self.palette, self.data
        if data is None:
            text = words.no_timeline(self.workbench)
            return fit([(" " + text, palette.quiet)], width)
        step = data.step
        left: Line = [(f" step {fmt.count(step.step)}", palette.strong)]
        if data.steps > 1:
            left.append((f" and {data.steps - 1} around it", palette.quiet))
        opened = self.workbench.opened
        if opened is not None:
            left.append((f"  of {fmt.count(len(opened.steps))}", palette.dim))
        left.append((f"   {fmt.duration(step.duration_ns)}", palette.plain))
        left.append((f" · {fmt.plural(step.executions - step.dead, 'node')} run", palette.quiet))
        if step.dead:
            left.append((f", {fmt.count(step.dead)} dead", palette.quiet))
        right: Line = [(f"stage {data.stage.row.name} ", palette.dim)]
        if self.workbench.following and opened is not None and opened.state == "running":
            right = [("● following ", palette.style(palette.good))]
        if step.error:
            left.append(("  failed", palette.style(palette.bad, bold=True)))
        return spread(left, right, width)

    def _draw_legend(self, width: int) -> Line:
        if self.data is None or self.window is None:
            return []
        shares = self.data.timeline.shares(self.window.start, self.window.end)
        return draw_legend(shares, self.data.stage.colours, self.palette, width)

    def _draw_hot(self, index: int, width: int) -> Line:
        assert self.data is not None
        stage = self.data.stage
        return draw_hot_row(
            self.hot[index], self.hot[0].share, stage.stage, stage.colours, self.palette, width
        )

    def _show_card(self) -> None:
        page = Page(max(16, self.card.scrollable_content_region.width))
        if self.data is not None and self.loop is not None:
            track, chosen = self.loop
            spans = self.data.timeline.steps
            start = next((each.start for each in spans if each.id == chosen.step), self.data.timeline.begin)
            draw_loop_card(page, track, chosen, start, self.palette)
        elif self.data is not None and self.selected is not None:
            data = self.data
            draw_bar_card(
                page,
                data.timeline,
                self.selected,
                data.stage.stage,
                data.stage.colours,
                data.timings,
                data.frame_names,
                self.palette,
            )
        elif self.data is not None:
            for text in (
                "Click a bar, or press n, to select one.",
                "Enter then shows its node in the graph.",
            ):
                page.add((" " + fmt.shorten(text, page.width - 1), self.palette.dim))
        self.card.show(page.drawing(), home=True)

    # Choosing.

    def _select(self, index: int | None, look: bool = True) -> None:
        timeline, window = self.timeline, self.window
        self.selected = index
        self.loop = None
        if index is not None and timeline is not None and window is not None:
            self.workbench.following = False
            bar = timeline.bar(index)
            self.lane = bar.lane
            if look:
                self.window = window.around(bar.start, bar.end)
        self._show()

    def _select_nodes(self, names: tuple[str, ...]) -> None:
        """Select the longest bar of any of these nodes."""
        timeline, data = self.timeline, self.data
        if timeline is None or data is None:
            return
        known = set(names)
        wanted = [i for i, name in enumerate(timeline.names) if name in known]
        bars = [int(i) for number in wanted for i in timeline.bars_of(timeline.names[number])]
        bars = [i for i in bars if int(timeline.step[i]) == data.step.id] or bars
        if not bars:
            what = names[0] if len(names) == 1 else "none of these nodes"
            self.app.notify(f"{what} did not run in step {data.step.step}", severity="warning", timeout=4)
            return
        self._select(max(bars, key=lambda i: int(timeline.end[i] - timeline.start[i])))

    @on(TimelineBand.Clicked)
    def _clicked(self, message: TimelineBand.Clicked) -> None:
        timeline = self.timeline
        if timeline is None:
            return
        self.lane = message.lane
        if message.end < 0:
            self._show()
            return
        found = timeline.at(message.lane, message.start, message.end)
        again = found is not None and found == self.selected and message.again
        self._select(found, look=False)
        if again:
            self.show_node()

    @on(TimelineBand.LoopClicked)
    def _loop_clicked(self, message: TimelineBand.LoopClicked) -> None:
        if self.data is None:
            return
        track, row = self.data.loops[message.row.track], message.row
        lanes = track.frames if row.kind == "frames" else track.iterations
        lane = lanes[row.lane] if row.kind != "counter" else [span for each in lanes for span in each]
        inside = [span for span in lane if span.start < message.end and span.end > message.start]
        if inside:
            self.workbench.following = False
            self.loop = track, max(inside, key=lambda span: min(span.end, message.end) - span.start)
            self._show()

    @on(TimelineBand.Moved)
    def _moved(self, message: TimelineBand.Moved) -> None:
        if self.window is None:
            return
        self.workbench.following = False
        if message.factor == 1.0:
            offset = message.time - (self.window.start + self.window.end) / 2
            self.window = self.window.pan(offset / self.window.length)
        else:
            self.window = self.window.zoom(message.factor, message.time)
        self._show()

    @on(RowList.Highlighted)
    def _hot_moved(self, message: RowList.Highlighted) -> None:
        self._select_nodes((self.hot[message.index].node,))

    @on(RowList.Chosen)
    def _hot_chosen(self, message: RowList.Chosen) -> None:
        self.workbench.go_to_node(self.hot[message.index].node)

    @on(DrawingView.Picked)
    def _card_picked(self, message: DrawingView.Picked) -> None:
        self.workbench.go_to_node(message.key)

    # Actions.

    def zoom(self, factor: float) -> None:
        """Make the window `factor` times as long, around the selected bar if it can be seen."""
        window, timeline = self.window, self.timeline
        if window is None or timeline is None:
            return
        anchor = None
        if self.selected is not None:
            bar = timeline.bar(self.selected)
            middle = (bar.start + bar.end) / 2
            anchor = middle if window.start <= middle <= window.end else None
        self.workbench.following = False
        self.window = window.zoom(factor, anchor)
        self._show()

    def pan(self, share: float) -> None:
        """Move the window by a share of its length."""
        if self.window is not None:
            self.workbench.following = False
            self.window = self.window.pan(share)
            self._show()

    def show_whole(self) -> None:
        """Show all that was read."""
        if self.timeline is not None:
            self.window = self.timeline.whole()
            self._show()

    def fit_bar(self) -> None:
        """Zoom so that the selected bar fills a third of the window."""
        if self.window is not None and self.timeline is not None and self.selected is not None:
            bar = self.timeline.bar(self.selected)
            length = max(bar.duration * 3.0, 300.0)
            self.window = self.window.zoom(length / self.window.length).around(bar.start, bar.end)
            middle = (bar.start + bar.end) / 2
            offset = middle - (self.window.start + self.window.end) / 2
            self.window = self.window.pan(offset / self.window.length)
            self._show()

    def next_bar(self, offset: int) -> None:
        """Select the bar `offset` places later on the lane."""
        timeline, window = self.timeline, self.window
        if timeline is None or window is None or not len(timeline):
            return
        if self.selected is None or int(timeline.lane[self.selected]) != self.lane:
            self._select(timeline.nearest(self.lane, (window.start + window.end) / 2))
        else:
            self._select(timeline.neighbour(self.selected, offset))

    def next_lane(self, offset: int) -> None:
        """Choose the lane `offset` places further down."""
        timeline = self.timeline
        if timeline is None or not timeline.lanes:
            return
        self.lane = max(0, min(self.lane + offset, len(timeline.lanes) - 1))
        if self.selected is not None:
            bar = timeline.bar(self.selected)
            self.selected = timeline.nearest(self.lane, (bar.start + bar.end) / 2)
        self._show()

    def show_node(self) -> None:
        """Show the selected bar's node in the graph."""
        if self.timeline is not None and self.selected is not None:
            self.workbench.go_to_node(self.timeline.bar(self.selected).node)

    def go_step(self, offset: int) -> None:
        """Show the step `offset` places later."""
        self.workbench.go_step(offset)

    def toggle_many(self) -> None:
        """One step, or also those around it."""
        self.workbench.around = 0 if self.workbench.around else AROUND
        if self.data is not None:
            self.workbench.show_step(self.data.step.id)

    def toggle_loops(self) -> None:
        """Show the rows of loops, or not."""
        self.with_loops = not self.with_loops
        self.loop = None
        self._show()

    def toggle_follow(self) -> None:
        """Follow the newest step, or stay."""
        self.workbench.following = not self.workbench.following
        self.head.refresh()
        if self.workbench.following:
            self.workbench.follow()
