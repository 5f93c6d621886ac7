"""What an expression is once it has been read: a tree of a dozen kinds of nodes, each of which knows its place in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from workbench.debugger.command import CommandError
from workbench.debugger.expressions.table import Function


class ExpressionError(CommandError, ValueError):
    """An expression that is not one, or that cannot be evaluated here; the message points at the place."""


class AbsentError(ExpressionError):
    """The expression is about something that is not there: an output of a dead execution, a tensor that has not been made."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression: characters `start` to `end` of its text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A number, a bool, a string; None and … in an index."""

    value: object


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A name that the scope knows."""

    name: str


@dataclass(frozen=True, slots=True)
class Lookup(Node):
    """``var("name")`` or ``tensor("name")``."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of the table, or a method, whose first argument is what it is a method of."""

    function: Function
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """``x.shape``."""

    of: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """``x[parts]``; `many` says whether they are a tuple."""

    of: Node
    parts: tuple[Node, ...]
    many: bool


@dataclass(frozen=True, slots=True)
class Slice(Node):
    """``lower:upper:step`` in an index."""

    bounds: tuple[Node | None, Node | None, Node | None]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """``left < a <= b``: each operator with what stands right of it."""

    left: Node
    tests: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """``and`` (`stops` at the first false one) or ``or`` (at the first true one)."""

    stops: bool
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """``not operand``."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """``-operand``, ``+operand``, ``~operand``."""

    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """``left sign right``."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Several(Node):
    """A tuple, or a list."""

    items: tuple[Node, ...]
    is_list: bool


def marked(text: str, start: int, end: int) -> str:
    """`text` in one line with characters `start` to `end` marked: ``abs(»foo«) > 1``; of a long text what is around them."""
    before, part, after = text[:start], text[start:end], text[end:]
    before = before if len(before) <= 60 else "…" + before[-59:]
    part = part if len(part) <= 120 else f"{part[:60]} … {part[-56:]}"
    after = after if len(after) <= 60 else after[:59] + "…"
    return " ".join(f"{before}»{part}«{after}".split("\n"))


def fail(
    text: str, node: Node, says: str, kind: type[ExpressionError] = ExpressionError, hint: str = ""
) -> NoReturn:
    """Raise an error that points at `node`; `hint` says what there is instead."""
    raise kind(f"{says} in '{marked(text, node.start, node.end)}'" + (f" ({hint})" if hint else ""))
