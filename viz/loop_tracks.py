"""Loops on a timeline: their frames, the iterations of these one inside the other, and how many were under way at a time.

A `LoopTrack` is one loop of the graph with all its frames in the steps that are shown.  Iterations overlap by as much as
`parallel_iterations` allows, so they are packed into lanes; a span begins where an iteration was first wanted, and `wait` says
how long of it the iteration was held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracing.frames import FrameSpan, FrameTree, IterationSpan, frame_label

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LoopSpan:
    """A frame, or an iteration of one (`iteration` is None for the frame itself), in ns of the process's clock."""

    step: int
    frame: FrameSpan
    iteration: IterationSpan | None
    start: int
    end: int
    wait: int = 0

    @property
    def text(self) -> str:
        """What stands in it: an iteration's number, a frame's number of iterations."""
        if self.iteration is not None:
            return str(self.iteration.number)
        begun = self.frame.begun
        return f"{begun} iteration{'' if begun == 1 else 's'}" + ("" if self.frame.live else ", dead")


@dataclass(frozen=True)
class LoopTrack:
    """One loop.

    label: its name without that of the loop around it (of a backward loop: ``∇`` and its forward loop's).
    depth: how many loops are around it.
    frames: lanes of its frames.
    iterations: lanes of these frames' iterations.  times, counts: from each time on, so many iterations are under way, over all
    its frames.  limit: how many a frame may have (`parallel_iterations`).  most: how many one had.
    """

    label: str
    depth: int
    limit: int
    frames: tuple[tuple[LoopSpan, ...], ...]
    iterations: tuple[tuple[LoopSpan, ...], ...]
    times: Int64
    counts: Int64
    most: int
    deferred: int
    waited_ns: int

    def at(self, start: float, end: float) -> tuple[Int64, Int64]:
        """The counter in a window: times (the first is the window's start) and counts from each on."""
        first = int(np.searchsorted(self.times, start, side="right")) - 1
        last = int(np.searchsorted(self.times, end, side="left"))
        before = int(self.counts[first]) if first >= 0 else 0
        inside = slice(first + 1, max(first + 1, last))
        times = np.concatenate(([int(start)], self.times[inside]))
        return times, np.concatenate(([before], self.counts[inside]))

    def levels(self, start: float, end: float, cells: int) -> tuple[npt.NDArray[np.float64], Int64]:
        """The counter in `cells` equal parts of a window: its mean over the time of each, and its greatest value."""
        edges = np.linspace(start, end, cells + 1)
        times, counts = self.at(start, end)
        ends = np.append(times[1:], end)
        area = np.concatenate(([0.0], np.cumsum((ends - times) * counts)))
        place = np.clip(np.searchsorted(times, edges, side="right") - 1, 0, len(times) - 1)
        under = area[place] + (edges - times[place]) * counts[place]
        mean = np.diff(under) / max((end - start) / cells, 1e-9)
        most = np.maximum(counts[place[:-1]], counts[place[1:]])
        inner = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, cells - 1)
        np.maximum.at(most, inner, counts)
        return mean, most


def loop_tracks(trees: Iterable[tuple[int, FrameTree]]) -> tuple[LoopTrack, ...]:
    """The loops that steps (by id) entered, each after the one around it."""
    found: dict[tuple[str, ...], list[tuple[int, FrameSpan]]] = {}
    labels: dict[tuple[str, ...], str] = {}
    for step, tree in trees:
        keys: dict[int, tuple[str, ...]] = {0: ()}
        for _, frame in tree.walk():
            key = keys[frame.id] = (*keys.get(frame.parent, ()), frame.name)
            found.setdefault(key, []).append((step, frame))
            labels.setdefault(key, _label(tree, frame))
    first = {key: min(frame.begin_ns for _, frame in frames) for key, frames in found.items()}
    order = sorted(found, key=lambda key: [(first.get(key[: i + 1], 0), key[i]) for i in range(len(key))])
    return tuple(_track(labels[key], len(key) - 1, found[key]) for key in order)


def _label(tree: FrameTree, frame: FrameSpan) -> str:
    """A loop's short name; of the backward loop of a gradient that of its forward loop, behind a nabla."""
    if not frame.gradient_of:
        return tree.label(frame.id)
    return "∇ " + frame_label(frame.gradient_of).rpartition("/")[2]


def _track(label: str, depth: int, frames: Sequence[tuple[int, FrameSpan]]) -> LoopTrack:
    spans = [LoopSpan(step, frame, None, frame.begin_ns, frame.end_ns) for step, frame in frames]
    iterations = [_span(step, frame, each) for step, frame in frames for each in frame.iterations]
    changes: list[Any] = [frame.changes for _, frame in frames]
    at = np.array([time for each in changes for time, _ in each], np.int64)
    by = np.array([change for each in changes for _, change in each], np.int64)
    order = np.argsort(at, kind="stable")
    return LoopTrack(
        label=label,
        depth=depth,
        limit=max(frame.limit for _, frame in frames),
        frames=_packed(spans),
        iterations=_packed(iterations),
        times=at[order],
        counts=np.cumsum(by[order], dtype=np.int64),
        most=max(frame.most_under_way for _, frame in frames),
        deferred=sum(len(frame.deferred) for _, frame in frames),
        waited_ns=sum(frame.waited_ns for _, frame in frames),
    )


def _span(step: int, frame: FrameSpan, each: IterationSpan) -> LoopSpan:
    start = each.deferred_ns if each.deferred_row >= 0 else each.begin_ns
    return LoopSpan(step, frame, each, start, max(each.end_ns, start), each.begin_ns - start)


def _packed(spans: list[LoopSpan]) -> tuple[tuple[LoopSpan, ...], ...]:
    """The spans in as few lanes as hold them without overlaps."""
    lanes: list[list[LoopSpan]] = []
    for span in sorted(spans, key=lambda each: (each.start, each.end)):
        lane = next((lane for lane in lanes if lane[-1].end <= span.start), None)
        if lane is None:
            lane = []
            lanes.append(lane)
        lane.append(span)
    return tuple(tuple(lane) for lane in lanes)


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A row of the drawing: of a track its 'frames', a lane of its 'iterations', or its 'counter'."""

    track: int
    kind: str
    lane: int = 0


def rows_for(tracks: Sequence[LoopTrack], room: int) -> tuple[TrackRow, ...]:
    """At most `room` rows: of every loop its frames, then its counter, then lanes of iterations, as far as there is room."""
    wanted = [TrackRow(i, "frames") for i in range(len(tracks))]
    wanted += [TrackRow(i, "counter") for i in range(len(tracks))]
    deepest = max((len(track.iterations) for track in tracks), default=0)
    for lane in range(deepest):
        wanted += [
            TrackRow(i, "iterations", lane) for i, track in enumerate(tracks) if lane < len(track.iterations)
        ]
    for lane in range(1, max((len(track.frames) for track in tracks), default=0)):
        wanted += [TrackRow(i, "frames", lane) for i, track in enumerate(tracks) if lane < len(track.frames)]
    kinds = ("frames", "iterations", "counter")
    return tuple(sorted(wanted[: max(0, room)], key=lambda row: (row.track, kinds.index(row.kind), row.lane)))
