"""How much memory a graph needs at once, estimated from static shapes: what is alive when, if nodes run first come, first served.

A tensor takes its bytes from when its node runs until its last reader has.  Ops that hand on what they get (Identity, Reshape,
Switch, …) share it.  Constants and variables are there all the time; fed values are the caller's and are not counted, nor is what
kernels need to work in.  An unknown dimension counts as 1, a loop's body once.  So this is an estimate for comparing, not a
promise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from engine.passes.rewrite import Edge
from engine.passes.stage import StageNode

_HANDS_ON = frozenset({
    "Identity", "IdentityN", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims", "Switch", "Merge",
    "Enter", "Exit", "NextIteration", "RefSwitch", "RefIdentity", "Bitcast", "CheckNumerics", "LoopCond",
})  # fmt: skip
_RESIDENT = frozenset({"Const", "Variable", "VariableV2"})
_STAYS = _RESIDENT | {"_Arg", "Placeholder", "PlaceholderV2"}


@dataclass(frozen=True, slots=True)
class Item:
    """A node, as far as memory goes: what it reads and waits for, and the bytes of its outputs (0: not its own).

    `hands_on`: its outputs are its first input.  `resident`: the bytes of a constant or variable.
    """

    inputs: tuple[Edge, ...]
    waits: tuple[str, ...]
    nbytes: tuple[int, ...]
    flow: str = ""
    device: str = ""
    hands_on: bool = False
    resident: int = 0


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment at which most is alive: how many bytes, while which node runs, and what: largest first."""

    nbytes: int
    at: str
    alive: tuple[tuple[Edge, int], ...]


def item(node: StageNode, nodes: Mapping[str, StageNode]) -> Item:
    """`node` as the model sees it."""
    # What is handed on to another device is copied there.
    hands_on = node.type in _HANDS_ON and bool(node.inputs) and nodes[node.inputs[0][0]].device == node.device
    nbytes = tuple(
        tensor_bytes(shape.dims_or_none, dtype.size)
        for dtype, shape in zip(node.output_dtypes, node.output_shapes, strict=True)
    )
    resident = sum(nbytes) if node.type in _RESIDENT else 0
    if node.type in _STAYS or hands_on:
        nbytes = (0,) * len(nbytes)
    else:  # a reference's buffer is the variable's
        nbytes = tuple(
            0 if d._is_ref_dtype else size for d, size in zip(node.output_dtypes, nbytes, strict=True)
        )
    return Item(node.inputs, node.control_inputs, nbytes, node.opdef.flow, node.device, hands_on, resident)


def tensor_bytes(dims: Iterable[int | None] | None, size: int) -> int:
    """The bytes of a tensor of this static shape and element size."""
    return 0 if dims is None else size * prod(1 if each is None else each for each in dims)


class Model:
    """A graph of items; `changed` gives another with some of them replaced or added."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self.items = items

    @classmethod
    def of(cls, nodes: Mapping[str, StageNode]) -> Model:
        return cls({name: item(node, nodes) for name, node in nodes.items()})

    def changed(self, items: Mapping[str, Item]) -> Model:
        return Model({**self.items, **items})

    @cached_property
    def order(self) -> list[str]:
        """The names in the order in which one thread runs them: what became ready first, first."""
        users: dict[str, list[str]] = {name: [] for name in self.items}
        waiting: dict[str, int] = {}
        for name, each in self.items.items():
            inputs = [source for source, _ in each.inputs if self.items[source].flow != "next_iteration"]
            waiting[name] = min(1, len(inputs)) if each.flow == "merge" else len(inputs)
            waiting[name] += len(each.waits)
            for source in (*inputs, *each.waits):
                users[source].append(name)
        queue = deque(name for name, count in waiting.items() if count == 0)
        found: list[str] = []
        while queue:
            name = queue.popleft()
            found.append(name)
            for user in users[name]:
                waiting[user] -= 1
                if waiting[user] == 0:
                    queue.append(user)
        return found

    def lifetimes(self, order: list[str]) -> dict[Edge, tuple[int, int]]:
        """When each tensor with bytes of its own is alive: from the position of its node to that of its last reader."""
        position = {name: i for i, name in enumerate(order)}
        owner: dict[Edge, Edge] = {}
        found: dict[Edge, tuple[int, int]] = {}
        for i, name in enumerate(order):
            each = self.items[name]
            for edge in each.inputs:
                owned = owner.get(edge)
                if owned is not None:
                    found[owned] = (found[owned][0], i)
            for slot, nbytes in enumerate(each.nbytes):
                if nbytes:
                    owner[name, slot] = (name, slot)
                    found[name, slot] = (position[name], i)
                elif each.hands_on and each.inputs:
                    source = owner.get(each.inputs[0])
                    if source is not None:
                        owner[name, slot] = source
        return found

    def peak(self, device: str | None = None) -> Peak:
        """The most that is alive at once; on one device only, if it is named."""
        order = self.order
        lifetimes = self.lifetimes(order)
        if device is not None:
            lifetimes = {
                edge: span for edge, span in lifetimes.items() if self.items[edge[0]].device == device
            }
        change = [0] * (len(order) + 1)
        for (name, slot), (start, end) in lifetimes.items():
            nbytes = self.items[name].nbytes[slot]
            change[start] += nbytes
            change[end + 1] -= nbytes
        resident = sum(each.resident for each in self.items.values() if device in (None, each.device))
        best, at, now = resident, 0, resident
        for i, delta in enumerate(change):
            now += delta
            if now > best:
                best, at = now, i
        alive = [
            ((name, slot), self.items[name].nbytes[slot])
            for (name, slot), (start, end) in lifetimes.items()
            if start <= at <= end
        ]
        alive.sort(key=lambda pair: -pair[1])
        return Peak(best, order[at] if order else "", tuple(alive))
