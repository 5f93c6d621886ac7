"""Trail: where the inputs of each execution came from, told from the history.

A token has one producer, which the graph names; what frame and iteration it executed in follows from its role in control flow.
What goes through a variable, a stack, a TensorArray or a rendezvous is followed through the records of their changes.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.runtime.frames import ABSENT, DEAD, Activation, Frame
from engine.runtime.program import ENTER, EXIT, MERGE, NEXT_ITERATION, RECV, Item
from engine.runtime.queues import Contents, Element, Queue
from engine.runtime.rendezvous import Parcel
from engine.runtime.resources import MISSING, NO_KEY, Resource, Stack, TensorArray, Variable, Write
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference

DATA, CONTROL, VARIABLE, STACK, ARRAY, SENT, QUEUE = (
    "data",
    "control",
    "variable",
    "stack",
    "array",
    "sent",
    "queue",
)


class Arrival(NamedTuple):
    """What an execution took in.

    `name` is the tensor (``"add:0"``), ``"^node"`` for a control edge, or the resource's name; `slot` the input, -1 where it is
    none.  `source` is the execution that made it, None if that is not in the history.  `value` is what arrived: an array,
    DEAD, a `Reference`, or ABSENT where the history does not tell.  `how` is one of this module's words.
    """

    name: str
    slot: int
    source: Entry | None
    value: Any
    how: str = DATA


class Change(NamedTuple):
    """A change of a resource, and the execution that made it."""

    row: int
    entry: Entry
    write: Write


class Trail:
    """The history of a step as it is now, by place."""

    def __init__(self, stepping: Stepping) -> None:
        # Not the stepping itself, which is the key under which this is kept.
        self.entries: Sequence[Entry] = stepping.history
        self.stage = stepping.step.stage
        self._by_name = stepping.step.program.by_name
        self._at: dict[tuple[int, int, int], Entry] = {}
        self._exits: dict[tuple[int, int, int], Entry] = {}
        self._changes: dict[int, list[Change]] = {}
        self._cells: dict[int, Entry] = {}  # who pushed a stack's cell
        self._parcels: dict[int, Entry] = {}  # who sent a parcel
        self._elements: dict[int, Entry] = {}  # who put an element into a queue
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._count = 0
        self.extend()

    @classmethod
    def of(cls, stepping: Stepping) -> Trail:
        """The trail of a step as it is now; what an earlier question has found out is not found out again."""
        found = _kept.get(stepping)
        if found is None or not found._still():
            found = _kept[stepping] = cls(stepping)
        else:
            found.extend()
        return found

    def _still(self) -> bool:
        """Whether the history only has more at its end than it had."""
        history = self.entries
        if not self._count:
            return True
        return (
            len(history) >= self._count
            and history[0] is self._first
            and history[self._count - 1] is self._last
        )

    def extend(self) -> None:
        """Take in what has executed since."""
        entries, at = self.entries, self._at
        for index in range(self._count, len(entries)):
            entry = entries[index]
            item, frame, iteration = entry.activation
            if item.index >= 0:
                at[item.index, frame.id, iteration] = entry
            if item.flow == EXIT and frame.parent is not None:
                self._exit((item.index, frame.parent.id, frame.parent_iteration), entry)
            if entry.more is None:
                continue
            for write in entry.writes:
                self._changes.setdefault(id(write.resource), []).append(Change(entry.row, entry, write))
                if write.kind == "push":
                    self._cells[id(write.new)] = entry
                elif write.kind == "send":
                    self._parcels[id(write.new)] = entry
                elif write.kind == "enqueue":
                    for element in _more(write.new, write.old):
                        self._elements[id(element)] = entry
        self._count = len(entries)
        self._first, self._last = (entries[0], entries[-1]) if entries else (None, None)

    def _exit(self, key: tuple[int, int, int], entry: Entry) -> None:
        before = self._exits.get(key)
        if before is None or before.outputs is None or entry.outputs is not None:
            self._exits[key] = entry

    def at(self, activation: Activation) -> Entry | None:
        """The execution of a node in a frame and iteration."""
        item, frame, iteration = activation
        return self._at.get((item.index, frame.id, iteration))

    def producer(self, name: str, frame: Frame, iteration: int, before: int) -> Entry | None:
        """The execution of node `name` whose token arrived in `iteration` of `frame`, as it was before execution `before`.

        What it gave may have been overridden since.
        """
        found = self._producer(self._by_name[name], frame, iteration)
        while found is not None and found.row >= before:
            found = found.previous if found.change is not None else None
        return found

    def _producer(self, item: Item, frame: Frame, iteration: int) -> Entry | None:
        if item.flow == ENTER:
            if frame.parent is None:
                return None
            return self._at.get((item.index, frame.parent.id, frame.parent_iteration))
        if item.flow == NEXT_ITERATION:
            return self._at.get((item.index, frame.id, iteration - 1))
        if item.flow == EXIT:
            return self._exits.get((item.index, frame.id, iteration))
        return self._at.get((item.index, frame.id, iteration))

    # What an execution took in.

    def arrivals(self, entry: Entry) -> list[Arrival]:
        """All that the execution depended on: data inputs, control inputs, and what resources held.

        Of a Merge that ran alive, the input that it took, alone among the data inputs.
        """
        if entry.change is not None:
            return []
        item, frame, iteration = entry.activation
        node = item.node
        found: list[Arrival] = []
        chosen = _chosen(entry)
        for slot, (name, output) in enumerate(node.inputs):
            if chosen is not None and slot != chosen:
                continue
            source = self.producer(name, frame, iteration, entry.row)
            value = _output(source, output)
            found.append(Arrival(f"{name}:{output}", slot, source, value))
            if isinstance(value, Reference):
                found += self._held(entry, slot, value.resource)
        if item.flow == RECV:
            found += self._received(entry)
        found += [
            Arrival(f"^{name}", -1, self.producer(name, frame, iteration, entry.row), ABSENT, CONTROL)
            for name in node.control_inputs
        ]
        return found

    def _held(self, entry: Entry, slot: int, resource: Resource) -> Iterator[Arrival]:
        """What an execution read of the resource on input `slot`."""
        item = entry.activation.item
        kind = item.node.type
        if entry.outputs is None:
            return
        if isinstance(resource, Stack):
            for write in entry.writes:
                if write.kind == "pop" and write.old is not None:
                    yield Arrival(resource.name, slot, self._cells.get(id(write.old)), write.old[1], STACK)
        elif isinstance(resource, Queue):
            for write in entry.writes if kind.startswith("QueueDequeue") else ():
                for element in _more(write.old, write.new):
                    source = self._elements.get(id(element))
                    for value in element:
                        yield Arrival(resource.name, slot, source, value, QUEUE)
        elif isinstance(resource, TensorArray):
            yield from self._items(entry, slot, resource)
        elif isinstance(resource, Variable):
            reads = slot in item.derefs or (kind != "Assign" and item.node.input_dtypes[slot]._is_ref_dtype)
            if reads and item.flow == 0:
                before = self.change_before(resource, entry.row)
                value = self.value_at(resource, entry.row)
                yield Arrival(resource.name, slot, before.entry if before else None, value, VARIABLE)

    def _items(self, entry: Entry, slot: int, array: TensorArray) -> Iterator[Arrival]:
        kind = entry.activation.item.node.type
        name, frame, iteration = array.name, entry.activation.frame, entry.activation.iteration
        changes = self._changes.get(id(array), [])
        last: dict[Any, Change] = {}
        for change in changes:
            if change.row >= entry.row:
                break
            if change.write.key is not NO_KEY and change.write.new is not None:
                last[change.write.key] = change
        keys: Sequence[Any] = ()
        if kind.startswith("TensorArrayRead"):
            index_name, output = entry.activation.item.node.inputs[1]
            index = _output(self.producer(index_name, frame, iteration, entry.row), output)
            keys = (int(index),) if isinstance(index, np.ndarray | np.generic) else tuple(last)
        elif kind.startswith(("TensorArrayGather", "TensorArrayConcat")):
            keys = tuple(last)
        elif array.options.sums:
            keys = tuple(write.key for write in entry.writes if write.old is not MISSING)
        for key in keys:
            found = last.get(key)
            if found is not None:
                yield Arrival(f"{name}[{key}]", slot, found.entry, found.write.new, ARRAY)

    def _received(self, entry: Entry) -> Iterator[Arrival]:
        for write in entry.writes:
            if write.kind == "recv" and isinstance(write.old, Parcel):
                yield Arrival(str(write.key), -1, self._parcels.get(id(write.old)), write.old.token, SENT)

    # Resources.

    def changes(self, resource: Resource) -> Sequence[Change]:
        """The changes of a resource in the history, oldest first."""
        return self._changes.get(id(resource), ())

    def change_before(self, resource: Resource, row: int) -> Change | None:
        """The last change of a resource before execution `row`."""
        changes = self.changes(resource)
        index = bisect_left(changes, row, key=lambda change: change.row)
        return changes[index - 1] if index else None

    def value_at(self, resource: Resource, row: int) -> Any:
        """What a resource that is changed whole held when execution `row` began."""
        changes = self.changes(resource)
        index = bisect_left(changes, row, key=lambda change: change.row)
        if index:
            return changes[index - 1].write.new
        return changes[0].write.old if changes else resource.value

    def slice_of(self, start: Entry, *, control: bool = True) -> Mapping[int, Entry]:
        """All executions that `start` descends from, itself among them, by row; without `control`, by values alone."""
        found = {start.row: start}
        queue = [start]
        while queue:
            for arrival in self.arrivals(queue.pop()):
                source = arrival.source
                if source is None or source.row in found or (arrival.how == CONTROL and not control):
                    continue
                found[source.row] = source
                queue.append(source)
        return found


_kept: weakref.WeakKeyDictionary[Stepping, Trail] = weakref.WeakKeyDictionary()


def _output(source: Entry | None, output: int) -> Any:
    if source is None:
        return ABSENT
    return DEAD if source.outputs is None else source.outputs[output]


def _more(one: Contents, other: Contents) -> list[Element]:
    """The elements of a queue that are in `one` and not in `other`."""
    known = {id(element) for element in other.elements}
    return [element for element in one.elements if id(element) not in known]


def _chosen(entry: Entry) -> int | None:
    """The input that a Merge passed on; None for any other node, and for a dead one."""
    if entry.activation.item.flow != MERGE or entry.outputs is None:
        return None
    return int(entry.outputs[1])


def made(entry: Entry) -> Iterator[tuple[str, Any]]:
    """The values that an execution gave or stored, each with what to call it."""
    name = entry.activation.name if entry.outputs else ""
    for slot, value in enumerate(entry.outputs or ()):
        if value is not DEAD and not isinstance(value, Reference):
            yield f"{name}:{slot}", value
    for write in entry.writes:
        value = write.new
        if write.kind == "push":
            continue  # which is its output, too
        if isinstance(value, Parcel):
            value = value.token
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "dtype"):
            key = f"[{write.key}]" if isinstance(write.resource, TensorArray) else ""
            yield f"{write.resource.name}{key}", value


def consumers_of(item: Item, output: int | None = None) -> Iterator[tuple[Item, int]]:
    """Who gets output `output` (None: any) of a node, and at which input; -1 for a control edge."""
    for slot, edges in enumerate(item.data_out):
        if output is None or slot == output:
            yield from edges
    if output is None:
        for target in item.control_out:
            yield target, -1
