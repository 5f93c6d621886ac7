"""The debugger's commands: one row in one table each, from which parsing, help and completion are made."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from viz.format import plural
from workbench.debugger import looking, moves, reasons, text
from workbench.debugger.breakpoints import BreakpointError, describe, matching
from workbench.debugger.moves import Answer, CommandError
from workbench.debugger.snapshot import Status

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

MAX_LINE = 4_096  # characters of one command line
MAX_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    `arguments` is how the usage line shows them.  `run` gets the debugger and what follows the command's name.  `moves`: the step
    goes on.  `anytime`: may be given while the step runs or no step is under way.
    """

    name: str
    aliases: tuple[str, ...]
    arguments: str
    help: str
    run: Callable[[Debugger, str], Answer]
    moves: bool = False
    anytime: bool = False

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()


def carry_out(debugger: Debugger, line: str) -> Answer:
    """Carry out a command line; whatever is wrong with it is said in the answer."""
    try:
        command, rest = parse(line)
        if not command.anytime and debugger.stepping is None:
            raise CommandError(
                "no step is stopped: the script runs its own code (pause stops at the next node)"
            )
        return command.run(debugger, rest)
    except (CommandError, BreakpointError) as error:
        return Answer(False, str(error))


def parse(line: str) -> tuple[Command, str]:
    """The command that `line` names and the rest of it; raises CommandError."""
    if len(line) > MAX_LINE:
        raise CommandError("the command is too long")
    name, _, rest = line.strip().partition(" ")
    if not name:
        raise CommandError("no command given; h lists them")
    found = BY_NAME.get(name)
    if found is None:
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise CommandError(f"there is no command '{name}'; {hint}h lists all")
    return found, rest.strip()


def split(lines: str) -> list[str]:
    """The commands in ``"n; n; info while/add; c"`` or in a file with one a line; ``#`` begins a comment."""
    found = []
    for line in lines.splitlines():
        found += [part.strip() for part in re.sub(r"(^|\s)#.*", "", line).split(";")]
    return [part for part in found if part]


# Moving.


def _next(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_nodes(_count(rest)))


def _count(rest: str) -> int:
    if not rest:
        return 1
    if not rest.isdecimal() or not 1 <= int(rest[:9]) <= MAX_COUNT:
        raise CommandError(f"'{rest}' is not a number of nodes between 1 and {MAX_COUNT:,}")
    return int(rest)


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
    wanted = _count(rest)
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


# Breakpoints.


def _break(debugger: Debugger, rest: str) -> Answer:
    if not rest:
        return Answer(True, text.breakpoints(debugger.snapshot()))
    added = debugger.breakpoints.add(rest)
    said = f"breakpoint {added.number} at {describe(added)}"
    stepping = debugger.stepping
    if stepping is not None:
        nodes = stepping.step.stage.nodes
        count = sum(map(matching(added.node, nodes), nodes))
        if not count:
            return Answer(
                True, f"{said}\n{looking.no_such_node(stepping, added.node)} (another step may have it)"
            )
        said += f" ({plural(count, 'node')} of this step)" if count > 1 else ""
    return Answer(True, said)


def _delete(debugger: Debugger, rest: str) -> Answer:
    if rest in ("", "all"):
        count = len(debugger.breakpoints.views)
        debugger.breakpoints.clear()
        return Answer(True, f"{plural(count, 'breakpoint')} deleted")
    if not rest.isdecimal() or len(rest) > 9:
        raise CommandError(f"'{rest}' is not the number of a breakpoint (info breakpoints lists them)")
    deleted = debugger.breakpoints.delete(int(rest))
    return Answer(True, f"breakpoint {deleted.number} at {describe(deleted)} deleted")


def _help(debugger: Debugger, rest: str) -> Answer:
    if rest:
        command, _ = parse(rest)
        aliases = f"  (also: {', '.join(command.aliases)})" if command.aliases else ""
        explained = textwrap.fill(command.help, 100, initial_indent="  ", subsequent_indent="  ")
        return Answer(True, f"{command.usage}{aliases}\n{explained}")
    return Answer(
        True,
        "\n".join(text.table([(c.usage, ", ".join(c.aliases), c.help.partition(". ")[0]) for c in COMMANDS])),
    )


COMMANDS: tuple[Command, ...] = (
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
    Command(
        "b",
        ("break",),
        "[NODE [if iteration >= N]]",
        "stop before NODE. NODE may also be a scope or a pattern (*/add); without NODE: list the breakpoints.",
        _break,
        anytime=True,
    ),
    Command("d", ("delete",), "[NUMBER]", "delete breakpoint NUMBER, or all", _delete, anytime=True),
    Command(
        "p",
        ("print",),
        "TENSOR",
        "print the latest value of TENSOR (add:0), or of all outputs of a node",
        looking.print_tensor,
    ),
    Command(
        "info",
        ("i",),
        "WHAT",
        "say all about a node, or list one of: ready, frames, waiting, resources, transfers, breakpoints, step",
        looking.info,
        anytime=True,
    ),
    Command(
        "why",
        (),
        "[NODE | ROW]",
        "say why NODE is dead: the Switch that killed its token, the way from there, the Merge that stopped it. "
        "Its latest execution, or the execution with number ROW; without either, the next node.",
        reasons.why,
    ),
    Command(
        "w",
        ("where",),
        "",
        "say which step this is, what was last and what is next",
        looking.where,
        anytime=True,
    ),
    Command(
        "l",
        ("list",),
        "[NODE | run]",
        "show the source that made the next node, or NODE, or the Session.run",
        looking.list_source,
    ),
    Command("h", ("help", "?"), "[COMMAND]", "list the commands, or explain one", _help, anytime=True),
    Command("q", ("quit", "exit"), "", "end the script and the debugger", _quit, anytime=True),
)

BY_NAME: dict[str, Command] = {name: each for each in COMMANDS for name in (each.name, *each.aliases)}
