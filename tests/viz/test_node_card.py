"""Cards of nodes and scopes, timings, and the families of ops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.observe import Executions
from engine.passes.stage import Stage
from viz import families
from viz.graph_model import ScopeTree
from viz.node_card import attr_text, draw_card, node_card, scope_card
from viz.palette import DARK, LIGHT
from viz.timings import Timings


@pytest.fixture
def timings(training: Stage, make_executions: Callable[..., Executions]) -> Timings:
    at = {name: i for i, name in enumerate(training.order)}
    rows = [(at["dense1/MatMul"], 0, 600, 0), (at["dense1/Relu"], 600, 700, 0)]
    rows += [(at["decay/Merge"], 700 + 10 * i, 710 + 10 * i, 0) for i in range(5)]
    batch = make_executions([*rows, (at["decay/Exit"], 900, 900, 0)])
    batch.dead[-1] = True
    return Timings(training.order, [batch])


def rows_of(card: object, title: str) -> list[tuple[str, str, str]]:
    sections = dict(card.sections)  # type: ignore[attr-defined]
    return [(row.label, row.text, row.note) for row in sections.get(title, ())]


def test_timings_add_up(training: Stage, timings: Timings) -> None:
    assert timings.of("decay/Merge").runs == 5
    assert timings.of("decay/Merge").total_ns == 50
    assert timings.of("decay/Exit").dead == 1
    assert timings.of("nobody").runs == 0
    assert timings.total_ns == 750
    by_scope = timings.by_scope(ScopeTree(training))
    assert by_scope["dense1"] == 700
    assert by_scope[""] == 750
    assert timings.of_all(["dense1/MatMul", "dense1/Relu"]).longest_ns == 600


def test_the_card_of_a_node(training: Stage, timings: Timings) -> None:
    card = node_card(training, "dense1/MatMul", timings)
    assert card.kind == "MatMul"
    assert ("time", "600 ns", "80 % of kernel time") in rows_of(card, "")
    assert rows_of(card, "outputs") == [("0", "float32[?, 32]", "")]
    assert rows_of(card, "inputs") == [
        ("0", "input/x", "float32[?, 64]"),
        ("1", "dense1/w/read", "float32[64, 32]"),
    ]
    assert rows_of(card, "read by") == [("", "dense1/Relu", "Relu")]
    assert ("time", "dead, 1 time", "") in rows_of(node_card(training, "decay/Exit", timings), "")
    assert ("runs", "5", "10 ns each, at most 10 ns") in rows_of(
        node_card(training, "decay/Merge", timings), ""
    )
    assert rows_of(node_card(training, "train/update"), "inputs") == [
        ("^", "train/dense1", "control"),
        ("^", "train/dense2", "control"),
    ]


def test_the_card_of_a_scope(training: Stage, timings: Timings) -> None:
    card = scope_card(ScopeTree(training), "dense1/", timings)
    assert ("nodes", "6", "") in rows_of(card, "")
    assert rows_of(card, "reads") == [("", "input/x", "float32[?, 64]")]
    assert ("", "dense1/Relu", "→ dense2/MatMul") in rows_of(card, "gives")
    whole = scope_card(ScopeTree(training), "/")
    assert whole.title == "graph"
    assert not rows_of(whole, "reads")


@pytest.mark.parametrize("width", [20, 34, 60])
def test_drawn_cards_fit_and_lead_to_nodes(training: Stage, timings: Timings, width: int) -> None:
    for name in training.nodes:
        drawing = draw_card(node_card(training, name, timings), DARK, width)
        assert all(len(row) <= width for row in drawing.rows())
        assert {hit.key for hit in drawing.hits} <= set(training.nodes)


def test_attrs_in_words() -> None:
    assert attr_text(np.arange(4.0)) == "float64[4] 0, 1, 2, 3"
    assert attr_text(np.arange(100)) == "int64[100] 0 … 99"
    assert attr_text(np.array([b"a"] * 9, dtype=object)) == "string[9]"
    assert attr_text((1, 2, 3)) == "[1, 2, 3]"
    assert attr_text(True) == "True"
    assert attr_text(0.1) == "0.1"


@pytest.mark.parametrize(
    "op, family",
    [
        ("MatMul", families.MATRIX),
        ("VariableV2", families.VARIABLE),
        ("ApplyAdam", families.UPDATE),
        ("ResourceApplyAdam", families.UPDATE),
        ("Switch", families.CONTROL),
        ("TensorArrayV3", families.CONTROL),
        ("RandomUniform", families.RANDOM),
        ("StridedSlice", families.ARRAY),
        ("QueueDequeueV2", families.HOST),
        ("Sqrt", families.MATH),
        ("_Retval", families.RESULT),
        ("Conv2DBackpropFilter", families.MATRIX),
    ],
)
def test_families(op: str, family: families.Family) -> None:
    assert families.family(op) is family


@pytest.mark.parametrize("palette", [DARK, LIGHT])
def test_colours_can_be_told_from_the_background(palette: object) -> None:
    """Contrast after WCAG: at least 4.5, as for text."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (bright + 0.05) / (dark + 0.05)

    background = palette.surface  # type: ignore[attr-defined]
    names = ("text", "muted", "accent", "good", "warning", "bad", "incoming", "outgoing")
    for colour in (*(getattr(palette, name) for name in names), *palette.hues):  # type: ignore[attr-defined]
        assert contrast(colour, background) >= 4.5
    for hue in palette.hues:  # type: ignore[attr-defined]
        assert contrast(palette.on(hue), hue) >= 4.5  # type: ignore[attr-defined]
