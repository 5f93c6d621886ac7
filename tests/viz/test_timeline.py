"""The timeline's arithmetic against naive counting, and its drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.observe import Executions
from viz.draw_timeline import LABEL_WIDTH, cell_time, cells_for, draw_timeline
from viz.palette import DARK
from viz.timeline_model import COLOURS, Timeline, Window, ticks

MakeTrace = Callable[..., tuple[Any, list[str], list[Executions]]]


def hue(name: str) -> int:
    return int(name[5]) - 1  # scope0 is neutral


def make(trace: MakeTrace, seed: int, **options: int) -> Timeline:
    return Timeline.build([trace(seed, **options)], hue)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000), cells=st.integers(1, 60), low=st.floats(0, 0.95), length=st.floats(0.001, 1)
)
def test_bins_against_adding_up_bar_by_bar(
    seed: int, cells: int, low: float, length: float, trace: MakeTrace
) -> None:
    timeline = make(trace, seed, bars=60)
    whole = timeline.finish - timeline.begin
    start = timeline.begin + low * whole
    bins = timeline.bins(start, min(timeline.finish, start + length * whole), cells)
    wanted = np.zeros((len(timeline.lanes), COLOURS, cells), np.int64)
    for i in range(len(timeline)):
        for cell in range(cells):
            shared = min(timeline.end[i], bins.edges[cell + 1]) - max(timeline.start[i], bins.edges[cell])
            wanted[timeline.lane[i], timeline.colour[i], cell] += max(0, int(shared))
    assert np.array_equal(bins.busy, wanted)
    assert (bins.occupancy() <= 1 + 1e-9).all()


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), low=st.floats(0, 0.9), length=st.floats(0.01, 1))
def test_hot_nodes_and_bars_within_a_window(seed: int, low: float, length: float, trace: MakeTrace) -> None:
    timeline = make(trace, seed, bars=60)
    whole = timeline.finish - timeline.begin
    start = timeline.begin + low * whole
    end = start + length * whole
    spent: dict[str, float] = {}
    for i in range(len(timeline)):
        bar = timeline.bar(i)
        inside = bar.start < end and bar.end > start
        assert (i in timeline.within(bar.lane, start, end)) == inside or bar.start == bar.end
        if inside:
            spent[bar.node] = spent.get(bar.node, 0) + min(bar.end, end) - max(bar.start, start)
    hot = timeline.hot(start, end)
    for row in hot:
        assert row.total_ns == pytest.approx(spent.get(row.node, 0), abs=1)
    assert [row.total_ns for row in hot] == sorted((row.total_ns for row in hot), reverse=True)
    assert sum(row.share for row in hot) == pytest.approx(1, abs=1e-6) or not any(spent.values())


def test_bars_are_sorted_and_complete(trace: MakeTrace) -> None:
    row, order, batches = trace(3)
    timeline = Timeline.build([(row, order, batches)], hue)
    assert len(timeline) == sum(len(batch) for batch in batches)
    assert len(timeline.lanes) == 4
    assert [lane.label for lane in timeline.lanes] == ["CPU:0 ·1", "CPU:0 ·2", "GPU:0 ·1", "GPU:0 ·2"]
    for lane in range(4):
        mine = np.flatnonzero(timeline.lane == lane)
        assert (timeline.start[mine][1:] >= timeline.end[mine][:-1]).all()
    made = sorted(
        (timeline.bar(i).node, timeline.bar(i).start, timeline.bar(i).end) for i in range(len(timeline))
    )
    given = sorted(
        (order[n], s, e)
        for batch in batches
        for n, s, e in zip(batch.node.tolist(), batch.start_ns.tolist(), batch.end_ns.tolist())
    )
    assert made == given


def test_bars_that_overlap_get_lanes_of_their_own(
    make_executions: Callable[..., Executions], make_step: Callable[..., Any]
) -> None:
    batch = make_executions([(0, 0, 10, 1), (1, 5, 15, 1), (2, 10, 20, 1), (3, 12, 13, 1)])
    timeline = Timeline.build([(make_step(1, 0, 20), list("abcd"), [batch])], lambda name: -1)
    assert [lane.part for lane in timeline.lanes] == [0, 1, 2]
    assert timeline.lane.tolist() == [0, 0, 1, 2]


def test_dead_nodes_are_counted_not_drawn(
    make_executions: Callable[..., Executions], make_step: Callable[..., Any]
) -> None:
    batch = make_executions([(0, 0, 10, 1), (1, 10, 10, 1)])
    batch.dead[1] = True
    timeline = Timeline.build([(make_step(1, 0, 20), ["a", "b"], [batch])], lambda name: -1)
    assert (len(timeline), timeline.dead) == (1, 1)


def test_several_steps_share_the_axis(trace: MakeTrace) -> None:
    timeline = Timeline.build([trace(1, number=1), trace(2, number=2)], hue)
    assert [span.label for span in timeline.steps] == ["step 1", "step 2"]
    assert set(timeline.step.tolist()) == {1, 2}
    assert timeline.begin == timeline.steps[0].start


def test_nothing_at_all() -> None:
    timeline = Timeline.build([], lambda name: -1)
    assert len(timeline) == 0
    assert draw_timeline(timeline, timeline.whole(), DARK, 60, 8).height == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["zoom", "pan", "around"]), st.floats(0.01, 30), st.floats(-1, 2)),
        max_size=12,
    )
)
def test_windows_stay_inside(moves: list[tuple[str, float, float]]) -> None:
    window = Window(100.0, 100_100.0, 100.0, 100_100.0)
    for kind, amount, at in moves:
        time = 100 + at * 100_000
        if kind == "zoom":
            anchor = min(max(time, window.start), window.end)
            share = (anchor - window.start) / window.length
            zoomed = window.zoom(amount, anchor)
            inside = zoomed.start > window.low and zoomed.end < window.high
            if inside:
                assert (anchor - zoomed.start) / zoomed.length == pytest.approx(share, abs=1e-6)
            window = zoomed
        elif kind == "pan":
            window = window.pan(at * amount)
        else:
            window = window.around(time, time + amount)
        assert window.low - 1e-6 <= window.start < window.end <= window.high + 1e-6


@pytest.mark.parametrize("length", [1, 37, 1000, 4.2e6, 9.9e9])
def test_ticks_are_round_and_few(length: float) -> None:
    at, step = ticks(12.0, 12.0 + length, 8)
    assert len(at) <= 9
    assert float(f"{step:.0e}"[0]) in (1, 2, 5)
    assert all(tick % step == pytest.approx(0, abs=1e-3) for tick in at)


def test_a_bar_can_be_found_where_it_is_drawn(trace: MakeTrace) -> None:
    timeline = make(trace, 5, bars=20)
    window, width = timeline.whole(), 100
    drawing = draw_timeline(timeline, window, DARK, width, 20)
    long = [
        i for i in range(len(timeline)) if timeline.bar(i).duration > 3 * window.length / cells_for(width)
    ]
    assert long
    for index in long:
        bar = timeline.bar(index)
        x = LABEL_WIDTH + int(((bar.start + bar.end) / 2 - window.start) / window.length * cells_for(width))
        row = drawing.hits_of(("lane", bar.lane))[0].row
        assert drawing.at(x, row) == ("lane", bar.lane)
        assert timeline.at(bar.lane, *cell_time(window, x, width)) == index


def test_the_drawing(make_executions: Callable[..., Executions], make_step: Callable[..., Any]) -> None:
    """Two bars with their names, half a lane idle, steps, an axis."""
    batch = make_executions([(0, 0, 250, 1), (1, 250, 500, 1)])
    timeline = Timeline.build(
        [(make_step(7, 0, 1000), ["dense/MatMul", "Relu"], [batch])], lambda name: 0 if "/" in name else 1
    )
    drawing = draw_timeline(timeline, timeline.whole(), DARK, LABEL_WIDTH + 41, 5)
    rows = drawing.rows()
    assert rows[1].split() == ["1.00", "µs", "╷0", "╷500", "ns"]
    assert rows[2].split() == ["step", "step", "7"]
    assert rows[4] == " CPU:0".ljust(LABEL_WIDTH) + " MatMul    Relu"
    cells: Counter[str] = Counter()
    for text, style in drawing.lines[4]:
        if style.bgcolor is not None:
            cells[style.bgcolor.name] += len(text)
    assert sorted(cells.values()) == [10, 10]
    assert all(len("".join(text for text, _ in line)) == LABEL_WIDTH + 41 for line in drawing.lines)


def test_a_modelled_device_is_called_one(
    make_executions: Callable[..., Executions], make_step: Callable[..., Any]
) -> None:
    step = (make_step(7, 0, 1000), ["a"], [make_executions([(0, 0, 250, 1)])])
    timeline = Timeline.build([step], lambda name: 0, modelled={step[2][0].device})
    assert timeline.lanes[0].modelled
    assert (
        draw_timeline(timeline, timeline.whole(), DARK, LABEL_WIDTH + 41, 5)
        .rows()[4]
        .startswith(" CPU:0 model ")
    )


def test_choosing_bars(trace: MakeTrace) -> None:
    timeline = make(trace, 2)
    first = timeline.nearest(1, timeline.begin)
    assert first is not None
    assert timeline.lane[first] == 1
    assert timeline.neighbour(first, -5) == timeline.neighbour(first, -50)
    assert timeline.neighbour(first, 1) == first + 1
    name = timeline.bar(first).node
    assert first in timeline.bars_of(name)
    assert len(timeline.bars_of("nobody")) == 0
