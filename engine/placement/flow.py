"""What placement reads off a stage's structure: an order that respects edges, and the loops that each node is in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from engine.passes.stage import Stage, StageNode


@dataclass(frozen=True, slots=True)
class Flow:
    """`order` has every node after what it reads or waits for, but for the edges from a NextIteration back to its Merge.

    `frames[name]` are the names of the loops around the node, outermost first; an Enter is outside of the loop that it leads
    into, an Exit inside of the one that it leaves.  `stuck` are nodes on cycles that no NextIteration closes: they come last.
    """

    order: tuple[str, ...]
    frames: dict[str, tuple[str, ...]]
    stuck: tuple[str, ...]


def inputs_of(node: StageNode) -> tuple[str, ...]:
    """The names of the nodes that `node` reads or waits for, each once."""
    return tuple(dict.fromkeys((*(name for name, _ in node.inputs), *node.control_inputs)))


def flow_of(stage: Stage) -> Flow:
    """The order and the frames of `stage`."""
    nodes, consumers = stage.nodes, stage.consumers
    waiting: dict[str, int] = {}
    for name, node in nodes.items():
        sources = inputs_of(node)
        count = len(sources)
        if node.opdef.flow == "merge":
            count -= sum(nodes[source].opdef.flow == "next_iteration" for source in sources)
        waiting[name] = count
    queue = deque(name for name, count in waiting.items() if count == 0)
    order: list[str] = []
    frames: dict[str, tuple[str, ...]] = {}
    while queue:
        name = queue.popleft()
        node = nodes[name]
        order.append(name)
        frames[name] = _frame(node, nodes, frames)
        back = node.opdef.flow == "next_iteration"
        for consumer in consumers[name]:
            if back and nodes[consumer].opdef.flow == "merge":
                continue
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                queue.append(consumer)
    stuck = tuple(name for name in nodes if name not in frames)
    frames.update(dict.fromkeys(stuck, ()))
    return Flow((*order, *stuck), frames, stuck)


def _frame(
    node: StageNode, nodes: Mapping[str, StageNode], frames: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The loops around a node: those of anything that it reads and that has been seen."""
    for source in inputs_of(node):
        found = frames.get(source)
        if found is not None:
            producer = nodes[source]
            if producer.opdef.flow == "enter":
                return (*found, producer.attrs["frame_name"])
            return found[:-1] if producer.opdef.flow == "exit" else found
    return ()
