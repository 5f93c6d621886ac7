"""Units of a step that one can go into, over and out of: name scopes, frames, iterations, functions, devices."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.passes.stage import INLINED, Stage
from engine.runtime.frames import Activation, Frame
from workbench.debugger.frame_notes import path
from workbench.debugger.places import short_device

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping

Key = tuple[
    Hashable, ...
]  # what a unit is, from the outermost one around it to itself; () is what is around them all
Key_of = Callable[["Stepping", Activation], Key]


@dataclass(frozen=True, slots=True)
class Unit:
    """A kind of unit: the one that an activation is in, whether one is still under way, and what it is called.

    `keeps_open`: a unit ends at a known moment (`is_open`), and not only where nothing in it is ready.
    """

    name: str
    of: Key_of
    title: Callable[[Stepping, Key], str]
    is_open: Callable[[Stepping, Key], bool] | None = None


def _scope(stepping: Stepping, activation: Activation) -> Key:
    return tuple(activation.name.split("/")[:-1])


def _frames(frame: Frame) -> list[Frame]:
    """The frames around an activation from the outermost, without the root."""
    found: list[Frame] = []
    around: Frame | None = frame
    while around is not None and around.parent is not None:
        found.append(around)
        around = around.parent
    return found[::-1]


def _frame(stepping: Stepping, activation: Activation) -> Key:
    return tuple(frame.id for frame in _frames(activation.frame))


def _iteration(stepping: Stepping, activation: Activation) -> Key:
    frames = _frames(activation.frame)
    numbers = [*(frame.parent_iteration for frame in frames[1:]), activation.iteration]
    return tuple((frame.id, number) for frame, number in zip(frames, numbers, strict=True))


def _device(stepping: Stepping, activation: Activation) -> Key:
    return (activation.item.node.device,)


_calls: weakref.WeakKeyDictionary[Stage, frozenset[str]] = weakref.WeakKeyDictionary()
_CALL = re.compile(r"inlined from call '(?P<call>[^']+)' of ")


def calls_of(stage: Stage) -> frozenset[str]:
    """The names of the calls of functions whose bodies are in the stage: each is the scope of its body."""
    found = _calls.get(stage)
    if found is None:
        names: set[str] = set()
        at: Stage | None = stage
        while at is not None:
            for node in at:
                if node.lineage.by == INLINED:
                    match = _CALL.match(node.lineage.reason)
                    if match is not None:
                        names.add(match["call"])
            at = at.before
        found = _calls[stage] = frozenset(names)
    return found


def _function(stepping: Stepping, activation: Activation) -> Key:
    calls = calls_of(stepping.step.stage)
    if not calls:
        return ()
    parts = activation.name.split("/")
    return tuple(name for name in ("/".join(parts[:n]) for n in range(1, len(parts))) if name in calls)


def _frame_title(stepping: Stepping, key: Key) -> str:
    if not key:
        return "root"
    frame = frame_of(stepping, key[-1])
    if frame is not None:
        return path(frame)
    note = stepping.frames.by_id.get(key[-1]) if isinstance(key[-1], int) else None
    return note.path if note is not None else "the frame"


def _iteration_title(stepping: Stepping, key: Key) -> str:
    if not key or not isinstance(key[-1], tuple):
        return "root"
    return f"{_frame_title(stepping, (key[-1][0],))}:{key[-1][1]}"


def frame_of(stepping: Stepping, id: Hashable) -> Frame | None:
    """The open frame with that id."""
    return next((frame for frame in stepping.state.live_frames() if frame.id == id), None)


def _frame_open(stepping: Stepping, key: Key) -> bool:
    return bool(key) and frame_of(stepping, key[-1]) is not None


def _iteration_open(stepping: Stepping, key: Key) -> bool:
    if not key or not isinstance(key[-1], tuple):
        return False
    frame = frame_of(stepping, key[-1][0])
    return frame is not None and key[-1][1] in frame.iterations


UNITS: dict[str, Unit] = {
    "scope": Unit(
        "scope", _scope, lambda stepping, key: f"scope {'/'.join(map(str, key))}" if key else "all scopes"
    ),
    "frame": Unit("frame", _frame, _frame_title, _frame_open),
    "iteration": Unit("iteration", _iteration, _iteration_title, _iteration_open),
    "function": Unit(
        "function", _function, lambda stepping, key: f"function {key[-1]}" if key else "all functions"
    ),
    "device": Unit("device", _device, lambda stepping, key: short_device(str(key[0]))),
}


def inside(unit: Unit, stepping: Stepping, activation: Activation, key: Key) -> bool:
    """Whether `activation` is in the unit `key` or one within it."""
    return unit.of(stepping, activation)[: len(key)] == key
