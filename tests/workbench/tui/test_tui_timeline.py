"""The Timeline screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from viz.draw_timeline import LABEL_WIDTH, cells_for
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.timeline import TimelineScreen

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (120, 40)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


def timeline(app: WorkbenchApp) -> TimelineScreen:
    assert isinstance(app.screen, TimelineScreen)
    return app.screen


async def opened(app: WorkbenchApp, pilot: Any, until: Any) -> TimelineScreen:
    await until(pilot, ["costliest in the window", "CPU:0", "%"])
    return timeline(app)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_shown(
    runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=size) as pilot:
        shown = await opened(app, pilot, until)
        rows = screen(app)
        assert rows[1].startswith(" step 7  of 7")
        assert "╷0" in rows[3]
        assert rows[4].split()[:3] == ["step", "step", "7"]
        assert any(row.startswith(" CPU:0") for row in rows)
        assert any(re.search(r"■ \w+ +\d", row) for row in rows), "\n".join(rows)
        first = next(i for i, row in enumerate(rows) if "costliest" in row)
        assert shown.hot[0].node.rsplit("/", 1)[-1] in rows[first + 1]


async def test_zoom_and_pan(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        whole = shown.window
        assert whole is not None
        await pilot.press("plus", "plus")
        assert shown.window is not None
        assert shown.window.length == pytest.approx(whole.length / 4)
        start = shown.window.start
        await pilot.press("right")
        assert shown.window.start == pytest.approx(start + shown.window.length / 4)
        await pilot.press("h", "h")
        assert shown.window.start == pytest.approx(start - shown.window.length / 4)
        await pilot.press("minus")
        assert shown.window.length == pytest.approx(whole.length / 2)
        await pilot.press("0")
        assert shown.window == whole


@pytest.mark.parametrize("size", SMALL)
async def test_a_click_selects_the_bar_under_it(
    runs: Path, mnist: Path, size: tuple[int, int], until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=size) as pilot:
        shown = await opened(app, pilot, until)
        model, window = shown.timeline, shown.window
        assert model is not None and window is not None
        index = int((model.end - model.start).argmax())
        bar = model.bar(index)
        band = shown.band
        share = ((bar.start + bar.end) / 2 - window.start) / window.length
        x = band.region.x + LABEL_WIDTH + int(share * cells_for(band.size.width))
        y = band.region.y + band.drawing.hits_of(("lane", bar.lane))[-1].row
        await pilot.click(offset=(x, y))
        await until(pilot, lambda: shown.selected == index)
        leaf = bar.node.rsplit("/", 1)[-1]
        await until(pilot, [f"■ {leaf}"[:16], "took", "began"])
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "graph")
        await until(pilot, lambda: app.screen.selected == bar.node)


async def test_the_wheel_zooms_where_the_mouse_is(runs: Path, mnist: Path, until: Any) -> None:
    from textual import events

    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        band, window = shown.band, shown.window
        assert window is not None
        x = LABEL_WIDTH + cells_for(band.size.width) // 4
        event = {"widget": band, "x": x, "y": 5, "delta_x": 0, "delta_y": -1, "button": 0}
        flags = {"shift": False, "meta": False, "ctrl": False}
        band.post_message(events.MouseScrollUp(**event, **flags))
        await until(pilot, lambda: shown.window is not window)
        assert shown.window is not None
        assert shown.window.length == pytest.approx(window.length * 0.8)
        left_before, left_after = 0.25 * window.length, 0.25 * shown.window.length
        moved = shown.window.start + left_after - (window.start + left_before)
        assert abs(moved) < window.length / 50


async def test_bars_with_the_keyboard(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        await pilot.press("n")
        first = shown.selected
        assert first is not None
        await pilot.press("n", "n", "p")
        assert shown.selected == first + 1
        await pilot.press("z")
        assert shown.window is not None and shown.timeline is not None
        bar = shown.timeline.bar(first + 1)
        assert shown.window.start < bar.start < bar.end < shown.window.end
        assert shown.window.length <= max(3.1 * bar.duration, 310)


async def test_the_list_of_costly_nodes(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        shown.hot_list.focus()
        wanted = shown.hot[2].node
        await pilot.press("down", "down")
        await until(
            pilot, lambda: shown.selected is not None and shown.timeline.bar(shown.selected).node == wanted
        )
        assert shown.hot[shown.hot_list.cursor].node == wanted
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "graph" and app.screen.selected == wanted)


async def test_steps(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        await pilot.press("left_square_bracket")
        await until(pilot, [" step 6  of 7"])
        await pilot.press("a")
        await until(pilot, ["step 6 and 6 around it", "steps"])
        assert len(shown.timeline.steps) == 7
        # the chosen step fills the window at first, the others beside it
        await pilot.press("right_square_bracket")
        await until(pilot, ["step 7 and 6 around it"])
        await pilot.press("a")
        await until(pilot, [" step 7  of 7"])
        assert len(shown.timeline.steps) == 1
        await pilot.press("right_square_bracket")
        await pilot.pause()
        assert shown.data.step.step == 7


async def test_a_node_stays_selected_from_step_to_step(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(100, 30)) as pilot:
        shown = await opened(app, pilot, until)
        shown._select_nodes(("dense/matmul",))
        await pilot.press("left_square_bracket")
        await until(pilot, [" step 6  of 7"])
        assert shown.selected is not None
        assert shown.timeline.bar(shown.selected).node == "dense/matmul"


async def test_loops_say_which_iteration(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist, start="timeline")
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await opened(app, pilot, until)
        model = shown.timeline
        index = next(i for i in range(len(model)) if model.bar(i).iteration == 2)
        shown._select(index)
        await until(pilot, ["iteration 2", "loop"])


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a loop in a loop whose iterations are held back."""
    import engine as tf
    import tracing

    def inner(v: Any) -> Any:
        return tf.while_loop(lambda j, w: j < 3, lambda j, w: (j + 1, tf.sin(w)), [0, v], name="inner")[1]

    with tf.Graph().as_default():
        y = tf.while_loop(
            lambda i, v: i < 4, lambda i, v: (i + 1, inner(v)), [0, 1.0], parallel_iterations=2, name="outer"
        )[1]
        folder = tmp_path_factory.mktemp("looped")
        interpreted = tf.ConfigProto(plans="off")  # whose iterations overlap
        with (
            tracing.record(folder, name="looped", tensorboard=False) as recorder,
            tf.Session(config=interpreted) as session,
        ):
            session.run(y)
    return recorder.path


