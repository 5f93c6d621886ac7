"""Graph: the scope tree beside a drawing of one level, the card of what is selected, and search."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from viz import format as fmt
from viz.cells import Drawing, Line, Page, wrap
from viz.draw_graph import PlacedLevel, draw_crumbs, draw_level, place_level
from viz.graph_model import ROOT, Kind, locate
from viz.node_card import draw_card, node_card, scope_card
from viz.timings import Timings
from viz.tree_model import TreeModel, draw_tree_row
from workbench.tui import words
from workbench.tui.actions import bindings
from workbench.tui.screens.base import BaseScreen
from workbench.tui.store import StageView
from workbench.tui.widgets.chips import ChipView, TreeList
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.node_search import NodeSearch
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.row_list import RowList


class GraphScreen(BaseScreen):
    """One stage of the open run."""

    where = "graph"
    AUTO_FOCUS = "#drawing"
    BINDINGS = bindings("graph")
    DEFAULT_CSS = """
    GraphScreen {
        & #body { height: 1fr; }
        & #tree { width: 26; }
        & #middle { width: 1fr; }
        & #crumbs { height: 1; }
        & #drawing { height: 1fr; padding: 0 0 0 1; }
        & #card { height: 9; }
        & #search { display: none; height: 1fr; }
        &.-searching #search { display: block; }
        &.-searching #drawing, &.-searching #crumbs { display: none; }
        &.-full #tree, &.-full #card { display: none; }
        & #side { width: 1fr; layout: vertical; }
        &.-wide #tree { width: 30; }
        &.-wide #side { layout: horizontal; }
        &.-wide #card { width: 40; height: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view: StageView | None = None
        self.timings: Timings | None = None
        self.times: dict[str, int] = {}
        self.tree_model: TreeModel | None = None
        self.placed: PlacedLevel | None = None
        self.level_key = ROOT
        self.selected: str | None = None
        self.constants = True
        self.trail: list[tuple[str, str | None]] = []
        self.tree_list = TreeList(self._draw_tree_row, self._fold, id="tree-rows")
        self.crumbs = LineWidget(self._draw_crumbs, id="crumbs")
        self.drawing = ChipView(id="drawing")
        self.card = DrawingView()
        self.finder = NodeSearch(id="search")

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="body"):
            yield Panel("scopes", self.tree_list, id="tree", classes="surface")
            with Vertical(id="side"):
                with Vertical(id="middle"):
                    yield self.crumbs
                    yield self.drawing
                    yield self.finder
                yield Panel("node", self.card, id="card", classes="surface")

    def on_mount(self) -> None:
        self.sync()

    # Showing.

    def sync(self) -> None:
        view, step = self.workbench.stage, self.workbench.step
        timings = step.timings if step is not None and view is not None and step.stage is view else None
        if view is None:
            self.view = None
            self.drawing.show(self._nothing(), home=True)
            return
        changed = view is not self.view
        if changed:
            kept = self.selected
            open_scopes = self.tree_model.open if self.tree_model is not None else set()
            self.view = view
            self.tree_model = TreeModel(view.tree)
            self.tree_model.open |= {key for key in open_scopes if key in view.tree}
            if self.level_key not in view.tree:
                self.level_key = ROOT
            self.selected = kept if kept is not None and kept in view.tree else None
        if changed or timings is not self.timings:
            self.timings = timings
            self.times = step.scope_times if step is not None and timings is not None else {}
            self._show_tree()
            self._show_card()
        if changed:
            self._place()
        wanted = self.workbench.take_wanted_node()
        if wanted is not None:
            self.reveal(wanted)

    def _nothing(self) -> Drawing:
        """What is said in place of a graph."""
        page = Page(max(20, min(60, self.drawing.size.width - 2)))
        for text in words.no_graph(self.workbench).splitlines():
            for line in wrap(text, page.width - 1):
                page.add((" " + line, self.palette.quiet))
        return page.drawing()

    def recolour(self) -> None:
        self.tree_list.redraw()
        self.finder.redraw()
        self.crumbs.refresh()
        self._draw()
        self._show_card()

    def laid_out(self) -> None:
        if self.view is not None:
            self._place()
        self._show_card()

    def _place(self) -> None:
        """Lay the current level out and draw it."""
        if self.view is None:
            return
        room = max(40, self.drawing.size.width - 4)
        level = self.view.tree.level(self.level_key, constants=self.constants)
        # More air between the chips if all of them can be seen even so.
        self.placed = place_level(level, self.view.tree, room=room, airy=True)
        if self.placed.layout.height > self.drawing.size.height:
            self.placed = place_level(level, self.view.tree, room=room)
        if self.selected is not None and level.item(self.selected) is None:
            self.selected = None
        self._draw(home=True)
        if self.selected is not None:
            self.drawing.bring_into_view(self.selected)
        self.crumbs.refresh()
        self._show_tree()
        self._show_card()

    def _draw(self, home: bool = False) -> None:
        if self.view is None or self.placed is None:
            return
        drawing = draw_level(
            self.placed,
            self.view.tree,
            self.view.colours,
            self.palette,
            selected=self.selected,
        )
        self.drawing.show_chips(drawing, self.selected, home=home)

    def _draw_crumbs(self, width: int) -> Line:
        if self.view is None or self.placed is None:
            return []
        nodes = fmt.plural(len(self.view.stage), "node")
        notes = (f"stage {self.view.row.name} · {nodes} ", f"stage {self.view.row.name} ")
        return draw_crumbs(self.placed.level, notes, self.palette, width)

    def _show_tree(self) -> None:
        if self.tree_model is None:
            return
        key = self.selected.lstrip("<>") if self.selected is not None else self.level_key
        index = (
            self.tree_model.reveal(key)
            if key in self.tree_model.tree
            else self.tree_model.index(self.level_key)
        )
        self.tree_list.set_count(len(self.tree_model.rows), cursor=index if index >= 0 else None)
        self.query_one("#tree", Panel).set_title("scopes", "time" if self.timings is not None else "nodes")

    def _draw_tree_row(self, index: int, width: int) -> Line:
        assert self.tree_model is not None and self.view is not None
        row = self.tree_model.rows[index]
        return draw_tree_row(
            row, self.view.tree, self.view.colours, self.palette, width, self.times, self.timings
        )

    def _show_card(self) -> None:
        if self.view is None:
            return
        width = self.card.scrollable_content_region.width
        key = (self.selected or self.level_key).lstrip("<>")
        if key.startswith("*") or key not in self.view.tree:
            key = self.level_key
        is_node = not key.endswith("/") and key in self.view.stage.nodes
        card = (
            node_card(self.view.stage, key, self.timings)
            if is_node
            else scope_card(self.view.tree, key, self.timings)
        )
        self.query_one("#card", Panel).set_title("node" if is_node else "scope", self._step_note())
        self.card.show(draw_card(card, self.palette, max(20, width), self.view.colours), home=True)

    def _step_note(self) -> str:
        step = self.workbench.step
        return f"times of step {step.step.step}" if step is not None and self.timings is not None else ""

    # Choosing.

    def select(self, key: str) -> None:
        """Select an item of the level that is shown."""
        self.selected = key
        self._draw()
        self.drawing.bring_into_view(key)
        self._show_tree()
        self._show_card()

    def go_to(self, level: str, selected: str | None = None) -> None:
        """Show another level; escape comes back."""
        if level != self.level_key:
            self.trail.append((self.level_key, self.selected))
            del self.trail[:-100]
        self.level_key, self.selected = level, selected
        self._place()

    def reveal(self, key: str) -> None:
        """Show the level on which node or scope `key` is, and select it."""
        if self.view is None or key not in self.view.tree:
            self.app.notify(
                f"{key} is not in stage {self.view.row.name if self.view else ''}", severity="warning"
            )
            return
        if key == ROOT:
            self.go_to(ROOT)
            return
        level, constants = locate(self.view.tree, key, self.constants)
        self.constants = constants
        self.go_to(level, key)

    @on(ChipView.Moved)
    def _chip_moved(self, message: ChipView.Moved) -> None:
        self.select(message.key)

    @on(DrawingView.Picked, "#drawing")
    def _picked(self, message: DrawingView.Picked) -> None:
        again = message.key == self.selected
        self.select(message.key)
        if again:
            self.open_selected()

    @on(DrawingView.Picked, "#card DrawingView")
    def _card_picked(self, message: DrawingView.Picked) -> None:
        self.reveal(message.key)

    @on(RowList.Highlighted, "#tree-rows")
    def _tree_moved(self, message: RowList.Highlighted) -> None:
        assert self.tree_model is not None
        row = self.tree_model.rows[message.index]
        if row.key == ROOT:
            self.go_to(ROOT)
        else:
            self.reveal(row.key)

    @on(RowList.Chosen, "#tree-rows")
    def _tree_chosen(self, message: RowList.Chosen) -> None:
        assert self.tree_model is not None
        row = self.tree_model.rows[message.index]
        if row.is_scope:
            self.go_to(row.key)
        else:
            self.drawing.focus()

    def _fold(self, index: int, is_open: bool | None) -> None:
        """Open, close or toggle the tree's row."""
        model = self.tree_model
        if model is None or index >= len(model.rows):
            return
        row = model.rows[index]
        if is_open is None and row.is_scope:
            model.toggle(row.key)
        elif is_open is False and not (row.is_scope and row.is_open):
            parent = next((i for i in range(index - 1, -1, -1) if model.rows[i].depth < row.depth), None)
            if parent is not None:
                self.tree_list.move_to(parent)
            return
        elif is_open is not None:
            model.set_open(row.key, is_open)
        self.tree_list.set_count(len(model.rows), cursor=model.index(row.key))

    # Search.

    def search(self) -> None:
        """Open the search line."""
        if self.view is not None:
            self.add_class("-searching")
            self.finder.open(self.view.stage)

    @on(NodeSearch.Chosen)
    def _found(self, message: NodeSearch.Chosen) -> None:
        self._leave_search()
        self.reveal(message.name)

    def _leave_search(self) -> None:
        self.remove_class("-searching")
        self.drawing.focus()

    # Actions.

    def open_selected(self) -> None:
        """Look inside the selected scope; from an input or output, go to where it is."""
        if self.view is None or self.placed is None or self.selected is None:
            return
        item = self.placed.level.item(self.selected)
        if item is None:
            return
        if item.kind in (Kind.INPUT, Kind.OUTPUT):
            self.reveal(item.node if item.target not in self.view.tree else item.target)
        elif item.kind in (Kind.SCOPE, Kind.SERIES):
            self.go_to(item.key)
        else:
            self.card.focus()

    def go_up(self) -> None:
        """Show the scope around this one."""
        if self.view is not None and self.level_key != ROOT:
            inside = self.level_key
            self.go_to(self.view.tree.level_key(inside), inside)

    def go_root(self) -> None:
        """Show the whole graph."""
        self.go_to(ROOT)

    def go_back(self) -> None:
        """Leave the search, or go back to the level before."""
        if self.has_class("-searching"):
            self._leave_search()
        elif self.trail:
            self.level_key, self.selected = self.trail.pop()
            self._place()

    def go_stage(self, offset: int) -> None:
        """Show the stage `offset` places later in the run."""
        self.workbench.go_stage(offset)

    def toggle_constants(self) -> None:
        """Show or hide constants."""
        self.constants = not self.constants
        self._place()

    def toggle_full(self) -> None:
        """Give the drawing the whole width, or not."""
        self.toggle_class("-full")
        self.call_after_refresh(self.laid_out)

    def show_in_timeline(self) -> None:
        """Show the selected node in the timeline."""
        key = (self.selected or "").lstrip("<>")
        if self.view is None or key not in self.view.tree:
            return
        self.workbench.show_in_timeline(self.view.tree.names_in(key))
