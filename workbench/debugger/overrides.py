"""Overrides: what somebody at the debugger has changed in a step, what is still to be changed, and what descends from it.

An override is an entry in the step's history.  Whatever reads a token or a resource that was overridden, or that comes from what
did, is marked with it; the marks are kept by place (frame and iteration), and every change of them is on record, so that taking
an entry back takes its marks back too.  Variables stay marked from one step to the next.

A step in which nothing was overridden, in a session in which nothing is marked, pays for one look at `Overrides.active`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from engine import observe
from engine.observe import FrameChange
from engine.runtime.frames import DEAD, Activation, Instructions
from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION, Item
from engine.runtime.resources import MISSING, NO_KEY, Resource, Stack, TensorArray, Write
from engine.runtime.step import Outcome

if TYPE_CHECKING:
    from workbench.debugger.stepping import Stepping

ALL_ITERATIONS = -1  # where a constant Enter's token arrives

_GONE: Any = object()


class Target(NamedTuple):
    """What an override is of, as `engine.observe.Override` has it: the number of a node in its stage, its output (-1: all), in
    which frame and iteration (-1: when it comes); none of them for a variable."""

    kind: str
    node: int = -1
    slot: int = -1
    frame: int = -1
    iteration: int = -1

    @classmethod
    def of(cls, kind: str, item: Item, slot: int, at: Activation | None) -> Target:
        """Of output `slot` of `item`, at the activation of it if that is known."""
        place = (-1, -1) if at is None else (at.frame.id, at.iteration)
        return cls(kind, item.index, slot, *place)


@dataclass(frozen=True, slots=True)
class Override:
    """A change made at execution `row` of step number `step` of its session; `text` says what it was, `place` where.

    `past`: that is not the step which is looked at.  `number` is its own in the process; `target` is what was changed.
    """

    row: int
    step: int
    text: str
    place: str = ""
    past: bool = False
    number: int = 0
    target: Target | None = None

    @property
    def label(self) -> str:
        """``#5``, or ``#5 of step 2``."""
        return f"#{self.row} of step {self.step}" if self.past else f"#{self.row}"

    def told(self, writes: Sequence[Write] = ()) -> observe.Override:
        """What observers are told of it, which has written `writes`."""
        kind, node, slot, frame, iteration = self.target or Target("")
        found = observe.Override(self.number, 0, kind, self.text, node, slot, frame, iteration)
        for write in writes:
            name, container = write.resource.name, write.resource.container
            found = replace(found, resource=name, container=container, version=write.old_version + 1)
        return found


@dataclass(frozen=True, slots=True)
class Order:
    """What is to happen when a node executes next.

    skip: its kernel does not run, and `values` are its outputs.  Otherwise it does, and those of its outputs are replaced for
    which there is a value (None: none).
    """

    override: Override
    skip: bool
    values: tuple[Any, ...]


Mark = tuple[Override, Any]  # and what has to live as long as the mark does
Marked = WeakKeyDictionary[Resource, dict[Any, Mark]]
_Change = tuple[dict[Any, Any], Any, Any]  # a dictionary, a key, and what was there


