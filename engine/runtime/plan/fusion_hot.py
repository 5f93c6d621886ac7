"""When a segment's groups are fused: once that has been worth its time, on the compiler's thread, while runs go on as before.

A kernel takes the compiler tens of milliseconds.  As long as what its segment has lost without it is a part of that, it may
never pay; so the runs are counted.  A run that has begun goes on with the tape that it began with.
"""

from __future__ import annotations

import math
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING

from engine.runtime.plan.fusion import Fusion, Grouping
from engine.runtime.plan.fusion_costs import COMPILING

if TYPE_CHECKING:
    from engine.runtime.plan.recording import Step
    from engine.runtime.plan.segment import Segment

_PART = 0.25  # of what compiling costs, that is lost before it begins


class Heat:
    """How far a segment is from being fused.

    left: runs until it begins; 0: nobody counts.  fusions: what was fused, once the segment runs so.  declined: (indices of
    items, reason) of groups that were not.
    """

    def __init__(self, grouping: Grouping) -> None:
        self.grouping: Grouping | None = grouping
        self.fusions: tuple[Fusion, ...] = ()
        self.declined = tuple(grouping.declined)
        self.future: Future[None] | None = None
        cost = _PART * COMPILING * len(grouping.chains)
        self.left = math.ceil(max(1.0, cost / grouping.saved)) if grouping.chains else 0
        self._lock = threading.Lock()

    def run(self, segment: Segment) -> None:
        """One run more; call this while `left`."""
        self.left -= 1
        if self.left <= 0:
            self.begin(segment)

    def begin(self, segment: Segment) -> Future[None]:
        """Fuse in the background, from now on; the future is done when runs have the new tape, or if there will be none."""
        from engine.native import compiler

        with self._lock:
            self.left = 0
            if self.future is None:
                mine = weakref.ref(segment)
                self.future = compiler.in_background(lambda: _work(mine))
            return self.future

    def take(self) -> tuple[list[Step], tuple[Fusion, ...]] | None:
        """The steps with calls of kernels, compiled by this; None if that is done already."""
        with self._lock:
            grouping, self.grouping = self.grouping, None
        if grouping is None:
            return None
        steps, fusions = grouping.compiled()
        self.declined = tuple(grouping.declined)
        return steps, tuple(fusions)


def _work(mine: weakref.ref[Segment]) -> None:
    segment = mine()
    if segment is not None:
        segment.fuse()
