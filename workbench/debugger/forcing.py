"""Forcing branches: which predicate a Switch asks, who else asks it, and how it is overridden.

As in `workbench.debugger.changes`, CommandError says what cannot be done and what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.runtime.frames import ABSENT, DEAD, Activation, Frame, Iteration
from engine.runtime.program import ENTER, EXIT, SWITCH, Item
from workbench.debugger.changes import Made, Token, order, override_of, stand_in
from workbench.debugger.command import CommandError
from workbench.debugger.naming import slot_of, split
from workbench.debugger.overrides import Target, there
from workbench.debugger.stepping import Stepping

_ALIKE = ("Identity", "LoopCond")  # what passes a predicate on


def force(stepping: Stepping, name: str, value: bool) -> Made:
    """Let the predicate of a Switch, of a cond or of a loop be `value` where it decides next."""
    root, slot = predicate_of(stepping, name)
    passes, switches = _followers(stepping, root, slot)
    if not switches:
        raise CommandError(f"no Switch asks {root.name}:{slot}")
    token = np.bool_(value)
    text = f"force {root.name}:{slot} {str(value).lower()}"
    for frame, number, iteration in _places(stepping, switches[0]):
        done = stepping.done.get((frame.id, number), {})
        decided = [each for each in switches if each.index in done]
        if len(decided) == len(switches):
            continue
        waiting = [
            Token(iteration.inputs, target.start + to, (frame.id, number), target, to)
            for item, output in passes
            for target, to in item.data_out[output]
        ]
        waiting = [each for each in waiting if each.value is not ABSENT and each.value is not DEAD]
        if not waiting:
            continue
        if decided:
            entry = stepping.latest.get(decided[0].index)
            row = f" in #{entry.row}" if entry is not None else ""
            raise CommandError(f"'{decided[0].name}' has decided{row} already; go back to before it")
        at = Activation(root, frame, number)
        override = override_of(stepping, text, at, Target.of("force", root, slot, at))
        stepping.overrides.note(override)
        stepping.overrides.mark_slots(((t.place, t.item.index, t.slot) for t in waiting), override)
        edits = [(each.tokens, each.at, _like(stepping, root, token, each.value)) for each in waiting]
        latest = stepping.latest.get(root.index)
        stands = at if latest is not None and latest.activation == at else stand_in(stepping, text)
        outputs = _with(latest.outputs, slot, token) if stands is at and latest is not None else ()
        return Made(stepping.change(override, stands, outputs, edits))
    if root.frame.parent is None and root.index in stepping.done.get((0, 0), {}):
        entry = stepping.latest.get(switches[0].index)
        row = f" in #{entry.row}" if entry is not None else ""
        raise CommandError(f"'{switches[0].name}' has decided{row} already; go back to before it")
    values = [np.asarray(value) if each == slot else None for each in range(root.n_outputs)]
    return Made(
        order(stepping, root, text, False, values, None, Target.of("force", root, slot, None)),
        f"when {root.name} runs next",
    )


def _like(stepping: Stepping, item: Item, token: Any, instead_of: Any) -> Any:
    return there(stepping, item, np.asarray(token), instead_of)


def _with(outputs: Sequence[Any] | None, slot: int, value: Any) -> Sequence[Any]:
    found = list(outputs or ())
    if slot < len(found):
        found[slot] = value
    return found


def predicate_of(stepping: Stepping, name: str) -> tuple[Item, int]:
    """The tensor that decides: of a Switch, or of those in a scope, its predicate; or the bool tensor of that name itself."""
    by_name = stepping.step.program.by_name
    node, number = split(name)
    item = by_name.get(node)
    if item is not None and item.flow != SWITCH:
        slot = slot_of(item, number)
        if slot >= item.n_outputs or not item.node.output_dtypes[slot].base_dtype.is_bool:
            raise CommandError(f"'{name}' is neither a Switch nor a bool that one could ask")
        return _source(stepping, item, slot)
    scope = f"{node.rstrip('/')}/"
    switches = [item] if item is not None else []
    if not switches:
        inside = [each for each in by_name.values() if each.flow == SWITCH and each.name.startswith(scope)]
        switches = [each for each in inside if "/" not in each.name[len(scope) :]] or inside
    found: dict[tuple[Item, int], None] = {}
    for switch in switches:
        source, output = switch.node.inputs[1]
        found[_source(stepping, by_name[source], output)] = None
    if not found:
        raise CommandError(f"there is no Switch '{name}' in this step, and none in a scope of that name")
    if len(found) > 1:
        names = " or ".join(f"{each.name}:{slot}" for each, slot in list(found)[:4])
        raise CommandError(f"'{name}' has several branches: which predicate, {names}?")
    return next(iter(found))


def _source(stepping: Stepping, item: Item, slot: int) -> tuple[Item, int]:
    """Where a predicate comes from, within its frame: past the nodes that only pass it on."""
    by_name = stepping.step.program.by_name
    while item.node.type in _ALIKE:
        source, output = item.node.inputs[0]
        before = by_name[source]
        if before.flow in (ENTER, EXIT) or before.frame is not item.frame:
            break
        item, slot = before, output
    return item, slot


def _followers(stepping: Stepping, root: Item, slot: int) -> tuple[list[tuple[Item, int]], list[Item]]:
    """The tensors that are the predicate, and the Switches that ask one of them."""
    passes, switches = [(root, slot)], []
    for item, output in passes:  # grows on the way
        for target, to in item.data_out[output]:
            if target.flow == SWITCH and to == 1:
                switches.append(target)
            elif target.node.type in _ALIKE:
                passes.append((target, 0))
    return passes, switches


def _places(stepping: Stepping, item: Item) -> Iterator[tuple[Frame, int, Iteration]]:
    for frame in stepping.state.live_frames():
        if frame.spec is item.frame:
            for number in sorted(frame.iterations):
                yield frame, number, frame.iterations[number]
