"""Loops and one-element functions of our own, for what NumPy has no ufunc: copies, selections, casts, and arithmetic on
scalars.

The loops have the signature of NumPy's (`engine.native.ufuncs`).  A one-element function takes the addresses of its operands,
``void f(ptr a, ptr b, ptr out)``: calling it costs a few nanoseconds where a loop costs fifteen.  All give NumPy's
bits, but where C leaves a cast open (infinities, NaNs and what does not fit, from float to uint32 or uint64), and NumPy itself
answers in two ways, depending on strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import compiler
from engine.native.ufuncs import Loop, resolve
from engine.types.errors import OpError

__all__ = ["cast", "copy", "scalar", "scalar_cast", "scalar_copy", "select"]

DType = np.dtype[Any]

_WORDS = {1: "i8", 2: "i16", 4: "i32", 8: "i64", 16: "<2 x i64>"}  # what elements of so many bytes move as
_FLOATS = {"e": "half", "f": "float", "d": "double"}

_LOOP = """
define internal void @{name}.body({pointers}, i64 %n, {strides}) alwaysinline nounwind {{
entry:
  br label %test
test:
  %i = phi i64 [0, %entry], [%i.next, %element]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %element, label %done
element:
{addresses}
{body}
  %i.next = add nuw nsw i64 %i, 1
  br label %test
done:
  ret void
}}
define void @{name}(ptr %args, ptr %dimensions, ptr %steps, ptr %data) nounwind {{
  %n = load i64, ptr %dimensions
{loads}
{dense}
  br i1 %dense, label %plain, label %strided
plain:
  call void @{name}.body({given}, i64 %n, {constants})
  ret void
strided:
  call void @{name}.body({given}, i64 %n, {taken})
  ret void
}}
"""


def _loop_text(name: str, sizes: Sequence[int], body: str) -> str:
    """A loop in IR, once for dense operands (which LLVM vectorizes) and once for any; `body` reads and writes at %p0, %p1…"""
    every = range(len(sizes))
    loads, dense = [], ["  %d = and i1 true, true"]
    for k in every:
        loads += [
            f"  %a{k} = getelementptr ptr, ptr %args, i64 {k}",
            f"  %b{k} = load ptr, ptr %a{k}",
            f"  %t{k} = getelementptr i64, ptr %steps, i64 {k}",
            f"  %s{k} = load i64, ptr %t{k}",
        ]
        before = "%d" if k == 0 else f"%d{k - 1}"
        dense += [
            f"  %c{k} = icmp eq i64 %s{k}, {sizes[k]}",
            f"  {'%dense' if k == len(sizes) - 1 else f'%d{k}'} = and i1 {before}, %c{k}",
        ]
    addresses = [
        line
        for k in every
        for line in (f"  %o{k} = mul i64 %i, %s{k}", f"  %p{k} = getelementptr i8, ptr %b{k}, i64 %o{k}")
    ]
    return _LOOP.format(
        name=name,
        pointers=", ".join(f"ptr %b{k}" for k in every),
        strides=", ".join(f"i64 %s{k}" for k in every),
        addresses="\n".join(addresses),
        body=body,
        loads="\n".join(loads),
        dense="\n".join(dense),
        given=", ".join(f"ptr %b{k}" for k in every),
        constants=", ".join(f"i64 {size}" for size in sizes),
        taken=", ".join(f"i64 %s{k}" for k in every),
    )


def _function_text(name: str, nargs: int, body: str) -> str:
    pointers = ", ".join(f"ptr %p{k}" for k in range(nargs))
    return f"define void @{name}({pointers}) nounwind {{\n{body}\n  ret void\n}}\n"


# Copies and selections.


def _copy_body(size: int) -> str:
    word = _WORDS[size]
    return f"  %x = load {word}, ptr %p0, align 1\n  store {word} %x, ptr %p1, align 1"


def _select_body(size: int) -> str:
    word = _WORDS[size]
    return f"""  %c = load i8, ptr %p0
  %yes = icmp ne i8 %c, 0
  %x = load {word}, ptr %p1, align 1
  %y = load {word}, ptr %p2, align 1
  %z = select i1 %yes, {word} %x, {word} %y
  store {word} %z, ptr %p3, align 1"""


@cache
def _moves(name: str, size: int) -> Any:
    """The library of one loop; with a copy comes the function for one element."""
    if name == "select":
        return compiler.compile(_loop_text("select", (1, size, size, size), _select_body(size)))
    body = _copy_body(size)
    return compiler.compile(_loop_text("copy", (size, size), body) + _function_text("one", 2, body))


def copy(dtype: npt.DTypeLike) -> Loop | None:
    """The loop (source, target) that copies elements; None for elements that are not 1, 2, 4, 8 or 16 bytes of plain data."""
    return _move("copy", np.dtype(dtype), 1)


def select(dtype: npt.DTypeLike) -> Loop | None:
    """The loop (condition, x, y, out) of ``out = x if condition else y``, the condition a bool."""
    return _move("select", np.dtype(dtype), 3)


def _move(name: str, dtype: DType, nin: int) -> Loop | None:
    if dtype.itemsize not in _WORDS or dtype.hasobject:
        return None
    made = _moves(name, dtype.itemsize)
    dtypes = (np.dtype(bool),) * (nin > 1) + (dtype,) * (nin - (nin > 1) + 1)
    return Loop(name, made.address(name), 0, nin, 1, dtypes, made)


def scalar_copy(size: int) -> tuple[int, Any] | None:
    """The function (source, target) that copies one element of so many bytes, and what keeps it; None for other sizes."""
    return (_moves("copy", size).address("one"), _moves("copy", size)) if size in _WORDS else None


# Casts.


def _kind(dtype: DType) -> str:
    """An LLVM type for the values of a dtype."""
    return _FLOATS[dtype.char] if dtype.kind == "f" else f"i{8 * dtype.itemsize}"


def _cast_body(a: DType, b: DType) -> str | None:
    """The value %y of dtype b from the value %x of dtype a, as C casts."""
    old, new = _kind(a), _kind(b)
    if b.kind == "b":
        test = f"fcmp une {old} %x, 0.0" if a.kind == "f" else f"icmp ne {old} %x, 0"
        return f"  %t = {test}\n  %y = zext i1 %t to i8"
    if a.kind == "b":  # whatever is not 0 is 1
        turn = "uitofp" if b.kind == "f" else "zext"
        return f"  %t = icmp ne i8 %x, 0\n  %y = {turn} i1 %t to {new}"
    if a.kind != "f":
        if b.kind == "f":
            return f"  %y = {'uitofp' if a.kind == 'u' else 'sitofp'} {old} %x to {new}"
        if a.itemsize == b.itemsize:
            return f"  %y = bitcast {old} %x to {new}"
        turn = "trunc" if a.itemsize > b.itemsize else "zext" if a.kind == "u" else "sext"
        return f"  %y = {turn} {old} %x to {new}"
    if b.kind == "f":
        if a.itemsize == b.itemsize:
            return f"  %y = bitcast {old} %x to {new}"
        return f"  %y = {'fptrunc' if a.itemsize > b.itemsize else 'fpext'} {old} %x to {new}"
    if b.itemsize == 8:
        return f"  %y = {'fptoui' if b.kind == 'u' else 'fptosi'} {old} %x to i64"
    # C goes through int, or for unsigned int through long, and drops what does not fit.
    middle = "i64" if b.kind == "u" and b.itemsize == 4 else "i32"
    if middle == new:
        return f"  %y = fptosi {old} %x to {new}"
    return f"  %t = fptosi {old} %x to {middle}\n  %y = trunc {middle} %t to {new}"


@cache
def _casts(a: DType, b: DType) -> Any:
    """The library of a cast, or None: ``cast`` is the loop, ``one`` the function for one element."""
    known = "?bBhHiIlLqQfd"
    half = {a.char, b.char} & {"e"} and {a.char, b.char} <= {"e", "f"} and compiler.cpu().avx2
    if not half and (a.char not in known or b.char not in known or not (a.isnative and b.isnative)):
        return None
    middle = _cast_body(a, b)
    body = f"  %x = load {_kind(a)}, ptr %p0\n{middle}\n  store {_kind(b)} %y, ptr %p1"
    text = _loop_text("cast", (a.itemsize, b.itemsize), body) + _function_text("one", 2, body)
    try:
        return compiler.compile(text)
    except OpError:  # a processor without the instruction, and no function in its place
        return None


def cast(source: npt.DTypeLike, target: npt.DTypeLike) -> Loop | None:
    """The loop of ``astype``: bools, integers and floats among each other (float16 with float32 alone); None for others."""
    a, b = np.dtype(source), np.dtype(target)
    made = _casts(a, b)
    return None if made is None else Loop("cast", made.address("cast"), 0, 1, 1, (a, b), made)


def scalar_cast(source: npt.DTypeLike, target: npt.DTypeLike) -> tuple[int, Any] | None:
    """The function (source, target) that casts one element, and what keeps it; None where `cast` gives None."""
    made = _casts(np.dtype(source), np.dtype(target))
    return None if made is None else (made.address("one"), made)


# Arithmetic on one element.

_INTEGER = {
    "add": "add {t} %x, %y",
    "subtract": "sub {t} %x, %y",
    "multiply": "mul {t} %x, %y",
    "bitwise_and": "and {t} %x, %y",
    "bitwise_or": "or {t} %x, %y",
    "bitwise_xor": "xor {t} %x, %y",
    "maximum": "call {t} @llvm.{s}max.{t}({t} %x, {t} %y)",
    "minimum": "call {t} @llvm.{s}min.{t}({t} %x, {t} %y)",
    "negative": "sub {t} 0, %x",
    "invert": "xor {t} %x, -1",
    "square": "mul {t} %x, %x",
}
_FLOAT = {
    "add": "fadd {t} %x, %y",
    "subtract": "fsub {t} %x, %y",
    "multiply": "fmul {t} %x, %y",
    "divide": "fdiv {t} %x, %y",
    "negative": "fneg {t} %x",
    "square": "fmul {t} %x, %x",
    "reciprocal": "fdiv {t} 1.0, %x",
    "absolute": "call {t} @llvm.fabs.{m}({t} %x)",
    "sqrt": "call {t} @llvm.sqrt.{m}({t} %x)",
}
_BOOL = {
    "logical_and": "and {t} %x, %y",
    "logical_or": "or {t} %x, %y",
    "logical_xor": "xor {t} %x, %y",
    "bitwise_and": "and {t} %x, %y",
    "bitwise_or": "or {t} %x, %y",
    "equal": "icmp eq {t} %x, %y",
    "not_equal": "icmp ne {t} %x, %y",
    "logical_not": "xor {t} %x, true",
}
_COMPARE = {
    "less": ("lt", "olt"),
    "less_equal": ("le", "ole"),
    "greater": ("gt", "ogt"),
    "greater_equal": ("ge", "oge"),
    "equal": ("eq", "oeq"),
    "not_equal": ("ne", "une"),
}


def _arithmetic(char: str) -> dict[str, tuple[str, bool]]:
    """For a dtype: ufunc → (IR of the value %z, whether that is an i1)."""
    if char == "?":
        return {name: (text.format(t="i1"), True) for name, text in _BOOL.items()}
    dtype = np.dtype(char)
    kind, sign = _kind(dtype), dtype.kind
    if sign == "f":
        table = {name: text.format(t=kind, m=f"f{8 * dtype.itemsize}") for name, text in _FLOAT.items()}
        tests = {name: f"fcmp {test} {kind} %x, %y" for name, (_, test) in _COMPARE.items()}
    else:
        prefix = "s" if sign == "i" else "u"
        table = {name: text.format(t=kind, s=prefix) for name, text in _INTEGER.items()}
        tests = {
            name: f"icmp {test if test in ('eq', 'ne') else prefix + test} {kind} %x, %y"
            for name, (test, _) in _COMPARE.items()
        }
    return {name: (text, False) for name, text in table.items()} | {
        name: (text, True) for name, text in tests.items()
    }


@cache
def _scalars(char: str) -> tuple[Any, dict[str, bool]]:
    """The library of a dtype's functions, and which there are, with whether their result is a bool."""
    text, kind = [], "i8" if char == "?" else _kind(np.dtype(char))
    for name, (value, is_bool) in _arithmetic(char).items():
        binary = "%y" in value
        lines = []
        for register, k in (("x", 0), ("y", 1))[: 1 + binary]:
            if char == "?":
                lines.append(f"  %{register}8 = load i8, ptr %p{k}")
                lines.append(f"  %{register} = icmp ne i8 %{register}8, 0")
            else:
                lines.append(f"  %{register} = load {kind}, ptr %p{k}")
        lines.append(f"  %z = {value}")
        if is_bool:
            lines.append("  %z8 = zext i1 %z to i8")
        lines.append(f"  store {'i8 %z8' if is_bool else f'{kind} %z'}, ptr %p{1 + binary}")
        text.append(_function_text(name, 2 + binary, "\n".join(lines)))
    return compiler.compile("\n".join(text)), {
        name: is_bool for name, (_, is_bool) in _arithmetic(char).items()
    }


def scalar(ufunc: str | np.ufunc, dtypes: Sequence[npt.DTypeLike]) -> tuple[int, Any] | None:
    """The function of one element for these dtypes, inputs then output, and what keeps it; None where there is none."""
    resolved = resolve(ufunc)
    kinds = [np.dtype(each) for each in dtypes]
    if resolved is None or len(kinds) != resolved.nargs or resolved.nout != 1:
        return None
    first = kinds[0]
    if first.char not in "?bBhHiIlLqQfd" or not first.isnative or any(each != first for each in kinds[:-1]):
        return None
    made, names = _scalars(first.char)
    name = resolved.__name__
    if name not in names or kinds[-1] != (np.dtype(bool) if names[name] else first):
        return None
    return made.address(name), made
