"""History: the lines of a step's history that the screen has seen, asked for in pages when somebody looks at them.

Nothing here waits: a line that has not come is None, and `changed` is called when more have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from viz.rails_model import Cell, rails
from workbench.debugger.pages import Page, RowView, SpanView

SIZE = 128  # lines of a page
KEPT = 64  # pages
IN_FLIGHT = 2  # pages that have been asked for and have not come
WANTED = 3  # that are to be asked for next; older wishes are forgotten


class Ask(Protocol):
    """How pages are asked for; `done` is called on the screen's own thread."""

    def __call__(
        self,
        done: Callable[[Page], None],
        kind: str,
        text: str = "",
        start: int = 0,
        count: int = 0,
        folds: Sequence[str] = (),
        edition: int = 0,
    ) -> None: ...


class History:
    """The history of the step that is looked at.

    - `lines` is how many there are; `executed`, `first_row` as in `workbench.debugger.pages.Page`.
    - `folds`: the loops (names of frames; ``*``: all) whose iterations are one line each.
    """

    def __init__(self, ask: Ask, changed: Callable[[], None]) -> None:
        self._ask = ask
        self._changed = changed
        self.lines = 0
        self.executed = 0
        self.first_row = 0
        self.lanes = 1
        self.devices: tuple[str, ...] = ("",)
        self.folds: tuple[str, ...] = ()
        self._edition = 0
        self._asking = 0  # grows when what is under way is of no use any more
        self._pages: OrderedDict[int, dict[int, RowView]] = OrderedDict()
        self._spans: dict[int, tuple[SpanView, ...]] = {}
        self._open: tuple[SpanView, ...] = ()
        self._cells: dict[int, Sequence[Cell]] = {}
        self._wanted: list[int] = []
        self._under_way: set[int] = set()
        self._stale: set[int] = set()  # pages that are shown as they are until they have come again

    # Looking.

    def row(self, line: int) -> RowView | None:
        """A line, or None if it is still to come; then it has been asked for."""
        number = line // SIZE
        page = self._pages.get(number)
        found = page.get(line) if page is not None else None
        if found is None or number in self._stale:
            self._want(number)
        if page is not None:
            self._pages.move_to_end(number)
        return found

    def known(self, line: int) -> RowView | None:
        """A line, if it is there; it is not asked for."""
        return self._pages.get(line // SIZE, {}).get(line)

    def cells(self, line: int) -> Sequence[Cell]:
        """The rails beside a line that is there."""
        found = self._cells.get(line)
        row = self.known(line)
        if found is None and row is not None:
            spans = self._spans.get(line // SIZE, ())
            found = rails(row.row, row.row + row.count, row.lane, spans, self.lanes, len(self.devices))
            self._cells[line] = found
        return found or ()

    def coming(self, frame: int, device: str) -> Sequence[Cell]:
        """The rails beside what is to come in a frame and on a device."""
        lane = next((span.lane for span in self._open if span.frame == frame), -1)
        if lane < 0:
            short = device.lower().rpartition("/")[2].removeprefix("device:")
            lane = self.devices.index(short) if short in self.devices else 0
        return rails(
            self.executed, self.executed + 1, lane, self._open, self.lanes, max(1, len(self.devices))
        )

    def line_of(self, row: int) -> int:
        """The line that execution `row` is on, as far as is known: exact unless something is folded."""
        if not self.folds:
            return max(0, min(self.lines - 1, row - self.first_row))
        before = -1
        for page in self._pages.values():
            for line, each in page.items():
                if each.row <= row < each.row + each.count:
                    return line
                if each.row <= row:
                    before = max(before, line)
        if before >= 0:
            return before
        span = max(1, self.executed - self.first_row)
        return max(0, min(self.lines - 1, (row - self.first_row) * self.lines // span))

    def find(self, row: int, found: Callable[[int], None]) -> None:
        """Call `found` with the line that execution `row` is on: at once, unless something is folded."""
        if not self.folds:
            found(self.line_of(row))
            return
        asking = self._asking

        def came(page: Page) -> None:
            if asking == self._asking and page.ok:
                self._take(page.start // SIZE, page)
                found(self.line_of(row))

        self._ask(came, "rows", str(row), count=SIZE, folds=self.folds, edition=self._edition)

    # Changing.

    def moved(self, executed: int, first_row: int, *, another: bool = False) -> None:
        """The step stands elsewhere: `executed` have been.  `another`: it is another step."""
        if another or first_row != self.first_row:
            self.forget()
        if executed == self.executed and not another:
            return
        grown = executed > self.executed
        before = self.lines
        self.executed, self.first_row = executed, first_row
        if not self.folds:
            self.lines = max(0, executed - first_row)
        if not grown:
            self._cut_rows(executed)
        # What else has changed is told with the page that is asked for now.
        end = max(0, min(before, self.lines) - 1) // SIZE  # the last line of a folded loop grows
        self._stale.update(number for number in self._pages if number >= end)
        self.refresh()

    def refresh(self) -> None:
        """Ask for the end of the history again."""
        self._want(max(0, (self.lines - 1) // SIZE))

    def forget(self) -> None:
        """All lines are others now."""
        self._asking += 1
        self._pages.clear()
        self._spans.clear()
        self._cells.clear()
        self._stale.clear()
        self._wanted.clear()
        self._under_way.clear()
        self._open = ()
        self._edition = 0

    def fold(self, folds: Sequence[str]) -> None:
        """Let the iterations of these loops be a line each."""
        self.folds = tuple(sorted(set(folds)))
        self.forget()
        if not self.folds:
            self.lines = max(0, self.executed - self.first_row)
        self.refresh()

    def _cut_rows(self, executed: int) -> None:
        """Executions from `executed` on are not there any more."""
        for page in self._pages.values():
            for line in [line for line, row in page.items() if row.row >= executed]:
                del page[line]
                self._cells.pop(line, None)

    def _cut_lines(self, first: int) -> None:
        for page in self._pages.values():
            for line in [line for line in page if line >= first]:
                del page[line]
        self._cells = {line: cells for line, cells in self._cells.items() if line < first}

    # Asking.

    def _want(self, number: int) -> None:
        if number in self._under_way:
            return
        if number in self._wanted:
            self._wanted.remove(number)
        self._wanted.append(number)
        del self._wanted[:-WANTED]
        self._go_on()

    def _go_on(self) -> None:
        while self._wanted and len(self._under_way) < IN_FLIGHT:
            number, asking = self._wanted.pop(), self._asking
            self._under_way.add(number)
            self._stale.discard(number)
            self._ask(
                lambda page, number=number, asking=asking: self._came(number, asking, page),  # type: ignore[misc]  # bound now
                "rows",
                start=number * SIZE,
                count=SIZE,
                folds=self.folds,
                edition=self._edition,
            )

    def _came(self, number: int, asking: int, page: Page) -> None:
        if asking != self._asking:
            return
        self._under_way.discard(number)
        if page.ok:
            self._take(number, page)
        self._go_on()

    def _take(self, number: int, page: Page) -> None:
        if page.edition != self._edition:
            self._cut_lines(page.stable)
            self._stale.update(each for each in self._pages if (each + 1) * SIZE > page.stable)
            self._edition = page.edition
        if page.lanes != self.lanes or page.devices != self.devices:
            self.lanes, self.devices = page.lanes, page.devices or ("",)
            self._cells.clear()
        if self.folds:
            self.lines = page.lines
        rows = {page.start + index: row for index, row in enumerate(page.rows) if row.row < self.executed}
        for line in range(number * SIZE, (number + 1) * SIZE):
            self._cells.pop(line, None)
        if page.start == number * SIZE:
            self._pages[number] = rows
            self._spans[number] = page.spans
            self._pages.move_to_end(number)
        self._stale.discard(number)
        if page.start + len(page.rows) >= page.lines:
            self._open = tuple(span for span in page.spans if span.end < 0)
        while len(self._pages) > KEPT:
            old, _ = self._pages.popitem(last=False)
            self._spans.pop(old, None)
            for line in range(old * SIZE, (old + 1) * SIZE):
                self._cells.pop(line, None)
        self._changed()


def settle(future: Future[Any], done: Callable[[Any], None]) -> None:
    """Call `done` with what a future gives, in whatever thread that is."""
    future.add_done_callback(lambda found: done(found.result()))
