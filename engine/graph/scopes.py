"""What surrounds the building of a node: name scope, control dependencies, devices, colocation, control-flow context.

Each thread has its own surroundings in each graph, so that threads may build one graph at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.types.device import DeviceSpec

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.operation import Operation

DeviceFunction = Callable[[Any], Any]


class ControlDependencies:
    """One `with control_dependencies(…)` block.

    `seen` are the operations built inside it: one that reads the output of such an operation waits for the block's control
    inputs through it already, and needs no control edge of its own.
    """

    __slots__ = ("_before", "control_inputs", "seen")

    def __init__(self, control_inputs: Sequence[Operation]) -> None:
        self.control_inputs = tuple(control_inputs)
        self.seen: set[Operation] = set()
        self._before: set[Operation] | None = None

    @property
    def before(self) -> set[Operation]:
        """All operations that have run when the block's nodes may: its control inputs and what those come after."""
        if self._before is None:
            found: set[Operation] = set()
            stack = list(self.control_inputs)
            while stack:
                op = stack.pop()
                if op not in found:
                    found.add(op)
                    stack.extend(tensor.op for tensor in op._inputs)
                    stack.extend(op._control_inputs)
            self._before = found
        return self._before


class Scopes:
    """The surroundings of the node that a thread builds next."""

    __slots__ = (
        "attrs",
        "colocation",
        "container",
        "context",
        "control",
        "device",
        "devices",
        "gradient_override",
        "name",
        "original",
    )

    def __init__(self) -> None:
        self.name = ""
        self.control: tuple[ControlDependencies, ...] = ()
        self.context: Any = None
        self.devices: tuple[DeviceSpec | DeviceFunction, ...] = ()
        self.device: str | None = ""  # the merged device string, or None where a function must be asked
        self.colocation: tuple[Operation, ...] = ()
        self.container = ""
        self.gradient_override: dict[str, str] = {}
        self.attrs: dict[str, Any] = {}
        self.original: Operation | None = None

    def control_inputs_for(self, inputs: Sequence[Any]) -> list[Operation]:
        """The control inputs that a node with these input tensors gets from the blocks around it."""
        found: dict[Operation, None] = {}
        sources = {tensor.op for tensor in inputs}
        for block in self.control:
            if block.seen.isdisjoint(sources):
                for op in block.control_inputs:
                    if op not in sources:
                        found[op] = None
        return list(found)

    def push_device(self, device: Any) -> None:
        """Enter a `with device(…)` block: a spec string, a DeviceSpec, a function of the operation, or None."""
        if device is None:
            self.devices = ()
        elif callable(device) and not isinstance(device, DeviceSpec):
            self.devices = (*self.devices, device)
        else:
            spec = device if isinstance(device, DeviceSpec) else DeviceSpec.from_string(device)
            self.devices = (*self.devices, spec)
        self.device = self._merged() if all(isinstance(each, DeviceSpec) for each in self.devices) else None

    def _merged(self) -> str:
        merged = DeviceSpec()
        for spec in reversed(self.devices):
            merged = spec.make_merged_spec(merged)  # type: ignore[union-attr]  # only specs here
        return merged.to_string()

    def device_for(self, op: Operation) -> str:
        """The device string for `op`, asking the device functions from the innermost block outward."""
        if self.device is not None:
            return self.device
        for entry in reversed(self.devices):
            if isinstance(entry, DeviceSpec):
                op._device = entry.make_merged_spec(DeviceSpec.from_string(op._device)).to_string()
            else:
                chosen = entry(op)
                op._device = (
                    "" if chosen is None else (chosen if isinstance(chosen, str) else chosen.to_string())
                )
        return op._device


class Here(threading.local):
    """Where `scopes` are this thread's."""

    def __init__(self) -> None:
        self.scopes = Scopes()


class NameScope(contextlib.ContextDecorator):
    """A `with Graph.name_scope(name)` block, which gives the scope's full name with a '/'.  Its name is chosen at its start."""

    def __init__(self, graph: Graph, name: str | None) -> None:
        self._graph = graph
        self._name = name

    def _recreate_cm(self) -> NameScope:  # each call of a decorated function is a scope of its own
        return NameScope(self._graph, self._name)

    def __enter__(self) -> str:
        name = self._graph._scope_name(self._name)
        scopes = self._graph._scopes
        self._before, scopes.name = scopes.name, name
        return f"{name}/" if name else ""

    def __exit__(self, *_: object) -> None:
        self._graph._scopes.name = self._before
