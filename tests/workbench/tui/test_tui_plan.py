"""The program beside the graph: lines lead to nodes and nodes to lines, with times, at any size; or why there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing
from viz.graph_model import ROOT
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.graph import GraphScreen

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (200, 60)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a layer, a loop and a branch in it."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4, 8], name="x")
        with tf.name_scope("dense"):
            w = tf.Variable(tf.ones([8, 3]), name="w")
            y = tf.nn.relu(tf.matmul(x, w) + tf.zeros([3]), name="y")
        with tf.name_scope("decay"):
            _, rate = tf.while_loop(
                lambda i, r: i < 3,
                lambda i, r: (i + 1, tf.cond(r > 0.5, lambda: r * 0.9, lambda: r)),
                [tf.constant(0), tf.constant(1.0)],
            )
        loss = tf.reduce_sum(y * rate, name="loss")
        init = tf.global_variables_initializer()
        folder = tmp_path_factory.mktemp("planned")
        with (
            tracing.record(folder, name="planned", tensorboard=False) as recorder,
            tf.Session(config=tf.ConfigProto(device_count={"CPU": 1})) as session,
        ):
            session.run(init)
            for _ in range(2):
                session.run(loss, {x: np.ones((4, 8))})
    return recorder.path


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step over a CPU and a modelled GPU."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4], name="x")
        with tf.device("/GPU:0"):
            y = tf.tanh(x, name="y")
        config = tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
        folder = tmp_path_factory.mktemp("spread")
        with (
            tracing.record(folder, name="spread", tensorboard=False) as recorder,
            tf.Session(config=config) as session,
        ):
            session.run(y, {x: np.ones(4)})
    return recorder.path


def graph(app: WorkbenchApp) -> GraphScreen:
    assert isinstance(app.screen, GraphScreen)
    return app.screen


@pytest.mark.parametrize("size", SMALL)
async def test_lines_lead_to_nodes_and_nodes_to_lines(
    planned: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=planned.parent, run=planned)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["dense"])
        await until(pilot, lambda: graph(app).timings is not None)
        graph(app).reveal("dense/y")
        await pilot.press("p")
        await until(pilot, ["program", "%0 = fed x:0", "leave unless", "if %", "else", "µs"])
        here = graph(app)
        model = here.program.model
        assert model is not None and app.screen.focused is here.program
        (line,) = model.said.lines_of("dense/y")
        assert here.program.cursor + 1 == line and line in here.program.marked
        marked = [row for row in screen(app) if row.startswith(f"{line:>2}▌")]
        assert len(marked) == 1 and "MatMul+BiasAdd" in marked[0]

        # From line to node.
        (loop,) = (row.number for row in model.rows if row.text.startswith("loop "))
        await pilot.press("home", *["down"] * (loop - 1))
        await until(pilot, lambda: here.selected is not None and here.selected in model.nodes_of(loop))
        assert here.level_key == "decay/while/" and here.program.cursor + 1 == loop
        assert {"decay/while/Merge", "decay/while/Merge_1"} <= here._line_chips()
        other = next(row.number for row in model.rows if row.text == "else")
        here.program.move_to(other - 1)  # a line without nodes
        await until(pilot, lambda: not here.program.marked)

        # From node to line.
        await pilot.press("tab")
        here.drawing.focus()
        here.reveal("loss")
        await until(pilot, lambda: here.program.marked == model.lines_of(["loss"]))
        assert here.program.cursor + 1 in here.program.marked and here._line_chips() == frozenset()
        here.go_to(ROOT, "dense/")  # a scope: all of its lines
        await until(pilot, lambda: len(here.program.marked) > 2)
        assert here.program.marked == model.lines_of(app.stage.tree.names_in("dense/"))

        await pilot.press("p")
        await until(pilot, ["scopes"])
        assert app.screen.focused is here.drawing
        assert all(len(row) == size[0] for row in screen(app))


async def test_times_are_those_of_the_step(planned: Path, until: Any, screen: Screen) -> None:
    app = WorkbenchApp(logdir=planned.parent, run=planned)
    async with app.run_test(size=(200, 60)) as pilot:
        await until(pilot, lambda: app.step is not None)
        await pilot.press("p")
        await until(pilot, ["%0 = fed x:0", "times of step 3", "peak"])
        here = graph(app)
        model, times = here.program.model, here.program.times
        assert model is not None and times is not None and here.timings is not None
        constants = here.timings.of_all([*model.said.listing.constants, *model.said.listing.idle])
        assert sum(each.total_ns for each in times) + constants.total_ns == here.timings.total_ns
        row = next(row for row in screen(app) if "Sum" in row and "loss" in row)
        assert "float32[]" in row and re.search(r"\d (ns|µs|ms)", row)
        app.toggle_theme()
        await pilot.pause()
        assert here.program.palette is app.palette


async def test_other_stages_and_other_lists(planned: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=planned.parent, run=planned)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, ["stage "])
        await pilot.press("p")
        await until(pilot, ["%0 = fed x:0"])
        await pilot.press("left_square_bracket")
        await until(pilot, ["A program is made of the last"])
        await pilot.press("right_square_bracket")
        await until(pilot, ["%0 = fed x:0"])
        await pilot.press("o")  # stages in its place
        await until(pilot, ["built", "pruned"])
        await pilot.press("p")
        await until(pilot, ["%0 = fed x:0"])
        await pilot.press("f")
        await until(pilot, lambda: not graph(app).query_one("#plan").display)


@pytest.mark.parametrize("size", SMALL)
async def test_where_the_interpreter_runs(spread: Path, size: tuple[int, int], until: Any) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage partitioned"])
        await pilot.press("p")
        await until(pilot, ["The interpreter runs this:", "GPU:0"])
        await pilot.press("down", "up", "enter")
        assert graph(app).program.count == 0
