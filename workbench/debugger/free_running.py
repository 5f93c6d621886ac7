"""Free running: a step that executes with nothing to look out for, at little more than the interpreter's cost.

All that is kept of an execution then is what the state machine's journal has of it, and its duration.  These are flat lists
without an object for each execution, since what costs most is to make objects and to have the garbage collector visit them.
Entries, and all else that is to be seen, are made of it when somebody looks (`Stepping.catch_up`).
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.op.queues import Blocked
from engine.runtime.program import Item
from engine.runtime.resources import Resource, Write
from engine.runtime.state import STRIDE, Activation, Change, Finished, Frame
from workbench.debugger.entries import hold
from workbench.debugger.holding import HOLDS, STATEFUL
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping

_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor
UNREAD = (
    8_192  # executions that are left unread at most: reading them is what whoever pauses the step waits for
)
LOOK_EVERY = 256  # executions between two looks at the budget, and at whether the session was closed


class Alerts:
    """Counts what steps that run freely have to look out for; a step runs on as long as it is what it was."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Special(NamedTuple):
    """What has to be noted of an execution when it happens: `outputs` with what resources hold, and what it changed."""

    outputs: Sequence[Any] | None
    writes: Sequence[Write] = ()
    made: tuple[Resource, ...] = ()


class Unread:
    """The executions of a step that nobody has looked at.

    - `durations`: of each, in nanoseconds.
    - `special`: what is special about some, by row; `changes`: of frames and iterations, by row.
    - `nbytes`: at least the bytes of their arrays.
    - `journal`: that of the step's state machine, from row `first` on; what is kept of any execution is in there.
    - `lock`: held while entries are made, which may happen in another thread than the step's.
    """

    __slots__ = ("changes", "durations", "first", "journal", "lock", "nbytes", "special")

    def __init__(self, journal: list[Any]) -> None:
        self.journal = journal
        self.first = 0
        self.durations = array("q")
        self.changes: dict[int, Sequence[Change]] = {}
        self.special: dict[int, Special] = {}
        self.nbytes = 0
        self.lock = threading.RLock()

    @property
    def executed(self) -> int:
        """All that the step has executed."""
        return self.first + len(self.journal) // STRIDE

    def since(self, row: int) -> tuple[list[Item], list[Any]]:
        """The executions from `row` on: their items, and what they gave (`outputs_of`)."""
        begin = (row - self.first) * STRIDE
        return self.journal[begin::STRIDE], self.journal[begin + 3 :: STRIDE]

    def rows(self, row: int, count: int) -> Iterator[tuple[Item, Frame, int, Any, int, int]]:
        """`count` executions from `row` on: item, frame, iteration, what it gave, how many it released, and its duration."""
        begin = (row - self.first) * STRIDE
        parts = [
            self.journal[begin + at : begin + count * STRIDE : STRIDE] for at in (0, 1, 2, 3, STRIDE - 1)
        ]
        return zip(*parts, self.durations[:count], strict=True)

    def activation(self, row: int) -> Activation:
        """What executed as number `row`."""
        at = (row - self.first) * STRIDE
        return Activation(*self.journal[at : at + 3])


def run(stepping: Stepping, alerts: Alerts, seen: int) -> Exception | None:
    """Execute until nothing is ready or `alerts` is no longer at `seen`.

    Gives what a kernel has raised (its activation is then still next), and raises what interrupts the step.  Not for a step in
    which something is overridden, preferred, or to be executed again.
    """
    unread, traits, step = stepping.unread, stepping.traits, stepping.step
    ready = stepping.ready
    take, extend = ready.popleft, ready.extend
    execute, finish = step.execute, step.finish
    alone, apply, written = step.is_alone, step.state.apply, step.written
    assert written is not None
    sizes, durations, journal = traits.free_sizes, unread.durations, unread.journal
    add_duration, changed = durations.append, unread.changes
    stepping.settle()
    nbytes, enough, most = 0, stepping.room_bytes, min(stepping.room, UNREAD)
    countdown = LOOK_EVERY
    made: tuple[Resource, ...] = ()
    try:
        while ready and alerts.count == seen:
            activation = ready[0]
            size = sizes[activation[0].index]
            try:
                if size >= 0:
                    outcome = execute(activation)
                else:
                    outcome, made = _execute(stepping, activation)
                outputs, start, end, writes = outcome
                if alone:
                    written.append(writes)
                    released, changes, _ = apply(_new_tuple(Finished, (activation, outputs)))
                else:
                    released, changes, _ = finish(activation, outcome)
                    journal[-1] = len(released)
            except Blocked as blocked:
                stepping.park(activation, blocked)
                alone = False
                continue
            except Exception as error:
                return error
            take()
            if released:
                extend(released)
            if size >= 0:
                nbytes += size
            else:
                nbytes += _note(stepping, activation, outputs, writes, made)
                if nbytes > enough:
                    countdown = 1
            if changes:
                changed[unread.first + len(journal) // STRIDE - 1] = changes
            add_duration(end - start)
            countdown -= 1
            if countdown == 0:
                countdown = LOOK_EVERY
                if nbytes > enough or len(durations) > most:
                    stepping.settle()
                    nbytes, enough, most = 0, stepping.room_bytes, min(stepping.room, UNREAD)
                step.check_interrupts()
    finally:
        unread.nbytes = nbytes
    return None


def _execute(stepping: Stepping, activation: Activation) -> tuple[Any, tuple[Resource, ...]]:
    """Execute what is not plain; its outcome, and the resources that it made for this step."""
    step = stepping.step
    if not stepping.traits.marks[activation.item.index] & STATEFUL:
        return step.execute(activation), ()
    resources, container = step.resources, step.context.container
    before = resources.count(container)
    outcome = step.execute(activation)
    made = resources.made_since(before, container) if resources.count(container) != before else ()
    return outcome, made


def _note(
    stepping: Stepping,
    activation: Activation,
    outputs: Sequence[Any] | None,
    writes: Sequence[Write],
    made: tuple[Resource, ...],
) -> int:
    """Note what is special about an execution; gives the bytes that it may hold."""
    unread = stepping.unread
    held = hold(outputs) if stepping.traits.marks[activation.item.index] & HOLDS else outputs
    if held is not outputs or writes or made:
        unread.special[unread.executed - 1] = Special(held, writes, made)
    nbytes = 0
    for value in held or ():
        nbytes += getattr(value.value if isinstance(value, Reference) else value, "nbytes", 0)
    for write in writes:
        nbytes += getattr(write.old, "nbytes", 0) + getattr(write.new, "nbytes", 0)
    return nbytes
