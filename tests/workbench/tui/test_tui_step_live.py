"""The Step screen's list while a step runs, with several devices, and how little of it is drawn for a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from viz import draw_rails
from viz.palette import DARK
from workbench.debugger.pages import Page, SpanView
from workbench.debugger.snapshot import Status
from workbench.tui.app import WorkbenchApp
from workbench.tui.widgets import rail_list
from workbench.tui.widgets.strips import base_style

MANY = 100_000


@pytest.fixture
def running(debug: Any) -> Any:
    """A step that runs; its debugger says how far when it is asked: `executed`, and `first_row` is the oldest that is kept."""
    debug.spans = (SpanView(1, 1, 0, 0, -1),)
    debug.now_ns = 0
    debug.change(executed=1_000)
    told = debug._page

    def page(kind: str, text: str, start: int, count: int, folds: Any) -> Page:
        if kind != "live":
            return told(kind, text, start, count, folds)
        first, executed = debug.snapshot.first_row, debug.snapshot.executed
        found = told("rows", "", max(0, executed - first - count), count, folds)
        now = replace(debug.snapshot.ready[0].activation, node=f"while/now_{executed}")
        return replace(found, now=now, now_ns=debug.now_ns)

    debug._page = page
    return debug


async def test_the_list_follows_a_step_that_runs(running: Any, until: Any) -> None:
    app = WorkbenchApp(debug=running)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["1,000 executed", "999"])
        shown: Any = app.screen
        running.change(status=Status.RUNNING, executed=54_321)
        await until(pilot, ["54,321 executed · running", "running  while/now_54321", " 54320 ", "while:5432"])
        assert shown.rails.cursor == 54_321 and shown.rails.count == 54_322
        # One large kernel: nothing is executed, but it is seen for how long.
        running.now_ns = 2_500_000_000
        running.change()
        await until(pilot, ["while/now_54321  2.50 s"])
        running.change(executed=MANY)
        await until(pilot, ["100,000 executed", " 99999 ", "/s"])
        # A page of the end, however much has executed.
        assert max(count for kind, _, _, count in running.queries if kind in ("rows", "live")) <= 256
        running.change(status=Status.STOPPED, executed=MANY + 10, reason="paused")
        await until(pilot, ["paused", "100,010 executed · 3 ready", "100009"])
        assert shown.rails.cursor == MANY + 10


async def test_what_is_looked_at_stays_where_it_is_while_the_step_runs(
    running: Any, until: Any, screen: Any
) -> None:
    app = WorkbenchApp(debug=running)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["1,000 executed"])
        shown: Any = app.screen
        running.change(status=Status.RUNNING, executed=5_000)
        await until(pilot, [" 4999 "])
        shown.rails.move_to(3_000)
        await until(pilot, [" 3000 "])
        at = next(y for y, line in enumerate(screen(app)) if " 3000 " in line)
        running.change(executed=7_000, first_row=1_000)  # the oldest are let go
        await until(pilot, lambda: shown.history.first_row == 1_000 and shown.step.executed == 7_000)
        assert shown.rails.selected[0] == 3_000
        await until(pilot, lambda: " 3000 " in screen(app)[at])


async def test_a_key_draws_only_the_lines_that_are_new(
    running: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.change(executed=MANY)
    drawn: list[int] = []
    monkeypatch.setattr(
        rail_list,
        "draw_executed",
        lambda row, *rest, **more: (drawn.append(row.row), draw_rails.draw_executed(row, *rest, **more))[1],
    )
    app = WorkbenchApp(debug=running)
    async with app.run_test(size=(200, 60)) as pilot:
        await until(pilot, ["100,000 executed", " 99999 "])
        shown: Any = app.screen
        shown.rails.move_to(50_000)
        await until(pilot, [" 50000 ", " 50040 "])
        top = shown.rails.scroll_offset.y
        drawn.clear()
        await pilot.press("down")  # moves the cursor, and scrolls by a line if it was the last one
        await until(pilot, lambda: shown.rails.cursor == 50_001)
        await pilot.pause()
        assert len(set(drawn)) <= 2 + abs(shown.rails.scroll_offset.y - top) and drawn
        drawn.clear()
        running.change(message="looked at")  # another view of the same place
        await until(pilot, lambda: shown.step.message == "looked at")
        await pilot.pause()
        assert not drawn


async def test_kept_styles_are_those_of_the_theme(running: Any, until: Any) -> None:
    app = WorkbenchApp(debug=running)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["1,000 executed"])
        shown: Any = app.screen
        for _ in range(2):
            for widget in (shown.rails, shown.values, shown.status, shown.scrubber):
                assert base_style(widget) == widget.rich_style
            before = base_style(shown.rails)
            await pilot.press("d")
            await until(pilot, lambda before=before: base_style(shown.rails) != before)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_devices_have_rails_and_transfers_are_seen(
    debug: Any, size: tuple[int, int], until: Any, screen: Any
) -> None:
    """Three devices: one sends to another; the colours are those of the Devices screen."""
    debug.change(executed=20)
    before, told = debug.row_at, debug._page

    def row_at(row: int) -> Any:
        found = replace(before(row), lane=row % 3, device=row % 3, path="root", loop="", iteration=0)
        kinds = {18: ("_Send", 0, 2), 19: ("_Recv", 1, 0)}
        if row in kinds:
            kind, device, peer = kinds[row]
            found = replace(found, node=f"x/{kind}", type=kind, device=device, lane=device, peer=peer)
        return found

    debug.row_at = row_at
    debug._page = lambda kind, *rest: replace(
        told(kind, *rest), **({"devices": ("cpu:0", "cpu:1", "cpu:2"), "lanes": 3} if kind == "rows" else {})
    )
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["CPU:0  CPU:1  CPU:2", "•─┼─▸", "├─•"])
        assert any("18 •─┼─▸" in line for line in screen(app))
        assert any("19 ├─•" in line for line in screen(app))


def test_a_device_has_one_colour_and_frames_have_others() -> None:
    devices = [draw_rails.rail_style(DARK, lane, 3) for lane in range(3)]
    frames = [draw_rails.rail_style(DARK, lane, 3) for lane in range(3, 8)]
    assert devices == [DARK.hue(i) for i in range(3)]
    assert not set(devices) & set(frames)
