"""A gradient's nodes lead to their forward nodes: on cards, on the timeline, in figures, on the Step screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import engine as tf
import tracing
from tracing.reader import Run
from viz.cells import Page
from viz.draw_bar import draw_bar_card
from viz.draw_step import draw_inputs
from viz.figures.timeline import timeline_figure
from viz.graph_model import ScopeTree
from viz.loop_tracks import loop_tracks
from viz.node_card import node_card
from viz.palette import DARK
from viz.scope_colours import ScopeColours
from viz.step_model import step_view
from viz.timeline_model import Timeline
from viz.timings import Timings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with tf.Graph().as_default():
        x = tf.constant(1.5, name="x")
        y = tf.while_loop(
            lambda i, v: i < 3,
            lambda i, v: (i + 1, tf.sin(v) * x),
            [0, x],
            parallel_iterations=1,
            name="loop",
        )[1]
        folder = tmp_path_factory.mktemp("runs")
        interpreted = tf.ConfigProto(plans="off")  # which says how many iterations are under way, and when
        with (
            tracing.record(folder, tensorboard=False) as recorder,
            tf.Session(config=interpreted) as session,
        ):
            session.run(tf.gradients(y, x))
    with Run.open(recorder.path) as opened:
        yield opened


def test_everything_of_a_gradient_names_the_node_that_it_is_the_gradient_of(run: Run) -> None:
    step = run.steps()[0]
    stage = run.stage(step.stage_id)
    cos = next(node for node in stage if node.type == "Cos")  # the derivative of the sine
    assert cos.original == "loop/Sin"
    about = dict(node_card(stage, cos.name).sections)[""]
    assert [(row.text, row.key) for row in about if row.label == "gradient of"] == [("loop/Sin", "loop/Sin")]
    backward = dict(node_card(stage, "loop/Sin").sections)["its gradient"]
    assert cos.name in [row.key for row in backward]
    assert {stage.nodes[row.key].original for row in backward if row.key} == {"loop/Sin"}

    batches = [batch for each in run.partitions(step.id).values() for batch in each]
    colours = ScopeColours(ScopeTree(stage))
    timeline = Timeline.build([(step, stage.order, batches)], colours.of)
    timings = Timings(stage.order, batches)
    tree = run.frame_tree(step.id)
    names = {frame.id: tree.path(frame.id) for frame in tree}
    page = Page(60)
    draw_bar_card(page, timeline, int(timeline.bars_of(cos.name)[0]), stage, colours, timings, names, DARK)
    drawing = page.drawing()
    row = next(i for i, text in enumerate(drawing.rows()) if text.startswith(" gradient  of loop/Sin"))
    assert drawing.at(1, row) == "loop/Sin"
    assert any(text.startswith(" loop      gradients/loop, iteration ") for text in drawing.rows())

    originals = {node.name: node.original for node in stage}
    loops = loop_tracks([(step.id, tree)])
    figure = timeline_figure(timeline, colours, loops=loops, originals=originals)
    hover = {
        each[0]: each[5]
        for trace in figure.data
        if trace.customdata
        for each in trace.customdata
        if len(each) == 6
    }
    assert hover[cos.name] == "<br>gradient of loop/Sin" and hover["loop/Sin"] == ""
    bars = {y for trace in figure.data if trace.type == "bar" for y in trace.y}
    assert {"loop", "loop iterations", "∇ loop", "∇ loop iterations"} <= bars
    curves = {trace.name: trace for trace in figure.data if trace.type == "scatter"}
    assert max(curves["loop: iterations under way, at most 1 of 1"].y) == 1
    assert list(curves["loop: limit 1"].y) == [1, 1]


def test_the_step_screen_names_the_forward_node() -> None:
    here = {"node": "gradients/Cos", "type": "Cos", "path": "root", "original": "loop/Sin"}
    drawing = draw_inputs(step_view({"next": here}), DARK, 50)
    assert drawing.rows()[1] == "   gradient of loop/Sin"
    assert drawing.at(0, 1) == "loop/Sin"