class Overrides:
    """See the module; one for each `Stepping`.

    active: whether anything may be marked, or is to be changed.
    made: the overrides of this step, by row.
    orders: by item index, what is to happen when the item executes next.
    resources: marked parts of resources; shared by all steps that are looked at by one debugger.  The key of a part is that of a
        keyed resource's item, of anything else None.  Stacks are not among them: they live no longer than a step.
    """

    def __init__(self, resources: Marked | None = None) -> None:
        self.made: dict[int, Override] = {}
        self.orders: dict[int, Order] = {}
        self.resources: Marked = WeakKeyDictionary() if resources is None else resources
        self.active = bool(self.resources)
        # What arrives marked: by place and the producer's index, and by place, the consumer's index and its input slot.
        self._from: dict[tuple[int, int], dict[int, Override]] = {}
        self._slots: dict[tuple[int, int], dict[tuple[int, int], Override]] = {}
        self._cells: dict[int, Mark] = {}  # of stacks, by identity
        self._log: list[_Change] = []

    # Executing.

    def execute(self, stepping: Stepping, activation: Activation) -> Outcome:
        """Execute `activation` as `StepRun.execute` does, but for what has been ordered.  Raises what its kernel raises."""
        order = self.orders.get(activation.item.index)
        step = stepping.step
        if order is None or step.state.is_dead(activation):
            return step.execute(activation)
        if order.skip:
            now = time.perf_counter_ns()
            return Outcome(passed_on(stepping, activation, order.values), now, now, ())
        outcome = step.execute(activation)
        outputs = [
            value if new is None or value is DEAD else there(stepping, activation.item, new, value)
            for value, new in zip(outcome.outputs or (), order.values, strict=True)
        ]
        return outcome._replace(outputs=outputs)

    def before(self, stepping: Stepping, activation: Activation, outcome: Outcome) -> Override | None:
        """The override that this execution is or descends from; asked while its inputs are still there."""
        item = activation.item
        order = self.orders.get(item.index)
        if order is not None and not stepping.state.is_dead(activation):
            return order.override
        found = self.of_activation(stepping, activation)
        return found if found is not None else self._of_resources(stepping, activation, outcome.writes)

    def after(
        self,
        stepping: Stepping,
        activation: Activation,
        override: Override | None,
        outcome: Outcome,
        instructions: Instructions,
    ) -> Sequence[_Change]:
        """Mark what follows from an execution that descends from `override` (None: it does not); gives what `back` needs."""
        self._log = []
        item, frame, number = activation
        order = self.orders.get(item.index)
        if order is not None and outcome.outputs is not None:
            self._set(self.orders, item.index, _GONE)
            self._set(self.made, order.override.row, order.override)
        slots = self._slots.get((frame.id, number))
        if slots:
            for slot in range(item.n_inputs):
                self._set(slots, (item.index, slot), _GONE)
        if override is not None:
            self.mark_outputs(stepping, activation, override, instructions)
        for write in outcome.writes:
            self._mark_write(write, override)
        for change, changed, at in instructions.changes:
            if change is FrameChange.ITERATION_BEGIN:
                marked = self._from.get((changed.id, at))
                if marked:  # what begins it descends from an override, and so does that the loop's constants are there once more
                    mark = next(iter(marked.values()))
                    for enter, _ in changed.invariants:
                        self._set(marked, enter.index, mark)
            elif change is FrameChange.ITERATION_END:
                self._drop((changed.id, at))
            elif change is FrameChange.FRAME_END:
                self._drop((changed.id, ALL_ITERATIONS))
        return self._log

    def _mark_write(self, write: Write, override: Override | None) -> None:
        """Mark what was written, or take the mark of what was there before away."""
        if isinstance(write.resource, Stack):
            if override is not None and write.kind == "push":
                self._set(self._cells, id(write.new), (override, write.new))
            return
        parts = self.resources.get(write.resource)
        if override is None and not parts:
            return
        if parts is None:
            parts = self.resources.setdefault(write.resource, {})
        gone = override is None or write.new is MISSING
        key = None if write.key is NO_KEY else write.key
        self._set(parts, key, _GONE if gone else (override, None))

    def back(self, log: Sequence[_Change]) -> None:
        """Take marks back as they were before `log` was made."""
        for target, key, old in reversed(log):
            if old is _GONE:
                target.pop(key, None)
            else:
                target[key] = old

    @staticmethod
    def onward(log: Sequence[_Change]) -> Sequence[_Change]:
        """What `again` needs to make the marks once more that have just been made: `log` with what is there now."""
        return [(target, key, target.get(key, _GONE)) for target, key, _ in log]

    @staticmethod
    def again(marks: Sequence[_Change]) -> Sequence[_Change]:
        """Make marks once more; gives what `back` needs."""
        log: list[_Change] = []
        for target, key, now in marks:
            log.append((target, key, target.get(key, _GONE)))
            if now is _GONE:
                target.pop(key, None)
            else:
                target[key] = now
        return log

    # Marks.

    def of_activation(self, stepping: Stepping, activation: Activation) -> Override | None:
        """The override that a token on one of the activation's inputs or control inputs descends from."""
        item, frame, number = activation
        for slot in range(item.n_inputs):
            found = self.of_token(stepping, activation, slot)
            if found is not None:
                return found
        by_name = stepping.step.program.by_name
        for name in item.node.control_inputs:
            found = self._arrived((frame.id, number), by_name[name])
            if found is not None:
                return found
        return None

    def of_token(self, stepping: Stepping, activation: Activation, slot: int) -> Override | None:
        """The override that the token on input `slot` is or descends from."""
        item, frame, number = activation
        place = (frame.id, number)
        slots = self._slots.get(place)
        if slots:
            found = slots.get((item.index, slot))
            if found is not None:
                return found
        return self._arrived(place, stepping.step.program.by_name[item.node.inputs[slot][0]])

    def _arrived(self, place: tuple[int, int], producer: Item) -> Override | None:
        found = self._from.get(place)
        if found:
            override = found.get(producer.index)
            if override is not None:
                return override
        if producer.is_constant_enter:
            return self._from.get((place[0], ALL_ITERATIONS), {}).get(producer.index)
        return None

    def _of_resources(
        self, stepping: Stepping, activation: Activation, writes: Sequence[Write]
    ) -> Override | None:
        """The override that what the execution read of resources descends from."""
        if not self.resources and not self._cells:
            return None
        for write in writes:  # a cell, or an item of many, that was read to be changed
            mark = None
            if isinstance(write.resource, Stack):
                mark = self._cells.get(id(write.old)) if write.kind == "pop" else None
            elif write.key is not NO_KEY:
                mark = self.resources.get(write.resource, {}).get(write.key)
            if mark is not None:
                return self.seen(mark[0])
        written = {id(write.resource) for write in writes}
        replaced = activation.item.node.type == "Assign"  # whatever was there before
        for slot, token in enumerate(stepping.state.inputs(activation)):
            if not isinstance(token, Resource) or isinstance(token, Stack) or (replaced and slot == 0):
                continue
            parts = self.resources.get(token)
            if parts and not (isinstance(token, TensorArray) and id(token) in written):
                return self.seen(next(iter(parts.values()))[0])
        return None

    def seen(self, override: Override) -> Override:
        """`override` as this step sees it, which may be another than that in which it was made."""
        return override if self.made.get(override.row) == override else replace(override, past=True)

    def mark_outputs(
        self,
        stepping: Stepping,
        activation: Activation,
        override: Override,
        instructions: Instructions | None = None,
    ) -> None:
        """Mark the tokens that come from an execution, where they arrive."""
        item, frame, number = activation
        place = (frame.id, number)
        if item.flow == ENTER:
            begun = [change.frame for change in instructions.changes] if instructions is not None else []
            child = next((each for each in begun if each.spec is item.child and each.parent is frame), None)
            if child is None and item.child is not None:
                child = stepping.state.frames.get((frame.id, number, item.child.index))
            if child is None:  # it has ended, and nobody asks for it any more
                return
            place = (child.id, ALL_ITERATIONS if item.is_constant_enter else 0)
        elif item.flow == NEXT_ITERATION:
            place = (frame.id, number + 1)
        elif item.flow == EXIT and frame.parent is not None:
            place = (frame.parent.id, frame.parent_iteration)
        self._set(self._from.setdefault(place, {}), item.index, override)

    def mark_slots(self, places: Iterable[tuple[tuple[int, int], int, int]], override: Override) -> None:
        """Mark tokens that wait: for each a place, the consumer's index and its input slot."""
        for place, index, slot in places:
            self._set(self._slots.setdefault(place, {}), (index, slot), override)

    def mark_resource(self, resource: Resource, override: Override) -> None:
        """Mark all that `resource` holds."""
        self._set(self.resources.setdefault(resource, {}), None, (override, None))

    def note(self, override: Override, order: tuple[int, Order] | None = None) -> None:
        """List an override; with what is ordered by it, of which item."""
        self.active = True
        self._set(self.made, override.row, override)
        if order is not None:
            self._set(self.orders, order[0], order[1])

    def take_log(self) -> Sequence[_Change]:
        """What has been changed since the last entry."""
        log, self._log = self._log, []
        return log

    def _set(self, target: dict[Any, Any], key: Any, value: Any) -> None:
        old = target.get(key, _GONE)
        if old is value:
            return
        self._log.append((target, key, old))
        if value is _GONE:
            del target[key]
        else:
            target[key] = value

    def _drop(self, place: tuple[int, int]) -> None:
        for marks in (self._from, self._slots):
            if place in marks:
                self._set(marks, place, _GONE)


def there(stepping: Stepping, item: Item, array: Any, instead_of: Any) -> Any:
    """`array`, which is NumPy's, in the memory in which `instead_of`, an output of `item`, is."""
    device = stepping.step.executable.bound[item.index].device
    on_host = getattr(type(instead_of), "__module__", "").partition(".")[0] == "numpy"
    return array if device is None or on_host else device.put(array)


def passed_on(stepping: Stepping, activation: Activation, values: Sequence[Any]) -> list[Any]:
    """The outputs of a node that is skipped: `values`; for a reference (None there), the one that it was given."""
    item = activation.item
    tokens = [token for token in stepping.state.inputs(activation) if isinstance(token, Resource)]
    device = stepping.step.executable.bound[item.index].device
    where = item.node.opdef.memory_of(item.node).outputs
    found: list[Any] = []
    for value, memory in zip(values, where, strict=True):
        if value is None:
            found.append(tokens[0])
        else:
            found.append(value if device is None or memory != "device" else device.put(value))
    return found
