"""What exploring the schedules of a step comes to."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.debugger.schedules.keys import Key
from workbench.debugger.schedules.record import Schedule
from workbench.debugger.schedules.walk import Outcome


@dataclass(frozen=True)
class Found:
    """One outcome: a schedule that comes to it, with its accesses in order, and how many of the explored ones did."""

    outcome: Outcome
    schedule: Schedule
    count: int
    order: tuple[Key, ...] = field(repr=False)


@dataclass(frozen=True)
class Pair:
    """Two schedules that come to different outcomes, the nearest that were found; `differences` has a line for each value.

    `swapped`: they differ in the order of executions of these two nodes alone, in these `iterations`; None if no such pair was
    found.
    """

    first: Found
    second: Found
    swapped: tuple[str, str] | None
    differences: tuple[str, ...]
    iterations: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Exploration:
    """What exploring came to.

    explored: complete executions that were run.  pruned: executions that were given up because they were known already.
    complete: whether all schedules are covered.  pending: how many are at least to come, if not.
    orders: in how many orders the accesses of one execution can run, with nothing reduced (0: not counted).
    accesses: how many executions touch resources.  executions: how many nodes were executed in all.
    fetches: the names of what is fetched.  reversed: pairs of nodes whose order was found to be open.
    repeated: nodes whose effects outside of the engine happened each time.
    """

    outcomes: tuple[Found, ...]
    explored: int
    pruned: int
    complete: bool
    pending: int
    orders: int
    accesses: int
    executions: int
    seconds: float
    pair: Pair | None
    fetches: tuple[str, ...]
    reversed: frozenset[frozenset[str]]
    repeated: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """Whether all that was explored came to one outcome."""
        return len(self.outcomes) == 1
