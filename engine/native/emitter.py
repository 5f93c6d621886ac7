"""LLVM IR as text: the handful of instructions and loops that convolution and pooling are made of.

A `Function` is written from its beginning to its end.  Values are Python ints (64-bit constants, folded on the way) or the names
of registers.  Loops carry values as LLVM does (phi), so that accumulators are registers from the start, and take their bodies as
Python functions.  Nothing assumes more than byte alignment.
"""

from __future__ import annotations

import platform
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from engine.native import compiler
from engine.native.compiler import Library

Value = int | str
Body = Callable[[Value, list[str]], Sequence[str]]

_FOLDED: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "udiv": lambda a, b: a // b,
    "urem": lambda a, b: a % b,
    "and": lambda a, b: a & b,
}
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "udiv": 1}
_COMPARED: dict[str, Callable[[int, int], bool]] = {
    "slt": lambda a, b: a < b,
    "sge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What tiles are cut for: the bytes of a vector register, and how many of them there are."""

    vector_bytes: int
    registers: int

    def lanes(self, element: Element) -> int:
        return self.vector_bytes // element.size


def this_machine() -> Machine:
    """The processor that `compiler.compile` makes code for."""
    cpu = compiler.cpu()
    few = platform.machine().lower() in ("x86_64", "amd64", "i686") and not cpu.avx512f
    return Machine(cpu.vector_bytes, 16 if few else 32)


@dataclass(frozen=True, slots=True)
class Element:
    """A floating-point type: LLVM's name for it, its bytes, and the suffix of intrinsics."""

    name: str
    size: int
    suffix: str

    def vector(self, lanes: int) -> str:
        return f"<{lanes} x {self.name}>"

    def constant(self, value: float) -> str:
        """A number, or an infinity, as LLVM writes it: the bits of the double it is."""
        rounded = struct.unpack("<f", struct.pack("<f", value))[0] if self.size == 4 else value
        return "0x" + struct.pack(">d", rounded).hex().upper()


_ELEMENTS = {
    np.dtype(np.float32): Element("float", 4, "f32"),
    np.dtype(np.float64): Element("double", 8, "f64"),
}


def element_of(dtype: object) -> Element | None:
    """The type for a NumPy dtype; None for all but float32 and float64."""
    return _ELEMENTS.get(np.dtype(dtype))  # type: ignore[call-overload]


class Function:
    """One function ``void name(ptr args, i64 begin, i64 end)``, written instruction by instruction.

    arguments: how many pointers `args` has; `self.args` are their registers.
    """

    def __init__(self, name: str, arguments: int) -> None:
        self.name = name
        self._lines: list[str] = []
        self._count = 0
        self._loops = 0
        self._tables: list[str] = []
        self._block = "entry"
        self.args = [self.op(f"load ptr, ptr {self.at('%args', 8 * i)}, align 8") for i in range(arguments)]

    def text(self) -> str:
        """The definition; `module` replaces ``!loop7`` by the number of a node of its own."""
        head = f"define void @{self.name}(ptr %args, i64 %begin, i64 %end) #0 {{\nentry:\n"
        return "".join(self._tables) + head + "\n".join(self._lines) + "\nret void\n}\n"

    # One instruction.

    def line(self, text: str) -> None:
        self._lines.append(text)

    def op(self, text: str) -> str:
        """An instruction with a result; returns its register."""
        name = self._name("v")
        self._lines.append(f"{name} = {text}")
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"%{kind}{self._count}"

    def index(self, operation: str, a: Value, b: Value) -> Value:
        """add, sub, mul, udiv, urem or and of two 64-bit integers."""
        if isinstance(a, int) and isinstance(b, int):
            return _FOLDED[operation](a, b)
        if b == _NEUTRAL.get(operation):
            return a
        if operation in ("add", "mul") and a == _NEUTRAL[operation]:
            return b
        if operation == "mul" and 0 in (a, b):
            return 0
        flag = "nsw " if operation in ("add", "sub", "mul") else ""
        return self.op(f"{operation} {flag}i64 {a}, {b}")

    def smaller(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.op(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def larger(self, a: Value, b: Value) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.op(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def compare(self, relation: str, a: Value, b: Value) -> str:
        """slt, sge or eq: "true", "false", or a register that says which."""
        if isinstance(a, int) and isinstance(b, int):
            return "true" if _COMPARED[relation](a, b) else "false"
        return self.op(f"icmp {relation} i64 {a}, {b}")

    def both(self, a: str, b: str) -> str:
        if "false" in (a, b):
            return "false"
        if a == "true":
            return b
        return a if b == "true" else self.op(f"and i1 {a}, {b}")

    def at(self, pointer: str, offset: Value) -> str:
        """`pointer` moved by `offset` bytes."""
        if offset == 0:
            return pointer
        return self.op(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def aligned(self, pointer: str) -> str:
        """The first address from `pointer` on that begins a cache line: scratch buffers have `SLACK` bytes for it."""
        number = self.op(f"ptrtoint ptr {pointer} to i64")
        missing = self.index("and", self.index("sub", 0, number), SLACK - 1)
        return self.at(pointer, missing)

    def table(self, rows: Sequence[tuple[Value, ...]]) -> Callable[[Value], list[Value]]:
        """A function that writes the code for reading a row, given its index; what is the same in all rows is not read."""
        columns = list(zip(*rows, strict=True))
        varying = [c for c, values in enumerate(columns) if len(set(values)) > 1]
        name = f"@{self.name}_table{len(self._tables)}"
        if varying:
            numbers = ", ".join(f"i64 {row[c]}" for row in rows for c in varying)
            count = len(rows) * len(varying)
            self._tables.append(f"{name} = internal constant [{count} x i64] [{numbers}], align 8\n")

        def read(row: Value) -> list[Value]:
            if isinstance(row, int):
                return list(rows[row])
            found: list[Value] = [values[0] for values in columns]
            if varying:
                at = self.at(name, self.index("mul", row, 8 * len(varying)))
                for place, c in enumerate(varying):
                    found[c] = self.load("i64", self.at(at, 8 * place))
            return found

        return read

    def room(self, count: int) -> str:
        """`count` bytes of the stack, a cache line's beginning."""
        name = self._name("room")
        self._lines.insert(0, f"{name} = alloca [{count} x i8], align {SLACK}")
        return name

    def load(self, kind: str, pointer: str) -> str:
        return self.op(f"load {kind}, ptr {pointer}, align 1")

    def store(self, kind: str, value: str, pointer: str) -> None:
        self.line(f"store {kind} {value}, ptr {pointer}, align 1")

    def copy(self, to: str, source: str, count: Value) -> None:
        if count != 0:
            self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {to}, ptr {source}, i64 {count}, i1 false)")

    def clear(self, to: str, count: Value) -> None:
        if count != 0:
            self.line(f"call void @llvm.memset.p0.i64(ptr {to}, i8 0, i64 {count}, i1 false)")

    def splat(self, element: Element, lanes: int, scalar: str) -> str:
        """A vector that has `scalar` (a register or constant) everywhere."""
        kind = element.vector(lanes)
        first = self.op(f"insertelement {kind} poison, {element.name} {scalar}, i64 0")
        return self.op(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def resized(self, element: Element, vector: str, lanes: int, wanted: int) -> str:
        """The first `wanted` lanes of a vector; zero in those past its end."""
        if lanes == wanted:
            return vector
        kind = element.vector(lanes)
        mask = ", ".join(f"i32 {min(i, lanes)}" for i in range(wanted))
        return self.op(f"shufflevector {kind} {vector}, {kind} zeroinitializer, <{wanted} x i32> <{mask}>")

    def upper_half(self, element: Element, vector: str, lanes: int) -> str:
        """The last lanes // 2 lanes of a vector."""
        kind = element.vector(lanes)
        mask = ", ".join(f"i32 {i}" for i in range(lanes // 2, lanes))
        return self.op(f"shufflevector {kind} {vector}, {kind} poison, <{lanes // 2} x i32> <{mask}>")

    def multiply_add(self, kind: str, a: str, b: str, total: str) -> str:
        """total + a * b, rounded once where the machine has an instruction for it."""
        product = self.op(f"fmul contract {kind} {a}, {b}")
        return self.op(f"fadd contract {kind} {product}, {total}")

    def select(self, kind: str, mask_kind: str, mask: str, a: str, b: str) -> str:
        return self.op(f"select {mask_kind} {mask}, {kind} {a}, {kind} {b}")

    # Control flow.

    def _begin(self, block: str) -> None:
        self._block = block[1:]
        self.line(f"{self._block}:")

    def loop(
        self,
        begin: Value,
        end: Value,
        body: Body,
        carried: Sequence[tuple[str, str]] = (),
        step: int = 1,
    ) -> list[str]:
        """``for i in range(begin, end, step)``; the values of `carried` (type, first value) after the last turn.

        `body` is given the index and the carried values, and returns their next ones.  Loops of no turn or one are no loops.
        """
        values = [value for _, value in carried]
        kinds = [kind for kind, _ in carried]
        known = isinstance(begin, int) and isinstance(end, int)
        if isinstance(begin, int) and isinstance(end, int):
            turns = len(range(begin, end, step))
            if turns <= 1:
                return list(body(begin, values)) if turns else values
        start, into = self._block, self._name("loop")
        done = self._name("done")
        if known:
            self.line(f"br label {into}")
        else:
            self.line(f"br i1 {self.compare('slt', begin, end)}, label {into}, label {done}")
        self._begin(into)
        index = self._name("i")
        phis = [self._name("c") for _ in carried]
        place = len(self._lines)
        result = list(body(index, phis))
        after = self.op(f"add nsw i64 {index}, {step}")
        latch = self._block
        heads = [f"{index} = phi i64 [ {begin}, %{start} ], [ {after}, %{latch} ]"]
        heads += [
            f"{phi} = phi {kind} [ {first}, %{start} ], [ {next_}, %{latch} ]"
            for phi, kind, first, next_ in zip(phis, kinds, values, result, strict=True)
        ]
        self._lines[place:place] = heads
        again = self.op(f"icmp slt i64 {after}, {end}")
        self.line(f"br i1 {again}, label {into}, label {done}, !llvm.loop !loop{self._loops}")
        self._loops += 1
        self._begin(done)
        if known:
            return result
        return [
            self.op(f"phi {kind} [ {first}, %{start} ], [ {last}, %{latch} ]")
            for kind, first, last in zip(kinds, values, result, strict=True)
        ]

    def branch(
        self,
        condition: str,
        then: Callable[[], Sequence[str]],
        otherwise: Callable[[], Sequence[str]] = tuple,
        kinds: Sequence[str] = (),
    ) -> list[str]:
        """What `then` or `otherwise` return, values of these types."""
        if condition in ("true", "false"):
            return list(then() if condition == "true" else otherwise())
        yes, no, end = self._name("then"), self._name("else"), self._name("end")
        self.line(f"br i1 {condition}, label {yes}, label {no}")
        found = []
        for block, make in ((yes, then), (no, otherwise)):
            self._begin(block)
            values = list(make())
            found.append((values, self._block))
            self.line(f"br label {end}")
        self._begin(end)
        (first, first_block), (second, second_block) = found
        return [
            self.op(f"phi {kind} [ {a}, %{first_block} ], [ {b}, %{second_block} ]")
            for kind, a, b in zip(kinds, first, second, strict=True)
        ]


SLACK = 64  # bytes of a cache line

# Vectors are as wide as this module makes them: LLVM would halve those of AVX-512 on processors that get warm from them.  Loops
# are unrolled here where that pays, so LLVM need not think about it.
_TAIL = """
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
attributes #0 = { nounwind "min-legal-vector-width"="512" "prefer-vector-width"="512" }
!0 = !{!"llvm.loop.unroll.disable"}
!1 = !{!"llvm.loop.vectorize.enable", i1 false}
"""
_LOOP = re.compile(r"!loop\d+")


def module(functions: Sequence[Function]) -> str:
    """The functions as one text for `compiler.compile`."""
    numbers = count(2)
    nodes: list[str] = []

    def node(_: re.Match[str]) -> str:
        name = f"!{next(numbers)}"
        nodes.append(f"{name} = distinct !{{{name}, !0, !1}}")
        return name

    text = _LOOP.sub(node, "\n".join(function.text() for function in functions))
    return text + _TAIL + "\n".join(nodes) + "\n"


def build(functions: Sequence[Function]) -> Library:
    return compiler.compile(module(functions), 2, passes=False)


def balanced(total: int, largest: int) -> list[tuple[int, int, int]]:
    """`total` things in as few parts of at most `largest` as there can be, sizes at most 1 apart: (first, parts, size) runs."""
    parts = -(-total // largest)
    size = -(-total // parts)
    big = total - parts * (size - 1)
    runs = [(0, big, size)]
    if big < parts:
        runs.append((big * size, parts - big, size - 1))
    return runs
