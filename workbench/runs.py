"""Runs by what people call them: a path, a name, the beginning of one, or ``latest``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tracing import directory
from tracing.errors import RunError
from tracing.reader import Run
from workbench.debugger.source import short_path

_STAMP = len("2026-11-20_14-03-11_")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in a list.  `state` is that of the run, or "damaged", with `error` saying why.

    In `changed_steps` somebody at a debugger changed something by hand.
    """

    name: str
    path: str
    state: str
    script: str | None
    level: str
    steps: int
    created_unix_ns: int
    duration_ns: int
    error: str | None = None
    changed_steps: int = 0


def locate(run: str, logdir: str | os.PathLike[str]) -> Path:
    """The directory of the run that `run` means.

    run: a path; ``latest``; or the name of a run in `logdir`, in full, without its time stamp, or an unambiguous beginning.

    Raises RunError, with what to do about it, if there is none or more than one.
    """
    if os.path.exists(run) and run != "latest":
        return directory.database(run).parent
    if os.sep in run:
        raise RunError(f"there is no run directory {run}")
    found = list(directory.find(logdir)) if os.path.isdir(logdir) else []
    where = f"in {os.fspath(logdir)} (--logdir says where to look)"
    if not found:
        raise RunError(f"there are no runs {where}; workbench demo makes one")
    if run == "latest":
        return found[0]
    for match in (
        [path for path in found if path.name == run],
        [path for path in found if path.name[_STAMP:] == run],
        [path for path in found if path.name.startswith(run) or path.name[_STAMP:].startswith(run)],
    ):
        if len(match) == 1:
            return match[0]
        if match:
            names = ", ".join(path.name for path in match[:3]) + (", …" if len(match) > 3 else "")
            raise RunError(f"'{run}' could be any of {len(match)} runs {where}: {names}")
    raise RunError(f"there is no run '{run}' {where}; workbench runs lists what there is")


def shortest_name(path: Path) -> str:
    """What to type for the run at `path`: its name without the time stamp if it is in ``./runs``, else the path."""
    if path.parent == Path("runs").absolute():
        return path.name[_STAMP:]
    return short_path(str(path))


def rows(logdir: str | os.PathLike[str]) -> list[RunRow]:
    """The runs in `logdir`, the newest first; [] if there is no such directory.  Raises RunError if it cannot be read."""
    if not os.path.exists(logdir):
        return []
    return [_row(path) for path in directory.find(logdir)]


def _row(path: Path) -> RunRow:
    try:
        with Run.open(path) as run:
            steps = run.steps()
            last = max((step.started_ns + step.duration_ns for step in steps), default=run.created_ns)
            duration = last - run.created_ns
            if run.ended_unix_ns is not None:
                duration = run.ended_unix_ns - run.created_unix_ns
            return RunRow(
                name=path.name,
                path=str(path),
                state=run.state,
                script=run.script,
                level=run.level,
                steps=len(steps),
                created_unix_ns=run.created_unix_ns,
                duration_ns=max(0, duration),
                error=run.error,
                changed_steps=len(run.changed_steps()),
            )
    except RunError as error:
        return RunRow(path.name, str(path), "damaged", None, "", 0, 0, 0, str(error))
