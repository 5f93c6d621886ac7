"""Pages that lie over a screen: the keys, and what the script printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from viz import format as fmt
from viz.cells import Drawing, Page
from viz.draw_step import draw_text
from viz.families import family
from viz.palette import Palette
from workbench.tui.actions import actions_of, key_name
from workbench.tui.widgets.drawing_view import DrawingView

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

# What each screen is, and the kinds of widgets on it that have keys of their own.
ABOUT = {
    "runs": "Every run directory in the log directory, the newest first; one that is being written moves as it grows.",
    "graph": (
        "The graph as a session runs it, one name scope at a time. Data flows down; dashed lines only order; a line with an "
        "arrow runs up, around a loop. The lines of the selected chip are lifted out: what it reads in one colour, what "
        "reads it in another. A click selects, a second one opens. A stage can be laid over an earlier one: + added, - removed, "
        "& merged into another, ~ rewritten, > moved to another device; the card says why, and where it was written. Beside it, "
        "the program that it became: a rail for each value from the line that makes it to the last that needs it, thick for a "
        "large one, then the memory in use; the lines of the selected node are marked, and the nodes of the list's line."
    ),
    "timeline": (
        "What ran when: a band for each device and thread, coloured by scope, as high as it was busy. Bars that are wide "
        "enough are drawn for themselves. A click selects a bar, the wheel zooms. Above the bands stand the loops: their "
        "frames, the iterations (░ held back), and how many iterations are under way, of at most parallel_iterations; "
        "∇ marks the backward loop of a gradient."
    ),
    "devices": (
        "The devices of a step: what ran on each, its memory (in use, peak, limit, the largest tensors alive) and its streams; "
        "below, what went through the rendezvous: ✓ received, ✗ a dead tensor, ● sent and not taken yet, … awaited. Of a "
        "script that is being stepped it is how things are now."
    ),
    "step": (
        "A script inside its Session.run, between two nodes. The list has what has executed (•), what runs next (▶) and what "
        "else is ready (○), beside a rail for each device and frame; ⊞ is a folded iteration, ▲ was changed by hand, △ descends "
        "from that, ✗ has a NaN or infinity, ✎ writes a variable, ● at the edge is a breakpoint. The bar above is the history: "
        "drag it, or move it with < and >; what is taken back can be had again. Beside: the selected line in full, then tabs; "
        "enter on a row there goes to what it names. Every command of : is explained by h COMMAND."
    ),
}
WIDGETS = {
    "runs": ("list",),
    "graph": ("chips", "tree", "list"),
    "timeline": ("list",),
    "devices": ("list",),
    "step": ("rails", "scrubber", "breaks", "answer", "command", "list"),
}
IN = {
    "list": "in a list",
    "tree": "in the tree",
    "chips": "in the drawing",
    "rails": "in the list of nodes",
    "scrubber": "on the bar of the history",
    "breaks": "in the list of breakpoints",
    "answer": "in an answer",
    "command": "in the command line",
}

MARKS = (
    ("▸", "scope: look inside with enter"),
    ("≡", "nodes that are named alike, drawn as one"),
    *(
        (family(op).mark, family(op).name)
        for op in ("VariableV2", "Assign", "Placeholder", "Const", "Switch", "MatMul")
    ),
    *((family(op).mark, family(op).name) for op in ("Add", "Sum", "Reshape", "RandomUniform", "Print")),
)


class Overlay(ModalScreen[None]):
    """A page over a screen; escape, or the key that opened it, closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,v,enter", "dismiss_page", show=False),
    ]
    DEFAULT_CSS = """
    Overlay {
        align: center middle;
        background: $background 60%;
        & #page {
            width: 90%; max-width: 96; height: 90%; max-height: 44;
            background: $surface; border: round $panel; padding: 0 1;
        }
        & #page > .title { height: 1; color: $foreground; text-style: bold; }
        & #page DrawingView { height: 1fr; }
    }
    """

    def __init__(self, title: str, draw: Callable[[Palette, int], Drawing], *, live: bool = False) -> None:
        super().__init__()
        self._title_text = title
        self._draw_page = draw
        self._live = live
        self._last: list[str] = []
        self.view = DrawingView()

    def compose(self) -> ComposeResult:
        with Vertical(id="page", classes="surface"):
            yield Static(self._title_text, classes="title", markup=False)
            yield self.view

    def on_mount(self) -> None:
        self.view.focus()
        if self._live:
            self.set_interval(0.25, self.show_page)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_page)

    def show_page(self) -> None:
        """Draw the page, staying at its end if it is live."""
        width = self.view.scrollable_content_region.width
        if width <= 0:
            return
        app = cast("WorkbenchApp", self.app)
        drawing = self._draw_page(app.palette, width)
        rows = drawing.rows()
        if rows == self._last:
            return
        at_end = self.view.scroll_offset.y >= self.view.max_scroll_y - 1
        first = not self._last
        self._last = rows
        self.view.show(drawing)
        if self._live and (at_end or first):
            self.call_after_refresh(self.view.scroll_end, animate=False)

    def action_dismiss_page(self) -> None:
        self.dismiss(None)


def help_page(where: str) -> Callable[[Palette, int], Drawing]:
    """The page of keys for a screen, from the table of actions."""

    def draw(palette: Palette, width: int) -> Drawing:
        page = Page(width)
        page.words(ABOUT.get(where, ""), palette.plain)
        sections = [(f"on this screen ({where})", where), ("everywhere", "app")]
        sections += [(IN[kind], kind) for kind in WIDGETS.get(where, ())]
        for title, kind in sections:
            page.blank()
            page.add((" " + title, palette.title))
            for action in actions_of(kind):
                keys = " ".join(dict.fromkeys(key_name(key) for key in action.key.split(",")))
                page.add(
                    (f"  {fmt.pad(keys, 12)}", palette.style(palette.accent)), (action.help, palette.plain)
                )
        if where in ("graph", "step"):
            page.blank()
            page.add((" marks", palette.title))
            for mark, meaning in dict.fromkeys(MARKS):
                page.add((f"  {fmt.pad(mark, 12)}", palette.style(palette.accent)), (meaning, palette.plain))
        return page.drawing()

    return draw


def output_page(text: Callable[[], str], ended: Callable[[], str]) -> Callable[[Palette, int], Drawing]:
    """The page of a script's output, with how it ended."""

    def draw(palette: Palette, width: int) -> Drawing:
        shown = text()
        drawing = draw_text(shown, palette.plain, width) if shown.strip() else None
        page = Page(width)
        if drawing is None:
            page.add((" it has not printed anything", palette.dim))
        else:
            page.lines += list(drawing.lines)
        how = ended()
        if how:
            page.blank()
            colour = palette.bad if "status 0" not in how else palette.muted
            page.add((" " + how, palette.style(colour, bold=True)))
        return page.drawing()

    return draw
