"""The memory of a modelled device: how much is in use and for what, and whether its users keep their order.

A `Storage` is one allocation, shared by an array and its views.  It knows which work of which stream wrote it last and which
read it since.  When nobody refers to it any more, its bytes are overwritten (what still reads them sees nonsense, not luck)
and its readers are remembered: whatever its memory is given to next must come after them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.device.device import Statistics, exhausted
from engine.device.modelled.streams import VirtualStream
from engine.types import errors

UNIT = 512  # bytes: CuPy's memory pool rounds up to multiples of it
_POISON = 0xCB


class Storage:
    """One allocation on a device; `root` is the NumPy array that owns the bytes."""

    __slots__ = (
        "__weakref__",
        "after",
        "home",
        "label",
        "memory",
        "named",
        "nbytes",
        "root",
        "uses",
        "written",
    )

    def __init__(self, memory: Memory, root: np.ndarray[Any, Any], home: VirtualStream, label: str) -> None:
        self.nbytes = -(-root.nbytes // UNIT) * UNIT
        memory.take(self, label)
        self.memory = memory
        self.root = root
        self.home = home
        self.label = label
        self.named = False  # by the tensor or variable that it holds
        self.written = (home, 0)
        self.uses: dict[VirtualStream, int] = {}
        self.after = dict(memory.released.get(home, ()))

    def __del__(self) -> None:
        if hasattr(self, "written"):
            self.memory.give_back(self)

    def check_read(self, stream: VirtualStream) -> None:
        """Raise InternalError if work given to `stream` now may come before the bytes have been written."""
        writer, number = self.written
        if not stream.knows(writer, number):
            raise _unordered(f"'{self.label}' was made on {writer}, and is read on {stream}", writer)

    def check_write(self, stream: VirtualStream) -> None:
        """Raise InternalError if work given to `stream` now may come before earlier users of the bytes are done."""
        self.check_read(stream)
        for reader, number in self.uses.items():
            if not stream.knows(reader, number):
                raise _unordered(
                    f"'{self.label}' is read on {reader}, and is overwritten on {stream}", reader
                )
        for reader, number in self.after.items():
            if not stream.knows(reader, number):
                raise _unordered(
                    f"the memory given to '{self.label}' was freed while {reader} may still be using it, and is written on "
                    f"{stream}",
                    reader,
                )

    def note_read(self, stream: VirtualStream, number: int) -> None:
        self.uses[stream] = number

    def note_write(self, stream: VirtualStream, number: int) -> None:
        self.written = (stream, number)
        self.uses.clear()
        self.after = {}


def _unordered(what: str, stream: VirtualStream) -> errors.InternalError:
    return errors.InternalError(
        None,
        None,
        f"Out of order on {stream.device} (modelled): {what}, without waiting for an event of {stream}",
    )


class Memory:
    """What is allocated on one device, in bytes; `reclaim` lets go of what is only held for copies under way."""

    def __init__(self, device: str, limit: int) -> None:
        self.device = device
        self.limit = limit
        self.in_use = 0
        self.peak = 0
        self.allocations = 0
        self.synchronizations = 0
        self.released: dict[VirtualStream, dict[VirtualStream, int]] = {}
        self.reclaim: Callable[[], None] = lambda: None
        self._alive: dict[int, weakref.ref[Storage]] = {}

    def take(self, storage: Storage, label: str) -> None:
        """Count an allocation.  Raises ResourceExhaustedError, with the largest tensors alive, if it is too much."""
        nbytes = storage.nbytes
        if self.in_use + nbytes > self.limit:
            self.reclaim()
        if self.in_use + nbytes > self.limit:
            raise exhausted(label, nbytes, f"{self.device} (modelled)", self.statistics())
        self.in_use += nbytes
        self.peak = max(self.peak, self.in_use)
        self.allocations += 1
        self._alive[id(storage)] = weakref.ref(storage)

    def give_back(self, storage: Storage) -> None:
        self._alive.pop(id(storage), None)
        self.in_use -= storage.nbytes
        users = self.released.setdefault(storage.home, {})
        for stream, number in (*storage.uses.items(), storage.written):
            users[stream] = max(users.get(stream, 0), number)
        root = storage.root
        if root.flags.writeable and root.flags.c_contiguous:
            root.reshape(-1).view(np.uint8).fill(_POISON)

    def statistics(self) -> Statistics:
        found = [each() for each in list(self._alive.values())]
        alive = sorted(
            ((s.label, s.nbytes) for s in found if s is not None), key=lambda pair: (-pair[1], pair[0])
        )
        return Statistics(
            self.in_use,
            self.peak,
            self.limit,
            self.allocations,
            tuple(alive),
            self.synchronizations,
            "modelled: what a GPU's memory pool would count",
        )
