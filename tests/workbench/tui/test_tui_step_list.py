"""The Step screen's list over a long history, its bar, folding, and how it stands being resized, hurried and left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workbench.debugger.pages import MarkView, SpanView
from workbench.debugger.snapshot import ErrorView, FrameView, IterationView, Status
from workbench.tui.app import WorkbenchApp

MANY = 100_000


@pytest.fixture
def long(debug: Any) -> Any:
    """A step that has executed 100,000 nodes of a loop."""
    debug.spans = (SpanView(1, 1, 0, 0, -1),)
    ready = tuple(
        replace(row, activation=replace(row.activation, frame=1, path="root > while:10000"))
        for row in debug.snapshot.ready
    )
    root = debug.snapshot.frames[0]
    loop = FrameView(
        1, "while/frame", "root > while", 0, 0, True, (IterationView(10_000, 3, 1),), 10_001, begin_row=0
    )
    debug.change(executed=MANY, ready=ready, next=ready[0].activation, frames=(root, loop))
    return debug


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_a_long_history_is_one_scroll(
    long: Any, size: tuple[int, int], screen: Any, until: Any
) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["100,000 executed", "3 ready", "▶", "99999"])
        shown: Any = app.screen
        assert shown.rails.count == MANY + 3 and shown.rails.cursor == MANY
        await pilot.press("home")
        await until(pilot, ["node_1 ", "while:0"])
        assert any(row.startswith("      0 ") for row in screen(app))
        await pilot.press("end")
        await until(pilot, lambda: shown.rails.cursor == MANY + 2)
        shown.rails.move_to(54_321)
        await until(pilot, [" 54321 ", "while:5432" if size[0] > 100 else "while:5"])
        if size[0] > 100:
            assert any("float32[] 54321" in row for row in screen(app))
        # Of 100,000 lines only some pages were asked for, none of them large.
        asked = [count for kind, _, _, count in long.queries if kind == "rows"]
        assert len(asked) < 60 and max(asked) <= 256
        await pilot.press("y")
        await until(pilot, lambda: shown.rails.cursor == MANY)


async def test_scrolling_is_never_late(long: Any, until: Any) -> None:
    """Pages come late, or not at all: the keys go on, and what has not come says so."""
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed", "99999"])
        shown: Any = app.screen
        long.held = []
        shown.rails.move_to(50_000)
        before = shown.rails.cursor
        for _ in range(60):
            shown.rails.move_page(-1)
            await pilot.pause()  # which is not held up
            assert shown.rails.cursor < before
            before = shown.rails.cursor
        await until(pilot, ["┊ …"])
        assert (
            len([page for _, page in long.held if page.rows]) <= 3
        )  # what was scrolled past was not asked for
        held, long.held = long.held, None
        for future, page in held:
            future.set_result(page)
        await until(pilot, lambda: not any("┊ …" in row for row in _rows(app)))


def _rows(app: Any) -> list[str]:
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


async def test_loops_are_folded(long: Any, until: Any) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed"])
        shown: Any = app.screen
        shown.rails.move_to(MANY - 5)
        await until(pilot, [" 99995 "])
        await pilot.press("left")
        await until(pilot, ["folded", "while:9999  10 nodes", "⊞"])
        assert shown.history.folds == ("while/frame",) and shown.rails.count == MANY // 10 + 3
        await pilot.press("enter")  # a folded line opens
        await until(pilot, lambda: shown.rails.count == MANY + 3)
        await pilot.press("F")
        await until(pilot, lambda: shown.rails.count == MANY // 10 + 3)
        assert shown.history.folds == ("*",)
        await pilot.press("F")
        await until(pilot, lambda: shown.rails.count == MANY + 3)


async def test_the_bar_is_dragged_and_moved_with_keys(long: Any, until: Any) -> None:
    long.marks = (MarkView(25_000, "hit"), MarkView(60_000, "write"), MarkView(75_000, "change"))
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed", "✎", "▲"])
        shown: Any = app.screen
        bar = shown.scrubber
        y = bar.region.y
        await pilot.mouse_down(offset=(60, y))
        await pilot.hover(offset=(30, y))
        await until(pilot, lambda: 20_000 < bar.scrub.at < 35_000)
        at = bar.scrub.at
        # While it is dragged, the list is there already; the step has not moved yet.
        assert shown.rails.cursor == at and not any(line.startswith("goto") for line in long.lines)
        await pilot.mouse_up(offset=(30, y))
        await pilot.pause()
        assert long.lines[-1] == f"goto {at}"
        long.change(executed=at, future=MANY - at)
        await until(pilot, lambda: shown.step.executed == at)
        await until(pilot, lambda: shown.rails.count == at + 3)
        await pilot.press("greater_than_sign")
        await pilot.pause()
        assert long.lines[-1] == f"goto {at + MANY // 50}"
        bar.focus()
        await pilot.press("left")
        await pilot.pause()
        assert long.lines[-1] == f"goto {at - MANY // 100}"
        await pilot.press("end")
        await pilot.pause()
        assert long.lines[-1] == f"goto {MANY}"


async def test_marks_can_be_gone_through(long: Any, until: Any) -> None:
    long.marks = (MarkView(25_000, "hit"), MarkView(60_000, "write"))
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed", "✎"])
        shown: Any = app.screen
        for key, row in (("{", 60_000), ("{", 25_000), ("}", 60_000)):
            await pilot.press({"{": "left_curly_bracket", "}": "right_curly_bracket"}[key])
            await until(pilot, lambda row=row: shown.rails.cursor == row)
        await pilot.press("m")
        await pilot.pause()
        assert long.lines == ["goto 60000"]


async def test_a_ready_node_is_chosen(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("down", "down", "m")
        await pilot.pause()
        assert debug.lines == ["choose c"]


async def test_it_is_laid_out_anew_when_it_is_resized(long: Any, until: Any) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(200, 60)) as pilot:
        await until(pilot, ["source", "frames", "waiting", "train.py:3"])
        shown: Any = app.screen
        assert shown.has_class("-huge")
        middle, right = shown.query_one("#middle").region, shown.query_one("#right").region
        assert middle.right <= right.x  # side by side
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not shown.has_class("-huge") and not shown.has_class("-tall"))
        await until(
            pilot, lambda: shown.query_one("#middle").region.bottom <= shown.query_one("#right").region.y
        )
        assert not shown.query_one("#source").display
        assert shown.rails.size.height > 10
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        await pilot.press("up", "down", "y")
        await pilot.resize_terminal(200, 60)
        await until(pilot, ["source", "frames", "▶", "100,000 executed"])


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.DETACHED])
async def test_a_script_that_ends_while_one_looks(long: Any, status: Status, until: Any) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed"])
        shown: Any = app.screen
        shown.rails.move_to(40_000)
        await until(pilot, [" 40000 "])
        error = ErrorView("ValueError", "no data", "ValueError: no data") if status is Status.FAILED else None
        long.change(status=status, error=error, exit_code=0, ready=(), ready_count=0, next=None)
        await until(pilot, lambda: shown.step.is_over)
        # What was seen can be seen still.
        assert any(" 40000 " in row for row in _rows(app))
        for key in (
            "up",
            "pageup",
            "home",
            "end",
            "F",
            "left",
            "m",
            "e",
            "escape",
            "a",
            "escape",
            "y",
            "n",
            "u",
            "less_than_sign",
        ):
            await pilot.press(key)
        await pilot.pause()
        if error is not None:
            await until(pilot, ["ValueError: no data"])


async def test_another_step_begins_with_another_list(long: Any, until: Any) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["100,000 executed"])
        shown: Any = app.screen
        step = replace(long.snapshot.step, step=2)
        long.change(step=step, executed=0, reason="Session.run begins")
        await until(pilot, lambda: shown.rails.count == 3 and shown.rails.cursor == 0)
        long.edition += 1
        long.change(executed=20)
        await until(pilot, ["20 executed", "19 │ • ∙ while/node_9"])


async def test_what_was_taken_back_is_not_shown_as_it_was(long: Any, until: Any) -> None:
    app = WorkbenchApp(debug=long)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["99999", "while/node_9"])
        long.change(executed=MANY - 5, future=5)
        await until(pilot, lambda: not any("99999" in row and "node_9" in row for row in _rows(app)))
        # Another way from there: the same numbers, other nodes.
        before = long.row_at
        long.row_at = lambda row: (
            replace(before(row), node=f"other_{row % 10}") if row >= MANY - 5 else before(row)
        )
        long.edition += 1
        long.change(executed=MANY, future=0)
        await until(pilot, ["99999", "other_9", "while/node_4"])
