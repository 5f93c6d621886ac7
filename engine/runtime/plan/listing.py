"""The linear program as lines for people: one an instruction, and what each reads, makes and stands for.

A value is ``%3``, numbered in the order in which the lines make them; a constant is its literal if it is small, else its node's
name.  A constant has no line, nor has a node that only hands its input on or does nothing.  Blocks are told by depth::

    1  %0 = fed x:0
    2  loop while: %1 = 0, %2 = %0
    3    %3 = Less(%1, 10)
    4    leave unless %3
    5    %4 = Add(%1, 1)
    6    next %1 = %4
    7  return y:0 = %2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from engine.passes.stage import StageNode
from engine.runtime.plan import ir
from engine.runtime.plan.lines import (
    BRANCH,
    COMPUTE,
    LOOP,
    MOVE,
    PYTHON,
    TAPE,
    Line,
    Segment,
    Value,
    lives,
)
from engine.runtime.plan.structure import passes
from engine.runtime.plan.words import literal, operation
from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION, SWITCH, Item, Program

_IDLE = frozenset({"Const", "NoOp", "ControlTrigger"})


@dataclass(frozen=True)
class Listing:
    """The lines, the values in the order of their numbers, and which lines to look at for a node (`lines_of`).

    `segments` are who runs which lines: together all of them, in order.  `branches` and `loops` are how many there are.
    `constants` are nodes that became part of the lines that read them (and those that hand one on), `idle` those that do
    nothing, `dead` those that no run can reach.
    """

    lines: tuple[Line, ...]
    values: tuple[Value, ...]
    segments: tuple[Segment, ...]
    branches: int
    loops: int
    constants: tuple[str, ...]
    idle: tuple[str, ...]
    dead: tuple[str, ...]
    at: dict[str, tuple[int, ...]]

    def lines_of(self, node: str) -> tuple[int, ...]:
        """The numbers of the lines that stand for `node`; of a constant, those that read it; () for a node without any."""
        return self.at.get(node, ())


@dataclass(slots=True)
class _Draft:
    depth: int
    kind: str
    text: str
    nodes: list[str]
    reads: list[int]  # values of the linear program, constants among them
    writes: list[int]
    handed: list[str] = field(default_factory=list)


def listing(linear: ir.Linear, program: Program) -> Listing:
    """The lines of `linear`, which was made of `program`."""
    return _Lister(linear, program).listing()


class _Lister:
    def __init__(self, linear: ir.Linear, program: Program) -> None:
        self.linear = linear
        self.program = program
        self.drafts: list[_Draft] = []
        self.names: dict[int, str] = {}
        self.numbers: dict[int, int] = {}
        self.branches = 0
        self.loops: list[tuple[int, int]] = []  # first and last line of each
        self.native: list[Segment] = []
        self.handing: list[Item] = []
        self.constants: dict[str, int] = {}  # the value of each
        self.idle: list[str] = []
        self.asking: dict[int, list[_Draft]] = {}  # by value: the lines that ask it
        self.entering: dict[int, _Draft] = {}  # by frame
        self.leaving: dict[int, _Draft] = {}
        self.advancing: dict[int, _Draft] = {}
        self.made_by = {
            (item.index, output): value for value, (item, output) in enumerate(self.linear.sources)
        }

    def listing(self) -> Listing:
        self._block(self.linear.body, 0)
        at: dict[str, list[int]] = {}
        for number, draft in enumerate(self.drafts, 1):
            for name in draft.nodes:
                at.setdefault(name, []).append(number)
        self._give_handing(at)
        self._give_constants(at)
        lines = tuple(
            Line(
                number,
                draft.depth,
                draft.kind,
                draft.text,
                tuple(dict.fromkeys(draft.nodes)),
                tuple(dict.fromkeys(draft.handed)),
                self._numbered(draft.reads),
                self._numbered(draft.writes),
            )
            for number, draft in enumerate(self.drafts, 1)
        )
        return Listing(
            lines,
            lives(lines, self.loops, self._sources()),
            tuple(self._segments(len(lines))),
            self.branches,
            len(self.loops),
            tuple(self.constants),
            tuple(dict.fromkeys(self.idle)),
            tuple(dict.fromkeys(item.name for item in self.linear.unreachable)),
            {name: tuple(dict.fromkeys(numbers)) for name, numbers in at.items()},
        )

    def _sources(self) -> list[tuple[StageNode, int]]:
        """The node and output behind each value with a number, in the order of the numbers."""
        found = [self.linear.sources[value] for value in self.numbers]
        return [(item.node, output) for item, output in found]

    def _numbered(self, values: Iterable[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.numbers[value] for value in values if value in self.numbers))

    # Lines.

    def _say(
        self,
        depth: int,
        kind: str,
        text: str,
        items: Iterable[Item],
        reads: Iterable[int] = (),
        writes: Iterable[int] = (),
    ) -> _Draft:
        draft = _Draft(depth, kind, text, [item.name for item in items], list(reads), list(writes))
        self.drafts.append(draft)
        return draft

    def _block(self, block: ir.Block, depth: int) -> None:
        for each in block.code:
            if isinstance(each, ir.Compute):
                self._compute(each, depth)
            elif isinstance(each, ir.Pass):
                self.handing.append(each.item)
            elif isinstance(each, ir.Move):
                self._move(each, depth)
            elif isinstance(each, ir.Lower):
                self._say(depth, MOVE, f"f{each.flag} = no", (each.item,))
            elif isinstance(each, ir.Branch):
                self._branch(each, depth)
            elif isinstance(each, ir.Native):
                self._native(each, depth)
            else:
                self._loop(each, depth)

    def _native(self, native: ir.Native, depth: int) -> None:
        """What machine code runs is listed as what it stands for."""
        first = len(self.drafts) + 1
        self._block(ir.Block(list(native.covers)), depth)
        if len(self.drafts) >= first:
            self.native.append(Segment(TAPE, first, len(self.drafts), len(native.segment)))

    def _segments(self, count: int) -> Iterator[Segment]:
        """The native stretches, and Python's between them."""
        at = 1
        for each in self.native:
            if each.first > at:
                yield Segment(PYTHON, at, each.first - 1)
            yield each
            at = each.last + 1
        if at <= count:
            yield Segment(PYTHON, at, count)

    def _compute(self, compute: ir.Compute, depth: int) -> None:
        item, node = compute.item, compute.item.node
        made = [value for value in compute.outputs if value >= 0]
        if node.type == "Const":
            self.constants[item.name] = compute.outputs[0]
            for value in made:
                self.names[value] = literal(node)
            return
        if node.type in _IDLE:
            self.idle.append(item.name)
            return
        inputs = [self._name(value) for value in compute.inputs]
        for slot in item.derefs:
            inputs[slot] = f"read {inputs[slot]}"
        if node.type == "_Retval":
            text = f"return {self._fetch(node)} = {inputs[0]}"
        else:
            said = self._said(node, inputs)
            targets = ", ".join(self._new(value) if value >= 0 else "_" for value in compute.outputs)
            text = f"{targets} = {said}" if made else said
        self._say(depth, COMPUTE, text, (item,), compute.inputs, made)

    def _fetch(self, node: StageNode) -> str:
        fetches, index = self.program.stage.fetches, node.attrs.get("index", -1)
        return fetches[index] if 0 <= index < len(fetches) else node.name

    def _said(self, node: StageNode, inputs: Sequence[str]) -> str:
        if node.type == "_Arg":
            feeds, index = self.program.stage.feeds, node.attrs.get("index", -1)
            return f"fed {feeds[index] if 0 <= index < len(feeds) else node.name}"
        if node.type in ("Variable", "VariableV2", "VarHandleOp"):
            return f"variable {node.attrs.get('shared_name') or node.name}"
        if node.type in ("Identity", "RefIdentity") and len(inputs) == 1:
            return inputs[0]
        return f"{operation(node)}({', '.join(inputs)})"

    def _move(self, move: ir.Move, depth: int) -> None:
        source = self._name(move.source)
        text = f"{self._new(move.target)} = {source}"
        if move.index >= 0:
            text += f", {self._new(move.index)} = {move.slot}"
        if move.flag >= 0:
            text = f"unless f{move.flag}: {text}, f{move.flag} = yes"
        self._say(depth, MOVE, text, (move.item,), (move.source,), ir.writes(move))

    def _branch(self, branch: ir.Branch, depth: int) -> None:
        self.branches += 1
        then, orelse = branch.then, branch.orelse
        test = f"f{branch.test.value}" if branch.test.is_flag else self._name(branch.test.value)
        if not _says_something(then) and _says_something(orelse):
            test, then, orelse = f"not {test}", orelse, then
        asked = self._say(depth, BRANCH, f"if {test}", (), ir.reads(branch))
        if branch.test.is_flag:
            asked.handed.append(branch.item.name)
        else:
            self.asking.setdefault(branch.test.value, []).append(asked)
        self._block(then, depth + 1)
        if _says_something(orelse):
            self._say(depth, BRANCH, "else", ())
        self._block(orelse, depth + 1)

    def _loop(self, loop: ir.Loop, depth: int) -> None:
        start = len(self.drafts) + 1
        index = loop.spec.index
        carried = [(target, self._name(source)) for target, source in loop.inits]
        inits = [f"{self._new(target)} = {source}" for target, source in carried]
        inits += [f"{self._new(value)} = 0" for value, _ in loop.indices]
        text = f"{'frame' if loop.test is None else 'loop'} {loop.spec.name}"
        self.entering[index] = self._say(
            depth,
            LOOP,
            f"{text}: {', '.join(inits)}" if inits else text,
            loop.merges,
            (source for _, source in loop.inits),
            ir.writes(loop),
        )
        self.handing += (*loop.enters, *loop.exits, *loop.advances)
        self._block(loop.cond, depth + 1)
        if loop.test is not None:
            self._turn(loop, loop.test, depth + 1)
        self.loops.append((start, len(self.drafts)))
        if _says_something(loop.after):
            self._say(depth, LOOP, f"left {loop.spec.name}", ())
        self._block(loop.after, depth + 1)

    def _turn(self, loop: ir.Loop, test: Item, depth: int) -> None:
        """What follows a loop's condition: out of it or once more."""
        leave = self._say(
            depth, LOOP, f"leave unless {self._name(loop.predicate)}", (test,), (loop.predicate,)
        )
        self.leaving[loop.spec.index] = leave
        self.asking.setdefault(loop.predicate, []).append(leave)
        self._block(loop.body, depth)
        nexts = [
            f"{self._name(target)} = {self._name(source)}"
            for target, source in loop.nexts
            if target != source
        ]
        nexts += [f"{self._name(value)} = 1" for value, _ in loop.indices]
        self.advancing[loop.spec.index] = self._say(
            depth,
            LOOP,
            f"next {', '.join(nexts)}".rstrip(),
            (),
            (source for _, source in loop.nexts),
            (*(target for target, _ in loop.nexts), *(value for value, _ in loop.indices)),
        )

    # Names.

    def _name(self, value: int) -> str:
        return self.names.get(value) or self._new(value)

    def _new(self, value: int) -> str:
        if value not in self.numbers:
            self.numbers[value] = len(self.numbers)
            self.names[value] = f"%{self.numbers[value]}"
        return self.names[value]

    # Nodes without a line of their own.

    def _give_handing(self, at: dict[str, list[int]]) -> None:
        numbers = {id(draft): number for number, draft in enumerate(self.drafts, 1)}
        for item in dict.fromkeys(self.handing):
            if item.name in at:
                continue
            for draft in self._drafts_for(item):
                draft.handed.append(item.name)
        for draft in self.drafts:
            for name in draft.handed:
                at.setdefault(name, []).append(numbers[id(draft)])

    def _drafts_for(self, item: Item) -> list[_Draft]:
        frame = item.frame.index
        if item.flow == ENTER and item.child is not None and item.child.index in self.entering:
            return [self.entering[item.child.index]]
        for flow, known in ((EXIT, self.leaving), (NEXT_ITERATION, self.advancing)):
            if item.flow == flow and frame in known:
                return [known[frame]]
        if item.flow == SWITCH:
            asked = self.asking.get(self._value(*item.node.inputs[1]), [])
            if asked:
                return asked
        if not item.node.inputs:
            self.idle.append(item.name)
            return []
        value = self._value(*item.node.inputs[0])
        maker = self._maker.get(value)
        if maker is None:  # it hands a constant on
            self.constants[item.name] = value
            return []
        return [maker]

    @cached_property
    def _maker(self) -> dict[int, _Draft]:
        """By value of the linear program: the first line that makes it, once all lines are there."""
        found: dict[int, _Draft] = {}
        for draft in self.drafts:
            for value in draft.writes:
                found.setdefault(value, draft)
        return found

    def _value(self, name: str, output: int) -> int:
        """The value on an output of the node `name`: that of the node from which it was handed on."""
        item = self.program.by_name[name]
        while (item.index, output) not in self.made_by and passes(item):
            name, output = item.node.inputs[0]
            item = self.program.by_name[name]
        return self.made_by.get((item.index, output), -1)

    def _give_constants(self, at: dict[str, list[int]]) -> None:
        read: dict[int, list[int]] = {}
        for number, draft in enumerate(self.drafts, 1):
            for value in draft.reads:
                if value not in self.numbers:
                    read.setdefault(value, []).append(number)
        for name, value in self.constants.items():
            if value in read:
                at.setdefault(name, []).extend(read[value])


def _says_something(block: ir.Block) -> bool:
    """Whether the block leaves a line."""
    return any(
        isinstance(each, ir.Move | ir.Lower | ir.Loop | ir.Native)
        or (isinstance(each, ir.Compute) and each.item.node.type not in _IDLE)
        or isinstance(each, ir.Branch)
        for each in block.code
    )
