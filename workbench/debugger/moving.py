"""The debugger's commands that move a step: forward, back, to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viz.format import plural
from workbench.debugger import looking, moves
from workbench.debugger.breakpoints import matching
from workbench.debugger.command import Answer, Command, CommandError, count
from workbench.debugger.snapshot import Status

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger


def _next(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_nodes(count(rest)))


def _scope(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    if rest:
        nodes = stepping.step.stage.nodes
        meant = matching(rest, nodes)
        if not any(map(meant, nodes)):
            raise CommandError(looking.no_such_node(stepping, rest, "node or scope"))
        return Answer(True, move=moves.up_to(rest, meant))
    if stepping.next is None:
        return Answer(True, move=moves.next_nodes(1))
    return Answer(True, move=moves.over_scope(stepping.next))


def _out(debugger: Debugger, rest: str) -> Answer:
    at = looking.stepping_of(debugger).next
    return Answer(True, move=moves.out_of_frame(at) if at is not None else moves.next_run())


def _continue(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.freely())


def _run(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_run())


def _back(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    wanted = count(rest)
    taken = 0
    while taken < wanted and stepping.history:
        stepping.back()
        taken += 1
    if not taken:
        reason = (
            "the step has executed nothing yet"
            if not stepping.executed
            else "what came before is no longer kept"
        )
        raise CommandError(f"there is nothing to take back: {reason}")
    debugger.reason = f"{plural(taken, 'execution')} taken back"
    return Answer(True)


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
        "o",
        ("out",),
        "",
        "run out of the next node's frame (its whole loop); from the root, to the step's end",
        _out,
        moves=True,
    ),
    Command("c", ("continue",), "", "run on to a breakpoint or the end of the script", _continue, moves=True),
    Command("r", ("run",), "", "run on to the next Session.run", _run, moves=True),
    Command(
        "back",
        ("n-", "undo"),
        "[COUNT]",
        "take the last execution back, or the last COUNT. "
        "Tokens, frames and variables are then as before; what was printed or written to files stays.",
        _back,
    ),
    Command("pause", (), "", "stop a running step before its next node", _pause, anytime=True),
    Command("q", ("quit", "exit"), "", "end the script and the debugger", _quit, anytime=True),
)
