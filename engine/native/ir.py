"""LLVM IR written as arithmetic: values with operators, in functions, in a module.

A `Value` is a register or a constant of one element type, in as many lanes as the function works on; ``a * b + 1.0`` writes the
instructions.  Nothing is reordered and nothing contracted: only `Function.fma` may round once instead of twice.  Vectors are
read and written at any alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.native import compiler
from engine.native.values import FLOATS, Number, Value, full_type, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}  # in the names of intrinsics


class Module:
    """Functions, what they declare, and helpers that are written once however often they are asked for."""

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self._declared: dict[str, None] = {}
        self._helpers: dict[str, Function] = {}

    def declare(self, text: str) -> None:
        self._declared[text] = None

    def helper(self, name: str, write: Callable[[], Function]) -> Function:
        """The internal function of that name, written by `write` when it is first asked for."""
        found = self._helpers.get(name)
        if found is None:
            found = self._helpers[name] = write()
        return found

    def __str__(self) -> str:
        wide = 8 * compiler.cpu().vector_bytes
        attributes = 'nounwind "no-trapping-math"="true"'
        if wide == 512:
            attributes += ' "prefer-vector-width"="512" "min-legal-vector-width"="512"'
        return "\n".join([*self._declared, *map(str, self.functions), f"attributes #0 = {{ {attributes} }}"])


class Function:
    """A function being written; `lanes` is how many elements its vector values have."""

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: Sequence[tuple[str, int]],
        result: tuple[str, int] | None = None,
        *,
        lanes: int,
        internal: bool = True,
        inline: bool = False,
    ) -> None:
        """parameters and result: element type and lanes, 0 for scalars."""
        self.module = module
        self.name = name
        self.lanes = lanes
        self.result = result
        self.parameters = [Value(self, f"%a{i}", type, lanes) for i, (type, lanes) in enumerate(parameters)]
        self.internal = internal
        self.inline = inline
        self._head: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self.block = "entry"
        module.functions.append(self)

    def __str__(self) -> str:
        parameters = ", ".join(str(each) for each in self.parameters)
        result = "void" if self.result is None else full_type(*self.result)
        kind = ("internal fastcc " if self.internal else "") + result
        hint = "alwaysinline " if self.inline else "noinline " if self.internal else ""
        body = "\n".join([*self._head, *self._lines])
        return f"define {kind} @{self.name}({parameters}) {hint}#0 {{\nentry:\n{body}\n}}"

    # Writing.

    def line(self, text: str) -> None:
        self._lines.append("  " + text)

    def emit(self, text: str, type: str, lanes: int) -> Value:
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {text}")
        return Value(self, name, type, lanes)

    def label(self, hint: str) -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def start(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self.block = label

    def constant(self, type: str, number: Number, lanes: int | None = None) -> Value:
        lanes = self.lanes if lanes is None else lanes
        text = literal(type, number)
        if lanes:
            text = "<" + ", ".join([f"{type} {text}"] * lanes) + ">"
        return Value(self, text, type, lanes)

    def like(self, value: Value, number: Number) -> Value:
        return self.constant(value.type, number, value.lanes)

    def ret(self, value: Value | None = None) -> None:
        self.line("ret void" if value is None else f"ret {value}")

    # Memory.

    def address(self, pointer: Value, index: Value | int, type: str) -> Value:
        if index == 0:
            return pointer
        size = "i8" if type == "i1" else type
        which = f"i64 {index}" if isinstance(index, int) else str(index)
        return self.emit(f"getelementptr {size}, {pointer}, {which}", "ptr", 0)

    def load(self, pointer: Value, type: str, lanes: int | None = None) -> Value:
        """Elements at `pointer`; booleans are bytes there and i1 here."""
        lanes = self.lanes if lanes is None else lanes
        stored = "i8" if type == "i1" else type
        found = self.emit(f"load {full_type(stored, lanes)}, {pointer}, align 1", stored, lanes)
        return found.differs(0) if type == "i1" else found

    def store(self, value: Value, pointer: Value) -> None:
        if value.type == "i1":
            value = self.convert("zext", value, "i8")
        self.line(f"store {value}, {pointer}, align 1")

    def load_part(self, pointer: Value, type: str, count: int, fill: Number) -> Value:
        """The first `count` lanes from memory, which is read no further, the others `fill`."""
        part = self.load(pointer, type, count)
        order = ", ".join(f"i32 {min(i, count - 1)}" for i in range(self.lanes))
        wide = self.emit(
            f"shufflevector {part}, {part.full_type} poison, <{self.lanes} x i32> <{order}>", type, self.lanes
        )
        inside = ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(self.lanes))
        return self.select(Value(self, f"<{inside}>", "i1", self.lanes), wide, self.constant(type, fill))

    def store_part(self, value: Value, pointer: Value, count: int) -> None:
        """Store the first `count` lanes."""
        self.store(self.shuffle(value, range(count)), pointer)

    def stack(self, size: int) -> Value:
        """`size` bytes of this call's own."""
        self._count += 1
        name = f"%s{self._count}"
        self._head.append(f"  {name} = alloca [{size} x i8], align 64")
        return Value(self, name, "ptr", 0)

    def copy(self, to: Value, source: Value, size: Value) -> None:
        self.module.declare("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.line(f"call void @llvm.memcpy.p0.p0.i64({to}, {source}, {size}, i1 false)")

    def zero(self, to: Value, size: int) -> None:
        self.module.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        self.line(f"call void @llvm.memset.p0.i64({to}, i8 0, i64 {size}, i1 false)")

    # Operations.

    def convert(self, operation: str, value: Value, type: str) -> Value:
        """operation: bitcast, sext, zext, trunc, sitofp, uitofp, fptosi, fpext, fptrunc."""
        return self.emit(f"{operation} {value} to {full_type(type, value.lanes)}", type, value.lanes)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        return self.emit(f"select {condition}, {yes}, {no}", yes.type, yes.lanes)

    def spread(self, value: Value) -> Value:
        """A scalar in every lane."""
        if not self.lanes:
            return value
        full = full_type(value.type, self.lanes)
        one = self.emit(f"insertelement {full} poison, {value}, i64 0", value.type, self.lanes)
        return self.emit(
            f"shufflevector {one}, {full} poison, <{self.lanes} x i32> zeroinitializer",
            value.type,
            self.lanes,
        )

    def lane(self, value: Value, index: int | Value) -> Value:
        which = f"i64 {index}" if isinstance(index, int) else str(index)
        return self.emit(f"extractelement {value}, {which}", value.type, 0)

    def insert(self, value: Value, index: int, element: Value) -> Value:
        return self.emit(f"insertelement {value}, {element}, i64 {index}", value.type, value.lanes)

    def shuffle(self, value: Value, order: Sequence[int]) -> Value:
        """The lanes numbered in `order`."""
        mask = ", ".join(f"i32 {i}" for i in order)
        return self.emit(
            f"shufflevector {value}, {value.full_type} poison, <{len(order)} x i32> <{mask}>",
            value.type,
            len(order),
        )

    def intrinsic(self, name: str, *operands: Value, extra: str = "") -> Value:
        """A call of ``llvm.name.type``, whose result has the type of its first operand."""
        first = operands[0]
        short = _NAMES.get(first.type, first.type)
        symbol = f"@llvm.{name}.{f'v{first.lanes}' if first.lanes else ''}{short}"
        types = ", ".join(each.full_type for each in operands) + (", i1" if extra else "")
        self.module.declare(f"declare {first.full_type} {symbol}({types})")
        given = ", ".join(map(str, operands)) + (f", {extra}" if extra else "")
        return self.emit(f"call {first.full_type} {symbol}({given})", first.type, first.lanes)

    def fma(self, a: Value, b: Value | float, c: Value | float) -> Value:
        """a·b + c, rounded once where the processor can."""
        b = b if isinstance(b, Value) else self.like(a, b)
        c = c if isinstance(c, Value) else self.like(a, c)
        return self.intrinsic("fmuladd", a, b, c)

    def abs(self, value: Value) -> Value:
        return self.intrinsic("fabs", value)

    def sqrt(self, value: Value) -> Value:
        return self.intrinsic("sqrt", value)

    def rint(self, value: Value) -> Value:
        return self.intrinsic("rint", value)

    def copysign(self, size: Value, sign: Value) -> Value:
        return self.intrinsic("copysign", size, sign)

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """c₀ + c₁x + c₂x² + …, in two chains of every other power, so that neither waits long for the other."""
        if len(coefficients) < 5:
            return self.horner(x, coefficients)
        square = x * x
        even = self.horner(square, coefficients[0::2])
        odd = self.horner(square, coefficients[1::2])
        return self.fma(odd, x, even)

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        result = self.like(x, coefficients[-1])
        for each in reversed(coefficients[:-1]):
            result = self.fma(result, x, each)
        return result

    def maximum(self, x: Value, y: Value, *, unsigned: bool = False) -> Value:
        """NumPy's: the first NaN, else the larger one; y where both are zero."""
        larger = self.select(x.compare(">", y, unsigned=unsigned), x, y)
        return self.select(x.differs(x), x, larger) if x.type in FLOATS else larger

    def minimum(self, x: Value, y: Value, *, unsigned: bool = False) -> Value:
        smaller = self.select(x.compare("<", y, unsigned=unsigned), x, y)
        return self.select(x.differs(x), x, smaller) if x.type in FLOATS else smaller

    def call(self, function: Function, *operands: Value) -> Value:
        """A call of a function of this module that gives a value."""
        assert function.result is not None
        given = ", ".join(map(str, operands))
        kind = "fastcc " if function.internal else ""
        return self.emit(
            f"call {kind}{full_type(*function.result)} @{function.name}({given})", *function.result
        )

    def do(self, function: Function, *operands: Value) -> None:
        """A call of a function of this module that gives none."""
        kind = "fastcc " if function.internal else ""
        self.line(f"call {kind}void @{function.name}({', '.join(map(str, operands))})")

    # Control.

    def loop(
        self,
        begin: Value | int,
        end: Value | int,
        step: int = 1,
        carried: Sequence[Value] = (),
        body: Callable[[Value, list[Value]], Sequence[Value]] = lambda i, carried: carried,
    ) -> list[Value]:
        """``for i in range(begin, end, step)``: `body` is given i and the carried values and returns the next ones."""
        start = begin if isinstance(begin, Value) else self.constant("i64", begin, 0)
        stop = end if isinstance(end, Value) else self.constant("i64", end, 0)
        before, inside, after = self.block, self.label("loop"), self.label("after")
        first = self.emit(f"icmp slt {start}, {stop.text}", "i1", 0)
        self.line(f"br {first}, label %{inside}, label %{after}")
        self.start(inside)
        at = len(self._lines)
        names = [self.label("%p") for _ in range(len(carried) + 1)]
        index = Value(self, names[0], "i64", 0)
        values = [Value(self, name, each.type, each.lanes) for name, each in zip(names[1:], carried)]
        results = body(index, values)
        following = index + step
        more = self.emit(f"icmp slt {following}, {stop.text}", "i1", 0)
        last = self.block
        self.line(f"br {more}, label %{inside}, label %{after}")
        phis = [f"  {index.text} = phi i64 [ {start.text}, %{before} ], [ {following.text}, %{last} ]"]
        for value, old, new in zip(values, carried, results):
            phis.append(
                f"  {value.text} = phi {value.full_type} [ {old.text}, %{before} ], [ {new.text}, %{last} ]"
            )
        self._lines[at:at] = phis
        self.start(after)
        return [
            self.emit(
                f"phi {old.full_type} [ {old.text}, %{before} ], [ {new.text}, %{last} ]", old.type, old.lanes
            )
            for old, new in zip(carried, results)
        ]

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """Write what `body` writes for a true (scalar) condition only."""
        inside, after = self.label("then"), self.label("after")
        self.line(f"br {condition}, label %{inside}, label %{after}")
        self.start(inside)
        body()
        self.line(f"br label %{after}")
        self.start(after)

    def any(self, condition: Value) -> Value:
        """Whether any lane of an i1 vector is true."""
        return self._folded("or", condition)

    def _folded(self, operation: str, value: Value) -> Value:
        symbol = f"@llvm.vector.reduce.{operation}.v{value.lanes}{value.type}"
        self.module.declare(f"declare {value.type} {symbol}({value.full_type})")
        return self.emit(f"call {value.type} {symbol}({value})", value.type, 0)

    def fold(self, value: Value, by: Callable[[Value, Value], Value]) -> Value:
        """All lanes as one, by halves: (a₀∘a₄)∘(a₂∘a₆) …"""
        lanes = value.lanes
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(value, range(lanes))
            value = by(low, self.shuffle(value, range(lanes, 2 * lanes)))
        return self.lane(value, 0)


def entry(module: Module, name: str, *, lanes: int) -> tuple[Function, Value, Value, Value]:
    """A function that others call, ``void f(ptr args, i64 begin, i64 end)``, and its parameters."""
    function = Function(module, name, [("ptr", 0), ("i64", 0), ("i64", 0)], lanes=lanes, internal=False)
    args, begin, end = function.parameters
    return function, args, begin, end


def arguments(function: Function, args: Value, count: int) -> list[Value]:
    """The pointers that `args` points to."""
    return list(_arguments(function, args, count))


def _arguments(function: Function, args: Value, count: int) -> Iterator[Value]:
    for i in range(count):
        where = function.emit(f"getelementptr ptr, {args}, i64 {i}", "ptr", 0)
        yield function.emit(f"load ptr, {where}, align 8", "ptr", 0)
