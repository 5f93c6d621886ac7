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
from typing import Any, NamedTuple

from engine.observe import FrameChange
from engine.runtime.program import (
    CONTROL_TRIGGER,
    ENTER,
    EXIT,
    MERGE,
    NEXT_ITERATION,
    FrameSpec,
    Item,
    Program,
)
from engine.types import errors


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


# The journal is one flat list, so that an event in it keeps no object of its own (which would cost memory that is not in the
# cache, and visits of the garbage collector): for each event
#
#     item, frame, iteration, given, order, held, second, log, released
#
# `given` is what `outputs_of` makes outputs of: the outputs, or the only one; None if all are dead.  `order` is the activation's
# among those outstanding.  `held` and `second` are the first two tokens that it consumed, or `held` is the list of all if there
# are more than two.  `log` has the changes that are not simply the opposite of delivering its outputs, flat as well (target, key,
# what was there); None if there are none.  `released` is how many activations became ready.
STRIDE = 9
_ORDER, _LOG = 4, 7  # where these two are in an event
AMENDED = -1  # the `order` of a change from outside, which nothing was outstanding for
_new_tuple: Any = tuple.__new__
_CONTAINERS = (list, dict)
_POP = object()  # journal marks: undo an append, undo a clear, undo a new key
_REFILL = object()
_DELETE = object()


def outputs_of(item: Item, given: Any) -> Sequence[Any] | None:
    """The outputs of an execution from what the journal has of them."""
    return (given,) if given is not None and item.n_outputs == 1 else given


def _tokens(item: Item, held: Any, second: Any) -> Sequence[Any]:
    """The tokens that an execution consumed from what the journal has of them."""
    count = item.n_inputs
    if count > 2:
        return held  # type: ignore[no-any-return]
    return (held, second)[:count]


