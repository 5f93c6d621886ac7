"""Stepping: one step under the debugger, with what has executed, what is ready, the way back, and the way on again.

What has executed freely (`workbench.debugger.free_running`) becomes entries where somebody looks at it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from engine.op.queues import Blocked
from engine.runtime.driver import Outcome, StepRun
from engine.runtime.frames import Activation, Frame
from engine.runtime.journal import STRIDE
from engine.runtime.program import SEND
from engine.runtime.resources import NO_KEY, Write
from tracing.frames import Loop, loops_of
from tracing.stacks import Resources
from workbench.debugger.command import CommandError
from workbench.debugger.derived import Done, Held, Latest
from workbench.debugger.entries import Entry, Moves, Place, Turn, gave_the_same, hold, place_of
from workbench.debugger.frame_notes import FrameNotes
from workbench.debugger.history import History
from workbench.debugger.holding import (
    ENTRY_BYTES,
    HOLDS,
    KEPT,
    KEPT_BYTES,
    ROW_BYTES,
    STATEFUL,
    Budget,
    traits_of,
)
from workbench.debugger.overrides import Override, Overrides
from workbench.debugger.recalling import OVER, Known, is_as_it_was, known, line_up, recall
from workbench.debugger.schedules.following import Picks
from workbench.debugger.values import Reference

__all__ = ["Entry", "Place", "Stepping"]

VISITED = 1_000  # places where the step has stopped


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
    - `over`: the script has what this step gave; it can be gone back and forth in, but not another way.
    - `recalls`: what was taken back is put back as it was (`workbench.debugger.recalling`), rather than executed again.
    - `known`: what has to be known of changes by hand to make them again, by row.
    - `last_moves`: of a step that is over, what has changed the order of what is ready after its last execution.
    - `make_room`: asked before the oldest executions are let go; True if there is room now.
    """

    def __init__(self, step: StepRun, kept: int = 0, kept_bytes: int = 0) -> None:
        self.step = step
        self.state = step.state
        self.ready: deque[Activation] = deque(step.begin())
        self.future: list[Entry] = []
        self.unread = History([] if step.state.journal is None else step.state.journal)
        self._done = Done(self.unread)
        self._latest = Latest(self.unread, step.program.items)
        self._frames = FrameNotes()
        self.overrides = Overrides()
        self.error: BaseException | None = None
        self.scheduler: Callable[[Stepping], None] | None = None
        self.foreign: list[str] = []
        self.over = self.recalls = False
        self.known: dict[int, Known] = {}
        self.last_moves: Moves = []
        self.make_room: Callable[[], bool] | None = None
        self.visited: list[
            int
        ] = []  # executions done at each place where the step has stopped, and which of these we are at
        self.visiting = -1
        self._idle = (-1, 0.0)  # executions done when nothing could run, and since when that is so
        self._moved: Moves = []  # since the last execution
        self.traits = traits_of(step.executable)
        self._marks, self._sizes = self.traits.marks, self.traits.sizes
        self._budget = Budget(self._sizes, kept or KEPT, kept_bytes or KEPT_BYTES)
        self._held = Held(self.unread, self._budget, self._sizes)
        self._picks = Picks(len(self.ready))
        self._unpicked: list[int] = []  # how many became ready by each of the last executions forgotten

    @cached_property
    def loops(self) -> dict[str, Loop]:
        """The loops of the step's stage, by the names of their frames."""
        return loops_of(self.step.stage)

    @cached_property
    def uses(self) -> Resources:
        """What the stacks and arrays of the step's stage are for."""
        return Resources(self.step.stage)

    # What has executed, and what follows from it.

    @property
    def history(self) -> History:
        if self.unread.durations:
            self.catch_up()
        return self.unread

    @property
    def done(self) -> dict[Place, dict[int, bool]]:
        with self.history.lock:
            return self._done.places

    @property
    def latest(self) -> Latest:
        if self.unread.durations:
            self.catch_up()
        return self._latest

    @property
    def frames(self) -> FrameNotes:
        with self.history.lock:
            return self._frames.follow(self.unread)

    @property
    def picks(self) -> Picks:
        """What was chosen in executions that the history has forgotten."""
        if self._unpicked:
            self._picks.run(self._unpicked)
            self._unpicked = []
        return self._picks

    @property
    def executed(self) -> int:
        return self.unread.executed

    @property
    def bytes_at_most(self) -> int:
        """Bytes of arrays that the history keeps alive, without a closer look at what was not counted."""
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
        history = self.history
        self._held.count()
        return self._budget.bytes + ENTRY_BYTES * history.made + ROW_BYTES * (len(history) - history.made)

    @property
    def moved(self) -> Moves:
        """Since the last execution: where `prefer` has taken activations from, and what has begun or ceased to wait."""
        return self._moved

    def entry_at(self, row: int) -> Entry | None:
        """Execution `row`, if the history still has it."""
        return self.history.at(row)

    def prefer(self, wanted: Callable[[Activation], bool]) -> bool:
        """Move the first ready activation that is `wanted` to the front; False if there is none."""
        for index, activation in enumerate(self.ready):
            if wanted(activation):
                if index and not self.over:
                    self.bring(index)
                return True
        return False

    def bring(self, index: int) -> None:
        """Move what is ready at `index` to the front."""
        activation = self.ready[index]
        del self.ready[index]
        self.ready.appendleft(activation)
        self._moved.append(index)

    def line_up(self) -> None:
        """In a step that is over: let what comes next be what came next."""
        if self.over and self.future:
            line_up(self)

    # Forward.

    def execute(self) -> Entry:
        """Execute the next activation.  Raises what its kernel raises; it is then still the next.

        Raises Blocked if it has to wait for a queue: it is then ready no more, until the queue allows it.
        """
        if self.unread.durations:
            self.catch_up()
        if self.over:
            return self.redo()
        activation = self.ready[0]
        if self.future:
            return self._again(activation)
        index = activation.item.index
        if self._marks[index] & STATEFUL:
            return self._stateful(activation)
        if self.overrides.orders:
            return self._finish(activation, index, self.outcome(activation))
        try:
            outcome = self.step.execute(activation)
        except Blocked as blocked:
            self.park(activation, blocked)
            raise
        return self._finish(activation, index, outcome)

    def finish(self, activation: Activation, outcome: Outcome) -> Entry:
        """Note that the activation at the front has executed, with what came of it."""
        return self._finish(activation, activation.item.index, outcome)

    def outcome(self, activation: Activation) -> Outcome:
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
        allowed = self.step.park(activation, blocked)
        self.ready.popleft()
        self.ready.extend(allowed)
        turn = Turn(activation, blocked, tuple(allowed))
        if self.unread.durations:
            self.unread.moved.setdefault(self.executed, []).append(turn)
        else:
            self._moved.append(turn)

    def take_turn(self, turn: Turn, index: int) -> None:
        """Let what is ready at `index` wait for its queue (-1: nothing), and those that the turn allowed wait no more."""
        if turn.activation is not None and turn.blocked is not None:
            del self.ready[index]
            self.step.park(turn.activation, turn.blocked, allows=False)
        self.step.waits.let_go(turn.allowed, self.executed)
        self.ready.extend(turn.allowed)
        self._moved.append(turn)

    def wait(self, seconds: float) -> None:
        """Wait so long for a queue that something waits for; what can go on is ready then."""
        self.catch_up()
        allowed = self.step.awaited(seconds)
        if allowed:
            self.ready.extend(allowed)
            self._moved.append(Turn(None, None, tuple(allowed)))

    def wait_again(self, turn: Turn) -> None:
        """Let what had to wait for its queue wait for it again, if it is ready and still has to."""
        if turn.activation is None or turn.blocked is None:
            self.wait(0.0)
            return
        wanted = place_of(turn.activation)
        index = next((i for i, each in enumerate(self.ready) if place_of(each) == wanted), -1)
        if index >= 0 and not turn.blocked.queue.allows(turn.blocked):
            if index:
                self.bring(index)
            self.park(self.ready[0], turn.blocked)

    def _wait_as_before(self, known: Entry) -> None:
        """Let everything wait again that had to before `known` executed."""
        for move in (known.more.moved if known.more is not None else None) or ():
            if isinstance(move, Turn) and move not in self._moved:
                self.wait_again(move)

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
        outcome = self.outcome(activation)
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
        run = instructions.run
        ready = self.ready
        ready.popleft()
        if run:
            ready.extend(run)
        history = self.unread
        entry = Entry(history.end, activation, outputs, end - start, history.home, len(run))
        if overrides.active:
            marks = overrides.after(self, activation, override, outcome, instructions)
            if marks or override is not None:
                more = entry.rest()
                more.override, more.marks = override, marks
                if override is not None:
                    self.step.descends(override.number)
        if self._marks[index] & HOLDS:
            entry.outputs = hold(outputs)
        if writes:
            entry.rest().writes = writes
        if self._moved:
            entry.rest().moved, self._moved = self._moved, []
        history.append(entry)
        size = self._sizes[index]
        if size >= 0 and not writes:
            history.nbytes += size
        else:
            history.nbytes += sum(array.nbytes for array in history.facts(entry.row).arrays())
        self._make_way()
        return entry

    # Forward again.

    def _again(self, activation: Activation) -> Entry:
        """Execute what is perhaps the next of what was taken back."""
        known, rest = self.future[-1], self.future
        if self.recalls:
            if known.change is not None or place_of(known.activation) == place_of(activation):
                if is_as_it_was(known):
                    return recall(self)
            self.recalls = False
        if known.change is not None or place_of(known.activation) != place_of(activation):
            self.branch()
            try:
                return self.execute()
            except Blocked:  # it has not gone another way yet
                self.future = rest
                raise
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
        if self.over or (self.recalls and is_as_it_was(self.future[-1])):
            return recall(self)
        if self.future[-1].change is not None:
            self.branch()
            raise IndexError("a change by hand is not made again by itself")
        self._wait_as_before(self.future[-1])
        wanted = place_of(self.future[-1].activation)
        if not self.prefer(lambda activation: place_of(activation) == wanted):
            self.branch()
            raise IndexError("what was taken back cannot run here")
        return self.execute()

    def branch(self) -> None:
        """The step goes another way than before: what was taken back will not come again.

        Raises CommandError for a step that is over.
        """
        if self.over:
            raise CommandError(OVER)
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
        marks = self.overrides.take_log()
        self.known[self.executed] = known(self, edits, marks)
        return self.note_change(override, activation, hold(outputs), edits, writes, marks)

    def note_change(
        self,
        override: Override,
        activation: Activation,
        outputs: Sequence[Any] | None,
        edits: Sequence[tuple[list[Any], int, Any]],
        writes: Sequence[Write],
        marks: Sequence[Any],
    ) -> Entry:
        """The entry of a change, which is made here but for what has been written."""
        self.step.amend(activation, edits, writes, override.told(writes))
        history = self.unread
        entry = Entry(history.end, activation, outputs, 0, history.home)
        more = entry.rest()
        more.change = more.override = override
        more.writes, more.moved, more.marks = writes, list(self._moved), marks
        history.append(entry)
        history.nbytes += sum(array.nbytes for array in history.facts(entry.row).arrays())
        return entry

    # Back.

    def back(self) -> Entry:
        """Take the last execution back and return it: tokens, frames and variables are as before.

        Raises IndexError if nothing is left that could be taken back.
        """
        entry = self.history[-1]
        if entry.writes:
            self._look_for_foreign(entry)
        with self.unread.lock:
            self._held.back(entry)
            self._done.back(entry)
            self._frames.back(self.unread, entry)
            self._latest.back(entry.row, entry.activation.item)
            self.unread.pop()
            self.step.undo()
        self.error = None
        if entry.change is not None:
            return self._back_from_change(entry)
        more = entry.more
        self._make_ready_again(entry)
        if more is not None:
            self.overrides.back(more.marks)
            for made in more.made:
                self.step.resources.discard(made)
        self.future.append(entry)
        return entry

    def _make_ready_again(self, entry: Entry) -> None:
        """What was ready before `entry` executed, in the same order, is ready."""
        ready, more = self.ready, entry.more
        self._move_back(0)
        for _ in range(entry.released):
            ready.pop()
        ready.appendleft(entry.activation)
        self._moved = [] if more is None or more.moved is None else list(more.moved)

    def _move_back(self, left: int) -> None:
        """Bring what is ready into the order that it had when only so many moves had been made."""
        ready = self.ready
        while len(self._moved) > left:
            move = self._moved.pop()
            if isinstance(move, int):
                ready.insert(move, ready.popleft())
                continue
            for _ in move.allowed:
                ready.pop()
            if move.activation is not None:
                ready.appendleft(move.activation)

    def _back_from_change(self, entry: Entry) -> Entry:
        """Forget a change.  What came after it will not come again, unless it is known how."""
        more = entry.rest()
        if self.over or self.recalls:
            self.future.append(entry)
        else:
            self.branch()
            self.known.pop(entry.row, None)
        self.overrides.back(more.marks)
        self._move_back(len(more.moved or ()))
        return entry

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
        return self._budget.most - (self.unread.executed - self.unread.first)

    @property
    def room_bytes(self) -> int:
        return self._budget.most_bytes - self.bytes_at_most

    @property
    def most(self) -> int:
        """Executions that are kept at most."""
        return self._budget.most

    def budget(self, kept: int, kept_bytes: int) -> None:
        """Keep that many executions and bytes from now on."""
        self.catch_up()
        self._budget.set(kept, kept_bytes)
        self._held.count()
        if self.unread and (len(self.unread) > kept or self.room_bytes < 0):
            self._forget()

    def reserve(self, executions: int, nbytes: int) -> None:
        """Leave so much of the budget to what is kept of other steps."""
        self._budget.reserve(executions, nbytes)

    def _forget(self) -> None:
        """Let go of the oldest executions, so that three quarters of the budget are in use."""
        if self.make_room is not None and self.make_room():
            return
        history = self.unread
        with history.lock:
            drop = self._budget.release_oldest(history)
            if not drop:
                return
            first = history.first + drop
            self._frames.follow(history).forget(first)
            self._latest.forget(first)
            self._done.forget(first)
            self._held.forget(drop)
            self._pick(drop)
            history.forget(drop)
            self.step.forget(len(history))

    def _pick(self, count: int) -> None:
        """Note what was chosen in the oldest executions."""
        history = self.unread
        first, moved = history.first, history.moved
        remarkable = [
            index
            for index, cell in enumerate(history.cells[:count])
            if (isinstance(cell, Entry) and cell.more is not None) or (moved and first + index in moved)
        ]
        done = 0
        for index in (*remarkable, count):
            # Of an entry it is known how many became ready by it, whoever it was that became so.
            self._unpicked += [
                cell.released if isinstance(cell, Entry) else released
                for cell, released in zip(
                    history.cells[done:index],
                    history.journal[done * STRIDE + STRIDE - 1 : index * STRIDE : STRIDE],
                    strict=True,
                )
            ]
            if index < count:
                self.picks.fold((history[index],))
            done = index + 1

    # What has executed freely.

    def settle(self) -> None:
        """Take in all that has executed, and let go of what is over the budget.  In the step's own thread only."""
        self.catch_up()
        self._make_way()

    def _make_way(self) -> None:
        if self.room < 0 or self.room_bytes < 0:
            self._held.count()
            if self.room < 0 or self.room_bytes < 0:
                self._forget()

    def catch_up(self) -> None:
        """Take what has executed freely into the history.  From any thread."""
        unread = self.unread
        with unread.lock:
            begin = unread.end
            if unread.enlist():
                self._read_moves(begin)

    def _read_moves(self, begin: int) -> None:
        """Note before which executions from row `begin` on something has begun to wait for a queue."""
        moved, end = self.unread.moved, self.unread.end
        if self._moved:  # before the first of these
            moved[begin] = self._moved + moved.get(begin, [])
            self._moved = []
        for row in [row for row in moved if row >= end]:
            self._moved += moved.pop(row)

    def close(self) -> None:
        """The step is over: its journal is this object's alone, so that nothing else holds on to it, nor it to itself."""
        self.step.hand_over()
