"""Moves: how a stopped step goes on, and where it stops again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.runtime.frames import Activation, Frame
from workbench.debugger.units import UNITS, Key, Unit, inside

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping


@dataclass(frozen=True, slots=True)
class Move:
    """How to go on.

    - `done` is asked before each execution after the first; its answer is the reason to stop, or None.
    - `wanted` are the activations to take first among those that are ready.
    - `stops_at_end` and `stops_at_begin` say whether to stop where this step has nothing left to execute, and where the next
      `Session.run` begins.
    """

    done: Callable[[Stepping], str | None] | None = None
    wanted: Callable[[Activation], bool] | None = None
    stops_at_end: bool = True
    stops_at_begin: bool = True


def next_nodes(count: int) -> Move:
    """Execute `count` nodes."""
    left = count

    def done(stepping: Stepping) -> str | None:
        nonlocal left
        left -= 1
        return "" if left <= 0 else None

    return Move(done)


def next_in(stepping: Stepping, unit: Unit, activation: Activation, count: int) -> Move:
    """Execute `count` nodes of the unit that `activation` is in, and what they need of others; stop before the next of it."""
    key = unit.of(stepping, activation)
    left = count

    def wanted(other: Activation) -> bool:
        return inside(unit, stepping, other, key)

    def done(stepping: Stepping) -> str | None:
        nonlocal left
        last = stepping.last
        if last is not None and wanted(last.activation):
            left -= 1
        return "" if stepping.prefer(wanted) and left <= 0 else None

    return Move(done, wanted)


def over_scope(activation: Activation) -> Move:
    """Execute all that is ready, or becomes so, in the name scope of `activation`; from outside of all scopes, up to the next."""
    scope = activation.name.rpartition("/")[0]
    if not scope:
        return Move(lambda s: f"in scope {_scope(s)}" if s.next and _scope(s) else None)

    def within(other: Activation) -> bool:
        return other.name.startswith(f"{scope}/")

    def done(stepping: Stepping) -> str | None:
        return None if stepping.prefer(within) else f"nothing is ready in scope {scope}"

    return Move(done, within)


def into(stepping: Stepping, unit: Unit) -> Move:
    """Go on until the next node is in a unit within the one that the step is in now."""
    here = unit.of(stepping, stepping.next) if stepping.next is not None else ()

    def done(stepping: Stepping) -> str | None:
        assert stepping.next is not None
        key = unit.of(stepping, stepping.next)
        deeper = len(key) > len(here) or (
            unit.name == "iteration" and len(key) == len(here) and key[-1:] > here[-1:]
        )
        return f"into {unit.title(stepping, key)}" if key != here and key and deeper else None

    return Move(done)


def over(stepping: Stepping, unit: Unit, key: Key) -> Move:
    """Execute all of the unit `key`, what is ready in it before all else, until it has ended."""
    title = unit.title(stepping, key)

    def wanted(other: Activation) -> bool:
        return inside(unit, stepping, other, key)

    def done(stepping: Stepping) -> str | None:
        ready = stepping.prefer(wanted)
        under_way = unit.is_open(stepping, key) if unit.is_open is not None else ready
        return None if under_way or ready else f"out of {title}"

    return Move(done, wanted)


def out_of_frame(stepping: Stepping, activation: Activation) -> Move:
    """Go on until the frame of `activation` has ended, with what is in it before all else; from the root, to the step's end."""
    unit = UNITS["frame"]
    key = unit.of(stepping, activation)
    return over(stepping, unit, key) if key else Move()


def over_entered(stepping: Stepping, enter: Activation) -> Move:
    """Execute the whole frame that an Enter enters, what is ready in it before all else, until it has ended."""
    spec, at = enter.item.child, (enter.frame.id, enter.iteration)

    def wanted(other: Activation) -> bool:
        if other.item.child is spec and (other.frame.id, other.iteration) == at:
            return True
        frame: Frame | None = other.frame
        while frame is not None and frame.parent is not None:
            if frame.spec is spec and (frame.parent.id, frame.parent_iteration) == at:
                return True
            frame = frame.parent
        return False

    def done(stepping: Stepping) -> str | None:
        ready = stepping.prefer(wanted)
        under_way = spec is not None and (*at, spec.index) in stepping.state.frames
        return None if ready or under_way else f"out of {spec.name if spec is not None else ''}"

    return Move(done, wanted)


def up_to(pattern: str, meant: Callable[[str], bool]) -> Move:
    """Go on until the next node is one that is `meant` by `pattern`."""

    def done(stepping: Stepping) -> str | None:
        return f"at {pattern}" if stepping.next is not None and meant(stepping.next.name) else None

    return Move(done)


def next_iteration(stepping: Stepping, activation: Activation, count: int) -> Move:
    """Go on until the next node is in the iteration of its frame that is `count` later."""
    frame, number = activation.frame.id, activation.iteration + count

    def done(stepping: Stepping) -> str | None:
        at = stepping.next
        if at is not None and at.frame.id == frame and at.iteration >= number:
            return f"in iteration {at.iteration}"
        return None if stepping.is_open(activation.frame) else "the loop has ended"

    return Move(done)


def freely() -> Move:
    """Go on to a breakpoint or the end of the script."""
    return Move(stops_at_end=False, stops_at_begin=False)


def to_end() -> Move:
    """Go on to a breakpoint or the end of the step."""
    return Move()


def next_run() -> Move:
    """Go on to the beginning of the next `Session.run`."""
    return Move(stops_at_end=False)


def _scope(stepping: Stepping) -> str:
    return stepping.next.name.rpartition("/")[0] if stepping.next is not None else ""
