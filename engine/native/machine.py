"""The machine that runs tapes (`engine.native.driver`), in LLVM IR: for each kind of instruction, what it does."""

from __future__ import annotations

from collections.abc import Callable

from engine.native.driver import DEEPEST, INSTRUCTION, OPERANDS, STATE, Kind, Status

__all__ = ["source"]

_FIELDS: dict[str, int] = {name: int(place[1]) for name, place in (INSTRUCTION.fields or {}).items()}


class _Writer:
    """Lines of IR; every value gets a name of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def value(self, text: str) -> str:
        name = f"%v{len(self.lines)}"
        self.do(f"{name} = {text}")
        return name

    def label(self, name: str) -> None:
        self.lines.append(name + ":")

    def go(self, name: str) -> None:
        self.do(f"br label %{name}")

    def fork(self, condition: str, yes: str, no: str) -> None:
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")

    def plus(self, pointer: str, offset: str | int) -> str:
        return self.value(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def element(self, pointer: str, index: str | int) -> str:
        return self.value(f"getelementptr i64, ptr {pointer}, i64 {index}")

    def load(self, kind: str, pointer: str) -> str:
        return self.value(f"load {kind}, ptr {pointer}")

    def store(self, kind: str, value: str | int, pointer: str) -> None:
        self.do(f"store {kind} {value}, ptr {pointer}")

    def add(self, a: str, b: str | int) -> str:
        return self.value(f"add i64 {a}, {b}")

    def wide(self, value: str) -> str:
        return self.value(f"sext i32 {value} to i64")

    # The machine's own.

    def field(self, name: str, index: int = 0) -> str:
        """The address of an instruction's field."""
        size = 4 if name == "slots" else 8
        return self.plus("%ip", _FIELDS[name] + size * index)

    def get(self, name: str, kind: str = "i64", index: int = 0) -> str:
        return self.load(kind, self.field(name, index))

    def state(self, name: str) -> str:
        """The address of a field of the state."""
        return self.element("%state", STATE.index(name))

    def slot(self, index: int) -> str:
        """The address of operand `index`'s entry of the table."""
        return self.element("%table", self.wide(self.get("slots", "i32", index)))

    def operand(self, index: int) -> str:
        """The address of operand `index`."""
        return self.plus(self.load("ptr", self.slot(index)), self.get("offsets", index=index))

    def next(self) -> None:
        self.store("ptr", self.plus("%ip", INSTRUCTION.itemsize), "%ipv")
        self.go("dispatch")

    def leave(self, status: Status, resume: str) -> None:
        """Go back to the caller; `resume`: the address of the instruction to go on with."""
        a, b = self.value(f"ptrtoint ptr {resume} to i64"), self.value("ptrtoint ptr %code to i64")
        distance = self.value(f"sub i64 {a}, {b}")
        self.store("i64", self.value(f"sdiv exact i64 {distance}, {INSTRUCTION.itemsize}"), self.state("pc"))
        self.do(f"store atomic i64 0, ptr {self.state('busy')} release, align 8")
        self.do(f"ret i64 {int(status)}")


def _end(w: _Writer) -> None:
    w.leave(Status.DONE, "%code")


def _loop(nargs: int) -> Callable[[_Writer], None]:
    def write(w: _Writer) -> None:
        for k in range(nargs):
            w.store("ptr", w.operand(k), w.element("%args", k))
        function, data = w.get("function", "ptr"), w.get("data", "ptr")
        operands = f"ptr %args, ptr {w.field('count')}, ptr {w.field('strides')}, ptr {data}"
        w.do(f"call void {function}({operands})")
        w.next()

    return write


