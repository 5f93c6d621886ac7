"""Earlier `Session.run`s: how one goes back into them, on in them, and forward again to where the script stands.

What has happened there comes again as it was; nothing executes before the present step is reached where it stood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from viz.format import nbytes, plural
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.recalling import OVER

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.moves import Move
    from workbench.debugger.runs import Run
    from workbench.debugger.stepping import Stepping

SHOWN = 12  # runs that are listed, around the one that is looked at
_LOOK_EVERY = 256  # executions between two looks at whether somebody wants to stop

# The commands that would change what has been, by what follows their names.
_ALTERS: dict[str, Callable[[str], bool]] = {
    "set": bool,
    "skip": bool,
    "force": bool,
    "choose": bool,
    "explore": lambda rest: True,
    "races": lambda rest: rest.startswith("show"),
    "schedule": lambda rest: bool(rest) and rest.partition(" ")[0] not in ("save", "when"),
}


def check(debugger: Debugger, command: Command, rest: str) -> None:
    """Raise CommandError for a command that would change what has been, in a run that is over."""
    alters = _ALTERS.get(command.name)
    if alters is not None and debugger.runs.here is not None and alters(rest):
        raise CommandError(OVER)


# Forward.


def go_on(debugger: Debugger, move: Move) -> Move | None:
    """Move on in an earlier run.

    Gives how the present step is to go on, if the move leads there and on from there; None if it has stopped before.
    """
    runs = debugger.runs
    if debugger.breakpoints.quiet and move.done is None and not move.stops_at_begin and not move.stops_at_end:
        runs.come_back()
        return move
    begun = True  # the move begins here, and so does not end here
    while True:
        stepping = debugger.stepping
        assert stepping is not None
        if stepping.future:
            reason = _through(debugger, stepping, move, begun)
            begun = False
            runs.reached()
            if reason is not None:
                debugger.reason = reason
                return None
        if move.stops_at_end and not begun:
            debugger.reason = _end_of(runs.here)
            return None
        begun = False
        following = runs.after()
        try:
            if following is not None:
                runs.enter(following, at_begin=True)
            else:
                runs.to_begin_of_present()
        except CommandError as error:
            debugger.reason = str(error)
            return None
        if move.stops_at_begin or debugger.wants_to_stop():
            whole = following is None or not following.first
            debugger.reason = "Session.run begins" if whole else _place(debugger, following)
            return None
        stepping = debugger.stepping
        assert stepping is not None
        stepping.line_up()
        hit = (
            debugger.breakpoints.before(stepping, stepping.ready[0], passing=True) if stepping.ready else None
        )
        if hit is not None:
            debugger.reason = hit.reason
            return None
        if following is None:
            return move


def _through(debugger: Debugger, stepping: Stepping, move: Move, begun: bool) -> str | None:
    """Move on to where the run ended; why to stop before, None if the end was reached with nothing to stop for."""
    breakpoints = debugger.breakpoints
    breaks = not breakpoints.quiet
    seen, countdown = begun, _LOOK_EVERY
    while stepping.future:
        stepping.line_up()
        if not seen:
            if breaks and stepping.future[-1].change is None:
                hit = breakpoints.before(stepping, stepping.ready[0], passing=True)
                if hit is not None:
                    return hit.reason
            if move.done is not None and not begun:
                reason = move.done(stepping)
                if reason is not None:
                    return reason
        entry = stepping.redo()
        seen = begun = False
        if breaks and entry.change is None:
            hit = breakpoints.after(stepping, entry, passing=True)
            if hit is not None:
                return hit.reason
        countdown -= 1
        if countdown == 0:
            countdown = _LOOK_EVERY
            reason = debugger.wants_to_stop()
            if reason:
                return reason
    return None


def _end_of(run: Run | None) -> str:
    if run is not None and run.error is not None:
        return f"{run.title} failed here"
    return "the step is done" if run is None else f"{run.title} is done"


def _come_forward(debugger: Debugger, rest: str) -> Answer:
    runs = debugger.runs
    if runs.here is None:
        raise CommandError("this is the present step already (r- goes back into an earlier Session.run)")
    gone = runs.count - runs.here.number
    runs.come_back()
    debugger.reason = f"the present again, {plural(gone, 'run')} on: the script stands here"
    return Answer(True)


# Back.


def go_back(debugger: Debugger, at_begin: bool = False) -> str:
    """Go to the end of the run before the one that is looked at (or its beginning).  Gives what is to be said.

    Raises CommandError if it is not kept.
    """
    runs = debugger.runs
    run = runs.before()
    if run is None:
        raise CommandError(_nothing_before(debugger))
    said = runs.enter(run, at_begin)
    debugger.reason = _place(debugger, run)
    return said


def _nothing_before(debugger: Debugger) -> str:
    runs = debugger.runs
    if runs.fallen and runs.number > 1:
        return f"there is no Session.run before this one: {runs.fallen} have fallen out (history SIZE MB keeps more)"
    return "there is no Session.run before this one: it is the first that was watched"


def _place(debugger: Debugger, run: Run | None) -> str:
    if run is None:
        return "the present"
    stepping = run.stepping
    at_begin = not stepping.history and stepping.future
    where = "the end of" if not stepping.future else "the beginning of" if at_begin else "in"
    failed = ", which failed here" if run.error is not None and not stepping.future else ""
    first = f", as far back as it is kept (#{run.first})" if run.first and not stepping.history else ""
    return f"{where} {run.title} of {debugger.runs.count}{failed}{first}"


def _back_run(debugger: Debugger, rest: str) -> Answer:
    runs = debugger.runs
    if rest and (not rest.isdecimal() or len(rest) > 6 or int(rest) < 1):
        raise CommandError(f"'{rest}' is not a number of runs (r- 3 goes back three; goto 3:end into run 3)")
    wanted = runs.number - int(rest or 1)
    run = runs.before()
    if run is None:
        raise CommandError(_nothing_before(debugger))
    if wanted != run.number:
        run = runs.numbered(wanted)
    said = _said(runs.stays(run), runs.enter(run, at_begin=False))
    debugger.reason = _place(debugger, run)
    run.stepping.visit()
    return Answer(True, said)


def _said(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def goto_run(debugger: Debugger, run: str, row: str, go_to: Callable[[Debugger, Stepping, int], str]) -> str:
    """``goto 3:12``, ``goto 3:end``: into run 3.  Gives what is to be said; raises CommandError."""
    runs = debugger.runs
    if not run.isdecimal() or len(run) > 9 or not (row in ("", "end", "begin") or row.isdecimal()):
        raise CommandError(f"'{run}:{row}' is no place: goto RUN:ROW, RUN:begin or RUN:end, as goto 3:12")
    number, said = int(run), ""
    at_end = row == "end"
    if number == runs.count:
        runs.come_back()
        debugger.reason = "the present"
    else:
        wanted = runs.numbered(number)
        if runs.here is not wanted or not row.isdecimal():
            back = runs.here is None or wanted.number < runs.here.number
            said = _said(
                runs.stays(wanted) if back else "",
                runs.enter(wanted, at_begin=not at_end and (not row or row == "begin")),
            )
            debugger.reason = _place(debugger, wanted)
    stepping = debugger.stepping
    assert stepping is not None
    if row.isdecimal():
        said = _said(said, go_to(debugger, stepping, int(row)))
        runs.reached()
    elif number == runs.count:
        ahead = (
            stepping.executed + len(stepping.future) if at_end else stepping.executed - len(stepping.history)
        )
        if ahead != stepping.executed:
            said = go_to(debugger, stepping, ahead)
    stepping.visit()
    return said


# Listing.


def history_lines(debugger: Debugger) -> list[str]:
    """What ``info history`` says of runs."""
    runs = debugger.runs
    lines = []
    if runs.over:
        first, last = runs.over[0].number, runs.over[-1].number
        which = f"run {first}" if first == last else f"runs {first} to {last}"
        lines.append(
            f"{which} of {runs.count} can be gone back into (r-), {plural(runs.executions, 'execution')} in about "
            f"{nbytes(runs.nbytes)}"
        )
    if runs.fallen:
        lines.append(f"  {plural(runs.fallen, 'run')} before these fell out: the budget is used up")
    if runs.here is not None:
        lines.append(f"  this is {runs.here.title}, which is over (present comes forward)")
    return lines


def listed(debugger: Debugger) -> str:
    """``runs``: those that are kept, the one that is looked at marked."""
    runs = debugger.runs
    found = list(runs.over)
    here = runs.here
    at = found.index(here) if here is not None else len(found)
    first = max(0, min(at - SHOWN // 2, len(found) - SHOWN))
    lines = [f"  {plural(first + runs.fallen, 'run')} before these"] if first + runs.fallen else []
    for run in found[first : first + SHOWN]:
        info, stage = run.stepping.step.info, run.stepping.step.stage
        what = ", ".join((*stage.fetches, *stage.targets)) or "nothing"
        failed = f", failed: {type(run.error).__name__}" if run.error is not None else ""
        where = f"step {info.step} of session {info.session}" if info is not None else ""
        mark = "→" if run is here else " "
        lines.append(
            f"{mark} {run.number:>4}  {where}  {plural(run.executed, 'execution')}  {what[:60]}{failed}"
        )
    if runs.present is not None:
        mark = "→" if here is None else " "
        lines.append(f"{mark} {runs.count:>4}  the present")
    return "\n".join(lines) or "no Session.run was watched yet"


def _runs(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, listed(debugger))


COMMANDS = (
    Command(
        "r-",
        ("back-run", "run-"),
        "[COUNT]",
        "go back into the Session.run before this one, to its end, or COUNT runs back. "
        "Variables, queues and all else are as they were there. One can look, ask and move, but not change what has been. "
        "n, c and the like come forward again, present does at once. "
        "Back moves from a run's beginning lead here, too; c- and until- look on in earlier runs.",
        _back_run,
        rewinds=True,
    ),
    Command(
        "present",
        ("now",),
        "",
        "come forward out of an earlier Session.run to where the script stands, exactly as it was left",
        _come_forward,
        rewinds=True,
    ),
    Command(
        "runs",
        (),
        "",
        "list the Session.runs that one can go back into",
        _runs,
        anytime=True,
    ),
)
