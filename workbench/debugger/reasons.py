"""The debugger's explanations in text: why a node is dead, what the resources hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.runtime.diagnosis import explain_key
from engine.runtime.frames import Activation
from viz.format import plural
from workbench.debugger import flow_views, looking, text
from workbench.debugger.command import Answer, CommandError
from workbench.debugger.frame_notes import path
from workbench.debugger.snapshot import ElementView, PlaceView, ResourceView, WayView, WriterView

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping


def why_dead(debugger: Debugger, rest: str) -> Answer:
    """``why dead NODE``: the way of the dead token that reached the node, in its latest execution; of ``ROW``: in that one."""
    stepping = looking.stepping_of(debugger)
    asked = asked_of(stepping, rest)
    way = flow_views.way_view(stepping, asked)
    if way is None:
        raise CommandError(f"'{asked.name}' was alive there")
    debugger.asked = asked
    return Answer(True, "\n".join(_way(way)))


def is_dead(stepping: Stepping, rest: str) -> bool:
    """Whether ``NODE``, ``ROW`` or nothing (the next one) means an activation that is dead."""
    try:
        asked_of(stepping, rest)
    except CommandError:
        return False
    return True


def asked_of(stepping: Stepping, rest: str) -> Activation:
    """The activation that ``NODE``, ``ROW`` or nothing (the next one) means; raises CommandError if it is not dead."""
    state = stepping.state
    if not rest:
        if stepping.next is None or not state.is_dead(stepping.next):
            raise CommandError(
                "why is which NODE dead? (or which execution, by its number; the next node is alive)"
            )
        return stepping.next
    number = rest.removeprefix("#")
    by_number = number.isdecimal() and rest not in stepping.step.program.by_name
    if by_number:
        entry = next((each for each in stepping.history if str(each.row) == number), None)
        if entry is None:
            raise CommandError(f"the history has no execution #{number}")
    else:
        item = looking.item_of(stepping, rest)
        dead = next((each for each in stepping.ready if each.item is item and state.is_dead(each)), None)
        if dead is not None:
            return dead
        entry = stepping.latest.get(item.index)
        if entry is None:
            raise CommandError(
                f"'{item.name}' has not run in this step yet (info {item.name} says what it waits for)"
            )
    if entry.outputs is not None:
        what = "that execution" if by_number else f"its latest execution, #{entry.row}"
        raise CommandError(f"'{entry.activation.name}' was alive in {what}")
    return entry.activation


def _way(way: WayView) -> list[str]:
    lines = [f"{way.asked.node} is dead in {way.asked.path}"]
    if way.killer is not None:
        lines.append(f"  killed by   {_place(way.killer)}")
    else:
        lines.append("  killed by   something before what the history still holds")
    lines += [f"  {'through' if not i else '':<12}{_place(each)}" for i, each in enumerate(way.chain)]
    lines += [f"  {'stopped at' if not i else '':<12}{_place(each)}" for i, each in enumerate(way.stops)]
    if not way.stops:
        lines.append("  stopped at  nothing yet")
    return lines


def _place(place: PlaceView) -> str:
    row = f"  #{place.row}" if place.row >= 0 else "  ready"
    return f"{place.node}  ({place.type})  {place.path}{row}" + (f"  {place.note}" if place.note else "")


def resources(debugger: Debugger) -> str:
    """``info resources``: stacks and arrays of the step, variables and counters of the session, with what they hold."""
    shown = debugger.snapshot()
    if not shown.resources:
        return "the session has no resources yet"
    lines = [line for each in shown.resources for line in _resource(each)]
    more = shown.resource_count - len(shown.resources)
    return "\n".join([*lines, *([f"… and {plural(more, 'resource')} more"] if more > 0 else [])])


def transfers(debugger: Debugger) -> str:
    """``info transfers``: which receives wait for what, and what was sent and not taken."""
    stepping = looking.stepping_of(debugger)
    if stepping.step.transfers is None:
        return "this step runs on one device: nothing is sent"
    lines = []
    for key, parked in looking.parked_of(stepping).items():
        lines.append(f"{parked.name} in {path(parked.frame, parked.iteration)} waits for {key}")
        lines += [f"  {line}" for line in explain_key(stepping.step, parked)]
    for sent in stepping.step.transfers.rendezvous.state().sent:
        lines.append(f"sent, not taken: {sent.key}  {'dead' if sent.dead else f'{sent.nbytes} bytes'}")
    return "\n".join(lines) or "no receive waits, and nothing that was sent waits to be taken"


def _resource(resource: ResourceView) -> list[str]:
    head = f"{resource.kind} '{resource.name}', {plural(resource.version, 'write')}"
    if resource.size < 0:
        if resource.value is not None:
            head += f"  {text.value(resource.value, short=True)}"
        return [head + _by("written", resource.by)]
    if resource.kind == "stack":
        lines = [f"{head}, {plural(resource.size, 'element')}"]
    else:
        lines = [f"{head}, {plural(len(resource.elements), 'element')} shown of {resource.size}"]
    if resource.keeps:
        made = f"  made at {resource.made_at}" if resource.made_at else ""
        lines.append(f"  keeps {', '.join(resource.keeps)}{made}")
    if resource.original:
        lines.append(f"  for the gradient of {resource.original}")
    if resource.readers:
        lines.append(f"  read by {', '.join(resource.readers)}")
    lines += [f"    {element_label(resource, each):<6}{_element(each)}" for each in resource.elements]
    more = resource.size - len(resource.elements)
    if resource.kind == "stack" and more > 0:
        lines.append(f"    … {more} more")
    return lines


def element_label(resource: ResourceView, element: ElementView) -> str:
    """What an element is called: its index, or ``top`` and how far below it on a stack."""
    if resource.kind != "stack":
        return str(element.index)
    below = element.index - (resource.size - 1)
    return "top" if not below else str(below)


def _element(element: ElementView) -> str:
    shown = "read and let go" if element.value is None else text.value(element.value, short=True)
    return shown + _by("put", element.by)


def _by(verb: str, by: WriterView | None) -> str:
    return f"  {verb} by {by.node} #{by.row} in {by.path}" if by is not None else ""
