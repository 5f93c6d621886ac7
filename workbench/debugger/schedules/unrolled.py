"""A program with its loops unrolled a few times.

A loop runs its body twice here and its condition three times, in each of its frames: enough to see two iterations
beside each other.  At most `parallel_iterations` of a loop's iterations are under way at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from typing import Any

from engine.runtime.program import (
    ENTER,
    EXIT,
    MERGE,
    NEXT_ITERATION,
    RECV,
    SEND,
    FrameSpec,
    Item,
    Program,
)
from engine.runtime.rendezvous import make_key

MAX_INSTANCES = 300_000
_ROUNDS = 3

Literal = tuple[int, int, int]  # a predicate (the instance and output that made it) and the branch
Resource = tuple[Hashable, ...]  # ("variable", container, name) and the like


class Instance:
    """An item in one iteration of each loop around it; `sources` are the (instance, output) pairs of its inputs.

    `waits` are instances that must have run for others reasons than an edge.  A barrier stands for no execution.
    """

    __slots__ = (
        "after",
        "barrier",
        "before",
        "controls",
        "copies",
        "dead",
        "guard",
        "item",
        "made",
        "number",
        "sources",
        "waits",
    )

    def __init__(self, number: int, item: Item, copies: tuple[int, ...]) -> None:
        self.number = number
        self.item = item
        self.copies = copies
        self.sources: list[tuple[Instance, int] | None] = []
        self.controls: list[Instance] = []
        self.waits: list[Instance] = []
        self.barrier = False
        self.after: list[Instance] = []
        self.dead = False
        self.guard: frozenset[Literal] = frozenset()
        self.made: dict[int, frozenset[Resource]] = {}  # by output: where a reference or handle leads
        self.before = 0


class Unrolled:
    """See the module.  `order` are the instances, each after all that it waits for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rounds = _ROUNDS
        while self._size() > MAX_INSTANCES and self.rounds > 2:
            self.rounds -= 1
        self._instances: dict[tuple[int, tuple[int, ...]], Instance] = {}
        self._make()
        self._barriers = self._make_barriers()
        self.order = self._sorted()

    # Unrolling.

    def _size(self) -> int:
        return sum(self.rounds ** _depth(item.frame) for item in self.program.items)

    def _copies(self, item: Item) -> Iterator[tuple[int, ...]]:
        copies = product(range(self.rounds), repeat=_depth(item.frame))
        if item.flow == EXIT:  # the last round leaves the loop
            return (each for each in copies if each[-1] == self.rounds - 1)
        return copies

    def _make(self) -> None:
        made = self._instances
        for item in self.program.items:
            for copies in self._copies(item):
                made[item.index, copies] = Instance(len(made), item, copies)
        sends = _sends(self.program)
        for instance in made.values():
            node = instance.item.node
            by_name = self.program.by_name
            for name, output in node.inputs:
                source = self._source(by_name[name], instance)
                instance.sources.append((source, output) if source is not None else None)
            instance.controls = [
                source
                for name in node.control_inputs
                if (source := self._source(by_name[name], instance)) is not None
            ]
            if instance.item.flow == RECV:
                send = sends.get(_key(instance.item))
                sender = made.get((send.index, instance.copies)) if send is not None else None
                if sender is not None:
                    instance.controls.append(sender)
            for each in [*(pair[0] for pair in instance.sources if pair), *instance.controls]:
                each.after.append(instance)

    def _source(self, source: Item, target: Instance) -> Instance | None:
        """Whose token `target` gets from `source`; None if it comes in other rounds alone."""
        copies = target.copies
        if source.flow == NEXT_ITERATION:
            if not copies[-1]:
                return None
            copies = (*copies[:-1], copies[-1] - 1)
        elif source.flow == ENTER:
            if target.item.flow == MERGE and copies[-1] and not source.is_constant_enter:
                return None
            copies = copies[:-1]
        elif source.flow == EXIT:
            copies = (*copies, self.rounds - 1)
        return self._instances[source.index, copies]

    def _make_barriers(self) -> list[Instance]:
        """For each iteration that begins when an earlier one has ended: what stands between the two."""
        barriers: dict[Any, Instance] = {}
        for instance in list(self._instances.values()):
            frame: FrameSpec | None = instance.item.frame
            copies = instance.copies
            while frame is not None and frame.parent is not None:
                at_once = frame.parallel_iterations
                if at_once < self.rounds:
                    for key in (copies, (*copies[:-1], copies[-1] + at_once)):
                        if key[-1] >= at_once and (frame.index, key) not in barriers:
                            made = barriers[frame.index, key] = Instance(
                                len(self._instances) + len(barriers), instance.item, key
                            )
                            made.barrier = True
                    if (
                        ends := barriers.get((frame.index, (*copies[:-1], copies[-1] + at_once)))
                    ) is not None:
                        ends.waits.append(instance)
                        instance.after.append(ends)
                    if (begins := barriers.get((frame.index, copies))) is not None:
                        instance.waits.append(begins)
                        begins.after.append(instance)
                frame, copies = frame.parent, copies[:-1]
        return list(barriers.values())

    def _sorted(self) -> list[Instance]:
        everything = [*self._instances.values(), *self._barriers]
        waiting = {
            each.number: sum(pair is not None for pair in each.sources) + len(each.controls) + len(each.waits)
            for each in everything
        }
        queue = deque(each for each in everything if not waiting[each.number])
        found = []
        while queue:
            instance = queue.popleft()
            found.append(instance)
            for each in instance.after:
                waiting[each.number] -= 1
                if not waiting[each.number]:
                    queue.append(each)
        return found


def _depth(frame: FrameSpec | None) -> int:
    depth = -1
    while frame is not None:
        depth, frame = depth + 1, frame.parent
    return depth


def _sends(program: Program) -> dict[str, Item]:
    return {_key(item): item for item in program.items if item.flow == SEND}


def _key(item: Item) -> str:
    attrs = item.node.attrs
    return make_key(
        attrs["send_device"], attrs["send_device_incarnation"], attrs["recv_device"], attrs["tensor_name"]
    )


def reach(start: Item, items: Sequence[Item]) -> dict[int, int]:
    """How many edges lead from `start` to each item that waits for it, by index; loops count once."""
    found = {start.index: 0}
    queue = deque([start.index])
    while queue:
        index = queue.popleft()
        item = items[index]
        for target in (*(each for edges in item.data_out for each, _ in edges), *item.control_out):
            if target.index not in found:
                found[target.index] = found[index] + 1
                queue.append(target.index)
    return found
