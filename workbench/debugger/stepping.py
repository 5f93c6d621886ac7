"""Stepping: one step under the debugger, with what has executed, what is ready, and the way back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from engine.observe import FrameChange
from engine.runtime.driver import StepRun
from engine.runtime.program import EXIT, Item
from engine.runtime.resources import Resource, Write
from engine.runtime.state import Activation, Frame
from tracing.frames import Loop, loops_of
from tracing.stacks import Resources
from workbench.debugger.frame_notes import NOTHING, FrameNotes
from workbench.debugger.values import Reference

KEPT = 20_000  # executions that can be taken back
KEPT_BYTES = 256 << 20  # unless their outputs take more than this

Place = tuple[int, int]  # a frame's id and an iteration


class Entry:
    """An execution that has happened.  `outputs` is None for a dead one; `previous` is the node's execution before this."""

    __slots__ = (
        "activation",
        "dropped",
        "duration_ns",
        "frames",
        "nbytes",
        "noted",
        "outputs",
        "previous",
        "row",
        "view",
        "view_in_passing",
        "writes",
    )

    def __init__(
        self, row: int, activation: Activation, outputs: Sequence[Any] | None, duration_ns: int
    ) -> None:
        self.row = row
        self.activation = activation
        self.outputs = outputs
        self.duration_ns = duration_ns
        self.previous: Entry | None = None
        self.noted: tuple[tuple[Place, int], ...] = ()  # what it added to `Stepping.done`
        self.dropped: dict[Place, dict[int, bool]] | None = None  # and what it removed
        self.frames = NOTHING  # what it changed in `Stepping.frames`
        self.writes: Sequence[Write] = ()  # the resources that it changed
        self.nbytes = 0
        self.view: Any = None  # what `views.executed_view` made of it
        self.view_in_passing = False


class Stepping:
    """A step that is executed one activation at a time; `back` undoes the last one.

    - `ready`: what may execute, in the interpreter's order (first come, first served).
    - `history`: what has executed, oldest first, as far back as `back` can go; `executed` counts all.
    - `done`: for every open iteration, the nodes that have executed in it (by item index) and whether they were dead.  An Exit
      counts where its token arrives: in the iteration around the frame that it leaves.
    - `latest`: each node's last execution, by item index.
    - `frames`: how each frame was entered, and how its iterations do.
    """

    def __init__(self, step: StepRun) -> None:
        self.step = step
        self.state = step.state
        self.ready: deque[Activation] = deque(step.begin())
        self.history: list[Entry] = []
        self.executed = 0
        self.done: dict[Place, dict[int, bool]] = {}
        self.latest: dict[int, Entry] = {}
        self.frames = FrameNotes()
        self.error: BaseException | None = None
        self._bytes = 0

    @cached_property
    def loops(self) -> dict[str, Loop]:
        """The loops of the step's stage, by the names of their frames."""
        return loops_of(self.step.stage)

    @cached_property
    def uses(self) -> Resources:
        """What the stacks and arrays of the step's stage are for."""
        return Resources(self.step.stage)

    @property
    def next(self) -> Activation | None:
        """What executes next; None at the end of the step."""
        return self.ready[0] if self.ready else None

    @property
    def last(self) -> Entry | None:
        """What executed last, if it can still be seen."""
        return self.history[-1] if self.history else None

    def prefer(self, wanted: Callable[[Activation], bool]) -> bool:
        """Move the first ready activation that is `wanted` to the front; False if there is none."""
        for index, activation in enumerate(self.ready):
            if wanted(activation):
                if index:
                    del self.ready[index]
                    self.ready.appendleft(activation)
                return True
        return False

    def execute(self) -> Entry:
        """Execute the next activation.  Raises what its kernel raises; it is then still the next."""
        activation = self.ready[0]
        outcome = self.step.execute(activation)
        instructions = self.step.finish(activation, outcome)
        self.ready.popleft()
        self.ready.extend(instructions.run)

        entry = Entry(self.executed, activation, _hold(outcome.outputs), outcome.end_ns - outcome.start_ns)
        self.executed += 1
        item, frame, iteration = activation
        entry.previous = self.latest.get(item.index)
        self.latest[item.index] = entry
        dead = outcome.outputs is None
        if item.flow != EXIT:
            self._note(entry, (frame.id, iteration), item, dead)
        elif not dead and frame.parent is not None:
            self._note(entry, (frame.parent.id, frame.parent_iteration), item, dead)
        for change, changed, number in instructions.changes:
            if change is FrameChange.ITERATION_END:
                ended = (changed.id, number)
                if ended in self.done:
                    entry.dropped = {**(entry.dropped or {}), ended: self.done.pop(ended)}
            elif change is FrameChange.FRAME_END and changed.parent is not None:
                for left_dead in changed.dead_exits:
                    self._note(entry, (changed.parent.id, changed.parent_iteration), left_dead, True)
        entry.frames = self.frames.take(entry.row, activation, dead, instructions.changes)
        entry.writes = outcome.writes
        entry.nbytes = sum(getattr(value, "nbytes", 0) for value in entry.outputs or ())
        self._bytes += entry.nbytes
        self.history.append(entry)
        if len(self.history) > 2 * KEPT or (self._bytes > KEPT_BYTES and len(self.history) > 1):
            self._forget()
        return entry

    def back(self) -> Entry:
        """Take the last execution back and return it: tokens, frames and variables are as before.

        Raises IndexError if nothing is left that could be taken back.
        """
        entry = self.history.pop()
        self.step.undo()
        self.error = None
        self.executed -= 1
        self._bytes -= entry.nbytes
        self.frames.back(entry.frames)
        self.done.update(entry.dropped or {})
        for place, noted in entry.noted:
            del self.done[place][noted]
        index = entry.activation.item.index
        if entry.previous is None:
            del self.latest[index]
        else:
            self.latest[index] = entry.previous
        self.ready = deque(self.step.ready)
        self.prefer(lambda activation: activation == entry.activation)
        return entry

    def _note(self, entry: Entry, place: Place, item: Item, dead: bool) -> None:
        self.done.setdefault(place, {})[item.index] = dead
        entry.noted = (*entry.noted, (place, item.index))

    def is_open(self, frame: Frame) -> bool:
        """Whether `frame` has not ended."""
        return any(frame is other for other in self.state.live_frames())

    def _forget(self) -> None:
        """Let go of the older half of the history."""
        keep = min(len(self.history) // 2, KEPT)
        for entry in self.history[:-keep]:
            entry.previous = None
            entry.dropped, entry.noted, entry.frames, entry.writes = None, (), NOTHING, ()
            self._bytes -= entry.nbytes
        del self.history[:-keep]
        self.frames.forget(self.history[0].row)
        self.step.forget(keep)


def _hold(outputs: Sequence[Any] | None) -> Sequence[Any] | None:
    """`outputs` with references to variables replaced by what the variables hold now."""
    if outputs is None or not any(isinstance(value, Resource) for value in outputs):
        return outputs
    return tuple(Reference(value) if isinstance(value, Resource) else value for value in outputs)
