"""The linear program as Python: one line an operation, `if` for a branch, `while` for a loop.

The text is compiled once and runs in a namespace of its own that holds kernels (``k12``), their contexts (``c12``), constants
(``C12``) and ufuncs.  Line numbers lead from an exception back to the node.  With `level` at TIMES or above every node
leaves a time stamp behind (see `engine.runtime.plan.record`).
"""

from __future__ import annotations

import itertools
import linecache
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.observe import TraceLevel
from engine.runtime.failures import PLAN
from engine.runtime.plan.ir import (
    Block,
    Branch,
    Compute,
    Instruction,
    Linear,
    Loop,
    Lower,
    Move,
    Native,
    reads,
    walk,
    writes,
)
from engine.runtime.plan.names import Lives, lives
from engine.runtime.program import Item
from engine.runtime.resources import Variable, Write
from engine.types import errors

if TYPE_CHECKING:
    from engine.op.registry import OpDef
    from engine.runtime.executable import Executable

_INDENT = "    "
_SMALL = 1024  # elements: a dead array of so many may lie around until its name is used again
_numbers = itertools.count(1)
_INDICES = tuple(np.asarray(i, np.int32) for i in range(256))
_OPERATORS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
_Lock: Any = type(threading.RLock())  # that of every resource
_LOCKING = {
    "acquire": _Lock.acquire,
    "release": _Lock.release,
    "compress": itertools.compress,
}
_IDLE = frozenset({"Const", "NoOp", "ControlTrigger"})
FIRST_COUNTDOWN = 3  # iterations before the first look at whether the step should stop
COUNTDOWN = 256  # and at most between two


@dataclass(slots=True)
class PythonProgram:
    """A linear program as a function; `lines[n]` is the node that line n (from 1) of `text` is about.

    `keeps` are the feeds that must be the program's own: what it gives, or keeps in a variable, may share memory with them.
    """

    text: str
    lines: list[Item | None]
    filename: str
    function: Callable[..., None] = field(repr=False)
    keeps: tuple[int, ...] = ()

    def node_at(self, error: BaseException) -> Item | None:
        """The node at which `error` left this program, or None if it did not come through it."""
        line = self._line_of(error)
        return None if line is None else self.lines[line]

    def node_next(self, interrupt: BaseException) -> Item | None:
        """The node that was next when `interrupt` left this program, or None if it did not come through it.

        An interrupt may come on a line that is about no node, such as the head of a loop: then it is that of the next line of the
        same block or of one inside of it, or else of the last one before.
        """
        line = self._line_of(interrupt)
        if line is None:
            return None
        indents = [0, *(len(each) - len(each.lstrip()) for each in self.text.splitlines())]
        inside = range(line, len(self.lines))
        after = itertools.takewhile(lambda number: indents[number] >= indents[line], inside)
        before = range(line - 1, 0, -1)
        numbers = itertools.chain(after, before)
        return next((item for number in numbers if (item := self.lines[number]) is not None), None)

    def _line_of(self, error: BaseException) -> int | None:
        """The line at which `error` left this program."""
        found = None
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self.filename:
                found = traceback.tb_lineno
            traceback = traceback.tb_next
        return found


def write(
    linear: Linear,
    executable: Executable,
    level: TraceLevel = TraceLevel.OFF,
    checker: Any = None,
    *,
    noted: bool = False,
) -> PythonProgram:
    """The program in Python.  ``function(resources, step, feeds, results, check, log)`` runs it once.

    `check(item_index, iteration)` is called now and then in loops and gives the number of iterations until the next time;
    `log` is what takes down what happened, at a `level` above OFF.  `checker`, if there is one, is called with each node and its
    outputs.  With `noted`, segments keep the log, too, for which `log.tapes` (`engine.runtime.plan.stamped.Tapes`) must be there.
    """
    writer = _Writer(linear, executable, level, checker)
    writer.noted = noted
    return writer.program()


def stamped(instruction: Instruction) -> bool:
    """Whether a time stamp follows the instruction: it does something that takes time."""
    return isinstance(instruction, Compute) and instruction.item.node.type not in _IDLE


