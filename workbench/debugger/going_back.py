"""The debugger's commands that go back in a step, on again along what was taken back, and among the places visited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from viz.format import nbytes, plural
from workbench.debugger import earlier, looking, rewinding
from workbench.debugger.command import Answer, Command, CommandError, count
from workbench.debugger.frame_notes import path
from workbench.debugger.moving import node_meant, probe_of, reason_of, unit_of
from workbench.debugger.rewinding import Back, rewind
from workbench.debugger.units import UNITS, Unit

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.entries import Entry
    from workbench.debugger.stepping import Stepping

MAX_KEPT = 10_000_000  # executions
MAX_MEGABYTES = 1 << 20
SHOWN = 12  # places visited


def _answer(
    debugger: Debugger,
    stepping: Stepping,
    done: Back,
    breaks: bool = True,
    otherwise: str = "",
    across: bool = False,
) -> Answer:
    said = rewind(debugger, stepping, done, breaks, otherwise, across)
    looking.stepping_of(debugger).visit()
    return Answer(True, said)


def _back(debugger: Debugger, rest: str) -> Answer:
    return _answer(debugger, looking.stepping_of(debugger), rewinding.after_count(count(rest)), breaks=False)


def _before_this_run(debugger: Debugger, at_begin: bool = False) -> Answer | None:
    """From the beginning of a run: to the end (or the beginning) of the one before, if that is kept."""
    if looking.stepping_of(debugger).executed or debugger.runs.before() is None:
        return None
    said = earlier.go_back(debugger, at_begin)
    looking.stepping_of(debugger).visit()
    return Answer(True, said)


def _or_before(run: Callable[[Debugger, str], Answer]) -> Callable[[Debugger, str], Answer]:
    """A move that leads from the beginning of a run to the end of the one before."""

    def either(debugger: Debugger, rest: str) -> Answer:
        return _before_this_run(debugger) or run(debugger, rest)

    return either


def _last(stepping: Stepping) -> Entry:
    """What executed last; raises CommandError if nothing has."""
    rewinding.require_history(stepping)
    return stepping.history[-1]


def _on_device(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = count(rest)
    unit = UNITS["device"]
    activation = stepping.next or _last(stepping).activation
    return _answer(
        debugger, stepping, rewinding.count_in(stepping, unit, unit.of(stepping, activation), wanted)
    )


def _scope(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    if not rest:
        return _before(debugger, stepping, UNITS["scope"], outer=False)
    meant = node_meant(stepping, rest)
    return _answer(
        debugger,
        stepping,
        lambda at, entry: f"at {rest}" if at.next is not None and meant(at.next.name) else None,
    )


def _before(debugger: Debugger, stepping: Stepping, unit: Unit, outer: bool) -> Answer:
    key = unit.of(stepping, _last(stepping).activation)
    if not key:
        if unit.name in ("iteration", "function") or outer:
            return _answer(debugger, stepping, lambda at, entry: None)
        return _answer(debugger, stepping, rewinding.into_unit(stepping, unit, ()))
    if outer and unit.name == "scope":
        key = key[:-1] or key
    return _answer(debugger, stepping, rewinding.before_unit(stepping, unit, key))


def _into(debugger: Debugger, rest: str) -> Answer:
    stepping, unit = looking.stepping_of(debugger), unit_of(rest, "frame")
    here = unit.of(stepping, stepping.next or _last(stepping).activation)
    return _answer(debugger, stepping, rewinding.into_unit(stepping, unit, here))


def _over(debugger: Debugger, rest: str) -> Answer:
    return _before(debugger, looking.stepping_of(debugger), unit_of(rest, "scope"), outer=False)


def _out(debugger: Debugger, rest: str) -> Answer:
    return _before(debugger, looking.stepping_of(debugger), unit_of(rest, "frame"), outer=True)


def _iteration(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = count(rest)
    at = stepping.next
    if at is None or at.frame.parent is None:
        at = _last(stepping).activation
    if at.frame.parent is None:
        raise CommandError("neither the next node nor the last is in a loop (into- goes back into one)")
    return _answer(debugger, stepping, rewinding.earlier_iteration(at.frame.id, at.iteration - wanted))


def _until(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    probe = probe_of(rest)
    steppings = [stepping, *(run.stepping for run in debugger.runs.earlier())]
    if not any(probe.count_in(1, each.step.stage) for each in steppings):
        raise CommandError(looking.no_such_node(stepping, probe.views[0].node))

    def done(at: Stepping, entry: Entry) -> str | None:
        hit = probe.before(at, at.next, passing=True) if at.next is not None else None
        last = at.last
        if hit is None and last is not None and last.change is None:
            hit = probe.after(at, last, passing=True)
        return None if hit is None else reason_of(hit.reason)

    return _search(debugger, stepping, done)


def _search(debugger: Debugger, stepping: Stepping, done: Back) -> Answer:
    """Go back to where `done` or a breakpoint stops: in this run, or else in one before; if in none, to this one's beginning.

    With nothing to look for, from the beginning of a run to that of the one before.
    """
    looks = done is not _never or not debugger.breakpoints.quiet
    if not looks:
        found = _before_this_run(debugger, at_begin=True)
        return found or _answer(debugger, stepping, done)
    return _answer(debugger, stepping, done, across=True)


def _never(at: Stepping, entry: Entry) -> str | None:
    return None


def _continue(debugger: Debugger, rest: str) -> Answer:
    return _search(debugger, looking.stepping_of(debugger), _never)


def _begin(debugger: Debugger, rest: str) -> Answer:
    return _before_this_run(debugger, at_begin=True) or _answer(
        debugger, looking.stepping_of(debugger), lambda at, entry: None, breaks=False
    )


# To a place in history, back or on.


def _row(rest: str) -> int:
    number = rest.removeprefix("#")
    if not number.isdecimal() or len(number) > 12:
        raise CommandError(f"'{rest}' is not the number of an execution (goto 12 goes where #12 is next)")
    return int(number)


def go_to(debugger: Debugger, stepping: Stepping, row: int) -> str:
    """Go where execution `row` is next.  Gives what is to be said; raises CommandError where that cannot be gone to."""
    first, last = stepping.executed - len(stepping.history), stepping.executed + len(stepping.future)
    if row < first:
        raise CommandError(f"#{row} is no longer kept: the history begins at #{first} (info history)")
    if row > last:
        known = (
            f"what was taken back reaches to #{last}"
            if stepping.future
            else "nothing that was taken back is ahead"
        )
        raise CommandError(f"#{row} is still to come, and {known}; n {row - stepping.executed} goes there")
    said = ""
    if row < stepping.executed:
        said = rewind(debugger, stepping, lambda at, entry: "" if at.executed <= row else None, breaks=False)
    else:
        said = _redo(debugger, stepping, row)
    return said


def _redo(debugger: Debugger, stepping: Stepping, row: int) -> str:
    begun = stepping.executed
    while stepping.executed < row and stepping.future:
        try:
            stepping.redo()
        except IndexError:
            break
        except Exception as error:  # a kernel that no longer gives what it gave
            stepping.error = error
            break
    debugger.reason = f"{plural(stepping.executed - begun, 'execution')} done again"
    if stepping.executed < row:
        return f"the way on is not what it was, from #{stepping.executed} on: something outside of this step has changed"
    return ""


def _goto(debugger: Debugger, rest: str) -> Answer:
    run, colon, row = rest.partition(":")
    if colon:
        return Answer(True, earlier.goto_run(debugger, run.strip(), row.strip(), go_to))
    stepping = looking.stepping_of(debugger)
    said = go_to(debugger, stepping, _row(rest))
    debugger.runs.reached()
    stepping.visit()
    return Answer(True, said)


def _again(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = len(stepping.future) if rest == "all" else count(rest)
    if not stepping.future:
        raise CommandError("nothing that was taken back is ahead (n executes the next node)")
    said = go_to(debugger, stepping, stepping.executed + min(wanted, len(stepping.future)))
    debugger.runs.reached()
    stepping.visit()
    return Answer(True, said)


def _jump(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    if not rest:
        return Answer(True, visited(stepping))
    if rest in ("back", "b", "-"):
        wanted = stepping.visiting - 1
    elif rest in ("forward", "f", "+"):
        wanted = stepping.visiting + 1
    elif rest.isdecimal() and len(rest) < 7:
        wanted = int(rest)
    else:
        raise CommandError("jump back, jump forward, or jump NUMBER (jump lists the places)")
    if not 0 <= wanted < len(stepping.visited):
        if rest.isdecimal():
            raise CommandError(f"there is no place {wanted} (jump lists them)")
        raise CommandError(
            f"there is no place visited {'before' if wanted < 0 else 'after'} this one (jump lists them)"
        )
    said = go_to(debugger, stepping, stepping.visited[wanted])
    debugger.runs.reached()
    stepping.visiting = wanted
    return Answer(True, said)


def visited(stepping: Stepping) -> str:
    """The places where the step has stopped, the current one marked."""
    first = max(0, min(stepping.visiting - SHOWN // 2, len(stepping.visited) - SHOWN))
    lines = []
    for number, row in list(enumerate(stepping.visited))[first : first + SHOWN]:
        entry = stepping.entry_at(row)
        if entry is None and row >= stepping.executed:
            ahead = stepping.future[::-1]
            entry = ahead[row - stepping.executed] if row - stepping.executed < len(ahead) else None
        here = stepping.next if row == stepping.executed else entry.activation if entry is not None else None
        what = (
            f"{here.name}  {path(here.frame, here.iteration)}"
            if here is not None
            else "the end of the step or beyond"
        )
        lines.append(f"{'→' if number == stepping.visiting else ' '} {number:>3}  #{row:<6} {what}")
    return "\n".join(lines)


# The budget.


def history(stepping: Stepping) -> str:
    """``info history``: what is kept, and what has fallen out."""
    kept, first = len(stepping.history), stepping.executed - len(stepping.history)
    lines = [
        f"{plural(kept, 'execution')} can be taken back of {stepping.executed:,}, in about {nbytes(stepping.held_bytes)}"
    ]
    if first:
        lines.append(f"  #0 to #{first - 1} have fallen out: the budget is used up")
    lines.append(
        f"  budget: {stepping.kept:,} executions, {nbytes(stepping.kept_bytes)} (history COUNT or history SIZE MB changes it)"
    )
    if stepping.future:
        lines.append(f"  {plural(len(stepping.future), 'execution')} taken back can be done again (redo)")
    marked = [entry for entry in stepping.history if entry.effect]
    if marked:
        named = ", ".join(f"{each.activation.name} #{each.row} ({each.effect})" for each in marked[-3:])
        lines.append(f"  {plural(len(marked), 'execution')} did what stays when it is taken back: … {named}")
    return "\n".join(lines)


def _history(debugger: Debugger, rest: str) -> Answer:
    stepping = debugger.stepping
    if not rest:
        if stepping is None:
            raise CommandError("no step is stopped")
        return Answer(True, "\n".join([history(stepping), *earlier.history_lines(debugger)]))
    words = rest.lower().removesuffix("mb").split() if rest.lower().endswith("mb") else [rest]
    megabytes = rest.lower().endswith("mb")
    number = words[0] if words else ""
    limit = MAX_MEGABYTES if megabytes else MAX_KEPT
    if len(words) != 1 or not number.isdecimal() or not 1 <= int(number[:12]) <= limit:
        raise CommandError(
            f"'{rest}' is not a number of executions up to {MAX_KEPT:,}, or of megabytes (64 MB)"
        )
    if megabytes:
        debugger.kept_bytes = int(number) << 20
    else:
        debugger.kept = int(number)
    if stepping is not None and debugger.runs.here is None:
        stepping.budget(debugger.kept or stepping.kept, debugger.kept_bytes or stepping.kept_bytes)
    debugger.runs.trim()
    if stepping is not None:
        return Answer(True, history(stepping))
    return Answer(True, "the next steps keep so much")


_KINDS_TEXT = "scope | frame | iteration | function"

COMMANDS = (
    Command(
        "back",
        ("n-", "undo"),
        "[COUNT]",
        "take the last execution back, or the last COUNT; from the step's beginning, go back into the Session.run before it. "
        "Tokens, frames and variables are then as before; what was printed or written to files stays.",
        _or_before(_back),
        rewinds=True,
    ),
    Command(
        "nd-",
        (),
        "[COUNT]",
        "take back to before the last execution on this device, or the last COUNT",
        _or_before(_on_device),
        rewinds=True,
    ),
    Command(
        "s-",
        (),
        "[SCOPE]",
        "go back over the name scope of what executed last; with SCOPE, back to where one of its nodes is next",
        _or_before(_scope),
        rewinds=True,
    ),
    Command(
        "into-",
        (),
        f"[{_KINDS_TEXT}]",
        "go back into the last frame within this one (or another kind of unit)",
        _or_before(_into),
        rewinds=True,
    ),
    Command(
        "over-",
        (),
        f"[{_KINDS_TEXT}]",
        "go back over the scope (or other unit) of what executed last",
        _or_before(_over),
        rewinds=True,
    ),
    Command(
        "o-",
        ("out-",),
        f"[{_KINDS_TEXT}]",
        "go back to before the frame (or other unit) of what executed last",
        _or_before(_out),
        rewinds=True,
    ),
    Command(
        "it-",
        (),
        "[COUNT]",
        "go back to the previous iteration of this loop, or to the COUNTth before",
        _or_before(_iteration),
        rewinds=True,
    ),
    Command(
        "until-",
        ("u-",),
        "WHERE [if CONDITION]",
        "go back until WHERE, which is said as for until",
        _until,
        rewinds=True,
    ),
    Command(
        "c-",
        ("rc", "reverse-continue"),
        "",
        "go back to a breakpoint or watch, or as far as the history goes",
        _continue,
        rewinds=True,
    ),
    Command(
        "e-",
        ("begin",),
        "",
        "go back to the beginning of the step, or as far as the history goes",
        _begin,
        rewinds=True,
    ),
    Command(
        "goto",
        ("g",),
        "ROW | RUN:ROW | RUN:begin | RUN:end",
        "go where execution ROW is next, back or on; with RUN, in that Session.run (goto 3:12). "
        "On: along what was taken back, as long as the step has not gone another way since; what had effects is not done twice.",
        _goto,
        rewinds=True,
    ),
    Command(
        "redo",
        (),
        "[COUNT | all]",
        "do again what was taken back: one execution, COUNT of them, or all",
        _again,
        rewinds=True,
    ),
    Command(
        "jump",
        ("j",),
        "[back | forward | NUMBER]",
        "go to the place visited before or after this one; list the places",
        _jump,
        rewinds=True,
    ),
    Command(
        "history",
        (),
        "[COUNT | SIZE MB]",
        "say how far back the history goes, or how much it is to keep. "
        "The oldest executions fall out first, those of earlier runs before those of this one.",
        _history,
        anytime=True,
    ),
)
