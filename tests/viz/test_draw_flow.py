"""Frames, resources and ways of dead tokens of a stopped step, from plain data, and their drawings."""

from __future__ import annotations

from typing import Any

import pytest

from viz.cells import line_width
from viz.draw_flow import draw_frame_facts, draw_frames, draw_resources, draw_way
from viz.palette import DARK
from viz.step_model import StepView, step_view

pytestmark = pytest.mark.usefixtures("as_written")

ENTERS = [
    {"node": "loop/Enter", "row": 12, "dead": False, "constant": False},
    {"node": "loop/Less/Enter", "row": 14, "dead": True, "constant": True},
]
LOOP = {
    "id": 1, "name": "loop/while_context", "path": "root > loop", "parent": 0, "parent_iteration": 0, "live": True,
    "iterations": [{"number": 1, "ready": 1, "waiting": 2}], "iteration_count": 2, "ended_count": 1,
    "enters": ENTERS, "enter_count": 9, "begin_row": 12, "end_row": -1, "limit": 1, "deferred_count": 1, "held": 2,
    "most_under_way": 1, "made_at": "train.py:7", "made_by": "tf.while_loop(", "gradient_of": "",
}  # fmt: skip
FLOAT = {"dtype": "float32", "shape": [], "text": "1.5", "complete": True}
LARGE = {
    "dtype": "float32", "shape": [9, 9], "text": "[[1 ...", "complete": False, "minimum": 0.0, "maximum": 2.0, "nan": 3,
}  # fmt: skip
BY = {"row": 40, "node": "push", "path": "root > loop:1"}
PLACE = {"node": "loop/Sin", "type": "Sin", "path": "root > loop:1", "row": 44}
SNAPSHOT: dict[str, Any] = {
    "status": "stopped",
    "frames": [
        {"id": 0, "name": "", "path": "root", "parent": -1, "live": True, "iterations": [{"number": 0}]},
        LOOP,
    ],
    "ended": [{**LOOP, "id": 2, "live": False, "end_row": 30, "held": -1, "gradient_of": "model/loop", "iterations": []}],
    "ended_count": 3,
    "resources": [
        {"name": "grad/f_acc/0/0", "kind": "stack", "size": 14, "keeps": ["loop/even:0"], "readers": ["pop"],
         "original": "loop/Merge", "made_at": "train.py:9",
         "elements": [{"index": 13, "value": FLOAT, "by": BY}, {"index": 12, "value": LARGE, "by": None}]},
        {"name": "rows/0/0", "kind": "tensor array", "size": 2, "elements": [{"index": 0, "value": None, "by": BY}]},
        {"name": "w", "kind": "variable", "value": FLOAT, "by": BY},
        {"name": "b", "kind": "variable"},
    ],
    "resource_count": 9,
    "way": {
        "asked": PLACE,
        "killer": {**PLACE, "node": "loop/Switch", "type": "Switch", "note": "pred:0 was True: output 0 is dead"},
        "chain": [PLACE],
        "stops": [{**PLACE, "node": "loop/Merge", "type": "Merge", "row": 50, "note": "alive: another of its inputs was"}],
    },
}  # fmt: skip


@pytest.fixture
def view() -> StepView:
    return step_view(SNAPSHOT)


def test_an_iteration_that_is_held_back_stands_in_the_tree(view: StepView) -> None:
    assert draw_frames(view, DARK, 60).rows() == [
        " root",
        "   loop  2 iterations begun, 1 held back",
        "     · iteration 1  1 ready  2 waiting",
        "     ◦ iteration 2  held back: 1 under way",
        " 3 frames ended",
    ]


def test_how_frames_were_entered(view: StepView) -> None:
    drawing = draw_frame_facts(view, DARK, 50)
    rows = drawing.rows()
    assert rows[:10] == [
        " loop                                       #12 –",
        "   entered    from the root",
        "   by         loop/Enter                      #12",
        "   invariants loop/Less/Enter           dead  #14",
        "              and 7 more",
        "   made at    train.py:7  tf.while_loop(",
        "   iterations 2 begun, 1 ended",
        "   under way  1 now, at most 1 of 1",
        "   held back  1 iteration, number 2 waits now",
        "",
    ]
    assert rows[10] == " ended  3, the latest first"
    assert rows[11].startswith(" loop  dead") and rows[11].endswith("#12 – #30")
    assert "   backward   of the loop model/loop" in rows
    assert drawing.at(0, 2) == ("execution", 12, "loop/Enter")


def test_what_resources_hold(view: StepView) -> None:
    drawing = draw_resources(view, DARK, 50)
    assert drawing.rows() == [
        " ◇ stack  grad/f_acc                  14 elements",
        "   keeps      loop/even:0              train.py:9",
        "   gradient   of loop/Merge",
        "   read by    pop",
        "     top  float32[]  1.5              #40  loop:1",
        "      -1  float32[9, 9]  0 … 2  3 NaN",
        "          and 12 below",
        "",
        " ◇ tensor array  rows                    2 places",
        "       0  read and let go             #40  loop:1",
        "",
        " ◆ w  float32[]  1.5                          #40",
        " ◆ b  not initialized",
        " and 5 more",
    ]
    assert drawing.at(0, 4) == ("execution", 40, "push")
    assert drawing.at(0, 3) == "pop"
    assert drawing.at(0, 1) == "loop/even"


def test_the_way_of_a_dead_token(view: StepView) -> None:
    drawing = draw_way(view, DARK, 50)
    assert drawing.rows() == [
        " ✗ loop/Sin is dead",
        " killed by",
        "   ◇ loop/Switch                      loop:1  #44",
        "     pred:0 was True: output 0 is dead",
        " through",
        "   ∙ loop/Sin                         loop:1  #44",
        " stopped at",
        "   ◇ loop/Merge                       loop:1  #50",
        "     alive: another of its inputs was",
    ]
    assert drawing.at(0, 7) == drawing.at(0, 8) == ("execution", 50, "loop/Merge")


def test_nothing_at_all() -> None:
    view = step_view({})
    assert draw_frame_facts(view, DARK, 40).rows() == [" no frame has been entered"]
    assert draw_resources(view, DARK, 40).rows() == [" the session has no resources yet"]
    assert draw_way(view, DARK, 40).rows()[0].startswith(" Choose a dead node")


@pytest.mark.parametrize("width", [16, 24, 36, 44, 80])
def test_everything_fits(view: StepView, width: int) -> None:
    for draw in (draw_frames, draw_frame_facts, draw_resources, draw_way):
        assert all(line_width(line) <= width for line in draw(view, DARK, width).lines)
