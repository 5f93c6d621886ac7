"""The executor as a pure state machine: frames, iterations, pending counts, dead counts, tokens, the ready set.

`apply(event)` says that one activation of a node has finished with these outputs, and returns what follows: activations that may
run now, and changes of frames.  `undo()` takes the last event back.  There are no threads, no clock and no kernels in here;
shells around it run the kernels (`engine.runtime.driver`) or choose among the ready nodes (a debugger).  This machine defines
what a program means.

The rules are TensorFlow's (Yu et al., "Dynamic Control Flow in Large-Scale Machine Learning", EuroSys 2018, section 4):

* A token on an edge is a value or DEAD.  A node is ready when all its inputs and control inputs have arrived; it is dead if one
  of them is dead, and then passes deadness on without running.
* A Merge is ready at its first live input (and all control inputs); it is dead only if all its inputs are.
* An Enter opens a frame for its name within its own frame and iteration, or finds it open, and passes its token to iteration 0;
  a constant one passes it to every iteration.
* A NextIteration passes its token to the next iteration, which begins when no more than `parallel_iterations` are under way,
  or else as soon as one has ended.  A dead token stops here.
* An Exit passes its token to the frame outside.  A dead one is held back until the frame ends, since a later iteration may still
  exit alive.
* A _Send runs with a dead input too, and sends deadness; what a _Recv of it gives is dead, control edges included.  (The shells
  around the machine do both: to the machine, a _Recv whose tensor has not been sent is outstanding like a node that runs.)
* An iteration ends when nothing in it is outstanding and the one before it has ended; a frame ends when its iterations have, and
  no Enter is still to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine.observe import FrameChange
from engine.runtime.frames import (
    ABSENT,
    DEAD,
    Activation,
    Change,
    Delivered,
    Finished,
    Frame,
    Instructions,
    Iteration,
)
from engine.runtime.journal import (
    BEGAN,
    DEFERRED,
    DEFERRED_MORE,
    DELIVERED_THING,
    ENDED,
    FRAME_BEGAN,
    FRAME_ENDED,
    KEPT_THING,
    OP,
    REVIVED,
)
from engine.runtime.program import CONTROL_TRIGGER, ENTER, EXIT, MERGE, NEXT_ITERATION, Item, Program
from engine.runtime.recorded import Recorded
from engine.types import errors

_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor


class ExecutorState(Recorded):
    """The state of one step of one program.

    `frames`: those that are open but for the root, by the id of the frame around, its iteration, and the static frame's index.
    `outstanding`: what is ready or running, with its place in the order in which it became ready.  `tells`: whether changes of
    frames are among the instructions (the journal has them in any case).  `record` keeps a journal, so that `undo` works;
    `tokens` reports every token delivered.
    """

    def __init__(self, program: Program, *, record: bool = False, tokens: bool = False) -> None:
        super().__init__(record)
        self.program = program
        self.root = Frame(0, program.root, None, 0)
        self.root.live = True
        self.tells = True
        self._report_tokens = tokens
        self._run: list[Activation] = []
        self._changes: list[Change] = []
        self._tokens: list[Delivered] = []

    # Looking.

    @property
    def ready(self) -> list[Activation]:
        """The activations that are ready or running, in the order in which they became ready."""
        return sorted(self.outstanding, key=self.outstanding.__getitem__)

    @property
    def finished(self) -> bool:
        return not self.outstanding

    def live_frames(self) -> Iterator[Frame]:
        """The root and every frame that has begun and not ended."""
        yield self.root
        yield from self.frames.values()

    def is_dead(self, activation: Activation) -> bool:
        """Whether a ready activation is dead: it passes deadness on and runs no kernel."""
        item, frame, number = activation
        iteration = frame.iterations[number]
        if item.flow == MERGE:
            return bool(iteration.pending[item.local] & 1)
        return item.local in iteration.dead and item.flow != CONTROL_TRIGGER

    def inputs(self, activation: Activation) -> list[Any]:
        """The tokens on an activation's inputs: values, references, DEAD, or ABSENT."""
        item, frame, number = activation
        return frame.iterations[number].inputs[item.start : item.end]

    # Events.

    def start(self) -> Instructions:
        """Begin the step: every node without inputs is ready."""
        iteration = self.root.iterations[0]
        for item in self.program.sources:
            self._make_ready(item, self.root, 0, iteration)
        run, self._run = self._run, []
        return Instructions(run, [], [])

    def apply(self, event: Finished) -> Instructions:
        """An activation has finished.  Raises KeyError if it was not outstanding."""
        activation, outputs = event
        run = self.advance(activation, outputs)
        result: Instructions = _new_tuple(Instructions, (run, self._changes, self._tokens))
        if self._changes:
            self._changes = []
        if self._tokens:
            self._tokens = []
        return result

    def advance(self, activation: Activation, outputs: Sequence[Any] | None) -> list[Activation]:
        """As `apply`, but gives the activations to run alone; what else follows is among the next instructions (see `tells`)."""
        item, frame, number = activation
        order = self.outstanding.pop(activation)
        iteration = frame.iterations[number]
        journal = self.journal
        inputs = iteration.inputs
        start = item.start
        count = item.n_inputs
        held: Any = None
        second: Any = None
        if count == 1:  # let go of the values
            held = inputs[start]
            inputs[start] = ABSENT
        elif count == 2:
            held = inputs[start]
            second = inputs[start + 1]
            inputs[start] = inputs[start + 1] = ABSENT
        elif count:
            if journal is not None:
                held = inputs[start : start + count]
            for slot in range(start, start + count):
                inputs[slot] = ABSENT
        flow = item.flow
        if flow == ENTER:
            self._enter(item, frame, number, outputs)
        elif flow == EXIT:
            self._exit(item, frame, number, outputs)
        elif flow == NEXT_ITERATION:
            self._next_iteration(item, frame, number, outputs)
        else:
            self._propagate(item, frame, number, iteration, outputs)
        iteration.outstanding -= 1
        if iteration.outstanding == 0 and frame.parent is not None:
            if self._log is not None and not self._log:
                self._log = DELIVERED_THING
            self._clean_up(frame, number, 0, number)
        run = self._run
        self._run = []
        if journal is not None:
            log = self._log
            if log:
                if len(log) > OP or self._unshared:
                    log = self._shared(log)
                self._log = ()
            else:
                log = None
            given = outputs[0] if outputs is not None and item.n_outputs == 1 else outputs
            journal += (item, frame, number, given, order, held, second, log, len(run))
        return run

    # Rules.

    def _enter(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        child = self._child(item, frame, number)
        if outputs is not None and not child.live:
            child.live = True
            if self._log is not None:
                self._log += (REVIVED, -1, 0, child)
                self._unshared = True
        if self._log:
            self._log += DELIVERED_THING
        if item.is_constant_enter:
            value = DEAD if outputs is None else outputs[0]
            child.invariants.append((item, value))
            for at, iteration in list(child.iterations.items()):
                self._propagate(item, child, at, iteration, outputs)
        else:
            self._propagate(item, child, 0, child.iterations[0], outputs)
        child.pending_enters -= 1
        if child.pending_enters == 0 and child.iterations[0].outstanding == 0:
            if self._log is not None:
                if not self._log:
                    self._log += DELIVERED_THING
                self._unshared = True
            self._clean_up(child, 0, -1, 0)

    def _child(self, item: Item, frame: Frame, number: int) -> Frame:
        spec = item.child
        assert spec is not None
        key = (frame.id, number, spec.index)
        child = self.frames.get(key)
        if child is None:
            child = Frame(self._next_frame, spec, frame, number)
            self._next_frame += 1
            self.frames[key] = child
            if self._log is not None:
                self._log += (FRAME_BEGAN, -1, 0, child)
                self._unshared = True
            frame.iterations[number].children += 1
            if self.tells:
                self._changes.append(Change(FrameChange.FRAME_BEGIN, child, 0))
                self._changes.append(Change(FrameChange.ITERATION_BEGIN, child, 0))
        return child

    def _exit(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        if outputs is None:
            if number == frame.count:
                frame.dead_exits.append(item)
                if self._log is not None:
                    self._log += KEPT_THING
            return
        outer = frame.parent
        assert outer is not None
        at = frame.parent_iteration
        self._propagate(item, outer, at, outer.iterations[at], outputs)

    def _next_iteration(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        if outputs is None:
            return
        if number == frame.count:
            if len(frame.iterations) >= frame.spec.parallel_iterations:
                if self._log is not None:
                    self._log += (DEFERRED_MORE if frame.deferred else DEFERRED, 0, 1, None)
                if self.tells and not frame.deferred:
                    self._changes.append(Change(FrameChange.ITERATION_DEFERRED, frame, number + 1))
                frame.deferred.append((item, outputs[0]))
                return
            self._begin_iteration(frame, 0, number)
            if self._log is not None:
                self._log += DELIVERED_THING
        self._propagate(item, frame, number + 1, frame.iterations[number + 1], outputs)

    def _begin_iteration(self, frame: Frame, level: int, begin: int) -> None:
        """Begin the next iteration with the tokens held back for it and the loop's invariants.

        `level` and `begin`: how the log names the frame, and the iteration from which it counts.
        """
        number = frame.count + 1
        frame.count = number
        iteration = frame.iterations[number] = Iteration(frame.spec)
        deferred = tuple(frame.deferred)
        if self._log is not None:
            self._log += (
                BEGAN,
                level,
                number - begin,
                (tuple(frame.dead_exits), deferred, frame if level < 0 else None),
            )
            if deferred:
                self._unshared = True
        frame.dead_exits.clear()
        frame.deferred.clear()
        if self.tells:
            self._changes.append(Change(FrameChange.ITERATION_BEGIN, frame, number))
        for item, value in deferred:
            self._propagate(item, frame, number, iteration, (value,))
        for item, value in frame.invariants:
            self._propagate(item, frame, number, iteration, None if value is DEAD else (value,))

    def _clean_up(self, frame: Frame, number: int, level: int, begin: int) -> None:
        """End the iterations from `number` on that are done, and the frame if all are.

        `level` and `begin`: as for `_begin_iteration`.
        """
        while number <= frame.count and self._is_done(frame, number):
            iteration = frame.iterations.pop(number)
            if self._log is not None:
                left = self._left_of(frame.spec, iteration)
                self._log += (ENDED, level, number - begin, (left, frame if level < 0 else None))
            if self.tells:
                self._changes.append(Change(FrameChange.ITERATION_END, frame, number))
            number += 1
            if frame.deferred:
                self._begin_iteration(frame, level, begin)
        if not frame.iterations and frame.pending_enters == 0:
            self._end_frame(frame, level)

    @staticmethod
    def _is_done(frame: Frame, number: int) -> bool:
        iteration = frame.iterations.get(number)
        if iteration is None or iteration.outstanding or iteration.children:
            return False
        return frame.pending_enters == 0 if number == 0 else number - 1 not in frame.iterations

    def _end_frame(self, frame: Frame, level: int) -> None:
        outer = frame.parent
        assert outer is not None
        at = frame.parent_iteration
        key = (outer.id, at, frame.spec.index)
        del self.frames[key]
        if self._log is not None:
            self._log += (FRAME_ENDED, level, 0, frame if level < 0 else None)
        if self.tells:
            self._changes.append(Change(FrameChange.FRAME_END, frame, frame.count))
        iteration = outer.iterations[at]
        for item in frame.dead_exits:
            self._propagate(item, outer, at, iteration, None)
        iteration.children -= 1
        if outer.parent is not None and iteration.outstanding == 0:
            self._clean_up(outer, at, level + 1, at)

    def _propagate(
        self, item: Item, frame: Frame, number: int, iteration: Iteration, outputs: Sequence[Any] | None
    ) -> None:
        """Deliver the outputs of `item` to its successors, in this iteration of this frame."""
        pending, inputs, dead_counts = iteration.pending, iteration.inputs, iteration.dead
        all_dead = outputs is None
        slot_out = -1
        for edges in item.data_out:
            slot_out += 1
            if not edges:
                continue
            value = DEAD if outputs is None else outputs[slot_out]
            dead = value is DEAD
            for target, slot in edges:
                local = target.local
                if self._report_tokens:
                    self._tokens.append(Delivered(slot_out, target, slot, frame, number, dead))
                if target.flow == MERGE:
                    if dead:
                        inputs[target.start + slot] = DEAD
                        _count_dead(dead_counts, local)
                        # A loop's Merge waits for no NextIteration if what would enter the loop is dead.
                        if pending[local] == 1 and (
                            dead_counts[local] == target.n_inputs or item.flow == ENTER
                        ):
                            self._make_ready(target, frame, number, iteration)
                    elif pending[local] & 1:  # the first live input is the one that counts
                        inputs[target.start + slot] = value
                        pending[local] -= 1
                        if pending[local] == 0:
                            self._make_ready(target, frame, number, iteration)
                    continue
                inputs[target.start + slot] = value
                if dead:
                    _count_dead(dead_counts, local)
                pending[local] -= 1
                if pending[local] == 0:
                    self._make_ready(target, frame, number, iteration)
        for target in item.control_out:
            local = target.local
            if self._report_tokens:
                self._tokens.append(Delivered(-1, target, -1, frame, number, all_dead))
            if target.flow == MERGE:
                pending[local] -= 2
                if pending[local] == 0 or (
                    pending[local] == 1 and dead_counts.get(local, 0) == target.n_inputs
                ):
                    self._make_ready(target, frame, number, iteration)
                continue
            if all_dead:
                _count_dead(dead_counts, local)
            pending[local] -= 1
            if pending[local] == 0:
                self._make_ready(target, frame, number, iteration)

    def _make_ready(self, item: Item, frame: Frame, number: int, iteration: Iteration) -> None:
        activation = _new_tuple(Activation, (item, frame, number))
        self.outstanding[activation] = self._next_ready
        self._next_ready += 1
        iteration.outstanding += 1
        self._run.append(activation)

    def waiting(self) -> Iterator[tuple[Activation, list[Any]]]:
        """Activations that have some of their inputs and wait for others, with the tokens on their inputs."""
        for frame in self.live_frames():
            for number, iteration in frame.iterations.items():
                for item in frame.spec.items:
                    left, full = iteration.pending[item.local], frame.spec.pending[item.local]
                    activation = Activation(item, frame, number)
                    if (left != full or item.local in iteration.dead) and activation not in self.outstanding:
                        tokens = iteration.inputs[item.start : item.end]
                        if left > 0 and any(token is not ABSENT for token in tokens) or 0 < left < full:
                            yield activation, tokens


def _count_dead(counts: dict[int, int], local: int) -> None:
    counts[local] = counts.get(local, 0) + 1


def check_finished(state: ExecutorState) -> None:
    """Raise InternalError if a step that has nothing left to run still has open frames: a bug in the machine or in the graph."""
    if state.finished and state.frames:
        names = ", ".join(frame.path for frame in state.frames.values())
        raise errors.InternalError(None, None, f"The step ended with open frames: {names}")
