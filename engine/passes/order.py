"""Orders in which the nodes of a stage can run."""

from __future__ import annotations

from collections.abc import Mapping

from engine.passes.stage import StageNode


def topological(nodes: Mapping[str, StageNode]) -> list[str]:
    """All names, each after what it reads and waits for; the back edges of loops (from a NextIteration) do not count.

    Among the nodes that could come next, the one that stands first in `nodes` does; what is on a cycle that no NextIteration
    closes comes last, as it stands.
    """
    found: dict[str, None] = {}
    for root in nodes:
        stack = [(root, False)]
        under_way: set[str] = set()
        while stack:
            name, done = stack.pop()
            if done:
                found[name] = None
                continue
            if name in found or name in under_way:
                continue
            under_way.add(name)
            stack.append((name, True))
            node = nodes[name]
            sources = (*(source for source, _ in node.inputs), *node.control_inputs)
            stack.extend(
                (source, False)
                for source in reversed(sources)
                if source not in found and nodes[source].opdef.flow != "next_iteration"
            )
    return list(found)
