"""Values of LLVM IR as Python objects with operators: what `engine.native.ir` functions are written with."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.native.ir import Function

Number = int | float | bool

FLOATS = frozenset({"float", "double"})
BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "half": 2, "bfloat": 2, "float": 4, "double": 8}
_FLOAT_COMPARISONS = {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"}
_SIGNED = {"<": "slt", "<=": "sle", ">": "sgt", ">=": "sge", "==": "eq", "!=": "ne"}
_UNSIGNED = {**_SIGNED, "<": "ult", "<=": "ule", ">": "ugt", ">=": "uge"}


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A register or constant: `text` as the IR names it, of element type `type`; lanes: 0 for a scalar."""

    function: Function
    text: str
    type: str
    lanes: int

    @property
    def full_type(self) -> str:
        return full_type(self.type, self.lanes)

    def __str__(self) -> str:
        return f"{self.full_type} {self.text}"

    # Arithmetic.  Integers wrap around.

    def __add__(self, other: Value | Number) -> Value:
        return self._with("add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self._with("sub", other)

    def __mul__(self, other: Value | Number) -> Value:
        return self._with("mul", other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._with("div", other)

    def __radd__(self, other: Number) -> Value:
        return self.function.like(self, other) + self

    def __rsub__(self, other: Number) -> Value:
        return self.function.like(self, other) - self

    def __rmul__(self, other: Number) -> Value:
        return self.function.like(self, other) * self

    def __rtruediv__(self, other: Number) -> Value:
        return self.function.like(self, other) / self

    def __neg__(self) -> Value:
        if self.type in FLOATS:
            return self.function.emit(f"fneg {self}", self.type, self.lanes)
        return 0 - self

    def __and__(self, other: Value | Number) -> Value:
        return self.bits("and", other)

    def __or__(self, other: Value | Number) -> Value:
        return self.bits("or", other)

    def __xor__(self, other: Value | Number) -> Value:
        return self.bits("xor", other)

    def bits(self, operation: str, other: Value | Number) -> Value:
        """An integer instruction: and, or, xor, shl, lshr, ashr, udiv, …"""
        right = other if isinstance(other, Value) else self.function.like(self, other)
        return self.function.emit(f"{operation} {self}, {right.text}", self.type, self.lanes)

    def _with(self, operation: str, other: Value | Number) -> Value:
        return self.bits(f"f{operation}" if self.type in FLOATS else operation, other)

    # Comparisons give i1.  NaN is unequal to everything, and neither less nor greater.

    def __lt__(self, other: Value | Number) -> Value:
        return self.compare("<", other)

    def __le__(self, other: Value | Number) -> Value:
        return self.compare("<=", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.compare(">", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self.compare(">=", other)

    def compare(self, relation: str, other: Value | Number, *, unsigned: bool = False) -> Value:
        """relation: one of < <= > >= == !=."""
        right = other if isinstance(other, Value) else self.function.like(self, other)
        if self.type in FLOATS:
            text = f"fcmp {_FLOAT_COMPARISONS[relation]}"
        else:
            text = f"icmp {(_UNSIGNED if unsigned else _SIGNED)[relation]}"
        return self.function.emit(f"{text} {self}, {right.text}", "i1", self.lanes)

    def equals(self, other: Value | Number) -> Value:
        return self.compare("==", other)

    def differs(self, other: Value | Number) -> Value:
        return self.compare("!=", other)


def full_type(type: str, lanes: int) -> str:
    """A vector type as LLVM writes it, or a scalar one for no lanes."""
    return f"<{lanes} x {type}>" if lanes else type


def literal(type: str, number: Number) -> str:
    """A number of an element type as LLVM writes it.  Floats are rounded to the type."""
    if type == "float":
        return "0x" + struct.pack(">d", float(np.float32(number))).hex().upper()
    if type == "double":
        return "0x" + struct.pack(">d", float(number)).hex().upper()
    if type == "i1":
        return "true" if number else "false"
    bits = 8 * BYTES[type]
    whole = int(number) & ((1 << bits) - 1)
    return str(whole - (1 << bits) if whole >> (bits - 1) else whole)
