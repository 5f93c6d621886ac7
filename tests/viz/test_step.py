"""The view of a stopped step, from plain data, and its drawings."""

from __future__ import annotations

from typing import Any

import pytest

from viz.cells import line_width
from viz.draw_flow import draw_frames
from viz.draw_step import (
    draw_inputs,
    draw_source,
    draw_text,
    draw_waiting,
    status_line,
)
from viz.palette import DARK
from viz.step_model import StepView, step_view


def activation(
    node: str, path: str = "root", frame: int = 0, iteration: int = 0, dead: bool = False
) -> dict[str, Any]:
    return {
        "node": node,
        "type": "Merge" if "Merge" in node else "Add",
        "device": "",
        "frame": frame,
        "path": path,
        "iteration": iteration,
        "dead": dead,
    }


def token(slot: int, name: str, state: str, text: str = "", **more: Any) -> dict[str, Any]:
    value = {"dtype": "float32", "shape": [], "text": text, "complete": "..." not in text, **more}
    return {"slot": slot, "name": name, "state": state, "value": value if state == "value" else None}


SNAPSHOT: dict[str, Any] = {
    "serial": 7,
    "status": "stopped",
    "script": "train.py",
    "reason": "breakpoint 1 at model/while/add",
    "step": {"id": 1, "session": 1, "step": 3, "stage": "pruned", "nodes": 40, "fetches": ["y:0"],
             "feeds": [], "targets": ["init"]},
    "executed": 12,
    "next": activation("model/while/add", "root > model/while:2", 1, 2),
    "next_inputs": [
        token(0, "model/while/Switch:1", "value", "2.5"),
        token(1, "big:0", "value", "[[1 2 ...", shape=[100, 100], minimum=-1.0, maximum=3.0, mean=0.5, nan=2),
        token(-1, "^init", "value"),
    ],
    "ready": [
        {"index": 0, "activation": activation("model/while/add", "root > model/while:2", 1, 2), "breakpoint": True},
        {"index": 1, "activation": activation("model/mul", dead=True)},
    ],
    "ready_count": 2,
    "waiting": [
        {
            "activation": activation("model/cond/Merge"),
            "inputs": [
                token(0, "model/mul:0", "dead"),
                token(1, "model/while/Exit:0", "missing"),
                token(2, "model/x:0", "value", "1.0"),
            ],
        }
    ],
    "waiting_count": 5,
    "frames": [
        {
            "id": 0,
            "name": "",
            "path": "root",
            "parent": -1,
            "parent_iteration": 0,
            "live": True,
            "iterations": [{"number": 0, "ready": 1, "waiting": 1}],
        },
        {
            "id": 1,
            "name": "model/while/while_context",
            "path": "root > model/while",
            "parent": 0,
            "parent_iteration": 0,
            "live": True,
            "iterations": [{"number": 1, "ready": 0, "waiting": 2}, {"number": 2, "ready": 1, "waiting": 0}],
            "iteration_count": 3,
        },
        {
            "id": 2,
            "name": "model/while/inner/while_context",
            "path": "root > model/while:1 > inner",
            "parent": 1,
            "parent_iteration": 1,
            "live": False,
            "iterations": [{"number": 0, "ready": 0, "waiting": 1}],
            "iteration_count": 1,
        },
    ],
    "last": {
        "row": 11,
        "activation": activation("model/while/Less", "root > model/while:2", 1, 2),
        "outputs": [token(0, "model/while/Less:0", "value", "True")],
        "duration_ns": 4200,
    },
    "history": [{"row": 11, "activation": activation("model/while/Less", "root > model/while:2", 1, 2), "outputs": []}],
    "source": {"file": "/home/me/train.py", "line": 12, "function": "body", "first": 5,
               "lines": [f"line {i}" for i in range(5, 20)]},
    "breakpoints": [{"number": 1, "node": "model/while/add", "iteration": None, "hits": 1}],
    "output": "hello\n",
    "can_undo": True,
}  # fmt: skip


@pytest.fixture
def view() -> StepView:
    return step_view(SNAPSHOT)


