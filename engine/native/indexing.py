"""Rows picked and put by number: what gathers, scatters and TensorArrays do, for numbers known only at run time.

One library serves all shapes: sizes are a parameter of each call, an array of int64.  A number that is none of a row is never
followed: `failed`, one bool, says that there was one, and the other results mean nothing then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from engine.native import compiler
from engine.native.ir import Function, Module, arguments, entry
from engine.native.kernel import NativeKernel, Phase
from engine.native.values import Value

__all__ = ["CLEARED", "UNWRITTEN", "WRITTEN", "gather", "read_elements", "write_elements"]

UNWRITTEN, WRITTEN, CLEARED = 0, 1, 2
"""The states of an element of a TensorArray; cleared is one that was read and let go."""

_INDICES = {np.dtype(np.int32): "i32", np.dtype(np.int64): "i64"}
_ADDED = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    np.dtype(np.int32): "i32",
    np.dtype(np.int64): "i64",
}
_WORTH = 32 << 10  # bytes that are worth another thread


def gather(
    outer: int, rows: int, row_bytes: int, count: int, index_dtype: Any
) -> tuple[NativeKernel, np.ndarray[Any, Any]] | None:
    """The kernel, and its parameters, with which ``out[o, i] = table[o, indices[i]]`` for rows of so many bytes.

    Inputs: table [outer, rows], indices [count], the parameters.  Outputs: out [outer, count], failed.  None for indices that are
    neither int32 nor int64.
    """
    index = _INDICES.get(np.dtype(index_dtype))
    if index is None or not compiler.available():
        return None
    library = _library()
    grain = max(1, _WORTH // max(row_bytes, 1))
    phases = (
        Phase(library.address("begin"), 1, (4,)),
        Phase(library.address(f"gather_{index}"), outer * count, (0, 1, 2, 3, 4), grain),
    )
    parameters = np.array([rows, row_bytes, count], np.int64)
    return NativeKernel("gather", phases, 3, 2, keep=library), parameters


def write_elements(dtype: Any, sums: bool) -> NativeKernel | None:
    """Elements of a TensorArray written in the order of `indices`.

    sums: an element that was written before gets the new one added, which for an array without this is a failure.
    Inputs: indices [count] (int32), values [count] elements, parameters [count, size, bytes of an element, numbers in one], the
    array [size] elements, states [size] (uint8).  Outputs: the array and the states again, which are changed in place, failed.
    None where elements of this dtype cannot be added.
    """
    type = _ADDED.get(np.dtype(dtype))
    if not compiler.available() or (sums and type is None):
        return None
    library = _library()
    name = f"add_{type}" if sums else "write"
    return NativeKernel(
        "write_elements", (Phase(library.address(name), 1, (0, 1, 2, 5, 6, 7)),), 5, 3, keep=library
    )


def read_elements() -> NativeKernel | None:
    """Elements of a TensorArray read in the order of `indices`.

    Inputs: indices [count] (int32), parameters [count, size, bytes of an element, whether reading clears, whether the shape of
    elements is given], the array [size] elements, states [size] (uint8), and the states of the array of which this one is the
    gradient, or its own: an element that is not written is zeros if its shape is given or the other array has such an element,
    else reading it is a failure.  Outputs: the elements, the states again, failed.
    """
    if not compiler.available():
        return None
    library = _library()
    return NativeKernel(
        "read_elements", (Phase(library.address("read"), 1, (0, 1, 2, 3, 4, 5, 7)),), 5, 3, keep=library
    )


# The code.


def _fail(f: Function, failed: Value) -> None:
    f.store(f.constant("i8", 1, 0), failed)


def _begin(module: Module) -> None:
    """failed = False."""
    f, given, _, _ = entry(module, "begin", lanes=0)
    (failed,) = arguments(f, given, 1)
    f.store(f.constant("i8", 0, 0), failed)
    f.ret()


def _index(f: Function, indices: Value, at: Value, type: str) -> Value:
    found = f.load(f.address(indices, at, type), type, 0)
    return found if type == "i64" else f.convert("sext", found, "i64")


def _numbers(f: Function, parameters: Value, count: int) -> list[Value]:
    return [f.load(f.address(parameters, i, "i64"), "i64", 0) for i in range(count)]


def _gather(module: Module, index: str) -> None:
    f, given, begin, end = entry(module, f"gather_{index}", lanes=0)
    table, indices, parameters, out, failed = arguments(f, given, 5)
    rows, size, count = _numbers(f, parameters, 3)

    def one(unit: Value, _: list[Value]) -> list[Value]:
        block, at = unit.bits("sdiv", count), unit.bits("srem", count)
        number = _index(f, indices, at, index)
        inside = number.compare("<", rows, unsigned=True)
        row = f.select(inside, number, f.constant("i64", 0, 0))
        f.when(inside ^ True, lambda: _fail(f, failed))
        source = f.address(table, (block * rows + row) * size, "i8")
        f.when(inside, lambda: f.copy(f.address(out, unit * size, "i8"), source, size))
        return []

    f.loop(begin, end, 1, (), one)
    f.ret()


def _write(module: Module, name: str, type: str | None) -> None:
    f, given, _, _ = entry(module, name, lanes=0)
    indices, values, parameters, array, states, failed = arguments(f, given, 6)
    count, size, row, numbers = _numbers(f, parameters, 4)
    f.store(f.constant("i8", 0, 0), failed)

    def put(at: Value, number: Value) -> None:
        state = f.address(states, number, "i8")
        found = f.load(state, "i8", 0)
        target, source = f.address(array, number * row, "i8"), f.address(values, at * row, "i8")

        def first() -> None:
            f.store(f.constant("i8", WRITTEN, 0), state)
            f.copy(target, source, row)

        def again() -> None:
            if type is None:
                _fail(f, failed)
                return
            kind = type

            def add(j: Value, _: list[Value]) -> list[Value]:
                there = f.address(target, j, kind)
                f.store(f.load(there, kind, 0) + f.load(f.address(source, j, kind), kind, 0), there)
                return []

            f.loop(0, numbers, 1, (), add)

        f.when(found.equals(UNWRITTEN), first)
        f.when(found.differs(UNWRITTEN), again)

    def one(at: Value, _: list[Value]) -> list[Value]:
        number = _index(f, indices, at, "i32")
        inside = number.compare("<", size, unsigned=True)
        f.when(inside, lambda: put(at, number))
        f.when(inside ^ True, lambda: _fail(f, failed))
        return []

    f.loop(0, count, 1, (), one)
    f.ret()


def _read(module: Module) -> None:
    f, given, _, _ = entry(module, "read", lanes=0)
    indices, parameters, array, states, others, out, failed = arguments(f, given, 7)
    count, size, row, clears, shaped = _numbers(f, parameters, 5)
    f.store(f.constant("i8", 0, 0), failed)

    def take(at: Value, number: Value) -> None:
        state = f.address(states, number, "i8")
        found = f.load(state, "i8", 0)
        other = f.load(f.address(others, number, "i8"), "i8", 0)
        target = f.address(out, at * row, "i8")

        def there() -> None:
            f.copy(target, f.address(array, number * row, "i8"), row)
            f.when(clears.differs(0), lambda: f.store(f.constant("i8", CLEARED, 0), state))

        def clear() -> None:
            def byte(j: Value, _: list[Value]) -> list[Value]:
                f.store(f.constant("i8", 0, 0), f.address(target, j, "i8"))
                return []

            f.loop(0, row, 1, (), byte)

        known = shaped.differs(0) | other.differs(UNWRITTEN)
        zeros = found.equals(UNWRITTEN) & known
        f.when(found.equals(WRITTEN), there)
        f.when(zeros, clear)
        f.when((found.equals(WRITTEN) | zeros) ^ True, lambda: _fail(f, failed))

    def one(at: Value, _: list[Value]) -> list[Value]:
        number = _index(f, indices, at, "i32")
        inside = number.compare("<", size, unsigned=True)
        f.when(inside, lambda: take(at, number))
        f.when(inside ^ True, lambda: _fail(f, failed))
        return []

    f.loop(0, count, 1, (), one)
    f.ret()


@lru_cache(maxsize=1)
def _library() -> compiler.Library:
    module = Module()
    _begin(module)
    for index in _INDICES.values():
        _gather(module, index)
    _write(module, "write", None)
    for type in _ADDED.values():
        _write(module, f"add_{type}", type)
    _read(module)
    return compiler.compile(str(module), 3)
