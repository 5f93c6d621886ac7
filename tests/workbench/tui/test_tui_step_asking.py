"""The Step screen's command line, questions, breakpoints, and dialogs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workbench.debugger.commands import COMMANDS
from workbench.debugger.pages import DetailView, HistogramView, TensorView
from workbench.debugger.questions.reasoning import Reason, Reasoning
from workbench.debugger.snapshot import (
    BreakpointView,
    ExecutedView,
    LogView,
    SourceView,
    TokenState,
    TokenView,
    ValueSummary,
)
from workbench.tui.app import WorkbenchApp
from workbench.tui.completing import Past, explained, place_of, words

WHY = Reasoning(
    "why not sum",
    "sum waits for 1 input",
    (
        Reason(
            "right:0 has not come", 0, "right", "Add", "root", -1, "train.py:2", "right = f(x)", root=True
        ),
        Reason("a has executed", 1, "a", "Add", "root", 0),
    ),
)


def test_every_command_is_completed_and_explained() -> None:
    for command in COMMANDS:
        assert command.name in words(place_of(command.name[:1]))
        usage, says = explained(command.name + " ")
        assert usage == command.usage and says and command.help.startswith(says)
        assert command.name in words(place_of(f"h {command.name[:1]}"))
    assert words(place_of("o f")) == ["frame", "function"]
    assert "overrides" in words(place_of("info o")) and "writes-first" in words(place_of("schedule w"))
    assert place_of("b while/a").names and place_of("p add:").word == "add:" and not place_of("n 1").names
    assert place_of('b x if tensor("lo').word == "lo"


def test_the_past() -> None:
    past = Past()
    for line in ("n", "b while/add", "c", "c", "p add"):
        past.add(line)
    assert past.lines == ["n", "b while/add", "c", "p add"]
    assert [past.go(-1, "draft") for _ in range(5)] == ["p add", "c", "b while/add", "n", None]
    assert [past.go(1, "") for _ in range(5)] == ["b while/add", "c", "p add", "draft", None]
    assert (
        past.search("add") == "p add"
        and past.search("add", 1) == "b while/add"
        and past.search("add", 2) is None
    )


async def test_the_command_line_completes(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("colon", *"un")
        await until(pilot, ["until", "WHERE"])
        await pilot.press("tab")
        shown: Any = app.screen
        await until(pilot, lambda: shown.line.input.value.startswith("until"))
        await pilot.press(*("backspace",) * 12, *"p", "space", *"add")
        await until(pilot, ["while/add", "while/add_1", "p TENSOR"])
        await pilot.press("tab")
        await until(pilot, lambda: shown.line.input.value == "p while/add")
        await pilot.press("tab")
        await until(pilot, lambda: shown.line.input.value == "p while/add_1")
        await pilot.press("shift+tab", "enter")
        await until(pilot, lambda: debug.lines == ["p while/add"])
        assert shown.focused is shown.rails and not shown.line.display


async def test_the_command_line_remembers(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        for line in ("info a", "w"):
            await pilot.press("colon", *("space" if each == " " else each for each in line), "enter")
        shown: Any = app.screen
        await pilot.press("colon", "up", "up")
        await until(pilot, lambda: shown.line.input.value == "info a")
        await pilot.press("down", "down")
        await until(pilot, lambda: shown.line.input.value == "")
        await pilot.press("ctrl+r", *"inf")
        await until(pilot, ["search info a"])
        await pilot.press("enter")
        await until(pilot, lambda: shown.line.input.value == "info a")
        await pilot.press("enter")
        await pilot.pause()
        assert debug.lines == ["info a", "w", "info a"]
        await pilot.press("colon", "ctrl+r", "escape", "escape")  # out of the search, then out of the line
        await until(pilot, lambda: not shown.line.display)


async def test_an_answer_is_a_list_that_leads_to_places(debug: Any, until: Any, find: Any) -> None:
    first = debug.snapshot.ready[0].activation
    debug.change(history=(ExecutedView(0, first, ()),), last=ExecutedView(0, first, ()), executed=1)
    debug.reasonings["why not sum"] = WHY
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("colon", *"why", "space", *"not", "space", *"sum", "enter")
        await until(pilot, ["sum waits for 1 input", "◆ right:0 has not come", "right = f(x)"])
        shown: Any = app.screen
        assert shown.tabs.current == "answer" and shown.focused is shown.tabs.flow["answer"]
        await pilot.press("end", "enter")
        await until(pilot, lambda: shown.rails.cursor == 0)  # where a has executed
        await pilot.press("home", "down", "down", "enter")
        await until(pilot, lambda: debug.lines == ["info right"])
        assert ("node", "right", 0, 0) in debug.queries


async def test_a_schedule_in_an_answer_is_ready_to_be_replayed(debug: Any, until: Any) -> None:
    debug.reasonings["explore"] = Reasoning(
        "explore", "2 outcomes", (Reason("1 time: schedule replay 9c:1.0-2"),)
    )
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("X")
        await until(pilot, ["2 outcomes"])
        await pilot.press("end", "enter")
        shown: Any = app.screen
        await until(pilot, lambda: shown.line.input.value == "schedule replay 9c:1.0-2")


async def test_a_question_that_cannot_be_answered_says_why(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("N")
        await until(pilot, ["answer  to origin", "nothing is known of that"])


async def test_questions_are_chosen_from_a_list(debug: Any, until: Any) -> None:
    debug.reasonings["why not b"] = WHY
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("down", "a")
        await until(pilot, ["Ask about b", "who wrote", "explore"])
        await pilot.press("down", "enter")
        await until(pilot, ["sum waits for 1 input"])
        await pilot.press("P")
        await until(pilot, ["Who chooses among the ready nodes", "writes-first"])
        await pilot.press("down", "enter")
        await pilot.pause()
        assert debug.lines == ["schedule random"]


async def test_a_value_is_checked_before_it_is_sent(debug: Any, until: Any) -> None:
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("down", "e")
        await until(pilot, ["Override a value", "b:0"])
        await pilot.press(*"abc")
        await until(pilot, ["✗ it is float32, and the value is strings"])
        await pilot.press("enter")
        await pilot.pause()
        assert debug.lines == []  # what does not fit is not sent
        await pilot.press(*("backspace",) * 3, "1")
        await until(pilot, ["✓ float32[] 1.0"])
        await pilot.press("enter")
        await until(pilot, lambda: debug.lines == ["set b:0 = 1"])
        await pilot.press("e", "escape")
        await until(pilot, lambda: app.screen.where == "step")


async def test_breakpoints_have_a_list(debug: Any, until: Any) -> None:
    debug.change(
        breakpoints=(
            BreakpointView(1, "while/add", 900, hits=2),
            BreakpointView(2, "loss", condition="has_inf_or_nan", enabled=False),
            BreakpointView(3, "w", kind="watch", log="new", problem="there is no 'new' here"),
        ),
        logged=(LogView(3, 0, "w", "2.5"),),
        logged_count=1,
    )
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["3 ready"])
        await pilot.press("B")
        await until(
            pilot,
            [
                "● 1  while/add if iteration >= 900",
                "2 hits",
                "○ 2  loss if has_inf_or_nan",
                "watch w log new",
                "no 'new'",
                "2.5",
            ],
        )
        await pilot.press("space", "down", "space", "delete")
        await pilot.pause()
        assert debug.lines == ["disable 1", "enable 2", "d 2"]


async def test_the_selected_execution_is_shown_in_full(debug: Any, until: Any, find: Any) -> None:
    here = debug.snapshot.ready[0].activation
    value = ValueSummary("float32", (100,), "[1 …]", False, -1.0, 4.0, 0.25, nan=3, inf=1)
    tensor = TensorView(
        TokenView(0, "x:0", TokenState.VALUE, value, tainted="#2"), HistogramView((1, 5, 2), -1.0, 4.0), 7
    )
    source = SourceView("train.py", 3, "<module>", 2, ("", "y = tf.add(a, b)"))
    run = SourceView("main.py", 9, "<module>", 9, ("session.run(y)",))
    debug.details["ready", 0] = DetailView(
        -1, "next", here, (tensor,), source=source, run_source=run, lineage="optimized/cse: same as b"
    )
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(
            pilot,
            [
                "next  ∙ a",
                "made train.py:3",
                "x:0",
                "3 NaN",
                "1 Inf",
                "-1 … 4  mean 0.25",
                "#7",
                "optimized/cse",
                "run  main.py:9",
            ],
        )
        await until(pilot, ["3 ▸ y = tf.add(a, b)"])
        await pilot.press("l")  # there is a panel for it: the key shows the line of Session.run
        await until(pilot, ["Session.run  main.py:9", "9 ▸ session.run(y)"])
        await pilot.press("l")
        await until(pilot, ["source  train.py:3"])
        await pilot.click(offset=find(app, "run  main.py:9"))
        await until(pilot, ["9 ▸ session.run(y)"])


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_changes_and_errors_stand_out(debug: Any, size: tuple[int, int], until: Any) -> None:
    first = debug.snapshot.ready[0].activation
    changed = ExecutedView(0, first, (), change="set a:0 = 5.0", tainted="#0")
    after = ExecutedView(1, replace(first, node="b"), (), tainted="#0")
    dead = ExecutedView(2, replace(first, node="gone", dead=True), ())
    debug.change(history=(changed, after, dead), last=dead, executed=3)
    app = WorkbenchApp(debug=debug)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["▲ set a:0 = 5.0", "△ ∙ b", "· ∙ gone dead", "▶ ∙ a"])
