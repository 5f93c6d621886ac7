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
# are more than two.  `released` is how many activations became ready.
#
# `log` says what has happened to frames and iterations, and is None where nothing has: for each such thing, in order
#
#     what, level, offset, more
#
# `level` says to which frame: 0 is the event's own, 1 the one around it, and so on; -1 the one that an Enter leads to, which is
# then `more` or the second of `more`.  Iterations are counted from the one of the event, or the one that leads to it.  So what
# happens in each iteration of a loop is the same, and is one tuple that all the events share.  What an event has delivered is not
# written down: it is the opposite of delivering it, done in the opposite order (`DELIVERED` says when).
#
# Of a change from outside (`amend`), `log` has what was there: for each change target, key, old value.
STRIDE = 9
_ORDER, LOG = 4, 7  # where these two are in an event
AMENDED = -1  # the `order` of a change from outside, which nothing was outstanding for
_OP = 4  # items of the log for one thing
_new_tuple: Any = tuple.__new__
_SHARED = 256  # logs and ends of iterations that are remembered, so that others can share them
# What happens: an Enter's frame begins; is no longer dead; an Exit's deadness is kept for later; an iteration is held back (the
# first token for it, or another); begins (`more`: dead Exits that were kept so far, and the tokens that were held back); ends
# (`more`: what is left of it); a frame ends; the event's outputs are delivered.
FRAME_BEGAN, REVIVED, KEPT, DEFERRED, DEFERRED_MORE, BEGAN, ENDED, FRAME_ENDED, DELIVERED = range(9)
_KEPT = (KEPT, 0, 0, None)
_DELIVERED = (DELIVERED, 0, 0, None)


