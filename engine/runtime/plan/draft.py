"""A segment under way: what has been lowered into it so far, and what is known of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.passes.stage import StageNode
from engine.runtime.plan.ir import Instruction
from engine.runtime.plan.native_writes import Effect
from engine.runtime.plan.recording import Recorder

if TYPE_CHECKING:
    from engine.native.layout import View


@dataclass(slots=True, eq=False)
class Use:
    """A variable that a segment uses: the value that is its reference, who reads it first, and what it holds in the segment.

    writes: the kind of each write, and who writes.
    """

    reference: int
    reader: StageNode | None = None
    entry: View | None = None
    now: View | None = None
    writes: tuple[tuple[str, StageNode], ...] = ()


@dataclass(slots=True, eq=False)
class Draft:
    """A segment under way."""

    recorder: Recorder
    covers: list[Instruction] = field(default_factory=list)
    inputs: dict[int, View] = field(default_factory=dict)
    known: dict[int, Any] = field(
        default_factory=dict
    )  # value -> View, constant array, or the name of a variable
    variables: dict[str, Use] = field(default_factory=dict)
    late: list[Instruction] = field(default_factory=list)  # what comes behind the segment
    moved: set[int] = field(default_factory=set)  # the Moves that are in it
    effects: dict[int, Effect] = field(default_factory=dict)  # by item: what it does to a resource
    handles: dict[int, int] = field(default_factory=dict)  # by the id of a handle: the item that made it
    made: Sequence[Any] = ()  # the outputs of the op that was lowered last, as they are known
    looks: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # by item: its outputs, as `Native.looks`
    opened: bool = True  # whether there is a time for the beginning of the run of instructions under way
    computes: int = 0
    loops: int = 0
