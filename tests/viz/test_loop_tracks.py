"""Loops on a timeline: packing and the counter against naive counting, and the drawing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing.frames import EnterToken, FrameSpan, FrameTree, IterationSpan
from viz.cells import Page, line_width
from viz.draw_loops import draw_loop_card, draw_loop_rows
from viz.draw_timeline import LABEL_WIDTH, draw_timeline
from viz.loop_tracks import loop_tracks, rows_for
from viz.palette import DARK
from viz.timeline_model import Timeline, Window

pytestmark = pytest.mark.usefixtures("as_written")


def frame(
    id: int, spans: list[tuple[int, int]], parent: int = 0, name: str = "loop/while_context", **more: Any
) -> FrameSpan:
    """A frame with iterations at these times."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    begin, end = min(start for start, _ in spans), max(end for _, end in spans)
    iterations = tuple(IterationSpan(i, i, i + 1, *span) for i, span in enumerate(spans))
    enters = (EnterToken("loop/Enter", 0, False, False),)
    made: dict[str, Any] = {"limit": 4, "iterations": iterations, "enters": enters, **more}
    return FrameSpan(
        id=id, name=name, parent=parent, parent_iteration=0, live=True, begin_row=0, end_row=9,
        begin_ns=begin, end_ns=end, changes=tuple(changes), **made,
    )  # fmt: skip


spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300)), min_size=1, max_size=12).map(
    lambda pairs: [(start, start + length) for start, length in sorted(pairs)]
)


@settings(max_examples=40)
@given(spans=spans, start=st.integers(-50, 900), length=st.integers(1, 700), cells=st.integers(1, 40))
def test_the_counter_against_counting_nanosecond_by_nanosecond(
    spans: list[tuple[int, int]], start: int, length: int, cells: int
) -> None:
    (track,) = loop_tracks([(1, FrameTree([frame(1, spans)]))])
    length *= cells  # so that cells end between nanoseconds
    mean, most = track.levels(start, start + length, cells)
    at = np.arange(start, start + length)
    counts = np.array([sum(low <= time < high for low, high in spans) for time in at])
    assert mean == pytest.approx(counts.reshape(cells, -1).mean(axis=1))
    assert (most >= counts.reshape(cells, -1).max(axis=1)).all()
    assert most.max() <= max(counts.max(), track.counts.max())


@given(spans=spans)
def test_lanes_hold_every_iteration_once_and_none_overlap(spans: list[tuple[int, int]]) -> None:
    (track,) = loop_tracks([(1, FrameTree([frame(1, spans)]))])
    for lane in track.iterations:
        assert all(before.end <= after.start for before, after in pairwise(lane))
    numbers = [span.iteration.number for lane in track.iterations for span in lane if span.iteration]
    assert sorted(numbers) == list(range(len(spans)))
    points = {time for span in spans for time in span}
    deepest = max(sum(low <= time < high for low, high in spans) for time in points)
    assert len(track.iterations) == deepest


def test_loops_inside_loops_come_after_them_under_short_names() -> None:
    outer = frame(1, [(0, 50), (40, 100)], name="outer/while_context")
    inner = [frame(i, [(10 * i, 10 * i + 5)], 1, "outer/inner/while_context") for i in (2, 3)]
    back = frame(4, [(100, 200)], name="gradients/outer/while_context", gradient_of="outer/while_context")
    tracks = loop_tracks([(7, FrameTree([outer, back, *inner]))])
    assert [(track.label, track.depth) for track in tracks] == [("outer", 0), ("inner", 1), ("∇ outer", 0)]
    assert [len(lane) for lane in tracks[1].frames] == [2]
    rows = rows_for(tracks, 100)
    assert [(row.track, row.kind, row.lane) for row in rows] == [
        (0, "frames", 0), (0, "iterations", 0), (0, "iterations", 1), (0, "counter", 0),
        (1, "frames", 0), (1, "iterations", 0), (1, "counter", 0),
        (2, "frames", 0), (2, "iterations", 0), (2, "counter", 0),
    ]  # fmt: skip
    assert [row.kind for row in rows_for(tracks, 4)] == ["frames", "counter", "frames", "frames"]
    assert rows_for(tracks, 0) == ()


def test_the_drawing() -> None:
    held = IterationSpan(1, 5, 9, 600, 1000, deferred_row=2, deferred_ns=200)
    first = IterationSpan(0, 0, 5, 0, 600)
    only = frame(1, [(0, 600), (600, 1000)], iterations=(first, held), limit=1)
    tracks = loop_tracks([(1, FrameTree([only]))])
    window = Window(0, 1000, 0, 1000)
    lines, hits = draw_loop_rows(tracks, rows_for(tracks, 10), window, DARK, LABEL_WIDTH, 20)
    texts = ["".join(text for text, _ in line) for line in lines]
    assert texts == [
        " loop         2 iterations       ",
        "  iter        0                  ",
        "                 ░░░░░░░░ 1      ",
        "  1 of 1     ████████████████████",
    ]
    assert {hit.key.kind for hit in hits} == {"frames", "iterations", "counter"}
    page = Page(50)
    draw_loop_card(page, tracks[0], tracks[0].iterations[1][0], 0, DARK)
    rows = page.drawing().rows()
    assert rows[0] == " ■ loop, iteration 1"
    assert " held back 400 ns, from #2" in rows
    assert " under way at most 1 of 1, 1.00 on average" in rows
    whole = draw_timeline(
        Timeline.build([], lambda name: -1), window, DARK, 60, 12, loops=tracks, loop_rows=rows_for(tracks, 3)
    )
    assert [hit.row for hit in whole.hits if hit.key[0] == "loop"] == [3, 4, 5]
    assert all(line_width(line) == 60 for line in whole.lines)
