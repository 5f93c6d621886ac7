"""Completion of debugger commands: what may stand where the cursor is, from the table of commands; and the lines given before."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.debugger.command import Command
from workbench.debugger.commands import BY_NAME, COMMANDS

# What in a command's usage stands for a name of the step.
_NAMES = re.compile(r"\b(NODE|TENSOR|NAME|WHERE|SWITCH|WHAT|SCOPE|ROW)\b")
_WORDS = re.compile(r"[a-z][a-z-]*")
_LISTED = re.compile(r"one of: ([^.]*)|WHO: ([^.]*)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line is completed: `word` begins at `start`; `command` is the one that it belongs to, None for the first word.

    `names`: it may be a node, a tensor or a variable.
    """

    start: int
    word: str
    command: Command | None
    names: bool = False


def place_of(line: str) -> Place:
    """What is being typed at the end of `line`."""
    start = max(line.rfind(" "), line.rfind("("), line.rfind("=")) + 1
    word = line[start:].lstrip("\"'")
    start = len(line) - len(word)
    first, space, _ = line.lstrip().partition(" ")
    if not space:
        return Place(len(line) - len(first), first, None)
    command = BY_NAME.get(first)
    return Place(start, word, command, command is not None and bool(_NAMES.search(command.arguments)))


def words(place: Place) -> list[str]:
    """The words that may stand there and go on from what is typed, names of the step apart."""
    if place.command is None:
        found = [command.name for command in COMMANDS if command.name.startswith(place.word)]
        found += [
            name for name in BY_NAME if len(name) > 1 and name.startswith(place.word) and name not in found
        ]
        return found
    if place.command.name == "h":
        return [command.name for command in COMMANDS if command.name.startswith(place.word)]
    known = _WORDS.findall(place.command.arguments)
    for listed in _LISTED.finditer(place.command.help):
        known += _WORDS.findall(listed[1] or listed[2] or "")
    return [word for word in dict.fromkeys(known) if word.startswith(place.word) and word != place.word]


def explained(line: str) -> tuple[str, str]:
    """The usage of the command that is being typed, and what it does in a sentence; empty where there is none yet."""
    first = line.split(" ", 1)[0]
    command = BY_NAME.get(first)
    if command is None:
        return "", ""
    return command.usage, command.help.partition(". ")[0]


class Past:
    """The command lines that were given, to go back to and to search."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._at = 0
        self._draft = ""

    def add(self, line: str) -> None:
        """A line was given."""
        if line and (not self.lines or self.lines[-1] != line):
            self.lines.append(line)
        self.rewind()

    def rewind(self) -> None:
        """Begin anew behind the last line."""
        self._at, self._draft = len(self.lines), ""

    def go(self, offset: int, now: str) -> str | None:
        """The line before (-1) or after (1) the one that is shown; `now` is what stands there and is kept as a draft."""
        wanted = self._at + offset
        if not 0 <= wanted <= len(self.lines):
            return None
        if self._at == len(self.lines):
            self._draft = now
        self._at = wanted
        return self._draft if wanted == len(self.lines) else self.lines[wanted]

    def search(self, text: str, skip: int = 0) -> str | None:
        """The latest line that has `text` in it, but for `skip` later ones."""
        found = [line for line in dict.fromkeys(reversed(self.lines)) if text in line]
        return found[skip] if skip < len(found) else None
