"""Run: a recorded run, read.

Opens the directory of a run that is being written, has finished, or was killed, and never changes what is in it.  A `Run` may
be used by several threads.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from engine.observe import (
    Allocation,
    Descents,
    Executions,
    FrameEvent,
    Health,
    Override,
    ResourceWrite,
    Tokens,
    Totals,
    Transfer,
    Value,
    standing,
)
from engine.passes.stage import Stage
from tracing import batches, columns, directory
from tracing.batches import Dropped
from tracing.database import Database
from tracing.dead_path import DeadPath, Ran, dead_path
from tracing.devices import DeviceState
from tracing.errors import ColumnsError, RunError
from tracing.frames import FrameTree, recorded_frames
from tracing.histograms import Histogram
from tracing.kinds import Columns, Kind
from tracing.rows import RESOURCE_WRITES
from tracing.stacks import Contents, recorded_contents
from tracing.stages import RecordedFrame, frames_from_json, unpack_stage

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_KEPT_STAGES = 16
_KEPT_BASES = 32


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage of a run without its nodes; `before_id` is the stage that it was made from."""

    id: int
    name: str
    before_id: int | None
    nodes: int


@dataclass(frozen=True, slots=True)
class StepRow:
    """One recorded `Session.run`.

    `started_ns` is on the writing process's performance counter, as the times of executions are; `started_unix_ns` on the wall
    clock.  `site` is the user's stack at the call, innermost frame first.  `finished` is false for a step that was under way
    when this was read, or when its process was killed; its duration is then 0.  `error` is what the call raised, `error_node`
    the node in which.  `executor` is what ran it: "plan (python)", or "interpreter: " and why not a plan.
    `captured` and `dropped` count values (level FULL); `recorder_ns` is what recording this step cost.
    """

    id: int
    session: int
    step: int
    stage_id: int
    thread: int
    started_ns: int
    started_unix_ns: int
    duration_ns: int
    finished: bool
    fetches: tuple[str, ...]
    feeds: tuple[str, ...]
    targets: tuple[str, ...]
    site: tuple[RecordedFrame, ...]
    error: str | None
    error_node: str | None
    executions: int
    dead: int
    frames: int
    iterations: int
    captured: int
    captured_bytes: int
    dropped: int
    dropped_bytes: int
    recorder_ns: int
    executor: str


_PLAIN = (
    *("id", "session", "step", "stage_id", "thread", "started_ns", "started_unix_ns", "duration_ns"),
    *("error", "error_node", "executions", "dead", "frames", "iterations"),
    *("captured", "captured_bytes", "dropped", "dropped_bytes", "recorder_ns", "executor"),
)
_STEPS = ", ".join(("finished", "site_id", "fetches", "feeds", "targets", *_PLAIN))
_META = {
    "created_ns": int,
    "created_unix_ns": int,
    "ended_unix_ns": int,
    "environment": dict,
    "level": str,
    "recorder_error": str,
    "script": str,
}


