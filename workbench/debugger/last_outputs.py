"""What a step's nodes gave last and what it has written: told without making entries of what nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from engine.runtime.program import Item
from engine.runtime.resources import Write
from engine.runtime.state import Activation, outputs_of
from workbench.debugger.entries import Entry
from workbench.debugger.stepping import Stepping

BEFORE = 4  # executions that are looked back for one that was alive


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
    instead = {entry.activation.item: _alive(entry) for entry in stepping.read.latest.values()}
    first, special = stepping.read.executed, stepping.unread.special
    items, given = stepping.unread.since(first)
    last: dict[Item, Any] = dict(zip(items, given, strict=True))
    dead = {each: BEFORE + 1 for each, it in last.items() if it is None and each.frame.parent is not None}
    found: dict[Item, Sequence[Any] | None] = {}
    for row, each in special.items():
        item = items[row - first]
        if last[item] is given[row - first]:
            found[item] = each.outputs
    for at in range(len(items) - 1, -1, -1) if dead else ():
        item = items[at]
        left = dead.get(item)
        if left is None:
            continue
        if given[at] is None and left:
            dead[item] = left - 1
            continue
        found[item] = special[first + at].outputs if first + at in special else outputs_of(item, given[at])
        del dead[item]
        if not dead:
            break
    for item in dead:
        found[item] = instead.get(item)
    if instead:
        instead = {item: outputs for item, outputs in instead.items() if item not in last}
    return LastOutputs(last, {**instead, **found})


def writes_of(stepping: Stepping) -> Iterator[tuple[int, Activation, Sequence[Write]]]:
    """The executions that have changed resources, in order: row, activation, changes."""
    for entry in stepping.read.history:
        if entry.more is not None and entry.more.writes:
            yield entry.row, entry.activation, entry.more.writes
    for row, special in stepping.unread.special.items():
        if special.writes:
            yield row, stepping.unread.activation(row), special.writes


def _alive(entry: Entry) -> Sequence[Any] | None:
    found: Entry | None = entry
    for _ in range(BEFORE + 1):
        if found is None or found.outputs is not None:
            break
        found = found.previous
    return found.outputs if found is not None else None
