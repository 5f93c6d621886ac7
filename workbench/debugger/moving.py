"""The debugger's commands that move a step forward: by nodes, units, to a place, to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.runtime.program import ENTER
from workbench.debugger import looking, moves
from workbench.debugger.breakpoints import Breakpoints, matching
from workbench.debugger.command import Answer, Command, CommandError, count
from workbench.debugger.snapshot import Status
from workbench.debugger.units import UNITS, Unit

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping

KINDS = ("scope", "frame", "iteration", "function")
_KINDS_TEXT = "scope | frame | iteration | function"


def unit_of(rest: str, default: str) -> Unit:
    """The kind of unit that a command is about; raises CommandError."""
    name = rest or default
    found = [kind for kind in KINDS if kind.startswith(name)]
    if len(found) != 1:
        raise CommandError(f"'{rest}' is not one of {', '.join(KINDS)}")
    return UNITS[found[0]]


def _next(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_nodes(count(rest)))


def _on_device(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = count(rest)
    if stepping.next is None:
        return Answer(True, move=moves.next_nodes(1))
    return Answer(True, move=moves.next_in(stepping, UNITS["device"], stepping.next, wanted))


def _scope(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    if rest:
        return Answer(True, move=moves.up_to(rest, node_meant(stepping, rest)))
    if stepping.next is None:
        return Answer(True, move=moves.next_nodes(1))
    return Answer(True, move=moves.over_scope(stepping.next))


def node_meant(stepping: Stepping, pattern: str) -> Callable[[str], bool]:
    """What tells the nodes that `pattern` means; raises CommandError if this step has none."""
    nodes = stepping.step.stage.nodes
    meant = matching(pattern, nodes)
    if not any(map(meant, nodes)):
        raise CommandError(looking.no_such_node(stepping, pattern, "node or scope"))
    return meant


def _into(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.into(looking.stepping_of(debugger), unit_of(rest, "frame")))


def _over(debugger: Debugger, rest: str) -> Answer:
    stepping, unit = looking.stepping_of(debugger), unit_of(rest, "scope")
    at = stepping.next
    if at is None:
        return Answer(True, move=moves.next_nodes(1))
    if unit.name == "frame" and at.item.flow == ENTER:
        return Answer(True, move=moves.over_entered(stepping, at))
    key = unit.of(stepping, at)
    if not key:
        return Answer(True, move=moves.over_scope(at) if unit.name == "scope" else moves.next_nodes(1))
    return Answer(True, move=moves.over(stepping, unit, key))


def _out(debugger: Debugger, rest: str) -> Answer:
    stepping, unit = looking.stepping_of(debugger), unit_of(rest, "frame")
    at = stepping.next
    if at is None:
        return Answer(True, move=moves.next_run())
    if unit.name == "frame":
        return Answer(True, move=moves.out_of_frame(stepping, at))
    key = unit.of(stepping, at)
    if not key:
        return Answer(True, move=moves.to_end())
    around = key[:-1] if unit.name == "scope" else key
    return Answer(True, move=moves.over(stepping, unit, around or key))


def _iteration(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = count(rest)
    at = stepping.next
    if at is None or at.frame.parent is None:
        raise CommandError("the next node is in no loop (into goes into the next one)")
    return Answer(True, move=moves.next_iteration(stepping, at, wanted))


def probe_of(rest: str) -> Breakpoints:
    """The place and condition that a command is to go to, as the only one of its own breakpoints.  Raises BreakpointError."""
    if not rest:
        raise CommandError(
            "until what? NODE, type:OP, transfer, write, dead, …, or if CONDITION (h b says more)"
        )
    probe = Breakpoints()
    if probe.add(rest).log:
        raise CommandError("log is for breakpoints (b … log EXPRESSION)")
    return probe


def reason_of(reason: str) -> str:
    """The reason of the only breakpoint of a probe, without its number."""
    return reason.removeprefix("breakpoint 1 ")


def _until(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    probe = probe_of(rest)
    if not probe.count_in(1, stepping.step.stage):
        raise CommandError(looking.no_such_node(stepping, probe.views[0].node))

    def done(at: Stepping) -> str | None:
        hit = probe.after(at, at.history[-1]) if at.history else None
        if hit is None and at.next is not None:
            hit = probe.before(at, at.next)
        return None if hit is None else reason_of(hit.reason)

    return Answer(True, move=moves.Move(done))


def _continue(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.freely())


def _end(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.to_end())


def _run(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_run())


def _pause(debugger: Debugger, rest: str) -> Answer:
    if debugger.status is Status.STOPPED:
        raise CommandError("the step is stopped already")
    debugger.pause()
    return Answer(True, "stopping before the next node")


def _quit(debugger: Debugger, rest: str) -> Answer:
    debugger.quit()
    return Answer(True, quit=True)


COMMANDS = (
    Command("n", ("next",), "[COUNT]", "execute the next node, or the next COUNT nodes", _next, moves=True),
    Command(
        "nd",
        ("next-device",),
        "[COUNT]",
        "execute the next node of this device, or the next COUNT. What it waits for on other devices executes too.",
        _on_device,
        moves=True,
    ),
    Command(
        "s",
        ("scope", "step"),
        "[SCOPE]",
        "step over the name scope of the next node; with SCOPE, into it. "
        "Over: everything ready in the scope executes, and what becomes ready in it; from outside of all scopes, up to the "
        "next one. SCOPE may also be a node or a pattern.",
        _scope,
        moves=True,
    ),
    Command(
        "into",
        ("in",),
        f"[{_KINDS_TEXT}]",
        "run on into the next frame within this one (or another kind of unit). "
        "An iteration counts as within the one before it, a function is the body of a call.",
        _into,
        moves=True,
    ),
    Command(
        "over",
        (),
        f"[{_KINDS_TEXT}]",
        "run over the next node's scope (or another kind of unit): all that is in it, before all else. "
        "At an Enter, over frame runs over the frame that it enters.",
        _over,
        moves=True,
    ),
    Command(
        "o",
        ("out",),
        f"[{_KINDS_TEXT}]",
        "run out of the next node's frame (its whole loop); from the root, to the step's end. "
        "Out of a scope: out of the scope around that of the next node; out of an iteration: until it has ended.",
        _out,
        moves=True,
    ),
    Command(
        "it",
        ("iteration",),
        "[COUNT]",
        "run on to the next iteration of the next node's loop, or to the COUNTth from here",
        _iteration,
        moves=True,
    ),
    Command(
        "until",
        ("u",),
        "WHERE [if CONDITION]",
        "run on until WHERE, which is said as for a breakpoint. "
        "A NODE or pattern, type:OP, device:D, frame:F, transfer, send:KEY, recv:KEY, write:NAME, dead, alloc > SIZE; "
        "or if CONDITION alone.",
        _until,
        moves=True,
    ),
    Command("c", ("continue",), "", "run on to a breakpoint or the end of the script", _continue, moves=True),
    Command("e", ("end",), "", "run on to the end of the step", _end, moves=True),
    Command("r", ("run",), "", "run on to the next Session.run", _run, moves=True),
    Command("pause", (), "", "stop a running step before its next node", _pause, anytime=True),
    Command("q", ("quit", "exit"), "", "end the script and the debugger", _quit, anytime=True),
)