def _nest(w: _Writer) -> None:
    """All loops around a loop, like an odometer.  The pool has `depth` lengths, then `depth` rows of OPERANDS strides."""
    function, data, depth = w.get("function", "ptr"), w.get("data", "ptr"), w.wide(w.get("depth", "i32"))
    lengths = w.element("%pool", w.wide(w.get("pool", "i32")))
    rows = w.element(lengths, depth)
    count, strides = w.field("count"), w.field("strides")
    for k in range(OPERANDS):
        w.store("ptr", w.operand(k), w.element("%base", k))
    w.do(f"call void @llvm.memset.p0.i64(ptr %at, i8 0, i64 {8 * DEEPEST}, i1 false)")
    w.go("nest.call")
    w.label("nest.call")
    # A loop may change the array of addresses that it is given, so it gets a copy.
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr %args, ptr %base, i64 {8 * OPERANDS}, i1 false)")
    w.do(f"call void {function}(ptr %args, ptr {count}, ptr {strides}, ptr {data})")
    w.store("i64", 0, "%dimension")
    w.go("nest.turn")
    w.label("nest.turn")
    d = w.load("i64", "%dimension")
    place, length = w.element("%at", d), w.load("i64", w.element(lengths, d))
    step = w.add(w.load("i64", place), 1)
    row = w.element(rows, w.value(f"mul i64 {d}, {OPERANDS}"))
    moves = [w.load("i64", w.element(row, k)) for k in range(OPERANDS)]
    w.fork(w.value(f"icmp slt i64 {step}, {length}"), "nest.step", "nest.back")
    w.label("nest.step")
    w.store("i64", step, place)
    for k in range(OPERANDS):
        base = w.element("%base", k)
        w.store("ptr", w.plus(w.load("ptr", base), moves[k]), base)
    w.go("nest.call")
    w.label("nest.back")
    w.store("i64", 0, place)
    back = w.value(f"sub i64 1, {length}")
    for k in range(OPERANDS):
        base = w.element("%base", k)
        w.store("ptr", w.plus(w.load("ptr", base), w.value(f"mul i64 {back}, {moves[k]}")), base)
    outer = w.add(d, 1)
    w.store("i64", outer, "%dimension")
    w.fork(w.value(f"icmp slt i64 {outer}, {depth}"), "nest.turn", "nest.done")
    w.label("nest.done")
    w.next()


def _scalar(nargs: int) -> Callable[[_Writer], None]:
    def write(w: _Writer) -> None:
        operands = ", ".join(f"ptr {w.operand(k)}" for k in range(nargs))
        w.do(f"call void {w.get('function', 'ptr')}({operands})")
        w.next()

    return write


def _bytes(w: _Writer) -> None:
    source, target = w.operand(0), w.operand(1)
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {target}, ptr {source}, i64 {w.get('count')}, i1 false)")
    w.next()


def _zero(w: _Writer) -> None:
    w.do(f"call void @llvm.memset.p0.i64(ptr {w.operand(0)}, i8 0, i64 {w.get('count')}, i1 false)")
    w.next()


def _call(parallel: bool) -> Callable[[_Writer], None]:
    """The pool has pairs (slot, offset)."""
    name = "parallel" if parallel else "call"

    def write(w: _Writer) -> None:
        pairs = w.element("%pool", w.wide(w.get("pool", "i32")))
        count, scratch = w.wide(w.get("nargs", "i32")), w.load("ptr", w.state("scratch"))
        w.store("i64", 0, "%dimension")
        w.go(f"{name}.more")
        w.label(f"{name}.more")
        k = w.load("i64", "%dimension")
        w.fork(w.value(f"icmp slt i64 {k}, {count}"), f"{name}.argument", f"{name}.go")
        w.label(f"{name}.argument")
        pair = w.element(pairs, w.value(f"shl i64 {k}, 1"))
        base = w.load("ptr", w.element("%table", w.load("i64", pair)))
        w.store("ptr", w.plus(base, w.load("i64", w.element(pair, 1))), w.element(scratch, k))
        w.store("i64", w.add(k, 1), "%dimension")
        w.go(f"{name}.more")
        w.label(f"{name}.go")
        function, begin, end = w.get("function", "ptr"), w.get("count"), w.get("strides")
        if parallel:
            chunks = f"ptr {function}, ptr {scratch}, i64 {begin}, i64 {end}, i64 {w.get('strides', index=1)}"
            w.do(f"call void {w.get('data', 'ptr')}({chunks})")
        else:
            w.do(f"call void {function}(ptr {scratch}, i64 {begin}, i64 {end})")
        w.next()

    return write


def _point(w: _Writer) -> None:
    source = w.operand(0)
    w.store("ptr", source, w.slot(1))
    w.next()


def _swap(w: _Writer) -> None:
    a, b = w.slot(0), w.slot(1)
    x, y = w.load("ptr", a), w.load("ptr", b)
    w.store("ptr", y, a)
    w.store("ptr", x, b)
    w.next()


def _jump(w: _Writer) -> None:
    w.go("jump")


def _branch(when: bool) -> Callable[[_Writer], None]:
    name = "when" if when else "unless"

    def write(w: _Writer) -> None:
        true = w.value(f"icmp ne i8 {w.load('i8', w.operand(0))}, 0")
        yes, no = ("jump", f"{name}.stay") if when else (f"{name}.stay", "jump")
        w.fork(true, yes, no)
        w.label(f"{name}.stay")
        w.next()

    return write


