"""Conditions: expressions over tensors, as `b loop/* if abs(x).max() > 1e3` and `log x.mean()` have them, made safe.

An expression is parsed with `ast` and walked over by hand; nothing is ever evaluated as Python.  What there is: numbers,
comparisons, `and`, `or`, `not`, arithmetic, indexing and slicing, tuples, strings to compare with, and a table of functions,
methods and attributes, all of which take time and memory in proportion to the tensors that they are given.  What could grow
without bound is not there, or is bounded: the length of the text, the depth of the tree, exponents of whole numbers, and the size
that broadcasting may lead to.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from engine.runtime.resources import Resource
from engine.runtime.state import ABSENT, DEAD
from engine.types import errors
from workbench.debugger.command import CommandError
from workbench.debugger.condition_table import ATTRIBUTES, FUNCTIONS, METHODS, Function
from workbench.debugger.values import Reference

MAX_TEXT = 1_000  # characters
MAX_NODES = 200  # of the tree
MAX_DEPTH = 40
MAX_BITS = 1_024  # of a whole number that is not an array's
MAX_EXPONENT = 1_024
MAX_ELEMENTS = 1 << 24  # to which broadcasting may lead, beyond the size of the larger operand

OUTPUTS = frozenset({"x", "out", "outputs", "alloc", "has_nan", "has_inf", "has_inf_or_nan"})
INPUTS = frozenset({"inputs"})
PLACES = frozenset({"iteration", "frame", "device", "node", "type", "dead", "row", "old", "new"})
CONSTANTS = {"True": True, "False": False, "nan": np.nan, "inf": np.inf, "pi": np.pi}


class ConditionError(CommandError, ValueError):
    """An expression that is not one, or that cannot be evaluated here; the message points at the place."""


class AbsentError(ConditionError):
    """The expression is about something that is not there: an output of a dead execution, a tensor that has not been made."""


class Scope(Protocol):
    """Where the names of an expression are looked up.  All may raise AbsentError."""

    def name(self, name: str) -> Any:
        """`iteration`, `frame`, `x`, `out0`, `in1` …"""

    def variable(self, name: str) -> Any:
        """What the variable holds now."""

    def tensor(self, name: str) -> Any:
        """The latest value of the tensor."""


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: lambda a: not a if isinstance(a, bool) else operator.invert(a),
}


class Expression:
    """A parsed expression; raises ConditionError for one that is not in the language.

    `outputs` and `inputs` say whether it is about what a node gives, and what it is given.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        if not self.text:
            raise ConditionError("an expression is missing")
        if len(self.text) > MAX_TEXT:
            raise ConditionError(f"the expression is longer than {MAX_TEXT} characters")
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            at = error.offset - 1 if error.offset else len(self.text)
            raise ConditionError(f"{error.msg} in '{_mark(self.text, at, at + 1)}'") from None
        except (ValueError, RecursionError, MemoryError):
            raise ConditionError(f"'{self.text[:60]}' is not an expression") from None
        self.names: set[str] = set()
        self._count = 0
        self._check(self._tree, 0, strings=False)
        numbered = {name.rstrip("0123456789") for name in self.names if name[-1:].isdigit()}
        self.outputs = bool(self.names & OUTPUTS) or "out" in numbered
        self.inputs = bool(self.names & INPUTS) or "in" in numbered

    # Whether it is in the language.

    def _fail(self, node: ast.expr, says: str, kind: type[ConditionError] = ConditionError) -> NoReturn:
        data = self.text.encode()
        start = len(data[: node.col_offset].decode(errors="ignore"))
        end = len(data[: node.end_col_offset or node.col_offset].decode(errors="ignore"))
        raise kind(f"{says} in '{_mark(self.text, start, end)}'")

    def _check(self, node: ast.expr, depth: int, strings: bool) -> None:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise ConditionError("the expression is too large")
        check = getattr(self, f"_check_{type(node).__name__}", None)
        if check is None:
            self._fail(node, f"{_kind(node)} cannot be used")
        check(node, depth + 1, strings)

    def _check_all(self, nodes: Sequence[ast.expr], depth: int, strings: bool = False) -> None:
        for node in nodes:
            self._check(node, depth, strings)

    def _check_Constant(self, node: ast.Constant, depth: int, strings: bool) -> None:
        value = node.value
        if isinstance(value, str | bytes):
            if not strings:
                self._fail(node, "a string can only be compared with, or name a variable or tensor,")
        elif isinstance(value, int):
            if value.bit_length() > 64:
                self._fail(node, "the number is too large")
        elif not isinstance(value, float | complex):
            self._fail(node, f"{value!r} cannot be used")

    def _check_Name(self, node: ast.Name, depth: int, strings: bool) -> None:
        name = node.id
        stem = name.rstrip("0123456789")
        numbered = stem in ("in", "out") and 0 < len(name) - len(stem) <= 4
        if not numbered and name not in OUTPUTS | INPUTS | PLACES | CONSTANTS.keys():
            hint = f"; {name} is a function: {name}(x)" if name in FUNCTIONS else ""
            self._fail(node, f"there is no name '{name}'{hint}")
        self.names.add(name)

    def _check_Call(self, node: ast.Call, depth: int, strings: bool) -> None:
        function = node.func
        if isinstance(function, ast.Attribute):
            if function.attr not in METHODS:
                self._fail(node, f"there is no method '{function.attr}'")
            self._check(function.value, depth, False)
            known: Function | None = METHODS[function.attr]
        elif isinstance(function, ast.Name):
            if function.id in ("var", "tensor"):
                given = node.args[0] if len(node.args) == 1 and not node.keywords else None
                if not isinstance(given, ast.Constant) or not isinstance(given.value, str):
                    self._fail(node, f'{function.id} takes one name in quotes, {function.id}("name"),')
                self.names.add(function.id)
                return
            known = FUNCTIONS.get(function.id)
            if known is None:
                self._fail(function, f"there is no function '{function.id}'")
        else:
            self._fail(node, "only functions of the table can be called")
        assert known is not None
        method = isinstance(function, ast.Attribute)
        low, high = known.least - method, known.most - method
        if not low <= len(node.args) <= high:
            self._fail(node, f"takes {low} to {high} arguments" if low != high else f"takes {low} arguments")
        for keyword in node.keywords:
            if keyword.arg not in known.keywords:
                self._fail(node, f"there is no argument '{keyword.arg}'")
            self._check(keyword.value, depth, False)
        self._check_all(node.args, depth)

    def _check_Attribute(self, node: ast.Attribute, depth: int, strings: bool) -> None:
        if node.attr not in ATTRIBUTES:
            hint = f"; it is a method: .{node.attr}()" if node.attr in METHODS else ""
            self._fail(node, f"there is no attribute '{node.attr}'{hint}")
        self._check(node.value, depth, False)

    def _check_Subscript(self, node: ast.Subscript, depth: int, strings: bool) -> None:
        self._check(node.value, depth, False)
        for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            if isinstance(index, ast.Slice):
                self._check_all([each for each in (index.lower, index.upper, index.step) if each], depth)
            elif not (isinstance(index, ast.Constant) and (index.value is None or index.value is ...)):
                self._check(index, depth, False)

    def _check_Compare(self, node: ast.Compare, depth: int, strings: bool) -> None:
        for each in node.ops:
            if type(each) not in _COMPARE:
                self._fail(node, "is cannot be used (== compares)")
        self._check_all([node.left, *node.comparators], depth, strings=True)

    def _check_BoolOp(self, node: ast.BoolOp, depth: int, strings: bool) -> None:
        self._check_all(node.values, depth)

    def _check_UnaryOp(self, node: ast.UnaryOp, depth: int, strings: bool) -> None:
        self._check(node.operand, depth, False)

    def _check_BinOp(self, node: ast.BinOp, depth: int, strings: bool) -> None:
        if type(node.op) not in _ARITHMETIC:
            self._fail(node, "this operator cannot be used")
        self._check_all([node.left, node.right], depth)

    def _check_Tuple(self, node: ast.Tuple | ast.List, depth: int, strings: bool) -> None:
        self._check_all(node.elts, depth, strings=strings or depth == 1)

    _check_List = _check_Tuple

    # Its value.

    def value(self, scope: Scope) -> Any:
        """What it comes to: a number, NumPy array, string or tuple.

        Raises ConditionError, and AbsentError for what is not there.
        """
        with np.errstate(all="ignore"):
            return self._value(self._tree, scope)

    def holds(self, scope: Scope) -> bool:
        """Whether it is true.  Raises as `value` does, and for an array of more than one element."""
        with np.errstate(all="ignore"):
            return self._truth(self._tree, self._value(self._tree, scope))

    def _truth(self, node: ast.expr, value: Any) -> bool:
        if isinstance(value, np.ndarray) and value.size != 1:
            self._fail(
                node, f"an array of shape {value.shape} is neither true nor false (any(…) or all(…) says)"
            )
        return bool(value)

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        evaluate = getattr(self, f"_value_{type(node).__name__}")
        try:
            found = evaluate(node, scope)
        except ConditionError:
            raise
        except (ArithmeticError, IndexError, TypeError, ValueError, MemoryError, errors.OpError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._fail(node, said)
        return found

    def _value_Constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def _value_Name(self, node: ast.Name, scope: Scope) -> Any:
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        return self._plain(node, scope.name(node.id))

    def _plain(self, node: ast.expr, value: Any) -> Any:
        """A token as an array of the host."""
        if isinstance(value, tuple):
            return tuple(self._plain(node, each) for each in value)
        if isinstance(value, Reference | Resource):
            value = value.value
        if value is DEAD or value is ABSENT or value is None:
            self._fail(node, "it has no value", AbsentError)
        if hasattr(value, "get") and hasattr(value, "dtype"):  # an array on a GPU
            value = value.get()
        if not isinstance(value, np.ndarray | np.generic | str | bool | int | float):
            self._fail(node, "it is not a tensor", AbsentError)
        return value

    def _value_Call(self, node: ast.Call, scope: Scope) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id in ("var", "tensor"):
            given = node.args[0]
            assert isinstance(given, ast.Constant)
            look = scope.variable if function.id == "var" else scope.tensor
            return self._plain(node, look(str(given.value)))
        args = [self._value(each, scope) for each in node.args]
        if isinstance(function, ast.Attribute):
            args.insert(0, self._value(function.value, scope))
            known = METHODS[function.attr]
        else:
            assert isinstance(function, ast.Name)
            known = FUNCTIONS[function.id]
        for argument in args:
            self._operand(node, argument)
        self._fits(node, args)
        return known.call(*args, **{str(each.arg): self._value(each.value, scope) for each in node.keywords})

    def _value_Attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        value = self._value(node.value, scope)
        self._operand(node, value)
        return ATTRIBUTES[node.attr](value)

    def _value_Subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        value = self._value(node.value, scope)
        if isinstance(value, str):
            self._fail(node, "a string has no elements here")
        many = isinstance(node.slice, ast.Tuple)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        index = [self._index(each, scope) for each in parts]
        return value[tuple(index) if many else index[0]]

    def _index(self, node: ast.expr, scope: Scope) -> Any:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(None if each is None else int(self._value(each, scope)) for each in parts))
        if isinstance(node, ast.Constant) and (node.value is None or node.value is ...):
            return node.value
        value = self._value(node, scope)
        if isinstance(value, np.ndarray) and value.ndim:
            if value.dtype != bool:
                self._fail(node, "an index is a whole number, a slice, or an array of bools")
            return value
        if isinstance(value, tuple):
            self._fail(node, "an index is a whole number, a slice, or an array of bools")
        return operator.index(value.item() if isinstance(value, np.ndarray) else value)

    def _value_Compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self._value(node.left, scope)
        found: Any = True
        for each, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node, scope)
            self._fits(node, [left, right])
            outcome = _COMPARE[type(each)](_comparable(left, right), _comparable(right, left))
            found = outcome if found is True else np.logical_and(found, outcome)
            left = right
        return found

    def _value_BoolOp(self, node: ast.BoolOp, scope: Scope) -> Any:
        stops = isinstance(node.op, ast.Or)
        value: Any = None
        for each in node.values:
            value = self._value(each, scope)
            if self._truth(each, value) is stops:
                break
        return value

    def _value_UnaryOp(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self._value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return not self._truth(node.operand, value)
        self._operand(node, value, tuples=False)
        return _UNARY[type(node.op)](value)

    def _value_BinOp(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self._value(node.left, scope), self._value(node.right, scope)
        for value in (left, right):
            self._operand(node, value, tuples=False)
        self._fits(node, [left, right])
        if isinstance(left, int) and isinstance(right, int):
            self._bounded(node, left, right)
        return _ARITHMETIC[type(node.op)](left, right)

    def _value_Tuple(self, node: ast.Tuple | ast.List, scope: Scope) -> Any:
        return tuple(self._value(each, scope) for each in node.elts)

    _value_List = _value_Tuple

    # Bounds.

    def _operand(self, node: ast.expr, value: Any, tuples: bool = True) -> None:
        """Check that `value` can be computed with."""
        good: Any = (bool, int, float, complex, np.ndarray, np.generic, *((tuple,) if tuples else ()))
        if not isinstance(value, good) or getattr(getattr(value, "dtype", None), "hasobject", False):
            self._fail(node, "a string cannot be computed with")

    def _fits(self, node: ast.expr, values: Sequence[Any]) -> None:
        """Check that arrays can be broadcast, and to nothing huge."""
        shapes = [value.shape for value in values if isinstance(value, np.ndarray) and value.ndim]
        if len(shapes) > 1:
            size = 1
            for each in np.broadcast_shapes(*shapes):
                size *= each
            largest = max(value.size for value in values if isinstance(value, np.ndarray))
            if size > max(MAX_ELEMENTS, largest):
                self._fail(node, f"the result would have {size:,} elements")

    def _bounded(self, node: ast.BinOp, left: int, right: int) -> None:
        bits = abs(left).bit_length()
        if isinstance(node.op, ast.Pow):
            if abs(right) > MAX_EXPONENT or bits * abs(right) > MAX_BITS:
                self._fail(node, "the number would be too large")
        elif isinstance(node.op, ast.Mult) and bits + abs(right).bit_length() > MAX_BITS:
            self._fail(node, "the number would be too large")


def _comparable(value: Any, other: Any) -> Any:
    """`value` in the form in which it compares with `other`: a string with the bytes that tensors of strings hold."""
    if isinstance(value, str) and getattr(getattr(other, "dtype", None), "hasobject", False):
        return value.encode()
    return value


def _mark(text: str, start: int, end: int) -> str:
    return f"{text[:start]}»{text[start:end]}«{text[end:]}"


_KINDS = {
    "Lambda": "lambda",
    "IfExp": "a conditional expression (use and, or)",
    "JoinedStr": "a formatted string",
    "Starred": "*",
    "NamedExpr": ":=",
    "Await": "await",
}


def _kind(node: ast.AST) -> str:
    name = type(node).__name__
    return _KINDS.get(name, f"a {name}")


def parts(text: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`text` cut at the `words` that stand by themselves outside of brackets and quotes.

    Gives ("", what comes first), then (word, what follows it) for each.

    A word that an opening bracket follows at once is a function's name.
    """
    depth, quote, start, word = 0, "", 0, ""
    at = 0
    while at < len(text):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (at == 0 or text[at - 1].isspace()):
            for each in words:
                end = at + len(each)
                if text.startswith(each, at) and (end == len(text) or text[end].isspace()):
                    yield word, text[start:at].strip()
                    word, start = each, end
                    at = end - 1
                    break
        at += 1
    yield word, text[start:].strip()
