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

__all__ = [
    "CLEARED",
    "UNWRITTEN",
    "WRITTEN",
    "change_rows",
    "gather",
    "read_elements",
    "unique",
    "write_elements",
]

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


def change_rows(how: str, dtype: Any, index_dtype: Any = np.int32) -> NativeKernel | None:
    """Rows combined with updates, one after the other: ``rows[indices[i]] = rows[indices[i]] ∘ updates[i]`` for i < count.

    how: "add", "subtract" or "update", which replaces.
    Inputs: indices [n], updates [n] rows, parameters [number of rows, bytes of a row, numbers in one], count (one int64, at most
    n), the rows.  Outputs: the rows again, changed in place, failed.  None for dtypes other than float32, float64, int32 and
    int64, and for other indices than int32 and int64.
    """
    type, index = _ADDED.get(np.dtype(dtype)), _INDICES.get(np.dtype(index_dtype))
    if type is None or index is None or not compiler.available():
        return None
    library = _library()
    phase = Phase(library.address(f"{how}_{type}_{index}"), 1, (0, 1, 2, 3, 5, 6))
    return NativeKernel("change_rows", (phase,), 5, 2, keep=library)


def unique(count: int, dtype: Any, place_dtype: Any) -> NativeKernel | None:
    """The distinct elements of a vector, in the order in which they first come.

    Inputs: [count], int32 or int64.  Outputs: the distinct ones [count], of which the first `n` mean something; for each element
    which of them it is [count], of place_dtype; n, one int64.  None for other dtypes.
    """
    type, place = _INDICES.get(np.dtype(dtype)), _INDICES.get(np.dtype(place_dtype))
    if type is None or place is None or not count or count >= 1 << 30 or not compiler.available():
        return None
    room = 1 << (2 * count - 1).bit_length()
    library = compiler.compile(_unique_code(type, place, count, room), 3)
    phase = Phase(library.address("unique"), 1, (0, 1, 2, 3, 4))
    return NativeKernel("unique", (phase,), 1, 3, scratch=(4 * room,), keep=library)


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


def _change(module: Module, how: str, type: str, index: str) -> None:
    f, given, _, _ = entry(module, f"{how}_{type}_{index}", lanes=0)
    indices, updates, parameters, counter, rows, failed = arguments(f, given, 6)
    length, size, numbers = _numbers(f, parameters, 3)
    count = f.load(counter, "i64", 0)
    f.store(f.constant("i8", 0, 0), failed)

    def put(at: Value, number: Value) -> None:
        target, source = f.address(rows, number * size, "i8"), f.address(updates, at * size, "i8")
        if how == "update":
            f.copy(target, source, size)
            return

        def combine(j: Value, _: list[Value]) -> list[Value]:
            there = f.address(target, j, type)
            old, new = f.load(there, type, 0), f.load(f.address(source, j, type), type, 0)
            f.store(old + new if how == "add" else old - new, there)
            return []

        f.loop(0, numbers, 1, (), combine)

    def one(at: Value, _: list[Value]) -> list[Value]:
        number = _index(f, indices, at, index)
        inside = number.compare("<", length, unsigned=True)
        f.when(inside, lambda: put(at, number))
        f.when(inside ^ True, lambda: _fail(f, failed))
        return []

    f.loop(0, count, 1, (), one)
    f.ret()


def _unique_code(type: str, place: str, count: int, room: int) -> str:
    """A table of `room` places, a power of two at least twice `count`: 0, or the number of a distinct element, from 1.

    Who finds its place taken looks at the next one (Knuth, "The Art of Computer Programming" 3, 6.4, linear probing).
    """
    module = Module()
    f, given, _, _ = entry(module, "unique", lanes=0)
    numbers, values, places, found, table = arguments(f, given, 5)
    f.zero(table, 4 * room)
    shift = 64 - (room.bit_length() - 1)

    def one(i: Value, held: list[Value]) -> list[Value]:
        (n,) = held
        x = f.load(f.address(numbers, i, type), type, 0)
        wide = x if type == "i64" else f.convert("sext", x, "i64")
        start = (wide * 0x9E3779B97F4A7C15).bits("lshr", shift)
        before, look, known, new, on, done = f.block, *map(f.label, ("look", "known", "new", "on", "done"))
        f.line(f"br label %{look}")
        f.start(look)
        at = Value(f, f.label("%at"), "i64", 0)
        following = f.label("%following")
        f.line(f"{at.text} = phi i64 [ {start.text}, %{before} ], [ {following}, %{on} ]")
        entry_at = f.address(table, at, "i32")
        number = f.convert("zext", f.load(entry_at, "i32", 0), "i64")
        f.line(f"br {number.equals(0)}, label %{new}, label %{known}")
        f.start(known)
        old = f.load(f.address(values, number - 1, type), type, 0)
        f.line(f"br {old.equals(x)}, label %{done}, label %{on}")
        f.start(on)
        moved = at + 1
        f.line(f"{following} = and i64 {moved.text}, {room - 1}")
        f.line(f"br label %{look}")
        f.start(new)
        more = n + 1
        f.store(f.convert("trunc", more, "i32"), entry_at)
        f.store(x, f.address(values, n, type))
        f.line(f"br label %{done}")
        f.start(done)
        mine = f.emit(f"phi i64 [ {number.text}, %{known} ], [ {more.text}, %{new} ]", "i64", 0)
        total = f.emit(f"phi i64 [ {n.text}, %{known} ], [ {more.text}, %{new} ]", "i64", 0)
        which = mine - 1
        f.store(which if place == "i64" else f.convert("trunc", which, place), f.address(places, i, place))
        return [total]

    (n,) = f.loop(0, count, 1, [f.constant("i64", 0, 0)], one)
    f.store(n, found)
    f.ret()
    return str(module)


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
    for how in ("add", "subtract", "update"):
        for type in _ADDED.values():
            for index in _INDICES.values():
                _change(module, how, type, index)
    return compiler.compile(str(module), 3)
