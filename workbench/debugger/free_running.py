"""Free running: a step that executes with nothing to look out for, at little more than the interpreter's cost.

All that is kept of an execution then is what the state machine's journal has of it, and its duration.  These are flat lists
without an object for each execution, since what costs most is to make objects and to have the garbage collector visit them.
Entries, and all else that is to be seen, are made of it when somebody looks (`workbench.debugger.history`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from engine.op.queues import Blocked
from engine.runtime.frames import Activation
from engine.runtime.journal import STRIDE
from engine.runtime.resources import Resource, Write
from workbench.debugger.entries import hold
from workbench.debugger.history import Special
from workbench.debugger.holding import HOLDS, STATEFUL
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping

LOOK_EVERY = 256  # executions between two looks at the budget, and at whether the session was closed
_SOME = range(LOOK_EVERY)


class Alerts:
    """Counts what steps that run freely have to look out for; a step runs on as long as it is what it was."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def run(stepping: Stepping, alerts: Alerts, seen: int) -> Exception | None:
    """Execute until nothing is ready or `alerts` is no longer at `seen`.

    Gives what a kernel has raised (its activation is then still next), and raises what interrupts the step.  Not for a step in
    which something is overridden, preferred, or to be executed again.
    """
    unread, step = stepping.unread, stepping.step
    stepping.settle()
    step.state.tells = step.collector is not None
    try:
        while stepping.ready and alerts.count == seen:
            failed = _run_some(stepping, alerts, seen)
            if failed is not None:
                return failed
            if stepping.room_bytes < 0 or len(unread.journal) > stepping.most * STRIDE:
                stepping.settle()
            step.check_interrupts()
    finally:
        step.state.tells = True
    return None


def _run_some(stepping: Stepping, alerts: Alerts, seen: int) -> Exception | None:
    """Execute at most `LOOK_EVERY` activations, fewer if they are large."""
    unread, step, ready = stepping.unread, stepping.step, stepping.ready
    take, extend = ready.popleft, ready.extend
    execute, finish = step.execute, step.finish
    advance = step.state.advance
    alone, written = step.is_alone, step.written
    assert written is not None
    sizes, journal = stepping.traits.free_sizes, unread.journal
    add_duration = unread.durations.append
    nbytes, enough = 0, stepping.room_bytes
    made: tuple[Resource, ...] = ()
    try:
        for _ in _SOME:
            if not ready or alerts.count != seen:
                break
            activation = ready[0]
            size = sizes[activation[0].index]
            try:
                if size >= 0:
                    outcome = execute(activation)
                else:
                    outcome, made = _execute(stepping, activation)
                outputs, start, end, writes = outcome
                if alone:
                    released = advance(activation, outputs)
                    if writes:
                        _even(written, journal, 1)
                        written.append(writes)
                else:
                    _even(written, journal, 0)
                    released = finish(activation, outcome)[0]
                    journal[-1] = len(released)
            except Blocked as blocked:
                _even(written, journal, 0)
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
                add_duration(end - start)
            else:
                nbytes += _note(stepping, activation, outputs, writes, made)
                add_duration(end - start)
                if nbytes > enough:
                    break
    finally:
        _even(written, journal, 0)
        unread.nbytes += nbytes
    return None


def _even(written: list[Sequence[Write]], journal: list[Any], but: int) -> None:
    """Note for all executions in the journal but the last `but` ones that they have written nothing, if it is not noted yet."""
    missing = len(journal) // STRIDE - but - len(written)
    if missing > 0:
        written.extend(repeat((), missing))


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
        row = unread.executed - 1
        unread.special[row] = Special(held, writes, made)
        if writes:
            unread.wrote.append(row)
    nbytes = 0
    for value in held or ():
        nbytes += getattr(value.value if isinstance(value, Reference) else value, "nbytes", 0)
    for write in writes:
        nbytes += getattr(write.old, "nbytes", 0) + getattr(write.new, "nbytes", 0)
    return nbytes
