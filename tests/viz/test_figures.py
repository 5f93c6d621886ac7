"""The plotly figure of a timeline."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from engine.observe import Executions
from engine.passes.stage import Stage
from viz.figures.timeline import CONFIG, timeline_figure, timeline_html
from viz.graph_model import ScopeTree
from viz.scope_colours import ScopeColours
from viz.timeline_model import Timeline


def test_bars_are_where_they_were(
    training: Stage, make_executions: Callable[..., Executions], make_step: Callable[..., Any]
) -> None:
    colours = ScopeColours(ScopeTree(training))
    at = {name: i for i, name in enumerate(training.order)}
    rows = [
        (at["dense1/MatMul"], 1000, 3000, 1),
        (at["dense1/Relu"], 3000, 3500, 1),
        (at["loss/mean"], 4000, 5000, 2),
    ]
    timeline = Timeline.build(
        [(make_step(4, 1000, 6000), training.order, [make_executions(rows)])], colours.of
    )
    figure = timeline_figure(timeline, colours)
    bars = {
        custom[0]: (trace.name, base, length, lane)
        for trace in figure.data
        for custom, base, length, lane in zip(trace.customdata, trace.base, trace.x, trace.y)
    }
    assert bars == {
        "dense1/MatMul": ("dense1", 0.0, 0.002, "CPU:0 ·1"),
        "dense1/Relu": ("dense1", 0.002, 0.0005, "CPU:0 ·1"),
        "loss/mean": ("loss", 0.003, 0.001, "CPU:0 ·2"),
    }
    assert figure.layout.title.text == "step 4 · 6.00 µs · 3 executions"
    assert CONFIG["showSendToCloud"] is False
    page = timeline_html(timeline, colours, dark=True)
    assert "dense1" in page
    assert '"showSendToCloud":false' in page.replace(" ", "")


def test_an_empty_timeline_has_a_figure(training: Stage) -> None:
    colours = ScopeColours(ScopeTree(training))
    assert len(timeline_figure(Timeline.build([], colours.of), colours).data) == 0


def test_importing_figures_does_not_import_plotly() -> None:
    code = "import sys, viz.figures.timeline; assert 'plotly' not in sys.modules and 'textual' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