class Left:
    """What is left of an iteration that has ended, if it is no more than pending and dead counts, and DEAD in some slots."""

    __slots__ = ("dead", "pending", "slots")

    def __init__(self, pending: list[int], dead: dict[int, int], slots: tuple[int, ...]) -> None:
        self.pending = pending
        self.dead = dead
        self.slots = slots

    def iteration(self, spec: FrameSpec) -> Iteration:
        """The iteration as it was."""
        found = Iteration(spec)
        found.pending = self.pending.copy()
        found.dead = self.dead.copy()
        for slot in self.slots:
            found.inputs[slot] = DEAD
        return found


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
        self._report_tokens = tokens
        self.tells = (
            True  # whether changes of frames are among the instructions; the journal has them in any case
        )
        self._log: tuple[Any, ...] | None = () if record else None  # of the event that is under way
        self._unshared = False  # whether that log is for this event alone
        self._amended = False  # whether tokens have been changed from outside
        self._logs: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._ends: dict[Any, Left] = {}
        self._usual: dict[FrameSpec, Left] = {}  # how iterations ended last
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
                self._log = _DELIVERED
            self._clean_up(frame, number, 0, number)
        run = self._run
        self._run = []
        if journal is not None:
            log = self._log
            if log:
                if len(log) > _OP or self._unshared:
                    log = self._shared(log)
                self._log = ()
            else:
                log = None
            given = outputs[0] if outputs is not None and item.n_outputs == 1 else outputs
            journal += (item, frame, number, given, order, held, second, log, len(run))
        return run

    def _shared(self, log: tuple[Any, ...]) -> tuple[Any, ...]:
        """What has been logged of an event; the same tuple as for other events where it says the same."""
        if self._unshared:
            self._unshared = False
            return log
        found = self._logs.get(log)
        if found is None:
            found = log
            if len(self._logs) < _SHARED:
                self._logs[log] = log
        return found

    def amend(self, event: Finished, edits: Sequence[tuple[list[Any], int, Any]]) -> None:
        """Change tokens from outside, on record: each edit is a list of tokens, an index and what is to be there.

        `event` is what `undo` gives back when it takes them back; nothing else follows from it.  Raises ValueError without a
        journal.
        """
        if self.journal is None:
            raise ValueError("this state keeps no journal; make it with record=True")
        log: list[Any] = []
        self._amended = True
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
        """Whether the last event has changed nothing but what delivering its outputs does; no frame and no iteration."""
        return not self.journal or self.journal[LOG - STRIDE] is None

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
        activation = Activation(item, frame, number)
        if order == AMENDED:
            for at in range(len(log) - 3, -1, -3):
                target, key, old = log[at : at + 3]
                target[key] = old
            return Finished(activation, given)
        outputs = outputs_of(item, given)
        outstanding = len(self.outstanding)
        for at in range(len(log) - _OP, -1, -_OP) if log else ():
            what, level, offset, more = log[at : at + _OP]
            if what == DELIVERED:
                self._take_back_from(item, frame, number, outputs)
            else:
                self._undo_one(activation, what, level, offset, more)
        if not log:
            self._take_back_from(item, frame, number, outputs)
        iteration = frame.iterations[number]
        iteration.outstanding += 1
        iteration.inputs[item.start : item.end] = _tokens(item, held, second)
        self._next_ready -= outstanding - len(self.outstanding)
        self.outstanding[activation] = order
        return Finished(activation, outputs)

    def _take_back_from(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        """The opposite of delivering the outputs of an event, as long as nothing has happened since."""
        flow = item.flow
        if flow == ENTER:
            assert item.child is not None
            child = self.frames[frame.id, number, item.child.index]
            child.pending_enters += 1
            if not item.is_constant_enter:
                self._take_back(item, child, 0, outputs)
                return
            child.invariants.pop()
            for at in reversed(list(child.iterations)):
                self._take_back(item, child, at, outputs)
        elif flow == EXIT:
            if outputs is not None:
                assert frame.parent is not None
                self._take_back(item, frame.parent, frame.parent_iteration, outputs)
        elif flow == NEXT_ITERATION:
            if outputs is not None:
                self._take_back(item, frame, number + 1, outputs)
        else:
            self._take_back(item, frame, number, outputs)

    def _undo_one(self, activation: Activation, what: int, level: int, offset: int, more: Any) -> None:
        """Take one thing back that was logged of an event."""
        item, own, own_number = activation
        frame, begin = (own, own_number) if level == 0 else _level(activation, level, more)
        if what == BEGAN:
            exits, deferred = more[:2]
            number = frame.count
            for invariant, value in reversed(frame.invariants):
                self._take_back(invariant, frame, number, None if value is DEAD else (value,))
            for held, value in reversed(deferred):
                self._take_back(held, frame, number, (value,))
            frame.deferred[:0] = deferred
            frame.dead_exits[:0] = exits
            del frame.iterations[number]
            frame.count = number - 1
        elif what == ENDED:
            left = more[0]
            ended = left.iteration(frame.spec) if isinstance(left, Left) else left
            later = list(frame.iterations.items())
            frame.iterations.clear()  # the others are later ones: they are to come after it, as before
            frame.iterations[begin + offset] = ended
            frame.iterations.update(later)
        elif what == FRAME_ENDED:
            outer, at = frame.parent, frame.parent_iteration
            assert outer is not None
            outer.iterations[at].children += 1
            for left_dead in reversed(frame.dead_exits):
                self._take_back(left_dead, outer, at, None)
            self.frames[outer.id, at, frame.spec.index] = frame
        elif what == FRAME_BEGAN:
            assert item.child is not None
            own.iterations[own_number].children -= 1
            del self.frames[own.id, own_number, item.child.index]
            self._next_frame -= 1
        elif what == REVIVED:
            frame.live = False
        elif what == KEPT:
            frame.dead_exits.pop()
        else:
            frame.deferred.pop()

    def _take_back(self, item: Item, frame: Frame, number: int, outputs: Sequence[Any] | None) -> None:
        """The opposite of `_propagate`, as long as nothing has happened since."""
        iteration = frame.iterations[number]
        pending, inputs = iteration.pending, iteration.inputs
        for target in reversed(item.control_out):
            if target.flow == MERGE:
                local = target.local
                if pending[local] == 0 or (
                    pending[local] == 1 and iteration.dead.get(local, 0) == target.n_inputs
                ):
                    self._unmake_ready(target, frame, number, iteration)
                pending[local] += 2
            else:
                self._take_token(target, frame, number, iteration, outputs is None)
        for slot_out in range(len(item.data_out) - 1, -1, -1):
            edges = item.data_out[slot_out]
            dead = outputs is None or (bool(edges) and outputs[slot_out] is DEAD)
            for target, slot in reversed(edges):
                at = target.start + slot
                if target.flow != MERGE:
                    inputs[at] = ABSENT
                    self._take_token(target, frame, number, iteration, dead)
                    continue
                if inputs[at] is ABSENT:  # another live input had come before
                    continue
                inputs[at] = ABSENT
                local = target.local
                if not dead:
                    if pending[local] == 0:
                        self._unmake_ready(target, frame, number, iteration)
                    pending[local] += 1
                    continue
                counts = iteration.dead
                if pending[local] == 1 and (counts[local] == target.n_inputs or item.flow == ENTER):
                    self._unmake_ready(target, frame, number, iteration)
                _count_less(counts, local)

    def _take_token(self, target: Item, frame: Frame, number: int, iteration: Iteration, dead: bool) -> None:
        pending, local = iteration.pending, target.local
        if pending[local] == 0:  # this was the token that made it ready
            self._unmake_ready(target, frame, number, iteration)
        pending[local] += 1
        if dead:
            _count_less(iteration.dead, local)

    def _unmake_ready(self, item: Item, frame: Frame, number: int, iteration: Iteration) -> None:
        del self.outstanding[Activation(item, frame, number)]
        iteration.outstanding -= 1

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
            child.live = True
            if self._log is not None:
                self._log += (REVIVED, -1, 0, child)
                self._unshared = True
        if self._log:
            self._log += _DELIVERED
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
                    self._log += _DELIVERED
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
                    self._log += _KEPT
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
                self._log += _DELIVERED
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

    def _left_of(self, spec: FrameSpec, iteration: Iteration) -> Left | Iteration:
        """What is to be kept of an iteration that has ended: as a rule an object that many of them share."""
        if self._amended:  # what was there of a token that was changed is known by the list that it is in
            self._unshared = True
            return iteration
        usual = self._usual.get(spec)
        pending, dead = iteration.pending, iteration.dead
        if usual is not None and pending == usual.pending and dead == usual.dead:
            return usual
        slots = [slot for slot, token in enumerate(iteration.inputs) if token is not ABSENT]
        if not all(iteration.inputs[slot] is DEAD for slot in slots):
            self._unshared = True
            return iteration
        key = (spec.index, *pending, *dead.items(), *slots)
        found = self._ends.get(key)
        if found is None:
            found = Left(pending, dead, tuple(slots))
            if len(self._ends) < _SHARED:
                self._ends[key] = found
            # Where the same counts say that no token is left: all have run, or nothing has arrived, and no Merge has a DEAD one.
            if not slots and all(
                pending[item.local] in (0, spec.pending[item.local])
                and not (item.flow == MERGE and item.local in dead)
                for item in spec.items
            ):
                self._usual[spec] = found
        return found

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
        activation = _new_tuple(
            Activation, (item, frame, number)
        )  # past the named tuple's own, slower, constructor
        self.outstanding[activation] = self._next_ready
        self._next_ready += 1
        iteration.outstanding += 1
        self._run.append(activation)

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


def _level(activation: Activation, level: int, more: Any) -> tuple[Frame, int]:
    """The frame that a log means by `level`, and the iteration from which it counts there."""
    _, frame, number = activation
    if level < 0:
        child: Frame = more[-1] if isinstance(more, tuple) else more
        return child, 0
    for _ in range(level):
        assert frame.parent is not None
        frame, number = frame.parent, frame.parent_iteration
    return frame, number


def things_of(log: Sequence[Any]) -> Iterator[tuple[int, int, int, Any]]:
    """The things that an event's log says: what, level, offset, more."""
    for at in range(0, len(log), _OP):
        yield log[at], log[at + 1], log[at + 2], log[at + 3]


def is_told(log: Sequence[Any]) -> bool:
    """Whether an event's log says anything that `changes_of` tells."""
    return any(log[at] in _TOLD for at in range(0, len(log), _OP))


def changes_of(item: Item, frame: Frame, number: int, log: Sequence[Any] | None) -> list[Change]:
    """What an event has changed of frames and iterations, told from what the journal has of it; not of a change from outside."""
    found: list[Change] = []
    activation = Activation(item, frame, number)
    for at in range(0, len(log) if log is not None else 0, _OP):
        assert log is not None
        what, level, offset, more = log[at : at + _OP]
        if what in _TOLD:
            where, begin = _level(activation, level, more)
            if what == FRAME_BEGAN:
                found.append(_new_tuple(Change, (FrameChange.FRAME_BEGIN, where, 0)))
            count = where.count if what == FRAME_ENDED else begin + offset
            found.append(_new_tuple(Change, (_TOLD[what], where, count)))
    return found


_TOLD = {
    FRAME_BEGAN: FrameChange.ITERATION_BEGIN,
    DEFERRED: FrameChange.ITERATION_DEFERRED,
    BEGAN: FrameChange.ITERATION_BEGIN,
    ENDED: FrameChange.ITERATION_END,
    FRAME_ENDED: FrameChange.FRAME_END,
}


def _count_dead(counts: dict[int, int], local: int) -> None:
    counts[local] = counts.get(local, 0) + 1


def _count_less(counts: dict[int, int], local: int) -> None:
    count = counts[local] - 1
    if count:
        counts[local] = count
    else:
        del counts[local]


def check_finished(state: ExecutorState) -> None:
    """Raise InternalError if a step that has nothing left to run still has open frames: a bug in the machine or in the graph."""
    if state.finished and state.frames:
        names = ", ".join(frame.path for frame in state.frames.values())
        raise errors.InternalError(None, None, f"The step ended with open frames: {names}")
