"""What the Step screen looks at: the selected line in full, its source, the bar's marks, the places that rows lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from viz import format as fmt
from viz.detail_model import Detail, detail
from viz.draw_detail import draw_detail
from viz.draw_scrubber import Scrub
from viz.draw_step import draw_inputs, draw_source
from viz.flow_model import FrameNode
from viz.step_model import Activation, Source
from workbench.debugger.pages import MarkView, Page, Query
from workbench.debugger.plain import encode
from workbench.tui.screens.step_base import StepBase

_BUCKETS = 300


class StepLooking(StepBase):
    """Looking, which changes nothing in the step."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: tuple[MarkView, ...] = ()
        self._marking = False  # marks have been asked for
        self._marks_wanted = False
        self._detailing = False  # a detail has been asked for
        self._detail_wanted: Query | None = None
        self._run_line = False  # the source shown is that of Session.run

    # The bar.

    def show_scrubber(self) -> None:
        """Show where the step stands, and ask what is remarkable in its history."""
        step = self.step
        self.scrubber.show(Scrub(step.executed, step.future, step.first_row, self._marks))
        self._marks_wanted = True
        self._ask_marks()

    def _ask_marks(self) -> None:
        if self._marking or not self._marks_wanted or self.step.is_over:
            return
        self._marking, self._marks_wanted = True, False
        self.ask_page(Query("marks", count=_BUCKETS), self._marked)

    def _marked(self, page: Page) -> None:
        self._marking = False
        if page.ok:
            self._marks = page.marks
            step = self.step
            self.scrubber.show(Scrub(step.executed, step.future, step.first_row, self._marks))
        self._ask_marks()

    def to_mark(self, forward: bool) -> None:
        """Select what is remarkable next to the selected line."""
        here = self.rails.selected
        row = here[0] if here is not None and here[0] >= 0 else self.step.executed
        found = self.scrubber.scrub.next_mark(row, forward)
        if found is None:
            self.app.notify(f"nothing is marked {'after' if forward else 'before'} this", timeout=2)
        elif found >= self.step.executed:
            self.to_now()
        else:
            self.jump(found, "")

    # The selected line.

    def look_at_selected(self) -> None:
        """Ask for all about the selected line."""
        ready = self.rails.ready_at(self.rails.cursor)
        if ready is not None:
            self._want_detail("ready", "", ready.index)
            return
        row = self.rails.executed_at(self.rails.cursor)
        if row is not None:
            self._want_detail("execution", "", row.row)
        elif self.step.executed and not self.step.ready:
            self._want_detail("execution", "", self.step.executed - 1)

    def look_at_node(self, name: str) -> None:
        """Show all about a node's latest execution, or what it waits for."""
        self._want_detail("node", name, 0)

    def _want_detail(self, kind: str, text: str, start: int) -> None:
        self._detail_wanted = Query(kind, text, start)
        self._ask_detail()

    def _ask_detail(self) -> None:
        if self._detailing or self._detail_wanted is None:
            return
        query, self._detail_wanted = self._detail_wanted, None
        self._detailing = True
        self.ask_page(query, self._detailed)

    def _detailed(self, page: Page) -> None:
        self._detailing = False
        if page.ok and page.detail is not None:
            self.detail = detail(encode(page.detail))
            self.show_values(home=True)
        self._ask_detail()

    def show_values(self, home: bool = False) -> None:
        """Draw the selected execution and its source."""
        width = self.width_of(self.values)
        found = self.detail
        if found is not None:
            self.values.show(draw_detail(found, self.palette, width), home=home)
            self.panel("values").set_title("selected", _title(found))
        else:
            self.values.show(draw_inputs(self.step, self.palette, width))
            running = self.step.status == "running"
            self.panel("values").set_title("at the last stop" if running else "next and last")
        self.show_source_panel()

    # Source.

    @property
    def source_shown(self) -> Source | None:
        """The lines that are shown: those of the selected node, or those around Session.run."""
        found, step = self.detail, self.step
        run = (found.run_source if found is not None else None) or step.run_source
        if self._run_line:
            return run
        made = found.source if found is not None else step.source
        return made or run

    def show_source_panel(self) -> None:
        """Draw the source, in its panel and in its tab."""
        where = self.source_shown
        title = f"{where.file.rsplit('/', 1)[-1]}:{where.line}" if where is not None else ""
        note = title + (f" in {where.function}" if where is not None else "")
        self.panel("source").set_title("Session.run" if self._run_line else "source", note)
        if self.panel("source").display:
            height = max(1, self.source.size.height)
            self.source.show(draw_source(where, self.palette, self.width_of(self.source), height), home=True)
        self.tabs.source = where
        self.tabs.set_note("source", title)
        if self.tabs.current == "source":
            self.tabs.draw(self.step, self.palette)

    def show_source(self) -> None:
        """Show the line that made the selected node; again, that of Session.run; again, neither."""
        in_tab = not self.panel("source").display
        if in_tab and self.tabs.current != "source":
            self._run_line = False
            self.show_tab("source")
        elif not self._run_line:
            self._run_line = True
        else:
            self._run_line = False
            if in_tab:
                self.show_tab("source")
        self.show_source_panel()

    # Places.

    def jump(self, row: int, node: str) -> None:
        """Select an execution; where the history no longer has it, say what there is to say of the node."""
        if not self.history.first_row <= row < self.history.executed:
            if node:
                self.command(f"info {node}")
                self.look_at_node(node)
            return
        self.history.find(row, self.rails.move_to)
        self._want_detail("execution", "", row)

    def to_now(self) -> None:
        """Select what runs next."""
        self.rails.go_to_next()
        self.look_at_selected()

    def follow(self, key: Any) -> None:
        """Go where a row leads."""
        if isinstance(key, str) and key:
            self.command(f"info {key}")
            self.rails.select_ready(key)
            self.look_at_node(key)
        elif isinstance(key, tuple):
            kind = key[0]
            if kind == "execution":
                self.jump(key[1], key[2])
            elif kind == "command":
                self.ask(key[1])
            elif kind == "source":
                self._run_line = key[1] == "run"
                if not self.panel("source").display and self.tabs.current != "source":
                    self.show_tab("source")
                self.show_source_panel()
            elif kind == "break":
                self.switch_breakpoint(key[1])
            elif kind == "frame":
                self._to_frame(key[1])

    def _to_frame(self, number: int) -> None:
        """To the execution that entered a frame; from the panel, first to what is known of frames."""
        if self.tabs.current != "frames":
            self.show_tab("frames")
            return
        frame = next((each for each in _all_frames(self.step.frames) if each.id == number), None)
        if frame is not None and frame.begin_row >= 0:
            self.jump(frame.begin_row, "")

    @property
    def selected(self) -> Activation | None:
        """The activation under the cursor, or the next one."""
        here = self.rails.selected
        return here[1] if here is not None else self.step.next

    # Folding.

    def fold_selected(self, folded: bool | None) -> None:
        """Fold the loop of the selected line, or unfold it."""
        line = self.rails.cursor
        row = self.rails.executed_at(line)
        loop = row.loop if row is not None else ""
        if not loop or row is None:
            if folded is None:
                self.app.notify("the selected line is in no loop; F folds all", timeout=2)
            return
        folds = set(self.history.folds) - {"*"}
        if "*" in self.history.folds and folded is not True:
            folds |= {
                frame.name for frame in (*_all_frames(self.step.frames), *self.step.ended) if frame.name
            }
        is_folded = loop in folds or row.count > 1
        if folded is None:
            folded = not is_folded
        self._fold(sorted(folds | {loop} if folded else folds - {loop}), row.row)

    def fold_all(self) -> None:
        """Fold all loops, or unfold all."""
        here = self.rails.selected
        self._fold([] if self.history.folds else ["*"], here[0] if here is not None else -1)

    def _fold(self, folds: list[str], row: int) -> None:
        self.history.fold(folds)
        self.rails.recount(follow=row < 0)
        if row >= 0:
            self.history.find(row, self.rails.move_to)
        folded = "all loops folded" if "*" in folds else fmt.plural(len(folds), "loop") + " folded"
        self.app.notify(folded if folds else "nothing is folded", timeout=2)


def _title(found: Detail) -> str:
    if found.row >= 0:
        return f"#{fmt.count(found.row)}"
    return {"next": "runs next", "ready": "ready", "waiting": "waits"}.get(found.state, "")


def _all_frames(frames: Iterable[FrameNode]) -> Iterator[FrameNode]:
    """The frames and those inside them."""
    for frame in frames:
        yield frame
        yield from _all_frames(frame.children)
