"""Batches that are tuples of rows (frame events, resource writes, transfers, allocations) as columns, and back.

There is a column a field; strings are numbers into a table of the distinct ones.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from itertools import repeat
from typing import Any

import numpy as np

from engine.observe import FrameChange, ResourceWrite, ResourceWrites
from tracing.errors import ColumnsError
from tracing.kinds import Columns, Kind, byte_strings, pattern_of, texts_of


def rows(name: str, cls: type[Any], *varying: str) -> Kind:
    """A kind whose batches are tuples of `cls`, a dataclass of ints, bools, strings and enums.

    A column that is not there was not in the schema when the run was written: its cells are the field's default.
    """
    kinds = {field.name: str(field.type) for field in fields(cls)}
    defaults = {field.name: field.default for field in fields(cls) if field.default is not MISSING}

    def write(batches: Sequence[Sequence[Any]]) -> Columns:
        found = [row for batch in batches for row in batch]
        columns: Columns = {}
        for field_name, kind in kinds.items():
            cells = [getattr(row, field_name) for row in found]
            if kind == "int":
                columns[field_name] = np.array(cells, np.int64)
            elif kind == "bool":
                columns[field_name] = np.array(cells, np.bool_)
            else:
                texts = [cell.value if isinstance(cell, enum.Enum) else cell for cell in cells]
                columns.update(_numbered(field_name, texts))
        return columns

    def read(parts: Sequence[Columns]) -> tuple[Any, ...]:
        return tuple(row for columns in parts for row in read_part(columns))

    def read_part(columns: Columns) -> Iterator[Any]:
        cells: list[Any] = []
        for field_name, kind in kinds.items():
            if field_name not in columns and field_name in defaults:
                cells.append(repeat(defaults[field_name], len(cells[0])))
                continue
            found = columns[field_name].tolist()
            if kind not in ("int", "bool"):
                table: list[Any] = texts_of(columns[field_name + ":texts"])
                if kind == "FrameChange":
                    table = [FrameChange(text) for text in table]
                if found and not 0 <= min(found) <= max(found) < len(table):
                    raise ColumnsError(f"a batch of {name} is damaged: a text is missing")
                found = [table[i] for i in found]
            cells.append(found)
        return (cls(*row) for row in zip(*cells, strict=True))

    return Kind(name, write, read, frozenset(varying))


def _numbered(name: str, texts: Sequence[str | None]) -> Columns:
    """A column of texts: a number for each, -1 for None, and the table of the distinct ones."""
    table = {text: i for i, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    numbers = np.array([-1 if text is None else table[text] for text in texts], np.int64)
    return {name: numbers, f"{name}:texts": byte_strings(table)}


# Resource writes of a pattern: the texts of its summaries, and those that the batch has of its own.


def _write_writes(batches: Sequence[Sequence[ResourceWrite]]) -> Columns:
    batch = batches[0]
    if len(batches) != 1 or not isinstance(batch, ResourceWrites):
        return _rows_of_writes.write(batches)
    same = batch.pattern
    columns: Columns = {
        name: np.array(getattr(same, name), np.int64)
        for name in ("row", "node", "frame", "iteration", "nbytes", "key")
    }
    for name in ("container", "resource", "kind", "summary"):
        columns.update(_numbered(name, getattr(same, name)))
    return {**columns, **_own_writes(batch)}


def _own_writes(batch: ResourceWrites) -> Columns:
    columns: Columns = {"version": np.array(batch.version, np.int64), "at_ns": batch.at_ns}
    if batch.summaries:
        # As JSON, which for a few short texts is the quickest.
        columns["summary:own"] = np.frombuffer(json.dumps(batch.summaries).encode(), np.uint8)
    return columns


def _read_writes(parts: Sequence[Columns]) -> tuple[ResourceWrite, ...]:
    found: tuple[ResourceWrite, ...] = _rows_of_writes.read([_with_own(part) for part in parts])
    return found


def _with_own(columns: Columns) -> Columns:
    if "summary:own" not in columns:
        return columns
    own = json.loads(columns["summary:own"].tobytes())
    summary = columns["summary"].copy()
    places = np.flatnonzero(summary == -1)
    if not isinstance(own, list) or len(own) != len(places):
        raise ColumnsError("a batch of resource writes is damaged: a text is missing")
    texts = columns["summary:texts"]
    summary[places] = len(texts) + np.arange(len(own))
    return {**columns, "summary": summary, "summary:texts": np.concatenate((texts, byte_strings(own)))}


_rows_of_writes = rows("resource_writes", ResourceWrite, "version", "at_ns", "summary", "summary:texts")

RESOURCE_WRITES = Kind(
    "resource_writes", _write_writes, _read_writes, _rows_of_writes.varying, pattern_of, _own_writes
)
