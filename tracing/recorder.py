"""Recorder: the observer that writes a run directory.

It keeps what a step tells until the step ends and then writes all of it in one transaction; a step that tells more than
`SPILL_BYTES` is written in parts, so that memory stays bounded.  It measures what it costs, and it never disturbs the program:
when it cannot go on (a full disk), it stops recording, warns once, and says so in `failure`.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from engine import observe
from engine.observe import (
    Allocation,
    Descents,
    Executions,
    FrameChange,
    FrameEvent,
    Health,
    Observer,
    Override,
    ResourceWrite,
    StepInfo,
    Tokens,
    Totals,
    TraceLevel,
    Transfer,
    Value,
)
from engine.passes.stage import Stage
from tracing import batches, directory
from tracing.capture import VALUE_BUDGET, VALUE_CAP, Budget
from tracing.catalogue import Catalogue
from tracing.common import Common
from tracing.devices import device_states, worth_telling
from tracing.environment import describe
from tracing.histograms import Histogram
from tracing.kinds import Kind
from tracing.later import Later
from tracing.pending import PendingStep
from tracing.rows import RESOURCE_WRITES
from tracing.tensorboard import TensorBoardWriter, ToldStep
from tracing.writer import RunWriter

SPILL_BYTES = 16 << 20
"""A step that has told more than this before it ends is written in parts."""

EVENT_SECONDS = 1.0
"""How long after a step's end it is written into the event file, which takes longer than many a step."""

# About how much memory a row of each kind takes while it is kept.
_ROW_BYTES = {
    "executions": 45,
    "health": 160,
    "totals": 28,
    "tokens": 37,
    "frames": 300,
    "resource_writes": 300,
    "transfers": 300,
    "allocations": 200,
    "dropped": 200,
    "values": 300,
    "devices": 1500,
    "overrides": 500,
    "descents": 16,
}

COUNTERS = (
    "observe_ns",  # taking in what steps tell
    "values_ns",  # choosing and copying captured values
    "stages_ns",  # writing stages
    "write_ns",  # packing and writing steps
    "tensorboard_ns",  # writing steps into the event file, later
    "logged_ns",  # writing scalars and histograms
    "captured",
    "captured_bytes",
    "dropped",
    "dropped_bytes",
)
"""What a run counts: nanoseconds that recording took, by what for; captured values kept and dropped, in number and bytes."""


