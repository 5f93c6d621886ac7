"""Keys of executions: where they are, in words that do not depend on the schedule."""

from __future__ import annotations

from typing import Any

from engine.runtime.frames import Activation, Frame
from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION

Key = tuple[Any, int, int]  # where (frames by name and iteration), item, iteration


def begins(key: Key) -> Key:
    """In an order: the execution begins to wait for a queue."""
    place, index, iteration = key
    return ("waits", place), index, iteration


class Keys:
    """The keys of a step's executions."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Frame, Any]] = {}  # by frame id

    def _place(self, frame: Frame) -> Any:
        if frame.parent is None:
            return ()
        found = self._known.get(frame.id)
        if found is None or found[0] is not frame:
            found = self._known[frame.id] = (
                frame,
                (self._place(frame.parent), frame.parent_iteration, frame.spec.index),
            )
        return found[1]

    def of(self, activation: Activation) -> Key:
        """What an execution is, the same in every schedule."""
        item, frame, iteration = activation
        return self._place(frame), item.index, iteration

    def targets(self, activation: Activation) -> list[Key]:
        """Where the tokens of an execution go."""
        item, frame, iteration = activation
        place = self._place(frame)
        if item.flow == ENTER and item.child is not None:
            place, iteration = (place, iteration, item.child.index), 0
        elif item.flow == EXIT and frame.parent is not None:
            place, iteration = self._place(frame.parent), frame.parent_iteration
        elif item.flow == NEXT_ITERATION:
            iteration += 1
        found = [(place, target.index, iteration) for edges in item.data_out for target, _ in edges]
        found += [(place, target.index, iteration) for target in item.control_out]
        return found
