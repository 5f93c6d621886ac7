"""What a command is, and what it comes to.  The table of all of them is `workbench.debugger.commands`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.moves import Move

MAX_COUNT = 1_000_000


class CommandError(Exception):
    """A command that cannot be carried out; the message says why and what to type instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command line came to: `text` for the person; `move` if the step is to go on; `quit` if the script is to end."""

    ok: bool
    text: str = ""
    move: Move | None = None
    quit: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    `arguments` is how the usage line shows them.  `run` gets the debugger and what follows the command's name.  `moves`: the step
    goes on.  `anytime`: may be given while the step runs or no step is under way.
    `rewinds`: the step is then at another place of its history, and has stopped there.
    """

    name: str
    aliases: tuple[str, ...]
    arguments: str
    help: str
    run: Callable[[Debugger, str], Answer]
    moves: bool = False
    anytime: bool = False
    rewinds: bool = False

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()


def count(rest: str) -> int:
    """The number of nodes that a command is to be about; 1 if it says nothing.  Raises CommandError."""
    if not rest:
        return 1
    if not rest.isdecimal() or not 1 <= int(rest[:9]) <= MAX_COUNT:
        raise CommandError(f"'{rest}' is not a number of nodes between 1 and {MAX_COUNT:,}")
    return int(rest)
