"""Signatures of ops, written as one line and parsed to tables.

The line names the op, its inputs, its attrs and its outputs, as TensorFlow's ``REGISTER_OP`` does::

    MatMul(a: T, b: T; transpose_a: bool = False, transpose_b: bool = False, T: floats) -> product: T

An input or output is ``name: T`` (the dtype in the type attr T), ``name: float32`` (always that dtype), ``name: Ref(T)`` (a
reference to a variable's buffer), ``name: N * T`` (as many tensors as the int attr N says) or ``name: list(Tlist)`` (one tensor
for each dtype in the attr Tlist).  An attr is ``name: kind [= default]``; the kinds are `type`, a set of dtypes (named, as
`floats`, or written out, ``{float32, int32}``), `int`, ``int >= 1``, `float`, `bool`, `string`, ``{'SAME', 'VALID'}``, `shape`,
`tensor`, `func` (a function's name, as a message), and ``list(…)`` of these.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

FLOATS = (dtypes.bfloat16, dtypes.float16, dtypes.float32, dtypes.float64)
SIGNED = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
INTS = (*SIGNED, dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
COMPLEX = (dtypes.complex64, dtypes.complex128)
REALS = (*FLOATS, *INTS)
NUMBERS = (*REALS, *COMPLEX)
INDEX = (dtypes.int32, dtypes.int64)

TYPE_SETS: dict[str, tuple[DType, ...] | None] = {
    "type": None,
    "any": None,
    "floats": FLOATS,
    "ints": INTS,
    "reals": REALS,
    "numbers": NUMBERS,
    "index": INDEX,
    "complexes": COMPLEX,
}


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """One input or output: one of `dtype`, `type_attr`, `type_list_attr` is set; `number_attr` goes with the first two."""

    name: str
    dtype: DType | None = None
    type_attr: str | None = None
    number_attr: str | None = None
    type_list_attr: str | None = None
    is_ref: bool = False
    is_list: bool = field(init=False)

    def __post_init__(self) -> None:
        is_list = self.number_attr is not None or self.type_list_attr is not None
        object.__setattr__(
            self, "is_list", is_list
        )  # as a field it is quick to read, and nodes are built by it


@dataclass(frozen=True, slots=True)
class AttrSpec:
    """One attr.

    `kind` is 'type', 'int', 'float', 'bool', 'string', 'shape' or 'tensor'; `is_list` says that the value is a tuple of them.
    """

    name: str
    kind: str
    is_list: bool = False
    has_default: bool = False
    default: Any = None
    allowed: tuple[Any, ...] | None = None
    minimum: int | None = None
    accepted: frozenset[Any] | None = field(init=False)  # `allowed`, to look things up in

    def __post_init__(self) -> None:
        accepted = None if self.allowed is None else frozenset(self.allowed)
        object.__setattr__(self, "accepted", accepted)


@dataclass(frozen=True, slots=True)
class Signature:
    """What an op takes and gives; see the module's docstring for how it is written."""

    name: str
    inputs: tuple[ArgSpec, ...]
    attrs: dict[str, AttrSpec]
    outputs: tuple[ArgSpec, ...]
    text: str
    inferred: frozenset[str] = field(default_factory=frozenset)


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside of brackets and quotes; pieces are stripped, empty ones dropped."""
    pieces, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == separator and depth == 0:
            pieces.append(text[start:i])
            start = i + 1
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def _parse_arg(text: str) -> ArgSpec:
    name, _, kind = (part.strip() for part in text.partition(":"))
    number = None
    if kind.startswith("list("):
        return ArgSpec(name, type_list_attr=kind[5:-1].strip())
    if "*" in kind:
        number, kind = (part.strip() for part in kind.split("*"))
    is_ref = kind.startswith("Ref(")
    if is_ref:
        kind = kind[4:-1].strip()
    dtype = dtypes.by_name(kind)
    if dtype is not None:
        return ArgSpec(name, dtype=dtype, number_attr=number, is_ref=is_ref)
    return ArgSpec(name, type_attr=kind, number_attr=number, is_ref=is_ref)


def parse_default(kind: str, text: str) -> Any:
    if kind == "type":
        return dtypes.as_dtype(text)
    if kind == "shape":
        return TensorShape(None) if text == "unknown" else TensorShape(ast.literal_eval(text))
    if kind == "float":
        return float(
            np.float32(text)
        )  # which reads inf and nan as they are, and keeps what a GraphDef can hold
    return ast.literal_eval(text)


def _parse_attr(text: str) -> AttrSpec:
    name, _, rest = (part.strip() for part in text.partition(":"))
    kind_text, has_default, default_text = (part.strip() for part in rest.partition(" = "))
    minimum = None
    if ">=" in kind_text:
        kind_text, minimum_text = (part.strip() for part in kind_text.split(">="))
        minimum = int(minimum_text)
    is_list = kind_text.startswith("list(")
    if is_list:
        kind_text = kind_text[5:-1].strip()
    allowed: tuple[Any, ...] | None = None
    kind = kind_text
    if kind_text in TYPE_SETS:
        kind, allowed = "type", TYPE_SETS[kind_text]
    elif kind_text.startswith("{"):
        members = _split(kind_text[1:-1], ",")
        if members[0][0] in "'\"":
            kind, allowed = "string", tuple(ast.literal_eval(member) for member in members)
        else:
            kind, allowed = "type", tuple(dtypes.as_dtype(member) for member in members)
    if kind not in ("type", "int", "float", "bool", "string", "shape", "tensor", "func"):
        raise ValueError(f"attr '{name}' has the unknown kind '{kind_text}'")
    default = None
    if has_default:
        if is_list:
            inner = _split(default_text.strip("[]()"), ",")
            default = tuple(parse_default(kind, item) for item in inner)
        else:
            default = parse_default(kind, default_text)
    return AttrSpec(name, kind, is_list, bool(has_default), default, allowed, minimum)


def parse(text: str) -> Signature:
    """Parse a signature line.  Raises ValueError, naming the piece, where the line is not of the form above."""
    head, arrow, tail = text.partition("->")
    name, paren, body = head.strip().partition("(")
    if not arrow or not paren or not body.rstrip().endswith(")"):
        raise ValueError(f"op signature {text!r} is not of the form 'Name(inputs; attrs) -> outputs'")
    body = body.rstrip()[:-1]
    before, _, after = body.partition(";")
    inputs = tuple(_parse_arg(piece) for piece in _split(before, ","))
    outputs = tuple(_parse_arg(piece) for piece in _split(tail, ","))
    attrs = {spec.name: spec for spec in (_parse_attr(piece) for piece in _split(after, ","))}
    inferred: set[str] = set()
    for arg in (*inputs, *outputs):
        for attr in (arg.type_attr, arg.number_attr, arg.type_list_attr):
            if attr is not None and attr not in attrs:
                raise ValueError(
                    f"op signature {text!r}: '{arg.name}' uses the attr '{attr}', which is not declared"
                )
    for arg in inputs:
        inferred.update(
            attr for attr in (arg.type_attr, arg.number_attr, arg.type_list_attr) if attr is not None
        )
    return Signature(name.strip(), inputs, attrs, outputs, text, frozenset(inferred))
