"""Run directories: where they are made, what is in one, and whether the process that writes one is alive."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracing.errors import RunError
from tracing.schema import FILE_NAME


def create(logdir: str | os.PathLike[str], name: str) -> Path:
    """Make a new run directory in `logdir` (made too if it is not there) and return its path.

    It is named after the local time, `name`, and four random characters: ``2026-11-20_14-03-11_digits-1a2b``.  Raises RunError
    if it cannot be made.
    """
    parent = Path(logdir)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{stem}-{secrets.token_hex(2)}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path.absolute()
    except OSError as error:
        raise RunError(f"no run directory can be made in {parent}: {error.strerror or error}") from error


def database(path: str | os.PathLike[str]) -> Path:
    """The database of the run at `path` (its directory, or the database itself).  Raises RunError if there is none."""
    given = Path(path)
    try:
        if given.is_file():
            found = given
        elif given.is_dir():
            found = given / FILE_NAME
            if not found.is_file():
                raise RunError(f"{given} is not a run directory: there is no {FILE_NAME} in it")
        else:
            raise RunError(f"there is no run directory {given}")
    except (OSError, ValueError) as error:
        raise RunError(f"{given} cannot be read: {error}") from error
    return found


def find(logdir: str | os.PathLike[str]) -> Iterator[Path]:
    """The run directories in `logdir`, the newest first.  Raises RunError if `logdir` is no directory that can be read."""
    try:
        entries = [entry.path for entry in os.scandir(logdir) if entry.is_dir()]
    except OSError as error:
        raise RunError(f"{os.fspath(logdir)} cannot be listed: {error.strerror or error}") from error
    runs = [path for path in map(Path, entries) if (path / FILE_NAME).is_file()]
    # Names begin with the second; within one second, the database's own age decides.
    return iter(sorted(runs, key=lambda path: (path.name[:19], _changed(path / FILE_NAME)), reverse=True))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@dataclass(frozen=True, slots=True)
class Process:
    """The process that writes a run, known beyond doubt: a process number alone is given to another process one day.

    `boot` changes when the machine restarts, `namespace` tells containers apart, `started` is the process's start in clock
    ticks since boot.  They are '' and 0 where there is no /proc.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Process:
        """Raises TypeError for anything but what `to_json` gives."""
        return cls(**value)

    @property
    def alive(self) -> bool:
        """Whether the process still runs; True where that cannot be found out (another machine, another container)."""
        here = this_process()
        if self.host != here.host:
            return True
        if self.boot != here.boot:
            return False
        if self.namespace != here.namespace:
            return True
        if self.started:
            return _start_ticks(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def this_process() -> Process:
    """This process."""
    pid = os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""
    return Process(socket.gethostname(), boot, namespace, pid, _start_ticks(pid))


def _start_ticks(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; 0 if there is no such process, it is a zombie, or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    state, *rest = text.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(rest[18])
