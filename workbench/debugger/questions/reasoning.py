"""What an answer looks like: statements that form a tree, each with the node, place and line that it is about.

The tree is kept flat, in the order in which it is read, with a depth for each statement: so it goes over a wire as it is, however
deep it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.passes.stage import StageNode
from engine.runtime.frames import Activation
from viz.format import plural
from workbench.debugger import source
from workbench.debugger.frame_notes import path

MAX_REASONS = 200  # statements of one answer
MAX_INDENT = 10  # depths that are drawn further to the right


@dataclass(frozen=True, slots=True)
class Reason:
    """One statement.

    `depth` is 0 for what answers the question directly; a statement's parent is the nearest one before it that is one less deep.
    `place` reads ``"root > while:3"``; `row` is the number of an execution, -1 where there is none; `line` is the user's line
    that made the node (``"model.py:12"``) and `code` what is there.  `root` marks what is at the bottom of it: a root cause.
    """

    statement: str
    depth: int = 0
    node: str = ""
    type: str = ""
    place: str = ""
    row: int = -1
    line: str = ""
    code: str = ""
    root: bool = False


@dataclass(frozen=True, slots=True)
class Reasoning:
    """An answer: in one sentence (`answer`), and why (`reasons`).  `omitted` statements were left out to keep it short."""

    question: str
    answer: str
    reasons: tuple[Reason, ...] = ()
    omitted: int = 0

    @property
    def roots(self) -> tuple[Reason, ...]:
        """The root causes."""
        return tuple(each for each in self.reasons if each.root)

    def children(self, index: int) -> Iterator[int]:
        """The statements right below statement `index`; below -1 are those of depth 0."""
        depth = self.reasons[index].depth if index >= 0 else -1
        for i in range(index + 1, len(self.reasons)):
            found = self.reasons[i].depth
            if found <= depth:
                return
            if found == depth + 1:
                yield i

    def text(self) -> str:
        """For people: a line a statement; root causes are marked with ``*``, and have the user's code."""
        lines = [self.answer]
        for each in self.reasons:
            lead = "  " * min(each.depth, MAX_INDENT) + ("* " if each.root else "  ")
            lines.append(f"{lead}{each.statement}{_about(each)}".rstrip())
        if self.omitted:
            lines.append(f"  … {plural(self.omitted, 'statement')} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from workbench.debugger import notebook_html

        return notebook_html.reasoning(self)


def _about(reason: Reason) -> str:
    parts = []
    if reason.place:
        parts.append(reason.place)
    if reason.row >= 0:
        parts.append(f"#{reason.row}")
    if reason.line:
        parts.append(f"{reason.line}  {reason.code}".rstrip() if reason.root else reason.line)
    return "".join(f"  {part}" for part in parts)


def about(
    statement: str, node: StageNode, *, depth: int = 0, place: str = "", row: int = -1, root: bool = False
) -> Reason:
    """A statement about a node."""
    user = node.site.user if node.site is not None else None
    return Reason(
        statement,
        depth,
        node.name,
        node.type,
        place,
        row,
        source.short_place(user),
        user.source[:80] if user is not None else "",
        root,
    )


def about_activation(
    statement: str, at: Activation, *, depth: int = 0, row: int = -1, root: bool = False
) -> Reason:
    """A statement about a node in a frame and iteration."""
    return about(statement, at.item.node, depth=depth, place=path(at.frame, at.iteration), row=row, root=root)


def bounded(question: str, answer: str, reasons: Sequence[Reason], omitted: int = 0) -> Reasoning:
    """The answer, cut where it is longer than `MAX_REASONS`; root causes stay in as far as they fit."""
    if len(reasons) <= MAX_REASONS:
        return Reasoning(question, answer, tuple(reasons), omitted)
    kept = list(reasons[:MAX_REASONS])
    if not any(each.root for each in kept):
        root = next((each for each in reasons if each.root), None)
        if root is not None:
            kept[-1] = replace(root, depth=kept[-2].depth)
    return Reasoning(question, answer, tuple(kept), omitted + len(reasons) - len(kept))


def deeper(reasoning: Reasoning, by: int = 1) -> list[Reason]:
    """An answer as a part of another: its sentence, and below it its statements."""
    first = Reason(reasoning.answer, by - 1)
    return [first, *(replace(each, depth=each.depth + by) for each in reasoning.reasons)]


def elided(count: int, depth: int, what: str = "node") -> Reason:
    """In place of the middle of a long chain."""
    return Reason(f"… {plural(count, what)} between", depth)
