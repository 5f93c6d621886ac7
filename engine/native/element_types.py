"""NumPy's dtypes in LLVM IR: in memory, and in registers.

The 16-bit floats are float32 in registers, rounded where NumPy would round them; booleans are bytes in memory and single bits in
registers.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from engine.native import compiler
from engine.native.ir import Function
from engine.native.values import Value

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF = np.dtype(np.float16)

# dtype: in memory, in registers.
_TYPES: dict[np.dtype[Any], tuple[str, str]] = {
    np.dtype(np.float32): ("float", "float"),
    np.dtype(np.float64): ("double", "double"),
    HALF: ("half", "float"),
    BFLOAT16: ("i16", "float"),
    np.dtype(np.bool_): ("i1", "i1"),
    **{
        np.dtype(f"{sign}int{bits}"): (f"i{bits}", f"i{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


class Inexpressible(Exception):
    """What was asked for has no native form; the text says why."""


def types_of(dtype: np.dtype[Any]) -> tuple[str, str]:
    """The element types of a dtype in memory and in registers.  Raises Inexpressible if there are none here."""
    found = _TYPES.get(dtype)
    if found is None:
        raise Inexpressible(f"dtype {dtype} has no native form")
    if dtype == HALF and not compiler.cpu().avx2:
        raise Inexpressible("this processor does not convert float16")
    return found


def kind_of(dtype: np.dtype[Any]) -> str:
    """f: floating, i: signed, u: unsigned, b: bool."""
    return "f" if dtype == BFLOAT16 else dtype.kind


def rounded(f: Function, value: Value, dtype: np.dtype[Any]) -> Value:
    """A float32 as the nearest value of a 16-bit float; of another dtype as it is."""
    if dtype == HALF:
        return f.convert("fpext", f.convert("fptrunc", value, "half"), "float")
    if dtype == BFLOAT16:
        bits = f.convert("bitcast", value, "i32")
        even = bits.bits("lshr", 16) & 1
        near = (bits + 0x7FFF + even) & 0xFFFF0000
        nan = (bits | 0x400000) & 0xFFFF0000
        return f.convert("bitcast", f.select(value.differs(value), nan, near), "float")
    return value


def load(f: Function, pointer: Value, dtype: np.dtype[Any], lanes: int | None = None) -> Value:
    stored, _ = types_of(dtype)
    value = f.load(pointer, stored, lanes)
    if dtype == HALF:
        return f.convert("fpext", value, "float")
    if dtype == BFLOAT16:
        return f.convert("bitcast", f.convert("zext", value, "i32").bits("shl", 16), "float")
    return value


def store(f: Function, value: Value, pointer: Value, dtype: np.dtype[Any]) -> None:
    """`value` is one of the dtype's already."""
    if dtype == HALF:
        value = f.convert("fptrunc", value, "half")
    elif dtype == BFLOAT16:
        value = f.convert("trunc", f.convert("bitcast", value, "i32").bits("lshr", 16), "i16")
    f.store(value, pointer)
