"""The program of a plan as it is shown: its lines, how long values live beside them, memory, and what each line cost."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.passes.stage import Stage
from engine.runtime.plan.explain import Explanation, of_stage
from engine.runtime.plan.lines import Line, Value
from viz import format as fmt
from viz.timings import NodeTiming, Timings


@dataclass(frozen=True, slots=True)
class Bar:
    """The life of a value, from line `first` to line `last`, on a track of its own for that time.

    `name` is ``%3``, `tensor` the output that made it; `dims` its static shape (None: unknown rank) and `nbytes` its size in
    bytes, None where the shape leaves it open.
    """

    name: str
    tensor: str
    dtype: str
    dims: tuple[int | None, ...] | None
    nbytes: int | None
    first: int
    last: int
    track: int


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A line of the program: number (from 1), depth, kind ("compute", "branch", "loop", "move") and text.

    `nodes` are the names of the stage's nodes whose work it is, `handed` of those that only hand on its values; `reads` and
    `writes` names of values.  `makes` is the type and shape of the first value that it makes.  `live_bytes` is the size of what
    is alive at it, as far as shapes say.
    """

    number: int
    depth: int
    kind: str
    text: str
    nodes: tuple[str, ...]
    handed: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    makes: str
    live_bytes: int


class PlanModel:
    """What is shown of an `Explanation`; `rows` and `bars` are empty where the interpreter runs.

    Memory is by shapes, each value counted from the line that makes it to the last that needs it: views, which share memory, are
    counted apart; variables and constants are not counted.
    """

    def __init__(self, said: Explanation) -> None:
        self.said = said
        listed = said.listing
        values: Sequence[Value] = listed.values if listed is not None else ()
        self.bars = _bars(values)
        self.tracks = max((bar.track for bar in self.bars), default=-1) + 1
        alive = _alive(self.bars, len(said.lines))
        self.rows = tuple(_row(line, values, alive[line.number]) for line in said.lines)
        self.peak_bytes = max(alive, default=0)
        self.peak_line = alive.index(self.peak_bytes) if self.peak_bytes else 0

    def backend(self, number: int) -> str:
        """What runs line `number`: "python", "tape"."""
        segments = self.said.listing.segments if self.said.listing is not None else ()
        at = bisect.bisect_right(segments, number, key=lambda each: each.first) - 1
        return segments[at].backend if at >= 0 else ""

    @cached_property
    def unsized(self) -> int:
        """How many values have a size that shapes leave open."""
        return sum(bar.nbytes is None for bar in self.bars)

    @cached_property
    def _by_track(self) -> tuple[tuple[list[int], list[Bar]], ...]:
        """For each track its bars in order, beside the lines at which they begin."""
        found: list[list[Bar]] = [[] for _ in range(self.tracks)]
        for bar in self.bars:
            found[bar.track].append(bar)
        return tuple(([bar.first for bar in bars], bars) for bars in found)

    def bar_at(self, track: int, number: int) -> Bar | None:
        """The bar on `track` beside line `number`, if there is one."""
        starts, bars = self._by_track[track]
        at = bisect.bisect_right(starts, number) - 1
        return bars[at] if at >= 0 and bars[at].last >= number else None

    @cached_property
    def home(self) -> tuple[tuple[str, ...], ...]:
        """For each row, the nodes whose time is counted there: every node is in one row, the first that stands for it."""
        found: list[list[str]] = [[] for _ in self.rows]
        for node in dict.fromkeys(name for row in self.rows for name in (*row.nodes, *row.handed)):
            found[self.said.lines_of(node)[0] - 1].append(node)
        return tuple(map(tuple, found))

    def lines_of(self, nodes: Iterable[str]) -> frozenset[int]:
        """The numbers of the lines that stand for any of `nodes`."""
        return frozenset(number for node in nodes for number in self.said.lines_of(node))

    def nodes_of(self, number: int) -> tuple[str, ...]:
        """The nodes that line `number` stands for: those whose work it is first."""
        row = self.rows[number - 1]
        return (*row.nodes, *row.handed)

    def times(self, timings: Timings) -> tuple[NodeTiming, ...]:
        """What each row cost in the executions behind `timings`."""
        return tuple(timings.of_all(nodes) for nodes in self.home)


def plan_model(stage: Stage) -> PlanModel:
    """The model of the plan of `stage`, the last of a chain, as it is recomputed from its nodes.

    Raises InvalidArgumentError for a stage that cannot be executed.
    """
    return PlanModel(of_stage(stage))


def _bars(values: Iterable[Value]) -> tuple[Bar, ...]:
    """The lives of what takes memory, each on the lowest track that is free for all of it."""
    found: list[Bar] = []
    free: list[int] = []
    busy: list[tuple[int, int]] = []  # (last line, track)
    tracks = 0
    for value in sorted(values, key=lambda value: (value.first, value.number)):
        if value.nbytes == 0:  # a reference, or nothing at all
            continue
        while busy and busy[0][0] < value.first:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            track = heapq.heappop(free)
        else:
            track, tracks = tracks, tracks + 1
        heapq.heappush(busy, (value.last, track))
        found.append(
            Bar(
                value.name,
                value.tensor,
                value.dtype,
                value.dims,
                value.nbytes,
                value.first,
                value.last,
                track,
            )
        )
    return tuple(found)


def _alive(bars: Iterable[Bar], lines: int) -> list[int]:
    """The bytes that are alive at each line, from line 0."""
    change = np.zeros(lines + 2, np.int64)
    for bar in bars:
        change[bar.first] += bar.nbytes or 0
        change[bar.last + 1] -= bar.nbytes or 0
    return [int(each) for each in np.cumsum(change)[:-1]]


def _row(line: Line, values: Sequence[Value], live: int) -> PlanRow:
    made = values[line.writes[0]] if line.kind == "compute" and line.writes else None
    return PlanRow(
        line.number,
        line.depth,
        line.kind,
        line.text,
        line.nodes,
        line.handed,
        tuple(values[number].name for number in line.reads),
        tuple(values[number].name for number in line.writes),
        fmt.tensor(made.dtype, made.dims) if made is not None else "",
        live,
    )
