"""The journal of the executor's state: how each event is written down, and what can be read of it.

Who writes it is `engine.runtime.recorded`, which goes back by it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine.observe import FrameChange
from engine.runtime.frames import DEAD, Activation, Change, Frame, Iteration
from engine.runtime.program import FrameSpec, Item

_new_tuple: Any = tuple.__new__

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
# then `more` or the last of `more`.  Iterations are counted from the one of the event, or the one that leads to it.  So what
# happens in each iteration of a loop is the same, and is one tuple that all the events share.  What an event has delivered is not
# written down: it is the opposite of delivering it, done in the opposite order (`DELIVERED` says when).
#
# Of a change from outside (`amend`), `log` has what was there: for each change target, key, old value.
STRIDE = 9
ORDER, LOG = 4, 7  # where these two are in an event
AMENDED = -1  # the `order` of a change from outside, which nothing was outstanding for
OP = 4  # items of the log for one thing
# What happens: an Enter's frame begins; is no longer dead; an Exit's deadness is kept for later; an iteration is held back (the
# first token for it, or another); begins (`more`: dead Exits that were kept so far, and the tokens that were held back); ends
# (`more`: what is left of it); a frame ends; the event's outputs are delivered.
FRAME_BEGAN, REVIVED, KEPT, DEFERRED, DEFERRED_MORE, BEGAN, ENDED, FRAME_ENDED, DELIVERED = range(9)
KEPT_THING = (KEPT, 0, 0, None)
DELIVERED_THING = (DELIVERED, 0, 0, None)


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


def tokens_of(item: Item, held: Any, second: Any) -> Sequence[Any]:
    """The tokens that an execution consumed from what the journal has of them."""
    count = item.n_inputs
    if count > 2:
        return held  # type: ignore[no-any-return]
    return (held, second)[:count]


def frame_of(activation: Activation, level: int, more: Any) -> tuple[Frame, int]:
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
    for at in range(0, len(log), OP):
        yield log[at], log[at + 1], log[at + 2], log[at + 3]


def is_told(log: Sequence[Any]) -> bool:
    """Whether an event's log says anything that `changes_of` tells."""
    return any(log[at] in _TOLD for at in range(0, len(log), OP))


def changes_of(item: Item, frame: Frame, number: int, log: Sequence[Any] | None) -> list[Change]:
    """What an event has changed of frames and iterations, told from what the journal has of it; not of a change from outside."""
    found: list[Change] = []
    activation = Activation(item, frame, number)
    for what, level, offset, more in things_of(log or ()):
        if what in _TOLD:
            where, begin = frame_of(activation, level, more)
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
