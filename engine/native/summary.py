"""Kernels that look an array over: least, greatest and mean element, how many are NaN and how many infinite.

They give what `engine.runtime.health.measure` gives, to the bit: least, greatest and sum are found by NumPy's own inner loops,
called as its reductions call them (over all of it at once, or over what fits into a buffer where elements have to be converted).
`checked` says whether that is so with the NumPy that is there.

A kernel is ``void f(args, number, count)`` with the arguments elements (in C order), workspace, `loops`; the count of a scalar
is -1.  The workspace begins with a `RECORD` then, which has the number.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import compiler, ufuncs

__all__ = ["RECORD", "address", "checked", "look", "loops", "workspace"]

RECORD = np.dtype(
    [
        ("number", np.int64),
        ("minimum", np.float64),
        ("maximum", np.float64),
        ("mean", np.float64),
        ("nan", np.int64),
        ("inf", np.int64),
    ]
)
"""What a kernel finds; all of the numbers are NaN where nothing is finite."""

_CHARS = "?bBhHiIlLqQfd"
_BUFFER = 8192  # elements that NumPy converts at once
_RESULTS = 64  # bytes for the record
_LOW, _HIGH, _SUM = 64, 72, 80  # where in the workspace the loops leave what they find
_CONVERTED = 128  # where converted elements are
_FINITE = _CONVERTED + 8 * _BUFFER  # where those of an array are that has others, too


def workspace(dtype: np.dtype[Any], count: int) -> int:
    """Bytes of workspace for an array."""
    return _FINITE + (count * dtype.itemsize if dtype.kind == "f" else 0)


def _call(name: str, number: int, size: int) -> str:
    """``@name(acc, x, n, loops)``: the inner loop of that number reduces elements into a place."""
    return f"""
define internal void @{name}(ptr %acc, ptr %x, i64 %n, ptr %loops) nounwind {{
  %args = alloca [3 x ptr]
  %steps = alloca [3 x i64]
  %count = alloca i64
  store ptr %acc, ptr %args
  %a1 = getelementptr ptr, ptr %args, i64 1
  store ptr %x, ptr %a1
  %a2 = getelementptr ptr, ptr %args, i64 2
  store ptr %acc, ptr %a2
  store i64 0, ptr %steps
  %s1 = getelementptr i64, ptr %steps, i64 1
  store i64 {size}, ptr %s1
  %s2 = getelementptr i64, ptr %steps, i64 2
  store i64 0, ptr %s2
  store i64 %n, ptr %count
  %fp = getelementptr ptr, ptr %loops, i64 {2 * number}
  %f = load ptr, ptr %fp
  %dp = getelementptr ptr, ptr %loops, i64 {2 * number + 1}
  %d = load ptr, ptr %dp
  call void %f(ptr %args, ptr %count, ptr %steps, ptr %d)
  ret void
}}
"""


def _extremes(dtype: np.dtype[Any], convert: str) -> str:
    """``@extremes(x, n, work, loops)``: least and greatest element, as doubles, to _LOW and _HIGH."""
    kind, size = _llvm(dtype), dtype.itemsize
    if dtype.kind == "f":
        widened = (
            "%low = load double, ptr %lowp\n  %high = load double, ptr %highp"
            if size == 8
            else "%l = load float, ptr %lowp\n  %low = fpext float %l to double\n"
            "  %h = load float, ptr %highp\n  %high = fpext float %h to double"
        )
        return f"""
define internal void @extremes(ptr %x, i64 %n, ptr %work, ptr %loops) nounwind {{
  %lowp = getelementptr i8, ptr %work, i64 {_LOW}
  %highp = getelementptr i8, ptr %work, i64 {_HIGH}
  %first = load {kind}, ptr %x
  store {kind} %first, ptr %lowp
  store {kind} %first, ptr %highp
  %rest = sub i64 %n, 1
  %more = icmp sgt i64 %rest, 0
  br i1 %more, label %go, label %done
go:
  %x1 = getelementptr i8, ptr %x, i64 {size}
  call void @minimum(ptr %lowp, ptr %x1, i64 %rest, ptr %loops)
  call void @maximum(ptr %highp, ptr %x1, i64 %rest, ptr %loops)
  br label %done
done:
  {widened}
  store double %low, ptr %lowp
  store double %high, ptr %highp
  ret void
}}
"""
    less, more = ("slt", "sgt") if dtype.kind == "i" else ("ult", "ugt")
    return f"""
