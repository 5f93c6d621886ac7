"""Changes: what can be overridden in a step that is stopped, and how.  Each is an entry of the step's history.

Every function gives what it made and raises CommandError where the change cannot be made, with what to do instead; nothing is
then changed.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.op.registry import lookup
from engine.passes.stage import Lineage, StageNode
from engine.runtime.frames import ABSENT, DEAD, Activation, Frame, Iteration
from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION, ORDINARY, Item
from engine.runtime.resources import Resource, Variable
from viz.format import plural
from workbench.debugger.command import CommandError
from workbench.debugger.entries import Entry
from workbench.debugger.fitting import fitted, shown, zeros
from workbench.debugger.frame_notes import path
from workbench.debugger.overrides import Order, Override, Target, there
from workbench.debugger.stepping import Stepping

_numbers = itertools.count(1)
PAST = 64  # executions of a node that are looked through for one whose output still waits


class Made(NamedTuple):
    """A change: its entry, and what to tell of it besides."""

    entry: Entry
    note: str = ""


class Token(NamedTuple):
    """A token that waits at input `slot` of `item`: `tokens[at]`, in `place`."""

    tokens: list[Any]
    at: int
    place: tuple[int, int]
    item: Item
    slot: int

    @property
    def value(self) -> Any:
        return self.tokens[self.at]


# Tokens.


def set_tensor(stepping: Stepping, item: Item, slot: int, value: Any) -> Made:
    """Override output `slot` of the node's latest execution wherever it waits to be read."""
    name = f"{item.name}:{slot}"
    check_value(item, slot)
    entry = stepping.latest.get(item.index)
    if entry is None:
        raise CommandError(
            f"'{item.name}' has not executed in this step yet; "
            f"set next:{slot} = … when it is next, or skip {item.name} = … instead of running it"
        )
    first, tried = entry, 0
    while entry is not None and tried < PAST:
        if entry.outputs is not None:
            waiting, held = (
                list(_waiting(stepping, entry.activation, slot)),
                _held(stepping, entry.activation),
            )
            if waiting or held:
                break
        entry, tried = entry.previous, tried + 1
    else:
        raise CommandError(_spent(first, item, slot))
    array = fitted_output(item, slot, value)
    assert entry is not None and entry.outputs is not None
    here = there(stepping, item, array, entry.outputs[slot])
    edits: list[tuple[list[Any], int, Any]] = [(each.tokens, each.at, here) for each in waiting]
    edits += [(tokens, at, (item, here)) for tokens, at in held]
    target = Target.of("set", item, slot, entry.activation)
    override = override_of(stepping, f"set {name} = {shown(array)}", entry.activation, target)
    overrides = stepping.overrides
    overrides.note(override)
    overrides.mark_slots(((each.place, each.item.index, each.slot) for each in waiting), override)
    if held:
        overrides.mark_outputs(stepping, entry.activation, override)
    outputs = [*entry.outputs[:slot], here, *entry.outputs[slot + 1 :]]
    made = stepping.change(override, entry.activation, outputs, edits)
    late = sum(len(item.data_out[slot]) for _ in _arrivals(stepping, entry.activation)) - len(waiting)
    note = f"{plural(late, 'reader')} had it before: going back lets them read it anew" if late > 0 else ""
    return Made(made, note)


def fitted_output(item: Item, slot: int, value: Any) -> Any:
    """`value` as an array that output `slot` can be; raises CommandError."""
    check_value(item, slot)
    node = item.node
    return fitted(value, node.output_dtypes[slot], node.output_shapes[slot], f"{item.name}:{slot}")


def check_value(item: Item, slot: int) -> None:
    dtype = item.node.output_dtypes[slot]
    if dtype._is_ref_dtype:
        raise CommandError(f"'{item.name}' gives a reference to a variable; set var NAME = … changes that")
    if dtype.name in ("resource", "variant"):
        raise CommandError(f"'{item.name}' gives a handle, which has no value to set")


def _spent(entry: Entry, item: Item, slot: int) -> str:
    name = f"{item.name}:{slot}"
    if entry.outputs is None or entry.outputs[slot] is DEAD:
        return f"{name} is dead in #{entry.row}: the branch was not taken (force SWITCH true|false before it decides)"
    if not item.data_out[slot]:
        return f"nobody reads {name}"
    return (
        f"{name} of #{entry.row} has been read by all who do; go back to before that, or set what they gave"
    )


