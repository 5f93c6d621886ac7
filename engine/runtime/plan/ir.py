"""The linear program: instructions over numbered values, with branches and loops as blocks.

A value is a number; one that only changes hands (through Switch, Enter, Exit, NextIteration or Identity) keeps its number.  What
a Merge gives has a number of its own, into which each side moves its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.passes.stage import StageNode
    from engine.runtime.plan.native_writes import Effect
    from engine.runtime.plan.segment import Segment
    from engine.runtime.program import FrameSpec, Item


class NotExpressible(Exception):
    """A plan cannot say this; `item` is the node that it is about, the message one sentence."""

    def __init__(self, reason: str, item: Item | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.item = item


@dataclass(slots=True)
class Compute:
    """Run the kernel of `item`.  `inputs` and `outputs` are values; an output that nobody reads is -1."""

    item: Item
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(slots=True)
class Pass:
    """`item` executes and computes nothing: its outputs are its inputs under other names."""

    item: Item


@dataclass(slots=True)
class Move:
    """`target` becomes `source`: the Merge `item` got its input `slot` alive.

    `flag` is the number of the flag that says that the Merge has fired, or -1 where exactly one of its inputs is alive for sure.
    `index` is the value that becomes `slot` itself (-1: nobody asks).
    """

    item: Item
    slot: int
    target: int
    source: int
    index: int = -1
    flag: int = -1


@dataclass(slots=True)
class Lower:
    """The flag `flag` is put down: the Merge `item` has not fired in this iteration."""

    item: Item
    flag: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A condition: the value `value` (a bool scalar) is `wanted`; or, with `is_flag`, the flag of that number is up."""

    value: int
    wanted: bool
    is_flag: bool = False


@dataclass(slots=True)
class Branch:
    """`then` if the value (or flag) of `test` is true, else `orelse`; `item` is a Switch that asks."""

    test: Literal  # with wanted=True
    item: Item
    then: Block = field(default_factory=lambda: Block())
    orelse: Block = field(default_factory=lambda: Block())


@dataclass(slots=True)
class Loop:
    """A frame: `inits` are (target, source) moves before it; then over and over `cond`, out if `predicate` is false, `body`, and
    the `nexts` all at once.  `after` runs once, in the last iteration's stead.

    `enters` are the Enter nodes, which execute in the frame around; `exits` the Exit nodes; `merges` the header's Merges, and
    `advances` the NextIterations.  `indices` are (value, Merge) where a Merge's `value_index` is asked for.  `test` is the
    LoopCond; without one the frame has a single iteration, which is all in `cond`.
    """

    spec: FrameSpec
    cond: Block
    enters: list[Item]
    inits: list[tuple[int, int]] = field(default_factory=list)
    predicate: int = -1
    test: Item | None = None
    body: Block = field(default_factory=lambda: Block())
    nexts: list[tuple[int, int]] = field(default_factory=list)
    after: Block = field(default_factory=lambda: Block())
    indices: list[tuple[int, Item]] = field(default_factory=list)
    merges: list[Item] = field(default_factory=list)
    advances: list[Item] = field(default_factory=list)
    exits: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Native:
    """A stretch of the program that machine code runs: `covers` are the instructions that it stands for.

    It is given the values `inputs` and what the variables in `read` hold (reference, first reader), and gives arrays: those of
    the values in `outputs` (value, which array), and those that variables become in `written` (reference, which array, kind,
    writer).  `constants` are values that turned out to be constant, `references` values that are another one, `passed`
    values that are what it was given: (value, which of the inputs, then of those read).  `effects` says of the items that write
    what they do to stacks, TensorArrays and variables; `looks` of those that take time what their outputs are: the number of a
    look, a constant, a handle, or None if that is not known.
    """

    segment: Segment
    covers: tuple[Instruction, ...]
    inputs: tuple[int, ...]
    read: tuple[tuple[int, StageNode | None], ...]
    outputs: tuple[tuple[int, int], ...]
    written: tuple[tuple[int, int, str, StageNode | None], ...]
    constants: tuple[tuple[int, Any], ...]
    references: tuple[tuple[int, int], ...]
    passed: tuple[tuple[int, int], ...] = ()
    effects: tuple[tuple[int, Effect], ...] = ()
    looks: tuple[tuple[int, tuple[Any, ...]], ...] = ()
    has_loops: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_loops = any(isinstance(each, Loop) for each in walk(Block(list(self.covers))))


Instruction = Compute | Pass | Move | Lower | Branch | Loop | Native


@dataclass(slots=True)
class Block:
    """Instructions, one after the other."""

    code: list[Instruction] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.code)


@dataclass(slots=True)
class Linear:
    """A stage as one linear program: `values` is how many there are, `flags` likewise.

    `sources[v]` is the (item, output) that made value v: of a Merge, the Merge.  `unreachable` are items dead in any run.
    """

    body: Block
    sources: list[tuple[Item, int]]
    flags: int
    unreachable: list[Item]

    @property
    def values(self) -> int:
        return len(self.sources)

    def walk(self) -> Iterator[Instruction]:
        """Every instruction, in the order of the text."""
        return walk(self.body)

    @property
    def loops(self) -> list[Loop]:
        return [each for each in self.walk() if isinstance(each, Loop)]


def walk(block: Block) -> Iterator[Instruction]:
    """Every instruction of `block` and of the blocks inside, in the order of the text."""
    stack = [iter(block.code)]
    while stack:
        for each in stack[-1]:
            yield each
            inner = blocks_of(each)
            if inner:
                stack.extend(iter(one.code) for one in reversed(inner))
                break
        else:
            stack.pop()


def blocks_of(instruction: Instruction) -> tuple[Block, ...]:
    """The blocks inside an instruction, in the order in which they run."""
    if isinstance(instruction, Branch):
        return instruction.then, instruction.orelse
    if isinstance(instruction, Loop):
        return instruction.cond, instruction.body, instruction.after
    return ()


def reads(instruction: Instruction) -> tuple[int, ...]:
    """The values that the instruction itself reads, without those of the blocks inside."""
    if isinstance(instruction, Compute):
        return instruction.inputs
    if isinstance(instruction, Move):
        return (instruction.source,)
    if isinstance(instruction, Branch):
        return () if instruction.test.is_flag else (instruction.test.value,)
    if isinstance(instruction, Native):
        variables = (*(each[0] for each in instruction.read), *(each[0] for each in instruction.written))
        return (*instruction.inputs, *variables, *(to for _, to in instruction.references))
    if isinstance(instruction, Loop):
        carried = tuple(source for _, source in (*instruction.inits, *instruction.nexts))
        return (*carried, instruction.predicate) if instruction.test is not None else carried
    return ()


def writes(instruction: Instruction) -> tuple[int, ...]:
    """The values that the instruction itself makes, without those of the blocks inside."""
    if isinstance(instruction, Compute):
        return tuple(value for value in instruction.outputs if value >= 0)
    if isinstance(instruction, Move):
        return tuple(value for value in (instruction.target, instruction.index) if value >= 0)
    if isinstance(instruction, Native):
        made = (*instruction.outputs, *instruction.references, *instruction.passed)
        return tuple(value for value, _ in made)
    if isinstance(instruction, Loop):
        return (*(target for target, _ in instruction.inits), *(value for value, _ in instruction.indices))
    return ()