class ExecutorState:
    """The state of one step of one program.

    `record` keeps a journal, so that `undo` works; `tokens` reports every token delivered.
    """

    def __init__(self, program: Program, *, record: bool = False, tokens: bool = False) -> None:
        self.program = program
        self.root = Frame(0, program.root, None, 0)
        self.root.live = True
        self.frames: dict[tuple[int, int, int], Frame] = {}
        self.outstanding: dict[Activation, int] = {}
        self.journal: list[Any] | None = [] if record else None
        self._plain = program.plain if record else []
        self._report_tokens = tokens
        self._log: list[Any] | None = None
        self._next_frame = 1
        self._next_ready = 0
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
        return self._drain()

    def apply(self, event: Finished) -> Instructions:
        """An activation has finished.  Raises KeyError if it was not outstanding."""
        activation, outputs = event
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
        if journal is not None and not self._plain[item.index]:
            self._log = []
        flow = item.flow
        if flow == ENTER:
            self._enter(item, frame, number, outputs)
        elif flow == EXIT:
            self._exit(item, frame, number, outputs)
        elif flow == NEXT_ITERATION:
            self._next_iteration(item, frame, number, outputs)
        else:
            self._propagate(item, frame, number, iteration, outputs)
        if self._log is not None:
            self._log += (iteration, "outstanding", iteration.outstanding)
        iteration.outstanding -= 1
        if iteration.outstanding == 0 and frame.parent is not None:
            if journal is not None and self._log is None:
                self._log = []
            self._clean_up(frame, number)
        if journal is not None:
            given = outputs if outputs is None or item.n_outputs != 1 else outputs[0]
            journal += (item, frame, number, given, order, held, second, self._log, len(self._run))
            self._log = None
        return self._drain()

    def amend(self, event: Finished, edits: Sequence[tuple[list[Any], int, Any]]) -> None:
        """Change tokens from outside, on record: each edit is a list of tokens, an index and what is to be there.

        `event` is what `undo` gives back when it takes them back; nothing else follows from it.  Raises ValueError without a
        journal.
        """
        if self.journal is None:
            raise ValueError("this state keeps no journal; make it with record=True")
        log: list[Any] = []
        for target, key, value in edits:
            log += (target, key, target[key])
            target[key] = value
        activation, outputs = event
        self.journal += (*activation, outputs, AMENDED, None, None, log, 0)

    def stop_recording(self) -> None:
        """Keep no journal from now on."""
        self.journal = self._log = None

    def forget(self, keep: int) -> None:
        """Let go of what `undo` needs, but for the last `keep` events."""
        if self.journal is not None:
            del self.journal[: max(0, len(self.journal) - keep * STRIDE)]

    def last_amended(self) -> bool:
        """Whether the last event is a change from outside (`amend`)."""
        return bool(self.journal and self.journal[_ORDER - STRIDE] == AMENDED)

    def last_is_plain(self) -> bool:
        """Whether the last event has changed nothing but what delivering its outputs does."""
        return not self.journal or self.journal[_LOG - STRIDE] is None

    def hand_over(self) -> None:
        """Keep the journal no longer: it is now of whoever else has it, and this state begins another."""
        if self.journal is not None:
            self.journal = []

    def undo(self) -> Finished:
        """Take the last event back and return it.  Raises IndexError if there is none, ValueError without a journal."""
        if self.journal is None:
            raise ValueError("this state keeps no journal; make it with record=True")
        if not self.journal:
            raise IndexError("there is no event to take back")
        item, frame, number, given, order, held, second, log, _ = self.journal[-STRIDE:]
        del self.journal[-STRIDE:]
        outputs = given if order == AMENDED else outputs_of(item, given)
        activation = Activation(item, frame, number)
        event = Finished(activation, outputs)
        outstanding = len(self.outstanding)
        for at in range(len(log) - 3, -1, -3) if log else ():
            target, key, old = log[at : at + 3]
            if key is _POP:
                target.pop()
            elif key is _REFILL:
                target[:] = old
            elif old is _DELETE:
                del target[key]
            elif isinstance(target, _CONTAINERS):
                target[key] = old
            else:
                setattr(target, key, old)
        if order == AMENDED:
            return event
        iteration = frame.iterations[number]
        if self._plain[item.index]:
            self._take_back(item, frame, number, iteration, outputs)
            iteration.outstanding += 1
        iteration.inputs[item.start : item.end] = _tokens(item, held, second)
        self._next_ready -= outstanding - len(self.outstanding)
        self.outstanding[activation] = order
        return event

    def _take_back(
        self, item: Item, frame: Frame, number: int, iteration: Iteration, outputs: Sequence[Any] | None
    ) -> None:
        """The opposite of `_propagate`, for an item of `Program.plain`, as long as nothing has happened since."""
        pending, inputs, dead_counts = iteration.pending, iteration.inputs, iteration.dead
        for slot_out, edges in enumerate(item.data_out):
            dead = outputs is None or (bool(edges) and outputs[slot_out] is DEAD)
            for target, slot in edges:
                inputs[target.start + slot] = ABSENT
                self._take_token(target, frame, number, iteration, pending, dead_counts, dead)
        for target in item.control_out:
            self._take_token(target, frame, number, iteration, pending, dead_counts, outputs is None)

    def _take_token(
        self,
        target: Item,
        frame: Frame,
        number: int,
        iteration: Iteration,
        pending: list[int],
        dead_counts: dict[int, int],
        dead: bool,
    ) -> None:
        local = target.local
        if pending[local] == 0:  # this was the token that made it ready
            del self.outstanding[Activation(target, frame, number)]
            iteration.outstanding -= 1
        pending[local] += 1
        if dead:
            count = dead_counts[local] - 1
            if count:
                dead_counts[local] = count
            else:
                del dead_counts[local]

    def consumed(self) -> list[Any]:
        """The tokens that the last event's activation had on its inputs.  Raises IndexError or ValueError as `undo` does."""
        if self.journal is None:
            raise ValueError("this state keeps no journal; make it with record=True")
        item, _, _, _, order, held, second, _, _ = self.journal[-STRIDE:]
        return [] if order == AMENDED else list(_tokens(item, held, second))

    # Rules.

    def _enter(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        child = self._child(item, frame, number)
        if outputs is not None and not child.live:
            self._set(child, "live", True)
        if item.is_constant_enter:
            value = DEAD if outputs is None else outputs[0]
            self._append(child.invariants, (item, value))
            for at, iteration in list(child.iterations.items()):
                self._propagate(item, child, at, iteration, outputs)
        else:
            self._propagate(item, child, 0, child.iterations[0], outputs)
        self._set(child, "pending_enters", child.pending_enters - 1)
        if child.pending_enters == 0 and child.iterations[0].outstanding == 0:
            self._clean_up(child, 0)

    def _child(self, item: Item, frame: Frame, number: int) -> Frame:
        spec = item.child
        assert spec is not None
        key = (frame.id, number, spec.index)
        child = self.frames.get(key)
        if child is None:
            child = Frame(self._next_frame, spec, frame, number)
            self._set(self, "_next_frame", self._next_frame + 1)
            self.frames[key] = child
            if self._log is not None:
                self._log += (self.frames, key, _DELETE)
            parent = frame.iterations[number]
            self._set(parent, "children", parent.children + 1)
            self._changes.append(Change(FrameChange.FRAME_BEGIN, child, 0))
            self._changes.append(Change(FrameChange.ITERATION_BEGIN, child, 0))
        return child

    def _exit(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        if outputs is None:
            if number == frame.count:
                self._append(frame.dead_exits, item)
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
                if not frame.deferred:
                    self._changes.append(Change(FrameChange.ITERATION_DEFERRED, frame, number + 1))
                self._append(frame.deferred, (item, outputs[0]))
                return
            self._begin_iteration(frame)
        self._propagate(item, frame, number + 1, frame.iterations[number + 1], outputs)

    def _begin_iteration(self, frame: Frame) -> None:
        """Begin the next iteration with the tokens held back for it and the loop's invariants."""
        number = frame.count + 1
        self._set(frame, "count", number)
        iteration = frame.iterations[number] = Iteration(frame.spec)
        if self._log is not None:
            self._log += (frame.iterations, number, _DELETE)
        self._clear(frame.dead_exits)
        self._changes.append(Change(FrameChange.ITERATION_BEGIN, frame, number))
        deferred = list(frame.deferred)
        self._clear(frame.deferred)
        for item, value in deferred:
            self._propagate(item, frame, number, iteration, (value,))
        for item, value in frame.invariants:
            self._propagate(item, frame, number, iteration, None if value is DEAD else (value,))

    def _clean_up(self, frame: Frame, number: int) -> None:
        """End the iterations from `number` on that are done, and the frame if all are."""
        while number <= frame.count and self._is_done(frame, number):
            iteration = frame.iterations.pop(number)
            if self._log is not None:
                self._log += (frame.iterations, number, iteration)
            self._changes.append(Change(FrameChange.ITERATION_END, frame, number))
            number += 1
            if frame.deferred:
                self._begin_iteration(frame)
        if not frame.iterations and frame.pending_enters == 0:
            self._end_frame(frame)

    @staticmethod
    def _is_done(frame: Frame, number: int) -> bool:
        iteration = frame.iterations.get(number)
        if iteration is None or iteration.outstanding or iteration.children:
            return False
        return frame.pending_enters == 0 if number == 0 else number - 1 not in frame.iterations

    def _end_frame(self, frame: Frame) -> None:
        outer = frame.parent
        assert outer is not None
        at = frame.parent_iteration
        key = (outer.id, at, frame.spec.index)
        del self.frames[key]
        if self._log is not None:
            self._log += (self.frames, key, frame)
        self._changes.append(Change(FrameChange.FRAME_END, frame, frame.count))
        iteration = outer.iterations[at]
        for item in frame.dead_exits:
            self._propagate(item, outer, at, iteration, None)
        self._set(iteration, "children", iteration.children - 1)
        if outer.parent is not None and iteration.outstanding == 0:
            self._clean_up(outer, at)

    def _propagate(
        self, item: Item, frame: Frame, number: int, iteration: Iteration, outputs: Sequence[Any] | None
    ) -> None:
        """Deliver the outputs of `item` to its successors, in this iteration of this frame."""
        log = self._log
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
                if log is not None:
                    at = target.start + slot
                    log += (pending, local, pending[local], inputs, at, inputs[at])
                if target.flow == MERGE:
                    if dead:
                        inputs[target.start + slot] = DEAD
                        self._count_dead(dead_counts, local)
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
                    self._count_dead(dead_counts, local)
                pending[local] -= 1
                if pending[local] == 0:
                    self._make_ready(target, frame, number, iteration)
        for target in item.control_out:
            local = target.local
            if self._report_tokens:
                self._tokens.append(Delivered(-1, target, -1, frame, number, all_dead))
            if log is not None:
                log += (pending, local, pending[local])
            if target.flow == MERGE:
                pending[local] -= 2
                if pending[local] == 0 or (
                    pending[local] == 1 and dead_counts.get(local, 0) == target.n_inputs
                ):
                    self._make_ready(target, frame, number, iteration)
                continue
            if all_dead:
                self._count_dead(dead_counts, local)
            pending[local] -= 1
            if pending[local] == 0:
                self._make_ready(target, frame, number, iteration)

    def _make_ready(self, item: Item, frame: Frame, number: int, iteration: Iteration) -> None:
        activation = _new_tuple(
            Activation, (item, frame, number)
        )  # past the named tuple's own, slower, constructor
        if self._log is not None:
            # fmt: off
            self._log += (
                self.outstanding, activation, _DELETE,
                iteration, "outstanding", iteration.outstanding,
            )
            # fmt: on
        self.outstanding[activation] = self._next_ready
        self._next_ready += 1
        iteration.outstanding += 1
        self._run.append(activation)

    # Journalled changes.

    def _count_dead(self, counts: dict[int, int], local: int) -> None:
        count = counts.get(local, 0)
        if self._log is not None:
            self._log += (counts, local, count if count else _DELETE)
        counts[local] = count + 1

    def _set(self, target: Any, name: str, value: Any) -> None:
        if self._log is not None:
            self._log += (target, name, getattr(target, name))
        setattr(target, name, value)

    def _append(self, items: list[Any], item: Any) -> None:
        if self._log is not None:
            self._log += (items, _POP, None)
        items.append(item)

    def _clear(self, items: list[Any]) -> None:
        if items:
            if self._log is not None:
                self._log += (items, _REFILL, list(items))
            items.clear()

    def _drain(self) -> Instructions:
        result: Instructions = _new_tuple(Instructions, (self._run, self._changes, self._tokens))
        self._run = []
        if self._changes:
            self._changes = []
        if self._tokens:
            self._tokens = []
        return result

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


def check_finished(state: ExecutorState) -> None:
    """Raise InternalError if a step that has nothing left to run still has open frames: a bug in the machine or in the graph."""
    if state.finished and state.frames:
        names = ", ".join(frame.path for frame in state.frames.values())
        raise errors.InternalError(None, None, f"The step ended with open frames: {names}")