def _arrivals(stepping: Stepping, activation: Activation) -> Iterator[tuple[Frame, int, Iteration]]:
    """Where the tokens of an execution arrive, as far as that is open."""
    item, frame, number = activation
    numbers: Sequence[int] = (number,)
    if item.flow == ENTER:
        assert item.child is not None
        child = stepping.state.frames.get((frame.id, number, item.child.index))
        if child is None:
            return
        frame, numbers = child, sorted(child.iterations) if item.is_constant_enter else (0,)
    elif item.flow == NEXT_ITERATION:
        numbers = (number + 1,)
    elif item.flow == EXIT and frame.parent is not None:
        frame, numbers = frame.parent, (frame.parent_iteration,)
    for each in numbers:
        iteration = frame.iterations.get(each)
        if iteration is not None:
            yield frame, each, iteration


def _waiting(stepping: Stepping, activation: Activation, slot: int) -> Iterator[Token]:
    """The live tokens of output `slot` of an execution that wait at their readers."""
    item = activation.item
    for frame, number, iteration in _arrivals(stepping, activation):
        for target, to in item.data_out[slot]:
            token = iteration.inputs[target.start + to]
            if token is not ABSENT and token is not DEAD:
                yield Token(iteration.inputs, target.start + to, (frame.id, number), target, to)


def _held(stepping: Stepping, activation: Activation) -> list[tuple[list[Any], int]]:
    """Where a loop's frame holds the token for iterations that have not begun: a constant, or one that had to wait."""
    item, frame, number = activation
    if item.is_constant_enter and item.child is not None:
        child = stepping.state.frames.get((frame.id, number, item.child.index))
        return (
            [(child.invariants, i) for i, (of, _) in enumerate(child.invariants) if of is item]
            if child
            else []
        )
    if item.flow == NEXT_ITERATION:
        return [(frame.deferred, i) for i, (of, _) in enumerate(frame.deferred) if of is item]
    return []


# Variables.


def set_variable(stepping: Stepping, name: str, value: Any) -> Made:
    """Write `value` into a variable of the session."""
    step = stepping.step
    variable = variable_named(stepping, name)
    array = fitted_variable(variable, value)
    item = _variable_item(stepping, variable)
    held = variable.value
    if item is not None:
        array = there(stepping, item, array, array if held is None else held)
    elif held is not None and not isinstance(held, np.ndarray | np.generic):
        raise CommandError(
            f"'{variable.name}' is on a device, and not in this step; set it in a step that uses it"
        )
    override = override_of(stepping, f"set var {variable.name} = {shown(array)}", None, Target("set var"))
    write = step.resources.write(variable, array, kind="override")
    stepping.overrides.note(override)
    stepping.overrides.mark_resource(variable, override)
    activation = stand_in(stepping, override.text)
    if item is not None and item.frame.parent is None:
        activation = Activation(item, stepping.state.root, 0)
    note = "" if item is not None else "no node of this step uses it"
    return Made(stepping.change(override, activation, (variable,), (), (write,)), note)


