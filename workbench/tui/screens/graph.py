"""Graph: the scope tree or the list of stages beside a drawing of one level, the card of what is selected, and search."""

from __future__ import annotations

from collections.abc import Mapping

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from viz import format as fmt
from viz.cells import Drawing, Line, Page, fit, line_width, spread, wrap
from viz.draw_graph import PlacedLevel, draw_crumbs, draw_level, place_level
from viz.draw_stages import colour_of, counts_line
from viz.graph_model import ROOT, Kind, locate
from viz.node_card import draw_card, node_card, scope_card
from viz.scope_colours import ScopeColours
from viz.stage_card import with_stages
from viz.stage_diff import Change, NodeChange
from viz.stage_view import badges, device_legend, static_bytes
from viz.timings import Timings
from viz.tree_model import TreeModel, draw_tree_row
from workbench.tui import words
from workbench.tui.actions import bindings
from workbench.tui.screens.base import BaseScreen
from workbench.tui.store import ChainRow, PlanView, StageView
from workbench.tui.widgets.chips import ChipView, TreeList
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.line import LineWidget
from workbench.tui.widgets.node_search import NodeSearch
from workbench.tui.widgets.panel import Panel
from workbench.tui.widgets.program import ProgramList
from workbench.tui.widgets.row_list import RowList

BROAD_FROM = 160  # columns: room for the program, the drawing and the card side by side


