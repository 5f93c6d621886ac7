"""The observer's batches as columns, and back.

Each kind of batch has one row in `KINDS`: its name in the database, how several batches become columns, and how columns become
a batch again.  Batches that already are arrays keep them; for batches that are tuples of rows see `tracing.rows`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from engine.observe import (
    Allocation,
    Descents,
    Executions,
    FrameEvent,
    Health,
    Override,
    Tokens,
    Totals,
    Transfer,
    Value,
)
from tracing.devices import AliveTensor, DeviceState, StreamState
from tracing.errors import ColumnsError
from tracing.kinds import Array, Columns, Kind, byte_strings, pattern_of, texts_of
from tracing.rows import RESOURCE_WRITES, rows

# Executions: `end` as a duration, which is smaller; `first` and the batches' lengths, because rows of several devices interleave.
# Those of a pattern have their different times instead, and which of these are a row's start and end.


def _write_executions(batches: Sequence[Executions]) -> Columns:
    pattern = batches[0].pattern
    if len(batches) == 1 and pattern is not None:
        (batch,) = batches
        return {
            "device": byte_strings([batch.device]),
            "first": np.array([batch.first], np.int64),
            "count": np.array([len(batch)], np.int64),
            "node": batch.node,
            "frame": batch.frame,
            "iteration": batch.iteration,
            "thread": batch.thread,
            "dead": batch.dead,
            "start_at": pattern.start,
            "end_at": pattern.end,
            **_own_executions(batch),
        }
    start = _join([batch.start_ns for batch in batches])
    return {
        "device": byte_strings([batches[0].device]),
        "first": np.array([batch.first for batch in batches], np.int64),
        "count": np.array([len(batch) for batch in batches], np.int64),
        "node": _join([batch.node for batch in batches]),
        "frame": _join([batch.frame for batch in batches]),
        "iteration": _join([batch.iteration for batch in batches]),
        "start_ns": start,
        "duration_ns": _join([batch.end_ns for batch in batches]) - start,
        "thread": _join([batch.thread for batch in batches]),
        "dead": _join([batch.dead for batch in batches]),
    }


def _own_executions(batch: Executions) -> Columns:
    assert batch.times is not None
    return {"times": batch.times}


@dataclass(frozen=True, slots=True, eq=False)
class StoredExecutions:
    """Executions on one device together with each one's number within the step."""

    row: Array
    batch: Executions


def read_executions(columns: Columns) -> StoredExecutions:
    """Executions on one device.  Raises ColumnsError for columns that do not fit together."""
    first, count, node = columns["first"], columns["count"], columns["node"]
    if first.shape != count.shape or (count < 0).any() or int(count.sum()) != len(node):
        raise ColumnsError("a batch of executions is damaged: its parts do not add up")
    within = np.arange(len(node)) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(first, count) + within
    if "times" in columns:
        times, start_at, end_at = columns["times"], columns["start_at"], columns["end_at"]
        for at in (start_at, end_at):
            if at.shape != node.shape or (len(at) and not 0 <= at.min() <= at.max() < len(times)):
                raise ColumnsError("a batch of executions is damaged: its times do not add up")
        start_ns, end_ns = times[start_at], times[end_at]
    else:
        start_ns = columns["start_ns"]
        end_ns = start_ns + columns["duration_ns"]
    batch = Executions(
        device=texts_of(columns["device"])[0],
        first=int(first[0]) if len(first) else 0,
        node=node,
        frame=columns["frame"],
        iteration=columns["iteration"],
        start_ns=start_ns,
        end_ns=end_ns,
        thread=columns["thread"],
        dead=columns["dead"],
    )
    return StoredExecutions(row, batch)


def join_executions(parts: Sequence[StoredExecutions]) -> Executions:
    """All executions of a step in the order of their numbers, so that number and index agree.

    `device` is the device's name if there is one, '' if there are several.
    """
    if not parts:
        empty = np.empty(0, np.int64)
        small = np.empty(0, np.int32)
        return Executions("", 0, small, small, empty, empty, empty, small, np.empty(0, np.bool_))
    devices = {part.batch.device for part in parts}
    device = devices.pop() if len(devices) == 1 else ""
    row = _join([part.row for part in parts])
    order = None if (row[1:] > row[:-1]).all() else np.argsort(row, kind="stable")

    def merged(name: str) -> Any:
        joined = _join([getattr(part.batch, name) for part in parts])
        return joined if order is None else joined[order]

    first = int(row.min()) if len(row) else 0
    return Executions(device, first, *(merged(name) for name in _EXECUTION_ARRAYS))


