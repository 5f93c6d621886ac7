"""Reading expressions: from a text to a checked tree (`workbench.debugger.expressions.tree`), and the names that it needs.

Python's own parser says what a text is made of; what is not in the language, or would be too large, is refused here, with its
place and what there is instead.  Nothing is ever evaluated as Python.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from workbench.debugger.expressions.table import ATTRIBUTES, FUNCTIONS, MAKERS, METHODS, Function
from workbench.debugger.expressions.tree import (
    Attribute,
    Binary,
    Call,
    Compare,
    Constant,
    ExpressionError,
    Index,
    Logic,
    Lookup,
    Name,
    Node,
    Not,
    Several,
    Slice,
    Unary,
    fail,
    marked,
)

MAX_DEPTH = 40  # of the tree
MAX_NUMBER_BITS = 64  # of a whole number that is written

OUTPUTS = frozenset({"x", "out", "outputs", "alloc", "has_nan", "has_inf", "has_inf_or_nan"})
INPUTS = frozenset({"inputs"})
PLACES = frozenset({"iteration", "frame", "device", "node", "type", "dead", "row", "old", "new"})
CONSTANTS = {
    "nan": np.nan, "inf": np.inf, "pi": np.pi, "e": np.e, "true": True, "false": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an expression may have in one use of it.

    what: how such an expression is called.  names: those that its scope knows; numbered: in0 …, out0 … are among them.
    functions: what it may call.  strings: whether a string is a value; else it is there to compare with only.
    example: one.  most_text: characters; most_nodes: of the tree.
    """

    what: str
    names: frozenset[str]
    numbered: bool
    functions: Mapping[str, Function]
    strings: bool
    example: str
    most_text: int
    most_nodes: int


CONDITION = Dialect(
    "an expression", OUTPUTS | INPUTS | PLACES, True, FUNCTIONS, False, "abs(x).max() > 1e3", 1_000, 200
)
PRINTED = Dialect(
    *("an expression", OUTPUTS | INPUTS | PLACES, True, {**FUNCTIONS, **MAKERS}, False),
    *('abs(tensor("loss:0")).max()', 1_000, 200),
)
VALUE = Dialect(
    *("a value", frozenset({"old"}), False, {**FUNCTIONS, **MAKERS}, True),
    *("2.5, [1, 2] or full((2, 3), 0.5)", 1 << 20, 20_000),
)

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


@dataclass(slots=True)
class Parsed:
    """A text that is in the language: its tree; the names in it; and the variables and tensors that it names in quotes."""

    text: str
    tree: Node
    names: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    tensors: set[str] = field(default_factory=set)