def variable_named(stepping: Stepping, name: str) -> Variable:
    """The session's variable of that name (or that of its tensor, ``w:0``); raises CommandError."""
    name = name.strip().removesuffix(":0")
    known = {each.name: each for each in stepping.step.resources if isinstance(each, Variable)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else " (info resources lists them)"
        raise CommandError(f"the session has no variable '{name}' yet{hint}")
    return known[name]


def fitted_variable(variable: Variable, value: Any) -> Any:
    """`value` as an array that the variable can hold; raises CommandError."""
    return fitted(value, variable.dtype, variable.shape, f"the variable {variable.name}")


def _variable_item(stepping: Stepping, variable: Variable) -> Item | None:
    for item in stepping.step.program.items:
        attrs = item.node.attrs
        if (
            item.node.type in ("VariableV2", "Variable")
            and (attrs["shared_name"] or item.name) == variable.name
        ):
            return item
    return None


# Nodes.


def skip(stepping: Stepping, item: Item, given: Sequence[Any] | None) -> Made:
    """Let the node's next execution give `given` (None: zeros), its kernel not run; at once if it is ready."""
    node = item.node
    if item.flow != ORDINARY or node.type == "_Retval":
        raise CommandError(
            f"'{item.name}' ({node.type}) only passes tokens on, and cannot be skipped; "
            "set TENSOR = … changes one, force SWITCH true|false chooses a branch"
        )
    if given is not None and len(given) != item.n_outputs:
        raise CommandError(
            f"'{item.name}' has {plural(item.n_outputs, 'output')}, and {plural(len(given), 'value')} given"
        )
    ready = next((each for each in stepping.ready if each.item is item), None)
    if ready is not None and stepping.state.is_dead(ready):
        raise CommandError(f"'{item.name}' is dead there: its kernel does not run anyway")
    values = [_skipped(stepping, item, slot, given, ready) for slot in range(item.n_outputs)]
    said = ", ".join("its reference" if value is None else shown(value) for value in values)
    text = f"skip {item.name}" + (f" = {said}" if said else "")
    entry = order(stepping, item, text, True, values, ready, Target.of("skip", item, -1, ready))
    if ready is None:
        return Made(entry, "when it is ready")
    stepping.prefer(lambda each: each is ready)
    return Made(stepping.execute())


def _skipped(
    stepping: Stepping, item: Item, slot: int, given: Sequence[Any] | None, ready: Activation | None
) -> Any:
    """What output `slot` of a node that is skipped is; None for the reference that it was given."""
    node = item.node
    dtype, shape = node.output_dtypes[slot], node.output_shapes[slot]
    if dtype._is_ref_dtype or dtype.name in ("resource", "variant"):
        if any(each._is_ref_dtype or each.name in ("resource", "variant") for each in node.input_dtypes):
            return None
        raise CommandError(f"'{item.name}' makes the resource that others use, and cannot be skipped")
    if given is not None:
        return fitted(given[slot], dtype, shape, f"{item.name}:{slot}")
    if shape.is_fully_defined():
        return zeros(dtype, tuple(int(size) for size in shape.as_list() if size is not None))
    before = stepping.latest.get(item.index)
    if before is None or before.outputs is None:
        raise CommandError(
            f"the shape of {item.name}:{slot} is not known before it runs; say what it is to be: skip {item.name} = …"
        )
    return zeros(dtype, np.shape(before.outputs[slot]))


def set_next(stepping: Stepping, slot: int, value: Any) -> Made:
    """Let the next node run, and override its output `slot`."""
    activation = next_to_set(stepping, slot)
    item = activation.item
    array = fitted_output(item, slot, value)
    values = [array if each == slot else None for each in range(item.n_outputs)]
    text = f"set {item.name}:{slot} = {shown(array)} as it runs"
    return Made(
        order(stepping, item, text, False, values, activation, Target.of("set next", item, slot, activation))
    )


def next_to_set(stepping: Stepping, slot: int) -> Activation:
    """What runs next, if it is to give an output `slot`; raises CommandError."""
    activation = stepping.next
    if activation is None:
        raise CommandError("nothing is next: the step is done")
    item = activation.item
    if stepping.state.is_dead(activation):
        raise CommandError(f"'{item.name}' is next, and dead: it gives no value")
    if slot >= item.n_outputs:
        has = plural(item.n_outputs, "output")
        raise CommandError(f"'{item.name}' is next, and has {has}: there is no {item.name}:{slot}")
    return activation


def order(
    stepping: Stepping,
    item: Item,
    text: str,
    skips: bool,
    values: Sequence[Any],
    at: Activation | None,
    target: Target,
) -> Entry:
    """Let `item` give `values` when it executes next; see `Order`."""
    override = override_of(stepping, text, at, target)
    stepping.overrides.note(override, (item.index, Order(override, skips, tuple(values))))
    return stepping.change(override, stand_in(stepping, text))


# What they share.


def override_of(stepping: Stepping, text: str, at: Activation | None, target: Target) -> Override:
    """A new override, made now; `at` is the activation that it is shown at, if there is one."""
    info = stepping.step.info
    place = path(at.frame, at.iteration) if at is not None else ""
    step = info.step if info is not None else 0
    return Override(stepping.executed, step, text, place, number=next(_numbers), target=target)


def stand_in(stepping: Stepping, text: str) -> Activation:
    """An activation that stands for a change alone: of a node that is in no graph, named by what was changed."""
    opdef = copy.copy(lookup("NoOp"))
    assert opdef is not None
    opdef.name = "Override"
    node = StageNode(
        text, opdef, (), (), {}, "", (), (), (), None, Lineage((), "debugger", "changed by hand")
    )
    return Activation(Item(-1, node), stepping.state.root, 0)


def changed_resources(stepping: Stepping) -> list[tuple[Resource, Override]]:
    """The resources that hold something which descends from an override."""
    return [
        (resource, stepping.overrides.seen(next(iter(parts.values()))[0]))
        for resource, parts in list(stepping.overrides.resources.items())
        if parts
    ]
