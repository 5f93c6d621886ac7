"""Products of matrices as native kernels: NumPy's own loop of `matmul`, called for blocks of rows on several threads.

The loop is the one that `np.matmul` runs (it calls BLAS for most shapes, and computes the others itself), so a product that is
not cut has NumPy's bits by construction: those of OpenBLAS held to **one thread** (`engine.native.blas.single_threaded`, which
whoever runs the kernel enters).  With two threads OpenBLAS cuts products where it likes and gives other last bits.

Where a product may be cut without changing bits depends on the kernels that BLAS has for this processor: OpenBLAS's for AVX2
take rows by twelves, and results depend on which rows a group begins with.  So it is found out: a cut is used once it has given
the same bits as the whole on numbers of full length (`_cut`).  The order in which BLAS adds depends on shapes, not on values.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import blas, bound, compiler, pool, ufuncs
from engine.native.kernel import NativeKernel, Phase

__all__ = ["gemm"]

# The block of parameters that the machine code reads: 64-bit integers.
_FIELDS = (
    # Addresses; bytes; 1 where a and b may be one operand.
    *("loop", "data", "offsets_a", "offsets_b", "matrix_out", "same"),
    # How a matrix is cut.
    *("blocks", "unit", "size", "step_a", "step_b", "step_out", "column", "apart"),
    # The loop's dimensions, and its steps in bytes.
    *("outer", "m", "k", "n"),
    *("s0", "s1", "s2", "a_m", "a_k", "b_k", "b_n", "out_m", "out_n"),
)
_AT = {name: 8 * index for index, name in enumerate(_FIELDS)}


def _load(name: str) -> str:
    return (
        f"  %{name}.p = getelementptr i8, ptr %parameters, i64 {_AT[name]}\n"
        f"  %{name} = load i64, ptr %{name}.p"
    )


def _ir() -> str:
    """`product(parameters, args, begin, end)` for units: unit u is block u % blocks of matrix u / blocks of the batch."""
    loads = "\n".join(_load(name) for name in _FIELDS[: _FIELDS.index("outer")])
    return f"""
declare i64 @llvm.umin.i64(i64, i64)

define void @product(ptr %parameters, ptr %args, i64 %begin, i64 %end) {{
entry:
{loads}
  %loop.f = inttoptr i64 %loop to ptr
  %data.f = inttoptr i64 %data to ptr
  %table_a = inttoptr i64 %offsets_a to ptr
  %table_b = inttoptr i64 %offsets_b to ptr
  %b.arg = getelementptr ptr, ptr %args, i64 1
  %out.arg = getelementptr ptr, ptr %args, i64 2
  %a0 = load ptr, ptr %args
  %b0 = load ptr, ptr %b.arg
  %out0 = load ptr, ptr %out.arg
  ; The loop's operands and dimensions; of these one is how many rows (or columns) are asked for.
  %operands = alloca [3 x ptr]
  %operand.b = getelementptr ptr, ptr %operands, i64 1
  %operand.out = getelementptr ptr, ptr %operands, i64 2
  %dims = alloca [4 x i64]
  %outer.p = getelementptr i8, ptr %parameters, i64 {_AT["outer"]}
  call void @llvm.memcpy.p0.p0.i64(ptr %dims, ptr %outer.p, i64 32, i1 false)
  %which = mul i64 %column, 2
  %which1 = add i64 %which, 1                   ; m is the loop's second dimension, n its fourth
  %cut = getelementptr i64, ptr %dims, i64 %which1
  %steps = getelementptr i8, ptr %parameters, i64 {_AT["s0"]}
  br label %next
next:
  %u = phi i64 [ %begin, %entry ], [ %after, %done ]
  %more = icmp slt i64 %u, %end
  br i1 %more, label %matrix, label %out
matrix:
  %i = udiv i64 %u, %blocks
  %j = urem i64 %u, %blocks
  %left = sub i64 %end, %u
  %past = add i64 %j, %left
  %stop.far = call i64 @llvm.umin.i64(i64 %past, i64 %blocks)
  %stop.near = add i64 %j, 1
  %each = icmp ne i64 %apart, 0
  %stop = select i1 %each, i64 %stop.near, i64 %stop.far
  %taken = sub i64 %stop, %j
  %after = add i64 %u, %taken
  %skip_a.p = getelementptr i64, ptr %table_a, i64 %i
  %skip_b.p = getelementptr i64, ptr %table_b, i64 %i
  %skip_a = load i64, ptr %skip_a.p
  %skip_b = load i64, ptr %skip_b.p
  %skip_out = mul i64 %i, %matrix_out
  %a = getelementptr i8, ptr %a0, i64 %skip_a
  %b = getelementptr i8, ptr %b0, i64 %skip_b
  %o = getelementptr i8, ptr %out0, i64 %skip_out
  ; A matrix times its own transpose is another routine (syrk), which NumPy knows by the addresses: it stays whole, as the first
  ; block's work.
  %one = icmp eq ptr %a, %b
  %may = icmp ne i64 %same, 0
  %whole = and i1 %one, %may
  %late = icmp ne i64 %j, 0
  %nothing = and i1 %whole, %late
  br i1 %nothing, label %done, label %call
call:
  %from = mul i64 %j, %unit
  %to.part = mul i64 %stop, %unit
  %last = icmp eq i64 %stop, %blocks            ; the last block has the rest, too
  %all = or i1 %last, %whole
  %to = select i1 %all, i64 %size, i64 %to.part
  %count = sub i64 %to, %from
  store i64 %count, ptr %cut
  %move_a = mul i64 %from, %step_a
  %move_b = mul i64 %from, %step_b
  %move_out = mul i64 %from, %step_out
  %a1 = getelementptr i8, ptr %a, i64 %move_a
  %b1 = getelementptr i8, ptr %b, i64 %move_b
  %o1 = getelementptr i8, ptr %o, i64 %move_out
  store ptr %a1, ptr %operands
  store ptr %b1, ptr %operand.b
  store ptr %o1, ptr %operand.out
  call void %loop.f(ptr %operands, ptr %dims, ptr %steps, ptr %data.f)
  br label %done
done:
  br label %next
out:
  ret void
}}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