class GraphScreen(BaseScreen):
    """One stage of the open run, by itself or laid over an earlier one."""

    where = "graph"
    AUTO_FOCUS = "#drawing"
    BINDINGS = bindings("graph")
    DEFAULT_CSS = """
    GraphScreen {
        & #body { height: 1fr; }
        & #tree, & #stages { width: 26; }
        & #plan { width: 46; }
        & #stages, & #plan { display: none; }
        &.-stages #stages, &.-plan #plan { display: block; }
        &.-stages #tree, &.-plan #tree { display: none; }
        & #legend { display: none; height: 1; }
        &.-legend #legend { display: block; }
        & #middle { width: 1fr; }
        & #crumbs { height: 1; }
        & #drawing { height: 1fr; padding: 0 0 0 1; }
        & #card { height: 9; }
        & #search { display: none; height: 1fr; }
        &.-searching #search { display: block; }
        &.-searching #drawing, &.-searching #crumbs { display: none; }
        &.-full #tree, &.-full #stages, &.-full #plan, &.-full #card { display: none; }
        & #side { width: 1fr; layout: vertical; }
        &.-wide #tree { width: 30; }
        &.-wide #stages { width: 40; }
        &.-wide #plan { width: 46%; max-width: 104; }
        &.-wide #side { layout: horizontal; }
        &.-wide #card { width: 40; height: 1fr; }
        &.-wide.-plan #side { layout: vertical; }
        &.-wide.-plan #card { width: 1fr; height: 14; }
        &.-broad.-plan #side { layout: horizontal; }
        &.-broad.-plan #card { width: 40; height: 1fr; }
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
        self.by_device = False
        self.chain: tuple[ChainRow, ...] = ()
        self.trail: list[tuple[str, str | None]] = []
        self.tree_list = TreeList(self._draw_tree_row, self._fold, id="tree-rows")
        self.stage_list = RowList(self._draw_stage_row, id="stage-rows")
        self.program = ProgramList(id="plan-rows")
        self.plan_of: PlanView | None = None
        self.crumbs = LineWidget(self._draw_crumbs, id="crumbs")
        self.legend = LineWidget(self._draw_legend, id="legend")
        self.drawing = ChipView(id="drawing")
        self.card = DrawingView()
        self.finder = NodeSearch(id="search")

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="body"):
            yield Panel("scopes", self.tree_list, id="tree", classes="surface")
            yield Panel("stages", self.stage_list, id="stages", classes="surface")
            yield Panel("program", self.program, id="plan", classes="surface")
            with Vertical(id="side"):
                with Vertical(id="middle"):
                    yield self.crumbs
                    yield self.legend
                    yield self.drawing
                    yield self.finder
                yield Panel("node", self.card, id="card", classes="surface")

    def on_mount(self) -> None:
        self.sync()

    def on_resize(self) -> None:
        self.set_class(self.app.size.width >= BROAD_FROM, "-broad")

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
            self.set_class(self.by_device or view.diff is not None, "-legend")
            self._read_chain()
        if changed or timings is not self.timings:
            self.timings = timings
            self.times = step.scope_times if step is not None and timings is not None else {}
            self._show_tree()
            self._show_card()
            self._show_program()
            self.legend.refresh()
        if changed:
            self._place()
            self._read_program()
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
        self.stage_list.redraw()
        self.program.recolour(self.palette)
        self.legend.refresh()
        self.finder.redraw()
        self.crumbs.refresh()
        self._draw()
        self._show_card()

    def laid_out(self) -> None:
        if self.view is not None:
            self._place()
        self._show_program()
        self._show_card()

    def _place(self) -> None:
        """Lay the current level out and draw it."""
        if self.view is None:
            return
        room = max(40, self.drawing.size.width - 4)
        level = self.view.tree.level(self.level_key, constants=self.constants)
        # More air between the chips if all of them can be seen even so.
        found = badges(level, self.view.tree, self._changes, self.palette)
        self.placed = place_level(level, self.view.tree, room=room, airy=True, badges=found)
        if self.placed.layout.height > self.drawing.size.height:
            self.placed = place_level(level, self.view.tree, room=room, badges=found)
        if self.selected is not None and level.item(self.selected) is None:
            self.selected = None
        self._draw(home=True)
        if self.selected is not None:
            self.drawing.bring_into_view(self.selected)
        self.crumbs.refresh()
        self._show_tree()
        self._show_card()
        self._mark_lines()

    def _draw(self, home: bool = False) -> None:
        if self.view is None or self.placed is None:
            return
        drawing = draw_level(
            self.placed,
            self.view.tree,
            self._colours,
            self.palette,
            selected=self.selected,
            marked=self._line_chips(),
            gone={name for name, change in self._changes.items() if change.is_gone},
        )
        self.drawing.show_chips(drawing, self.selected, home=home)

    @property
    def _changes(self) -> Mapping[str, NodeChange]:
        return self.view.diff.changes if self.view is not None and self.view.diff is not None else {}

    @property
    def _colours(self) -> ScopeColours:
        assert self.view is not None
        return self.view.by_device if self.by_device else self.view.colours

    def _draw_crumbs(self, width: int) -> Line:
        if self.view is None or self.placed is None:
            return []
        nodes = fmt.plural(len(self.view.plain), "node")
        notes = (f"stage {self.view.row.name} · {nodes} ", f"stage {self.view.row.name} ")
        if self.view.diff is not None:
            notes = (f"{self.view.diff.before.name} → {self.view.row.name} ", f"→ {self.view.row.name} ")
        return draw_crumbs(self.placed.level, notes, self.palette, width)

    def _draw_legend(self, width: int) -> Line:
        """What the letters stand for, with how many of each; or which device has which colour, and what goes between them."""
        if self.view is None:
            return []
        if self.by_device:
            return fit(device_legend(self.view.by_device, self._transfers(), self.palette), width)
        if self.view.diff is None:
            return []
        line: Line = [(" ", self.palette.dim)]
        shown = [change for change in Change if self.view.diff.counts[change]]
        worded = sum(len(f"{self.view.diff.counts[each]:,} {each.word}") + 3 for each in shown) < width
        for change in Change:
            style = self.palette.style(colour_of(change, self.palette), bold=True)
            number = self.view.diff.counts[change]
            if number:
                line += [
                    (f"{change.value}{number:,}", style),
                    (f" {change.word}  " if worded else "  ", self.palette.dim),
                ]
        return fit(line, width)

    def _transfers(self) -> str:
        """What goes between devices: as the shown step measured it, else as shapes have it."""
        view, step = self.view, self.workbench.step
        assert view is not None
        if step is not None and step.stage is view and step.transfers:
            total = sum(each.nbytes for each in step.transfers if not each.dead)
            return (
                f"{fmt.plural(len(step.transfers), 'transfer')}, {fmt.nbytes(total)} in step {step.step.step}"
            )
        sends = [node for node in view.plain if node.type == "_Recv"]
        known = [size for node in sends if (size := static_bytes(node)) is not None]
        return f"{fmt.plural(len(sends), 'transfer')}, {fmt.nbytes(sum(known))} by shapes" if sends else ""

    # The stages of the chain.

    def _read_chain(self) -> None:
        """Read what each stage of the chain did, if the list of them is open."""
        opened, view = self.workbench.opened, self.view
        if opened is None or view is None or not self.has_class("-stages"):
            return

        def done(chain: tuple[ChainRow, ...]) -> None:
            self.chain = chain
            at = next((i for i, each in enumerate(chain) if each.row.id == view.row.id), None)
            self.stage_list.set_count(len(chain), cursor=at)
            self.query_one("#stages", Panel).set_title("stages", "nodes, changes")

        self.workbench.read(lambda: self.workbench.store.chain(opened, view.row.id), done, "chain")

    def _draw_stage_row(self, index: int, width: int) -> Line:
        each = self.chain[index]
        here = self.view is not None and each.row.id == self.view.row.id
        base = each.row.id == self.workbench.base_id
        mark = "●" if here else "◇" if base else " "
        left: Line = [
            (f" {mark} ", self.palette.style(self.palette.accent)),
            (each.row.name.removeprefix("optimized/"), self.palette.strong if here else self.palette.plain),
        ]
        counts = counts_line(each.counts, self.palette)
        right: Line = [(f" {each.row.nodes:,} ", self.palette.dim)]
        if line_width(left) + line_width(counts) + line_width(right) < width - 1:
            right = [*counts, *right]
        return spread(left, right, width)

    @on(RowList.Chosen, "#stage-rows")
    def _stage_chosen(self, message: RowList.Chosen) -> None:
        self.workbench.choose_stage(self.chain[message.index].row.id)

    # The program beside the graph.

    def _read_program(self) -> None:
        """Read the program of the stage, if it is shown."""
        opened, view = self.workbench.opened, self.view
        if opened is None or view is None or not self.has_class("-plan"):
            return

        def done(found: PlanView) -> None:
            self.plan_of = found
            self._show_program()
            self._mark_lines(follow=True)

        self.workbench.read(lambda: self.workbench.store.plan(opened, view.row.id), done, "plan")

    def _show_program(self) -> None:
        found = self.plan_of
        if found is None or self.view is None or found.stage_id != self.view.row.id:
            return
        notes = self.program.show_plan(found.model, found.why, self.timings, self.palette)
        if self.program.times is not None:
            notes.append(self._step_note())
        self.query_one("#plan", Panel).set_title("program", "  ".join(notes))

    def _mark_lines(self, follow: bool = False) -> None:
        """Let the lines of the selected node or scope stand out; the cursor goes to them unless it is what chose the node."""
        if self.view is not None and self.has_class("-plan"):
            key = (self.selected or "").lstrip("<>")
            names = self.view.tree.names_in(key) if key and key in self.view.tree else ()
            self.program.mark_nodes(names, follow)

    def _line_chips(self) -> frozenset[str]:
        """The chips of the level in which nodes of the chosen line are."""
        nodes = (
            self.program.chosen_nodes if self.has_class("-plan") and self.program.has_focus else frozenset()
        )
        if not nodes or self.placed is None or self.view is None:
            return frozenset()
        tree = self.view.tree
        return frozenset(
            item.key
            for item in self.placed.level.items
            if item.target in tree and not nodes.isdisjoint(tree.names_in(item.target))
        )

    @on(RowList.Highlighted, "#plan-rows")
    def _line_moved(self, message: RowList.Highlighted) -> None:
        """Show the nodes of the line: the level of the first, where those of the line are underlined."""
        nodes = self.program.nodes_at(message.index)
        there = next((name for name in nodes if self.view is not None and name in self.view.tree), None)
        if there is not None:
            self.reveal(there)
        else:
            self.program.mark(())

    @on(RowList.Chosen, "#plan-rows")
    def _line_chosen(self, message: RowList.Chosen) -> None:
        self.drawing.focus()

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
            row, self.view.tree, self._colours, self.palette, width, self.times, self.timings
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
        if is_node:
            step = self.workbench.step
            transfers = step.transfers if step is not None and step.stage is self.view else ()
            card = with_stages(card, self.view.stage.nodes[key], self._changes.get(key), transfers)
        self.query_one("#card", Panel).set_title("node" if is_node else "scope", self._step_note())
        self.card.show(draw_card(card, self.palette, max(20, width), self._colours), home=True)

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
        self._mark_lines()

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

    def toggle_stages(self) -> None:
        """Show the list of stages in place of the tree, or the tree again."""
        self.remove_class("-full", "-plan")
        self.toggle_class("-stages")
        if self.has_class("-stages"):
            self._read_chain()
            self.stage_list.focus()
        else:
            self.drawing.focus()

    def toggle_program(self) -> None:
        """Show the program that the graph became in place of the tree, or the tree again."""
        self.remove_class("-full", "-stages")
        self.toggle_class("-plan")
        if self.has_class("-plan"):
            self._read_program()
            self.program.focus()
        else:
            self.drawing.focus()

    def compare(self) -> None:
        """Lay the stage over the one under the list's cursor, or the one before it; a second time, show it alone again."""
        view = self.view
        if view is None:
            return
        chosen = None
        if self.has_class("-stages") and self.chain:
            row = self.chain[self.stage_list.cursor].row
            chosen = row.id if row.id != view.row.id else None
        base = self.workbench.base_id
        if base is not None and chosen in (None, base):
            self.workbench.compare_with(None)
        elif chosen is not None or view.row.before_id is not None:
            self.workbench.compare_with(chosen if chosen is not None else view.row.before_id)
        else:
            self.app.notify("there is no stage before this one", timeout=2)

    def toggle_devices(self) -> None:
        """Colour by device, or by scope again."""
        if self.view is None:
            return
        self.by_device = not self.by_device
        self.set_class(self.by_device or self.view.diff is not None, "-legend")
        self.call_after_refresh(self._place)
        self.legend.refresh()

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
