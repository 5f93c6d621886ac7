"""Times of a specialised program: what its tapes and its Python say, in whatever order they run, as a log in the plan's order.

Segments gather instructions, fuse them and put others before or behind them, so times come as (node, end) pairs.  In the order of
the linear program, an instruction that has no time of its own (it was fused into a later one, or is a view) ends when the one
before it does, and none ends before its predecessor.  Only programs without branches and loops are told this way: the
others run as Python when somebody watches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from engine.runtime.plan.ir import Compute, Linear, Pass
from engine.runtime.plan.python import stamped, writes_resources

if TYPE_CHECKING:
    from engine.runtime.plan.record import Log


def is_straight(linear: Linear) -> bool:
    """Whether nothing in the program jumps."""
    return all(isinstance(each, Compute | Pass) for each in linear.body.code)


class Order:
    """The order of a straight program: the items that have times, and those that write, with how many times come before."""

    __slots__ = ("stamped", "writing")

    def __init__(self, linear: Linear) -> None:
        self.stamped: list[int] = []
        self.writing: list[tuple[int, int]] = []
        for each in linear.body.code:
            if isinstance(each, Compute):
                if stamped(each):
                    self.stamped.append(each.item.index)
                if writes_resources(each):
                    self.writing.append((each.item.index, len(self.stamped)))


class Notes:
    """What a specialised program takes down while it runs: when nodes ended, and what they wrote."""

    __slots__ = ("times", "writes")

    def __init__(self) -> None:
        self.times: list[tuple[int, int]] = []
        self.writes: list[tuple[int, Sequence[Any]]] = []

    def give(self, log: Log, order: Order, *, finished: bool) -> None:
        """Put all into `log`; of a step that was not finished, what came before the first instruction that has no time."""
        ends = dict(self.times)
        known = order.stamped if finished else list(takewhile(ends.__contains__, order.stamped))
        started = log.stamps[0]
        if known:
            times = accumulate([ends.get(index, 0) for index in known], max, initial=started)
            log.stamps.extend(times)
        written: dict[int, list[Any]] = {}
        for index, writes in self.writes:
            written.setdefault(index, []).extend(writes)
        for index, before in order.writing:
            if before > len(known):
                break
            log.wrote(written.get(index, ()))
