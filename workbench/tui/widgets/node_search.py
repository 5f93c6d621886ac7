"""A line to type words into, and the nodes that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from engine.passes.stage import Stage
from viz import format as fmt
from viz.cells import Line, line_width, spread
from viz.families import family
from viz.search import search
from workbench.tui.widgets.row_list import RowList

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


class NodeSearch(Vertical):
    """Searches a stage as words are typed; up and down go through the results from the line as well."""

    DEFAULT_CSS = """
    NodeSearch {
        & Input { height: 1; border: none; padding: 0 1; background: $panel; &:focus { border: none; } }
    }
    """

    class Chosen(Message):
        """A node was chosen."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stage: Stage | None = None
        self._found: list[str] = []
        self._results = RowList(self._draw)
        self._input = Input(placeholder="words of a name or a type, e.g. dense matmul")

    def compose(self) -> ComposeResult:
        yield self._input
        yield self._results

    def open(self, stage: Stage) -> None:
        """Search `stage` from now on, and take the keyboard."""
        self._stage = stage
        self._input.focus()
        self._find(self._input.value)

    def redraw(self) -> None:
        """The colours are others now."""
        self._results.redraw()

    def on_key(self, event: events.Key) -> None:
        if self._input.has_focus and event.key in ("down", "up"):
            event.stop()
            self._results.move(1 if event.key == "down" else -1)

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        self._find(message.value)

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self._choose(self._results.cursor)

    @on(RowList.Chosen)
    def _result_chosen(self, message: RowList.Chosen) -> None:
        message.stop()
        self._choose(message.index)

    @on(RowList.Highlighted)
    def _moved(self, message: RowList.Highlighted) -> None:
        message.stop()

    def _choose(self, index: int) -> None:
        if index < len(self._found):
            self.post_message(self.Chosen(self._found[index]))

    def _find(self, query: str) -> None:
        self._found = search(self._stage, query) if self._stage is not None else []
        self._results.set_empty("no node has all of these words in its name or type" if query.strip() else "")
        self._results.set_count(len(self._found), cursor=0)

    def _draw(self, index: int, width: int) -> Line:
        assert self._stage is not None
        palette = cast("WorkbenchApp", self.app).palette
        name = self._found[index]
        node = self._stage.nodes[name]
        kind = family(node.type)
        path, _, leaf = name.rpartition("/")
        right = fmt.tensor(node.output_dtypes[0], node.output_shapes[0]) if node.output_dtypes else ""
        line: Line = [(f" {kind.mark} ", palette.style(palette.hue(kind.hue))), (leaf, palette.plain)]
        if not leaf.startswith(node.type):
            line.append((f"  {node.type}", palette.quiet))
        room = width - line_width(line) - len(right) - 6
        if path and room > 5:
            line.append((f"  in {fmt.shorten_name(path, room)}", palette.dim))
        return spread(line, [(right + " ", palette.dim)], width)
