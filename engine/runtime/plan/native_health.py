"""How the outputs of what machine code runs look, as `engine.runtime.health.measure` would have found.

While somebody watches at level values, a segment looks every output over (`engine.native.summary`) as soon as it is there, and
puts a record on a stack.  `NativeHealth` makes of these what Python would have told, node by node.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.native import summary
from engine.native.layout import View
from engine.runtime.health import ArrayHealth, measure
from engine.runtime.plan.native_rows import Rows
from engine.runtime.plan.native_state import Handle
from engine.types.dtypes import as_dtype

if TYPE_CHECKING:
    from engine.runtime.plan.ir import Native

Found = tuple[ArrayHealth | None, ...]


def blind(native: Native) -> str:
    """Why a segment cannot look at all that it makes, or ""."""
    for _, outputs in native.looks:
        for found in outputs:
            if found is None or isinstance(found, Rows):
                return "there is an output of which only a part counts, or that the tape does not have"
            if isinstance(found, int) and not summary.checked(native.segment.looks[found].dtype):
                return f"there is no kernel that looks at {native.segment.looks[found].dtype}"
    return ""


def _static(found: Any) -> ArrayHealth | None:
    """How an output looks that is always the same."""
    return None if isinstance(found, Handle) else measure(found)


class NativeHealth:
    """The health that the segments of one step tell; `fallen` are those that Python runs instead."""

    def __init__(self, segments: Sequence[Native], fallen: set[int]) -> None:
        self._fallen = fallen
        self._outputs: dict[
            int, tuple[int, list[Any]]
        ] = {}  # by item: the segment, and queues or what is static
        self._queues: dict[int, list[deque[ArrayHealth]]] = {}
        self._about: dict[int, list[tuple[int, tuple[int, ...], int]]] = {}
        self._seen: dict[int, int] = {}  # by segment: executions since its run began
        self._skip = 0
        for number, native in enumerate(segments, 1):
            views = native.segment.looks
            queues = self._queues[number] = [deque() for _ in views]
            self._about[number] = [_about(view) for view in views]
            for item, outputs in native.looks:
                known = [queues[each] if isinstance(each, int) else _static(each) for each in outputs]
                self._outputs[item] = number, known

    def begin(self, segment: int) -> None:
        """A run of this segment begins."""
        self._seen[segment] = 0

    def found(self, segment: int, records: Any) -> None:
        """Records that a run has made, in order."""
        queues, about = self._queues[segment], self._about[segment]
        for which, low, high, mean, nan, inf in records.tolist():
            number, shape, nbytes = about[which]
            queues[which].append(ArrayHealth(number, shape, low, high, mean, nan, inf, nbytes))

    def fall(self, segment: int) -> None:
        """The run of this segment has failed, and Python runs the same again."""
        self._skip += self._seen.get(segment, 0)
        for queue in self._queues[segment]:
            queue.clear()

    def trim(self, measured: list[Found]) -> None:
        """Take out of what Python has measured what was told already."""
        if self._skip:
            gone = min(self._skip, len(measured))
            del measured[:gone]
            self._skip -= gone

    def next(self, item: int) -> Found | None:
        """The health of the outputs in the item's next execution; None if Python tells it."""
        known = self._outputs.get(item)
        if known is None or known[0] in self._fallen:
            return None
        segment, outputs = known
        self._seen[segment] = self._seen.get(segment, 0) + 1
        return tuple(
            [(each.popleft() if each else None) if type(each) is deque else each for each in outputs]
        )


def _about(view: View) -> tuple[int, tuple[int, ...], int]:
    return as_dtype(view.dtype).as_datatype_enum, view.shape, view.dtype.itemsize * math.prod(view.shape)