define internal void @extremes(ptr %x, i64 %n, ptr %work, ptr %loops) nounwind {{
entry:
  %lowp = getelementptr i8, ptr %work, i64 {_LOW}
  %highp = getelementptr i8, ptr %work, i64 {_HIGH}
  %first = load {kind}, ptr %x
  br label %head
head:
  %i = phi i64 [1, %entry], [%i1, %body]
  %low = phi {kind} [%first, %entry], [%low1, %body]
  %high = phi {kind} [%first, %entry], [%high1, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = getelementptr {kind}, ptr %x, i64 %i
  %v = load {kind}, ptr %at
  %isless = icmp {less} {kind} %v, %low
  %low1 = select i1 %isless, {kind} %v, {kind} %low
  %ismore = icmp {more} {kind} %v, %high
  %high1 = select i1 %ismore, {kind} %v, {kind} %high
  %i1 = add i64 %i, 1
  br label %head
done:
  %lowd = {convert} {kind} %low to double
  %highd = {convert} {kind} %high to double
  store double %lowd, ptr %lowp
  store double %highd, ptr %highp
  ret void
}}
"""


def _mean(dtype: np.dtype[Any], convert: str) -> str:
    """``@mean(x, n, work, loops)``: the sum of all elements as doubles, by how many they are."""
    kind, size = _llvm(dtype), dtype.itemsize
    zero = np.add.reduce(
        np.full(1, -0.0)
    ).hex()  # what NumPy's sums begin with is seen from what it makes of this
    start = "-0.0" if zero.startswith("-") else "0.0"
    head = f"""
define internal double @mean(ptr %x, i64 %n, ptr %work, ptr %loops) nounwind {{
entry:
  %sum = getelementptr i8, ptr %work, i64 {_SUM}
  store double {start}, ptr %sum
"""
    tail = """
over:
  %total = load double, ptr %sum
  %count = sitofp i64 %n to double
  %mean = fdiv double %total, %count
  ret double %mean
}
"""
    if dtype.char == "d":
        return f"{head}  call void @add(ptr %sum, ptr %x, i64 %n, ptr %loops)\n  br label %over\n{tail}"
    return f"""{head}
  %buffer = getelementptr i8, ptr %work, i64 {_CONVERTED}
  br label %chunk
chunk:
  %from = phi i64 [0, %entry], [%next, %added]
  %rest = sub i64 %n, %from
  %some = icmp sgt i64 %rest, 0
  br i1 %some, label %fits, label %over
fits:
  %short = icmp slt i64 %rest, {_BUFFER}
  %k = select i1 %short, i64 %rest, i64 {_BUFFER}
  %offset = mul i64 %from, {size}
  %part = getelementptr i8, ptr %x, i64 %offset
  br label %convert
convert:
  %i = phi i64 [0, %fits], [%i1, %one]
  %left = icmp slt i64 %i, %k
  br i1 %left, label %one, label %full
one:
  %at = getelementptr {kind}, ptr %part, i64 %i
  %v = load {kind}, ptr %at
  %d = {convert} {kind} %v to double
  %to = getelementptr double, ptr %buffer, i64 %i
  store double %d, ptr %to
  %i1 = add i64 %i, 1
  br label %convert
full:
  call void @add(ptr %sum, ptr %buffer, i64 %k, ptr %loops)
  br label %added
added:
  %next = add i64 %from, {_BUFFER}
  br label %chunk
{tail}"""


def _others(dtype: np.dtype[Any]) -> str:
    """``@others(x, n, work)``: the finite elements one behind the other, and how many of the others there are; gives how many
    are finite."""
    kind = _llvm(dtype)
    return f"""
define internal i64 @others(ptr %x, i64 %n, ptr %work) nounwind {{
entry:
  %finite = getelementptr i8, ptr %work, i64 {_FINITE}
  br label %head
head:
  %i = phi i64 [0, %entry], [%i1, %body]
  %m = phi i64 [0, %entry], [%m1, %body]
  %nan = phi i64 [0, %entry], [%nan1, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = getelementptr {kind}, ptr %x, i64 %i
  %v = load {kind}, ptr %at
  %to = getelementptr {kind}, ptr %finite, i64 %m
  store {kind} %v, ptr %to
  %difference = fsub {kind} %v, %v
  %isfinite = fcmp ord {kind} %difference, %difference
  %isnan = fcmp uno {kind} %v, %v
  %one = zext i1 %isfinite to i64
  %m1 = add i64 %m, %one
  %two = zext i1 %isnan to i64
  %nan1 = add i64 %nan, %two
  %i1 = add i64 %i, 1
  br label %head
done:
  %nanp = getelementptr i8, ptr %work, i64 32
  store i64 %nan, ptr %nanp
  %known = add i64 %m, %nan
  %inf = sub i64 %n, %known
  %infp = getelementptr i8, ptr %work, i64 40
  store i64 %inf, ptr %infp
  ret i64 %m
}}
"""


def _llvm(dtype: np.dtype[Any]) -> str:
    return {"f": "float", "d": "double"}.get(dtype.char, f"i{8 * dtype.itemsize}")


_NAN = "0x7FF8000000000000"


def _finite_or_not(dtype: np.dtype[Any]) -> tuple[str, str]:
    """What follows the first look at least and greatest element, and the ways that the mean comes: only floats may be others
    than finite, and least and greatest carry a NaN."""
    if dtype.kind != "f":
        return "  br label %all", ""
    return (
        f"""
  %d1 = fsub double %low, %low
  %d2 = fsub double %high, %high
  %d = fadd double %d1, %d2
  %fine = fcmp ord double %d, %d
  br i1 %fine, label %all, label %some
some:
  %m = call i64 @others(ptr %x, i64 %n, ptr %work)
  %any = icmp sgt i64 %m, 0
  br i1 %any, label %part, label %none
part:
  %finite = getelementptr i8, ptr %work, i64 {_FINITE}
  call void @extremes(ptr %finite, i64 %m, ptr %work, ptr %loops)
  %mean3 = call double @mean(ptr %finite, i64 %m, ptr %work, ptr %loops)
  br label %out
none:
  store double {_NAN}, ptr %lowp
  store double {_NAN}, ptr %highp
  br label %out""",
        f", [%mean3, %part], [{_NAN}, %none]",
    )


def _source(char: str) -> str:
    dtype = np.dtype(char)
    convert = {"f": "fpext", "i": "sitofp"}.get(dtype.kind, "uitofp")
    parts = [_call("add", 0, 8)]
    if dtype.kind == "f":
        parts += [_call(name, i, dtype.itemsize) for i, name in enumerate(("minimum", "maximum"), 1)]
        parts.append(_others(dtype))
    parts += [_extremes(dtype, convert), _mean(dtype, convert)]
    check, means = _finite_or_not(dtype)
    parts.append(f"""
define void @look(ptr %args, i64 %number, i64 %given) nounwind {{
entry:
  %scalar = icmp slt i64 %given, 0
  %n = select i1 %scalar, i64 1, i64 %given
  %x = load ptr, ptr %args
  %workp = getelementptr ptr, ptr %args, i64 1
  %work = load ptr, ptr %workp
  %loopsp = getelementptr ptr, ptr %args, i64 2
  %loops = load ptr, ptr %loopsp
  %lowp = getelementptr i8, ptr %work, i64 {_LOW}
  %highp = getelementptr i8, ptr %work, i64 {_HIGH}
  store i64 %number, ptr %work
  %nanp = getelementptr i8, ptr %work, i64 32
  store i64 0, ptr %nanp
  %infp = getelementptr i8, ptr %work, i64 40
  store i64 0, ptr %infp
  call void @extremes(ptr %x, i64 %n, ptr %work, ptr %loops)
  %low = load double, ptr %lowp
  %high = load double, ptr %highp
{check}
all:
  br i1 %scalar, label %out, label %many
many:
  %mean2 = call double @mean(ptr %x, i64 %n, ptr %work, ptr %loops)
  br label %out
out:
  %mean = phi double [%low, %all], [%mean2, %many]{means}
  %lowest = load double, ptr %lowp
  %highest = load double, ptr %highp
  %p1 = getelementptr i8, ptr %work, i64 8
  store double %lowest, ptr %p1
  %p2 = getelementptr i8, ptr %work, i64 16
  store double %highest, ptr %p2
  %p3 = getelementptr i8, ptr %work, i64 24
  store double %mean, ptr %p3
  ret void
}}
""")
    return "\n".join(parts)


@lru_cache(maxsize=len(_CHARS))
def _library(char: str) -> Any:
    return compiler.compile(_source(char))


def address(dtype: np.dtype[Any]) -> tuple[int, Any]:
    """Where the kernel is, and what owns its code."""
    library = _library(dtype.char)
    return library.address("look"), library


def loops(dtype: np.dtype[Any]) -> npt.NDArray[np.int64] | None:
    """Addresses of the inner loops that the kernel calls, each with that of its data; None if one is not offered."""
    wanted = [("add", "d")]
    wanted += [(name, dtype.char if dtype.kind == "f" else "d") for name in ("minimum", "maximum")]
    found: list[int] = []
    for name, char in wanted:
        loop = ufuncs.find(name, (np.dtype(char),) * 3)
        if loop is None:
            return None
        found += [loop.address, loop.data]
    return np.array(found, np.int64)


def look(array: npt.NDArray[Any]) -> np.void:
    """The record of an array in C order that has elements, of a dtype that is `checked`."""
    work = np.empty(workspace(array.dtype, array.size), np.uint8)
    table = loops(array.dtype)
    assert table is not None
    pointers = np.array([array.ctypes.data, work.ctypes.data, table.ctypes.data], np.int64)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        address(array.dtype)[0]
    )
    function(pointers.ctypes.data, 0, array.size if array.ndim else -1)
    record: np.void = work[: RECORD.itemsize].view(RECORD)[0]
    return record


@lru_cache(maxsize=128)
def checked(dtype: np.dtype[Any]) -> bool:
    """Whether there is a kernel for arrays of a dtype, and it finds the mean that NumPy finds."""
    if dtype.char not in _CHARS or not dtype.isnative or not compiler.available() or loops(dtype) is None:
        return False
    random = np.random.Generator(np.random.PCG64(1))
    for count in (1, 7, 129, 1000, _BUFFER - 1, 2 * _BUFFER + 3):
        array = (random.normal(size=count) * 50).astype(dtype)
        found = look(array)
        mean = float(np.add.reduce(array, axis=None, dtype=np.float64)) / count
        known = (float(array.min()), float(array.max()), mean)
        if tuple(float(found[name]) for name in ("minimum", "maximum", "mean")) != known:
            return False
    return True
