"""Orders of accesses: run again, and two of them that come to different outcomes and differ as little as can be."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from engine.runtime.frames import Activation
from engine.types import errors
from workbench.debugger.schedules import counting
from workbench.debugger.schedules.exploration import Found, Pair
from workbench.debugger.schedules.keys import Key, Keys, begins
from workbench.debugger.schedules.record import Schedule
from workbench.debugger.schedules.walk import Outcome, Walk, differences

COMPARED = 200  # accesses of an execution up to which orders are compared


class Orders:
    """Runs orders of accesses; `visible` says which items are, and `until` when to stop.  The walk stands at its beginning."""

    def __init__(self, walk: Walk, keys: Keys, visible: Sequence[bool], until: float) -> None:
        self.walk = walk
        self.keys = keys
        self.visible = visible
        self.until = until

    def shortest(self, outcome: Outcome, schedule: Schedule, count: int, order: tuple[Key, ...]) -> Found:
        """The outcome with the schedule that is the interpreter's but for the order of accesses."""
        run = self._run(order) if time.monotonic() < self.until else None
        return Found(outcome, schedule if run is None or run[0] != outcome else run[1], count, order)

    def nearest(self, found: Sequence[Found], distances: Mapping[Outcome, int]) -> Pair:
        """Two schedules with different outcomes that differ as little as can be: in one swap, if all run the same nodes."""
        first = found[0]
        second = min(found[1:], key=lambda each: distances[each.outcome])
        names = self.walk.step.stage.fetches
        plain = Pair(first, second, None, tuple(differences(first.outcome, second.outcome, names)))
        late = time.monotonic() > self.until
        if set(first.order) != set(second.order) or len(first.order) > COMPARED or late:
            return plain
        # Sort one order into the other by swaps of neighbours; somewhere on the way the outcome changes.
        way = counting.swaps(first.order, second.order)
        ends = [first, second]
        low, high = 0, len(way) - 1
        while high - low > 1:
            middle = (low + high) // 2
            run = self._run(way[middle])
            if run is None:
                return plain
            same = run[0] == first.outcome
            ends[0 if same else 1] = Found(run[0], run[1], 1, tuple(way[middle]))
            low, high = (middle, high) if same else (low, middle)
        at = next(i for i, (a, b) in enumerate(zip(way[low], way[high], strict=True)) if a != b)
        items = self.walk.step.program.items
        return Pair(
            ends[0],
            ends[1],
            (items[way[low][at][1]].name, items[way[high][at][1]].name),
            tuple(differences(ends[0].outcome, ends[1].outcome, names)),
            (way[low][at][2], way[high][at][2]),
        )

    def _run(self, order: Sequence[Key]) -> tuple[Outcome, Schedule] | None:
        """Run the accesses in this order; None if that cannot be."""
        self.walk.back_to(0)
        due = 0
        queue = self.walk.recorder.queue
        try:
            while queue:
                for at in queue:
                    if not self.visible[at.item.index]:
                        break
                    if due < len(order) and self._step(at) == order[due]:
                        due += 1
                        break
                else:
                    if due < len(order):
                        return None
                    break
                self.walk.do(at)
            return self.walk.outcome(), self.walk.schedule()
        except errors.OpError as error:
            return self.walk.failed(error), self.walk.schedule()
        finally:
            self.walk.back_to(0)

    def _step(self, activation: Activation) -> Key:
        """What executing it is in an order."""
        key = self.keys.of(activation)
        return key if self.walk.waits(activation) is None else begins(key)
