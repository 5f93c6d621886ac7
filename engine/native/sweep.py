"""What kernels over rows and columns of a matrix share: walking a row in vectors, and putting functions together as a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.native import compiler
from engine.native.ir import Function, Module, arguments, entry
from engine.native.kernel import NativeKernel, Phase
from engine.native.values import Number, Value

_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
GRAIN = 8192  # elements worth handing to another thread


def type_of(dtype: Any) -> str | None:
    """The element type of float32 and float64; None for other dtypes, and where there is no native code."""
    found = _TYPES.get(np.dtype(dtype))
    return found if found is not None and compiler.available() else None


def lanes_for(dtype: Any, width: int, registers: int = 2) -> int:
    """Lanes for rows of `width` elements: that many vector registers' worth, or fewer if rows are short."""
    most = registers * compiler.cpu().vector_bytes // np.dtype(dtype).itemsize
    lanes = 1
    while lanes < width and lanes < most:
        lanes *= 2
    return max(lanes, 2)


@dataclass(frozen=True, slots=True)
class Piece:
    """A vector's worth of a row: from element `at` on, `count` elements of the function's lanes."""

    f: Function
    type: str
    at: Value
    count: int

    def load(self, row: Value, fill: Number = 0.0) -> Value:
        """The row's elements here; lanes beyond its end are `fill`."""
        where = self.f.address(row, self.at, self.type)
        if self.count == self.f.lanes:
            return self.f.load(where, self.type)
        return self.f.load_part(where, self.type, self.count, fill)

    def store(self, value: Value, row: Value) -> None:
        where = self.f.address(row, self.at, self.type)
        if self.count == self.f.lanes:
            self.f.store(value, where)
        else:
            self.f.store_part(value, where, self.count)

    def inside(self) -> Value:
        """Which lanes are elements of the row."""
        lanes = ", ".join(f"i1 {'true' if i < self.count else 'false'}" for i in range(self.f.lanes))
        return Value(self.f, f"<{lanes}>", "i1", self.f.lanes)


Body = Callable[[Piece, list[Value]], Sequence[Value]]


def sweep(f: Function, type: str, width: int, carried: Sequence[Value], body: Body) -> list[Value]:
    """Walk a row of `width` elements piece by piece; `body` is given what is carried and returns what is carried on."""
    whole = width - width % f.lanes
    values = list(carried)
    if whole:
        values = f.loop(0, whole, f.lanes, values, lambda i, held: body(Piece(f, type, i, f.lanes), held))
    if whole < width:
        values = list(body(Piece(f, type, f.constant("i64", whole, 0), width - whole), values))
    return values


def total(f: Function, value: Value) -> Value:
    """The sum of all lanes."""
    return f.fold(value, lambda a, b: a + b)


class Code:
    """A kernel being written: a module, and a function a phase."""

    def __init__(self, name: str, dtype: Any, lanes: int) -> None:
        self.name = name
        self.type = _TYPES[np.dtype(dtype)]
        self.size: int = np.dtype(dtype).itemsize
        self.lanes = lanes
        self.module = Module()
        self.phases: list[Phase] = []

    def phase(
        self,
        extent: int,
        args: Sequence[int],
        write: Callable[[Function, Value, list[Value]], None],
        grain: int = 1,
    ) -> None:
        """A phase over `extent` units.  `write(f, unit, pointers)` writes what is done for one of them."""
        if not extent:
            return
        f, given, begin, end = entry(self.module, f"phase{len(self.phases)}", lanes=self.lanes)
        pointers = arguments(f, given, len(args))

        def unit(number: Value, _: list[Value]) -> list[Value]:
            write(f, number, pointers)
            return []

        f.loop(begin, end, 1, (), unit)
        f.ret()
        self.phases.append(Phase(0, extent, tuple(args), grain))

    def row(self, f: Function, pointer: Value, number: Value, width: int) -> Value:
        """Where row `number` of a matrix begins."""
        return f.address(pointer, number * width, self.type)

    def element(self, f: Function, pointer: Value, index: Value) -> Value:
        return f.load(f.address(pointer, index, self.type), self.type, 0)

    def kernel(
        self,
        inputs: int,
        outputs: int,
        *,
        scratch: Sequence[int] = (),
        overwrites: Mapping[int, tuple[int, ...]] | None = None,
        ulps: float = 0.0,
    ) -> NativeKernel:
        library = compiler.compile(str(self.module), 2, passes=False) if self.phases else None
        phases = []
        for i, each in enumerate(self.phases):
            assert library is not None
            phases.append(Phase(library.address(f"phase{i}"), each.extent, each.args, each.grain))
        return NativeKernel(
            self.name, tuple(phases), inputs, outputs, tuple(scratch), dict(overwrites or {}), ulps, library
        )
