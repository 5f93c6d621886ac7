"""The database of a run, `run.sqlite`.

SQLite's `application_id` says that a file is a run's, `user_version` which version of this schema it has.  A version is never
changed once it has been released: a change of the schema is a new version, and a program opens the versions up to its own.

Version 2: resource writes say which item changed (`key`), and of a stack which element came or went (before: the whole stack).
Version 3: steps say what ran them (`executor`), and have totals where not all executions were recorded.

Everything that belongs to a step is committed in one transaction when the step ends.  What a long step tells before that is
written early, in chunks, under a row of `steps` whose `finished` is null.
"""

from __future__ import annotations

import sqlite3
from typing import Final

FILE_NAME: Final = "run.sqlite"
APPLICATION_ID: Final = 0x44465742  # "DFWB"
VERSION: Final = 3

TABLES: Final = """
-- What the run is: values are JSON.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Sums over the run, kept up to date in every step's transaction: what recording cost, what was dropped.
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

-- What a step told, one or more rows a kind (and a device, for executions); `data` is tracing.columns' blob.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, step_id INTEGER NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL
);
CREATE INDEX batches_of_step ON batches (step_id, kind);

-- What the user's program logged.
CREATE TABLE scalars (
    id INTEGER PRIMARY KEY, tag TEXT NOT NULL, step INTEGER NOT NULL, unix_ns INTEGER NOT NULL, value REAL
);
CREATE TABLE histograms (
    id INTEGER PRIMARY KEY, tag TEXT NOT NULL, step INTEGER NOT NULL, unix_ns INTEGER NOT NULL, data BLOB NOT NULL
);
"""


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database, inside the transaction that is open."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