def test_the_view(view: StepView) -> None:
    assert view.next is not None
    assert view.next.where == "while:2"
    assert [row.activation.node for row in view.ready] == ["model/while/add", "model/mul"]
    assert [(t.slot, t.state) for t in view.waiting[0].inputs] == [(0, "dead"), (1, "missing"), (2, "value")]
    (root,) = view.frames
    assert [child.name for child in root.children] == ["model/while/while_context"]
    assert [child.name for child in root.children[0].children] == ["model/while/inner/while_context"]
    assert view.title == "session 1 · run 3 · pruned"
    assert view.fetches == ("y:0", "init")
    assert view.can_step
    assert not view.is_over


def test_an_empty_snapshot() -> None:
    view = step_view({})
    assert view.status == "waiting_for_run"
    for drawing in (draw_frames(view, DARK, 30), draw_inputs(view, DARK, 30), draw_waiting((), 0, DARK, 40)):
        assert len(drawing.rows()) == 1
    assert "waiting for its next Session.run" in "".join(t for t, _ in status_line(view, DARK, 80))


def test_the_real_schema_fits() -> None:
    """What the debugger really sends can be read: every field that the view needs is one of its fields."""
    from workbench.debugger.snapshot import from_dict, to_dict

    again = to_dict(from_dict(SNAPSHOT))
    assert step_view(again) == step_view(SNAPSHOT)


def test_frames_are_a_tree(view: StepView) -> None:
    assert draw_frames(view, DARK, 60).rows() == [
        " root  1 ready  1 waiting",
        "   model/while  3 iterations begun",
        "     · iteration 1  2 waiting",
        "       inner  1 iteration begun  dead so far",
        "         · iteration 0  1 waiting",
        "     ▸ iteration 2  1 ready",
    ]


def test_tokens_are_marked(view: StepView) -> None:
    rows = draw_waiting(view.waiting, view.waiting_count, DARK, 60).rows()
    assert rows == [
        " ◇ model/cond/Merge",
        "   ✗ 0 model/mul:0  dead  its branch was not taken",
        "   · 1 model/while/Exit:0  not yet",
        "   ✓ 2 model/x:0  float32[]  1.0",
        " and 4 more",
    ]
    assert draw_waiting(view.waiting, 1, DARK, 60).hits[1].key == "model/mul"


def test_values_say_what_matters_of_large_tensors(view: StepView) -> None:
    rows = draw_inputs(view, DARK, 78).rows()
    assert rows[0].startswith(" next  ∙ model/while/add  Add  ")
    assert rows[0].endswith("  while:2")
    assert rows[1] == "   ✓ 0 model/while/Switch:1  float32[]  2.5"
    assert rows[2] == "   ✓ 1 big:0  float32[100, 100]  -1 … 3, mean 0.5  2 NaN"
    assert rows[3] == "   ✓ ^ ^init"
    assert rows[5].startswith(" last  ∙ model/while/Less  Add")
    assert rows[5].endswith("while:2  4.20 µs")


@pytest.mark.parametrize("width", [16, 30, 40, 80])
def test_everything_fits(view: StepView, width: int) -> None:
    lines = [status_line(view, DARK, width)]
    for drawing in (
        draw_frames(view, DARK, width),
        draw_inputs(view, DARK, width),
        draw_waiting(view.waiting, 5, DARK, width),
        draw_source(view.source, DARK, width, 6),
        draw_text("x" * 200 + "\nshort", DARK.plain, width),
    ):
        lines += list(drawing.lines)
    assert all(line_width(line) <= width for line in lines)


@pytest.mark.parametrize("height", [1, 4, 9, 40])
def test_the_source_line_is_in_view(view: StepView, height: int) -> None:
    rows = draw_source(view.source, DARK, 40, height).rows()
    assert len(rows) == min(height, 15)
    assert sum("▸" in row for row in rows) == 1
    assert " 12 ▸ line 12" in rows
    assert (
        "cannot be read"
        in draw_source(step_view({"source": {"file": "f", "line": 1}}).source, DARK, 40, 5).rows()[0]
    )


def test_control_characters_do_not_reach_the_screen() -> None:
    assert draw_text("a\x1b[31mred\x07\tb", DARK.plain, 40).rows() == [" ared    b"]
    assert draw_text("\x1b]0;title\x07x\n 10%\r 99%\r\nend\n\n", DARK.plain, 40).rows() == [
        " x",
        "  99%",
        " end",
    ]
