"""The debugger's commands that explain: why a node is dead, what the resources hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.runtime.resources import Resource, Stack, TensorArray
from engine.runtime.state import Activation
from viz.dead_path import Place, dead_path
from viz.format import plural
from workbench.debugger import looking, text, views
from workbench.debugger.moves import Answer, CommandError
from workbench.debugger.values import summarize

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping

MAX_ELEMENTS = 8  # of a stack or array that are listed


def why(debugger: Debugger, rest: str) -> Answer:
    """``why NODE``: the way of the dead token that reached the node, in its latest execution."""
    stepping = looking.stepping_of(debugger)
    if not rest:
        raise CommandError("why is which NODE dead?")
    item = looking.item_of(stepping, rest)
    entry = stepping.latest.get(item.index)
    if entry is None:
        raise CommandError(
            f"'{item.name}' has not run in this step yet (info {item.name} says what it waits for)"
        )
    if entry.outputs is not None:
        raise CommandError(f"'{item.name}' was alive in its latest execution, #{entry.row}")
    return Answer(True, "\n".join(_way(stepping, entry.activation)))


def _way(stepping: Stepping, activation: Activation) -> list[str]:
    ran: dict[Place, bool] = {}
    where: dict[Place, Activation] = {}
    parents: dict[int, tuple[int, int]] = {}
    for entry in stepping.history:
        each = entry.activation
        place = _place(each)
        ran[place] = entry.outputs is None
        where[place] = each
        frame = each.frame
        while frame.parent is not None and frame.id not in parents:
            parents[frame.id] = (frame.parent.id, frame.parent_iteration)
            frame = frame.parent
    found = dead_path(stepping.step.stage, ran, parents, _place(activation))

    def named(place: Place) -> str:
        each = where[place]
        return f"{each.name}  ({each.item.node.type})  {views.path(each.frame, each.iteration)}"

    lines = [f"{activation.name} is dead in {views.path(activation.frame, activation.iteration)}"]
    if found.killer is not None:
        lines.append(f"  killed by   {named(found.killer)}, which sent its token to its other output")
    else:
        lines.append("  killed by   something before what the history still holds")
    lines += [f"  {'through' if not i else '':<12}{named(place)}" for i, place in enumerate(found.chain)]
    if found.stops:
        lines += [
            f"  {'stopped at' if not i else '':<12}{named(place)}" for i, place in enumerate(found.stops)
        ]
    else:
        lines.append("  stopped at  nothing yet")
    return lines


def _place(activation: Activation) -> Place:
    return Place(activation.name, activation.frame.id, activation.iteration)


def resources(debugger: Debugger) -> str:
    """``info resources``: variables, stacks, arrays and counters of the session, with what they hold."""
    stepping = looking.stepping_of(debugger)
    found = sorted(stepping.step.resources, key=lambda resource: (resource.kind, resource.name))
    if not found:
        return "the session has no resources yet"
    lines: list[str] = []
    for resource in found:
        lines += _described(resource)
    return "\n".join(lines)


def _described(resource: Resource) -> list[str]:
    head = f"{resource.kind} '{resource.name}', {plural(resource.version, 'write')}"
    if isinstance(resource, Stack):
        elements = [("top" if not i else str(-i), value) for i, value in enumerate(resource.elements())]
        head += f", {plural(resource.size, 'element')}"
    elif isinstance(resource, TensorArray):
        elements = [(str(i), resource.value[i]) for i in sorted(resource.value)]
        head += f", {len(resource.value)} of {resource.size} written"
    else:
        return [
            head
            + ("" if resource.value is None else f"  {text.value(summarize(resource.value), short=True)}")
        ]
    lines = [head]
    for label, value in elements[:MAX_ELEMENTS]:
        shown = "read and let go" if value is None else text.value(summarize(value), short=True)
        lines.append(f"  {label:<6}{shown}")
    if len(elements) > MAX_ELEMENTS:
        lines.append(f"  … {len(elements) - MAX_ELEMENTS} more")
    return lines
