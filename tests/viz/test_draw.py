"""Terminal drawings, row by row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.passes.stage import Stage
from viz.canvas import Canvas, trace
from viz.cells import EMPTY, Drawing, Hit, Page, fit, line_width, spread, wrap
from viz.draw_graph import draw_level, place_level
from viz.graph_model import ScopeTree
from viz.palette import DARK
from viz.scope_colours import ScopeColours


def graph(stage: Stage, key: str = "/", selected: str | None = None, room: int = 100) -> Drawing:
    tree = ScopeTree(stage)
    placed = place_level(tree.level(key), tree, room=room)
    return draw_level(placed, tree, ScopeColours(tree), DARK, selected=selected)


def test_a_fork_and_a_join(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(
        """
        x Placeholder -> float32[]
        left Neg x -> float32[]
        right Exp x -> float32[]
        sum Add left right -> float32[]
        """
    )
    assert graph(stage).rows() == [
        "       ▷ x",
        "    ╭───┴─────╮",
        " ∙ left    ∙ right",
        "    ╰──╮   │",
        "       ∙ sum",
    ]


def test_lines_that_have_nothing_in_common_cross(make_stage: Callable[..., Stage]) -> None:
    """Two that each read two others cannot be drawn in two rows without a crossing; where lines cross they do not join."""
    stage = make_stage(
        """
        a Const -> float32[]
        b Const -> float32[]
        c Add a b -> float32[]
        d Sub a b -> float32[]
        """
    )
    assert graph(stage).rows() == [
        " ▪ a    ▪ b",
        " ╭┴─────╮│",
        " │ ╭────│┴╮",
        " ∙ c    ∙ d",
    ]


def test_a_loop_has_an_arrow_up(training: Stage) -> None:
    rows = graph(training, "decay/").rows()
    text = "\n".join(rows)
    assert text.count("▴") == 1
    assert "◇ NextIteration" in text
    merge = next(i for i, row in enumerate(rows) if "Merge" in row)
    assert "▴" in rows[merge + 1]


def test_control_edges_are_dashed(training: Stage) -> None:
    rows = graph(training, "train/").rows()
    assert any("╌" in row or "┊" in row for row in rows)
    assert any("│" in row for row in rows)


def test_chips_are_where_the_hits_say(training: Stage) -> None:
    tree = ScopeTree(training)
    for scope in tree.scopes.values():
        drawing = graph(training, scope.key)
        rows = drawing.rows()
        keys = [item.key for item in tree.level(scope.key).items]
        assert sorted(hit.key for hit in drawing.hits) == sorted(keys)
        for hit in drawing.hits:
            label = tree.level(scope.key).item(hit.key).label  # type: ignore[union-attr]
            assert label in rows[hit.row][hit.start : hit.end + 1]
            assert drawing.at(hit.start, hit.row) == hit.key
            assert drawing.at(hit.end, hit.row) != hit.key


def test_the_selected_chips_lines_are_lifted(training: Stage) -> None:
    drawing = graph(training, selected="loss/")
    incoming, outgoing = DARK.style(DARK.incoming), DARK.style(DARK.outgoing)
    styles = [style for line in drawing.lines for text, style in line if text.strip()]
    assert incoming in styles
    assert outgoing in styles
    plain = graph(training)
    assert plain.rows() == drawing.rows()
    assert incoming not in [style for line in plain.lines for _, style in line]


def test_canvas_characters() -> None:
    lines = trace(
        [
            (((0, 0), (4, 0), (4, 2)), False),  # turns
            (((0, 0), (2, 0), (2, 2)), False),  # turns earlier: both come from one place, so it forks off
            (((0, 1), (6, 1)), False),  # crosses both
            (((6, 0), (6, 2)), True),
        ]
    )
    rows = ["".join(text for text, _ in line) for line in Canvas(7, 3, lines).lines()]
    assert rows == ["╶─┬─╮ ╷", "╶─│─│─┊", "  ╵ ╵ ╵"]


def test_a_lifted_line_is_in_front() -> None:
    level, upright = ((0, 1), (4, 1)), ((2, 0), (2, 2))
    lines = trace([(level, False), (upright, False)])
    style = DARK.style(DARK.bad)
    assert Canvas(5, 3, lines).cell(2, 1)[0] == "│"
    assert Canvas(5, 3, lines, lifted=[(trace([(level, False)]), style)]).cell(2, 1) == ("─", style)
    assert Canvas(5, 3, lines, lifted=[(trace([(upright, False)]), style)]).cell(2, 1) == ("│", style)


def test_lines_of_text_fit() -> None:
    style = DARK.plain
    assert line_width(fit([("abc", style), ("漢字", style)], 5)) == 5
    assert line_width(fit([("abc", style)], 9)) == 9
    assert "".join(text for text, _ in spread([("left", style)], [("right", style)], 12)) == "left   right"
    assert "".join(text for text, _ in spread([("lefthand", style)], [("right", style)], 10)) == "left right"


def test_wrapped_text() -> None:
    assert wrap("the quick brown fox", 9) == ["the quick", "brown fox"]
    assert wrap("a verylongword b", 6) == ["a", "verylo", "ngword", "b"]
    assert wrap("", 5) == []


def test_hits_on_pages() -> None:
    page = Page(10)
    page.add(("one", EMPTY), key="a")
    page.blank()
    page.blank()
    page.add(("two", EMPTY))
    page.mark(1, 3, "b")
    drawing = page.drawing()
    assert drawing.rows() == ["one", "", "two"]
    assert drawing.at(9, 0) == "a"
    assert drawing.at(2, 2) == "b"
    assert drawing.at(0, 2) is None
    assert drawing.hits_of("b") == [Hit(2, 1, 3, "b")]
    assert drawing.text().plain == "one\n\ntwo"


@pytest.mark.parametrize("room", [40, 80, 160])
def test_graphs_follow_the_room(training: Stage, room: int) -> None:
    drawing = graph(training, room=room)
    assert drawing.width <= room * 1.6
