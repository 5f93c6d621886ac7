"""What machine code does to stacks, TensorArrays and variables, told as their ops would have told it.

A segment's stacks and arrays are no resources, and it knows nothing of names and versions.  While somebody watches, it takes down
what cannot be known afterwards (`Recorder.note`): indices, and elements that are scalars, whose values are told.  From the
executions, in their order, and these notes follow the writes: `NativeWrites` does to objects of its own what the ops do to
theirs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.native.layout import View
from engine.runtime.collector import Written
from engine.runtime.plan.native_state import Handle, NativeArray, NativeStack
from engine.runtime.plan.rule_table import constant

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder
    from engine.runtime.plan.rows import Rows
    from engine.runtime.resources import Write


@dataclass(frozen=True, slots=True)
class Effect:
    """What an execution of an op of this type does.

    handle: the stack or array that it is about, as the segment has it, made by the item `maker`.  indices, values: a constant,
    the number of the note that has them, or None if nobody asks.  name: of what it makes.  scalars: of an op that writes
    variables, (value that refers to one, number of the note that has what it becomes) for those that hold a scalar.
    """

    type: str
    handle: Any = None
    maker: int = -1
    indices: Any = None
    values: Any = None
    name: str = ""
    scalars: tuple[tuple[Any, int], ...] = ()

    def wrote(self, use: Any, note: int) -> Effect:
        """It writes a variable that holds a scalar, too; `use` has the value that refers to it, once that is known."""
        return replace(self, scalars=(*self.scalars, (use, note)))

    def settled(self) -> Effect:
        """With the values that refer to variables."""
        return replace(self, scalars=tuple((use.reference, note) for use, note in self.scalars))


def effect_of(
    recorder: Recorder,
    node: StageNode,
    index: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    handles: dict[int, int],
) -> Effect:
    """What an op that has become steps does; takes down what must be.  `handles`: who made each handle, by its id."""
    attrs = node.attrs
    if outputs and isinstance(outputs[0], Handle) and node.type in ("StackV2", "TensorArrayV3"):
        handles[id(outputs[0])] = index
        name = attrs["stack_name"] if node.type == "StackV2" else attrs["tensor_array_name"]
        return Effect(node.type, outputs[0], index, name=name or node.name)
    handle = inputs[0]
    about = handle, handles.get(id(handle.root), -1)
    if node.type == "TensorArrayGradV3":
        return Effect(node.type, *about, name=attrs["source"])
    rule = _NOTED.get(node.type)
    if rule is None:
        return Effect(node.type, *about)
    indices, values = rule
    if node.type in _READS and not handle.clears:
        indices = -1
    scalar = handle.shape == ()
    return Effect(
        node.type,
        *about,
        _noted(recorder, inputs[indices]) if indices >= 0 else None,
        _noted(recorder, inputs[values]) if values >= 0 and scalar else None,
    )


_READS = frozenset({"TensorArrayReadV3", "TensorArrayGatherV3"})
# By op type: which input has indices, and which values (-1: none that have to be known).
_NOTED = {
    "StackPushV2": (-1, 1),
    "TensorArrayWriteV3": (1, 2),
    "TensorArrayScatterV3": (1, 2),
    "TensorArrayReadV3": (1, -1),
    "TensorArrayGatherV3": (1, -1),
}


def _noted(recorder: Recorder, operand: Any) -> Any:
    value = constant(operand)
    if value is not None:
        return np.asarray(value)
    assert isinstance(operand, View)
    if not operand.is_contiguous:
        copied = recorder.new(operand.dtype, operand.shape)
        recorder.copy(operand, copied)
        operand = copied
    return recorder.note(operand)


@dataclass(slots=True, eq=False)
class _Resource:
    """A stack or an array while its writes are told: of scalars the elements are kept, of others only that they are there.

    elements: of a stack, in order.  items: of an array; None where an element was let go.  element: bytes, dtype and shape of
    each, once there is one.
    """

    name: str
    native: Any
    version: int = 0
    element: tuple[int, np.dtype[Any], tuple[int, ...]] | None = None
    elements: list[Any] = field(default_factory=list)
    size: int = 0
    items: dict[int, Any] = field(default_factory=dict)
    gradients: dict[str, _Resource] = field(default_factory=dict)


class NativeWrites:
    """The writes of one step's segments.

    effects: by item, in which segment it is and what it does.  container: that of the step.  fallen: numbers of the segments
    that have failed in this step, which Python runs from then on.
    """

    def __init__(self, effects: Mapping[int, tuple[int, Effect]], container: str) -> None:
        self.container = container
        self.fallen: set[int] = set()
        self._effects = effects
        self._queues: dict[int, deque[Any]] = {}  # of notes, and of what items have done to variables
        self._under_way: dict[int, list[Written]] = {}  # by item: what it does in the run that is not over
        self._made: dict[int, _Resource] = {}
        self._told: dict[int, int] = {}  # by segment: executions that write, since its run began
        self._skip = 0

    # What happens while the step runs.

    def begin(self, segment: int) -> None:
        """A run of this segment begins."""
        self._told[segment] = 0
        self._under_way.clear()

    def noted(self, segment: int, number: int, values: Sequence[Any]) -> None:
        """What a note of this segment has taken down since it was last asked."""
        self._queue(segment, number).extend(values)

    def _queue(self, segment: int, number: int) -> deque[Any]:
        return self._queues.setdefault((segment << 32) + number, deque())

    def put(self, item: int, reference: int, write: Write) -> None:
        """A segment has changed the variable that a value refers to; it says so when it is over, before anybody looks.

        Of several writes in one run, `write` has what the last of them wrote.
        """
        entry = self._under_way.get(item)
        if entry is None:
            entry = self._under_way[item] = []
            self._queues.setdefault(-1 - item, deque()).append(entry)
        written = Written.of(write)
        segment, effect = self._effects[item]
        for known, note in effect.scalars:
            if known == reference:
                written = written._replace(text=self._queue(segment, note).popleft())
        entry.append(written)

    def fall(self, segment: int) -> None:
        """The run of this segment has failed, and Python runs the same again: what was told of it already is not told twice."""
        self.fallen.add(segment)
        self._skip += self._told[segment]
        for queue in [each for each in self._queues if each >> 32 == segment and each >= 0]:
            del self._queues[queue]

    # What happened.

    def trim(self, writes: list[tuple[Written, ...]]) -> None:
        """Take out of what Python has told the writes that were told already."""
        if self._skip:
            gone = min(self._skip, len(writes))
            del writes[:gone]
            self._skip -= gone

    def complete(self, rows: Rows, writes: list[tuple[Written, ...]]) -> None:
        """Put the segments' writes between those of Python, so that there is an entry for each of `rows.writes`."""
        if not len(rows.writes):
            return
        places = rows.writes
        columns = (rows.node, rows.frame, rows.iteration)
        who = zip(*(column[places].tolist() for column in columns), strict=True)
        told = [True] * len(places) if rows.told is None else rows.told[places].tolist()
        others = iter(writes)
        found: list[tuple[Written, ...]] = []
        for (node, frame, iteration), wanted in zip(who, told, strict=True):
            known = self._effects.get(node)
            if known is None or known[0] in self.fallen:
                entry = next(others, None)
                if entry is None:
                    break
                found.append(entry)
                continue
            segment, effect = known
            self._told[segment] = self._told.get(segment, 0) + 1
            does = _DOES.get(effect.type)
            if does is None:
                queue = self._queues.get(-1 - node)
                found.append(tuple(queue.popleft()) if queue else ())
                continue
            made = does(self, segment, effect, f"/{frame}/{iteration}")
            found.append(tuple(made) if wanted else ())
        writes[:] = [*found, *others]

    def _operand(self, segment: int, noted: Any) -> Any:
        """What indices or values were in the execution that is told of."""
        return self._queue(segment, noted).popleft() if isinstance(noted, int) else noted

    def _resource(self, effect: Effect) -> _Resource:
        handle = effect.handle
        found = self._made[effect.maker]
        if isinstance(handle, NativeArray) and handle.origin is not None:
            source = next(name for name, each in handle.origin.gradients.items() if each is handle)
            name = f"{found.name}@{source}"
            found = found.gradients.setdefault(source, _Resource(name, handle))
        return found

    def _written(
        self, resource: _Resource, kind: str, key: int = -1, value: Any = None, text: str = ""
    ) -> Written:
        """One write; `value`: an element, True for one that is no scalar, None for none."""
        resource.version += 1
        common = (self.container, resource.name, kind, resource.version, key)
        if value is None:
            return Written(*common, 0, None, None, text)
        if resource.element is None:
            native = resource.native
            shape = native.shape or ()
            resource.element = native.dtype.itemsize * math.prod(shape), native.dtype, shape
        return Written(*common, *resource.element, None if resource.element[2] else value)


