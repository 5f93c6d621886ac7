"""What waits in a step, how frames were entered, what stacks hold, why a node is dead: one at a time."""

from __future__ import annotations

from viz import format as fmt
from viz.draw_flow import draw_frame_facts, draw_resources, draw_way
from viz.draw_step import draw_waiting
from viz.palette import Palette
from viz.step_model import StepView
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.drawn_rows import DrawnRows
from workbench.tui.widgets.tabs import Tab, Tabs

_DRAW = {"frames": draw_frame_facts, "stacks": draw_resources, "why": draw_way}
_KEYS = {"frames": "f", "stacks": "t", "why": "w"}
_LEAST = 16  # cells that are drawn for before there is a width


class FlowTabs(Tabs):
    """Draws the tab that is shown from a step's view; `waiting` is the first."""

    def __init__(self, *, id: str | None = None) -> None:
        self.waiting = DrawingView()
        self.flow = {name: DrawnRows() for name in _DRAW}
        tabs = [Tab(name, _KEYS[name], rows) for name, rows in self.flow.items()]
        super().__init__(Tab("waiting", "", self.waiting), *tabs, id=id)

    def draw(self, step: StepView, palette: Palette, *, home: bool = False) -> None:
        """Show `step`; `home` goes to the first row."""
        self.set_note("waiting", fmt.count(step.waiting_count) if step.waiting_count else "")
        width = max(_LEAST, self.shown.scrollable_content_region.width or self.size.width)
        if self.current == "waiting":
            drawing = draw_waiting(step.waiting, step.waiting_count, palette, width)
            self.waiting.show(drawing, home=home)
        else:
            drawing = _DRAW[self.current](step, palette, width)
            self.flow[self.current].show(drawing, home=home)
