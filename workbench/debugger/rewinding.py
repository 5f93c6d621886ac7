"""Rewinding: the moves that go back, each the exact opposite of executing; and what of it cannot be taken back, said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from viz.format import plural
from workbench.debugger.command import CommandError
from workbench.debugger.entries import Entry
from workbench.debugger.units import Key, Unit, inside

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping

Back = Callable[["Stepping", Entry], str | None]
"""Asked after each execution that was taken back, with it: the reason to stop here, or None."""

SAID = 3  # executions named in what stays


def rewind(
    debugger: Debugger, stepping: Stepping, done: Back, breaks: bool = True, otherwise: str = ""
) -> str:
    """Take executions back until `done` says to stop, or (with `breaks`) where a breakpoint would stop a step that comes here.

    Gives what is to be said of effects that stay.  The debugger's reason says why it stopped; `otherwise`, if not for `done`.
    Raises CommandError if there is nothing to take back.
    """
    require_history(stepping)
    breakpoints = debugger.breakpoints
    breaks = breaks and not breakpoints.quiet
    stays: list[Entry] = []
    stays_count = taken = 0
    stepping.foreign = []
    reason: str | None = None
    while stepping.history and reason is None:
        entry = stepping.back()
        taken += 1
        if entry.change is None and entry.effect:
            stays_count += 1
            if len(stays) < SAID:
                stays.append(entry)
        reason = done(stepping, entry)
        if reason is None and breaks:
            hit = (
                breakpoints.before(stepping, entry.activation, passing=True) if entry.change is None else None
            )
            last = stepping.last
            if hit is None and last is not None and last.change is None:
                hit = breakpoints.after(stepping, last, passing=True)
            reason = hit.reason if hit is not None else None
    if reason is None:
        reason = otherwise or end_of_history(stepping)
    debugger.reason = (
        f"{reason}: {plural(taken, 'execution')} taken back"
        if reason
        else f"{plural(taken, 'execution')} taken back"
    )
    return "\n".join([*_what_stays(stays, stays_count), *_foreign(stepping)])


def require_history(stepping: Stepping) -> None:
    """Raise CommandError if nothing can be taken back."""
    if not stepping.history:
        reason = (
            "the step has executed nothing yet"
            if not stepping.executed
            else "what came before is no longer kept"
        )
        raise CommandError(f"there is nothing to take back: {reason}")


def end_of_history(stepping: Stepping) -> str:
    """Where the history begins, in words."""
    return (
        "the step begins here"
        if not stepping.executed
        else "what came before is no longer kept (info history)"
    )


def _what_stays(entries: list[Entry], count: int) -> list[str]:
    if not entries:
        return []
    named = ", ".join(f"{each.activation.name} #{each.row} ({each.effect})" for each in entries)
    more = f" and {count - len(entries)} more" if count > len(entries) else ""
    return [f"what was done outside stays: {named}{more}; forward again, it is not done a second time"]


def _foreign(stepping: Stepping) -> list[str]:
    return [
        f"{name} had been changed by another step since: that change is gone too" for name in stepping.foreign
    ]


# Where to stop.


def after_count(count: int) -> Back:
    """When `count` executions have been taken back."""
    left = count

    def done(stepping: Stepping, entry: Entry) -> str | None:
        nonlocal left
        left -= 1
        return "" if left <= 0 else None

    return done


def count_in(stepping: Stepping, unit: Unit, key: Key, count: int) -> Back:
    """When `count` executions of the unit `key` have been."""
    left = count

    def done(stepping: Stepping, entry: Entry) -> str | None:
        nonlocal left
        left -= inside(unit, stepping, entry.activation, key)
        return "" if left <= 0 else None

    return done


def before_unit(stepping: Stepping, unit: Unit, key: Key) -> Back:
    """Where the unit `key` has not begun: what executed last was not in it, or it is not open."""
    title = unit.title(stepping, key)

    def done(stepping: Stepping, entry: Entry) -> str | None:
        if unit.is_open is not None and unit.is_open(stepping, key):
            return None
        last = stepping.last
        if last is not None and inside(unit, stepping, last.activation, key):
            return None
        return f"before {title}"

    return done


def into_unit(stepping: Stepping, unit: Unit, here: Key) -> Back:
    """Where what executed last is in a unit within `here`, or in an earlier iteration."""

    def done(stepping: Stepping, entry: Entry) -> str | None:
        last = stepping.last
        if last is None:
            return None
        key = unit.of(stepping, last.activation)
        deeper = len(key) > len(here) or (
            unit.name == "iteration" and len(key) == len(here) and key[-1:] < here[-1:]
        )
        return f"into {unit.title(stepping, key)}" if key != here and key and deeper else None

    return done


def earlier_iteration(frame: int, number: int) -> Back:
    """Where iteration `number` of a frame was the newest that had executed anything."""

    def done(stepping: Stepping, entry: Entry) -> str | None:
        last = stepping.last
        if last is not None and last.activation.frame.id == frame and last.activation.iteration <= number:
            return f"in iteration {last.activation.iteration}"
        begun = any(frame == each.id for each in stepping.state.live_frames())
        return None if begun else "before the loop"

    return done
