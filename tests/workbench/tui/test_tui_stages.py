"""The Graph screen's stages, differences and device colours, and the Devices screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing
from workbench.debugger.snapshot import AwaitedView, SentView
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.devices import DevicesScreen
from workbench.tui.screens.graph import GraphScreen

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (160, 50)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps over a CPU and a modelled GPU, whose graph the passes make smaller."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 8], name="x")
        with tf.device("/CPU:0"), tf.name_scope("first"):
            w = tf.Variable(tf.ones([8, 16]), name="w")
            h = tf.nn.relu(tf.matmul(x, w) + tf.zeros([16]), name="h")
        with tf.device("/GPU:0"), tf.name_scope("second"):
            y = tf.reduce_sum(tf.tanh(h * 2.0), name="y")
        init = tf.global_variables_initializer()
        config = tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
        folder = tmp_path_factory.mktemp("spread")
        with (
            tracing.record(folder, name="spread", tensorboard=False) as recorder,
            tf.Session(config=config) as session,
        ):
            session.run(init)
            for _ in range(3):
                session.run(y, {x: rng.normal(size=(4, 8))})
    return recorder.path


def graph(app: WorkbenchApp) -> GraphScreen:
    assert isinstance(app.screen, GraphScreen)
    return app.screen


@pytest.mark.parametrize("size", SMALL)
async def test_the_list_of_stages_leads_to_each(
    spread: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage partitioned"])
        await pilot.press("o")
        await until(pilot, ["built", "pruned", "remap", "placed", "● partitioned"])
        rows = [row[:26] for row in screen(app)]
        assert not any("optimized/" in row for row in rows)
        assert app.screen.focused is graph(app).stage_list
        await pilot.press("home", "enter")
        await until(pilot, ["● built", "stage built"])
        assert [each.row.name for each in graph(app).chain][-1] == "partitioned"
        await pilot.press("o")
        await until(pilot, ["scopes"])


@pytest.mark.parametrize("size", SMALL)
async def test_two_stages_laid_over_each_other(
    spread: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage partitioned"])
        await pilot.press("x")  # with the stage before
        await until(pilot, ["→ partitioned", "added", "~"])
        view = graph(app).view
        assert (
            view is not None
            and view.diff is not None
            and view.diff.before.name == graph(app).view.plain.before.name
        )
        await pilot.press("x")
        await until(pilot, ["stage partitioned"])
        await pilot.press("o")
        await until(pilot, ["built", "● partitioned"])
        await pilot.press("home", "down", "x")  # with the pruned stage, from the list
        await until(pilot, ["◇ pruned"])
        view = graph(app).view
        assert view is not None and view.diff is not None and view.diff.before.name == "pruned"
        (merged,) = [each for each in view.diff.changes.values() if each.name == "first/MatMul"]
        assert (
            merged.into == ("first/h",)
            and "first/MatMul" in view.stage.nodes
            and "first/MatMul" not in view.plain.nodes
        )
        graph(app).reveal("first/MatMul")
        await until(pilot, ["now in", "merged"])
        if size[0] > 100:
            await until(pilot, ["part of 'first/h'", "test_tui_stages.py:"])
        counts = {f"{change.value}{count}": change.word for change, count in view.diff.counts.items()}
        (legend,) = [row for row in screen(app) if all(mark in row for mark in counts)]
        if size[0] < 100:  # beside the node's card there is no room for words
            assert all(f"{mark} {word}" in legend for mark, word in counts.items())


@pytest.mark.parametrize("size", SIZES)
async def test_devices_as_colours_and_transfers_as_edges(
    spread: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage partitioned"])
        await until(pilot, lambda: graph(app).timings is not None)
        await pilot.press("m")
        await until(pilot, ["■ CPU:0", "■ GPU:0", "transfer", "in step 4"])
        view = graph(app).view
        assert view is not None
        (recv,) = [node.name for node in view.plain if node.type == "_Recv" and node.device.endswith("GPU:0")]
        (send,) = [name for name, _ in view.stage.nodes[recv].inputs]
        assert view.stage.nodes[send].device.endswith("CPU:0")
        assert view.by_device.of(send) != view.by_device.of(recv)
        graph(app).reveal(recv)
        await until(pilot, ["⇠ CPU:0 256 B", "transfer"])  # float32[4, 16], as it was measured
        if size[0] > 100:
            await until(pilot, ["way", "CPU:0 → GPU:0", "after it was sent"])
            graph(app).reveal("second/Tanh")
            await until(pilot, ["placement", "asked for", "because"])
        await pilot.press("m")
        await until(pilot, lambda: not any("■ GPU:0" in row for row in screen(app)))


async def test_a_stage_without_one_before_is_compared_with_none(spread: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["stage partitioned"])
        built = next(row.id for row in app.opened.stages if row.name == "built") if app.opened else 0
        app.choose_stage(built)
        await until(pilot, ["stage built"])
        await pilot.press("x")
        await until(pilot, lambda: any("no stage before" in note.message for note in app._notifications))


@pytest.mark.parametrize("size", SIZES)
async def test_devices_of_a_recorded_step(
    spread: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=spread.parent, run=spread)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage partitioned"])
        await until(pilot, lambda: app.step is not None)
        await pilot.press("5")
        await until(pilot, ["step 4  recorded", "■ CPU:0", "⇢ GPU:0", "rendezvous", "on the way"])
        rows = screen(app)
        assert "modelled devices: nothing here is a GPU's time" in rows[1]
        assert isinstance(app.screen, DevicesScreen) and app.screen.view is not None
        gpu = next(device for device in app.screen.view.devices if device.name.endswith("GPU:0"))
        assert gpu.modelled and gpu.state is not None and gpu.state.limit > gpu.state.in_use > 0
        if size[0] > 100:
            await until(pilot, ["GPU:0  modelled", "in use, peak", "alive", "compute"])
        await pilot.press("left_square_bracket")
        await until(pilot, ["step 3  recorded"])
        row = next(row for row in app.screen.parcels if row.destination.endswith("GPU:0"))
        app.screen.table.move_to(app.screen.parcels.index(row))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, GraphScreen) and bool(graph(app).selected))
        assert (
            graph(app).view is not None and graph(app).view.plain.nodes[graph(app).selected].type == "_Recv"
        )


async def test_devices_without_a_run(tmp_path: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, ["No run is open", "nothing has been sent"])
        await pilot.press("enter", "l", "left_square_bracket")
        await pilot.press("question_mark")
        await until(pilot, ["Devices: keys", "Show the selected transfer"])


KEY = "/job:localhost/replica:0/task:0/device:CPU:0;00ab;/job:localhost/replica:0/task:0/device:GPU:0;edge_1_w/read;0:0"


@pytest.mark.parametrize("size", SMALL)
async def test_devices_of_a_script_that_is_stepped(debug: Any, size: tuple[int, int], until: Any) -> None:
    debug.change(
        awaited=(AwaitedView(KEY, "w/read/_Recv", "root", 2_500_000),),
        sent=(SentView(KEY.replace("w/read", "bias"), 512, False, 1_000),),
    )
    app = WorkbenchApp(debug=debug, start="devices")
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["live", "w/read", "awaited for 2.50 ms", "bias", "512 B", "1 awaited, 1 sent"])
        debug.change(awaited=())
        await until(pilot, ["0 awaited, 1 sent"])
        await pilot.press("l")
        await until(pilot, ["No run is open"])
