"""The database of a run, `run.sqlite`.

SQLite's `application_id` says that a file is a run's, `user_version` which version of this schema it has.  A version is never
changed once it has been released: a change of the schema is a new version, and a program opens the versions up to its own.

Version 2: resource writes say which item changed (`key`), and of a stack which element came or went (before: the whole stack).
Version 3: steps say what ran them (`executor`), and have totals where not all executions were recorded.
Version 4: a batch may name a base, whose columns it has too; and what has just been said is in the journal beside the database
(`tracing.journal`) before it is here.

Kinds of batches come without a new version: who does not know one does not ask for it (`overrides` and `descents`, what was
changed by hand in a debugger, came after version 4).

Everything that belongs to a step is in one record of the journal, and is committed in one transaction.  What a long step tells
before it ends is written early, in chunks, under a row of `steps` whose `finished` is null.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import Final

FILE_NAME: Final = "run.sqlite"
APPLICATION_ID: Final = 0x44465742  # "DFWB"
VERSION: Final = 4

TABLES: Final = """
-- What the run is: values are JSON.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Sums over the run, as of the last step that is here: what recording cost, what was dropped.
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- One row a stage; `data` is tracing.stages' blob; `before_id` the stage it was made from.
CREATE TABLE stages (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, before_id INTEGER, nodes INTEGER NOT NULL, data BLOB NOT NULL
);

-- The stack from which the user's program called Session.run, innermost frame first, as JSON.
CREATE TABLE sites (id INTEGER PRIMARY KEY, frames TEXT NOT NULL);

-- The user's source files as they were, compressed with zlib.
CREATE TABLE sources (path TEXT PRIMARY KEY, data BLOB NOT NULL);

-- One row a step.  Times are nanoseconds: *_ns of the process's performance counter, started_unix_ns of the wall clock.
-- `finished` numbers the steps in the order in which they ended; it is null while a step is under way.
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    finished INTEGER UNIQUE,
    session INTEGER NOT NULL,
    step INTEGER NOT NULL,
    stage_id INTEGER NOT NULL,
    site_id INTEGER,
    thread INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    started_unix_ns INTEGER NOT NULL,
    duration_ns INTEGER,
    fetches TEXT NOT NULL,
    feeds TEXT NOT NULL,
    targets TEXT NOT NULL,
    error TEXT,
    error_node TEXT,
    executions INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    iterations INTEGER NOT NULL,
    captured INTEGER NOT NULL,
    captured_bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    dropped_bytes INTEGER NOT NULL,
    recorder_ns INTEGER NOT NULL,
    executor TEXT NOT NULL
);

-- What a step told, one or more rows a kind (and a device, for executions); `data` is tracing.columns' blob, and `base_id`
-- names one whose columns belong to the batch, too.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, step_id INTEGER NOT NULL, kind TEXT NOT NULL, base_id INTEGER, data BLOB NOT NULL
);
CREATE INDEX batches_of_step ON batches (step_id, kind);
CREATE TABLE bases (id INTEGER PRIMARY KEY, data BLOB NOT NULL);

-- One row: the number of the last record of the journal that is here.
CREATE TABLE moved (sequence INTEGER NOT NULL);

-- What the user's program logged.
CREATE TABLE scalars (
    id INTEGER PRIMARY KEY, tag TEXT NOT NULL, step INTEGER NOT NULL, unix_ns INTEGER NOT NULL, value REAL
);
CREATE TABLE histograms (
    id INTEGER PRIMARY KEY, tag TEXT NOT NULL, step INTEGER NOT NULL, unix_ns INTEGER NOT NULL, data BLOB NOT NULL
);
"""

JOURNALED: Final = ("steps", "batches", "bases", "scalars", "histograms")
"""The tables whose rows come by way of the journal.

Every row has its id when it is written, so that writing it again changes nothing.
"""

_CLASSES: Final[dict[str, tuple[type, ...]]] = {
    "INTEGER": (int,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "REAL": (float, int),
}


def columns_of(table: str) -> dict[str, tuple[type, ...]]:
    """The columns of a table, in order: their names, and what their values may be instances of.

    SQLite keeps a value of any type in any column, so that damage can make a text of a number.
    """
    return _columns()[table]


@cache
def _columns() -> dict[str, dict[str, tuple[type, ...]]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        create(connection)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            table: {
                name: _CLASSES[kind] if needed or key else (*_CLASSES[kind], type(None))
                for _, name, kind, needed, _, key in connection.execute(f"PRAGMA table_info({table})")
            }
            for (table,) in tables
        }


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database, inside the transaction that is open."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO moved (sequence) VALUES (0)")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
