"""The runs in a directory, as rows: state, age, steps, the last scalars, and the loss as a series."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tracing import directory
from tracing.errors import RunError
from tracing.reader import Run, StepRow

Series = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]

RECENT = 200


@dataclass(frozen=True)
class RunRow:
    """One run, as of the last poll.  `broken` is the sentence that says why the directory cannot be read, else empty.

    In `changed_steps` somebody at a debugger changed something by hand.
    """

    path: Path
    name: str
    state: str = "broken"
    broken: str = ""
    script: str = ""
    level: str = ""
    created_unix_ns: int = 0
    ended_unix_ns: int | None = None
    steps: int = 0
    failed_steps: int = 0
    executions: int = 0
    recent: tuple[StepRow, ...] = ()
    scalars: Mapping[str, Series] = field(default_factory=lambda: MappingProxyType({}))
    environment: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    error: str = ""
    recorder_error: str = ""
    changed_steps: int = 0

    @property
    def loss_tag(self) -> str:
        """The scalar that tells how training goes: the first named like a loss, a cost or an error; else the first; else ''."""
        for word in ("loss", "cost", "error"):
            for tag in self.scalars:
                if word in tag.lower():
                    return tag
        return next(iter(self.scalars), "")

    def last(self, tag: str) -> float | None:
        """The last value of a scalar, or None."""
        if tag not in self.scalars or not len(self.scalars[tag][1]):
            return None
        return float(self.scalars[tag][1][-1])

    @property
    def step_ns(self) -> float:
        """The median duration of the recent steps, 0 without steps."""
        return float(np.median([row.duration_ns for row in self.recent])) if self.recent else 0.0

    def running_ns(self, now_unix_ns: int) -> int:
        """How long the run took, or takes so far; of an interrupted one, until the end of its last step."""
        if self.ended_unix_ns is not None:
            return self.ended_unix_ns - self.created_unix_ns
        if self.state == "running":
            return now_unix_ns - self.created_unix_ns
        if self.recent:
            last = self.recent[-1]
            return last.started_unix_ns + last.duration_ns - self.created_unix_ns
        return 0


def row_of(run: Run) -> RunRow:
    """What there is to say of an open run.  Raises RunError if it is damaged."""
    steps = run.steps()
    return RunRow(
        path=run.path,
        name=run.name,
        state=run.state,
        script=run.script or "",
        level=run.level,
        created_unix_ns=run.created_unix_ns,
        ended_unix_ns=run.ended_unix_ns,
        steps=len(steps),
        failed_steps=sum(row.error is not None for row in steps),
        executions=sum(row.executions for row in steps),
        recent=tuple(steps[-RECENT:]),
        scalars=MappingProxyType(run.scalars()),
        environment=run.environment,
        error=run.error or "",
        recorder_error=run.recorder_error or "",
        changed_steps=len(run.changed_steps()),
    )


class RunsModel:
    """The runs in `logdir`, and runs elsewhere that were added.

    Only runs that go on, and those asked for with `run`, are kept open: of the others the row is enough.  Not for several
    threads at once: let one thread poll.
    """

    def __init__(self, logdir: str | os.PathLike[str] | None) -> None:
        self.logdir = Path(logdir) if logdir is not None else None
        self.problem = ""
        self._open: dict[Path, Run] = {}
        self._asked: set[Path] = set()
        self._rows: dict[Path, RunRow] = {}
        self._rest: dict[Path, float] = {}  # when to look at a run again
        self._extra: list[Path] = []

    def add(self, path: str | os.PathLike[str]) -> None:
        """Also list the run at `path`, first."""
        resolved = Path(path).absolute()
        if resolved not in self._extra:
            self._extra.insert(0, resolved)

    def run(self, path: Path) -> Run:
        """The run at `path`, opened once and kept open.  Raises RunError if that is impossible."""
        self._asked.add(path)
        return self._opened(path)

    def _opened(self, path: Path) -> Run:
        found = self._open.get(path)
        if found is None:
            found = self._open[path] = Run.open(path)
        return found

    def poll(self) -> list[RunRow]:
        """The rows, the newest run first.  A directory that cannot be read is a row that says why.

        A run of which nothing has changed keeps its very row.
        """
        self.problem = ""
        paths = list(self._extra)
        if self.logdir is not None:
            try:
                paths += [path.absolute() for path in directory.find(self.logdir)]
            except RunError as error:
                self.problem = str(error)
        paths = list(dict.fromkeys(paths))
        for path in [path for path in self._rows if path not in paths]:
            self._forget(path)
        return [self._row(path) for path in paths]

    def _row(self, path: Path) -> RunRow:
        known = self._rows.get(path)
        if known is not None and not known.broken and known.state != "running" and path not in self._asked:
            return known
        began = time.monotonic()
        if known is not None and began < self._rest.get(path, 0.0):
            return known
        try:
            run = self._opened(path)
            if run.refresh() or known is None or known.broken:
                known = self._rows[path] = row_of(run)
                # A run that takes long to read is looked at less often.
                now = time.monotonic()
                self._rest[path] = now + 10 * (now - began) if now - began > 0.05 else 0.0
            if known.state != "running" and path not in self._asked:
                self._open.pop(path).close()
        except RunError as error:
            if known is None or known.broken != str(error):
                known = RunRow(path, path.name, broken=str(error))
            self._rows[path] = known
        return known

    def _forget(self, path: Path) -> None:
        """The directory has gone; somebody who looks at the run may go on."""
        self._rows.pop(path, None)
        self._rest.pop(path, None)
        if path not in self._asked and path in self._open:
            self._open.pop(path).close()

    def close(self) -> None:
        """Close all runs."""
        for run in self._open.values():
            run.close()
        self._open.clear()


def now_unix_ns() -> int:
    """The wall clock, as rows have it."""
    return time.time_ns()
