"""Recalling: what was taken back, put back as it was, without running kernels again.

In a step that is over, all that came after is known: outputs, what was written, which resources were made, what was changed by
hand.  The state machine takes the same events once more, so that tokens, frames, resources and results are what they were, and
the very same arrays.  What belongs to the step alone (stacks, arrays, its rendezvous) is changed by its kernels again, which can
only do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.runtime.driver import Outcome
from engine.runtime.frames import Activation, Frame
from engine.runtime.program import SEND
from engine.runtime.resources import Resource, Write
from workbench.debugger.command import CommandError
from workbench.debugger.entries import Entry, Moves, Turn, hold, place_of
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping

OVER = (
    "this Session.run is over, and the script has used what it gave: here one can look, ask and move; "
    "present comes forward to where the script stands, and changes are made there"
)

_HELD = ("invariants", "deferred")  # where a frame holds tokens for iterations that have not begun


class Spot(NamedTuple):
    """Where a token was changed by hand: in which list of a frame (`number`: that iteration's inputs; else which of `_HELD`)."""

    frame: int
    number: int
    held: str
    key: int
    value: Any


class Known(NamedTuple):
    """A change by hand, as it can be made again: tokens, and marks of what descends from it."""

    spots: tuple[Spot, ...]
    marks: Sequence[Any]


def known(stepping: Stepping, edits: Sequence[tuple[list[Any], int, Any]], marks: Sequence[Any]) -> Known:
    """What is to be kept of a change that has just been made."""
    return Known(tuple(_spot(stepping, *edit) for edit in edits), stepping.overrides.onward(marks))


def _spot(stepping: Stepping, tokens: list[Any], key: int, value: Any) -> Spot:
    for frame in stepping.state.live_frames():
        for held in _HELD:
            if getattr(frame, held) is tokens:
                return Spot(frame.id, -1, held, key, value)
        for number, iteration in frame.iterations.items():
            if iteration.inputs is tokens:
                return Spot(frame.id, number, "", key, value)
    raise LookupError("the tokens that were changed are in no frame that is open")


def line_up(stepping: Stepping) -> None:
    """Let what is ready be in the order that it was in when what comes next of what was taken back executed."""
    following = stepping.future[-1]
    _move(stepping, following.more.moved if following.more is not None else None)
    if following.change is not None:
        return
    index = _index_of(stepping, place_of(following.activation))
    if index < 0:
        raise CommandError(f"{following.activation.name} #{following.row} cannot come again here")
    if index:
        stepping.bring(index)


def _index_of(stepping: Stepping, place: tuple[int, int, int]) -> int:
    return next((i for i, each in enumerate(stepping.ready) if place_of(each) == place), -1)


def _move(stepping: Stepping, moves: Moves | None) -> None:
    """Make the moves that have not been made yet, if those that have are the first of them."""
    made = stepping.moved
    if moves is None or len(made) >= len(moves) or not all(map(_same_move, made, moves)):
        return
    for move in moves[len(made) :]:
        if isinstance(move, int):
            stepping.bring(move)
        else:
            stepping.take_turn(*_turn_again(stepping, move))


def _same_move(one: int | Turn, other: int | Turn) -> bool:
    if isinstance(one, int) or isinstance(other, int):
        return one == other
    a, b = one.activation, other.activation
    return (a is None) is (b is None) and (a is None or b is None or place_of(a) == place_of(b))


def _turn_again(stepping: Stepping, turn: Turn) -> tuple[Turn, int]:
    """A turn, of what is there now; and where what has to wait is among what is ready."""
    index, activation = -1, None
    if turn.activation is not None:
        index = _index_of(stepping, place_of(turn.activation))
        if index < 0:
            raise CommandError(f"{turn.activation.name} cannot wait again here")
        activation = stepping.ready[index]
    waiting = {place_of(each): each for each in stepping.step.waits.parked}
    if activation is not None:
        waiting[place_of(activation)] = activation
    allowed = tuple(waiting[place_of(each)] for each in turn.allowed)
    return Turn(activation, turn.blocked, allowed), index


def is_as_it_was(entry: Entry) -> bool:
    """Whether what `entry` wrote to can be written to again: nobody else has changed it since."""
    seen: set[int] = set()
    for write in entry.writes:
        if id(write.resource) not in seen and write.resource.version != write.old_version:
            return False
        seen.add(id(write.resource))
    return True


def recall(stepping: Stepping) -> Entry:
    """Put back what was taken back last.  Raises CommandError if it cannot come again."""
    following = stepping.future[-1]
    line_up(stepping)
    again = _execution_again if following.change is None else _change_again
    entry = again(stepping, following)
    stepping.future.pop()
    if not stepping.future and stepping.over:
        _move(stepping, stepping.last_moves)
    return entry


def _execution_again(stepping: Stepping, following: Entry) -> Entry:
    activation = stepping.ready[0]
    resources, container = stepping.step.resources, stepping.step.context.container
    made = following.more.made if following.more is not None else ()
    for resource in made:
        resources.adopt(resource)
    outputs = None if following.outputs is None else [_raw(value) for value in following.outputs]
    writes: Sequence[Write] = following.writes
    if _is_its_own(stepping, activation, made, container):
        writes = stepping.outcome(activation).writes
    else:
        for write in writes:
            resources.redo(write)
    outcome = Outcome(outputs, 0, following.duration_ns, writes)
    entry = stepping.finish(activation, outcome)
    if made:
        entry.rest().made = made
    if entry.released != following.released:
        raise CommandError(
            f"{activation.name} #{following.row} does not come again as it was: another thread's step had changed a queue"
        )
    return entry


def _is_its_own(stepping: Stepping, activation: Activation, made: Sequence[Resource], container: str) -> bool:
    """Whether an execution changes what belongs to its step alone: its kernel is then to do that again."""
    item = activation.item
    if item.flow >= SEND or item.node.type == "_Retval":
        return True
    if any(each.container == container for each in made):
        return True
    return any(
        isinstance(token, Resource) and token.container == container
        for token in stepping.state.inputs(activation)
    )


def _raw(value: Any) -> Any:
    return value.resource if isinstance(value, Reference) else value


def _change_again(stepping: Stepping, following: Entry) -> Entry:
    """Make a change by hand once more."""
    frames: dict[int, Frame] = {frame.id: frame for frame in stepping.state.live_frames()}
    change = stepping.known[following.row]
    edits = [
        (
            getattr(frames[spot.frame], spot.held)
            if spot.held
            else frames[spot.frame].iterations[spot.number].inputs,
            spot.key,
            spot.value,
        )
        for spot in change.spots
    ]
    for write in following.writes:
        stepping.step.resources.redo(write)
    item, frame, number = following.activation
    activation = Activation(item, frames.get(frame.id, frame), number)
    marks = stepping.overrides.again(change.marks)
    outputs = following.outputs and hold([_raw(value) for value in following.outputs])
    assert following.change is not None
    return stepping.note_change(following.change, activation, outputs, edits, following.writes, marks)
