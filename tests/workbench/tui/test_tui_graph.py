"""The Graph screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.graph import GraphScreen

Screen = Callable[[Any], list[str]]
SIZES = [(80, 24), (120, 40)]
# Where it is about where keys and clicks lead, the smaller screen will do.
SMALL = [(80, 24), pytest.param((120, 40), marks=pytest.mark.deep)]


def graph(app: WorkbenchApp) -> GraphScreen:
    assert isinstance(app.screen, GraphScreen)
    return app.screen


@pytest.mark.parametrize("size", SIZES)
async def test_tree_drawing_and_card(
    runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["times of step 7", "▸ dense", "▸ gradients"])
        rows = screen(app)
        tree = [row[:26].rstrip() for row in rows[1:-1]]
        assert tree[0].split() == ["scopes", "time"]
        assert any("▾ graph" in row for row in tree)
        for scope in ("dense", "loss", "gradients", "train", "rate"):
            assert any(f"▸ {scope}" in row for row in tree)
        drawing = "\n".join(row[26:] for row in rows)
        assert "▸ dense" in drawing
        assert any(character in drawing for character in "╭╮╰╯")
        assert "nodes" in drawing


@pytest.mark.parametrize("size", SMALL)
async def test_a_click_selects_a_chip_and_two_open_it(
    runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, find: Any, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["times of step 7", "▸ dense"])
        hits = graph(app).drawing.drawing.hits_of("loss/")
        view = graph(app).drawing
        x = view.region.x + 1 + view.indent + hits[0].start + 2 - view.scroll_offset.x
        y = view.region.y + hits[0].row - view.scroll_offset.y
        await pilot.click(offset=(x, y))
        await until(pilot, lambda: graph(app).selected == "loss/")
        await until(pilot, ["reads"] if size[0] > 80 else ["▸ loss"])
        await pilot.double_click(offset=(x, y))
        await until(pilot, ["graph / loss", "mean"])


async def test_arrows_walk_along_the_chips(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, ["times of step 7", "▸ dense"])
        screen = graph(app)
        await pilot.press("down")
        await pilot.pause()
        assert screen.selected is not None
        seen = [screen.selected]
        for key in ("down", "down", "down", "up", "right", "left", "down"):
            await pilot.press(key)
            await pilot.pause()
            seen.append(screen.selected)
        assert len(set(seen)) >= 4
        places = {hit.key: hit for hit in screen.drawing.drawing.hits}
        assert places[seen[1]].row > places[seen[0]].row
        assert places[seen[4]].row < places[seen[3]].row


async def test_into_a_scope_and_back(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["times of step 7", "▸ dense"])
        screen = graph(app)
        screen.select("dense/")
        await pilot.press("enter")
        await until(pilot, ["graph / dense", "▸ w", "matmul"])
        screen.select("dense/w/")
        await pilot.press("enter")
        await until(pilot, ["graph / dense / w", "(w)"])
        await pilot.press("backspace")
        await until(pilot, lambda: screen.level_key == "dense/" and screen.selected == "dense/w/")
        await pilot.press("u")
        await until(pilot, lambda: screen.level_key == "/")
        await pilot.press("escape")
        await until(pilot, lambda: screen.level_key == "dense/")
        await pilot.press("home")
        await until(pilot, lambda: screen.level_key == "/")


@pytest.mark.parametrize("size", SMALL)
async def test_search(runs: Path, mnist: Path, size: tuple[int, int], screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=size) as pilot:
        await until(pilot, ["stage"])
        await pilot.press("slash", *"matmul")
        await until(pilot, ["in dense", "MatMul_1"])
        await pilot.press(*"zzz")
        await until(pilot, ["no node has all of these words"])
        await pilot.press("backspace", "backspace", "backspace", "enter")
        await until(pilot, lambda: graph(app).selected == "dense/matmul")
        await until(pilot, ["graph / dense"])
        rows = "\n".join(screen(app))
        for fact in ("MatMul", "made at", "device"):
            assert fact in rows
        await pilot.press("slash")
        await until(pilot, ["MatMul_1"])
        await pilot.press("escape")
        await until(pilot, lambda: not graph(app).has_class("-searching"))


async def test_the_card_leads_to_neighbours(runs: Path, mnist: Path, find: Any, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(140, 44)) as pilot:
        await until(pilot, ["times of step 7"])
        graph(app).reveal("loss/mean")
        await until(pilot, ["Mean", "inputs", "loss/Square"])
        x, y = find(app, "loss/Square")
        await pilot.click(offset=(x + 1, y))
        await until(pilot, lambda: graph(app).selected == "loss/Square")
        await until(pilot, ["read by", "float32[?, 3]"])


async def test_the_tree_opens_with_keys_and_mouse(
    runs: Path, mnist: Path, screen: Screen, find: Any, until: Any
) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, ["times of step 7", "▸ dense"])
        graph(app).tree_list.focus()
        index = next(i for i, row in enumerate(graph(app).tree_model.rows) if row.key == "dense/")
        graph(app).tree_list.move_to(index)
        await pilot.press("right")
        await until(pilot, ["▾ dense"])
        await pilot.press("down", "right")
        await until(pilot, ["▾ w"])
        await pilot.press("left", "left")
        await pilot.pause()
        assert graph(app).tree_model.rows[graph(app).tree_list.cursor].key == "dense/"
        await pilot.press("space")
        await until(pilot, ["▸ dense"])
        x, y = find(app, "▸ loss")
        await pilot.click(offset=(x + 2, y))
        await until(pilot, lambda: graph(app).selected == "loss/")
        await pilot.click(offset=(x + 2, y))
        await until(pilot, ["graph / loss"])


async def test_stages(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["stage pruned"])
        shown = app.stage
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: app.stage is not shown)
        assert app.stage is not None
        assert app.stage.row.id < shown.row.id
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: app.stage is shown)


async def test_constants_and_the_full_width(runs: Path, mnist: Path, screen: Screen, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["times of step 7", "▸ dense"])
        graph(app).go_to("rate/")
        await until(pilot, ["graph / rate"])
        before = len(graph(app).drawing.drawing.hits)
        await pilot.press("c")
        await until(pilot, ["hidden"])
        assert len(graph(app).drawing.drawing.hits) < before
        await pilot.press("c", "f")
        await until(pilot, lambda: "scopes" not in "\n".join(screen(app)))
        await pilot.press("f")
        await until(pilot, ["scopes"])


async def test_to_the_timeline(runs: Path, mnist: Path, until: Any) -> None:
    app = WorkbenchApp(logdir=runs, run=mnist)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["times of step 7"])
        graph(app).reveal("dense/matmul")
        await pilot.press("t")
        await until(pilot, ["costliest in the window", "■ matmul", "in dense"])


@pytest.mark.usefixtures("as_written")
async def test_a_node_in_a_series_is_found(tmp_path: Path, until: Any) -> None:
    import engine as tf
    import tracing

    with tf.Graph().as_default():
        recorder = tracing.start(tmp_path, name="many", tensorboard=False)
        total = tf.add_n([tf.constant(float(i), name="part") for i in range(260)], name="total")
        with tf.Session() as session:
            session.run(total)
        tracing.stop()
    app = WorkbenchApp(run=recorder.path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, ["≡", "named alike drawn as one"])
        graph(app).reveal("part_77")
        await until(pilot, lambda: graph(app).selected == "part_77")
        await until(pilot, ["part_77"])
        assert graph(app).placed.level.item("part_77") is not None
