"""Literals: the values that are typed into the debugger, such as ``[1, 2.5]``, ``full((2, 3), nan)`` or ``old * 0.5``.

Arithmetic over numbers, strings, lists, the functions that conditions may call, and a few more that make arrays.  Nothing is ever
evaluated by Python: the text is parsed, and what is not in the tables below is refused.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbench.debugger.command import CommandError
from workbench.debugger.condition_table import FUNCTIONS

MAX_ELEMENTS = 1 << 24  # of an array that an expression makes on its way
MAX_NODES = 20_000  # of what is typed, parsed

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: np.logical_not,
}
_NAMES: dict[str, Any] = {"nan": np.nan, "inf": np.inf, "true": True, "false": False, "pi": np.pi, "e": np.e}


def _shape(of: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in np.atleast_1d(of))
    if any(size < 0 for size in shape) or int(np.prod(shape, dtype=object)) > MAX_ELEMENTS:
        raise ValueError(f"an array of shape {list(shape)} is too large to be typed")
    return shape


def _arange(*bounds: Any) -> Any:
    if any(isinstance(each, np.ndarray) for each in bounds) or len(range(*map(int, bounds))) > MAX_ELEMENTS:
        raise ValueError("such a range is too large to be typed")
    return np.arange(*bounds)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: function.call for name, function in FUNCTIONS.items()},
    "zeros": lambda shape: np.zeros(_shape(shape)),
    "ones": lambda shape: np.ones(_shape(shape)),
    "full": lambda shape, value: np.full(_shape(shape), value),
    "eye": lambda size: np.eye(_shape((size, size))[0]),
    "arange": _arange,
    "zeros_like": np.zeros_like,
    "ones_like": np.ones_like,
    "full_like": np.full_like,
    "transpose": np.transpose,
    "reshape": lambda value, shape: np.reshape(value, _shape(shape)),
    "complex": complex,
}


def evaluate(
    text: str, names: Mapping[str, Any] | None = None, look: Mapping[str, Callable[[str], Any]] | None = None
) -> Any:
    """The value of `text`, which may use `names`; and what the functions in `look` find by a name in quotes: ``var("w")``.

    Raises CommandError for what is no value, saying where, and what `look` raises.
    """
    try:
        parsed = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise CommandError(
            f"'{text:.60}' is not a value: {said}; such as 2.5, [1, 2] or full((2, 3), 0.5)"
        ) from None
    if sum(1 for _ in ast.walk(parsed)) > MAX_NODES:
        raise CommandError("that is too much to type")
    try:
        with np.errstate(all="ignore"):
            return _value(parsed.body, {**_NAMES, **(names or {})}, look or {})
    except CommandError:
        raise
    except Exception as error:  # whatever NumPy says of it
        raise CommandError(f"'{text:.60}' has no value: {error}") from None


def _value(node: ast.expr, names: Mapping[str, Any], look: Mapping[str, Callable[[str], Any]]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | complex() | str() | bytes() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            found = [_value(item, names, look) for item in items]
            return tuple(found) if isinstance(node, ast.Tuple) else found
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_array(_value(operand, names, look)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            both = [_array(_value(each, names, look)) for each in (left, right)]
            return _BINARY[type(op)](*_broadcast(both))
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as of)], keywords=[]) if (
            name in look
        ):
            return look[name](of)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*_broadcast([_value(each, names, look) for each in args]))
    said = ast.unparse(node)
    known = f"names are {', '.join(sorted(names))}; functions {', '.join(sorted({*_FUNCTIONS, *look}))}"
    raise CommandError(f"'{said:.60}' cannot be used in a value ({known})")


def _broadcast(values: list[Any]) -> list[Any]:
    """`values`, if they are together not too large; raises ValueError."""
    shapes = [value.shape for value in values if isinstance(value, np.ndarray)]
    size = 1
    for each in np.broadcast_shapes(*shapes) if len(shapes) > 1 else (*shapes, ())[0]:
        size *= each
    if size > max(MAX_ELEMENTS, *(getattr(value, "size", 0) for value in values), 0):
        raise ValueError(f"it would have {size:,} elements")
    return values


def _array(value: Any) -> Any:
    """Numbers as NumPy's, so that ``9 ** 9 ** 9`` overflows rather than going on for ever; lists as arrays."""
    if isinstance(value, str | bytes):
        raise ValueError("there is no arithmetic on strings")
    return np.asarray(value)[()]
