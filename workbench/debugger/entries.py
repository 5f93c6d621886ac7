"""Entries: the executions that have happened, each as small as can be, with what is needed to take it back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.runtime.resources import Resource, Write
from engine.runtime.state import Activation
from workbench.debugger.effects import effect_of
from workbench.debugger.frame_notes import NOTHING, Undo
from workbench.debugger.overrides import Override
from workbench.debugger.values import Reference

Place = tuple[int, int]  # a frame's id and an iteration


class More:
    """What few entries have: see the properties of `Entry`."""

    __slots__ = (
        "change",
        "dropped",
        "frames",
        "made",
        "marks",
        "moved",
        "noted",
        "override",
        "view_in_passing",
        "writes",
    )

    def __init__(self) -> None:
        self.noted: tuple[tuple[Place, int], ...] | None = None
        self.dropped: dict[Place, dict[int, bool]] | None = None
        self.frames: Undo = NOTHING
        self.writes: Sequence[Write] = ()
        self.made: tuple[Resource, ...] = ()
        self.moved: list[int] | None = None
        self.change: Override | None = None
        self.override: Override | None = None
        self.marks: Sequence[Any] = ()
        self.view_in_passing = False


class Entry:
    """An execution that has happened.

    - `row` counts the step's executions from 0;
    - `outputs` is None for a dead one, and has a `Reference` in place of each resource;
    - `previous` is the node's execution before this one;
    - `released` counts what it made ready.
    """

    __slots__ = ("activation", "duration_ns", "more", "outputs", "previous", "released", "row", "view")

    def __init__(
        self,
        row: int,
        activation: Activation,
        outputs: Sequence[Any] | None,
        duration_ns: int,
        previous: Entry | None = None,
        released: int = 0,
    ) -> None:
        self.row = row
        self.activation = activation
        self.outputs = outputs
        self.duration_ns = duration_ns
        self.previous = previous
        self.released = released
        self.view: Any = None  # what `views.executed_view` made of it
        self.more: More | None = None

    def rest(self) -> More:
        """What few entries have, to be changed."""
        if self.more is None:
            self.more = More()
        return self.more

    @property
    def writes(self) -> Sequence[Write]:
        """The changes of resources that it made, in order."""
        return () if self.more is None else self.more.writes

    @property
    def frames(self) -> Undo:
        """What it changed in `Stepping.frames`."""
        return NOTHING if self.more is None else self.more.frames

    @property
    def dropped(self) -> dict[Place, dict[int, bool]] | None:
        """What it removed from `Stepping.done`."""
        return None if self.more is None else self.more.dropped

    @property
    def view_in_passing(self) -> bool:
        """Whether `view` says less than it could."""
        return self.more is not None and self.more.view_in_passing

    @view_in_passing.setter
    def view_in_passing(self, value: bool) -> None:
        if value or self.more is not None:
            self.rest().view_in_passing = value

    @property
    def override(self) -> Override | None:
        """The change made by hand that it descends from, or is."""
        return None if self.more is None else self.more.override

    @property
    def change(self) -> Override | None:
        """The change made by hand that it is: nothing has then executed.  Its activation is the one whose output was overridden,
        or stands for the change alone (its item's index is -1)."""
        return None if self.more is None else self.more.change

    @property
    def tainted(self) -> bool:
        """Whether it descends from something that was changed by hand."""
        return self.more is not None and self.more.override is not None

    @property
    def effect(self) -> str:
        """What of it stays when it is taken back (``it printed``); empty where nothing does."""
        return effect_of(self.activation.item) if self.outputs is not None and self.change is None else ""

    @property
    def nbytes(self) -> int:
        """Bytes of its outputs."""
        outputs = self.outputs
        if not outputs:
            return 0
        if len(outputs) == 1:
            return getattr(outputs[0], "nbytes", 0)
        return sum(getattr(value, "nbytes", 0) for value in outputs)

    def arrays(self) -> Iterator[Any]:
        """The arrays that this entry keeps alive: its outputs, and what resources held before and after it."""
        for value in self.outputs or ():
            found = value.value if isinstance(value, Reference) else value
            if hasattr(found, "nbytes"):
                yield found
        for write in self.writes:
            for found in (write.old, write.new):
                if hasattr(found, "nbytes"):
                    yield found


def hold(outputs: Sequence[Any] | None) -> Sequence[Any] | None:
    """`outputs` with references to variables replaced by what the variables hold now."""
    if outputs is None or not any(isinstance(value, Resource) for value in outputs):
        return outputs
    return tuple(Reference(value) if isinstance(value, Resource) else value for value in outputs)


def place_of(activation: Activation) -> tuple[int, int, int]:
    """What an activation is, also if its frame has been left and entered anew."""
    return activation.item.index, activation.frame.id, activation.iteration


def gave_the_same(before: Any, after: Any) -> bool:
    """Whether the outputs of two executions of a node are the same, bit for bit."""
    if before is None or after is None:
        return before is after
    return len(before) == len(after) and all(map(_same_value, before, after))


def _same_value(before: Any, after: Any) -> bool:
    if isinstance(before, Reference) and isinstance(after, Reference):
        if before.resource.name != after.resource.name:
            return False
        before, after = before.value, after.value
    if before is after:
        return True
    if isinstance(before, np.ndarray | np.generic) and isinstance(after, np.ndarray | np.generic):
        if before.dtype != after.dtype or before.shape != after.shape:
            return False
        if before.dtype.hasobject:
            return bool(np.array_equal(before, after))
        return before.tobytes() == after.tobytes()
    return type(before) is type(after) and not hasattr(before, "nbytes")