@pytest.mark.parametrize("size", SIZES)
async def test_loops_stand_over_the_lanes(
    looped: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=looped.parent, run=looped, start="timeline")
    async with app.run_test(size=size) as pilot:
        shown = await opened(app, pilot, until)
        await until(pilot, [" outer ", "  inner ", "5 iterations"])
        outer, inner = shown.data.loops if shown.data is not None else ()
        assert (outer.label, outer.limit, outer.most, inner.label, inner.depth) == ("outer", 2, 2, "inner", 1)
        assert outer.deferred > 0
        # A click on a frame says what there is to say of it.
        band = shown.band
        (hit,) = [h for h in band.drawing.hits if h.key[0] == "loop" and band.loop_rows[h.key[1]].track == 0
                  and band.loop_rows[h.key[1]].kind == "frames"]  # fmt: skip
        span, window = outer.frames[0][0], shown.window
        assert window is not None
        x = LABEL_WIDTH + int(
            ((span.start + span.end) / 2 - window.start) / window.length * cells_for(band.size.width)
        )
        await pilot.click(offset=(band.region.x + x, band.region.y + hit.row))
        await until(pilot, lambda: shown.loop is not None and shown.loop[1] == span)
        await until(pilot, ["■ outer", "took", "frame     1"])
        await pilot.press("i")
        await until(pilot, lambda: "5 iterations" not in "\n".join(screen(app)))
        assert not band.loop_rows
