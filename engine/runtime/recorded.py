"""The state machine's memory: what it writes into its journal, and how it goes back by it.

Every event is taken back by doing the opposite of it, in the opposite order: what it has delivered is known by its outputs, and
what has happened to frames and iterations by its log (`engine.runtime.journal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.runtime.frames import ABSENT, DEAD, Activation, Finished, Frame, Iteration
from engine.runtime.journal import (
    AMENDED,
    BEGAN,
    DELIVERED,
    ENDED,
    FRAME_BEGAN,
    FRAME_ENDED,
    KEPT,
    LOG,
    OP,
    ORDER,
    REVIVED,
    STRIDE,
    Left,
    frame_of,
    outputs_of,
    tokens_of,
)
from engine.runtime.program import ENTER, EXIT, MERGE, NEXT_ITERATION, FrameSpec, Item

_SHARED = 256  # logs and ends of iterations that are remembered, so that others can share them


class Recorded:
    """The part of `engine.runtime.state.ExecutorState` that keeps its journal; `journal` is None for one that keeps none.

    `frames`, `outstanding`: see there.
    """

    def __init__(self, record: bool) -> None:
        self.frames: dict[tuple[int, int, int], Frame] = {}
        self.outstanding: dict[Activation, int] = {}
        self.journal: list[Any] | None = [] if record else None
        self._log: tuple[Any, ...] | None = () if record else None  # of the event that is under way
        self._unshared = False  # whether that log is for this event alone
        self._amended = False  # whether tokens have been changed from outside
        self._logs: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._ends: dict[Any, Left] = {}
        self._usual: dict[FrameSpec, Left] = {}  # how iterations ended last
        self._next_frame = 1
        self._next_ready = 0

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
        return bool(self.journal and self.journal[ORDER - STRIDE] == AMENDED)

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
        for at in range(len(log) - OP, -1, -OP) if log else ():
            what, level, offset, more = log[at : at + OP]
            if what == DELIVERED:
                self._take_back_from(item, frame, number, outputs)
            else:
                self._undo_one(activation, what, level, offset, more)
        if not log:
            self._take_back_from(item, frame, number, outputs)
        iteration = frame.iterations[number]
        iteration.outstanding += 1
        iteration.inputs[item.start : item.end] = tokens_of(item, held, second)
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
        frame, begin = (own, own_number) if level == 0 else frame_of(activation, level, more)
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
        return [] if order == AMENDED else list(tokens_of(item, held, second))

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


def _count_less(counts: dict[int, int], local: int) -> None:
    count = counts[local] - 1
    if count:
        counts[local] = count
    else:
        del counts[local]
