"""``who wrote VARIABLE``: every change of a variable that is known, and who has read it since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from engine.runtime.program import Item
from engine.runtime.queues import Contents
from engine.runtime.resources import MISSING, NO_KEY, Resource, Stack
from viz.format import plural
from workbench.debugger import text
from workbench.debugger.command import CommandError
from workbench.debugger.frame_notes import path
from workbench.debugger.questions.past import Past
from workbench.debugger.questions.reasoning import Reason, Reasoning, about_activation, bounded
from workbench.debugger.questions.trail import Change, Trail
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference, summarize

MAX_WRITES = 30  # the latest ones
MAX_READERS = 6  # of one write


def resource_of(stepping: Stepping, name: str) -> Resource:
    """The resource that a user calls `name`: by its own name, or by that of a node which passes it on.

    Raises CommandError if there is none.
    """
    mine = stepping.step.context.container
    found = [
        each
        for each in stepping.step.resources
        if each.name == name and (not each.container.startswith("_step_") or each.container == mine)
    ]
    if found:
        return found[0]
    node = name.partition(":")[0]
    item = stepping.step.program.by_name.get(node)
    entry = stepping.latest.get(item.index) if item is not None else None
    for value in (entry.outputs or ()) if entry is not None else ():
        if isinstance(value, Reference):
            return value.resource
    known = [
        each.name
        for each in stepping.step.resources
        if not each.container.startswith("_step_") and each.kind == "variable"
    ]
    listed = f"; variables: {', '.join(known[:8])}" if known else "; there are no variables yet"
    raise CommandError(f"there is no variable, stack or array '{name}'{listed}")


def reads_of(trail: Trail, resource: Resource) -> Iterator[Entry]:
    """The live executions that read a variable's value, in order."""
    for entry in trail.entries:
        item, frame, iteration = entry.activation
        if entry.outputs is None or entry.change is not None or item.flow or not _takes_references(item):
            continue
        node = item.node
        for slot, (name, output) in enumerate(node.inputs):
            reads = slot in item.derefs or (node.input_dtypes[slot]._is_ref_dtype and node.type != "Assign")
            if not reads:
                continue
            source = trail.producer(name, frame, iteration, entry.row)
            value = source.outputs[output] if source is not None and source.outputs is not None else None
            if isinstance(value, Reference) and value.resource is resource:
                yield entry
                break


@cache
def _takes_references(item: Item) -> bool:
    return bool(item.derefs) or any(dtype._is_ref_dtype for dtype in item.node.input_dtypes)


def who_wrote(stepping: Stepping, name: str, past: Past | None = None) -> Reasoning:
    """The changes of a variable (or stack, array) in this step, latest last, each with who has read it since.

    And what it held before: from which earlier step, as far as `past` tells.  Raises CommandError if nothing is called that.
    """
    resource = resource_of(stepping, name)
    trail = Trail.of(stepping)
    changes = trail.changes(resource)
    reads = list(reads_of(trail, resource)) if not isinstance(resource.value, dict) else []
    reasons: list[Reason] = []
    begun = changes[0].write.old if changes else resource.value
    if changes and changes[0].write.key is not NO_KEY:
        begun = None
    reasons += _before(
        stepping, resource, past, begun, _between(reads, -1, changes[0].row if changes else None)
    )
    first = max(0, len(changes) - MAX_WRITES)
    for number in range(first, len(changes)):
        change = changes[number]
        after = changes[number + 1].row if number + 1 < len(changes) else None
        reasons += _change(change, _between(reads, change.row, after), root=number == len(changes) - 1)
    kind = f"{resource.kind} '{resource.name}'"
    if changes:
        last = changes[-1]
        at = last.entry.activation
        answer = (
            f"the {kind} was written {plural(len(changes), 'time')} in this step, last by {at.name} "
            f"#{last.row} in {path(at.frame, at.iteration)}"
        )
    else:
        answer = f"nothing has written the {kind} in this step, as far as the history goes"
    return bounded(f"who wrote {name}", answer, reasons, first)


def _between(reads: Sequence[Entry], after: int, until: int | None) -> list[Entry]:
    """The reads after execution `after`, up to `until`, which may read what it then changes."""
    return [each for each in reads if each.row > after and (until is None or each.row <= until)]


def _before(
    stepping: Stepping, resource: Resource, past: Past | None, value: Any, reads: Sequence[Entry]
) -> Iterator[Reason]:
    """What a resource held when the step began, and where that is from."""
    if resource.container == stepping.step.context.container:
        return  # it was made in this step
    said = "was not initialized" if value is None else f"was {_said(resource, value)}"
    yield Reason(f"at the beginning of what the history holds it {said}")
    found = past.writer_of(resource) if past is not None else None
    if found is not None:
        yield Reason(
            f"written in step {found.step} by {found.node} ({found.type}), {found.kind}",
            1,
            found.node,
            found.type,
            found.place,
            found.row,
            found.line,
            found.code,
        )
    elif value is not None and resource.version:
        yield Reason("by a step that was not looked at, or a checkpoint", 1)
    yield from _readers(reads)


def _change(change: Change, reads: Sequence[Entry], *, root: bool) -> Iterator[Reason]:
    write, at = change.write, change.entry.activation
    key = "" if write.key is NO_KEY else f"[{write.key}]"
    said = f"{write.kind}{key} by {at.name} ({at.item.node.type}): "
    if isinstance(write.resource, Stack):
        cell = write.new if write.kind == "push" else write.old
        said += _value(cell[1]) if isinstance(cell, tuple) else "empty"
    else:
        said += f"{_said(write.resource, write.old)} → {_said(write.resource, write.new)}"
    yield about_activation(said, at, row=change.row, root=root)
    yield from _readers(reads)


def _readers(reads: Sequence[Entry]) -> Iterator[Reason]:
    for each in reads[:MAX_READERS]:
        at = each.activation
        yield about_activation(f"read by {at.name} ({at.item.node.type})", at, depth=1, row=each.row)
    if len(reads) > MAX_READERS:
        yield Reason(f"… and {plural(len(reads) - MAX_READERS, 'other read')}", 1)


def _said(resource: Resource, value: Any) -> str:
    if value is None:
        return "cleared" if isinstance(resource.value, dict) else "uninitialized"
    if value is MISSING:
        return "nothing"
    if isinstance(value, Contents):
        return plural(len(value.elements), "element") + (", closed" if value.closed else "")
    return _value(value)


def _value(value: Any) -> str:
    return text.value(summarize(value), short=True)
