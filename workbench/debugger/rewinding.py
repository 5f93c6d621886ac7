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


class _Taken:
    """Executions that are being taken back, and what is to be said of them."""

    def __init__(self, debugger: Debugger, done: Back, breaks: bool) -> None:
        self.breakpoints = debugger.breakpoints
        self.done = done
        self.breaks = breaks and not self.breakpoints.quiet
        self.count = 0
        self.stays: list[Entry] = []
        self.stays_count = 0
        self.said: list[str] = []

    def back(self, stepping: Stepping) -> str | None:
        """Take back until there is a reason to stop; None if there is none before the history's beginning."""
        stepping.foreign = []
        reason: str | None = None
        while stepping.history and reason is None:
            entry = stepping.back()
            self.count += 1
            if entry.change is None and entry.effect:
                self.stays_count += 1
                if len(self.stays) < SAID:
                    self.stays.append(entry)
            reason = self.done(stepping, entry)
            if reason is None and self.breaks:
                reason = self._hit(stepping, entry)
        self.said += _foreign(stepping)
        return reason

    def hit_at_end(self, stepping: Stepping) -> str | None:
        """The breakpoint that would stop a step at its end."""
        last = stepping.last
        if not self.breaks or last is None or last.change is not None:
            return None
        hit = self.breakpoints.after(stepping, last, passing=True)
        return hit.reason if hit is not None else None

    def _hit(self, stepping: Stepping, entry: Entry) -> str | None:
        """The breakpoint that would stop a step which comes here."""
        hit = None
        if entry.change is None:
            hit = self.breakpoints.before(stepping, entry.activation, passing=True)
        last = stepping.last
        if hit is None and last is not None and last.change is None:
            hit = self.breakpoints.after(stepping, last, passing=True)
        return hit.reason if hit is not None else None


def rewind(
    debugger: Debugger,
    stepping: Stepping,
    done: Back,
    breaks: bool = True,
    otherwise: str = "",
    across: bool = False,
) -> str:
    """Take executions back until `done` says to stop, or (with `breaks`) where a breakpoint would stop a step that comes here.

    across: go on into the `Session.run`s before, as long as they are kept; if there is nothing to stop for in any of them, the
    move ends where this one began.  Gives what is to be said of effects that stay.  The debugger's reason says why it stopped;
    `otherwise`, if not for `done`.  Raises CommandError if there is nothing to take back.
    """
    runs = debugger.runs
    if not across or stepping.executed or runs.before() is None:
        require_history(stepping, runs.before() is not None)
    taken = _Taken(debugger, done, breaks)
    reason = taken.back(stepping)
    runs.reached()
    passed = 0
    if reason is None and across and not stepping.executed and runs.before() is not None:
        reason, passed = _further(debugger, taken)
    if reason is None:
        reason = otherwise or end_of_history(stepping)
        before = runs.before()
        if before is not None and not passed and not stepping.executed:
            reason += f" (back goes on into {before.title})"
        if passed:
            reason += f", and there is nothing to stop for in the {plural(passed, 'run')} before"
    in_run = f"in {runs.here.title} of {runs.count}" if runs.here is not None else ""
    what = f"{plural(taken.count, 'execution')} taken back" if taken.count or not in_run else ""
    debugger.reason = ": ".join(filter(None, [reason, in_run, what]))
    return "\n".join([*_what_stays(taken.stays, taken.stays_count), *taken.said])


def _further(debugger: Debugger, taken: _Taken) -> tuple[str | None, int]:
    """Go on into the runs before.

    Gives the reason to stop there; None, and how many were gone through, where there was none, and one is back.
    """
    runs = debugger.runs
    start, count, said = runs.here, taken.count, list(taken.said)
    stays, stays_count = list(taken.stays), taken.stays_count
    passed = 0
    while (run := runs.before()) is not None:
        taken.said += filter(None, [runs.enter(run, at_begin=False)])
        reason = taken.hit_at_end(run.stepping)
        if reason is None:
            reason = taken.back(run.stepping)
            runs.reached()
        if reason is not None:
            return reason, 0
        passed += 1
        if run.stepping.executed:
            break  # what came before is no longer kept
    if start is None:
        runs.come_back()
    else:
        runs.enter(start, at_begin=True)
    taken.count, taken.said, taken.stays, taken.stays_count = count, said, stays, stays_count
    return None, passed


def require_history(stepping: Stepping, has_before: bool = False) -> None:
    """Raise CommandError if nothing can be taken back; `has_before`: there is a run before this one."""
    if not stepping.history:
        reason = (
            "the step has executed nothing yet"
            if not stepping.executed
            else "what came before is no longer kept"
        )
        hint = " (r- goes back into the Session.run before)" if has_before else ""
        raise CommandError(f"there is nothing to take back: {reason}{hint}")


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
