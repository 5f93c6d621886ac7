"""What expressions come to.

All that is done takes time and memory in proportion to the tensors that the expression is about, or within the bounds below; what
would take more is refused before it is done.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from engine.runtime.frames import ABSENT, DEAD
from engine.runtime.resources import Resource
from workbench.debugger.expressions.table import ATTRIBUTES, elements, itemsize
from workbench.debugger.expressions.tree import (
    AbsentError,
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
)
from workbench.debugger.values import Reference

MAX_BITS = 1_024  # of a whole number that is not an array's
MAX_EXPONENT = 1_024
MAX_ELEMENTS = 1 << 24  # that a part of an expression may have, beyond the largest tensor that is looked at
MAX_BYTES = 1 << 29  # that all arrays take which are there at a time, beyond 8 times that tensor's
MAX_WORK = 1 << 27  # elements in all, beyond 256 times those of that tensor


class Scope(Protocol):
    """Where the names of an expression are looked up.  All may raise AbsentError."""

    def name(self, name: str) -> Any:
        """`iteration`, `frame`, `x`, `out0`, `in1`, `old` …"""

    def variable(self, name: str) -> Any:
        """What the variable holds now."""

    def tensor(self, name: str) -> Any:
        """The latest value of the tensor."""


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
    "**": operator.pow, "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": lambda a: not a if isinstance(a, bool) else operator.invert(a),
}


class Evaluation:
    """One evaluation of a tree of the expression `text`, with `scope` for its names.

    `value` and `holds` raise ExpressionError, and AbsentError for what is not there.
    """

    def __init__(self, text: str, scope: Scope) -> None:
        self._text = text
        self._scope = scope
        self._largest = 0  # elements of the largest tensor that was looked at, and its bytes
        self._largest_bytes = 0
        self._bytes = 0  # of the arrays that were made and are in use
        self._work = 0

    def value(self, node: Node) -> Any:
        """What it comes to: a number, NumPy array, string, or a tuple or list of those."""
        with np.errstate(all="ignore"):
            return self._value(node)

    def holds(self, node: Node) -> bool:
        """Whether it is true; an array of more than one element is neither."""
        with np.errstate(all="ignore"):
            return self._truth(node, self._value(node))

    def _fail(self, node: Node, says: str, kind: type[ExpressionError] = ExpressionError) -> NoReturn:
        fail(self._text, node, says, kind)

    def _value(self, node: Node) -> Any:
        before = self._bytes
        try:
            found = _VALUE[type(node)](self, node)
        except ExpressionError:
            raise
        except Exception as error:  # whatever NumPy or the engine says of it
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._fail(node, said)
        # What its parts have made is in use no longer, but for what it comes to itself.
        self._bytes = before + (found.nbytes if isinstance(found, np.ndarray) else 0)
        if isinstance(found, tuple | list):
            self._bytes += sum(each.nbytes for each in found if isinstance(each, np.ndarray))
        return found

    def _truth(self, node: Node, value: Any) -> bool:
        if isinstance(value, np.ndarray) and value.size != 1:
            self._fail(
                node, f"an array of shape {value.shape} is neither true nor false (any(…) or all(…) says)"
            )
        return bool(value)

    # One kind of node after the other.

    def constant(self, node: Constant) -> Any:
        return node.value

    def name(self, node: Name) -> Any:
        return self._seen(node, self._scope.name(node.name))

    def lookup(self, node: Lookup) -> Any:
        look = self._scope.variable if node.kind == "var" else self._scope.tensor
        return self._seen(node, look(node.name))

    def _seen(self, node: Node, value: Any) -> Any:
        """A token as an array of the host; its size counts for what may be made of it."""
        if isinstance(value, tuple):
            return tuple(self._seen(node, each) for each in value)
        if isinstance(value, Reference | Resource):
            value = value.value
        if value is DEAD or value is ABSENT or value is None:
            self._fail(node, "it has no value", AbsentError)
        if hasattr(value, "get") and hasattr(value, "dtype"):  # an array on a GPU
            value = value.get()
        if not isinstance(value, np.ndarray | np.generic | str | bytes | bool | int | float):
            self._fail(node, "it is not a tensor", AbsentError)
        if isinstance(value, np.ndarray):
            self._largest = max(self._largest, value.size)
            self._largest_bytes = max(self._largest_bytes, value.nbytes)
        return value

    def call(self, node: Call) -> Any:
        function = node.function
        arguments = [self._value(each) for each in node.arguments]
        keywords = {name: self._value(each) for name, each in node.keywords}
        for argument in (*arguments, *keywords.values()):
            self._operand(node, argument, strings=function.strings)
        if function.makes is not None:
            count = function.makes(*arguments)
        elif function.broadcasts:
            count = self._broadcast(arguments)
        else:
            count = elements(arguments)
        # Functions make arrays on their way: twice what they give, if not more.
        self._charge(node, count, itemsize(arguments), 2, function.weight)
        return function.call(*arguments, **keywords)

    def attribute(self, node: Attribute) -> Any:
        value = self._value(node.of)
        self._operand(node, value, strings=False, objects=True)
        return ATTRIBUTES[node.name](value)

    def index(self, node: Index) -> Any:
        value = self._value(node.of)
        if isinstance(value, str | bytes):
            self._fail(node, "a string has no elements here")
        index = [self._index(each) for each in node.parts]
        self._charge(node, elements(value), itemsize(value))
        return value[tuple(index) if node.many else index[0]]

    def _index(self, node: Node) -> Any:
        if isinstance(node, Slice):
            return slice(*(None if each is None else int(self._value(each)) for each in node.bounds))
        if isinstance(node, Constant) and (node.value is None or node.value is ...):
            return node.value
        value = self._value(node)
        if isinstance(value, np.ndarray) and value.ndim and value.dtype == bool:
            return value
        if isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim):
            self._fail(node, "an index is a whole number, a slice, or an array of bools")
        return operator.index(value.item() if isinstance(value, np.ndarray) else value)

    def compare(self, node: Compare) -> Any:
        left = self._value(node.left)
        found: Any = True
        for sign, right_node in node.tests:
            right = self._value(right_node)
            both = [left, right]
            for which in (0, 1):  # a list compares with a tuple, and with an array
                if isinstance(both[which], list):
                    is_tuple = isinstance(both[1 - which], tuple | list)
                    both[which] = tuple(both[which]) if is_tuple else both[which]
            self._charge(node, self._broadcast(both), 8)
            outcome = _COMPARE[sign](_comparable(both[0], both[1]), _comparable(both[1], both[0]))
            if isinstance(found, bool) and (found or isinstance(outcome, bool)):
                found = found and outcome
            else:
                found = np.logical_and(found, outcome)
            left = right
        return found

    def logic(self, node: Logic) -> Any:
        value: Any = None
        for each in node.operands:
            value = self._value(each)
            if self._truth(each, value) is node.stops:
                break
        return value

    def negation(self, node: Not) -> Any:
        return not self._truth(node.operand, self._value(node.operand))

    def unary(self, node: Unary) -> Any:
        value = self._number(node, self._value(node.operand))
        self._charge(node, elements(value), itemsize(value))
        return _UNARY[node.sign](value)

    def binary(self, node: Binary) -> Any:
        left, right = (self._number(node, self._value(each)) for each in (node.left, node.right))
        if isinstance(left, int) and isinstance(right, int):
            self._bounded(node, left, right)
        self._charge(node, self._broadcast((left, right)), itemsize((left, right)))
        return _ARITHMETIC[node.sign](left, right)

    def several(self, node: Several) -> Any:
        found = [self._value(each) for each in node.items]
        # It may be made one array, in which every string takes as much as the longest.
        self._charge(node, elements(found), itemsize(found))
        return found if node.is_list else tuple(found)

    # Bounds.

    def _operand(self, node: Node, value: Any, strings: bool = False, objects: bool = False) -> None:
        """Check that a function can be given `value`."""
        if isinstance(value, tuple | list):
            for each in value:
                self._operand(node, each, strings, objects)
        elif isinstance(value, str | bytes) or getattr(getattr(value, "dtype", None), "hasobject", False):
            if not strings and not (objects and not isinstance(value, str | bytes)):
                self._fail(node, "a string cannot be computed with")
        elif isinstance(value, int):
            if value.bit_length() > 64:
                self._fail(node, "the number is too large")
        elif not isinstance(value, float | complex | np.ndarray | np.generic):
            self._fail(node, "this cannot be computed with")

    def _number(self, node: Node, value: Any) -> Any:
        """`value`, if there is arithmetic on it; a list as an array."""
        if isinstance(value, tuple):
            self._fail(node, "a tuple cannot be computed with (a list can)")
        if isinstance(value, int):
            return value
        self._operand(node, value)
        return np.asarray(value) if isinstance(value, list) else value

    def _broadcast(self, values: Sequence[Any]) -> int:
        """How many elements `values` have that are broadcast against each other; raises ValueError if they do not fit."""
        shapes = [each.shape for each in values if isinstance(each, np.ndarray) and each.ndim]
        size = 1
        for each in np.broadcast_shapes(*shapes) if len(shapes) > 1 else (*shapes, ())[0]:
            size *= each
        return max(size, sum(elements(each) for each in values if isinstance(each, tuple | list)))

    def _charge(self, node: Node, count: int, size: int, times: int = 1, weight: int = 1) -> None:
        """Note that `count` elements of `size` bytes are about to be made; refuse them if that is too much."""
        if count > max(MAX_ELEMENTS, self._largest):
            self._fail(node, f"the result would have {count:,} elements")
        if self._bytes + times * count * size > MAX_BYTES + 8 * self._largest_bytes:
            self._fail(node, f"it would take {self._bytes + times * count * size:,} bytes")
        self._work += count * weight
        if self._work > MAX_WORK + 256 * self._largest:
            self._fail(node, "it would take too long to work it out")

    def _bounded(self, node: Binary, left: int, right: int) -> None:
        bits = abs(left).bit_length()
        if node.sign == "**":
            if abs(right) > MAX_EXPONENT or bits * abs(right) > MAX_BITS:
                self._fail(node, "the number would be too large")
        elif max(bits, abs(right).bit_length()) > MAX_BITS or (
            node.sign == "*" and bits + abs(right).bit_length() > MAX_BITS
        ):
            self._fail(node, "the number would be too large")


_VALUE: dict[type[Node], Callable[[Evaluation, Any], Any]] = {
    Constant: Evaluation.constant,
    Name: Evaluation.name,
    Lookup: Evaluation.lookup,
    Call: Evaluation.call,
    Attribute: Evaluation.attribute,
    Index: Evaluation.index,
    Compare: Evaluation.compare,
    Logic: Evaluation.logic,
    Not: Evaluation.negation,
    Unary: Evaluation.unary,
    Binary: Evaluation.binary,
    Several: Evaluation.several,
}


def _comparable(value: Any, other: Any) -> Any:
    """`value` in the form in which it compares with `other`: a string with the bytes that tensors of strings hold."""
    if isinstance(value, str) and getattr(getattr(other, "dtype", None), "hasobject", False):
        return value.encode()
    return value