class Run:
    """A run directory, opened for reading.  Every method raises RunError if what it needs is damaged.

    Made by `Run.open`; a context manager.  What is in it is as of the last `refresh`, or the opening.
    """

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open the run at `path`: its directory, or the database in it.

        Raises RunError if there is no such directory, it is not a run's, its database is damaged, or it was written by a newer
        version.
        """
        return cls(Database(directory.database(path)))

    def __init__(self, database: Database) -> None:
        self.path = database.path
        self.schema_version = database.version
        self._database = database
        self._lock = threading.RLock()
        self._version: Any = None
        self._meta: dict[str, Any] = {}
        self._alive = False
        self._last = 0
        self._steps: dict[int, StepRow] = {}
        self._unlooked: list[int] = []  # of which `changed_steps` has not been asked
        self._changed: dict[int, tuple[Override, ...]] = {}
        self._sites: dict[int, tuple[RecordedFrame, ...]] = {}
        self._load_stage = lru_cache(maxsize=_KEPT_STAGES)(self._read_stage)
        self._load_base = lru_cache(maxsize=_KEPT_BASES)(self._read_base)
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database: what has not been read yet cannot be any more."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Run {self.path.name}, {self.state}>"

    def refresh(self) -> bool:
        """Pick up what a live writer has added since the last time; says whether it has written anything.

        That it moved into the database what its journal had told already counts, too.
        Costs some microseconds when there was nothing: a screen may ask several times a second.
        """
        with self._lock:
            version = self._database.look()
            changed: bool = version != self._version
            if changed:
                self._read_new()
                self._version = version
            if self._meta.get("state") == "running":
                was, self._alive = self._alive, self._is_alive()
                changed = changed or was != self._alive
            return changed

    # What the run is.

    @property
    def name(self) -> str:
        return str(self._meta.get("name", self.path.name))

    @property
    def state(self) -> str:
        """'running', 'finished', 'failed' (the program raised), or 'interrupted' (its process is gone without a word)."""
        state = str(self._meta.get("state"))
        return "interrupted" if state == "running" and not self._alive else state

    @property
    def error(self) -> str | None:
        """What the program raised, if it did."""
        return self._meta.get("error")

    @property
    def recorder_error(self) -> str | None:
        """Why recording stopped before the program did, if it did."""
        return self._meta.get("recorder_error")

    @property
    def level(self) -> str:
        """How much was recorded: 'times', 'values' or 'full'."""
        return str(self._meta.get("level", "times"))

    @property
    def script(self) -> str | None:
        """The program that was recorded, if it is a file."""
        return self._meta.get("script")

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where it ran: argv, directory, python, platform, processor, host, packages; see `tracing.environment`."""
        return MappingProxyType(self._meta.get("environment", {}))

    @property
    def created_ns(self) -> int:
        """When recording began, on the clock of steps and executions."""
        return int(self._meta.get("created_ns", 0))

    @property
    def created_unix_ns(self) -> int:
        """When recording began, in nanoseconds of the wall clock."""
        return int(self._meta.get("created_unix_ns", 0))

    @property
    def ended_unix_ns(self) -> int | None:
        """When recording ended, in nanoseconds of the wall clock; None if it goes on or was interrupted."""
        return self._meta.get("ended_unix_ns")

    def counters(self) -> dict[str, int]:
        """What recording cost, in nanoseconds, and what it kept and dropped; see `tracing.recorder.COUNTERS`."""
        return dict(self._database.rows("counters", "name, value"))

    def sources(self) -> tuple[str, ...]:
        """The user's files whose text was kept."""
        return tuple(path for (path,) in self._database.rows("sources", "path", "ORDER BY path"))

    def source(self, path: str) -> str | None:
        """The text of one of the user's files as it was when it was recorded, or None if it was not kept."""
        rows = self._database.rows("sources", "data", "WHERE path = ?", (path,))
        try:
            return zlib.decompress(rows[0][0]).decode("utf-8", "surrogatepass") if rows else None
        except (zlib.error, UnicodeDecodeError) as error:
            raise self._database.damaged(f"the text of {path}", error) from error

    # Stages and steps.

    def stages(self) -> list[StageRow]:
        """All stages, in the order in which they were made."""
        rows = self._database.rows("stages", "id, name, before_id, nodes", "ORDER BY id")
        return [StageRow(*row) for row in rows]

    def stage(self, stage_id: int) -> Stage:
        """A stage with all its nodes.  Raises RunError if the run has none of that id."""
        return self._load_stage(stage_id)

    def steps(self) -> list[StepRow]:
        """The steps that have ended, in the order in which they began."""
        with self._lock:
            return [self._steps[step_id] for step_id in sorted(self._steps)]

    def unfinished(self) -> list[StepRow]:
        """The steps of which a part has been written but not the end."""
        return [row for _, row in self._read_steps("WHERE finished IS NULL ORDER BY id")]

    def step(self, step_id: int) -> StepRow:
        """One step, ended or not.  Raises RunError if the run has none of that id."""
        found = self._steps.get(step_id)
        if found is None:
            rows = self._read_steps("WHERE id = ?", (step_id,))
            if not rows:
                raise RunError(f"the run in {self.path} has no step {step_id}")
            found = rows[0][1]
        return found

    # What a step did.

    def executions(self, step_id: int) -> Executions:
        """The node executions of a step in the order in which they ended, those of all devices together.

        Row i is the execution number i that health, tokens, values and the rest refer to; `node` indexes the stage's `order`.
        """
        found: Executions = self._read(step_id, batches.EXECUTIONS)
        return found

    def partitions(self, step_id: int) -> dict[str, tuple[Executions, ...]]:
        """The node executions of a step by device, in batches as the engine told them: row i of one is number `first` + i."""
        try:
            parts = [batches.read_executions(part) for part in self._parts(step_id, batches.EXECUTIONS)]
            if any(not part.batch.device for part in parts):
                devices = [node.device for node in self.stage(self.step(step_id).stage_id)]
                parts = [each for part in parts for each in batches.on_devices(part, devices)]
            return batches.by_device(parts)
        except (LookupError, TypeError, ValueError) as error:
            raise self._database.damaged(f"the executions of step {step_id}", error) from error

    def health(self, step_id: int) -> Health:
        """How the outputs of a step looked; empty below level VALUES."""
        found: Health = self._read(step_id, batches.HEALTH)
        return found

    def totals(self, step_id: int) -> Totals | None:
        """What the nodes of a step did in all, exactly, if not all of its executions were recorded; else None."""
        found: Totals | None = self._read(step_id, batches.TOTALS)
        return found

    def tokens(self, step_id: int) -> Tokens:
        """The tokens that a step delivered, in order; empty below level FULL."""
        found: Tokens = self._read(step_id, batches.TOKENS)
        return found

    def frames(self, step_id: int) -> tuple[FrameEvent, ...]:
        """What happened to the frames and iterations of a step, in order."""
        return self._read_rows(step_id, batches.FRAMES)

    def frame_tree(self, step_id: int) -> FrameTree:
        """The frames and iterations of a step: how each was entered, when it began and ended, what was held back for how long."""
        step = self.step(step_id)
        return recorded_frames(self.stage(step.stage_id), self.executions(step_id), self.frames(step_id))

    def dead_path(
        self, step_id: int, node: str, frame: int | None = None, iteration: int | None = None
    ) -> DeadPath:
        """Why `node` was dead: the Switch that killed its token, the way from there, and where the deadness was stopped.

        Without `frame` (an id; 0 is the root) and `iteration`, of its last dead execution among those that fit.  Raises RunError
        if the step has no such node, or it did not run there, or was alive.
        """
        step = self.step(step_id)
        stage = self.stage(step.stage_id)
        ran = Ran(stage, self.executions(step_id))
        start = ran.last_dead(node, frame, iteration)
        if isinstance(start, str):
            raise RunError(f"step {step_id} of the run in {self.path}: {start}")
        return dead_path(stage, ran, self.frame_tree(step_id).parents(), start)

    def contents(self, step_id: int) -> tuple[Contents, ...]:
        """The stacks and arrays of tensors that a step wrote to, with all that they ever held: `Contents.after(row)`.

        Elements have their health from level VALUES on.
        """
        step = self.step(step_id)
        writes = self.resource_writes(step_id)
        if self.schema_version < 2:  # which said of a stack's write what the whole stack held
            writes = tuple(replace(write, summary="") for write in writes)
        stage = self.stage(step.stage_id)
        return recorded_contents(stage, self.executions(step_id), writes, self.health(step_id))

    def resource_writes(self, step_id: int) -> tuple[ResourceWrite, ...]:
        """The changes that a step made to variables and other resources, in order."""
        return self._read_rows(step_id, RESOURCE_WRITES)

    def transfers(self, step_id: int) -> tuple[Transfer, ...]:
        """The tensors that crossed devices in a step."""
        return self._read_rows(step_id, batches.TRANSFERS)

    def allocations(self, step_id: int) -> tuple[Allocation, ...]:
        """The memory that a step took and gave back, in order."""
        return self._read_rows(step_id, batches.ALLOCATIONS)

    def devices(self, step_id: int) -> tuple[DeviceState, ...]:
        """The devices at the end of a step, where there was more than the host's CPU; () otherwise."""
        return self._read_rows(step_id, batches.DEVICES)

    def values(self, step_id: int) -> tuple[Value, ...]:
        """The values of a step that were kept; none below level FULL."""
        return self._read_rows(step_id, batches.VALUES)

    def dropped(self, step_id: int) -> tuple[Dropped, ...]:
        """The values of a step that were not kept: too large, over the budget, or of a kind that has no stored form."""
        return self._read_rows(step_id, batches.DROPPED)

    def overrides(self, step_id: int) -> tuple[Override, ...]:
        """What somebody at a debugger changed by hand in a step, in order, without what was taken back."""
        return standing(self._read_rows(step_id, batches.OVERRIDES))

    def descents(self, step_id: int) -> Descents:
        """The executions of a step that descend from something that was changed by hand, in it or in an earlier step.

        `override` is the `number` of the change.
        """
        found: Descents = self._read(step_id, batches.DESCENTS)
        if not len(found):
            return found
        made: tuple[Override, ...] = self._read_rows(step_id, batches.OVERRIDES)
        kept = ~np.isin(found.override, [each.number for each in made if each.taken_back])
        return Descents(found.row[kept], found.override[kept])

    def changed_steps(self) -> dict[int, tuple[Override, ...]]:
        """What was changed by hand in the whole run: the steps that have ended in which something was, and what.

        Looks at those only that have come since it was last asked.
        """
        with self._lock:
            new = self._unlooked
            if new:
                kind = batches.OVERRIDES.name
                within = "WHERE step_id BETWEEN ? AND ? AND kind = ?"
                rows = self._database.rows("batches", "step_id", within, (min(new), max(new), kind))
                for step_id in {step_id for (step_id,) in rows if step_id in self._steps}:
                    made = self.overrides(step_id)
                    if made:
                        self._changed[step_id] = made
                self._unlooked = []
            return {step_id: self._changed[step_id] for step_id in sorted(self._changed)}

    # What the user's program logged.

    def scalars(self) -> dict[str, tuple[Int64, Float64]]:
        """For each tag, the steps and the values, in the order in which they were logged."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        for tag, step, value in self._database.rows("scalars", "tag, step, value", "ORDER BY id"):
            steps, values = found.setdefault(tag, ([], []))
            steps.append(step)
            values.append(np.nan if value is None else value)
        return {tag: (np.array(s, np.int64), np.array(v, np.float64)) for tag, (s, v) in found.items()}

    def histograms(self) -> dict[str, list[tuple[int, Histogram]]]:
        """For each tag, the steps and the histograms, in the order in which they were logged."""
        found: dict[str, list[tuple[int, Histogram]]] = {}
        for tag, step, data in self._database.rows("histograms", "tag, step, data", "ORDER BY id"):
            try:
                found.setdefault(tag, []).append((step, Histogram.unpack(data)))
            except (LookupError, ValueError) as error:
                raise self._database.damaged(f"the histogram '{tag}' of step {step}", error) from error
        return found

    # How.

    def _read_new(self) -> None:
        rows = self._database.rows("meta", "key, value")
        self._meta = {key: self._database.json(value) for key, value in rows}
        for key, expected in _META.items():
            value = self._meta.get(key)
            if value is not None and not isinstance(value, expected):
                raise self._database.damaged(f"'{key}'", TypeError(f"it is {value!r:.80}"))
        for number, row in self._read_steps("WHERE finished > ? ORDER BY finished", (self._last,)):
            self._steps[row.id] = row
            self._unlooked.append(row.id)
            self._last = number

    def _is_alive(self) -> bool:
        try:
            return directory.Process.from_json(self._meta["process"]).alive
        except (LookupError, TypeError, ValueError) as error:
            raise self._database.damaged("what it says of its process", error) from error

    def _read_steps(self, where: str, parameters: Sequence[Any] = ()) -> list[tuple[int, StepRow]]:
        found: list[tuple[int, StepRow]] = []
        names = _STEPS if self.schema_version >= 3 else _STEPS.replace("executor", "'interpreter'")
        for finished, site_id, fetches, feeds, targets, *plain in self._database.rows(
            "steps", names, where, parameters
        ):
            told = dict(zip(_PLAIN, plain))
            told["duration_ns"] = told["duration_ns"] or 0  # null while the step is under way
            row = StepRow(
                finished=finished is not None,
                site=() if site_id is None else self._site(site_id),
                fetches=self._names(fetches),
                feeds=self._names(feeds),
                targets=self._names(targets),
                **told,
            )
            found.append((finished or 0, row))
        return found

    def _names(self, text: Any) -> tuple[str, ...]:
        names = self._database.json(text)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._database.damaged("the names of a step's fetches", ValueError(f"{text!r:.80}"))
        return tuple(names)

    def _site(self, site_id: int) -> tuple[RecordedFrame, ...]:
        found = self._sites.get(site_id)
        if found is None:
            rows = self._database.rows("sites", "frames", "WHERE id = ?", (site_id,))
            try:
                found = frames_from_json(self._database.json(rows[0][0]))
            except (LookupError, TypeError, ValueError) as error:
                raise self._database.damaged("the stack of a call", error) from error
            self._sites[site_id] = found
        return found

    def _read_stage(self, stage_id: int) -> Stage:
        rows = self._database.rows("stages", "data", "WHERE id = ?", (stage_id,))
        if not rows:
            raise RunError(f"the run in {self.path} has no stage {stage_id}")
        try:
            return unpack_stage(rows[0][0], stage_id, self.stage)
        except ValueError as error:
            raise self._database.damaged(f"stage {stage_id}", error) from error

    def _parts(self, step_id: int, kind: Kind) -> list[Columns]:
        base = "base_id" if self.schema_version >= 4 else "NULL"
        rows = self._database.rows(
            "batches", f"data, {base}", "WHERE step_id = ? AND kind = ? ORDER BY id", (step_id, kind.name)
        )
        return [
            columns.unpack(data) if base_id is None else {**self._load_base(base_id), **columns.unpack(data)}
            for data, base_id in rows
        ]

    def _read_base(self, base_id: int) -> Columns:
        rows = self._database.rows("bases", "data", "WHERE id = ?", (base_id,))
        if not rows:
            raise ColumnsError(f"what it has in common with other steps, base {base_id}, is not there")
        return columns.unpack(rows[0][0])

    def _read(self, step_id: int, kind: Kind) -> Any:
        try:
            return kind.read(self._parts(step_id, kind))
        except (LookupError, TypeError, ValueError) as error:
            raise self._database.damaged(f"the {kind.name} of step {step_id}", error) from error

    def _read_rows(self, step_id: int, kind: Kind) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._read(step_id, kind)
        return found
