"""Entries: the executions that have happened, each as small as can be, with what is needed to take it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.op.queues import Blocked
from engine.runtime.frames import Activation
from engine.runtime.program import Item
from engine.runtime.resources import Resource, Write
from workbench.debugger.effects import effect_of
from workbench.debugger.overrides import Override
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.history import History

Place = tuple[int, int]  # a frame's id and an iteration


class Turn(NamedTuple):
    """Between two executions `activation` has had to wait for a queue (None: nobody has), and those `allowed` wait no more."""

    activation: Activation | None
    blocked: Blocked | None
    allowed: tuple[Activation, ...]


Moves = list[int | Turn]
"""What changed the order of what is ready since the execution before: from where something was preferred, or a `Turn`."""


class More:
    """What few entries have: see the properties of `Entry`."""

    __slots__ = (
        "change",
        "made",
        "marks",
        "moved",
        "override",
        "view_in_passing",
        "writes",
    )

    def __init__(self) -> None:
        self.writes: Sequence[Write] = ()
        self.made: tuple[Resource, ...] = ()
        self.moved: Moves | None = None
        self.change: Override | None = None
        self.override: Override | None = None
        self.marks: Sequence[Any] = ()
        self.view_in_passing = False


class Entry:
    """An execution that has happened.

    - `row` counts the step's executions from 0;
    - `outputs` is None for a dead one, and has a `Reference` in place of each resource;
    - `released` counts what it made ready;
    - `home` is the history that it is in.
    """

    __slots__ = ("activation", "duration_ns", "home", "more", "outputs", "released", "row", "view")

    def __init__(
        self,
        row: int,
        activation: Activation,
        outputs: Sequence[Any] | None,
        duration_ns: int,
        home: Callable[[], History | None],
        released: int = 0,
    ) -> None:
        self.row = row
        self.activation = activation
        self.outputs = outputs
        self.duration_ns = duration_ns
        self.home = home
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
    def previous(self) -> Entry | None:
        """The node's execution before this one, if it is kept."""
        history = self.home()
        if history is None:
            return None
        return history.at(history.before(self.row, self.activation.item))

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


class Facts(NamedTuple):
    """What there is to know of one execution, whether or not it has an entry: its item, its outputs, what it changed."""

    item: Item
    outputs: Sequence[Any] | None
    writes: Sequence[Write]

    def arrays(self) -> Iterator[Any]:
        """The arrays that it keeps alive: its outputs, and what resources held before and after it."""
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
