"""RunWriter: what a recording says, into `run.sqlite`, much of it by way of `run.journal`.

The database is in write-ahead mode and every transaction is short, so that readers never wait and see whole steps only.  A step
that has ended, and what the program logs, is a record of the journal first (`tracing.journal`), and moves into the database
together with what came before and after it: when enough has gathered, when anything else is written, and soon in any case.
A process that is killed leaves all that was in the one or the other.  One writer may be used by several threads.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from engine.runtime.interrupts import Held
from tracing import schema
from tracing.directory import this_process
from tracing.errors import RunError
from tracing.journal import Journal, Row, storable
from tracing.records import Blob, StepRecord

_CHECKPOINT_PAGES = 4000  # 16 MB: a checkpoint waits for the disk, so not too often
_BUSY_SECONDS = 30.0
_MOVED_RECORDS = 64  # so many records of the journal are moved at once,
_MOVED_BYTES = 1 << 19  # or so many bytes of them,
_MOVED_SECONDS = 0.05  # or those of so long
_IDLE_SECONDS = 1.0  # after which the thread that moves them ends
_LONG = 1 << 20  # bytes of a step that is written into the database at once: the journal is for small ones


_STEP_VALUES = attrgetter(*list(schema.columns_of("steps"))[2:])
_PUT = {
    table: f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    for table in schema.JOURNALED
    for columns in (schema.columns_of(table),)
}


class RunWriter:
    """Writes the database of one run.

    path: the run directory, which must exist and hold no run yet.
    meta: what the run is; JSON values by key.

    Raises RunError if the database cannot be made.  Methods raise `sqlite3.Error` or OSError when writing fails (a full disk),
    and RunError after `finish`.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        self._lock = threading.Lock()  # around what the connection does
        self._adding = threading.Lock()  # around what the journal has, and the numbers; taken last
        self._connection: sqlite3.Connection | None = None
        self._journal = Journal(path)
        self._gathered: list[Row] = []  # what the records of the journal have that is not in the database
        self._records = 0  # of how many records
        self._since = 0.0  # when the first of them came
        self._sequence = 0
        self._finished = 0
        self._ids = dict.fromkeys(schema.JOURNALED, 0)
        self._counters: Mapping[str, int] | None = (
            None  # as of the last step, if they are not in the database
        )
        self._mover: threading.Thread | None = None
        self._problem: Exception | None = None  # why moving failed
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

    def add_base(self, data: bytes) -> int:
        """Store columns that batches of several steps have in common; returns the id that a `Blob` names them by."""
        with self._adding:
            base = self._next("bases")
            self._add([("bases", (base, data))])
        return base

    def spill(self, step: StepRecord, blobs: Sequence[Blob]) -> None:
        """Store a part of a step that has not ended."""
        self._put_now(step, None, blobs)

    def end_step(self, step: StepRecord, blobs: Sequence[Blob], counters: Mapping[str, int]) -> None:
        """Store (the rest of) a step that has ended, and, when it gets into the database, the run's counters."""
        if sum([len(blob.data) for blob in blobs]) > _LONG:
            with self._adding:
                self._finished += 1
                finished = self._finished
            self._put_now(step, finished, blobs, counters)
            return
        with self._adding:
            self._finished += 1
            self._counters = counters
            self._add(self._rows(step, self._finished, blobs))
        self._move_some()

    def add_scalar(self, tag: str, step: int, value: float, unix_ns: int) -> None:
        """Store one number that the user's program logged.  (SQLite keeps NaN as null.)"""
        self._log("scalars", tag, step, unix_ns, float(value))

    def add_histogram(self, tag: str, step: int, data: bytes, unix_ns: int) -> None:
        """Store one histogram that the user's program logged."""
        self._log("histograms", tag, step, unix_ns, data)

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
            with self._adding:
                connection = self._open()
                self._connection = None
                self._journal.close(remove=not self._gathered)
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                # A finished run is a single file, which can be read from a read-only place …
                connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            except sqlite3.OperationalError:
                # … unless somebody is reading it now: then the log stays beside it.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            connection.close()

    def abandon(self) -> None:
        """Let go of the database as it stands: what is in it or in the journal stays."""
        with self._lock:
            with self._adding:
                connection, self._connection = self._connection, None
                self._journal.close()
            if connection is not None:
                connection.close()

    def forget_after_fork(self) -> None:
        """In a forked child: never touch the parent's database again, not even to close it."""
        _not_ours.append((self._connection, self._lock, self._adding))
        self._connection = None
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._gathered, self._mover = [], None
        self._journal.close()

    # The journal.

    def _log(self, table: str, tag: str, step: int, unix_ns: int, value: Any) -> None:
        if not -(1 << 63) <= step < 1 << 63:
            raise OverflowError(f"step {step} of '{tag}' has more than 64 bits")
        with Held():
            with self._adding:
                self._add([(table, (self._next(table), storable(tag), step, unix_ns, value))])
            self._move_some()

    def _rows(self, step: StepRecord, finished: int | None, blobs: Sequence[Blob]) -> list[Row]:
        if step.error is not None:
            step.error = storable(step.error)
        if not step.executor.isascii():
            step.executor = storable(step.executor)
        rows: list[Row] = [("steps", (step.id, finished, *_STEP_VALUES(step)))]
        for blob in blobs:
            rows.append(("batches", (self._next("batches"), step.id, blob.kind, blob.base, blob.data)))
        return rows

    def _next(self, table: str) -> int:
        found = self._ids[table] = self._ids[table] + 1
        return found

    def _add(self, rows: list[Row]) -> None:
        """One more record; `_adding` is held."""
        self._open()
        if self._problem is not None:
            raise self._problem
        sequence = self._sequence + 1
        self._journal.append(sequence, rows)
        self._sequence = sequence
        if not self._gathered:
            self._since = time.monotonic()
            self._records = 0
        self._records += 1
        self._gathered.extend(rows)

    def _move_some(self) -> None:
        """Move what has gathered if it is enough; else see to it that somebody does so soon."""
        if (
            self._records >= _MOVED_RECORDS
            or self._journal.size >= _MOVED_BYTES
            or time.monotonic() - self._since >= _MOVED_SECONDS
        ):
            self._move()
        elif self._mover is None:
            with self._adding:
                if self._mover is None:
                    self._mover = threading.Thread(
                        target=_move_now_and_then, args=(weakref.ref(self),), name="run-journal", daemon=True
                    )
                    try:
                        self._mover.start()
                    except RuntimeError:  # there can be no more threads, or the interpreter is about to end
                        self._mover = None
            if self._mover is None:
                self._move()

    def _move(self) -> None:
        with self._transaction():
            pass

    def _move_late(self) -> bool:
        """What the thread does every now and then; says whether it is to go on."""
        with self._adding:
            if self._connection is None or self._problem is not None:
                self._mover = None
                return False
            waited = time.monotonic() - self._since
            if not self._gathered and waited > _IDLE_SECONDS:
                self._mover = None
                return False
            late = bool(self._gathered) and waited >= _MOVED_SECONDS
        if late:
            try:
                self._move()
            except RunError:  # it has just been closed
                return False
            except Exception as problem:
                self._problem = problem  # for who writes next
                return False
        return True

    # The database.

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RunError(f"the run in {self.path} has been closed")
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which moves what the journal has."""
        with Held(), self._lock:
            connection = self._open()
            with self._adding:
                gathered, self._gathered = self._gathered, []
                counters, self._counters = self._counters, None
                sequence = self._sequence
            try:
                connection.execute("BEGIN IMMEDIATE")
                if gathered:
                    self._put_rows(connection, gathered)
                    connection.execute("UPDATE moved SET sequence = ?", (sequence,))
                if counters is not None:
                    self._put_counters(connection, counters)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with self._adding:
                    self._gathered[:0] = gathered  # which does no harm if it is in the database already
                    if self._counters is None:
                        self._counters = counters
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            with self._adding:
                if not self._gathered:
                    self._journal.clear()

    def _put_now(
        self,
        step: StepRecord,
        finished: int | None,
        blobs: Sequence[Blob],
        counters: Mapping[str, int] | None = None,
    ) -> None:
        with self._adding:
            rows = self._rows(step, finished, blobs)
        with self._transaction() as connection:
            self._put_rows(connection, rows)
            if counters is not None:
                self._put_counters(connection, counters)

    @staticmethod
    def _put_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        tables: dict[str, list[tuple[Any, ...]]] = {}
        for table, values in rows:
            tables.setdefault(table, []).append(values)
        for table, several in tables.items():
            connection.executemany(_PUT[table], several)

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


def _move_now_and_then(writer: weakref.ref[RunWriter]) -> None:
    """Move what waits in the journal while the program does other things, as long as there is a writer."""
    while True:
        time.sleep(_MOVED_SECONDS / 2)
        found = writer()
        if found is None or not found._move_late():
            return
        del found


_not_ours: list[
    Any
] = []  # connections of a parent process: closing one would run SQLite's clean-up on its files


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> int:
    row = connection.execute(statement, values).lastrowid
    assert row is not None
    return row