def _count(w: _Writer) -> None:
    place = w.operand(0)
    w.store("i64", w.add(w.load("i64", place), 1), place)
    w.next()


def _stack(w: _Writer) -> tuple[str, str, str, str]:
    """A stack's row: addresses of its address and of the bytes used and there; the bytes an element."""
    row = w.element(w.load("ptr", w.state("stacks")), w.value(f"shl i64 {w.get('target')}, 2"))
    return row, w.element(row, 1), w.element(row, 2), w.load("i64", w.element(row, 3))


def _push(w: _Writer) -> None:
    row, used, there, size = _stack(w)
    bottom = w.load("i64", used)
    top = w.add(bottom, size)
    w.fork(w.value(f"icmp sgt i64 {top}, {w.load('i64', there)}"), "push.full", "push.room")
    w.label("push.full")
    w.store("i64", w.get("target"), w.state("number"))
    w.leave(Status.STACK_FULL, "%ip")
    w.label("push.room")
    place = w.plus(w.load("ptr", row), bottom)
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {place}, ptr {w.operand(0)}, i64 {size}, i1 false)")
    w.store("i64", top, used)
    w.next()


def _pop(pointer: bool) -> Callable[[_Writer], None]:
    name = "peel" if pointer else "pop"

    def write(w: _Writer) -> None:
        row, used, _, size = _stack(w)
        bottom = w.value(f"sub i64 {w.load('i64', used)}, {size}")
        w.fork(w.value(f"icmp slt i64 {bottom}, 0"), f"{name}.empty", f"{name}.one")
        w.label(f"{name}.empty")
        w.store("i64", w.get("target"), w.state("number"))
        w.leave(Status.STACK_EMPTY, "%ip")
        w.label(f"{name}.one")
        place = w.plus(w.load("ptr", row), bottom)
        w.store("i64", bottom, used)
        if pointer:
            w.store("ptr", place, w.slot(0))
        else:
            w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {w.operand(0)}, ptr {place}, i64 {size}, i1 false)")
        w.next()

    return write


def _reset(w: _Writer) -> None:
    w.store("i64", 0, _stack(w)[1])
    w.next()


def _put_time(w: _Writer, name: str, place: str) -> None:
    """The time goes to an address, and the machine on."""
    clock = w.load("ptr", w.state("clock"))
    w.fork(w.value(f"icmp eq ptr {clock}, null"), f"{name}.counter", f"{name}.clock")
    w.label(f"{name}.counter")
    w.store("i64", w.value("call i64 @llvm.readcyclecounter()"), place)
    w.next()
    w.label(f"{name}.clock")
    w.value(f"call i32 {clock}(i32 1, ptr %args)")  # CLOCK_MONOTONIC: seconds and nanoseconds
    seconds, rest = w.load("i64", "%args"), w.load("i64", w.element("%args", 1))
    w.store("i64", w.add(w.value(f"mul i64 {seconds}, 1000000000"), rest), place)
    w.next()


def _logged(w: _Writer, name: str) -> str:
    """The address of the log's next entry; where there is no room, the machine goes back to its caller."""
    logged = w.state("logged")
    count = w.load("i64", logged)
    w.fork(
        w.value(f"icmp slt i64 {count}, {w.load('i64', w.state('loggable'))}"), f"{name}.room", f"{name}.full"
    )
    w.label(f"{name}.full")
    w.leave(Status.LOG_FULL, "%ip")
    w.label(f"{name}.room")
    w.store("i64", w.add(count, 1), logged)
    return w.element(w.load("ptr", w.state("log")), count)


def _time(w: _Writer) -> None:
    _put_time(w, "time", _logged(w, "time"))


def _test(w: _Writer) -> None:
    place = _logged(w, "test")
    true = w.value(f"icmp ne i8 {w.load('i8', w.operand(0))}, 0")
    w.store("i64", w.value(f"zext i1 {true} to i64"), place)
    w.next()


def _escape(w: _Writer) -> None:
    w.store("i64", w.get("target"), w.state("number"))
    w.leave(Status.ESCAPED, w.plus("%ip", INSTRUCTION.itemsize))


