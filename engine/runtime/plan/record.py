"""Tracing inside plans: the log that a traced program keeps, and how observers are told of it.

The program only appends to lists (`Log.stamps`, `writes`, `measured`); what these mean is worked out behind the step, or, in a
long loop, whenever they have grown long.  So memory stays bounded.  Once observers have been told `TOLD_BYTES` of a step they
are told of some iterations of its loops only, ever fewer, and at the end of exact counts and times of all (`observe.Totals`).
"""

from __future__ import annotations

import itertools
import threading
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.observe import (
    Executions,
    FrameChange,
    FrameEvent,
    Health,
    Observer,
    ResourceWrites,
    StepInfo,
    Totals,
    TraceLevel,
    WritePattern,
)
from engine.runtime.collector import Written, health_batch, look, summary_of, text_of
from engine.runtime.health import ArrayHealth
from engine.runtime.interrupts import Held
from engine.runtime.plan.paths import Layout
from engine.runtime.plan.replay import Replay
from engine.runtime.plan.rows import Rows, Same, SameWrites

if TYPE_CHECKING:
    from engine.runtime.plan.stamped import Tapes
    from engine.runtime.resources import Write

LOG_ENTRIES = 100_000
"""A log of so many entries is worked out, told and forgotten, as soon as the loop that made it is at an iteration's end."""

TOLD_BYTES = 128 << 20
"""What observers are told of a step in full, in bytes of rows; of what comes then, they are told a sample."""

_STRIDE = 16  # of the first sample; each later one is as much thinner
_THINNEST = 1 << 40  # the first iteration only
_ROW, _EVENT, _WRITE, _LOOK = 45, 300, 300, 160  # about how many bytes one takes where it is kept