def _first_run(instruction: Instruction) -> Iterator[Instruction]:
    """The instruction, or of a segment those that it begins with, up to the first branch or loop."""
    if isinstance(instruction, Native):
        yield from itertools.takewhile(lambda each: not isinstance(each, Branch | Loop), instruction.covers)
    else:
        yield instruction


def writes_resources(instruction: Instruction) -> bool:
    """Whether what the instruction changed is put on the log."""
    node = instruction.item.node if isinstance(instruction, Compute) else None
    return node is not None and node.opdef.stateful and node.type not in ("_Arg", "_Retval")


def _is_fresh(opdef: OpDef) -> bool:
    """Whether the op's result shares memory with no input, whatever they are."""
    return opdef.ufunc is not None or opdef.name in ("MatMul", "_FusedMatMul")


class _Writer:
    def __init__(self, linear: Linear, executable: Executable, level: TraceLevel, checker: Any) -> None:
        self.linear = linear
        self.executable = executable
        self.level = level
        self.noted = False
        self.lives: Lives = lives(linear)
        self.lines: list[str] = []
        self.items: list[Item | None] = [None]
        self.space: dict[str, Any] = {}
        self.names: list[str] = [f"v{place}" for place in self.lives.place]
        self.containers: dict[str, str] = {}
        self.depth = 0  # of loops
        self.indent = 1
        self.opened = False  # whether the run of instructions under way has a time for its beginning
        self.segments = 0
        self.checker = checker
        self.space["checker"] = checker
        self._name_constants()

    def program(self) -> PythonProgram:
        body_from = len(self.lines)
        self._block(self.linear.body)
        head = ["def plan(R, S, F, O, check, log):"]
        head.append(f"{_INDENT}n = {FIRST_COUNTDOWN}")
        if any(isinstance(each, Loop) for each in self._written()):
            counted = "log.tapes.new_frame" if self.noted else "count(1).__next__"
            head.append(f"{_INDENT}new_frame = {counted}")
            self.space["count"] = itertools.count
        for container, name in self.containers.items():
            head.append(f"{_INDENT}{name} = R._containers.get({container!r}, nothing)")
        if self.level:
            head.append(f"{_INDENT}t = log.stamps.append")
            head.append(f"{_INDENT}w = log.wrote")
            if self.noted:
                head.append(f"{_INDENT}T = log.tapes")
            if self.level >= TraceLevel.VALUES:
                head.append(f"{_INDENT}h = log.health")
            self.space["now"] = time.perf_counter_ns
        self.space["nothing"] = {}
        lines = [*head, *self.lines[body_from:]]
        text = "\n".join(lines) + "\n"
        filename = f"{PLAN}{next(_numbers)}>"
        code: CodeType = compile(text, filename, "exec")
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(code, self.space)
        nothing: list[Item | None] = [None]
        items = nothing * (len(head) + 1) + self.items[1:]
        return PythonProgram(text, items, filename, self.space["plan"], self._kept_feeds())

    def _kept_feeds(self) -> tuple[int, ...]:
        """The feeds that somebody reads who may hand them on: any but a segment, and ops whose results are always new."""
        fed: dict[int, int] = {}
        kept: set[int] = set()
        for each in self.linear.walk():
            if isinstance(each, Compute) and each.item.node.type == "_Arg":
                if not self._is_scalar(each.item.node):
                    fed[each.outputs[0]] = each.item.node.attrs["index"]
            elif isinstance(each, Native):
                given = [*each.inputs, *(reference for reference, _ in each.read)]
                kept.update(given[which] for _, which in each.passed)
            elif not isinstance(each, Compute) or not _is_fresh(each.item.node.opdef):
                kept.update(reads(each))
        return tuple(sorted(fed[value] for value in kept & fed.keys()))

    def _written(self) -> Iterator[Instruction]:
        """Every instruction that is in the text: also what segments stand for, where they may fail."""
        for each in self.linear.walk():
            yield each
            if isinstance(each, Native) and each.segment.may_fail:
                yield from walk(Block(list(each.covers)))

    # Text.

    def _say(self, text: str, item: Item | None = None) -> None:
        self.lines.append(_INDENT * self.indent + text)
        self.items.append(item)

    def _name_constants(self) -> None:
        """Constants are bound in the namespace, and need no line."""
        for value, (item, _) in enumerate(self.linear.sources):
            if item.node.type == "Const":
                bound = self.executable.bound[item.index]
                self.names[value] = f"C{item.index}"
                self.space[f"C{item.index}"] = bound.kernel(bound.context)

    def _name(self, value: int) -> str:
        return self.names[value]

    # Blocks.

    def _block(self, block: Block, *, opened: bool = False) -> None:
        self.opened = opened
        before = len(self.lines)
        run: list[Instruction] = []
        for each in block.code:
            if isinstance(each, Branch | Loop):
                self._run(run)
                run = []
                if isinstance(each, Branch):
                    self._branch(each)
                else:
                    self._loop(each)
                self.opened = False
                self._let_go(each)
            else:
                run.append(each)
        self._run(run)
        if len(self.lines) == before:
            self._say("pass")

    def _run(self, run: Sequence[Instruction]) -> None:
        """Instructions one after the other."""
        for each in run:
            if not self.opened and self.level and any(stamped(inner) for inner in _first_run(each)):
                self._say("t(now())")
                self.opened = True
            if isinstance(each, Compute):
                self._compute(each)
            elif isinstance(each, Native):
                self._native(each)
            elif isinstance(each, Move):
                self._move(each)
            elif isinstance(each, Lower):
                self._say(f"f{each.flag} = False", each.item)
            if self.level and stamped(each):
                self._say("t(now())")
            self._let_go(each)

    def _let_go(self, instruction: Instruction) -> None:
        """Forget the large arrays that nobody needs behind it."""
        dying = [
            self._name(value)
            for value in self.lives.ends.get(id(instruction), ())
            if self._name(value).startswith("v") and self._may_be_large(value)
        ]
        if dying:
            self._say(f"{' = '.join(dict.fromkeys(dying))} = None")

    def _may_be_large(self, value: int) -> bool:
        item, output = self.linear.sources[value]
        node = item.node
        if node.output_dtypes[output]._is_ref_dtype or node.output_dtypes[output].name == "resource":
            return False
        count = node.output_shapes[output].num_elements()
        return count is None or count > _SMALL

    # Instructions.

    def _compute(self, compute: Compute) -> None:
        item = compute.item
        node = item.node
        bound = self.executable.bound[item.index]
        inputs = [self._name(value) for value in compute.inputs]
        if item.derefs:
            self.space[f"n{item.index}"] = node
            for slot in item.derefs:
                inputs[slot] = f"{inputs[slot]}.read(n{item.index})"
        watched = self.level >= TraceLevel.VALUES
        seen = watched or self.checker is not None  # outputs that nobody reads have a name, too
        targets = [
            self._name(value) if value >= 0 else f"u{slot}" if seen else "_"
            for slot, value in enumerate(compute.outputs)
        ]
        if node.type in _IDLE:
            return
        if node.type == "_Arg":
            if compute.outputs[0] >= 0:
                scalar = "[()]" if self._is_scalar(node) else ""
                self._say(f"{targets[0]} = F[{node.attrs['index']}]{scalar}", item)
            if watched:
                self._say(f"h(F[{node.attrs['index']}])", item)
            self._check(item, [f"F[{node.attrs['index']}]"])
            return
        if node.type == "_Retval":
            self._say(f"O[{node.attrs['index']}] = {inputs[0]}", item)
            return
        if node.type == "Identity":
            self._say(f"{targets[0]} = {inputs[0]}", item)
        elif node.type in ("VariableV2", "Variable") and compute.outputs[0] >= 0:
            self._variable(item, targets[0])
        else:
            call = self._operator(compute, inputs) or self._call(item, bound, inputs)
            assignment = self._assignment(item, targets)
            self._say(assignment + call + (")" if assignment.endswith("(") else ""), item)
            if self.level and writes_resources(compute):
                self._say("w(c.writes)")
        if watched and item.n_outputs:
            self._say(f"h({', '.join(targets)})", item)
        self._check(item, targets)
        unread = [target for target, value in zip(targets, compute.outputs, strict=True) if value < 0]
        if seen and unread:
            self._say(f"{' = '.join(unread)} = None")

    def _native(self, native: Native) -> None:
        """Hand a stretch of the program to its segment, with what variables hold before it and take over behind it."""
        self.segments += 1
        number = self.segments
        segment = native.segment
        self.space[f"seg{number}"] = segment.run
        inside = [each for each in walk(Block(list(native.covers))) if isinstance(each, Compute | Loop)]
        first = next((each.item for each in inside if isinstance(each, Compute)), None)
        test = next((each.test for each in inside if isinstance(each, Loop) and each.test is not None), None)
        for value, constant in native.constants:
            self.names[value] = f"K{value}"
            self.space[f"K{value}"] = constant
        references = {reference: self._name(reference) for reference, *_ in native.written}
        if references:
            self.space.update(_LOCKING)
            # All lock variables in the order of their names, so that no two wait for each other.
            ordered = sorted(references, key=lambda each: self.linear.sources[each][0].name)
            locks = "".join(f"{references[each]}.lock, " for each in ordered)
            # An interrupt comes between two calls, never within one that runs no Python: each of the two that take and give
            # back the locks is one call, and what was taken is on the list.
            self._say(f"q{number} = ({locks})", first)
            self._say(f"l{number} = []", first)
            self._say(f"o{number} = map(release, compress(q{number}, l{number}))", first)
            self._say("try:")
            self.indent += 1
            self._say(f"l{number}.extend(map(acquire, q{number}))", first)
        arguments = [self._name(value) for value in native.inputs]
        for i, (reference, reader) in enumerate(native.read):
            item = self.executable.program.by_name[reader.name] if reader is not None else first
            self.space[f"r{number}_{i}"] = reader
            self._say(f"a{i} = {self._name(reference)}.value")
            self._say(f"if a{i} is None: {self._name(reference)}.read(r{number}_{i})", item)
            arguments.append(f"a{i}")
        check = f"lambda: check({test.index}, 0)" if test is not None else "None"
        called = f"seg{number}({', '.join([check, *arguments])})"
        if self.noted:
            self.space[f"seg{number}"] = segment.run_traced
            called = f"seg{number}({', '.join([f'T[{number}]', check, *arguments])})"
            if segment.may_fail:  # Python runs it for the rest of the step once it has failed
                called = f"None if {number} in T.fallen else {called}"
        # A loop is where an interrupt comes, and what may take too much memory.
        self._say(f"g = {called}", test or first)
        opened = self.opened
        if segment.may_fail:
            self._say("if g is None:")
            self.indent += 1
            if self.noted:
                self._say(f"T.fall({number})")
            self._instead(native)
            self.indent -= 1
            self._say("else:")
            self.indent += 1
        for reference, which, kind, writer in native.written:
            if self.noted and writer is not None:
                self.space["Write"] = Write
                name = references[reference]
                record = f"Write({name}, {kind!r}, {name}.value, {name}.version, g[{which}])"
                index = self.executable.program.by_name[writer.name].index
                self._say(f"T.wrote({index}, {reference}, {record})")
            self._say(f"{references[reference]}.value = g[{which}]")
            self._say(f"{references[reference]}.version += 1")
        for value, which in native.passed:
            self._say(f"{self._name(value)} = {arguments[which]}")
        for value, which in native.outputs:
            self._say(f"{self._name(value)} = g[{which}]")
        for value, reference in native.references:
            self._say(f"{self._name(value)} = {self._name(reference)}")
        self._say("g = None")
        if segment.may_fail:
            self.indent -= 1
        if native.read:
            self._say(f"{' = '.join(f'a{i}' for i in range(len(native.read)))} = None")
        if references:
            self.indent -= 1
            self._say("finally:")
            self.indent += 1
            self._say(f"any(o{number})")
            self.indent -= 1
        self.opened = opened
        for each in native.covers:
            self.opened = not isinstance(each, Branch | Loop) and (self.opened or stamped(each))

    def _instead(self, native: Native) -> None:
        """What a segment stands for, as Python: for a run of it that failed, which has changed nothing.

        Values that nobody else needs have no place of their own, and those that the segment made constants of have theirs in the
        namespace: both get names that are used nowhere else.  Feeds, which a segment only reads, become the program's own.
        """
        for value in native.inputs:
            item, _ = self.linear.sources[value]
            if item.node.type == "_Arg" and not self._is_scalar(item.node):
                self._say(f"{self._name(value)} = {self._name(value)}.copy()", item)
        given = {value for value, _ in (*native.outputs, *native.references, *native.passed)}
        inside = {value for each in walk(Block(list(native.covers))) for value in writes(each)}
        mine = inside - given
        kept = {value: self.names[value] for value in mine}
        for value in mine:
            if not kept[value].startswith("C"):
                self.names[value] = f"x{value}"
        self._block(Block(list(native.covers)), opened=self.opened)
        for value, name in kept.items():
            self.names[value] = name

    def _check(self, item: Item, outputs: Sequence[str]) -> None:
        """Let the checker, if there is one, look at the outputs."""
        if self.checker is not None and not item.flow:  # a Switch gives None on the side not taken
            self.space[f"n{item.index}"] = item.node
            self._say(f"checker(n{item.index}, ({''.join(f'{output}, ' for output in outputs)}))", item)

    def _assignment(self, item: Item, targets: list[str]) -> str:
        if not targets:
            return ""
        if len(targets) == 1:
            lists = any(
                arg.number_attr is not None or arg.type_list_attr is not None
                for arg in item.node.opdef.signature.outputs
            )
            if lists:
                self.space["only"] = _only
                return f"{targets[0]} = only("
            return f"{targets[0]} = "
        return f"{', '.join(targets)} = "

    @staticmethod
    def _is_scalar(node: Any) -> bool:
        """Whether what is fed is a number, which is quicker to compute with than an array of rank 0."""
        return node.output_shapes[0].ndims == 0 and node.output_dtypes[0].np_dtype.kind in "biuf"

    def _operator(self, compute: Compute, inputs: Sequence[str]) -> str:
        """The op as an operator on NumPy scalars, which takes a tenth of the ufunc's time; "" where it is not one."""
        node = compute.item.node
        symbol = _OPERATORS.get(node.opdef.ufunc or "")
        if (
            symbol is None
            or len(inputs) != 2
            or any(dtype.np_dtype.char not in "fdilq" for dtype in node.input_dtypes)
        ):
            return ""
        operands = []
        for value, name in zip(compute.inputs, inputs, strict=True):
            item, output = self.linear.sources[value]
            if item.node.output_shapes[output].ndims != 0 or "." in name:
                return ""
            if name in self.space:  # a constant
                self.space[f"{name}s"] = self.space[name][()]
                name = f"{name}s"
            operands.append(name)
        return f"{operands[0]} {symbol} {operands[1]}"

    def _call(self, item: Item, bound: Any, inputs: list[str]) -> str:
        opdef = item.node.opdef
        if opdef.ufunc is not None and bound.device is None and bound.kernel is opdef.kernel:
            self.space[f"np_{opdef.ufunc}"] = getattr(bound.context.xp, opdef.ufunc)
            return f"np_{opdef.ufunc}({', '.join(inputs)})"
        i = item.index
        self.space[f"k{i}"] = bound.kernel
        if bound.stateful:
            self.space[f"at{i}"] = bound.context.at
            frame, iteration = (f"f_{self.depth}", f"i{self.depth}") if self.depth else ("0", "0")
            self._say(f"c = at{i}(R, S, {frame}, {iteration})", item)
            return f"k{i}({', '.join(['c', *inputs])})"
        self.space[f"c{i}"] = bound.context
        return f"k{i}({', '.join([f'c{i}', *inputs])})"

    def _variable(self, item: Item, target: str) -> None:
        """Variables are looked up by name; the op's kernel makes those that are not there yet."""
        attrs, i = item.node.attrs, item.index
        bound = self.executable.bound[i]
        container = self.containers.setdefault(attrs["container"], f"D{len(self.containers)}")
        self.space[f"k{i}"], self.space[f"at{i}"] = bound.kernel, bound.context.at
        self.space["Variable"] = Variable
        self._say(f"{target} = {container}.get({attrs['shared_name'] or item.node.name!r})", item)
        self._say(f"if type({target}) is not Variable: {target} = k{i}(at{i}(R, S, 0, 0))", item)
        if self.level:
            self._say("w(())")

    def _move(self, move: Move) -> None:
        target, source = self._name(move.target), self._name(move.source)
        if move.slot in move.item.derefs:
            self.space[f"n{move.item.index}"] = move.item.node
            source = f"{source}.read(n{move.item.index})"
        indent = self.indent
        if move.flag >= 0:
            self._say(f"if not f{move.flag}:", move.item)
            self.indent += 1
            self._say(f"f{move.flag} = True")
        if target != source:
            self._say(f"{target} = {source}", move.item)
        if move.index >= 0:
            self.space["I"] = _INDICES
            self._say(f"{self._name(move.index)} = I[{move.slot}]", move.item)
        self.indent = indent

    def _truth(self, value: int, item: Item) -> str:
        """The text of a test of `value`, which `item` asks for."""
        source, output = self.linear.sources[value]
        if source.node.output_shapes[output].ndims == 0:
            return self._name(value)
        self.space["truth"] = _truth
        return f"truth({self._name(value)})"

    def _branch(self, branch: Branch) -> None:
        test = branch.test
        text = f"f{test.value}" if test.is_flag else self._truth(test.value, branch.item)
        if self.level:
            self._say(f"t({text} and 1 or 0)", branch.item)
        then, orelse = branch.then, branch.orelse
        if not then and orelse:
            text, then, orelse = f"not {text}", orelse, then
        self._say(f"if {text}:", branch.item)
        self.indent += 1
        self._block(then)
        self.indent -= 1
        if orelse:
            self._say("else:")
            self.indent += 1
            self._block(orelse)
            self.indent -= 1

    def _loop(self, loop: Loop) -> None:
        first = loop.enters[0]
        self._assign_all([(self._name(a), self._name(b)) for a, b in loop.inits], first)
        for value, merge in loop.indices:
            self.space["I"] = _INDICES
            self._say(f"{self._name(value)} = I[{self._slot(merge, entering=True)}]", merge)
        self.depth += 1
        self._say(f"f_{self.depth} = new_frame()")
        self._say(f"i{self.depth} = 0")
        if loop.test is None:
            self._block(loop.cond)
        else:
            self._iterations(loop, loop.test)
            if loop.after:
                self._block(loop.after)
        self.depth -= 1

    def _iterations(self, loop: Loop, test: Item) -> None:
        iteration = f"i{self.depth}"
        self._say("while True:")
        self.indent += 1
        self._block(loop.cond)
        predicate = self._truth(loop.predicate, test)
        if self.level:
            self._say(f"t({predicate} and 1 or 0)", test)
        self._say(f"if not {predicate}: break", test)
        self._block(loop.body)
        self._assign_all([(self._name(a), self._name(b)) for a, b in loop.nexts], test)
        for value, merge in loop.indices:
            self._say(f"{self._name(value)} = I[{self._slot(merge, entering=False)}]", merge)
        self._say(f"{iteration} += 1")
        self._say("n -= 1")
        self._say(f"if n < 0: n = check({test.index}, {iteration})", test)
        self.indent -= 1

    def _slot(self, merge: Item, *, entering: bool) -> int:
        program = self.executable.program
        flows = [program.by_name[name].node.opdef.flow for name, _ in merge.node.inputs]
        return next(i for i, flow in enumerate(flows) if (flow == "enter") == entering)

    def _assign_all(self, pairs: Sequence[tuple[str, str]], item: Item) -> None:
        moved = [(target, source) for target, source in pairs if target != source]
        if moved:
            targets, sources = zip(*moved, strict=True)
            self._say(f"{', '.join(targets)} = {', '.join(sources)}", item)


def _only(result: Any) -> Any:
    """The one output of an op whose outputs are a list: its kernel gives a tuple, or the array itself."""
    return result[0] if type(result) is tuple else result


def _truth(value: Any) -> Any:
    """`value` as a condition.  Raises InvalidArgumentError unless it is a scalar, as a Switch does."""
    if getattr(value, "ndim", 0) != 0:
        raise errors.InvalidArgumentError(
            None, None, f"The predicate of a Switch must be a scalar, not of shape {value.shape}"
        )
    return value