_EMITTERS: dict[Kind, Callable[[_Writer], None]] = {
    Kind.END: _end,
    Kind.LOOP2: _loop(2),
    Kind.LOOP3: _loop(3),
    Kind.LOOP4: _loop(4),
    Kind.NEST: _nest,
    Kind.SCALAR2: _scalar(2),
    Kind.SCALAR3: _scalar(3),
    Kind.BYTES: _bytes,
    Kind.ZERO: _zero,
    Kind.CALL: _call(parallel=False),
    Kind.PARALLEL: _call(parallel=True),
    Kind.POINT: _point,
    Kind.SWAP: _swap,
    Kind.JUMP: _jump,
    Kind.UNLESS: _branch(when=False),
    Kind.WHEN: _branch(when=True),
    Kind.COUNT: _count,
    Kind.PUSH: _push,
    Kind.POP: _pop(pointer=False),
    Kind.POP_POINTER: _pop(pointer=True),
    Kind.RESET: _reset,
    Kind.ESCAPE: _escape,
    Kind.TIME: _time,
    Kind.TEST: _test,
}


_COUNTER = """
define i64 @counter() nounwind {
  %c = call i64 @llvm.readcyclecounter()
  ret i64 %c
}
"""


def source() -> str:
    """The machine in LLVM IR: ``i64 run_tape(ptr state)``."""
    w = _Writer()
    w.label("entry")
    busy = w.value(f"atomicrmw xchg ptr {w.state('busy')}, i64 1 acquire")
    w.do("%ipv = alloca ptr")
    w.do("%budget = alloca i64")
    w.do("%dimension = alloca i64")
    w.do(f"%args = alloca [{OPERANDS} x ptr]")
    w.do(f"%base = alloca [{OPERANDS} x ptr]")
    w.do(f"%at = alloca [{DEEPEST} x i64]")
    w.fork(w.value(f"icmp eq i64 {busy}, 0"), "begin", "busy")
    w.label("busy")
    w.do(f"ret i64 {int(Status.BUSY)}")
    w.label("begin")
    for name in ("code", "pool", "table"):
        w.do(f"%{name} = load ptr, ptr {w.state(name)}")
    w.store("i64", w.load("i64", w.state("budget")), "%budget")
    # A run that was not resumed is over, whatever ended it: this call begins the next, with pointers as bound and empty stacks.
    resume = w.load("i64", w.state("resume"))
    w.store("i64", 0, w.state("resume"))
    w.fork(w.value(f"icmp eq i64 {resume}, 0"), "fresh", "go")
    w.label("fresh")
    bound, size = w.load("ptr", w.state("bound")), w.load("i64", w.state("restorable"))
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr %table, ptr {bound}, i64 {size}, i1 false)")
    w.store("i64", 0, w.state("pc"))
    w.store("i64", 0, "%dimension")
    w.go("fresh.stack")
    w.label("fresh.stack")
    k, stacks = w.load("i64", "%dimension"), w.load("ptr", w.state("stacks"))
    w.fork(w.value(f"icmp slt i64 {k}, {w.load('i64', w.state('stack_count'))}"), "fresh.empty", "go")
    w.label("fresh.empty")
    w.store("i64", 0, w.element(w.element(stacks, w.value(f"shl i64 {k}, 2")), 1))
    w.store("i64", w.add(k, 1), "%dimension")
    w.go("fresh.stack")
    w.label("go")
    first = w.value(f"mul i64 {w.load('i64', w.state('pc'))}, {INSTRUCTION.itemsize}")
    w.store("ptr", w.plus("%code", first), "%ipv")
    w.go("dispatch")
    w.label("dispatch")
    w.do("%ip = load ptr, ptr %ipv")
    cases = " ".join(f"i32 {int(kind)}, label %{kind.name}" for kind in Kind)
    w.do(f"switch i32 {w.get('kind', 'i32')}, label %END [{cases}]")
    w.label("jump")
    offset = w.value(f"mul i64 {w.get('target')}, {INSTRUCTION.itemsize}")
    w.do(f"%target = getelementptr i8, ptr %code, i64 {offset}")
    w.store("ptr", "%target", "%ipv")
    w.fork(w.value("icmp ugt ptr %target, %ip"), "dispatch", "back")
    w.label("back")
    left = w.value(f"sub i64 {w.load('i64', '%budget')}, 1")
    w.store("i64", left, "%budget")
    w.fork(w.value(f"icmp sgt i64 {left}, 0"), "dispatch", "interrupt")
    w.label("interrupt")
    w.leave(Status.INTERRUPTED, "%target")
    for kind, emit in _EMITTERS.items():
        w.label(kind.name)
        emit(w)
    declarations = [
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        "declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)",
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
        "declare i64 @llvm.readcyclecounter()",
    ]
    return "\n".join(
        [*declarations, _COUNTER, "define i64 @run_tape(ptr %state) nounwind {", *w.lines, "}", ""]
    )
