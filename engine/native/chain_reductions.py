"""A chain of elementwise steps whose result is reduced as it is computed, a block on the stack at a time.

Sums are taken in vector lanes, then over the lanes, and over the blocks in float64: how many threads take part does not change a
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.native.chain import Reduction
from engine.native.chain_loops import BLOCK, Loops
from engine.native.element_types import Inexpressible, kind_of, types_of
from engine.native.ir import Function, arguments, entry
from engine.native.kernel import Phase
from engine.native.values import Value

_CHUNK = 16384  # elements of one long reduction that one thread takes
_ULPS = 2.0  # of a sum, relative to the sum of what is summed without its signs


def write(loops: Loops, reduction: Reduction, grain: int) -> tuple[list[Phase], list[int], float]:
    """The phases (without addresses), the sizes of scratch buffers, and what the reduction is off.  Raises Inexpressible."""
    chain = loops.chain
    dtype = chain.out_dtypes[0]
    if (
        len(chain.outputs) != 1
        or not 0 < reduction.rank <= len(chain.shape)
        or reduction.kind not in _FOLDS
        or kind_of(dtype) not in "fiu"
        or dtype.itemsize < 4
        or (reduction.kind == "Mean" and dtype.kind != "f")
    ):
        raise Inexpressible(f"{reduction} of {dtype} {chain.shape}")
    if not chain.size:
        raise Inexpressible("a reduction of nothing")
    width = math.prod(chain.shape[len(chain.shape) - reduction.rank :])
    n_in = len(chain.input_dtypes)
    split = chain.size == width and width > 2 * _CHUNK
    piece = _CHUNK if split else width
    extent = -(-chain.size // piece)
    off = _ULPS if reduction.kind in ("Sum", "Mean") and dtype.kind == "f" else 0.0
    code = _Code(loops, reduction, dtype, width)
    code.pieces(piece, finished=not split)
    phases = [Phase(0, extent, (*range(n_in), n_in + split), max(1, grain // piece))]
    if not split:
        return phases, [], off
    code.together(extent)
    return [*phases, Phase(0, 1, (n_in + 1, n_in))], [8 * extent], off


@dataclass(frozen=True, slots=True)
class _Code:
    """width: how many elements become one."""

    loops: Loops
    reduction: Reduction
    dtype: np.dtype[Any]
    width: int

    @property
    def type(self) -> str:
        return types_of(self.dtype)[1]

    @property
    def wide(self) -> str:
        """The type in which the blocks come together."""
        return "double" if self.type == "float" else self.type

    def fold(self, f: Function, a: Value, b: Value) -> Value:
        return _FOLDS[self.reduction.kind](f, a, b, self.dtype.kind == "u")

    def start(self, f: Function, type: str, lanes: int | None = 0) -> Value:
        """The neutral element."""
        if self.reduction.kind in ("Sum", "Mean"):
            return f.constant(type, 0, lanes)
        low = self.reduction.kind == "Max"
        if self.dtype.kind == "f":
            return f.constant(type, -math.inf if low else math.inf, lanes)
        limits = np.iinfo(self.dtype)
        return f.constant(type, int(limits.min if low else limits.max), lanes)

    def pieces(self, piece: int, *, finished: bool) -> None:
        """phase0: a unit is `piece` elements; what they become goes to the output, or unfinished to a scratch buffer."""
        chain = self.loops.chain
        walk = self.loops.block_runner()
        block_total = self._block_total()
        f, args, begin, end = entry(self.loops.module, "phase0", lanes=0)
        pointers = self.loops.pointers(f, args)
        views, out = pointers[: len(chain.views)], pointers[-1]
        buffers = self.loops.buffers(f)
        result = f.stack(BLOCK * self.dtype.itemsize)

        def unit(number: Value, _: list[Value]) -> list[Value]:
            first = number * piece
            stop = f.select(first + piece < chain.size, first + piece, f.constant("i64", chain.size, 0))

            def block(at: Value, carried: list[Value]) -> list[Value]:
                left = stop - at
                n = f.select(left < BLOCK, left, f.constant("i64", BLOCK, 0))
                walk(f, views, buffers, [result], at, n)
                return [self.fold(f, carried[0], f.call(block_total, result, n))]

            (found,) = f.loop(first, stop, BLOCK, [self.start(f, self.wide)], block)
            found = self._finished(f, found) if finished else found
            f.store(found, f.address(out, number, found.type))
            return []

        f.loop(begin, end, 1, (), unit)
        f.ret()

    def together(self, pieces: int) -> None:
        """phase1: what the pieces became, as one."""
        f, args, _, _ = entry(self.loops.module, "phase1", lanes=0)
        parts, out = arguments(f, args, 2)

        def add(i: Value, carried: list[Value]) -> list[Value]:
            return [self.fold(f, carried[0], f.load(f.address(parts, i, self.wide), self.wide, 0))]

        (found,) = f.loop(0, pieces, 1, [self.start(f, self.wide)], add)
        f.store(self._finished(f, found), out)
        f.ret()

    def _finished(self, f: Function, found: Value) -> Value:
        if self.reduction.kind == "Mean":
            found = found / float(self.width)
        return found if found.type == self.type else f.convert("fptrunc", found, self.type)

    def _block_total(self) -> Function:
        """A function that makes one number of n elements in memory."""
        lanes, type = self.loops.chain.lanes, self.type
        f = Function(self.loops.module, "total", [("ptr", 0), ("i64", 0)], (self.wide, 0), lanes=lanes)
        pointer, n = f.parameters
        whole = n - (n & (lanes - 1))

        def vector(i: Value, carried: list[Value]) -> list[Value]:
            return [self.fold(f, carried[0], f.load(f.address(pointer, i, type), type))]

        def single(i: Value, carried: list[Value]) -> list[Value]:
            return [self.fold(f, carried[0], f.load(f.address(pointer, i, type), type, 0))]

        (found,) = f.loop(0, whole, lanes, [self.start(f, type, None)], vector)
        (one,) = f.loop(whole, n, 1, [f.fold(found, lambda a, b: self.fold(f, a, b))], single)
        f.ret(one if self.wide == type else f.convert("fpext", one, self.wide))
        return f


_FOLDS: dict[str, Callable[[Function, Value, Value, bool], Value]] = {
    "Sum": lambda f, a, b, unsigned: a + b,
    "Mean": lambda f, a, b, unsigned: a + b,
    "Max": lambda f, a, b, unsigned: f.maximum(a, b, unsigned=unsigned),
    "Min": lambda f, a, b, unsigned: f.minimum(a, b, unsigned=unsigned),
}