Told = list[Written]


def _make(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    writes._made[effect.maker] = _Resource(effect.name + place, effect.handle)
    return []


def _nothing(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    return []


def _push(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    stack = writes._resource(effect)
    value: Any = True
    if effect.values is not None:
        value = writes._operand(segment, effect.values)[()]
        stack.elements.append(value)
    stack.size += 1
    return [writes._written(stack, "push", value=value)]


def _pop(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    stack = writes._resource(effect)
    value = stack.elements.pop() if stack.elements else True
    stack.size -= 1
    return [writes._written(stack, "pop", value=value)]


def _close(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    resource = writes._resource(effect)
    resource.elements.clear()
    resource.items.clear()
    resource.size = 0
    return [writes._written(resource, "close", text="" if isinstance(resource.native, NativeStack) else "{}")]


def _put(writes: NativeWrites, array: _Resource, indices: Any, values: Any) -> Told:
    found = []
    for i, index in enumerate(np.asarray(indices).reshape(-1).tolist()):
        value = True if values is None else values[i]
        if values is not None and array.native.sums and index in array.items:
            value = array.items[index] + value
        array.items[index] = value
        found.append(writes._written(array, "write", index, value))
    return found


def _take(writes: NativeWrites, array: _Resource, indices: Any) -> Told:
    found = []
    if array.native.clears:
        for index in np.asarray(indices).reshape(-1).tolist():
            if index in array.items:
                array.items[index] = None
                found.append(writes._written(array, "clear", index))
    return found


def _write(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    indices = writes._operand(segment, effect.indices)
    values = writes._operand(segment, effect.values)
    return _put(writes, writes._resource(effect), indices, None if values is None else values.reshape(-1))


def _read(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    return _take(writes, writes._resource(effect), writes._operand(segment, effect.indices))


def _read_all(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    return _take(writes, writes._resource(effect), np.arange(effect.handle.size))


def _split(writes: NativeWrites, segment: int, effect: Effect, place: str) -> Told:
    return _put(writes, writes._resource(effect), np.arange(effect.handle.size), None)


_DOES: dict[str, Callable[[NativeWrites, int, Effect, str], Told]] = {
    "StackV2": _make,
    "StackPushV2": _push,
    "StackPopV2": _pop,
    "StackCloseV2": _close,
    "TensorArrayV3": _make,
    "TensorArrayGradV3": _nothing,
    "TensorArraySizeV3": _nothing,
    "TensorArrayWriteV3": _write,
    "TensorArrayScatterV3": _write,
    "TensorArrayReadV3": _read,
    "TensorArrayGatherV3": _read,
    "TensorArrayConcatV3": _read_all,
    "TensorArraySplitV3": _split,
    "TensorArrayCloseV3": _close,
}
