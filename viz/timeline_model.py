"""Executions as bars on lanes: what ran when, on which device and thread, over one step or many.

`Timeline` holds the bars in columns, sorted by lane and start.  `bins` answers, for a window and a width in cells, how much of
each cell each colour is busy, exactly, with one search over all lanes and colours: bars of a lane do not overlap, so the time
that a colour was busy before t is a prefix sum less what the bar under way at t has yet to do.  A million bars take a few
milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.observe import Executions, Override
from viz import format as fmt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

COLOURS = 9  # the neutral one (0) and eight hues (1 to 8)


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of bars that do not overlap: one thread of one device (or a part of it, where even these overlap).

    `modelled`: the device is a model, and the times are what modelling its kernels took here.
    """

    device: str
    thread: int
    part: int
    label: str
    modelled: bool = False


@dataclass(frozen=True, slots=True)
class StepSpan:
    """A step on the time axis; times in ns.  `changed`: when somebody at a debugger changed something by hand in it, and what."""

    id: int
    label: str
    start: int
    end: int
    failed: bool
    changed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: execution `index` of the timeline; times in ns of the process's clock."""

    index: int
    node: str
    lane: int
    step: int
    frame: int
    iteration: int
    start: int
    end: int

    @property
    def duration(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Hot:
    """A node's share of a window: how often it ran in it, and for how long."""

    node: str
    runs: int
    total_ns: int
    share: float


@dataclass(frozen=True, slots=True)
class Bins:
    """`busy[lane, colour, cell]` nanoseconds; `edges` are the cells' bounds, one more than there are cells."""

    edges: Int64
    busy: Int64

    def occupancy(self) -> Float64:
        """The busy share of each lane's cells."""
        size = np.maximum(np.diff(self.edges), 1)
        return np.asarray(self.busy.sum(axis=1) / size, dtype=np.float64)

    def colour(self) -> npt.NDArray[np.intp]:
        """The colour that is busiest in each lane's cells."""
        return np.asarray(self.busy.argmax(axis=1))


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the time axis, in ns, inside `low` to `high`."""

    start: float
    end: float
    low: float
    high: float

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def is_whole(self) -> bool:
        return self.start <= self.low and self.end >= self.high

    def zoom(self, factor: float, anchor: float | None = None, least: float = 100.0) -> Window:
        """A window `factor` times as long, `anchor` (a time; the middle if None) staying where it is."""
        whole = self.high - self.low
        length = min(whole, max(min(least, whole), self.length * factor))
        at = (self.start + self.end) / 2 if anchor is None else anchor
        share = (at - self.start) / self.length if self.length else 0.5
        return self._moved(at - share * length, length)

    def pan(self, share: float) -> Window:
        """Moved by `share` of its length."""
        return self._moved(self.start + share * self.length, self.length)

    def around(self, start: float, end: float, margin: float = 0.15) -> Window:
        """A window that shows `start` to `end`, keeping its length if they fit."""
        if self.start <= start and end <= self.end:
            return self
        length = max(self.length, (end - start) * (1 + 2 * margin))
        return self._moved((start + end) / 2 - length / 2, min(length, self.high - self.low))

    def _moved(self, start: float, length: float) -> Window:
        start = min(max(start, self.low), self.high - length)
        return Window(start, start + length, self.low, self.high)


class Timeline:
    """Bars of one or several steps.  Columns have an element a bar, sorted by (lane, start)."""

    def __init__(
        self,
        names: Sequence[str],
        lanes: Sequence[Lane],
        steps: Sequence[StepSpan],
        lane: Int32,
        start: Int64,
        end: Int64,
        node: Int32,
        step: Int32,
        frame: Int32,
        iteration: Int64,
        colour: npt.NDArray[np.int8],
        dead: int,
    ) -> None:
        self.names = tuple(names)
        self.lanes = tuple(lanes)
        self.steps = tuple(steps)
        self.lane, self.start, self.end, self.node = lane, start, end, node
        self.step, self.frame, self.iteration, self.colour = step, frame, iteration, colour
        self.dead = dead
        begins = [span.start for span in steps] + ([int(start.min())] if len(start) else [])
        ends = [span.end for span in steps] + ([int(end.max())] if len(end) else [])
        self.begin = min(begins, default=0)
        self.finish = max(max(ends, default=1), self.begin + 1)
        self._first = np.searchsorted(lane, np.arange(len(lanes) + 1))
        # Bars by (colour, lane, start), for the bins.
        self._stride = self.finish - self.begin + 1
        group = colour.astype(np.int64) * max(1, len(lanes)) + lane
        order = np.argsort(group, kind="stable")
        self._keys = group[order] * self._stride + (start[order] - self.begin)
        self._ends = end[order]
        self._prefix = np.concatenate(([0], np.cumsum(end[order] - start[order])))
        self._group_start = np.searchsorted(group[order], np.arange(COLOURS * max(1, len(lanes)) + 1))

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def build(
        cls,
        steps: Iterable[tuple[Any, Sequence[str], Sequence[Executions]]],
        colour_of: Callable[[str], int],
        modelled: Collection[str] = (),
        overrides: Mapping[int, Sequence[Override]] = MappingProxyType({}),
    ) -> Timeline:
        """From steps as the trace reader gives them: (row, the stage's order, batches of executions).

        A row has `id`, `step`, `started_ns`, `duration_ns` and `error`.  `colour_of` gives a node's hue index (-1: neutral);
        `modelled` names the devices that are models; `overrides` has what was changed by hand, by a step's id.
        Dead executions are counted, not drawn.
        """
        number: dict[str, int] = {}
        spans: list[StepSpan] = []
        columns: list[tuple[npt.NDArray[Any], ...]] = []
        threads: dict[tuple[str, int], int] = {}
        dead = 0
        for row, order, batches in steps:
            begin = int(row.started_ns)
            finish = begin + int(row.duration_ns or 0)
            translate = np.fromiter(
                (number.setdefault(name, len(number)) for name in order), np.int32, len(order)
            )
            for batch in batches:
                alive = ~np.asarray(batch.dead, np.bool_)
                dead += int(len(alive) - alive.sum())
                if not alive.any():
                    continue
                thread = np.asarray(batch.thread)[alive]
                lane = np.empty(len(thread), np.int32)
                for found in np.unique(thread).tolist():
                    lane[thread == found] = threads.setdefault((batch.device, found), len(threads))
                start, end = np.asarray(batch.start_ns)[alive], np.asarray(batch.end_ns)[alive]
                finish = max(finish, int(end.max()))
                columns.append(
                    (
                        lane,
                        start.astype(np.int64),
                        np.maximum(end, start).astype(np.int64),
                        translate[np.asarray(batch.node)[alive]],
                        np.full(len(lane), row.id, np.int32),
                        np.asarray(batch.frame, np.int32)[alive],
                        np.asarray(batch.iteration, np.int64)[alive],
                    )
                )
            changed = tuple((each.at_ns, each.text) for each in overrides.get(row.id, ()))
            spans.append(StepSpan(row.id, f"step {row.step}", begin, finish, bool(row.error), changed))
        dtypes = (np.int32, np.int64, np.int64, np.int32, np.int32, np.int32, np.int64)
        joined: list[npt.NDArray[Any]] = [
            np.concatenate([np.zeros(0, dtypes[i]), *(chunk[i] for chunk in columns)]) for i in range(7)
        ]
        joined[0], lanes = _parts(joined[0], joined[1], joined[2], list(threads), modelled)
        order_by = np.lexsort((joined[2], joined[1], joined[0]))
        row_lane, start, end, node, step, frame, iteration = (column[order_by] for column in joined)
        hues = np.fromiter((colour_of(name) + 1 for name in number), np.int8, len(number))
        hues[(hues < 0) | (hues >= COLOURS)] = 0
        colour = hues[node] if len(node) else np.zeros(0, np.int8)
        return cls(
            list(number), lanes, spans, row_lane, start, end, node, step, frame, iteration, colour, dead
        )

    # Looking.

    def whole(self) -> Window:
        """The window of everything."""
        return Window(self.begin, self.finish, self.begin, self.finish)

    def bins(self, start: float, end: float, cells: int) -> Bins:
        """How busy each lane is, by colour, in each of `cells` equal parts of the window."""
        lanes = max(1, len(self.lanes))
        edges = np.rint(np.linspace(start, end, cells + 1)).astype(np.int64)
        at = np.clip(edges - self.begin, 0, self._stride - 1)
        groups = np.arange(COLOURS * lanes)
        found = np.searchsorted(
            self._keys, (groups[:, None] * self._stride + at[None, :]).ravel(), side="right"
        )
        first = np.repeat(self._group_start[:-1], cells + 1)
        before = self._prefix[found] - self._prefix[first]
        if len(self._ends):
            last = self._ends[np.maximum(found - 1, 0)] - self.begin
            running = np.maximum(last - np.tile(at, len(groups)), 0)
            before -= np.where(found > first, running, 0)
        busy = np.diff(before.reshape(COLOURS, lanes, cells + 1), axis=2)
        return Bins(edges, busy.transpose(1, 0, 2)[: len(self.lanes)])

    def bar(self, index: int) -> Bar:
        """Bar number `index`."""
        return Bar(
            index,
            self.names[self.node[index]],
            int(self.lane[index]),
            int(self.step[index]),
            int(self.frame[index]),
            int(self.iteration[index]),
            int(self.start[index]),
            int(self.end[index]),
        )

    def within(self, lane: int, start: float, end: float) -> range:
        """The numbers of the lane's bars that reach into the window."""
        first, last = int(self._first[lane]), int(self._first[lane + 1])
        low = first + int(np.searchsorted(self.end[first:last], start, side="right"))
        high = first + int(np.searchsorted(self.start[first:last], end, side="left"))
        return range(low, max(low, high))

    def at(self, lane: int, start: float, end: float) -> int | None:
        """The bar of the lane that fills most of `start` to `end`; the nearest for an empty stretch between; None if none."""
        inside = self.within(lane, start, end)
        if inside:
            there = slice(inside.start, inside.stop)
            filled = np.minimum(self.end[there], end) - np.maximum(self.start[there], start)
            return inside.start + int(filled.argmax())
        return None

    def neighbour(self, index: int, offset: int) -> int:
        """The bar `offset` places later (or earlier) on the same lane, or the last (first) one."""
        lane = int(self.lane[index])
        return min(max(index + offset, int(self._first[lane])), int(self._first[lane + 1]) - 1)

    def nearest(self, lane: int, time: float) -> int | None:
        """The bar of the lane whose middle is nearest to `time`; None on an empty lane."""
        first, last = int(self._first[lane]), int(self._first[lane + 1])
        if first == last:
            return None
        middle = (self.start[first:last] + self.end[first:last]) / 2
        return first + int(np.abs(middle - time).argmin())

    def bars_of(self, name: str) -> Int64:
        """The numbers of the bars of node `name`."""
        try:
            wanted = self.names.index(name)
        except ValueError:
            return np.zeros(0, np.int64)
        return np.asarray(np.flatnonzero(self.node == wanted), dtype=np.int64)

    def hot(self, start: float, end: float, limit: int = 50) -> list[Hot]:
        """The nodes that took most of the window, costliest first; shares are of all lanes' busy time in it."""
        runs = np.zeros(len(self.names), np.int64)
        spent = np.zeros(len(self.names))
        for lane in range(len(self.lanes)):
            inside = self.within(lane, start, end)
            there = slice(inside.start, inside.stop)
            taken = np.minimum(self.end[there], end) - np.maximum(self.start[there], start)
            runs += np.bincount(self.node[there], minlength=len(self.names))
            spent += np.bincount(self.node[there], weights=taken, minlength=len(self.names))
        total = float(spent.sum()) or 1.0
        order = np.lexsort((np.arange(len(spent)), -spent))[:limit]
        return [
            Hot(self.names[i], int(runs[i]), round(spent[i]), float(spent[i] / total))
            for i in order
            if runs[i]
        ]

    def shares(self, start: float, end: float) -> list[tuple[int, float]]:
        """Hue indices (-1: neutral) with their share of the window's busy time, greatest first."""
        busy = self.bins(start, end, 1).busy.sum(axis=(0, 2)) if self.lanes else np.zeros(COLOURS, np.int64)
        total = float(busy.sum()) or 1.0
        found = [(colour - 1, float(busy[colour]) / total) for colour in range(COLOURS) if busy[colour]]
        return sorted(found, key=lambda entry: -entry[1])


def _parts(
    lane: Int32, start: Int64, end: Int64, threads: Sequence[tuple[str, int]], modelled: Collection[str]
) -> tuple[Int32, list[Lane]]:
    """Lanes without overlaps, by device and thread: a thread whose bars overlap becomes several."""
    found = np.zeros(len(lane), np.int32)
    lanes: list[Lane] = []
    several = {device: sum(other == device for other, _ in threads) > 1 for device, _ in threads}
    position = {thread: number for number, thread in enumerate(threads)}
    seen: dict[str, int] = {}
    for device, thread in sorted(threads, key=lambda each: (each[0], position[each])):
        seen[device] = seen.get(device, 0) + 1
        name = fmt.device(device) + (f" ·{seen[device]}" if several[device] else "")
        name += " model" if device in modelled else ""
        mine = np.flatnonzero(lane == position[device, thread])
        mine = mine[np.lexsort((end[mine], start[mine]))]
        starts, ends = start[mine], end[mine]
        part = np.zeros(len(mine), np.int32)
        if len(mine) > 1 and bool((starts[1:] < ends[:-1]).any()):
            free: list[int] = []  # when each part is free again
            for i, (begin, finish) in enumerate(zip(starts.tolist(), ends.tolist())):
                chosen = next((p for p, at in enumerate(free) if at <= begin), len(free))
                if chosen == len(free):
                    free.append(finish)
                free[chosen] = finish
                part[i] = chosen
        found[mine] = part + len(lanes)
        lanes += [
            Lane(device, thread, number, name if number == 0 else "", device in modelled)
            for number in range(int(part.max(initial=0)) + 1)
        ]
    return found, lanes


def ticks(start: float, end: float, most: int) -> tuple[list[float], float]:
    """Round times in the window, at most `most` of them, and the distance between them: 1, 2 or 5 times a power of ten."""
    length = max(end - start, 1.0)
    step = 10.0 ** np.floor(np.log10(length / max(1, most)))
    step = next(step * factor for factor in (1, 2, 5, 10, 20, 50) if length / (step * factor) <= most)
    step = max(1.0, float(step))
    first = np.ceil(start / step) * step
    return [float(at) for at in np.arange(first, end, step)], step
