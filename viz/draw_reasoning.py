"""An answer of the debugger as a list: statements, each leading to the node, execution or command that it is about.

Hits are ``("execution", row, node)``, a node's name, or ``("command", line)``.  ``◆`` marks a root cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from viz import format as fmt
from viz.cells import Drawing, Line, Page, line_width, spread, wrap
from viz.flow_model import short_path
from viz.palette import Palette

_DEEPEST = 8


class Statement(Protocol):
    """One statement of an answer; see `workbench.debugger.questions.reasoning.Reason`."""

    @property
    def statement(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def row(self) -> int: ...
    @property
    def line(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def root(self) -> bool: ...


class Answer(Protocol):
    """An answer; see `workbench.debugger.questions.reasoning.Reasoning`."""

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def reasons(self) -> Sequence[Statement]: ...
    @property
    def omitted(self) -> int: ...


def draw_reasoning(answer: Answer, palette: Palette, width: int) -> Drawing:
    """The question, its answer in a sentence, and why."""
    page = Page(width)
    page.add((f" {answer.question}", palette.quiet))
    page.words(answer.answer, palette.strong)
    for reason in answer.reasons:
        _reason(page, reason, palette)
    if answer.omitted:
        page.add((f"   … {fmt.plural(answer.omitted, 'statement')} more", palette.dim))
    return page.drawing()


def leads_to(reason: Statement) -> Any:
    """What a statement leads to; None if nowhere."""
    text = reason.statement
    at = text.find("schedule replay ")
    if at >= 0:
        return ("command", text[at:])
    if reason.row >= 0:
        return ("execution", reason.row, reason.node)
    return reason.node or None


def _reason(page: Page, reason: Statement, palette: Palette) -> None:
    indent = " " * (1 + 2 * min(reason.depth, _DEEPEST))
    mark, style = ("◆ ", palette.style(palette.bad)) if reason.root else ("· ", palette.dim)
    key = leads_to(reason)
    tail = "  ".join(
        part for part in (short_path(reason.place), f"#{reason.row}" if reason.row >= 0 else "") if part
    )
    if isinstance(key, tuple) and key[0] == "command":
        lines = [fmt.shorten(reason.statement, max(8, page.width - len(indent) - 3))]
    else:
        lines = wrap(reason.statement, max(12, page.width - len(indent) - 3)) or [""]
    shown = palette.style(palette.accent) if isinstance(key, tuple) else palette.plain
    for index, text in enumerate(lines[:4]):
        line: Line = [(indent, palette.dim), (mark if not index else "  ", style), (text, shown)]
        fits = tail and index == len(lines) - 1 and len(indent) + len(text) + len(tail) + 4 <= page.width
        page.add(
            *spread(line, [(tail + " ", palette.style(palette.hues[3]))] if fits else [], page.width), key=key
        )
    if reason.root and reason.line:
        place: Line = [(f"{indent}  {reason.line}  ", palette.style(palette.accent))]
        room = page.width - line_width(place) - 1
        page.add(*place, (fmt.shorten(reason.code, max(0, room)), palette.dim), key=key)
