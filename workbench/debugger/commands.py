"""The debugger's commands as one table, from which parsing, help and completion are made; and what carries a line out."""

from __future__ import annotations

import difflib
import re
import textwrap
from typing import TYPE_CHECKING

from workbench.debugger import (
    asking,
    breaking,
    changing,
    earlier,
    going_back,
    leaving,
    looking,
    moving,
    scheduling,
    text,
)
from workbench.debugger.breakpoints import BreakpointError
from workbench.debugger.command import Answer, Command, CommandError

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

MAX_LINE = 4_096  # characters of one command line


def carry_out(debugger: Debugger, line: str) -> Answer:
    """Carry out a command line; whatever is wrong with it is said in the answer."""
    try:
        command, rest = parse(line)
        if not command.anytime and debugger.stepping is None:
            raise CommandError(
                "no step is stopped: the script runs its own code (pause stops at the next node)"
            )
        earlier.check(debugger, command, rest)
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
    *moving.COMMANDS,
    *going_back.COMMANDS,
    *earlier.COMMANDS,
    *breaking.COMMANDS,
    *looking.COMMANDS,
    *asking.COMMANDS,
    *changing.COMMANDS,
    *leaving.COMMANDS,
    *scheduling.COMMANDS,
    Command("h", ("help", "?"), "[COMMAND]", "list the commands, or explain one", _help, anytime=True),
)

BY_NAME: dict[str, Command] = {name: each for each in COMMANDS for name in (each.name, *each.aliases)}
