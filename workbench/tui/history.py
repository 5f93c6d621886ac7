"""History: the lines of a step's history that the screen has seen, asked for in pages when somebody looks at them.

Nothing here waits: a line that has not come is None, and `changed` is called when more have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from viz.rails_model import Cell, rails
from workbench.debugger.pages import Page, Query, RowView, SpanView
from workbench.debugger.places import short_device

SIZE = 128  # lines of a page
KEPT = 64  # pages
IN_FLIGHT = 2  # pages that have been asked for and have not come
WANTED = 3  # that are to be asked for next; older wishes are forgotten


Ask = Callable[[Query, Callable[[Page], None]], None]  # `done` is called on the screen's own thread


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
        self.edition = 0
        self._asking = 0  # grows when what is under way is of no use any more
        # All of these by place: the row of an execution, so that they stay where they are when the oldest are let go; the line
        # where something is folded.
        self._pages: OrderedDict[int, dict[int, RowView]] = OrderedDict()
        self._spans: dict[int, tuple[SpanView, ...]] = {}
        self._open: tuple[SpanView, ...] = ()
        self._cells: dict[int, Sequence[Cell]] = {}
        self._wanted: list[int] = []
        self._under_way: set[int] = set()
        self._stale: set[int] = set()  # pages that are shown as they are until they have come again

    # Looking.

    @property
    def base(self) -> int:
        """The place of line 0."""
        return 0 if self.folds else self.first_row

    def row(self, line: int) -> RowView | None:
        """A line, or None if it is still to come; then it has been asked for."""
        place = line + self.base
        number = place // SIZE
        page = self._pages.get(number)
        found = page.get(place) if page is not None else None
        if found is None or number in self._stale:
            self._want(number)
        if page is not None:
            self._pages.move_to_end(number)
        return found

    def known(self, line: int) -> RowView | None:
        """A line, if it is there; it is not asked for."""
        place = line + self.base
        return self._pages.get(place // SIZE, {}).get(place)

    def cells(self, line: int) -> Sequence[Cell]:
        """The rails beside a line that is there."""
        place = line + self.base
        found = self._cells.get(place)
        row = self.known(line)
        if found is None and row is not None:
            spans = self._spans.get(place // SIZE, ())
            ends = (row.device, row.peer) if row.type == "_Send" else (row.peer, row.device)
            moves = (*ends, row.type == "_Send") if row.peer >= 0 else None
            devices = len(self.devices)
            found = rails(row.row, row.row + row.count, row.lane, spans, self.lanes, devices, moves)
            self._cells[place] = found
        return found or ()

    def coming(self, frame: int, device: str) -> Sequence[Cell]:
        """The rails beside what is to come in a frame and on a device."""
        lane = next((span.lane for span in self._open if span.frame == frame), -1)
        if lane < 0:
            lane = self.number_of(device)
        return rails(
            self.executed, self.executed + 1, lane, self._open, self.lanes, max(1, len(self.devices))
        )

    def number_of(self, device: str) -> int:
        """Which of the devices that is."""
        short = short_device(device)
        return self.devices.index(short) if short in self.devices else 0

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
                self._take(page)
                self._changed()
                found(self.line_of(row))

        self._ask(Query("rows", str(row), count=SIZE, folds=self.folds, edition=self.edition), came)

    # Changing.

    def moved(self, executed: int, first_row: int, *, another: bool = False) -> None:
        """The step stands elsewhere: `executed` have been.  `another`: it is another step."""
        if another or (first_row != self.first_row and self.folds) or first_row < self.first_row:
            self.forget()
        if executed == self.executed and first_row == self.first_row and not another:
            return
        before, fewer = self.lines, executed < self.executed
        self._count(executed, first_row)
        if fewer:
            self._cut_rows(executed)
        if self.folds:
            end = max(0, min(before, self.lines) - 1) // SIZE  # the last line of a folded loop grows
            self._stale.update(number for number in self._pages if number >= end)
        # What else has changed is told with the page that is asked for now.
        self.refresh()

    def _count(self, executed: int, first_row: int) -> None:
        self.executed, self.first_row = executed, first_row
        if not self.folds:
            self.lines = max(0, executed - first_row)
            for number in [each for each in self._pages if (each + 1) * SIZE <= first_row]:
                self._let_go(number)

    def went_on(self, page: Page) -> None:
        """The step runs, and these are the last of its lines now; whoever says so shows them."""
        if not page.ok or page.executed < self.executed:
            return
        if page.first_row != self.first_row and self.folds:
            self.forget()
        self._count(page.executed, page.first_row)
        self._take(page)

    def refresh(self) -> None:
        """Ask for the end of the history again."""
        self._want(max(0, self.lines - 1 + self.base) // SIZE)

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
        self.edition = 0

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
            for place in [place for place, row in page.items() if row.row >= executed]:
                del page[place]
                self._cells.pop(place, None)

    def _cut(self, first: int) -> None:
        """What is at the place `first` and after it is not what it was."""
        for page in self._pages.values():
            for place in [place for place in page if place >= first]:
                del page[place]
        self._cells = {place: cells for place, cells in self._cells.items() if place < first}

    def _let_go(self, number: int) -> None:
        del self._pages[number]
        self._spans.pop(number, None)
        self._stale.discard(number)
        for place in range(number * SIZE, (number + 1) * SIZE):
            self._cells.pop(place, None)

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
            begin = max(self.base, self._missing(number))
            self._stale.discard(number)
            self._ask(
                Query(
                    "rows",
                    start=begin - self.base,
                    count=(number + 1) * SIZE - begin,
                    folds=self.folds,
                    edition=self.edition,
                ),
                lambda page, number=number, asking=asking: self._came(number, asking, page),  # type: ignore[misc]  # bound now
            )

    def _missing(self, number: int) -> int:
        """The first place of a page that is not known; the last line is asked for again with what is around it."""
        place, page = number * SIZE, self._pages.get(number)
        if page is None or number in self._stale:
            return place
        end = min((number + 1) * SIZE, self.lines + self.base) - 1
        while place < end and place in page:
            place += 1
        return place

    def _came(self, number: int, asking: int, page: Page) -> None:
        if asking != self._asking:
            return
        self._under_way.discard(number)
        if page.ok:
            self._take(page)
            self._changed()
        self._go_on()

    def _take(self, page: Page) -> None:
        base = 0 if self.folds else page.first_row
        if page.edition != self.edition:
            stable = page.stable + base
            self._cut(stable)
            self._stale.update(each for each in self._pages if (each + 1) * SIZE > stable)
            self.edition = page.edition
        if page.lanes != self.lanes or page.devices != self.devices:
            self.lanes, self.devices = page.lanes, page.devices or ("",)
            self._cells.clear()
        if self.folds:
            self.lines = page.lines
        numbers = {}
        for place, row in enumerate(page.rows, page.start + base):
            if row.row < self.executed:
                number = place // SIZE
                self._pages.setdefault(number, {})[place] = row
                self._cells.pop(place, None)
                numbers[number] = True
        for number in numbers:
            spans = {span.frame: span for span in (*self._spans.get(number, ()), *page.spans)}
            self._spans[number] = tuple(spans.values())
            self._pages.move_to_end(number)
            if page.start + base <= number * SIZE:
                self._stale.discard(number)
        if page.start + len(page.rows) >= page.lines:
            self._open = tuple(span for span in page.spans if span.end < 0)
        while len(self._pages) > KEPT:
            self._let_go(next(iter(self._pages)))


def settle(future: Future[Any], done: Callable[[Any], None]) -> None:
    """Call `done` with what a future gives, in whatever thread that is."""
    future.add_done_callback(lambda found: done(found.result()))
