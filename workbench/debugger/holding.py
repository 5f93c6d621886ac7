"""Holding: what the history of a step may take, what it takes, and what is special about the items of a program."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from engine.runtime.driver import Executable
from engine.runtime.program import ENTER, EXIT, SEND, Item

if TYPE_CHECKING:
    from workbench.debugger.entries import Facts
    from workbench.debugger.history import History

KEPT = 100_000  # executions that can be taken back
KEPT_BYTES = 256 << 20  # unless what they keep alive takes more than this
ENTRY_BYTES = 750  # what an execution takes beside its arrays: entry, activation, journal
ROW_BYTES = 160  # the same, of one that nobody has looked at
LARGE = 4_096  # bytes from which on an array is counted once, however many executions hold it

# What is special about an item: its outputs may be resources; it may change some; it changes frames.
HOLDS, STATEFUL, FRAMES = 1, 2, 4


class Traits:
    """What is special about each item of a program, by index.

    - `marks`: HOLDS, STATEFUL, FRAMES.
    - `sizes`: the bytes of its outputs by their static shapes; -1 if these are unknown, or many, or it has to do with resources.
    - `plain_sizes`: the same for what has no marks and sends or receives nothing; -1 for all else.
    - `free_sizes`: the same, but for what has to do with frames too; -1 for what needs a closer look when it has executed.
    """

    __slots__ = ("free_sizes", "marks", "plain_sizes", "sizes")

    def __init__(self, executable: Executable) -> None:
        self.marks: list[int] = []
        self.sizes: list[int] = []
        self.plain_sizes: list[int] = []
        self.free_sizes: list[int] = []
        for item, bound in zip(executable.program.items, executable.bound, strict=True):
            refs = any(
                dtype._is_ref_dtype or dtype.name in ("resource", "variant")
                for dtype in item.node.output_dtypes
            )
            mark = HOLDS * refs | STATEFUL * bound.stateful | FRAMES * (item.flow in (ENTER, EXIT))
            size = -1 if refs or bound.stateful else _size_of(item)
            self.marks.append(mark)
            self.sizes.append(size)
            self.plain_sizes.append(-1 if mark or item.flow >= SEND else size)
            self.free_sizes.append(-1 if mark & ~FRAMES or item.flow >= SEND else size)


_traits: weakref.WeakKeyDictionary[Executable, Traits] = weakref.WeakKeyDictionary()


def traits_of(executable: Executable) -> Traits:
    """What is special about the items of an executable's program."""
    found = _traits.get(executable)
    if found is None:
        found = _traits[executable] = Traits(executable)
    return found


def _size_of(item: Item) -> int:
    """Bytes of an item's outputs, by their static shapes; -1 where these are not known, or say more than `LARGE`."""
    total = 0
    for dtype, shape in zip(item.node.output_dtypes, item.node.output_shapes, strict=True):
        if not shape.is_fully_defined() or dtype.np_dtype.hasobject:
            return -1
        count = 1
        for each in shape.as_list():
            count *= each or 0
        total += count * dtype.np_dtype.itemsize
    return total if total <= LARGE else -1


class Budget:
    """What a history may take (`kept` executions, `kept_bytes`), and the bytes of the arrays that it does.

    It is let grow up to `most` executions or `most_bytes` of arrays, so that the oldest go many at a time.
    """

    def __init__(self, sizes: list[int], kept: int, kept_bytes: int) -> None:
        self._sizes = sizes
        self._large: dict[int, int] = {}  # by identity, how many entries hold an array
        self.bytes = 0
        self.reserved, self.reserved_bytes = 0, 0
        self.set(kept, kept_bytes)

    def set(self, kept: int, kept_bytes: int) -> None:
        """Keep that many executions and bytes from now on."""
        self.kept, self.kept_bytes = kept, kept_bytes
        self.most = max(1, kept * 5 // 4 - self.reserved)
        most_bytes = max(kept_bytes // 4, kept_bytes - ENTRY_BYTES * kept)
        self.most_bytes = max(0, most_bytes - self.reserved_bytes)

    def reserve(self, executions: int, nbytes: int) -> None:
        """Leave so much of it to others, which give way when it is used up."""
        self.reserved, self.reserved_bytes = executions, nbytes
        self.set(self.kept, self.kept_bytes)

    def hold(self, facts: Facts) -> None:
        """Count the bytes that an execution keeps alive; a large array only if no other one holds it."""
        size = self._sizes[facts.item.index] if facts.item.index >= 0 else -1
        if size >= 0 and facts.outputs is not None and not facts.writes:
            self.bytes += size
            return
        for array in facts.arrays():
            size = array.nbytes
            if size > LARGE:
                key = id(_owner(array))
                count = self._large.get(key, 0)
                self._large[key] = count + 1
                if count:
                    continue
            self.bytes += size

    def release(self, facts: Facts) -> None:
        """The opposite of `hold`."""
        size = self._sizes[facts.item.index] if facts.item.index >= 0 else -1
        if size >= 0 and facts.outputs is not None and not facts.writes:
            self.bytes -= size
            return
        for array in facts.arrays():
            size = array.nbytes
            if size > LARGE:
                key = id(_owner(array))
                count = self._large.get(key, 1) - 1
                if count:
                    self._large[key] = count
                    continue
                self._large.pop(key, None)
            self.bytes -= size

    def release_oldest(self, history: History) -> int:
        """How many of the oldest have to go for three quarters of the budget to be in use; they are counted no more."""
        first = history.first
        drop = max(0, len(history) - self.kept)
        enough = self.most_bytes * 3 // 4 if self.bytes > self.most_bytes else self.most_bytes
        at = 0
        while at < len(history) - 1 and (at < drop or self.bytes > enough):
            self.release(history.facts(first + at))
            at += 1
        return at


def _owner(array: Any) -> Any:
    """The array whose memory `array` is a view of."""
    base = getattr(array, "base", None)
    return array if base is None else base
