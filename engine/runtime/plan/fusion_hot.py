"""When a segment's groups are fused: once that has been worth its time, on the compiler's thread, while runs go on as before.

A kernel takes the compiler tens of milliseconds.  As long as what its segment has lost without it is a part of that, it may
never pay; so the runs are counted: first until it is worth looking for groups, then until it is worth compiling them.  A run that
has begun goes on with the tape that it began with.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from engine.runtime.plan.fusion import ELEMENTWISE, TRIPS, Fusion, Grouping
from engine.runtime.plan.fusion_costs import COMPILING
from engine.runtime.plan.recording import Recorder

if TYPE_CHECKING:
    from engine.runtime.plan.recording import Step
    from engine.runtime.plan.segment import Segment

_PART = 0.25  # of what compiling costs, that is lost before it begins
_STEP, _ELEMENT = (
    16.0,
    1.0,
)  # ns that fusing an elementwise step may save at most, roughly, and for each element


class Heat:
    """How far a segment is from being fused; `outputs` are the slots of the buffers that its runs give.

    left: runs until something happens; 0: nobody counts.  fusions: what was fused, once the segment runs so.
    """

    def __init__(self, recorder: Recorder, outputs: Sequence[int]) -> None:
        self.fusions: tuple[Fusion, ...] = ()
        self.future: Future[None] | None = None
        # What looks at outputs would keep all of them; whoever wants that runs the steps as they were.
        steps = tuple(step for step in recorder.steps if step.kind != "look")
        self._of = recorder, steps, outputs
        self._grouping: Grouping | None = None
        self._taken = False
        self._runs = 0
        self._lock = threading.RLock()
        self.left = self._wait(_PART * COMPILING, _most(recorder.steps))

    @property
    def grouping(self) -> Grouping:
        """The groups, which are looked for when this is first asked for."""
        with self._lock:
            if self._grouping is None:
                self._grouping = Grouping(*self._of)
            return self._grouping

    @property
    def declined(self) -> tuple[tuple[tuple[int, ...], str], ...]:
        """Groups that are not fused: the indices of the items that their steps are from, and the reason."""
        return tuple(self.grouping.declined)

    def _wait(self, cost: float, saved: float) -> int:
        """Start counting to so many runs as are worth `cost`, if each loses `saved`."""
        self._runs = math.ceil(max(1.0, cost / saved)) if saved > 0 else 0
        return self._runs

    def run(self, segment: Segment) -> None:
        """One run more; call this while `left`."""
        self.left -= 1
        if self.left <= 0:
            self.begin(segment)

    def begin(self, segment: Segment) -> Future[None]:
        """Look for groups in the background, and fuse those of which the time has come; the future is done when that is."""
        from engine.native import compiler

        with self._lock:
            self.left = 0
            if self.future is None:
                mine = weakref.ref(segment)
                self.future = compiler.in_background(lambda: self._work(mine))
            return self.future

    def _work(self, mine: weakref.ref[Segment]) -> None:
        segment = mine()
        if segment is None:
            return
        runs = self._runs
        kernels = self.grouping.kernels
        needed = self._wait(_PART * COMPILING * kernels, self.grouping.saved)
        if needed > runs:
            with self._lock:
                self.future, self.left = None, needed - runs
        elif kernels:
            segment.fuse()

    def take(self) -> tuple[list[Step], tuple[Fusion, ...]] | None:
        """The steps with calls of kernels, compiled by this; None if that has been done, or is being done, already."""
        with self._lock:
            taken, self._taken = self._taken, True
        if taken:
            return None
        steps, fusions = self.grouping.compiled()
        return steps, tuple(fusions)


def _most(steps: Sequence[Step]) -> float:
    """ns that fusing may save at most, roughly, in one run."""
    saved, depth = 0.0, 0
    for step in steps:
        depth += (step.kind == "loop") - (step.kind == "end")
        if step.kind in ELEMENTWISE:
            saved += (_STEP + _ELEMENT * step.writes[0].size) * TRIPS ** min(depth, 3)
    return saved
