"""What the names in a condition mean, at an activation that is next or in an execution that has just happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.runtime.frames import Activation
from engine.runtime.resources import Resource
from workbench.debugger.command import CommandError
from workbench.debugger.expressions import AbsentError
from workbench.debugger.expressions.table import FUNCTIONS
from workbench.debugger.frame_notes import label
from workbench.debugger.naming import node_name, value_of
from workbench.debugger.places import allocated, short_device
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.stepping import Entry, Stepping


class NodeScope:
    """The scope of a node; `entry` is None before it executes, and else the step's last execution.

    `change` is what a variable was and is, for a condition on its change.
    """

    def __init__(
        self,
        stepping: Stepping,
        activation: Activation,
        entry: Entry | None = None,
        change: tuple[Any, Any] | None = None,
    ) -> None:
        self._stepping = stepping
        self._activation = activation
        self._entry = entry
        self._change = change

    def name(self, name: str) -> Any:
        """See `expressions.Scope`."""
        known = _NAMES.get(name)
        if known is not None:
            return known(self)
        if name in FUNCTIONS:  # has_inf_or_nan by itself is about all outputs
            return FUNCTIONS[name].call(tuple(each for each in self.outputs() if hasattr(each, "dtype")))
        number = int(name.lstrip("inout"))
        which, tokens = ("input", self.inputs()) if name.startswith("in") else ("output", self.outputs())
        if number >= len(tokens):
            raise AbsentError(f"'{self._activation.name}' has no {which} {number}")
        return tokens[number]

    def outputs(self) -> tuple[Any, ...]:
        """What the node has given; raises AbsentError if it has not executed or was dead."""
        if self._entry is None:
            raise AbsentError(f"'{self._activation.name}' has not executed yet")
        if self._entry.outputs is None:
            raise AbsentError(f"'{self._activation.name}' was dead")
        return tuple(each.value if isinstance(each, Reference) else each for each in self._entry.outputs)

    def inputs(self) -> tuple[Any, ...]:
        """The tokens on its inputs."""
        state = self._stepping.state
        tokens = state.inputs(self._activation) if self._entry is None else state.consumed()
        return tuple(each.value if isinstance(each, Resource) else each for each in tokens)

    def variable(self, name: str) -> Any:
        """See `expressions.Scope`."""
        return resource_of(self._stepping, name).value

    def tensor(self, name: str) -> Any:
        """See `expressions.Scope`."""
        try:
            return value_of(self._stepping, name)
        except CommandError as error:
            raise AbsentError(str(error)) from None

    def _row(self) -> int:
        return self._entry.row if self._entry is not None else self._stepping.executed

    def _dead(self) -> bool:
        if self._entry is not None:
            return self._entry.outputs is None
        return self._stepping.state.is_dead(self._activation)

    def _changed(self, index: int) -> Any:
        if self._change is None:
            raise AbsentError("old and new are there only where a variable changes (watch NAME if …)")
        return self._change[index]

    def _first(self) -> Any:
        found = self.outputs()
        if not found:
            raise AbsentError(f"'{self._activation.name}' has no outputs")
        return found[0]

    def _allocated(self) -> int:
        if self._entry is None:
            raise AbsentError(f"'{self._activation.name}' has not executed yet")
        return allocated(self._stepping, self._entry)


_NAMES: dict[str, Callable[[NodeScope], Any]] = {
    "iteration": lambda s: s._activation.iteration,
    "frame": lambda s: label(s._activation.frame),
    "device": lambda s: short_device(s._activation.item.node.device),
    "node": lambda s: s._activation.name,
    "type": lambda s: s._activation.item.node.type,
    "row": NodeScope._row,
    "dead": NodeScope._dead,
    "x": NodeScope._first,
    "out": NodeScope._first,
    "outputs": NodeScope.outputs,
    "inputs": NodeScope.inputs,
    "alloc": NodeScope._allocated,
    "old": lambda s: s._changed(0),
    "new": lambda s: s._changed(1),
}


def resource_of(stepping: Stepping, name: str) -> Resource:
    """The session's variable (or other resource) of that name.  Raises AbsentError if there is none."""
    name = node_name(name)
    manager = stepping.step.resources
    found = manager.lookup(name) or manager.lookup(name, stepping.step.context.container)
    if found is None:
        found = next((each for each in manager if each.name == name), None)
    if found is None:
        raise AbsentError(f"there is no variable '{name}' in this session (yet)")
    return found
