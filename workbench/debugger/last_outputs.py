"""What a step's nodes gave last and what it has written: told without making entries of what nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from engine.runtime.frames import Activation
from engine.runtime.journal import outputs_of
from engine.runtime.program import Item
from engine.runtime.resources import Write
from workbench.debugger.entries import Entry
from workbench.debugger.history import History
from workbench.debugger.stepping import Stepping

BEFORE = 4  # executions that are looked back for one that was alive
_BLOCK = 128  # executions in which each node is looked for first


class LastOutputs(NamedTuple):
    """What each node gave in its last execution; None if it was dead.

    given: as the journal has it.  instead: for some it is rather this: what resources held then, or what a node gave in the last
    of a few executions before that was alive.
    """

    given: dict[Item, Any]
    instead: dict[Item, Sequence[Any] | None]

    def items(self) -> Iterator[tuple[Item, Sequence[Any] | None]]:
        """The nodes and what they gave."""
        for item, given in self.given.items():
            yield item, self.instead[item] if item in self.instead else outputs_of(item, given)
        for item, outputs in self.instead.items():
            if item not in self.given:
                yield item, outputs


def last_outputs(stepping: Stepping) -> LastOutputs:
    """What each node gave last, or in the last of a few executions before that one that was alive."""
    history = stepping.history
    first, end = history.first, history.end
    items = history.items(first, end)
    given = history.given(first, end)
    last = _last(items, given, [] if history.by_hand else stepping.step.program.items)
    found: dict[Item, Sequence[Any] | None] = {}
    if first:
        for index, entry in stepping.latest.fallen():
            item = stepping.step.program.items[index]
            if item not in last:
                found[item] = entry.outputs
    for row in _noted(history):
        item = items[row - first]
        if last[item] is given[row - first]:
            found[item] = history.facts(row).outputs
    dead = {each: BEFORE + 1 for each, it in last.items() if it is None and each.frame.parent is not None}
    for at in range(len(items) - 1, -1, -1) if dead else ():
        item = items[at]
        left = dead.get(item)
        if left is None:
            continue
        if given[at] is None and left:
            dead[item] = left - 1
            continue
        found[item] = history.facts(first + at).outputs
        del dead[item]
        if not dead:
            break
    return LastOutputs(last, found)


def _last(items: list[Item], given: list[Any], program: Sequence[Item]) -> dict[Item, Any]:
    """What each item gave last, of executions in order; `program` has all the items, or none to look through all of them."""
    outside = {item for item in program if item.frame.parent is None}  # these execute once
    inside = len(program) - len(outside)
    if not inside or len(items) < 4 * _BLOCK:
        return dict(zip(items, given, strict=True))
    last: dict[Item, Any] = {}
    found = 0
    end, size = len(items), _BLOCK
    while end and found < inside:
        begin = max(0, end - size)
        last = dict(zip(items[begin:end], given[begin:end], strict=True)) | last
        found = len(last.keys() - outside)
        end, size = begin, size * 2
    begin, size, wanted = 0, _BLOCK, len(program)
    while begin < end and len(last) < wanted:
        stop = min(end, begin + size)
        for item, it in zip(items[begin:stop], given[begin:stop], strict=True):
            if item in outside:
                last[item] = it
        begin, size = stop, size * 2
    return last


def _noted(history: History) -> Iterator[int]:
    """The rows, in order, of which something else is known of the outputs than the journal has."""
    if not history.made:
        yield from history.special
        return
    special = history.special
    for row, cell in enumerate(history.cells, history.first):
        if isinstance(cell, Entry) or row in special:
            yield row


def writes_of(stepping: Stepping) -> Iterator[tuple[int, Activation, Sequence[Write]]]:
    """The executions that have changed resources, in order: row, activation, changes."""
    history = stepping.history
    for row in history.wrote:
        yield row, history.activation(row), history.writes(row)
