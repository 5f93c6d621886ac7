"""What the executor's state is made of: tokens, iterations, frames, activations; and what the machine is told and tells.

The rules by which these change are in `engine.runtime.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.observe import FrameChange
from engine.runtime.program import FrameSpec, Item


class _Dead:
    """The token that says: this value will never come, its branch was not taken."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DEAD"


DEAD = _Dead()


class _Absent:
    """What is in an input slot before its token arrives."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


class Iteration:
    """One iteration of a frame: pending counts and dead counts by `Item.local`, input slots, what is outstanding.

    `outstanding` counts activations that are ready or running, `children` frames entered from here that have not ended.
    """

    __slots__ = ("children", "dead", "inputs", "outstanding", "pending")

    def __init__(self, spec: FrameSpec) -> None:
        self.pending = spec.pending.copy()
        self.inputs: list[Any] = [ABSENT] * spec.slots
        self.dead: dict[int, int] = {}
        self.outstanding = 0
        self.children = 0


class Frame:
    """One entry into a static frame: the root, or one execution of a loop."""

    __slots__ = (
        "count",
        "dead_exits",
        "deferred",
        "id",
        "invariants",
        "iterations",
        "live",
        "parent",
        "parent_iteration",
        "pending_enters",
        "spec",
    )

    def __init__(self, id: int, spec: FrameSpec, parent: Frame | None, parent_iteration: int) -> None:
        self.id = id
        self.spec = spec
        self.parent = parent
        self.parent_iteration = parent_iteration
        self.iterations: dict[int, Iteration] = {0: Iteration(spec)}
        self.count = 0  # the newest iteration's number
        self.pending_enters = spec.enters
        self.deferred: list[tuple[Item, Any]] = []
        self.invariants: list[tuple[Item, Any]] = []
        self.dead_exits: list[Item] = []
        self.live = False

    @property
    def name(self) -> str:
        """The frame's name in the graph; '' for the root."""
        return self.spec.name

    @property
    def tag(self) -> str:
        """What tells this execution of the frame from all others, and is the same on every device; ``0`` is the root."""
        parent = self.parent
        if parent is None:
            return "0"
        around = "" if parent.parent is None else f"{parent.tag}:"
        return f"{around}{self.name}@{self.parent_iteration}"

    @property
    def path(self) -> str:
        """The way in: ``root > while/while_context@0 > …``, with the iteration from which each frame was entered."""
        parts: list[str] = []
        frame: Frame | None = self
        while frame is not None and frame.parent is not None:
            parts.append(f"@{frame.parent_iteration} > {frame.name}")
            frame = frame.parent
        return "root" + "".join(reversed(parts))

    def __repr__(self) -> str:
        return f"<Frame {self.id} {self.path}>"


class Activation(NamedTuple):
    """One node in one iteration of one frame."""

    item: Item
    frame: Frame
    iteration: int

    @property
    def node_index(self) -> int:
        return self.item.index

    @property
    def name(self) -> str:
        return self.item.node.name


class Finished(NamedTuple):
    """The event: an activation is done.  `outputs` are its output tokens, or None for a dead node (all outputs dead)."""

    activation: Activation
    outputs: Sequence[Any] | None


class Change(NamedTuple):
    """Something happened to a frame or an iteration."""

    change: FrameChange
    frame: Frame
    iteration: int


class Delivered(NamedTuple):
    """A token arrived: output `source_slot` (-1: control) at input `slot` of `item` in `frame` and `iteration`."""

    source_slot: int
    item: Item
    slot: int
    frame: Frame
    iteration: int
    dead: bool


class Instructions(NamedTuple):
    """What follows from an event: activations to run, changes of frames, and tokens delivered (if asked for)."""

    run: list[Activation]
    changes: list[Change]
    tokens: list[Delivered]
