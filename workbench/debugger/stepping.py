"""Stepping: one step under the debugger, with what has executed, what is ready, the way back, and the way on again.

What has executed freely (`workbench.debugger.free_running`) is read when somebody looks at what came of it.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from engine.observe import FrameChange
from engine.op.queues import Blocked
from engine.runtime.driver import Outcome, StepRun
from engine.runtime.program import ENTER, EXIT, SEND, Item
from engine.runtime.resources import NO_KEY, Write
from engine.runtime.state import Activation, Change, Frame, outputs_of
from tracing.frames import Loop, loops_of
from tracing.stacks import Resources
from workbench.debugger.entries import Entry, Place, gave_the_same, hold, place_of
from workbench.debugger.frame_notes import FrameNotes
from workbench.debugger.free_running import Special, Unread
from workbench.debugger.holding import ENTRY_BYTES, HOLDS, KEPT, KEPT_BYTES, STATEFUL, Budget, traits_of
from workbench.debugger.overrides import Override, Overrides
from workbench.debugger.schedules.following import Picks
from workbench.debugger.values import Reference

__all__ = ["Entry", "Place", "Stepping"]

_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor
VISITED = 1_000  # places where the step has stopped


class Read(NamedTuple):
    """What has been read of a step: see `Stepping`."""

    history: list[Entry]
    latest: dict[int, Entry]
    executed: int


class Stepping:
    """A step that is executed one activation at a time; `back` undoes the last one.

    - `ready`: what may execute, in the interpreter's order (first come, first served) but for what was preferred.
    - `history`: what has executed, oldest first, as far back as `back` can go; `executed` counts all.
    - `future`: what was taken back and has not been executed again, the next to come last.  It lasts as long as the same
      activations are executed again; whatever else changes the step (`branch`) ends it.
    - `done`: for every open iteration, the nodes that have executed in it (by item index) and whether they were dead.  An Exit
      counts where its token arrives: in the iteration around the frame that it leaves.
    - `latest`: each node's last execution, by item index.
    - `frames`: how each frame was entered, and how its iterations do.
    - `scheduler`: asked before each execution, unless the move prefers something; it brings its choice to the front (`prefer`).
    - `kept` and `kept_bytes`: the budget of the history.
    - `overrides`: what was changed by hand, and what descends from it.
    - `foreign`: what `back` has found changed by another step since.
    """

    def __init__(self, step: StepRun, kept: int = 0, kept_bytes: int = 0) -> None:
        self.step = step
        self.state = step.state
        self.ready: deque[Activation] = deque(step.begin())
        self.future: list[Entry] = []
        self._history: list[Entry] = []
        self._executed = 0  # but for what is unread
        self._done: dict[Place, dict[int, bool]] = {}
        self._latest: dict[int, Entry] = {}
        self._frames = FrameNotes()
        self.unread = Unread([] if step.state.journal is None else step.state.journal)
        self.overrides = Overrides()
        self.error: BaseException | None = None
        self.scheduler: Callable[[Stepping], None] | None = None
        self.foreign: list[str] = []
        self.visited: list[
            int
        ] = []  # executions done at each place where the step has stopped, and which of these we are at
        self.visiting = -1
        self._idle = (-1, 0.0)  # executions done when nothing could run, and since when that is so
        self._waited = False  # whether anything has waited for a queue so far
        self._moved: list[int] = []  # where `prefer` has taken activations from since the last execution
        self.traits = traits_of(step.executable)
        self._marks, self._sizes = self.traits.marks, self.traits.sizes
        self._budget = Budget(self._sizes, kept or KEPT, kept_bytes or KEPT_BYTES)
        self.picks = Picks(len(self.ready))  # what was chosen in executions that the history has forgotten

    @cached_property
    def loops(self) -> dict[str, Loop]:
        """The loops of the step's stage, by the names of their frames."""
        return loops_of(self.step.stage)

    @cached_property
    def uses(self) -> Resources:
        """What the stacks and arrays of the step's stage are for."""
        return Resources(self.step.stage)

    # What has executed, read first if it is not yet.

    @property
    def history(self) -> list[Entry]:
        if self.unread.durations:
            self.catch_up()
        return self._history

    @property
    def done(self) -> dict[Place, dict[int, bool]]:
        if self.unread.durations:
            self.catch_up()
        return self._done

    @property
    def latest(self) -> dict[int, Entry]:
        if self.unread.durations:
            self.catch_up()
        return self._latest

    @property
    def frames(self) -> FrameNotes:
        if self.unread.durations:
            self.catch_up()
        return self._frames

    @property
    def executed(self) -> int:
        return self.unread.executed if self.unread.durations else self._executed

    @property
    def read(self) -> Read:
        """What has been read so far, as it is."""
        return Read(self._history, self._latest, self._executed)

    @property
    def bytes_at_most(self) -> int:
        """Bytes of arrays that the history keeps alive, without a closer look at what is unread."""
        return self._budget.bytes + self.unread.nbytes

    @property
    def kept(self) -> int:
        return self._budget.kept

    @property
    def kept_bytes(self) -> int:
        return self._budget.kept_bytes

    @property
    def next(self) -> Activation | None:
        """What executes next; None at the end of the step."""
        return self.ready[0] if self.ready else None

    @property
    def last(self) -> Entry | None:
        """What executed last, if it can still be seen."""
        history = self.history
        return history[-1] if history else None

    @property
    def held_bytes(self) -> int:
        """Bytes that the history takes, arrays that several executions hold counted once."""
        kept = len(self.history)
        return self._budget.bytes + ENTRY_BYTES * kept

    @property
    def waited(self) -> bool:
        """Whether something has had to wait for a queue: then what runs next does not depend on this step alone."""
        return self._waited

    @property
    def moved(self) -> Sequence[int]:
        """Where `prefer` has taken activations from, one after the other, since the last execution."""
        return self._moved

    def entry_at(self, row: int) -> Entry | None:
        """Execution `row`, if the history still has it."""
        history = self.history
        index = row - (self._executed - len(history))
        return history[index] if 0 <= index < len(history) else None

    def prefer(self, wanted: Callable[[Activation], bool]) -> bool:
        """Move the first ready activation that is `wanted` to the front; False if there is none."""
        for index, activation in enumerate(self.ready):
            if wanted(activation):
                if index:
                    del self.ready[index]
                    self.ready.appendleft(activation)
                    self._moved.append(index)
                return True
        return False

    # Forward.

    def execute(self) -> Entry:
        """Execute the next activation.  Raises what its kernel raises; it is then still the next.

        Raises Blocked if it has to wait for a queue: it is then ready no more, until the queue has changed (`wait`).
        """
        if self.unread.durations:
            self.catch_up()
        activation = self.ready[0]
        if self.future:
            return self._again(activation)
        index = activation.item.index
        if self._marks[index] & STATEFUL:
            return self._stateful(activation)
        if self.overrides.orders:
            return self._finish(activation, index, self._outcome(activation))
        try:
            outcome = self.step.execute(activation)
        except Blocked as blocked:
            self.park(activation, blocked)
            raise
        return self._finish(activation, index, outcome)

    def _outcome(self, activation: Activation) -> Outcome:
        """What executing the activation gives, as it was ordered by hand if it was."""
        try:
            if self.overrides.orders:
                return self.overrides.execute(self, activation)
            return self.step.execute(activation)
        except Blocked as blocked:
            self.park(activation, blocked)
            raise

    def park(self, activation: Activation, blocked: Blocked) -> None:
        """Put aside what is next, and has to wait for a queue."""
        self.step.park(activation, blocked)
        self.ready.popleft()
        self._waited = True

    def wait(self, seconds: float) -> None:
        """Wait so long for a queue that something waits for; what can be tried again is ready then."""
        self.ready.extend(self.step.awaited(seconds))

    def is_stuck(self, seconds: float) -> bool:
        """Whether it is known for so long that nothing can run but for what waits."""
        executed, since = self._idle
        if executed != self.executed:
            self._idle = self.executed, time.monotonic()
            return False
        return time.monotonic() - since > seconds

    def _stateful(self, activation: Activation) -> Entry:
        """Execute what may change resources, and note those that it makes for this step."""
        step = self.step
        resources, container = step.resources, step.context.container
        before = resources.count(container)
        outcome = self._outcome(activation)
        made = resources.count(container) != before
        entry = self._finish(activation, activation.item.index, outcome)
        if made:
            entry.rest().made = resources.made_since(before, container)
        return entry

    def _finish(self, activation: Activation, index: int, outcome: Outcome) -> Entry:
        outputs, start, end, writes = outcome
        overrides = self.overrides
        override = overrides.before(self, activation, outcome) if overrides.active else None
        instructions = self.step.finish(activation, outcome)
        run, changes, _ = instructions
        ready = self.ready
        ready.popleft()
        if run:
            ready.extend(run)
        latest = self._latest
        entry = latest[index] = Entry(
            self._executed, activation, outputs, end - start, latest.get(index), len(run)
        )
        self._executed += 1
        if overrides.active:
            marks = overrides.after(self, activation, override, outcome, instructions)
            if marks or override is not None:
                more = entry.rest()
                more.override, more.marks = override, marks
        history = self._history
        history.append(entry)
        if changes or writes or self._moved or self._marks[index]:
            if self._marks[index] & HOLDS:
                entry.outputs = hold(outputs)
            if self._moved:
                entry.rest().moved, self._moved = self._moved, []
            self._note_more(entry, changes, writes)
        else:
            _, frame, iteration = activation
            place = (frame.id, iteration)
            done = self._done.get(place)
            if done is None:
                done = self._done[place] = {}
            done[index] = outputs is None
            if outputs is not None:
                size = self._sizes[index]
                if size >= 0:
                    self._budget.bytes += size
                else:
                    self._budget.hold(entry)
        budget = self._budget
        if len(history) > budget.most or budget.bytes > budget.most_bytes:
            self._forget()
        return entry

    def _note_more(self, entry: Entry, changes: Sequence[Change], writes: Sequence[Write]) -> None:
        """What is special about an execution."""
        activation = entry.activation
        item, frame, iteration = activation
        dead = entry.outputs is None
        if writes:
            entry.rest().writes = writes
        if item.flow != EXIT:
            self._note((frame.id, iteration), item, dead)
        elif not dead and frame.parent is not None:
            self._note((frame.parent.id, frame.parent_iteration), item, dead)
        noted: tuple[tuple[Place, int], ...] = ()
        for change, changed, number in changes:
            if change is FrameChange.ITERATION_END:
                ended = (changed.id, number)
                if ended in self._done:
                    more = entry.rest()
                    more.dropped = {**(more.dropped or {}), ended: self._done.pop(ended)}
            elif change is FrameChange.FRAME_END and changed.parent is not None:
                around = (changed.parent.id, changed.parent_iteration)
                for left_dead in changed.dead_exits:
                    self._note(around, left_dead, True)
                    noted = (*noted, (around, left_dead.index))
        if noted:
            entry.rest().noted = noted
        if changes or item.flow == ENTER:
            entry.rest().frames = self._frames.take(entry.row, activation, dead, changes)
        self._budget.hold(entry)

    def _note(self, place: Place, item: Item, dead: bool) -> None:
        self._done.setdefault(place, {})[item.index] = dead

    # Forward again.

    def _again(self, activation: Activation) -> Entry:
        """Execute what is perhaps the next of what was taken back."""
        known = self.future[-1]
        if place_of(known.activation) != place_of(activation):
            self.branch()
            return self.execute()
        rest = self.future
        rest.pop()
        self.future = []
        entry = self._repeat(activation, known)
        if entry is not None:
            self.future = rest
            return entry
        entry = self.execute()
        if gave_the_same(known.outputs, entry.outputs):
            self.future = rest
        return entry

    def _repeat(self, activation: Activation, known: Entry) -> Entry | None:
        """Put back what `known` gave, without running its kernel again; None where that would not be the same.

        What has effects is not to have them twice; what reads or changes resources is run again, and gives the same if nobody
        else has changed them.
        """
        item = activation.item
        if known.outputs is None or item.flow >= SEND:
            return None
        effect = known.effect
        if not effect and (self._marks[item.index] & (HOLDS | STATEFUL) or item.derefs):
            return None
        if any(isinstance(value, Reference) for value in known.outputs):
            return None
        resources = self.step.resources
        writes = [
            resources.write(each.resource, each.new, each.kind) for each in known.writes if each.key is NO_KEY
        ]
        outcome = Outcome(known.outputs, 0, known.duration_ns, writes)
        return self._finish(activation, item.index, outcome)

    def redo(self) -> Entry:
        """Execute again what was taken back last.  Raises IndexError if there is nothing (any more), and what kernels raise."""
        wanted = place_of(self.future[-1].activation)
        if not self.prefer(lambda activation: place_of(activation) == wanted):
            self.branch()
            raise IndexError("what was taken back cannot run here")
        return self.execute()

    def branch(self) -> None:
        """The step goes another way than before: what was taken back will not come again."""
        self.future = []

    # Changes.

    def change(
        self,
        override: Override,
        activation: Activation,
        outputs: Sequence[Any] | None = (),
        edits: Sequence[tuple[list[Any], int, Any]] = (),
        writes: Sequence[Write] = (),
    ) -> Entry:
        """Make a change by hand, as an entry of the history that `back` takes back.

        activation: the execution whose `outputs` are no longer what they were, or one that stands for the change alone.
        edits: tokens to change, as `StepRun.amend` takes them.  writes: what has been written to resources.
        """
        self.catch_up()
        self.branch()
        self.step.amend(activation, edits, writes)
        index = activation.item.index
        entry = Entry(self._executed, activation, hold(outputs), 0, self._latest.get(index))
        more = entry.rest()
        more.change = more.override = override
        more.writes, more.moved, more.marks = writes, list(self._moved), self.overrides.take_log()
        if entry.previous is not None:
            self._latest[index] = entry
        self._executed += 1
        self._history.append(entry)
        self._budget.hold(entry)
        return entry

    # Back.

    def back(self) -> Entry:
        """Take the last execution back and return it: tokens, frames and variables are as before.

        Raises IndexError if nothing is left that could be taken back.
        """
        entry = self.history.pop()  # everything is read then
        if entry.writes:
            self._look_for_foreign(entry)
        self.step.undo()
        self.error = None
        self._executed -= 1
        self._budget.release(entry)
        if entry.change is not None:
            return self._back_from_change(entry)
        activation = entry.activation
        item, frame, iteration = activation
        more = entry.more
        self._make_ready_again(entry)
        if more is not None:
            self._frames.back(more.frames)
            self.overrides.back(more.marks)
            self._done.update(more.dropped or {})
            for place, noted in more.noted or ():
                del self._done[place][noted]
            for made in more.made:
                self.step.resources.discard(made)
        if item.flow != EXIT:
            self._unnote((frame.id, iteration), item)
        elif entry.outputs is not None and frame.parent is not None:
            self._unnote((frame.parent.id, frame.parent_iteration), item)
        if entry.previous is None:
            del self._latest[item.index]
        else:
            self._latest[item.index] = entry.previous
        self.future.append(entry)
        return entry

    def _make_ready_again(self, entry: Entry) -> None:
        """What was ready before `entry` executed, in the same order, is ready."""
        ready, more = self.ready, entry.more
        if self._waited:  # what waited for a queue is to be tried again
            ready.clear()
            ready.extend(self.step.ready)
            wanted = place_of(entry.activation)
            self.prefer(lambda activation: place_of(activation) == wanted)
            self._moved = []
            return
        for index in reversed(self._moved):
            ready.insert(index, ready.popleft())
        for _ in range(entry.released):
            ready.pop()
        ready.appendleft(entry.activation)
        self._moved = [] if more is None or more.moved is None else list(more.moved)

    def _back_from_change(self, entry: Entry) -> Entry:
        """Forget a change.  What came after it will not come again."""
        more = entry.rest()
        self.branch()
        self.overrides.back(more.marks)
        while not self._waited and len(self._moved) > len(more.moved or ()):
            self.ready.insert(self._moved.pop(), self.ready.popleft())
        if entry.previous is not None:
            self._latest[entry.activation.item.index] = entry.previous
        return entry

    def _unnote(self, place: Place, item: Item) -> None:
        done = self._done[place]
        del done[item.index]
        if not done:
            del self._done[place]

    def _look_for_foreign(self, entry: Entry) -> None:
        """Note the resources that another step has changed since `entry`: taking it back takes that back too."""
        for write in {id(each.resource): each for each in entry.writes}.values():
            name = write.resource.name
            if write.resource.version != write.old_version + 1 and name not in self.foreign:
                self.foreign.append(name)

    def visit(self) -> None:
        """The step has stopped here: a place to come back to (`visited`)."""
        self.settle()
        if self.visiting >= 0 and self.visited[self.visiting] == self.executed:
            return
        del self.visited[self.visiting + 1 :]
        self.visited.append(self.executed)
        del self.visited[:-VISITED]
        self.visiting = len(self.visited) - 1

    def is_open(self, frame: Frame) -> bool:
        """Whether `frame` has not ended."""
        return any(frame.id == other.id for other in self.state.live_frames())

    # The budget.

    @property
    def room(self) -> int:
        """Executions until the oldest are let go; `room_bytes`: bytes of arrays."""
        return self._budget.most - len(self._history)

    @property
    def room_bytes(self) -> int:
        return self._budget.most_bytes - self._budget.bytes

    def budget(self, kept: int, kept_bytes: int) -> None:
        """Keep that many executions and bytes from now on."""
        self.catch_up()
        budget = self._budget
        budget.set(kept, kept_bytes)
        if self._history and (len(self._history) > kept or budget.bytes > budget.most_bytes):
            self._forget()

    def _forget(self) -> None:
        """Let go of the oldest executions, so that three quarters of the budget are in use."""
        history = self._history
        drop = self._budget.release_oldest(history)
        self.picks.fold(history[:drop])
        for entry in history[:drop]:
            entry.previous = None
            entry.more = None
        del history[:drop]
        self._frames.forget(history[0].row)
        self.step.forget(len(history))
        self.unread.first += drop

    # What nobody has looked at.

    def settle(self) -> None:
        """Read all that has executed, and let go of what is over the budget.  In the step's own thread only."""
        self.catch_up()
        if self.room < 0 or self.room_bytes < 0:
            self._forget()

    def catch_up(self) -> None:
        """Make entries of what has executed freely.  From any thread."""
        unread = self.unread
        with unread.lock:
            count = len(unread.durations)
            if count:
                collects = gc.isenabled()
                gc.disable()  # all that is made here stays
                try:
                    self._read(count)
                    del unread.durations[:count]
                finally:
                    if collects:
                        gc.enable()

    def _read(self, count: int) -> None:
        row, latest, done, append = self._executed, self._latest, self._done, self._history.append
        unread, sizes, budget = self.unread, self.traits.plain_sizes, self._budget
        special, changes = unread.special, unread.changes
        at: Frame | None = None
        number = nbytes = 0
        here: dict[int, bool] = {}
        for item, frame, iteration, given, released, duration in unread.rows(row, count):
            index = item.index
            outputs = outputs_of(item, given)
            activation = _new_tuple(Activation, (item, frame, iteration))
            entry = latest[index] = Entry(row, activation, outputs, duration, latest.get(index), released)
            append(entry)
            size = sizes[index]
            if size < 0 or row in changes or row in special:
                found = special.pop(row, None) or Special(outputs)
                entry.outputs = found.outputs
                self._note_more(entry, changes.pop(row, ()), found.writes)
                if found.made:
                    entry.rest().made = found.made
                at = None
            else:
                if frame is not at or iteration != number:
                    at, number = frame, iteration
                    place = (frame.id, iteration)
                    here = done.setdefault(place, {})
                here[index] = outputs is None
                if outputs is not None:
                    nbytes += size
            row += 1
        budget.bytes += nbytes
        self._executed = row

    def close(self) -> None:
        """The step is over: its journal is this object's alone, so that nothing else holds on to it, nor it to itself."""
        self.step.hand_over()
