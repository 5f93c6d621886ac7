"""What was changed by hand, marked in timelines and in the details of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.observe import Override
from viz.draw_runs import draw_run_detail
from viz.draw_timeline import CHANGED, LABEL_WIDTH, cells_for, draw_timeline
from viz.figures.timeline import timeline_figure
from viz.graph_model import ScopeTree
from viz.palette import DARK
from viz.runs_model import RunRow
from viz.scope_colours import ScopeColours
from viz.timeline_model import Timeline, Window

WIDTH = 80


@pytest.fixture
def timeline(training: Any, make_executions: Callable[..., Any], make_step: Callable[..., Any]) -> Timeline:
    rows = [(0, 1_000, 3_000, 1), (1, 3_000, 9_000, 1)]
    made = [
        Override(1, 0, "set", "set a:0 = <b>1</b>", at_ns=2_000),
        Override(2, 1, "skip", "skip b = 2", at_ns=6_000),
    ]
    step = make_step(4, 1_000, 9_000)
    colours = ScopeColours(ScopeTree(training))
    return Timeline.build(
        [(step, training.order, [make_executions(rows)])], colours.of, overrides={step.id: made}
    )


def marks(timeline: Timeline, window: Window) -> list[int]:
    """The cells of the row of steps that are marked."""
    row = draw_timeline(timeline, window, DARK, WIDTH, 12).lines[2]
    text = "".join(piece for piece, _ in row)
    return [x - LABEL_WIDTH for x, character in enumerate(text) if character == CHANGED]


def test_changes_are_marked_where_they_were_made(timeline: Timeline) -> None:
    assert [text for _, text in timeline.steps[0].changed] == ["set a:0 = <b>1</b>", "skip b = 2"]
    whole = timeline.whole()
    cells = cells_for(WIDTH)
    assert marks(timeline, whole) == [int((at - whole.start) / whole.length * cells) for at in (2_000, 6_000)]
    assert len(marks(timeline, replace(whole, start=5_000))) == 1
    assert marks(timeline, replace(whole, start=7_000)) == []


def test_a_figure_has_them_as_points(timeline: Timeline, training: Any) -> None:
    figure = timeline_figure(timeline, ScopeColours(ScopeTree(training)))
    (trace,) = [each for each in figure.data if each.name == "changed by hand"]
    assert [custom[0] for custom in trace.customdata] == ["set a:0 = &lt;b&gt;1&lt;/b&gt;", "skip b = 2"]
    assert list(trace.x) == pytest.approx([(at - timeline.begin) / 1e6 for at in (2_000, 6_000)])


def test_the_details_of_a_run_say_so() -> None:
    def text(row: RunRow) -> str:
        return "\n".join(
            "".join(piece for piece, _ in line) for line in draw_run_detail(row, DARK, 60, 0).lines
        )

    row = RunRow(Path("/runs/a"), "a", "finished", steps=3, changed_steps=1)
    assert "by hand   1 step changed" in text(row)
    assert "by hand" not in text(replace(row, changed_steps=0))