class Recorder(Observer):
    """Writes what the engine tells into a run directory.  Several sessions and threads may run steps at once.

    writer: where to; it is the recorder's from now on.
    level: how much the engine should tell.
    tensorboard: the event file to write too, or None.
    budget: how many bytes of captured values (level FULL) to keep.  What is not kept is counted, and the run says which
        values those were.

    It hears nothing until it is installed: `engine.observe.install`, or `tracing.start`, which does all of this.
    """

    def __init__(
        self,
        writer: RunWriter,
        level: TraceLevel = TraceLevel.TIMES,
        *,
        tensorboard: TensorBoardWriter | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.level = level
        self.failure: BaseException | None = None
        self.closed = False
        self._writer = writer
        self._tensorboard = tensorboard
        self._budget = budget or Budget()
        self._lock = threading.Lock()
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._steps: dict[int, PendingStep] = {}
        self._common = Common(writer)
        self._catalogue = Catalogue(writer, tensorboard)
        self._later = Later(self._describe, self._give_up, EVENT_SECONDS)
        _recorders.add(self)

    @classmethod
    def create(
        cls,
        logdir: str | os.PathLike[str],
        level: TraceLevel,
        name: str,
        *,
        script: str | None = None,
        tensorboard: bool = True,
        value_budget: int = VALUE_BUDGET,
        value_cap: int = VALUE_CAP,
    ) -> Recorder:
        """Make a run directory in `logdir` and a recorder that writes it.  Raises RunError if it cannot be made."""
        path = directory.create(logdir, name)
        meta = {
            "name": name,
            "script": script,
            "level": level.name.lower(),
            "created_unix_ns": time.time_ns(),
            "created_ns": time.perf_counter_ns(),
            "environment": describe(),
            "value_budget": value_budget,
            "value_cap": value_cap,
        }
        writer = RunWriter(path, meta)
        events = TensorBoardWriter(path) if tensorboard else None
        recorder = cls(writer, level, tensorboard=events, budget=Budget(value_budget, value_cap))
        recorder._catalogue.sources([] if script is None else [script])
        return recorder

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._writer.path

    @property
    def counters(self) -> Mapping[str, int]:
        """What recording has cost and kept so far; see `COUNTERS`."""
        with self._lock:
            return dict(self._counters)

    # What the engine tells.

    def stage(self, stage: Stage) -> None:
        with _Work(self, "stages_ns") as on:
            if on:
                self._catalogue.stage(stage)

    def step_begin(self, step: StepInfo) -> None:
        work = _Work(self, "observe_ns")
        with work as on:
            if on:
                stage_id = self._catalogue.stage(step.stage)
                pending = PendingStep(step, stage_id, self._catalogue.site(step.site))
                if self._tensorboard is not None and self._tensorboard.chooses(stage_id, len(step.stage)):
                    pending.events = ToldStep(step)
                self._steps[step.id] = work.pending = pending

    def executions(self, step: StepInfo, batch: Executions) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                pending.record.executions += len(batch)
                pending.record.dead += int(np.count_nonzero(batch.dead))
                if pending.events is not None:
                    pending.events.executions(batch)
                self._keep(pending, batches.EXECUTIONS, batch, device=batch.device)

    def health(self, step: StepInfo, batch: Health) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None and self.level >= TraceLevel.VALUES:
                if pending.events is not None:
                    pending.events.health(batch)
                self._keep(pending, batches.HEALTH, batch)

    def totals(self, step: StepInfo, batch: Totals) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, batches.TOTALS, batch)

    def tokens(self, step: StepInfo, batch: Tokens) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None and self.level >= TraceLevel.FULL:
                self._keep(pending, batches.TOKENS, batch)

    def values(self, step: StepInfo, batch: tuple[Value, ...]) -> None:
        with _Work(self, "values_ns", step) as pending:
            if pending is not None and self.level >= TraceLevel.FULL:
                kept, kept_bytes, dropped = self._budget.choose(batch)
                dropped_bytes = sum(value.nbytes for value in dropped)
                record = pending.record
                record.captured += len(kept)
                record.captured_bytes += kept_bytes
                record.dropped += len(dropped)
                record.dropped_bytes += dropped_bytes
                self._count({"captured": len(kept), "captured_bytes": kept_bytes})
                self._count({"dropped": len(dropped), "dropped_bytes": dropped_bytes})
                self._keep(pending, batches.DROPPED, dropped)
                self._keep(pending, batches.VALUES, kept, kept_bytes)

    def frames(self, step: StepInfo, batch: tuple[FrameEvent, ...]) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                for event in batch:
                    if event.change is FrameChange.FRAME_BEGIN:
                        pending.record.frames += 1
                    elif event.change is FrameChange.ITERATION_BEGIN:
                        pending.record.iterations += 1
                self._keep(pending, batches.FRAMES, batch)

    def resource_writes(self, step: StepInfo, batch: Sequence[ResourceWrite]) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, RESOURCE_WRITES, batch)

    def transfers(self, step: StepInfo, batch: tuple[Transfer, ...]) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, batches.TRANSFERS, batch)

    def allocations(self, step: StepInfo, batch: tuple[Allocation, ...]) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, batches.ALLOCATIONS, batch)

    def overrides(self, step: StepInfo, batch: tuple[Override, ...]) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, batches.OVERRIDES, batch)
                if pending.events is not None:
                    pending.events.overrides(batch)
                if self._tensorboard is not None:
                    self._tensorboard.overrides(step, batch)

    def descents(self, step: StepInfo, batch: Descents) -> None:
        with _Work(self, "observe_ns", step) as pending:
            if pending is not None:
                self._keep(pending, batches.DESCENTS, batch)

    def step_end(self, step: StepInfo, ended_ns: int, error: BaseException | None) -> None:
        with _Work(self, "write_ns", step) as pending:
            if pending is not None:
                began_ns = time.perf_counter_ns()
                record = pending.record
                record.duration_ns = ended_ns - record.started_ns
                if worth_telling(step.devices):
                    pending.add(batches.DEVICES, device_states(step.devices), 0)
                if error is not None:
                    record.error = in_words(error)
                    record.error_node = getattr(getattr(error, "op", None), "name", None)
                blobs = pending.take(self._common)
                pending.ended = True
                counters = self._count(pending.costs)
                record.recorder_ns = sum(pending.costs.values()) + time.perf_counter_ns() - began_ns
                self._writer.end_step(record, blobs, counters)
                if pending.events is not None:
                    self._later.put(pending.events)
        self._steps.pop(step.id, None)

    # What the user's program logs.

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Store one number, in the database and the event file."""
        with _Work(self, "logged_ns") as on:
            if on:
                now = time.time_ns()
                self._writer.add_scalar(tag, step, value, now)
                if self._tensorboard is not None:
                    self._tensorboard.scalar(tag, step, value, now)

    def histogram(self, tag: str, histogram: Histogram, step: int) -> None:
        """Store one histogram, in the database and the event file."""
        with _Work(self, "logged_ns") as on:
            if on:
                now = time.time_ns()
                self._writer.add_histogram(tag, step, histogram.pack(), now)
                if self._tensorboard is not None:
                    self._tensorboard.histogram(tag, step, histogram, now)

    def close(self, state: str = "finished", error: str | None = None) -> None:
        """End the run; `state` is 'finished' or 'failed', `error` what the program raised.

        Steps that are under way in other threads are written as far as they got, and stay unfinished.
        """
        with self._lock:
            if self.closed:
                return
            self.closed = True
        observe.uninstall(self)
        try:
            self._later.finish()
            for pending in list(self._steps.values()):
                self._count(pending.costs)
                self._writer.spill(pending.record, pending.take(self._common))
            if self.failure is not None:
                self._writer.put_meta({"recorder_error": in_words(self.failure)})
            self._writer.finish(state, error, self.counters)
            if self._tensorboard is not None:
                self._tensorboard.close()
        except Exception as problem:
            self._writer.abandon()
            self._give_up(problem)

    # How.

    def _keep(self, pending: PendingStep, kind: Kind, batch: Any, nbytes: int = 0, device: str = "") -> None:
        if len(batch):
            pending.add(kind, batch, nbytes + len(batch) * _ROW_BYTES[kind.name], device)
            if pending.nbytes > SPILL_BYTES:
                self._writer.spill(pending.record, pending.take(self._common))

    def _describe(self, told: ToldStep) -> None:
        """Write a step into the event file."""
        if self._tensorboard is not None:
            began_ns = time.perf_counter_ns()
            stage_ids = [self._catalogue.stage(stage) for stage in told.info.stage.chain()]
            self._tensorboard.step(told, stage_ids)
            self._count({"tensorboard_ns": time.perf_counter_ns() - began_ns})

    def _count(self, amounts: Mapping[str, int]) -> Mapping[str, int]:
        """Add to the counters; returns what they are then."""
        with self._lock:
            for name, amount in amounts.items():
                self._counters[name] += amount
            return self._counters.copy()

    def _give_up(self, problem: BaseException) -> None:
        if self.failure is None:
            self.failure = problem
            observe.uninstall(self)
            message = f"recording to {self.path} has stopped, the program goes on: {in_words(problem)}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _forget_after_fork(self) -> None:
        self.closed = True
        self._lock = threading.Lock()
        self._steps.clear()
        self._catalogue.forget_after_fork()
        self._common.forget_after_fork()
        self._later.forget()
        self._writer.forget_after_fork()
        if self._tensorboard is not None:
            self._tensorboard.forget_after_fork()
        observe.uninstall(self)


class _Work:
    """Around everything that a recorder does for the program: counts the time, and keeps errors from it.

    Gives what is pending of `step` (True if it is not about a step), or None if there is nothing to do: the recorder has
    stopped, or the step began before it was there.
    """

    __slots__ = ("_began", "_counter", "_recorder", "_step", "pending")

    def __init__(self, recorder: Recorder, counter: str, step: StepInfo | None = None) -> None:
        self._recorder = recorder
        self._counter = counter
        self._step = step
        self.pending: Any = None

    def __enter__(self) -> Any:
        self._began = time.perf_counter_ns()
        recorder = self._recorder
        if recorder.failure is None and not recorder.closed:
            self.pending = True if self._step is None else recorder._steps.get(self._step.id)
        return self.pending

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        took = time.perf_counter_ns() - self._began
        pending, counter = self.pending, self._counter
        if type(pending) is PendingStep and not pending.ended:
            pending.costs[counter] = pending.costs.get(counter, 0) + took  # counted when the step has ended
        else:
            self._recorder._count({counter: took})
        if isinstance(problem, Exception):
            if not self._recorder.closed:  # else another thread has just ended the recording
                self._recorder._give_up(problem)
            return True
        return False


def in_words(error: BaseException) -> str:
    """An error as one text: its type, and what it says."""
    return f"{type(error).__name__}: {error}"


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A child inherits the parent's open files: two processes must not write one database through one connection.
    for recorder in list(_recorders):
        recorder._forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
