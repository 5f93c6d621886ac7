"""The database of a run, opened for reading: every failure is a RunError that says which run and what is wrong with it.

What is in the run's journal and not yet in the database (`tracing.journal`) is read as if it were: rows of the journal are put
into temporary tables, in memory, and temporary views with the names of the database's tables have the rows of both.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tracing import schema
from tracing.errors import RunError
from tracing.journal import JournalFile, records

# A damaged database makes Python fail to decode even SQLite's message about it.
_DAMAGED = (sqlite3.Error, UnicodeDecodeError, OverflowError)


def _joining() -> Iterator[str]:
    """Statements that make the tables for the journal's rows, and the views of both.

    A row of the journal counts until it is in the database, as of the moment at which a query reads it.
    """
    for table in schema.JOURNALED:
        names = ", ".join(schema.columns_of(table))
        later = "WHERE sequence > (SELECT sequence FROM main.moved)"
        yield f"CREATE TEMP TABLE journal_{table} AS SELECT 0 AS sequence, {names} FROM main.{table} WHERE 0"
        yield (
            f"CREATE TEMP VIEW {table} AS SELECT {names} FROM main.{table} "
            f"WHERE id NOT IN (SELECT id FROM temp.journal_{table} {later}) "
            f"UNION ALL SELECT {names} FROM temp.journal_{table} {later}"
        )


_JOIN = tuple(_joining())
_ADD = {
    table: f"INSERT INTO temp.journal_{table} VALUES (?, {', '.join('?' * len(schema.columns_of(table)))})"
    for table in schema.JOURNALED
}


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
        self._journal = JournalFile(self.path)
        self._journal_was: Any = (0, b"")
        self._joined = False  # whether there are temporary tables and views
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

    def rows(
        self, table: str, names: str, where: str = "", parameters: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Rows of a table, each with the columns `names`, checked to hold what the table's columns may hold.

        names: joined by ", "; what is not a column's name is an expression, whose values are not checked.
        where: what follows the table's name in the statement.
        """
        found = self.query(f"SELECT {names} FROM {table} {where}", parameters)
        classes = schema.columns_of(table)
        for at, name in enumerate(names.split(", ")):
            allowed = classes.get(name, (object,))
            for row in found:
                if not isinstance(row[at], allowed):
                    wrong = TypeError(f"{name} is of type {type(row[at]).__name__}")
                    raise self.damaged(f"a row of the table {table}", wrong)
        return found

    def look(self) -> Any:
        """Something that changes whenever the database or its journal does; from now on queries see what they have now.

        Costs some microseconds when nothing has changed.
        """
        # The journal first: what leaves it in between is found in the database, and counts once.
        seen = self._journal.look() if self.version >= 4 else self._journal_was
        if seen != self._journal_was:
            data = self._journal.read()
            try:
                with self._lock:
                    self._join(data)
            except _DAMAGED as error:
                raise self.damaged(self.file.name, error) from error
            self._journal_was = seen
        return self.query("PRAGMA data_version")[0][0], seen

    def _join(self, journal: bytes) -> None:
        """Put what is in the journal alone beside what is in the database."""
        if not journal and not self._joined:
            return
        execute = self._connection.execute
        if not self._joined:
            execute("PRAGMA temp_store = MEMORY")
            for statement in _JOIN:
                execute(statement)
            self._joined = True
        execute("BEGIN")
        try:
            moved = execute("SELECT sequence FROM main.moved").fetchone()
            for table in schema.JOURNALED:
                execute(f"DELETE FROM temp.journal_{table}")
            for sequence, rows in records(journal, moved[0] if moved and isinstance(moved[0], int) else 0):
                for table, values in rows:
                    execute(_ADD[table], (sequence, *values))
        finally:
            execute("COMMIT")

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
