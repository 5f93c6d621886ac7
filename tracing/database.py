"""The database of a run, opened for reading: every failure is a RunError that says which run and what is wrong with it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracing import schema
from tracing.errors import RunError

# A damaged database makes Python fail to decode even SQLite's message about it.
_DAMAGED = (sqlite3.Error, UnicodeDecodeError, OverflowError)


class Database:
    """A connection that only reads.  Thread-safe.

    Raises RunError, from the constructor and from every method, if the file cannot be read, is not a run's, is damaged, or has
    a newer schema.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.path = file.parent
        self._lock = threading.Lock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._connection = self._open()
        try:
            self.version = self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
            if self._copy is not None:
                self._copy.cleanup()

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows that a statement gives."""
        try:
            with self._lock:
                return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.ProgrammingError as error:
            raise RunError(f"{self.path} cannot be read: {error}") from error
        except _DAMAGED as error:
            raise self.damaged(self.file.name, error) from error

    def json(self, text: Any) -> Any:
        """The value of a JSON text in the database."""
        try:
            return json.loads(text)
        except (ValueError, TypeError) as error:
            raise self.damaged("a JSON text", error) from error

    def damaged(self, what: str, error: BaseException) -> RunError:
        """The error that says that `what` in this run is damaged."""
        return RunError(f"the run in {self.path} is damaged: {what} cannot be read ({error})")

    def _open(self) -> sqlite3.Connection:
        try:
            return _readonly(self.file)
        except sqlite3.OperationalError:
            # A killed writer leaves a log, and to read that SQLite needs an index file beside it.  Where it can neither find
            # nor make one, read a copy.
            try:
                self._copy = tempfile.TemporaryDirectory(prefix="workbench-run-")
                log = self.file.with_name(self.file.name + "-wal")
                for path in (self.file, log):
                    if path.exists():
                        shutil.copyfile(path, Path(self._copy.name) / path.name)
                return _readonly(Path(self._copy.name) / self.file.name)
            except (OSError, *_DAMAGED) as error:
                raise self.damaged(self.file.name, error) from error
        except _DAMAGED as error:
            raise self.damaged(self.file.name, error) from error

    def _check(self) -> int:
        """The version of the schema that it was written in."""
        application = self.query("PRAGMA application_id")[0][0]
        version = self.query("PRAGMA user_version")[0][0]
        if application == version == 0 and not self.query("SELECT 1 FROM sqlite_master LIMIT 1"):
            raise RunError(
                f"the run in {self.path} is empty: its process has not written anything, or ended before it had"
            )
        if application != schema.APPLICATION_ID:
            raise RunError(
                f"{self.path} is not a run directory: its {self.file.name} is some other SQLite database"
            )
        if version > schema.VERSION:
            raise RunError(
                f"the run in {self.path} was written by a newer version of the workbench: its schema is {version}, and this "
                f"version reads up to {schema.VERSION}"
            )
        return int(version)


def _readonly(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
    )
    try:
        # Opens the file, and the log beside it.
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