def on_devices(part: StoredExecutions, devices: Sequence[str]) -> list[StoredExecutions]:
    """Executions on several devices as those on each, `devices` being those of the stage's nodes; others as they are."""
    batch = part.batch
    if batch.device:
        return [part]
    found = []
    on = np.array(devices)[batch.node] if len(batch) else np.empty(0, str)
    for device in np.unique(on).tolist():
        rows = np.flatnonzero(on == device)
        arrays = (getattr(batch, name)[rows] for name in _EXECUTION_ARRAYS)
        number = part.row[rows]
        found.append(StoredExecutions(number, Executions(device, int(number[0]), *arrays)))
    return found


def by_device(parts: Sequence[StoredExecutions]) -> dict[str, tuple[Executions, ...]]:
    """The executions of each device, as batches whose rows have numbers that follow each other, from `first` on."""
    found: dict[str, list[Executions]] = {}
    for part in parts:
        cuts = [0, *(np.flatnonzero(np.diff(part.row) != 1) + 1).tolist(), len(part.row)]
        for start, end in pairwise(cuts):
            arrays = (getattr(part.batch, name)[start:end] for name in _EXECUTION_ARRAYS)
            batch = Executions(part.batch.device, int(part.row[start]), *arrays)
            found.setdefault(batch.device, []).append(batch)
    return {
        device: tuple(sorted(batches, key=lambda batch: batch.first)) for device, batches in found.items()
    }


_EXECUTION_ARRAYS = ("node", "frame", "iteration", "start_ns", "end_ns", "thread", "dead")


# Health: shapes are ranks and one long list of dimensions.

_HEALTH_ARRAYS: dict[str, type[Any]] = {
    "row": np.int64,
    "slot": np.int32,
    "dtype": np.int32,
    "minimum": np.float64,
    "maximum": np.float64,
    "mean": np.float64,
    "nan": np.int64,
    "inf": np.int64,
    "nbytes": np.int64,
}


def _write_health(batches: Sequence[Health]) -> Columns:
    columns = {name: _join([getattr(batch, name) for batch in batches]) for name in _HEALTH_ARRAYS}
    shapes = [shape for batch in batches for shape in batch.shapes]
    columns["rank"] = np.fromiter((len(shape) for shape in shapes), np.int64, len(shapes))
    columns["dims"] = np.array([size for shape in shapes for size in shape], np.int64)
    return columns


def _read_health(parts: Sequence[Columns]) -> Health:
    rank = _join_named(parts, "rank", np.int64)
    sizes = _join_named(parts, "dims", np.int64).tolist()
    ends = np.cumsum(rank).tolist()
    if (rank < 0).any() or (ends[-1] if ends else 0) != len(sizes):
        raise ColumnsError("a batch of tensor health is damaged: its shapes do not add up")
    shapes = tuple(tuple(sizes[start:end]) for start, end in zip([0, *ends], ends))
    return Health(
        shapes=shapes, **{name: _join_named(parts, name, dtype) for name, dtype in _HEALTH_ARRAYS.items()}
    )


# Totals: of several parts the last, which is of the whole step.

_TOTAL_ARRAYS: dict[str, type[Any]] = {
    "node": np.int32,
    "executions": np.int64,
    "dead": np.int64,
    "total_ns": np.int64,
}


def _write_totals(batches: Sequence[Totals]) -> Columns:
    last = batches[-1]
    columns: Columns = {name: getattr(last, name) for name in _TOTAL_ARRAYS}
    return {**columns, "skipped": np.array([last.skipped], np.int64)}


def _read_totals(parts: Sequence[Columns]) -> Totals | None:
    if not parts:
        return None
    columns = parts[-1]
    return Totals(**{name: columns[name] for name in _TOTAL_ARRAYS}, skipped=int(columns["skipped"][0]))


# Tokens.

_TOKEN_ARRAYS: dict[str, type[Any]] = {
    "row": np.int64,
    "source_slot": np.int32,
    "node": np.int32,
    "slot": np.int32,
    "frame": np.int32,
    "iteration": np.int64,
    "dead": np.bool_,
}


def _write_tokens(batches: Sequence[Tokens]) -> Columns:
    return {name: _join([getattr(batch, name) for batch in batches]) for name in _TOKEN_ARRAYS}


