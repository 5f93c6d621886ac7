"""Devices: memory, streams and work of each, what goes between them, and who waits at the rendezvous."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from viz.cells import Drawing, Line, Page, fit, spread
from viz.devices_model import DevicesView, Sent, Waiting
from viz.draw_devices import draw_devices, draw_parcel_row
from viz.stage_view import transfer_key, transfer_name
from workbench.tui import words
from workbench.tui.actions import bindings
from workbench.tui.live_devices import live_view
from workbench.tui.screens.base import BaseScreen
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList

LOOK_SECONDS = 0.3


class DevicesScreen(BaseScreen):
    """The devices of the script that is being stepped, as they are now, or those of a recorded step."""

    where = "devices"
    AUTO_FOCUS = "#parcels"
    BINDINGS = bindings("devices")
    DEFAULT_CSS = """
    DevicesScreen {
        & #head { height: 1; }
        & #cards { height: 3fr; }
        & #table { height: 2fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view: DevicesView | None = None
        self.recorded = False
        self._shown: object = self
        self.parcels: list[Sent | Waiting] = []
        self.head = LineWidget(self._draw_head, id="head")
        self.cards = DrawingView(id="cards")
        self.table = RowList(self._draw_parcel, id="parcels", empty="nothing has been sent, and nobody waits")

    def compose_body(self) -> ComposeResult:
        yield self.head
        with Vertical(id="all"):
            yield self.cards
            yield Panel("rendezvous", self.table, id="table", classes="surface")

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._look)
        self.sync()

    def _look(self) -> None:
        """The script beside may have gone on."""
        if self.workbench.debug_source is not None and not self.recorded:
            self.sync()

    # Showing.

    def sync(self) -> None:
        debug, step = self.workbench.debug_source, self.workbench.step
        if debug is not None and not self.recorded and debug.snapshot.step is not None:
            snapshot = debug.snapshot
            if self._shown != snapshot.serial:
                self._shown = snapshot.serial
                self._take(live_view(snapshot))
            return
        if self._shown is not step:
            self._shown = step
            self._take(step.devices if step is not None else None)

    def _take(self, view: DevicesView | None) -> None:
        self.view = view
        self.parcels = [*view.waiting, *view.sent] if view is not None else []
        self.table.set_count(len(self.parcels))
        waiting = len(view.waiting) if view is not None else 0
        self.query_one("#table", Panel).set_title(
            "rendezvous", f"{waiting} awaited, {len(self.parcels) - waiting} sent" if self.parcels else ""
        )
        self.laid_out()

    def laid_out(self) -> None:
        width = max(30, self.cards.scrollable_content_region.width)
        self.cards.show(
            self._nothing(width) if self.view is None else draw_devices(self.view, self.palette, width)
        )
        self.head.refresh()
        self.table.redraw()

    def recolour(self) -> None:
        self.laid_out()

    def _nothing(self, width: int) -> Drawing:
        page = Page(width)
        page.words(words.no_timeline(self.workbench), self.palette.quiet)
        return page.drawing()

    def _draw_head(self, width: int) -> Line:
        if self.view is None:
            return []
        palette = self.palette
        left: Line = [(f" {self.view.title}", palette.strong)]
        if self.view.live:
            left.append(("  live", palette.style(palette.good, bold=True)))
        else:
            left.append(("  recorded", palette.quiet))
        right: Line = []
        if any(device.modelled for device in self.view.devices):
            right = [("modelled devices: nothing here is a GPU's time ", palette.style(palette.warning))]
        return spread(left, right, width) if right else fit(left, width)

    def _draw_parcel(self, index: int, width: int) -> Line:
        return draw_parcel_row(self.parcels[index], self.palette, width)

    # Choosing.

    @on(DrawingView.Picked, "#cards")
    def _picked(self, message: DrawingView.Picked) -> None:
        self._go_to(str(message.key))

    @on(RowList.Chosen, "#parcels")
    def _chosen(self, message: RowList.Chosen) -> None:
        self.show_node()

    def _go_to(self, name: str) -> None:
        if self.workbench.opened is None:
            self.app.notify("no run is open whose graph could be shown", timeout=3)
            return
        self.workbench.go_to_node(name)

    # Actions.

    def show_node(self) -> None:
        """Show the _Recv of the selected row in the graph."""
        step = self.workbench.step
        if not self.parcels or step is None:
            return
        row = self.parcels[self.table.cursor]
        for node in step.stage.plain:
            key = transfer_key(node)
            if node.type == "_Recv" and key is not None and key[:2] == (row.source, row.destination):
                if transfer_name(node) == row.tensor:
                    self._go_to(node.name)
                    return

    def go_step(self, offset: int) -> None:
        """Show the step `offset` places later."""
        self.workbench.go_step(offset)

    def toggle_live(self) -> None:
        """The script that is being stepped, or the recorded step."""
        if self.workbench.debug_source is None:
            self.app.notify("no script is being stepped; what is shown is recorded", timeout=3)
            return
        self.recorded = not self.recorded
        self._shown = self  # neither a snapshot nor a step
        self.sync()
