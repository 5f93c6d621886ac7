"""The journal of a run, `run.journal`: what has been said and is not in the database yet.

A transaction costs SQLite about as much as a small step takes, an append to a file next to nothing.  So a step that has ended
becomes one record here, and many of them are moved into the database together; then the journal is empty again.  What has been
given to the operating system survives the process, and so whoever opens the run of a killed process reads both.

A record is::

    b"DFJ1"  payload length (uint32)  text length (uint32)  CRC-32 (uint32)  sequence (uint64)  payload

The payload begins with a text, a JSON list of rows: ``[table, values]`` or, where the last value is bytes, ``[table, values,
length]``; these bytes follow the text in the order of the rows.  Tables are those of `tracing.schema.JOURNALED`.
Sequence numbers grow by one from record to record.  The checksum is over all but the magic and itself.  Everything is
little-endian.

Reading stops at the first record that is cut short, damaged, or out of sequence.  Nothing that a journal may hold makes it raise.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tracing import schema

FILE_NAME: Final = "run.journal"
Row = tuple[str, tuple[Any, ...]]
"""A table, and a value for each of its columns."""

_MAGIC = b"DFJ1"
_HEAD = struct.Struct("<4sIIIQ")  # magic, payload length, text length, CRC-32, sequence
_CHECKED = struct.Struct("<IIQ")
_MOST = 1 << 26  # bytes of a journal; a larger one was not written by us
# Of what somebody has put there instead of a file, opening it must not wait.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_to_text = json.JSONEncoder(separators=(",", ":")).encode
_LOW, _HIGH = -(1 << 63), 1 << 63


def record(sequence: int, rows: Sequence[Row]) -> bytes:
    """The bytes of a record."""
    blobs: list[bytes] = []
    described: list[list[Any]] = []
    for table, values in rows:
        last = values[-1]
        if type(last) is bytes:
            blobs.append(last)
            described.append([table, values[:-1], len(last)])
        else:
            described.append([table, values])
    text = _to_text(described).encode()
    payload = b"".join((text, *blobs))
    crc = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), len(text), sequence)))
    return _HEAD.pack(_MAGIC, len(payload), len(text), crc, sequence) + payload


def records(data: bytes, after: int) -> Iterator[tuple[int, list[Row]]]:
    """The records in `data` that follow record `after`, each with its sequence number; earlier ones are passed over."""
    at = 0
    while at + _HEAD.size <= len(data):
        magic, length, text_length, crc, sequence = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        at = start + length
        if magic != _MAGIC or at > len(data) or text_length > length or sequence > after + 1:
            return
        if sequence <= after:
            continue
        payload = memoryview(data)[start:at]
        if zlib.crc32(payload, zlib.crc32(_CHECKED.pack(length, text_length, sequence))) != crc:
            return
        rows = _rows(bytes(payload[:text_length]), payload[text_length:])
        if rows is None:
            return
        yield sequence, rows
        after = sequence


def _rows(text: bytes, blobs: memoryview) -> list[Row] | None:
    """The rows of a payload; None if it is not what `record` makes."""
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(described, list):
        return None
    found: list[Row] = []
    at = 0
    for each in described:
        if not isinstance(each, list) or len(each) not in (2, 3) or not isinstance(each[0], str):
            return None
        table, values, *lengths = each
        if table not in schema.JOURNALED or not isinstance(values, list):
            return None
        for length in lengths:
            if not isinstance(length, int) or not 0 <= length <= len(blobs) - at:
                return None
            values.append(bytes(blobs[at : at + length]))
            at += length
        columns = schema.columns_of(table)
        if len(values) != len(columns) or not all(map(_fits, columns.values(), values)):
            return None
        found.append((table, tuple(values)))
    return found if at == len(blobs) else None


def _fits(classes: tuple[type, ...], value: Any) -> bool:
    """Whether a column of values of these classes can hold the value."""
    if not isinstance(value, classes):
        return False
    if isinstance(value, str):
        return storable(value) == value
    return not isinstance(value, int) or _LOW <= value < _HIGH


def storable(text: str) -> str:
    """The text as SQLite can keep it: lone surrogates, which stand for bytes that are not Unicode, are written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Journal:
    """The file, for its writer.  Not thread-safe.

    It is made with the first record.  Raises OSError when it cannot be made or written.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / FILE_NAME
        self.size = 0
        self._file = -1

    def append(self, sequence: int, rows: Sequence[Row]) -> None:
        """Add a record; whatever happens to this process then, it can be read."""
        if self._file < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._file = os.open(self.path, flags | getattr(os, "O_BINARY", 0), 0o666)
        data = record(sequence, rows)
        written = 0
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            if written:  # records behind half a one would not be found
                os.ftruncate(self._file, self.size)
            raise
        self.size += written

    def clear(self) -> None:
        """All of it is in the database."""
        if self.size:
            os.ftruncate(self._file, 0)
            self.size = 0

    def close(self, *, remove: bool = False) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if remove:
                self.path.unlink(missing_ok=True)


class JournalFile:
    """The journal beside a database, for those who read it."""

    def __init__(self, run: Path) -> None:
        self._path = run / FILE_NAME

    def look(self) -> tuple[int, bytes]:
        """What changes whenever the journal does: its size and its first record's head.  Costs some microseconds."""
        return self._read(_HEAD.size)

    def read(self) -> bytes:
        """All of it; nothing where it is not there, cannot be read, or is too large to be a journal."""
        size, data = self._read(_MOST + 1)
        return data if size <= _MOST and len(data) <= _MOST else b""

    def _read(self, most: int) -> tuple[int, bytes]:
        """The size of the file and so many bytes from its beginning."""
        try:
            file = os.open(self._path, _READ)
        except OSError:
            return 0, b""
        try:
            about = os.fstat(file)
            return (about.st_size, os.read(file, most)) if stat.S_ISREG(about.st_mode) else (0, b"")
        except OSError:
            return 0, b""
        finally:
            os.close(file)