class Log:
    """What happened in one step of a plan, on its way to `observers`.

    layout: of the plan, for the observers' highest level.  device: where the step runs.
    `stamps` begins with when the step began; see `engine.runtime.plan.paths` for the rest.
    """

    def __init__(self, layout: Layout, observers: Sequence[Observer], step: StepInfo, device: str) -> None:
        self.stamps = array("q", [step.started_ns])
        self.writes: list[tuple[Written, ...]] = []
        self.measured: list[tuple[ArrayHealth | None, ...]] = []
        self.tapes: Tapes | None = None  # what segments tell, where there are any
        self.observers = observers
        self.step = step
        self.device = device
        self._layout = layout
        self._replay = Replay(layout)
        self._thread = threading.get_ident() & 0x7FFFFFFF
        self._first = 0  # rows told
        self._told_bytes = 0
        self._next_bytes = TOLD_BYTES
        self._totals: list[Any] | None = None
        self._skipped = 0

    # What the program calls.

    def wrote(self, writes: Sequence[Write]) -> None:
        """An instruction has changed these; what is kept of them holds no large arrays."""
        self.writes.append(tuple([Written.of(write) for write in writes]) if writes else ())

    def health(self, *outputs: Any) -> None:
        """An instruction has given these outputs, all of its node's in order."""
        self.measured.append(tuple([look(value) for value in outputs]))

    def pause(self) -> None:
        """A loop is at the end of an iteration: tell what there is if it is much."""
        if len(self.stamps) + 4 * len(self.measured) >= LOG_ENTRIES:
            with Held():
                self._flush(final=False)

    # Observers.

    def begin(self) -> None:
        for observer in self.observers:
            observer.step_begin(self.step)

    def end(self, ended_ns: int, error: BaseException | None) -> None:
        """Tell the rest, and that the step has ended."""
        self._flush(final=True)
        if self._totals is not None and self._skipped:
            executions, dead, total_ns = self._totals
            node = np.flatnonzero(executions).astype(np.int32)
            totals = Totals(node, executions[node], dead[node], total_ns[node], self._skipped)
            self._tell("totals", totals)
        for observer in self.observers:
            observer.step_end(self.step, ended_ns, error)

    def _tell(self, method: str, batch: Any, level: TraceLevel = TraceLevel.TIMES) -> None:
        for observer in self.observers:
            if observer.level >= level:
                getattr(observer, method)(self.step, batch)

    def _flush(self, *, final: bool) -> None:
        replay, tapes = self._replay, self.tapes
        if tapes is not None:
            tapes.trim()
            replay.natives = tapes.health
        entries = len(self.stamps)
        replay.advance(self.stamps, self.measured, final=final)
        if replay.stretches:
            rows = replay.rows(self.stamps)
            if tapes is not None:
                tapes.complete(rows)
            if not final or self._totals is not None:
                self._add_up(rows)
            self._tell_rows(rows)
        self.stamps[:] = replay.clear(self.stamps)
        if tapes is not None:
            tapes.forgotten(entries - len(self.stamps))
        self.writes.clear()
        self.measured.clear()
        if self._told_bytes >= self._next_bytes:
            self._next_bytes += TOLD_BYTES // 8
            replay.stride = min(replay.stride * _STRIDE, _THINNEST)

    def _add_up(self, rows: Rows) -> None:
        size = len(self._layout.executable.program.items)
        if self._totals is None:
            self._totals = [np.zeros(size, np.int64) for _ in range(3)]
        executions, dead, total_ns = self._totals
        executions += np.bincount(rows.node, minlength=size)
        dead += np.bincount(rows.node[rows.dead], minlength=size)
        # In float64, which is exact up to 104 days of nanoseconds.
        total_ns += np.bincount(rows.node, rows.end_ns - rows.start_ns, size).astype(np.int64)

    def _tell_rows(self, rows: Rows) -> None:
        """Hand on the rows, and what refers to them."""
        told = rows.told
        first = self._first
        if rows.same is not None and not first:
            self._tell_same(rows, rows.same)
            return
        # By place among all rows, the number that a row has among those told; of one that is not, that of the last before it.
        number = np.arange(first, first + len(rows)) if told is None else np.cumsum(told) + (first - 1)
        columns = (rows.node, rows.frame, rows.iteration, rows.start_ns, rows.end_ns, rows.dead)
        if told is not None:
            self._skipped += int(len(told) - np.count_nonzero(told))
            columns = tuple(column[told] for column in columns)  # type: ignore[assignment]
        node, frame, iteration, start_ns, end_ns, dead = columns
        if len(node):
            thread = np.full(len(node), self._thread, np.int32)
            self._tell(
                "executions",
                Executions(self.device, first, node, frame, iteration, start_ns, end_ns, thread, dead),
            )
            self._first += len(node)
        self._told_bytes += len(node) * _ROW
        self._tell_frames(rows, number)
        self._tell_writes(rows, number)
        self._tell_health(rows, number)

    def _tell_same(self, rows: Rows, same: Same) -> None:
        """The same for rows that many steps have, and that are all that there is up to now."""
        pattern, thread = same.on(self._thread, self.device)
        columns = (rows.node, rows.frame, rows.iteration, rows.start_ns, rows.end_ns, thread, rows.dead)
        self._tell("executions", Executions(self.device, 0, *columns, pattern, rows.times))
        self._first = len(rows)
        self._told_bytes += len(rows) * _ROW
        self._tell_frames(rows, same.number)
        self._tell_writes(rows, same.number)
        self._tell_health(rows, same.number)

    def _tell_frames(self, rows: Rows, number: Any) -> None:
        events = self._replay.events
        if not events:
            return
        # Row -1 of an instance is its last; instance -1 ended before the rows that are told now.
        instance = np.array([event.instance for event in events], np.int64)
        row = np.array([event.row for event in events], np.int64)
        place = rows.first[instance] + np.where(row < 0, rows.size[instance] - 1, row)
        known = np.where(instance < 0, self._first_before(rows), number[place])
        ends: Any = None
        found: list[FrameEvent] = []
        for at, event in zip(known.tolist(), events, strict=True):
            about = event.frame, event.name, event.parent, event.parent_iteration
            if not event.times:
                found.append(FrameEvent(event.change, at, *about, event.iteration, event.live))
                continue
            if ends is None:
                ends = number[rows.first + rows.size - 1]
            over = ends[event.instance : event.instance + event.times].tolist()
            for iteration, end in enumerate(over, event.iteration):
                if iteration % event.stride == 0:
                    found.append(FrameEvent(FrameChange.ITERATION_END, end, *about, iteration))
                if (iteration + 1) % event.stride == 0:
                    found.append(FrameEvent(FrameChange.ITERATION_BEGIN, end, *about, iteration + 1))
        self._told_bytes += len(found) * _EVENT
        self._tell("frames", tuple(found))

    def _first_before(self, rows: Rows) -> int:
        """The last row that was told before these."""
        told = len(rows) if rows.told is None else int(np.count_nonzero(rows.told))
        return self._first - told - 1

    def _tell_writes(self, rows: Rows, number: Any) -> None:
        lengths = list(map(len, self.writes))
        if not any(lengths):
            return
        same = rows.same if rows.same is not None and number is rows.same.number else None
        known = same.writes if same is not None else None
        several: Sequence[tuple[Written, ...]]
        if known is not None and known.lengths == lengths:
            places, several = known.places, self.writes
        else:
            known = None
            places, several = self._places_of_writes(rows, lengths)
            if not several:
                return
        container, resource, kind, version, key, nbytes, dtype, shape, text = zip(
            *itertools.chain.from_iterable(several)
        )
        # In step after step the same is written: then only versions, times and the values of scalars are new.
        what = (container, resource, kind, key, nbytes, dtype, shape)
        if known is None or known.what != what:
            row, node, frame, iteration = (
                tuple(column[places].tolist()) for column in (number, rows.node, rows.frame, rows.iteration)
            )
            summary = tuple(map(summary_of, dtype, shape))
            who = (row, node, frame, iteration)
            pattern = WritePattern(*who, container, resource, kind, nbytes, summary, key)
            varying = tuple([at for at, said in enumerate(summary) if said is None])
            known = SameWrites(lengths, places, what, varying, pattern)
            if same is not None:
                same.writes = known
        summaries = [text_of(dtype[at], shape[at], text[at]) for at in known.varying]
        self._told_bytes += len(version) * _WRITE
        batch = ResourceWrites(known.pattern, version, rows.end_ns[places], summaries)
        self._tell("resource_writes", batch)

    def _places_of_writes(
        self, rows: Rows, lengths: Sequence[int]
    ) -> tuple[Any, Sequence[tuple[Written, ...]]]:
        """The entries of writes that are told, and for each write its row."""
        # The last may be of an instruction that was interrupted, and has no row.
        entries = [entry for entry, length in enumerate(lengths[: len(rows.writes)]) if length]
        places = rows.writes[np.array(entries, np.int64)]
        if rows.told is not None:
            kept = rows.told[places]
            places = places[kept]
            entries = [entry for entry, keep in zip(entries, kept.tolist(), strict=True) if keep]
        repeats = [lengths[entry] for entry in entries]
        return np.repeat(places, repeats), [self.writes[entry] for entry in entries]

    def _tell_health(self, rows: Rows, number: Any) -> None:
        found = self._replay.health
        if not found:
            return
        first = rows.first.tolist()
        places = np.array([first[each.instance] + each.row for each in found], np.int64)
        batch: Health = health_batch(
            [(row, each.slot, each.health) for row, each in zip(number[places].tolist(), found, strict=True)]
        )
        self._told_bytes += len(found) * _LOOK
        self._tell("health", batch, TraceLevel.VALUES)
