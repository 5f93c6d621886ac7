"""The Step screen's lists of races, orders and outcomes: they lead to places, are laid side by side, and replay schedules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from viz.schedule_model import (
    AccessView,
    Difference,
    ExplorationView,
    OrderView,
    OutcomeView,
    PairView,
    RaceList,
    RaceView,
    Result,
    ShownRace,
)
from workbench.debugger.client import DebugClient
from workbench.debugger.pages import Page
from workbench.debugger.questions.reasoning import Reason, Reasoning
from workbench.debugger.snapshot import ExecutedView
from workbench.tui.app import WorkbenchApp

BUGS = Path(__file__).parents[3] / "workbench" / "examples" / "bugs"

READ = AccessView("b", "Identity", where="train.py:3", file="train.py", line=3, code="y = tf.add(a, b)")
MORE = AccessView("more", "AssignAdd", "adds to", True, where="train.py:4", code="more = tf.assign_add(w, 1)")
RACE = RaceView(
    1, "w", "variable", READ, MORE, why=("no data or control edge leads from b to more, or back",)
)
OTHER = replace(
    RACE, number=2, resource="bias", first=replace(READ, node="done", row=0, place="root", iteration=0)
)
TWO, FIVE = (
    OutcomeView("9c9c9c9c:", (Result("w", "2."),)),
    OutcomeView("9c9c9c9c:0.1", (Result("w", "5."),), differences=(Difference("w", "2.", "5."),)),
)
EIGHT = OutcomeView(
    "9c9c9c9c:0.2",
    error="NotFoundError in more",
    differences=(Difference("", "the step ends", "NotFoundError in more"),),
)
SHOWN = ShownRace(RACE, OrderView("b", "more", TWO), OrderView("more", "b", FIVE), FIVE.differences)
EXPLORED = ExplorationView(
    (replace(TWO, count=3), FIVE, EIGHT), 3, 5, orders=6, accesses=4, executions=99, seconds=0.25,
    pair=PairView(TWO, FIVE, ("b", "more"), FIVE.differences),
)  # fmt: skip


@pytest.fixture
def racing(debug: Any) -> Any:
    """A step that races; one of its nodes has executed."""
    done = replace(debug.snapshot.ready[0].activation, node="done")
    debug.change(history=(ExecutedView(0, done, ()),), last=ExecutedView(0, done, ()), executed=1)
    debug.told["races"] = Page(0, True, races=RaceList((RACE, OTHER), 2))
    debug.told["races show 1"] = Page(0, True, shown=SHOWN)
    debug.told["explore"] = Page(0, True, exploration=EXPLORED)
    return debug


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_races_are_a_list_that_leads_to_nodes(racing: Any, size: tuple[int, int], until: Any) -> None:
    app = WorkbenchApp(debug=racing)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["3 ready"])
        shown: Any = app.screen
        await pilot.press("R")
        await until(pilot, ["2 races", "◆ 1  w  variable", "reads", "adds to", "train.py:3", "not yet"])
        answer = shown.tabs.flow["answer"]
        assert shown.focused is answer and answer.key_at(answer.cursor) == ("race", 1)
        await pilot.press("down", "enter")  # b, which is ready
        await until(pilot, lambda: racing.lines == ["info b"])
        assert shown.rails.selected[1].node == "b" and ("node", "b", 0, 0) in racing.queries
        there = next(hit.row for hit in answer.drawing.hits if hit.key == ("execution", 0, "done"))
        await pilot.press(
            *("down",) * (there - answer.cursor), "enter"
        )  # the other race's node, which has executed
        await until(
            pilot, lambda: shown.rails.selected[:1] == (0,) and shown.rails.selected[1].node == "done"
        )
        assert ("execution", "", 0, 0) in racing.queries


async def test_a_race_is_laid_side_by_side_and_replayed(racing: Any, until: Any) -> None:
    app = WorkbenchApp(debug=racing)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        shown: Any = app.screen
        await pilot.press("R")
        await until(pilot, ["2 races"])
        await pilot.press("enter")
        await until(pilot, ["races show 1", "1 value differs", "( b, then more", ") more, then b", "≠ w"])
        await until(pilot, ["2.", "5."])
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: racing.lines == ["schedule replay 9c9c9c9c:0.1"])
        await pilot.press("space")  # the cursor is on the first order
        await until(pilot, lambda: racing.lines[1:] == ["schedule replay 9c9c9c9c:"])
        await pilot.press("enter")
        await until(pilot, lambda: shown.line.input.value == "schedule replay 9c9c9c9c:")
        await pilot.press("escape", "A", "A")
        shown.tabs.flow["answer"].focus()
        await pilot.press("backspace")
        await until(pilot, ["2 races"])
        await pilot.press("left_parenthesis")  # from the list: both are run first
        await until(pilot, ["races show 1"])
        await until(pilot, lambda: racing.lines[2:] == ["schedule replay 9c9c9c9c:"])


async def test_outcomes_are_held_against_the_first_and_replayed(racing: Any, until: Any) -> None:
    app = WorkbenchApp(debug=racing)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("X")
        await until(
            pilot,
            [
                "3 outcomes of all 6 schedules",
                "● 1  3 schedules",
                "≠ w = 5.",
                "NotFoundError in more",
                "the smallest difference: b before more",
            ],
        )
        await pilot.press("down", "down", "down", "down", "space")
        await until(pilot, lambda: racing.lines == ["schedule replay 9c9c9c9c:0.2"])
        await pilot.press("equals_sign")
        await until(
            pilot, ["two schedules", "outcomes 1 and 3", "( outcome 1", "≠ the step", "NotFoundError in more"]
        )
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: racing.lines[1:] == ["schedule replay 9c9c9c9c:0.2"])
        await pilot.press("backspace", "left_parenthesis")  # of an exploration: the two that differ least
        await until(pilot, lambda: racing.lines[2:] == ["schedule replay 9c9c9c9c:"])


async def test_a_step_that_has_gone_another_way_is_taken_back_first(
    racing: Any, reply: Any, until: Any
) -> None:
    app = WorkbenchApp(debug=racing)
    line = "schedule replay 9c9c9c9c:0.1"
    racing.answers[line] = reply(False, "the step has executed 1 node in another order")
    racing.answers["e-"] = reply(True, "the step begins here")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("R")
        await until(pilot, ["2 races"])
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: racing.lines == [line, "e-", line])
        racing.answers["e-"] = reply(False, "the history begins at #7")
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: racing.lines[3:] == [line, "e-"])
        await until(pilot, ["the history begins at #7"])


async def test_keys_that_make_no_sense_say_so(racing: Any, until: Any) -> None:
    racing.told["explore"] = Page(0, True, exploration=ExplorationView((TWO,), 1, 1, orders=24))
    racing.told["races"] = Page(0, True, races=RaceList())
    racing.reasonings["origin"] = Reasoning(
        "origin", "b is not finite", (Reason("b made it", node="b", root=True),)
    )
    app = WorkbenchApp(debug=racing)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        for key, says in (("R", "no races"), ("X", "all 24 schedules agree"), ("N", "b is not finite")):
            await pilot.press(key)
            await until(pilot, [says])
            await pilot.press("equals_sign", "space", "left_parenthesis", "right_parenthesis", "g")
        await pilot.press("backspace", "backspace", "backspace", "backspace")
        await until(pilot, ["no races"])
        assert [line for line in racing.lines if not line.startswith("schedule replay 9c9c9c9c:")] == []


async def test_a_real_race_is_found_shown_and_replayed(until: Any) -> None:
    with DebugClient.launch(BUGS / "unordered_assigns.py") as client:
        client.wait_for_stop(30)
        client.command("r", 30)
        client.command("n 6", 30)
        app = WorkbenchApp(debug=client)
        async with app.run_test(size=(120, 36)) as pilot:
            await until(pilot, ["6 executed"])
            await pilot.press("R")
            await until(pilot, ["2 races", "◆ 1  counter  variable", "unordered_assigns.py:10"])
            await pilot.press("right_parenthesis")
            await until(pilot, ["1 value differs", "increment, then counter/read", "≠ counter"])
            await until(
                pilot, lambda: client.snapshot.executed == 0
            )  # taken back to where any schedule can be replayed
            await pilot.press("c")
            await until(pilot, lambda: client.snapshot.step is not None and client.snapshot.executed == 8)
            client.command("back", 30)
            names = [each.activation.node for each in client.snapshot.history]
            assert names.index("increment") < names.index("counter/read")
