"""Moves: how a stopped step goes on, and where it stops again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.runtime.state import Activation, Frame
from workbench.debugger.frame_notes import path

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


def over_scope(activation: Activation) -> Move:
    """Execute all that is ready, or becomes so, in the name scope of `activation`; from outside of all scopes, up to the next."""
    scope = activation.name.rpartition("/")[0]
    if not scope:
        return Move(lambda s: f"in scope {_scope(s)}" if s.next and _scope(s) else None)

    def inside(other: Activation) -> bool:
        return other.name.startswith(f"{scope}/")

    def done(stepping: Stepping) -> str | None:
        return None if stepping.prefer(inside) else f"nothing is ready in scope {scope}"

    return Move(done, inside)


def up_to(pattern: str, meant: Callable[[str], bool]) -> Move:
    """Go on until the next node is one that is `meant` by `pattern`."""

    def done(stepping: Stepping) -> str | None:
        return f"at {pattern}" if stepping.next is not None and meant(stepping.next.name) else None

    return Move(done)


def out_of_frame(activation: Activation) -> Move:
    """Go on until the frame of `activation` has ended, with what is in it before all else; from the root, to the step's end."""
    frame = activation.frame
    if frame.parent is None:
        return Move()
    name = path(frame)

    def done(stepping: Stepping) -> str | None:
        if not stepping.is_open(frame):
            return f"out of {name}"
        stepping.prefer(inside)
        return None

    def inside(other: Activation) -> bool:
        within: Frame | None = other.frame
        while within is not None and within is not frame:
            within = within.parent
        return within is frame

    return Move(done, inside)


def freely() -> Move:
    """Go on to a breakpoint or the end of the script."""
    return Move(stops_at_end=False, stops_at_begin=False)


def next_run() -> Move:
    """Go on to the beginning of the next `Session.run`."""
    return Move(stops_at_end=False)


def _scope(stepping: Stepping) -> str:
    return stepping.next.name.rpartition("/")[0] if stepping.next is not None else ""
