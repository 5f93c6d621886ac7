"""RunWriter: what a recording says, into `run.sqlite`.

The database is in write-ahead mode and every method is one short transaction, so that readers never wait, see whole steps only,
and a process that is killed leaves what it had committed.  One writer may be used by several threads.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracing import schema
from tracing.directory import this_process
from tracing.errors import RunError

_CHECKPOINT_PAGES = 4000  # 16 MB: a checkpoint waits for the disk, so not too often
_BUSY_SECONDS = 30.0


@dataclass(slots=True)
class StepRecord:
    """A row of `steps`; see the schema."""

    id: int
    session: int
    step: int
    stage_id: int
    site_id: int | None
    thread: int
    started_ns: int
    started_unix_ns: int
    fetches: str
    feeds: str
    targets: str
    duration_ns: int | None = None
    error: str | None = None
    error_node: str | None = None
    executions: int = 0
    dead: int = 0
    frames: int = 0
    iterations: int = 0
    captured: int = 0
    captured_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    recorder_ns: int = 0
    executor: str = "interpreter"


_STEP_COLUMNS = tuple(StepRecord.__dataclass_fields__)
_PUT_STEP = (
    f"INSERT OR REPLACE INTO steps (finished, {', '.join(_STEP_COLUMNS)}) "
    f"VALUES (?{', ?' * len(_STEP_COLUMNS)})"
)


@dataclass(frozen=True, slots=True)
class Blob:
    """A row of `batches`."""

    kind: str
    data: bytes = field(repr=False)


class RunWriter:
    """Writes the database of one run.

    path: the run directory, which must exist and hold no run yet.
    meta: what the run is; JSON values by key.

    Raises RunError if the database cannot be made.  Methods raise `sqlite3.Error` when writing fails (a full disk), and
    RunError after `finish`.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._finished = 0
        self._connection: sqlite3.Connection | None = None
        described = {"state": "running", "error": None, "process": this_process().to_json(), **meta}
        try:
            self._connection = sqlite3.connect(
                path / schema.FILE_NAME,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_SECONDS,
                cached_statements=64,
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            # Durable against a killed process; a power cut may take the last steps but leaves the database whole.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            with self._transaction() as connection:
                schema.create(connection)
                self._put_meta(connection, described)
        except sqlite3.Error as error:
            self.abandon()
            raise RunError(f"no run can be written to {path}: {error}") from error

    def add_stage(self, name: str, before_id: int | None, nodes: int, data: bytes) -> int:
        """Store a stage and return its id in this run."""
        with self._transaction() as connection:
            return _insert(
                connection,
                "INSERT INTO stages (name, before_id, nodes, data) VALUES (?, ?, ?, ?)",
                (name, before_id, nodes, data),
            )

    def add_site(self, frames: Sequence[Any]) -> int:
        """Store the stack of a call and return its id."""
        with self._transaction() as connection:
            return _insert(connection, "INSERT INTO sites (frames) VALUES (?)", (json.dumps(frames),))

    def add_source(self, path: str, text: str) -> None:
        """Store a source file of the user's program."""
        data = zlib.compress(text.encode("utf-8", "surrogatepass"))
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sources (path, data) VALUES (?, ?)", (path, data))

    def spill(self, step: StepRecord, blobs: Sequence[Blob]) -> None:
        """Store a part of a step that has not ended."""
        with self._transaction() as connection:
            self._put_step(connection, step, None, blobs)

    def end_step(self, step: StepRecord, blobs: Sequence[Blob], counters: Mapping[str, int]) -> None:
        """Store (the rest of) a step that has ended, and the run's counters."""
        with self._transaction() as connection:
            self._finished += 1
            self._put_step(connection, step, self._finished, blobs)
            self._put_counters(connection, counters)

    def add_scalar(self, tag: str, step: int, value: float, unix_ns: int) -> None:
        """Store one number that the user's program logged.  (SQLite keeps NaN as null.)"""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO scalars (tag, step, unix_ns, value) VALUES (?, ?, ?, ?)",
                (tag, step, unix_ns, value),
            )

    def add_histogram(self, tag: str, step: int, data: bytes, unix_ns: int) -> None:
        """Store one histogram that the user's program logged."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO histograms (tag, step, unix_ns, data) VALUES (?, ?, ?, ?)",
                (tag, step, unix_ns, data),
            )

    def put_meta(self, values: Mapping[str, Any]) -> None:
        """Store or replace what the run is."""
        with self._transaction() as connection:
            self._put_meta(connection, values)

    def finish(self, state: str, error: str | None, counters: Mapping[str, int]) -> None:
        """Say how the run ended (`state` is 'finished' or 'failed') and close the database."""
        with self._transaction() as connection:
            self._put_meta(connection, {"state": state, "error": error, "ended_unix_ns": time.time_ns()})
            self._put_counters(connection, counters)
        with self._lock:
            connection = self._open()
            self._connection = None
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                # A finished run is a single file, which can be read from a read-only place …
                connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            except sqlite3.OperationalError:
                # … unless somebody is reading it now: then the log stays beside it.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            connection.close()

    def abandon(self) -> None:
        """Let go of the database as it stands: what was committed stays."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def forget_after_fork(self) -> None:
        """In a forked child: never touch the parent's database again, not even to close it."""
        _not_ours.append((self._connection, self._lock))
        self._connection = None
        self._lock = threading.Lock()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RunError(f"the run in {self.path} has been closed")
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @staticmethod
    def _put_step(
        connection: sqlite3.Connection, step: StepRecord, finished: int | None, blobs: Sequence[Blob]
    ) -> None:
        connection.execute(_PUT_STEP, (finished, *(getattr(step, name) for name in _STEP_COLUMNS)))
        connection.executemany(
            "INSERT INTO batches (step_id, kind, data) VALUES (?, ?, ?)",
            [(step.id, blob.kind, blob.data) for blob in blobs],
        )

    @staticmethod
    def _put_meta(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [(key, json.dumps(value)) for key, value in values.items()],
        )

    @staticmethod
    def _put_counters(connection: sqlite3.Connection, counters: Mapping[str, int]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)", list(counters.items())
        )


_not_ours: list[
    Any
] = []  # connections of a parent process: closing one would run SQLite's clean-up on its files


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> int:
    row = connection.execute(statement, values).lastrowid
    assert row is not None
    return row
