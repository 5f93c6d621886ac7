"""The debugger's commands that change a step: override a token or a variable, skip a node, force a branch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.runtime.program import Item
from viz.format import tensor as tensor_text
from workbench.debugger import changes, forcing, looking, text
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.expressions import VALUE, Expression, Given
from workbench.debugger.fitting import shown
from workbench.debugger.naming import item_of, output_of, slot_of, split, value_of
from workbench.debugger.stepping import Stepping

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

_USAGE = "set TENSOR = VALUE, set next = VALUE, or set var NAME = VALUE"


class _Aim(NamedTuple):
    """What is to be set: the variable of that name, or output `slot` of `item`, which is the next node where `is_next`."""

    variable: str
    item: Item | None
    slot: int
    is_next: bool
    value: Any


def _aimed(stepping: Stepping, rest: str) -> _Aim:
    """What ``set`` is to do; `value` is evaluated, and not looked at yet."""
    target, value = _assignment(rest)
    if not target or value is None:
        raise CommandError(f"what is to be set to what? {_USAGE}")
    kind, _, name = target.partition(" ")
    if kind == "var" and name:
        return _Aim(name, None, 0, False, _value(stepping, value, lambda: _variable(stepping, name)))
    node, number = split(target)
    if node == "next" and "next" not in stepping.step.program.by_name:
        if stepping.next is None:
            raise CommandError("nothing is next: the step is done")
        slot = slot_of(stepping.next.item, number)
        return _Aim("", None, slot, True, _value(stepping, value))
    item, slot, _ = output_of(stepping, target)
    if not item.n_outputs:
        raise CommandError(f"'{node}' has no output to set")
    entry = stepping.latest.get(item.index)
    old = None if entry is None or entry.outputs is None else entry.outputs[slot]
    return _Aim(
        "", item, slot, False, _value(stepping, value, None if old is None else lambda: _on_host(old))
    )


def _set(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    aim = _aimed(stepping, rest)
    if aim.item is not None:
        made = changes.set_tensor(stepping, aim.item, aim.slot, aim.value)
    elif aim.is_next:
        made = changes.set_next(stepping, aim.slot, aim.value)
    else:
        made = changes.set_variable(stepping, aim.variable, aim.value)
    return _told(stepping, made)


def check(debugger: Debugger, rest: str) -> str:
    """What ``set`` would make of `rest`, in a line; nothing is changed.

    Raises CommandError where `set` would, but for what has been read already.
    """
    stepping = looking.stepping_of(debugger)
    aim = _aimed(stepping, rest)
    if aim.item is not None:
        array = changes.fitted_output(aim.item, aim.slot, aim.value)
    elif aim.is_next:
        array = changes.fitted_output(changes.next_to_set(stepping, aim.slot).item, aim.slot, aim.value)
    else:
        array = changes.fitted_variable(changes.variable_named(stepping, aim.variable), aim.value)
    return f"{tensor_text(array.dtype.name, array.shape)} {shown(array)}"


def _value(stepping: Stepping, text: str, old: Callable[[], Any] | None = None) -> Any:
    """What is typed, evaluated; it may look at the step's tensors and the session's variables, and at what is there now."""
    expression = Expression(text, VALUE)
    names = {"old": old()} if old is not None and "old" in expression.names else {}
    look: dict[str, Callable[[str], Any]] = {
        "var": lambda name: _variable(stepping, name),
        "tensor": lambda name: value_of(stepping, name),
    }
    return expression.value(Given(names, look))


def _variable(stepping: Stepping, name: str) -> Any:
    variable = changes.variable_named(stepping, name)
    if variable.value is None:
        raise CommandError(f"the variable '{variable.name}' has no value yet")
    return _on_host(variable.value)


def _on_host(value: Any) -> Any:
    """A token as a NumPy array."""
    value = getattr(value, "value", value)  # of a reference
    return value.get() if hasattr(value, "get") and hasattr(value, "dtype") else value


def _assignment(rest: str) -> tuple[str, str | None]:
    """What stands left and right of the first single ``=``."""
    found = re.match(r"(?P<target>[^=]*?)\s*=(?!=)\s*(?P<value>.+)", rest, re.DOTALL)
    return (found["target"].strip(), found["value"]) if found else (rest.strip(), None)


def _skip(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    name, value = _assignment(rest)
    if name:
        item = item_of(stepping, name)
    elif stepping.next is not None:
        item = stepping.next.item
    else:
        raise CommandError("nothing is next: the step is done")
    given = None
    if value is not None:
        found = _value(stepping, value)
        given = list(found) if item.n_outputs != 1 and isinstance(found, tuple) else [found]
    return _told(stepping, changes.skip(stepping, item, given))


def _force(debugger: Debugger, rest: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    name, _, choice = rest.rpartition(" ")
    chosen = {"true": True, "false": False, "1": True, "0": False}.get(choice.lower())
    if chosen is None or not name.strip():
        raise CommandError("which branch of what? force SWITCH true, or force SWITCH false")
    return _told(stepping, forcing.force(stepping, name.strip(), chosen))


def _told(stepping: Stepping, made: changes.Made) -> Answer:
    entry = made.entry
    override = entry.override
    said = f"#{override.row}  {override.text}" if override is not None else f"#{entry.row}"
    if override is not None and override.row != entry.row:
        said += f"\n#{entry.row}  skipped"
    where = override.place if override is not None else ""
    notes = [note for note in (f"in {where}" if where not in ("", "root") else "", made.note) if note]
    return Answer(True, said + (f"  ({'; '.join(notes)})" if notes else ""))


def overrides(debugger: Debugger) -> str:
    """``info overrides``: what was changed in this step, what is still to be, and what is left of earlier changes."""
    stepping = looking.stepping_of(debugger)
    ordered = {order.override for order in stepping.overrides.orders.values()}
    rows = [
        (f"#{each.row:<4}", each.text, each.place, "still to come" if each in ordered else "")
        for each in stepping.overrides.made.values()
    ]
    lines = text.table(rows)
    for resource, override in changes.changed_resources(stepping):
        lines.append(f"{resource.kind} '{resource.name}' {text.descends(override.label)}")
    return "\n".join(lines) or "nothing was changed by hand (set, skip and force do that)"


COMMANDS = (
    Command(
        "set",
        (),
        "TENSOR | next[:OUTPUT] | var NAME = VALUE",
        "override a tensor that waits to be read, what the next node will give, or a variable. "
        "TENSOR is NODE or NODE:OUTPUT; its latest value is replaced wherever it has not been read yet. VALUE is a number, "
        "a list, or an expression such as zeros((2, 3)), full((4,), nan) or old * 0.5, old being what is there now; dtype and "
        "shape have to fit. An override is an entry of the history: back takes it back. What descends from it says so.",
        _set,
    ),
    Command(
        "skip",
        (),
        "[NODE] [= VALUE]",
        "let a node give zeros, or VALUE, instead of running its kernel. "
        "The next node, or NODE, which is skipped at once if it is ready, and otherwise when it is its turn. A node that changes "
        "a variable leaves it as it is.",
        _skip,
    ),
    Command(
        "force",
        (),
        "SWITCH true|false",
        "force a branch: let the predicate that SWITCH asks be true or false. "
        "SWITCH may also be the scope of a cond or a loop, or the predicate itself. All Switches that ask the same predicate in "
        "the same iteration follow. Where it has not been computed yet, it is overridden when it is.",
        _force,
    ),
)