@dataclass(frozen=True, slots=True)
class _Cut:
    """How each matrix of a product is cut: along rows (axis 0) or columns (1) of the result, after multiples of `unit`."""

    axis: int = 0
    unit: int = 0  # 0: not at all
    grain: int = 1  # units of work worth handing out
    apart: bool = (
        False  # each unit is a product of its own, whoever computes it: bits depend on the cut alone
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """A product's shape: (m, k) by (k, n) once transposed, for each matrix of the batch."""

    m: int
    n: int
    k: int
    dtype: np.dtype[Any]
    transpose_a: bool
    transpose_b: bool

    @property
    def work(self) -> int:
        return self.m * self.n * self.k

    def operands(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Matrices with bits all over, as they lie in memory (before they are transposed)."""
        a = (self.k, self.m) if self.transpose_a else (self.m, self.k)
        b = (self.n, self.k) if self.transpose_b else (self.k, self.n)
        return _numbers(self.dtype, a, 0), _numbers(self.dtype, b, 1)

    def turned(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return (a.T if self.transpose_a else a), (b.T if self.transpose_b else b)


def _numbers(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> npt.NDArray[Any]:
    # A prime number of them, repeated: quickly made also for large matrices, and no two rows are equal.
    some = np.random.default_rng(seed).standard_normal((2, 8191))
    values = some[0] + 1j * some[1] if dtype.kind == "c" else some[0] if dtype.kind == "f" else 100 * some[0]
    with np.errstate(invalid="ignore"):
        return np.resize(values.astype(dtype), shape)


@cache
def _loop(dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """The addresses of NumPy's loop for matrices of that dtype and of its data; None where it is not what we take it for."""
    struct = ufuncs._struct(np.matmul)
    index = ufuncs._index(np.matmul, (dtype,) * 3) if dtype.kind in "biufc" and dtype.isnative else None
    if (
        isinstance(struct, str) or index is None or dtype.char == "e"
    ):  # NumPy's loop for float16 is slow, and rounds in between
        return None
    address, data = struct.functions[index] or 0, (struct.data[index] if struct.data else 0) or 0
    if not ufuncs._is_code(address):
        return None
    a, b = (_numbers(dtype, each, 0) for each in ((3, 5), (5, 4)))
    out = np.zeros((3, 4), dtype)
    operands = np.array([each.ctypes.data for each in (a, b, out)], np.intp)
    dims = np.array([1, 3, 5, 4], np.intp)
    steps = np.array([0, 0, 0, *a.strides, *b.strides, *out.strides], np.intp)
    ufuncs.PROTOTYPE(address)(*(each.ctypes.data for each in (operands, dims, steps)), data or None)
    return (address, data) if ufuncs.same_bits(out, a @ b) else None


# Cuts.

_ROWS = (12, 24, 16, 48)  # what OpenBLAS's kernels take at a time: the least common cut of most, then of all
_COLUMNS = (16, 32, 64)
_PACKED = (
    1 << 20
)  # multiplications that a block has at least: fewer may take another path inside of BLAS, and are soon done
_NARROW, _WIDE = (
    32,
    128,
)  # rows at least; rows from which on it costs little that each block reads the other operand anew
_TRIED = (
    1 << 27
)  # multiplications up to which a cut is tried on the shape itself, and not on a part that stands for it
_LONGEST = 1 << 14  # rows above which no part stands for them: BLAS begins anew only after more than these
_MEMORY = 1 << 26  # numbers in an operand up to which anything is tried


def _cuts(shape: _Shape) -> Iterator[_Cut]:
    """Cuts that leave blocks large enough, along the longer side first: the other operand is read again by each block."""
    processors = pool.processors()
    if shape.dtype.kind in "fc":
        axes = [(0, shape.m, shape.n, _ROWS), (1, shape.n, shape.m, _COLUMNS)]
        narrow, wide, work = _NARROW, _WIDE, _PACKED
    else:  # plain loops, in which any cut is right
        axes = [(0, shape.m, shape.n, (1,)), (1, shape.n, shape.m, (1,))]
        narrow, wide, work = 1, 1, _PACKED // 128
    for axis, size, other, units in axes if shape.m >= shape.n // 2 else reversed(axes):
        least = max(-(-work // max(1, other * shape.k)), narrow)
        for unit in units:
            # As many blocks as processors, or more where the blocks are still wide.
            grain = -(-max(least, min(wide, size // processors - unit)) // unit)
            if size // unit >= 2 * grain:
                yield _Cut(axis, unit, grain)


def _keeps_bits(shape: _Shape, cut: _Cut) -> bool:
    """Whether blocks of a product, cut so, have the bits of the whole one."""
    if shape.dtype.kind not in "fc":
        return True
    if shape.work > _TRIED:
        shape = _part(shape, cut)
    if max(shape.m, shape.n) * shape.k > _MEMORY:
        return False
    x, y = shape.turned(*shape.operands())
    whole, parts = np.matmul(x, y), np.empty((shape.m, shape.n), shape.dtype)
    for begin, end in _pieces((shape.m, shape.n)[cut.axis], cut):
        if cut.axis == 0:
            np.matmul(x[begin:end], y, out=parts[begin:end])
        else:
            np.matmul(x, y[:, begin:end], out=parts[:, begin:end])
    return ufuncs.same_bits(whole, parts)


def _part(shape: _Shape, cut: _Cut) -> _Shape:
    """A smaller product that is cut alike: a few blocks and the same rest, fewer columns with the same rest, the whole sums."""
    sizes = [shape.m, shape.n]
    size, other = sizes[cut.axis], sizes[1 - cut.axis]
    wide = 512
    if size <= _LONGEST:
        sizes[cut.axis] = min(size, 4 * cut.unit * cut.grain + size % cut.unit)
    else:
        wide = 64
    sizes[1 - cut.axis] = min(other, wide + other % 64)
    return replace(shape, m=sizes[0], n=sizes[1])


def _pieces(size: int, cut: _Cut) -> Iterator[tuple[int, int]]:
    """Blocks of different lengths, beginning with the shortest."""
    begin, units, blocks = 0, cut.grain, size // cut.unit
    while begin < blocks:
        end = begin + units if begin + units + cut.grain <= blocks else blocks
        yield begin * cut.unit, size if end == blocks else end * cut.unit
        begin, units = end, units + 1


@lru_cache(maxsize=4096)
def _cut(shape: _Shape, exact: bool) -> _Cut:
    """How to cut a product; not at all where no cut is known to keep the bits that are asked for."""
    if not blas.available():
        return _Cut()
    with blas.single_threaded():
        if exact or shape.dtype.kind not in "fc":
            return next((each for each in _cuts(shape) if _keeps_bits(shape, each)), _Cut())
    cut = next(_cuts(shape), _Cut())
    # Else last bits would depend on how many threads happen to be free.
    return _Cut(cut.axis, cut.unit * cut.grain, 1, apart=True) if cut.unit else cut


# Kernels.


def gemm(
    m: int,
    n: int,
    k: int,
    dtype: npt.DTypeLike,
    transpose_a: bool = False,
    transpose_b: bool = False,
    *,
    batch_a: Sequence[int] = (),
    batch_b: Sequence[int] = (),
    exact: bool = True,
) -> NativeKernel | None:
    """The product of a (…, m, k) and b (…, k, n), or of their transposes as they lie: (…, m, n).

    transpose_a: a lies as (…, k, m); transpose_b: b lies as (…, n, k).  batch_a, batch_b: the leading dimensions; they broadcast.
    exact: NumPy's bits (those of one-threaded BLAS); otherwise a product may be cut anywhere, and sums differ in the last bits,
        though not from call to call.
    Who runs the kernel holds BLAS to one thread (`engine.native.blas.single_threaded`).  If both operands are one buffer, NumPy's
    routine for a matrix times its own transpose runs, as it would in NumPy.

    Returns None where there is no such kernel: no compiler, or a dtype that `np.matmul` has no loop of C for.  Raises ValueError
    where the leading dimensions do not broadcast.
    """
    kind = np.dtype(dtype)
    if not compiler.available() or _loop(kind) is None:
        return None
    shape = _Shape(m, n, k, kind, transpose_a, transpose_b)
    return _kernel(shape, tuple(batch_a), tuple(batch_b), exact)


_kernels: dict[Any, NativeKernel] = {}
_lock = threading.Lock()


def _kernel(shape: _Shape, batch_a: tuple[int, ...], batch_b: tuple[int, ...], exact: bool) -> NativeKernel:
    key = shape, batch_a, batch_b, exact
    with _lock:
        found = _kernels.get(key)
        if found is None:
            found = _kernels[key] = _made(shape, batch_a, batch_b, exact)
    return found


def _made(shape: _Shape, batch_a: tuple[int, ...], batch_b: tuple[int, ...], exact: bool) -> NativeKernel:
    batch = np.broadcast_shapes(batch_a, batch_b)
    count = math.prod(batch)
    # Several matrices are shared out whole, unless there are few of them and each is a lot of work.
    cut = _cut(shape, exact) if 0 < count < 4 else _Cut()
    offsets = [
        np.ascontiguousarray(np.broadcast_to(np.arange(math.prod(own), dtype=np.int64).reshape(own), batch))
        * (size * shape.k * shape.dtype.itemsize)
        for own, size in ((batch_a, shape.m), (batch_b, shape.n))
    ]
    parameters = _parameters(shape, cut, offsets)
    library = compiler.compile(_ir())
    # Bound functions are there for good, so their parameters must be.
    for each in (parameters, *offsets, library):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
    blocks = int(parameters[_FIELDS.index("blocks")])
    grain = cut.grain if cut.unit else max(1, _PACKED // 4 // max(shape.work, 1))
    phase = Phase(
        bound.bind(library.address("product"), parameters.ctypes.data),
        extent=count * blocks if shape.m and shape.n else 0,
        args=(0, 1, 2),
        grain=grain,
    )
    name = f"matmul {shape.dtype} {shape.m}x{shape.k}x{shape.n}"
    eps = 0.0 if exact or shape.dtype.kind not in "fc" else float(shape.k)
    return NativeKernel(name, (phase,), inputs=2, outputs=1, ulps=eps, keep=(library, parameters, offsets))


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _parameters(shape: _Shape, cut: _Cut, offsets: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    m, n, k, size = shape.m, shape.n, shape.k, shape.dtype.itemsize
    loop, data = _loop(shape.dtype) or (0, 0)
    a_m, a_k = (size, m * size) if shape.transpose_a else (k * size, size)
    b_k, b_n = (size, k * size) if shape.transpose_b else (n * size, size)
    length = (m, n)[cut.axis]
    values = {
        "loop": loop,
        "data": data,
        "offsets_a": offsets[0].ctypes.data,
        "offsets_b": offsets[1].ctypes.data,
        "matrix_out": m * n * size,
        "same": shape.transpose_a != shape.transpose_b and m == n,
        "blocks": max(1, length // cut.unit) if cut.unit else 1,
        "unit": cut.unit,
        "size": length,
        "step_a": 0 if cut.axis else a_m,
        "step_b": b_n if cut.axis else 0,
        "step_out": size if cut.axis else n * size,
        "column": cut.axis,
        "apart": cut.apart,
        "outer": 1,
        "m": m,
        "k": k,
        "n": n,
        "a_m": a_m,
        "a_k": a_k,
        "b_k": b_k,
        "b_n": b_n,
        "out_m": n * size,
        "out_n": size,
    }
    return np.array([values.get(name, 0) for name in _FIELDS], np.int64)
