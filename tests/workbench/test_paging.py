"""Pages of a step's history against the history itself, wherever the step has been in between, folded and not."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from debug_fronts import Quiet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as tf
from workbench.debugger.core import Debugger
from workbench.debugger.frame_notes import path
from workbench.debugger.pages import Page, RowView
from workbench.debugger.paging import Paging
from workbench.debugger.stepping import Stepping

pytestmark = pytest.mark.usefixtures("as_written")


class Reader:
    """A front end that keeps what pages said, as the screen does: what an edition leaves as it was is not asked for again."""

    def __init__(self, paging: Paging, folds: tuple[str, ...]) -> None:
        self.paging, self.folds = paging, folds
        self.rows: dict[int, RowView] = {}
        self.edition = 0
        self.lines = 0

    def read(self, stepping: Stepping, size: int) -> list[RowView]:
        """All lines, of which only those are asked for that are not known any more."""
        page = self._ask(stepping, 0, 0)
        line = 0
        while line < page.lines:
            if (
                line not in self.rows or line == self.lines - 1
            ):  # the last one of a folded loop may have grown
                self._ask(stepping, line, size)
            line += 1
        self.lines = page.lines
        self.rows = {line: row for line, row in self.rows.items() if line < page.lines}
        return [self.rows[line] for line in range(page.lines)]

    def _ask(self, stepping: Stepping, start: int, count: int) -> Page:
        page = self.paging.page(stepping, start, count, self.folds, self.edition)
        if page.edition != self.edition:
            self.rows = {line: row for line, row in self.rows.items() if line < page.stable}
            self.edition = page.edition
        self.rows.update({page.start + index: row for index, row in enumerate(page.rows)})
        return page


def expected(stepping: Stepping, folds: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Row, count and place of each line, from the history."""
    found: list[list[Any]] = []
    before: Any = None
    for entry in stepping.history:
        _, frame, number = entry.activation
        group = None
        at, iteration = frame, number
        while at.parent is not None:
            if at.name in folds or "*" in folds:
                group = (at.id, iteration, path(at, iteration))
            at, iteration = at.parent, at.parent_iteration
        if group is not None and group == before:
            found[-1][1] += 1
        else:
            found.append([entry.row, 1, path(frame, number)])
        if group is not None:
            found[-1][2] = group[2] if found[-1][1] > 1 else found[-1][2]
        before = group
    return [(row, count, place) for row, count, place in found]


class Script(Quiet):
    """The front of a debugger whose step a test moves itself: `work` is called at the second step's stop."""

    def __init__(self, work: Any) -> None:
        self.work = work
        self.problem: BaseException | None = None
        self.done = False

    def stopped(self, debugger: Debugger) -> None:
        if self.done:
            return
        self.done = True
        try:
            self.work(debugger)
        except BaseException as error:
            self.problem = error

    def command(self, debugger: Debugger) -> str:
        return "c"


def step_of(work: Any) -> None:
    """Call `work(debugger)` where a step of nested loops and a cond stands at its beginning."""
    front = Script(work)
    with tf.Graph().as_default():
        w = tf.Variable(2.0, name="w")

        def inner(i: Any, v: Any) -> Any:
            return tf.while_loop(lambda j, u: j < 3, lambda j, u: (j + 1, u * 1.5), [0, v], name="inner")[1]

        def body(i: Any, v: Any) -> Any:
            return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: inner(i, v), lambda: -v)

        y = tf.while_loop(lambda i, v: i < 5, body, [0, tf.constant(1.0)], name="outer")[1]
        more = tf.assign_add(w, 1.0, name="more")
        with tf.Session() as session:
            session.run(w.initializer)
            debugger = Debugger(front)
            with debugger.installed():
                session.run([y, more])
    if front.problem is not None:
        raise front.problem


MOVES = st.lists(
    st.tuples(st.sampled_from(["n", "n", "back", "redo", "other"]), st.integers(1, 60)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES, size=st.integers(5, 40), kept=st.sampled_from([0, 40]))
def test_pages_are_the_history_wherever_the_step_has_been(
    moves: list[tuple[str, int]], size: int, kept: int
) -> None:
    def work(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        if kept:
            stepping.budget(kept, 1 << 30)
        paging, other = Paging(), Paging()
        names = sorted({loop for loop in stepping.loops})
        readers = [Reader(paging, ()), Reader(other, ("*",)), Reader(Paging(), tuple(names[:1]))]
        for move, count in moves:
            for _ in range(count):
                if move == "back" and stepping.history:
                    stepping.back()
                elif move == "redo" and stepping.future:
                    stepping.redo()
                elif move == "other" and len(stepping.ready) > 1:
                    last = stepping.ready[-1]
                    stepping.prefer(lambda each, last=last: each == last)  # type: ignore[misc]  # bound now
                    stepping.execute()
                elif move == "n" and stepping.ready:
                    stepping.execute()
            for reader in readers:
                rows = reader.read(stepping, size)
                wanted = expected(stepping, reader.folds)
                assert [(row.row, row.count) for row in rows] == [each[:2] for each in wanted]
                for row, (_, _, place) in zip(rows, wanted, strict=True):
                    entry = stepping.entry_at(row.row)
                    assert entry is not None and row.path == place
                    if row.count == 1:
                        assert row.node == entry.activation.name and row.dead == (entry.outputs is None)

    step_of(work)


def test_frames_have_rails_of_their_own_while_they_are_open() -> None:
    def work(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        while stepping.ready:
            stepping.execute()
        page = Paging().page(stepping, 0, 256, (), 0)
        spans = {span.frame: span for span in page.spans}
        assert page.devices and page.lanes >= 3
        for row in page.rows:
            entry = stepping.entry_at(row.row)
            assert entry is not None
            frame = entry.activation.frame
            assert (row.lane == 0) is (frame.parent is None)
            if frame.parent is not None:
                span = spans[frame.id]
                assert (
                    row.lane == span.lane and span.begin <= row.row and (span.end < 0 or row.row <= span.end)
                )
        for one in page.spans:
            for two in page.spans:
                if one.frame < two.frame and one.lane == two.lane:
                    assert one.end < two.begin or two.end < one.begin

    step_of(work)


def test_marks_and_links() -> None:
    def work(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        paging = Paging()
        while stepping.ready:
            stepping.execute()
            if stepping.executed == 30:
                paging.stopped(stepping, "breakpoint 1 at x")
        marks = paging.marks(stepping, 10_000).marks
        written = [entry.row for entry in stepping.history if entry.activation.name == "more"]
        assert [mark.row for mark in marks if mark.kind == "write"] == written
        assert [mark.row for mark in marks if mark.kind == "hit"] == [30]
        assert len(paging.marks(stepping, 1).marks) <= 4
        for _ in range(len(stepping.history)):
            stepping.back()
        assert paging.marks(stepping, 100).marks == ()

    step_of(work)


def test_pages_may_be_asked_for_while_the_step_goes_on() -> None:
    def work(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        paging, problems = Paging(), []

        def look() -> None:
            try:
                for start in range(0, 2_000, 7):
                    page = paging.page(stepping, start % 200, 64, ("*",) if start % 2 else (), 0)
                    assert page.ok and [row.row for row in page.rows] == sorted(row.row for row in page.rows)
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(10):
            while stepping.ready:
                stepping.execute()
            while stepping.history:
                stepping.back()
        thread.join(100)
        assert problems == [] and not thread.is_alive()

    step_of(work)
