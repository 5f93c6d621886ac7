"""What batches have in common with earlier ones, stored once.

A program's steps do the same again and again: most columns of a batch are those of a batch before.  What has come a second time
becomes a *base*, and a batch of which the rest is all that differs names it (`tracing.schema`, table `batches`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from tracing import columns
from tracing.kinds import Columns, Kind
from tracing.records import Blob
from tracing.writer import RunWriter

_MOST_PATTERNS = 1024
_MOST_PLACES = 256  # kinds, devices and stages
_MOST_BASES = 4  # of each of them
_MOST_BYTES = 1 << 20  # of columns that are remembered
_PLAIN = 1 << 16  # bytes of a batch's own columns, up to which they are not compressed


class Common:
    """Packs batches for one writer.  Thread-safe; raises what the writer raises."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._patterns: dict[Any, int] = {}  # the base of each; 0: it has come once
        self._places: OrderedDict[tuple[str, str, int], _Place] = OrderedDict()

    def pack(self, kind: Kind, device: str, stage_id: int, parts: Sequence[Any]) -> Blob:
        """A step's batches of one kind on one device as a row of `batches`."""
        if kind.varying is None:
            return Blob(kind.name, columns.pack(kind.write(parts)))
        if kind.pattern is not None and kind.own is not None and len(parts) == 1:
            pattern = kind.pattern(parts[0])
            if pattern is not None:
                base = self._patterns.get(pattern)
                if base:
                    return Blob(kind.name, _packed(kind.own(parts[0])), base)
                return self._first_of_pattern(kind, pattern, parts)
        return self._compared(kind, (kind.name, device, stage_id), kind.write(parts))

    def forget_after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def _first_of_pattern(self, kind: Kind, pattern: Any, parts: Sequence[Any]) -> Blob:
        assert kind.own is not None
        found = kind.write(parts)
        if len(self._patterns) >= _MOST_PATTERNS:
            self._patterns.clear()
        if pattern not in self._patterns:
            self._patterns[pattern] = 0
            return Blob(kind.name, columns.pack(found))
        own = kind.own(parts[0])
        base = self._add({name: column for name, column in found.items() if name not in own})
        self._patterns[pattern] = base
        return Blob(kind.name, _packed(own), base)

    def _compared(self, kind: Kind, place: tuple[str, str, int], found: Columns) -> Blob:
        """The batch with the base that has all of its columns that do not vary, if there is one, or may be one now."""
        assert kind.varying is not None
        same = {name: column for name, column in found.items() if name not in kind.varying}
        if sum([column.nbytes for column in same.values()]) > _MOST_BYTES:
            return Blob(kind.name, columns.pack(found))
        with self._lock:
            known = self._places.get(place)
            if known is None:
                known = self._places[place] = _Place()
                if len(self._places) > _MOST_PLACES:
                    self._places.popitem(last=False)
            base = next((base for base, its in known.bases if _equal(its, same)), None)
            if base is None:
                if known.last is None or not _equal(known.last, same):
                    known.last = same
                    return Blob(kind.name, columns.pack(found))
                base = self._add(same)
                known.bases.insert(0, (base, same))
                del known.bases[_MOST_BASES:]
        own = {name: column for name, column in found.items() if name in kind.varying}
        return Blob(kind.name, _packed(own), base)

    def _add(self, same: Columns) -> int:
        return self._writer.add_base(columns.pack(same))


class _Place:
    """What is known of the batches of one kind, device and stage: bases, and what the last batch had that is none."""

    __slots__ = ("bases", "last")

    def __init__(self) -> None:
        self.bases: list[tuple[int, Columns]] = []
        self.last: Columns | None = None


def _packed(own: Columns) -> bytes:
    return columns.pack(own, plain=sum([column.nbytes for column in own.values()]) <= _PLAIN)


def _equal(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether these are the same columns, to the bit."""
    return some.keys() == others.keys() and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and (a.tolist() == b.tolist() if a.dtype.hasobject else a.tobytes() == b.tobytes())
        for a, b in ((column, others[name]) for name, column in some.items())
    )
