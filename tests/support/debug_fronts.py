"""A front of the debugger for tests: gives commands, and keeps what is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Quiet:
    """What a front does with all that it has no use for: nothing."""

    def stopped(self, debugger: Any) -> None: ...
    def answered(self, debugger: Any, answer: Any) -> None: ...
    def resumed(self, debugger: Any) -> None: ...
    def left(self, debugger: Any) -> None: ...


class Script(Quiet):
    """Gives command lines one after the other, then `c`; a function among them looks at the debugger in between."""

    def __init__(self, *lines: str | Callable[[Any], None]) -> None:
        self.lines = list(lines)
        self.answers: list[Any] = []

    def command(self, debugger: Any) -> str:
        while self.lines:
            line = self.lines.pop(0)
            if isinstance(line, str):
                return line
            line(debugger)
        return "c"

    def answered(self, debugger: Any, answer: Any) -> None:
        self.answers.append(answer)

    @property
    def texts(self) -> list[str]:
        return [answer.text for answer in self.answers]


def schedule_of(debugger: Any) -> str:
    """The schedule of the step that is looked at, as a string."""
    said: str = debugger.execute("schedule").text
    return said.splitlines()[0]