def _read_tokens(parts: Sequence[Columns]) -> Tokens:
    return Tokens(**{name: _join_named(parts, name, dtype) for name, dtype in _TOKEN_ARRAYS.items()})


# What descends from changes by hand.

_DESCENT_ARRAYS = ("row", "override")


def _write_descents(batches: Sequence[Descents]) -> Columns:
    return {name: _join([getattr(batch, name) for batch in batches]) for name in _DESCENT_ARRAYS}


def _read_descents(parts: Sequence[Columns]) -> Descents:
    row, override = (_join_named(parts, name, np.int64) for name in _DESCENT_ARRAYS)
    if row.shape != override.shape or row.ndim != 1:
        raise ColumnsError("a batch of descents is damaged: its columns differ in length")
    return Descents(row, override)


# Values: those of one dtype and shape in one column, as there are thousands of scalars in a loop.


def _write_values(batches: Sequence[Sequence[Value]]) -> Columns:
    values = [value for batch in batches for value in batch]
    groups: dict[Any, list[Array]] = {}
    place: list[tuple[int, int]] = []
    numbers: dict[Any, int] = {}
    for value in values:
        key = (value.array.dtype, value.array.shape)
        group = groups.setdefault(key, [])
        place.append((numbers.setdefault(key, len(numbers)), len(group)))
        group.append(value.array)
    columns: Columns = {
        "row": np.array([value.row for value in values], np.int64),
        "slot": np.array([value.slot for value in values], np.int32),
        "group": np.array([group for group, _ in place], np.int64),
        "index": np.array([index for _, index in place], np.int64),
    }
    columns.update({str(i): np.stack(arrays) for i, arrays in enumerate(groups.values())})
    return columns


def _read_values(parts: Sequence[Columns]) -> tuple[Value, ...]:
    found: list[Value] = []
    for columns in parts:
        places = zip(*(columns[name].tolist() for name in ("row", "slot", "group", "index")), strict=True)
        found.extend(Value(row, slot, columns[str(group)][index, ...]) for row, slot, group, index in places)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that was not kept because it, or all of them, would have been too large, or because it has no stored form."""

    row: int
    slot: int
    nbytes: int


def _join(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _join_named(parts: Sequence[Columns], name: str, dtype: type[Any]) -> Any:
    return _join([part[name] for part in parts]) if parts else np.empty(0, dtype)


def _read_executions(parts: Sequence[Columns]) -> Executions:
    return join_executions([read_executions(part) for part in parts])


def _write_devices(batches: Sequence[Sequence[DeviceState]]) -> Columns:
    return {"json": byte_strings([json.dumps(asdict(state)) for batch in batches for state in batch])}


def _read_devices(parts: Sequence[Columns]) -> tuple[DeviceState, ...]:
    rows = [json.loads(text) for columns in parts for text in texts_of(columns["json"])]
    for row in rows:
        row["alive"] = tuple(AliveTensor(**each) for each in row["alive"])
        row["streams"] = tuple(StreamState(**each) for each in row["streams"])
    return tuple(DeviceState(**row) for row in rows)


EXECUTIONS = Kind(
    "executions",
    _write_executions,
    _read_executions,
    frozenset({"start_ns", "duration_ns", "times"}),
    pattern_of,
    _own_executions,
)
HEALTH = Kind("health", _write_health, _read_health, frozenset({"minimum", "maximum", "mean", "nan", "inf"}))
TOKENS = Kind("tokens", _write_tokens, _read_tokens, frozenset())
VALUES = Kind("values", _write_values, _read_values)
TOTALS = Kind("totals", _write_totals, _read_totals)
FRAMES = rows("frames", FrameEvent)
TRANSFERS = rows("transfers", Transfer, "key", "key:texts", "sent_ns", "received_ns")
ALLOCATIONS = rows("allocations", Allocation, "at_ns", "nbytes", "in_use")
DROPPED = rows("dropped", Dropped)
DEVICES = Kind("devices", _write_devices, _read_devices)
OVERRIDES = rows("overrides", Override)
DESCENTS = Kind("descents", _write_descents, _read_descents)

_ALL = (
    *(EXECUTIONS, HEALTH, TOTALS, TOKENS, VALUES, FRAMES, RESOURCE_WRITES, TRANSFERS, ALLOCATIONS, DROPPED),
    *(DEVICES, OVERRIDES, DESCENTS),
)
KINDS = {kind.name: kind for kind in _ALL}
