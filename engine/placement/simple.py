"""The simple placement: TensorFlow's placer.

Each node goes to the most preferred device that its group may be on, but for two rules which save transfers: a node that reads
only the shape of its input goes where that is, and a node without inputs goes to those that read it, if they are in one place
(`placer.cc`: heuristics A and B).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engine.passes.stage import Stage, StageNode
from engine.placement.constraints import Constraints, Group
from engine.placement.flow import Flow

_METADATA = frozenset(("Shape", "Size", "Rank"))


def is_generator(node: StageNode) -> bool:
    """Whether the node makes one value out of nothing."""
    return not node.inputs and len(node.output_dtypes) == 1 and not node.output_dtypes[0]._is_ref_dtype


def place_simply(
    stage: Stage,
    constraints: Constraints,
    flow: Flow,
    *,
    first: str = "",
    placed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, str], dict[str, str]]:
    """(device, reason) of every node, each by name.

    The device `first` is preferred to all others; nodes in `placed` have their devices already.
    """
    device = dict(placed)
    chosen = {constraints.group[name]: where for name, where in placed.items()}
    reasons: dict[str, str] = {}

    def assign(node: StageNode, beside: str, why: str) -> None:
        """Put `node` on `beside` if it may be there, for the reason `why`; else on the preferred device."""
        group = constraints.group[node.name]
        settled = chosen.get(group)
        if settled is not None:
            reasons[node.name] = f"it must be on one device with {_others(group, node.name)}"
        elif beside in group.possible:
            settled, reasons[node.name] = beside, why
        elif first in group.possible:
            settled, reasons[node.name] = first, "all that may be there is"
        else:
            settled, reasons[node.name] = group.possible[0], _preferred(group)
        device[node.name] = chosen[group] = settled

    nodes = [stage.nodes[name] for name in flow.order if name not in placed]
    for node in nodes:
        if not is_generator(node):
            beside = device.get(node.inputs[0][0], "") if node.type in _METADATA else ""
            assign(node, beside, "it reads a shape only, so it goes where that tensor is")
    for node in nodes:
        if is_generator(node):
            there = {device.get(consumer, "") for consumer in stage.consumers[node.name]}
            assign(node, there.pop() if len(there) == 1 else "", "all that read it are there")
    return device, reasons


def _others(group: Group, name: str) -> str:
    other = group.members[1] if group.members[0] == name else group.members[0]
    more = len(group.members) - 2
    return f"'{other}'" + (f" and {more} more" if more else "")


def _preferred(group: Group) -> str:
    if len(group.possible) == 1:
        return "it is the only device that this node may be on"
    return "it is the first of the devices that this node may be on"
