"""What waits, frames, resources, why a node is dead, source, breakpoints, the last answer: one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.message import Message

from viz import format as fmt
from viz.cells import Drawing, Hit, Line, Page
from viz.draw_breaks import draw_breaks
from viz.draw_flow import draw_frame_facts, draw_frames, draw_resources, draw_way
from viz.draw_reasoning import draw_reasoning
from viz.draw_schedule import DRAWERS
from viz.draw_step import draw_source, draw_waiting
from viz.palette import Palette
from viz.schedule_model import PairView
from viz.step_model import Source, StepView
from workbench.debugger import pages
from workbench.tui.actions import bindings
from workbench.tui.widgets.drawing_view import DrawingView
from workbench.tui.widgets.drawn_rows import DrawnRows
from workbench.tui.widgets.tabs import Tab, Tabs

_LEAST = 16  # cells that are drawn for before there is a width
NO_ANSWER = (
    "Nothing was asked yet: a asks about the selected node, and R, N and X about races, NaNs and schedules."
)


Told = pages.Told | PairView


class AnswerRows(DrawnRows):
    """An answer; what its keys are for is asked for with `Wanted`."""

    BINDINGS = bindings("answer")

    class Wanted(Message):
        """`what` ("both", "replay", "first", "second", "node", "before") is wanted of a row.

        `key` is what the row leads to, `head` the race, order or outcome that it is a part of, None if of none.
        """

        def __init__(self, what: str, key: Any, head: tuple[str, int] | None) -> None:
            super().__init__()
            self.what = what
            self.key = key
            self.head = head

    _HEADS = ("race", "order", "outcome")

    def want(self, what: str) -> None:
        """Say that something is wanted of the row under the cursor."""
        self.post_message(self.Wanted(what, self.key_at(self.cursor), self.head))

    def show(self, drawing: Drawing, *, home: bool = False) -> None:
        """Show another drawing; `home` puts the cursor on the first line that leads somewhere."""
        super().show(drawing, home=home)
        if home and drawing.hits:
            self.move_to(min(hit.row for hit in drawing.hits))
            self.call_after_refresh(self._to_top)

    def _to_top(self) -> None:
        """What stands above the first line that leads somewhere belongs to it."""
        self.scroll_to(0, 0, animate=False, force=True)
        self.show_row(self.cursor)

    @property
    def head(self) -> tuple[str, int] | None:
        """What the row under the cursor is a part of; above all of them, the first."""
        heads = [
            (hit.row, hit.key)
            for hit in self.drawing.hits
            if isinstance(hit.key, tuple) and hit.key[0] in self._HEADS
        ]
        above = [key for row, key in heads if row <= self.cursor]
        found = above[-1] if above else heads[0][1] if heads else None
        return (found[0], found[1]) if found is not None else None


class BreakRows(DrawnRows):
    """The breakpoints; `switch` and `delete` are called with the number of the one under the cursor."""

    BINDINGS = bindings("breaks")

    def __init__(self, switch: Callable[[int], None], delete: Callable[[int], None]) -> None:
        super().__init__()
        self._switch, self._delete = switch, delete

    @property
    def number(self) -> int | None:
        """The breakpoint under the cursor."""
        key = self.key_at(self.cursor)
        return key[1] if isinstance(key, tuple) and key[0] == "break" else None

    def switch(self) -> None:
        """Let it stop no more, or again."""
        if self.number is not None:
            self._switch(self.number)

    def delete(self) -> None:
        """Delete it."""
        if self.number is not None:
            self._delete(self.number)


class StepTabs(Tabs):
    """Draws the tab that is shown.  `source` and `answer` are what those tabs show."""

    def __init__(
        self, switch: Callable[[int], None], delete: Callable[[int], None], *, id: str | None = None
    ) -> None:
        self.waiting, self.source_view = DrawingView(), DrawingView()
        self.breaks = BreakRows(switch, delete)
        self.flow: dict[str, DrawnRows] = {name: DrawnRows() for name in ("frames", "stacks", "why")}
        self.flow["answer"] = AnswerRows()
        self.source: Source | None = None
        self.answer: Told | None = None
        super().__init__(
            Tab("waiting", "", self.waiting),
            Tab("frames", "f", self.flow["frames"]),
            Tab("stacks", "t", self.flow["stacks"]),
            Tab("why", "w", self.flow["why"]),
            Tab("breaks", "B", self.breaks),
            Tab("source", "l", self.source_view),
            Tab("answer", "A", self.flow["answer"]),
            id=id,
        )

    def draw(self, step: StepView, palette: Palette, *, home: bool = False) -> None:
        """Show `step`; `home` goes to the first row."""
        self.set_note("waiting", fmt.count(step.waiting_count) if step.waiting_count else "")
        self.set_note("breaks", fmt.count(len(step.breakpoints)) if step.breakpoints else "")
        width = max(_LEAST, self.shown.scrollable_content_region.width or self.size.width)
        shown = self.shown
        if isinstance(shown, DrawnRows | DrawingView):
            shown.show(self._drawing(step, palette, width), home=home)

    def _drawing(self, step: StepView, palette: Palette, width: int) -> Drawing:
        if self.current == "waiting":
            return draw_waiting(step.waiting, step.waiting_count, palette, width)
        if self.current == "source":
            return _source(self.source, palette, width, max(2, self.source_view.size.height))
        if self.current == "answer":
            return _answer(self.answer, palette, width)
        if self.current == "frames":
            return _frames(step, palette, width)
        return {"stacks": draw_resources, "why": draw_way, "breaks": draw_breaks}[self.current](
            step, palette, width
        )


def _answer(answer: Told | None, palette: Palette, width: int) -> Drawing:
    if answer is not None:
        return DRAWERS.get(type(answer), draw_reasoning)(answer, palette, width)
    page = Page(width)
    page.words(NO_ANSWER, palette.dim)
    return page.drawing()


def _source(source: Source | None, palette: Palette, width: int, height: int) -> Drawing:
    """Where it is, and the lines around it."""
    lines = draw_source(source, palette, width, height - 1)
    if source is None:
        return lines
    place = f" {source.file.rsplit('/', 1)[-1]}:{source.line}"
    title: Line = [(place, palette.style(palette.accent)), (f" in {source.function}", palette.dim)]
    return Drawing([title, *lines.lines], (), width)


def _frames(step: StepView, palette: Palette, width: int) -> Drawing:
    """The tree of the open frames, then the facts about each."""
    tree, facts = draw_frames(step, palette, width), draw_frame_facts(step, palette, width)
    if not any(frame.children for frame in step.frames) and not step.ended:
        return tree
    shift = tree.height + 1
    hits = [*tree.hits, *(Hit(hit.row + shift, hit.start, hit.end, hit.key) for hit in facts.hits)]
    return Drawing([*tree.lines, [], *facts.lines], hits, width)