def parse(text: str, dialect: Dialect) -> Parsed:
    """The tree of `text`.  Raises ExpressionError for what is not in the language."""
    text = text.strip()
    if not text:
        raise ExpressionError(f"{dialect.what} is missing; such as {dialect.example}")
    if len(text) > dialect.most_text:
        raise ExpressionError(f"{dialect.what} is not longer than {dialect.most_text:,} characters")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        at = len(text)
        if error.offset and error.lineno:
            at = sum(map(len, text.splitlines(keepends=True)[: error.lineno - 1])) + error.offset - 1
        said = marked(text, at, at + 1)
        raise ExpressionError(
            f"{error.msg} in '{said}'; {dialect.what} is such as {dialect.example}"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(
            f"'{text[:60]!s}' is not {dialect.what}, such as {dialect.example}".replace("\n", " ")
        ) from None
    reader = _Reader(text, dialect)
    reader.parsed.tree = reader.node(tree, 0, strings=dialect.strings)
    return reader.parsed


class _Reader:
    """Makes the nodes of the tree from those of Python's.  `strings`: whether a string may stand there."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self._dialect = dialect
        self._count = 0
        self._lines: list[int] = []  # where in the encoded text each line begins
        at = 0
        for line in text.encode().split(b"\n"):
            self._lines.append(at)
            at += len(line) + 1
        self._plain = text.isascii()
        self._encoded = b"" if self._plain else text.encode()
        self.parsed = Parsed(text, Constant(0, 0, None))

    def node(self, node: ast.expr, depth: int, strings: bool = False) -> Node:
        self._count += 1
        if self._count > self._dialect.most_nodes or depth > MAX_DEPTH:
            raise ExpressionError(
                f"{self._dialect.what} of this size is too large: at most {self._dialect.most_nodes:,} parts, "
                f"{MAX_DEPTH} deep"
            )
        read = _READ.get(type(node))
        if read is None:
            self._fail(node, f"{_kind(node)} cannot be used")
        found: Node = read(self, node, depth + 1, strings)
        return found

    def _nodes(self, nodes: Sequence[ast.expr], depth: int, strings: bool = False) -> tuple[Node, ...]:
        return tuple(self.node(node, depth, strings) for node in nodes)

    def _place(self, node: ast.expr) -> tuple[int, int]:
        start = self._lines[node.lineno - 1] + node.col_offset
        end = start
        if node.end_lineno is not None and node.end_col_offset is not None:
            end = self._lines[node.end_lineno - 1] + node.end_col_offset
        if self._plain:
            return start, end
        before, upto = self._encoded[:start], self._encoded[:end]
        return len(before.decode(errors="ignore")), len(upto.decode(errors="ignore"))

    def _fail(self, node: ast.expr, says: str, hint: str = "") -> NoReturn:
        fail(self.parsed.text, Node(*self._place(node)), says, hint=hint)

    # One kind of node after the other.

    def constant(self, node: ast.Constant, depth: int, strings: bool) -> Node:
        value = node.value
        if isinstance(value, str | bytes):
            if not strings:
                self._fail(node, "a string can only be compared with, or name a variable or tensor,")
        elif isinstance(value, int):
            if value.bit_length() > MAX_NUMBER_BITS:
                self._fail(node, "the number is too large")
        elif not isinstance(value, float | complex):
            self._fail(node, f"{value!r} cannot be used")
        return Constant(*self._place(node), value)

    def name(self, node: ast.Name, depth: int, strings: bool) -> Node:
        name, dialect = node.id, self._dialect
        if name in CONSTANTS:
            return Constant(*self._place(node), CONSTANTS[name])
        if name not in dialect.names and not (dialect.numbered and is_numbered(name)):
            if name in dialect.functions:
                self._fail(node, f"there is no name '{name}'", f"{name} is a function: {name}(x)")
            known = [*dialect.names, *CONSTANTS, *(("in0 …", "out0 …") if dialect.numbered else ())]
            self._fail(node, f"there is no name '{name}'", _choice(name, known))
        self.parsed.names.add(name)
        return Name(*self._place(node), name)

    def call(self, node: ast.Call, depth: int, strings: bool) -> Node:
        function, before = node.func, 0
        arguments: tuple[Node, ...] = ()
        if isinstance(function, ast.Attribute):
            known = METHODS.get(function.attr)
            if known is None:
                self._fail(node, f"there is no method '{function.attr}'", _choice(function.attr, METHODS))
            arguments, before = (self.node(function.value, depth),), 1
        elif isinstance(function, ast.Name):
            if function.id in ("var", "tensor"):
                return self._lookup(node, function.id)
            known = self._dialect.functions.get(function.id)
            if known is None:
                choice = _choice(function.id, [*self._dialect.functions, "var", "tensor"])
                self._fail(function, f"there is no function '{function.id}'", choice)
        else:
            self._fail(node, "only functions of the table can be called")
        low, high = known.least - before, known.most - before
        if not low <= len(node.args) <= high:
            wanted = f"{low} to {high} arguments" if low != high else f"{low} argument{'s'[: low != 1]}"
            self._fail(node, f"takes {wanted}")
        keywords: list[tuple[str, Node]] = []
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg not in known.keywords:
                self._fail(node, f"there is no argument '{keyword.arg}'", ", ".join(known.keywords))
            if isinstance(keyword.value, ast.Constant) and keyword.value.value is None:  # axis=None
                continue
            keywords.append((keyword.arg, self.node(keyword.value, depth)))
        arguments += self._nodes(node.args, depth, strings=known.strings)
        return Call(*self._place(node), known, arguments, tuple(keywords))

    def _lookup(self, node: ast.Call, kind: str) -> Node:
        given = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not isinstance(given, ast.Constant) or not isinstance(given.value, str):
            self._fail(node, f'{kind} takes one name in quotes, {kind}("name"),')
        self.parsed.names.add(kind)
        (self.parsed.variables if kind == "var" else self.parsed.tensors).add(given.value)
        return Lookup(*self._place(node), kind, given.value)

    def attribute(self, node: ast.Attribute, depth: int, strings: bool) -> Node:
        if node.attr not in ATTRIBUTES:
            method = f"it is a method: .{node.attr}()" if node.attr in METHODS else ""
            self._fail(node, f"there is no attribute '{node.attr}'", method or _choice(node.attr, ATTRIBUTES))
        return Attribute(*self._place(node), self.node(node.value, depth), node.attr)

    def subscript(self, node: ast.Subscript, depth: int, strings: bool) -> Node:
        of = self.node(node.value, depth)
        many = isinstance(node.slice, ast.Tuple)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return Index(*self._place(node), of, tuple(self._index(part, depth) for part in parts), many)

    def _index(self, node: ast.expr, depth: int) -> Node:
        if isinstance(node, ast.Slice):
            bounds = [
                None if each is None else self.node(each, depth)
                for each in (node.lower, node.upper, node.step)
            ]
            return Slice(*self._place(node), (bounds[0], bounds[1], bounds[2]))
        if isinstance(node, ast.Constant) and (node.value is None or node.value is ...):
            return Constant(*self._place(node), node.value)
        return self.node(node, depth)

    def compare(self, node: ast.Compare, depth: int, strings: bool) -> Node:
        for each in node.ops:
            if type(each) not in _COMPARE:
                self._fail(node, "is cannot be used (== compares)")
        left, *others = self._nodes([node.left, *node.comparators], depth, strings=True)
        signs = (_COMPARE[type(each)] for each in node.ops)
        return Compare(*self._place(node), left, tuple(zip(signs, others, strict=True)))

    def logic(self, node: ast.BoolOp, depth: int, strings: bool) -> Node:
        return Logic(*self._place(node), isinstance(node.op, ast.Or), self._nodes(node.values, depth))

    def unary(self, node: ast.UnaryOp, depth: int, strings: bool) -> Node:
        operand = self.node(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return Not(*self._place(node), operand)
        return Unary(*self._place(node), _UNARY[type(node.op)], operand)

    def binary(self, node: ast.BinOp, depth: int, strings: bool) -> Node:
        sign = _BINARY.get(type(node.op))
        if sign is None:
            self._fail(node, "this operator cannot be used", f"{' '.join(_BINARY.values())} can")
        left, right = self._nodes([node.left, node.right], depth)
        return Binary(*self._place(node), sign, left, right)

    def several(self, node: ast.Tuple | ast.List, depth: int, strings: bool) -> Node:
        items = self._nodes(node.elts, depth, strings=strings or depth == 1)
        return Several(*self._place(node), items, isinstance(node, ast.List))


_READ: dict[type[ast.expr], Callable[..., Any]] = {
    ast.Constant: _Reader.constant,
    ast.Name: _Reader.name,
    ast.Call: _Reader.call,
    ast.Attribute: _Reader.attribute,
    ast.Subscript: _Reader.subscript,
    ast.Compare: _Reader.compare,
    ast.BoolOp: _Reader.logic,
    ast.UnaryOp: _Reader.unary,
    ast.BinOp: _Reader.binary,
    ast.Tuple: _Reader.several,
    ast.List: _Reader.several,
}
_KINDS = {
    "Lambda": "lambda",
    "IfExp": "a conditional expression (use and, or, where(…))",
    "JoinedStr": "a formatted string",
    "Starred": "*",
    "NamedExpr": ":=",
    "Await": "await",
    "Dict": "a dictionary",
    "Set": "a set",
    "ListComp": "for … in",
    "SetComp": "for … in",
    "DictComp": "for … in",
    "GeneratorExp": "for … in",
    "Yield": "yield",
    "YieldFrom": "yield",
}


def _kind(node: ast.AST) -> str:
    name = type(node).__name__
    return _KINDS.get(name, f"a {name}")


def is_numbered(name: str) -> bool:
    """Whether it is ``in0``, ``out12`` …"""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem in ("in", "out") and 0 < len(digits) <= 4 and digits.isascii()


def _choice(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """What somebody may have meant who wrote `name`, or all that there is."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there is {', '.join(sorted(known))}"
