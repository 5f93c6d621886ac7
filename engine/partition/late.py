"""When receives start: as late as their readers allow, so that tensors do not lie about on the device that needs them later.

White paper, section 5.2: as-soon-as-possible and as-late-as-possible times of every node, of the kind known from operations
research, say when a tensor can arrive and when it is needed at the latest.  A receive that could run well before gets a control
edge from a node that runs shortly before that moment.  The edge goes through a ControlTrigger, which is never dead: holding a
receive back must not kill it.  (TensorFlow: `AddControlEdges` in graph_partition.cc.)

All edges added lead from a node to a receive with a later latest start, as every edge of the graph does, across devices too: so
they close no cycle.  What follows an Exit counts as following all of the loop, wherever it is: a dead Exit is passed on when its
frame has ended, and an iteration may have to wait until one before it has ended, on each device.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from engine.partition.control_loops import Path
from engine.partition.options import Costs
from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode

# What may stand before a receive: a node whose control edges arrive where it runs itself.
_MAY_PRECEDE = {"", "switch", "merge", "loop_cond"}
_NODE_NS = 1_000.0
_TRANSFER_NS = 2_000.0


class Times(NamedTuple):
    """Of each node: when it could start at the earliest, and must at the latest for the step to end as early as it can."""

    earliest: dict[str, float]
    latest: dict[str, float]
    takes: dict[str, float]


def delay_receives(
    draft: Draft, frames: Mapping[str, Path], routes: Mapping[str, str], large: int, costs: Costs | None
) -> None:
    """Hold back receives that would run long before they are needed, of tensors of `large` bytes or more (or of unknown size)."""
    sizes = {
        recv: nbytes(draft.nodes[recv]) for recv in routes.values()
    }  # None: not known, and taken for large
    wanted = [
        recv
        for send, recv in routes.items()
        if (sizes[recv] or large) >= large and "_control_" not in recv.rpartition("/")[2]
    ]
    if not wanted:
        return
    times = schedule(draft.nodes, frames, routes, costs, draft.stage.nodes)
    neighbours = _timetables(draft, frames, times)
    triggers: dict[str, str] = {}
    for recv in wanted:
        needed = times.latest[recv]
        starts, names = neighbours.get((draft.nodes[recv].device, frames[recv]), ([], []))
        # What has ended when the receive has to start at the latest, but starts after the receive could.
        index = bisect.bisect_right(starts, needed) - 1
        while index >= 0 and times.latest[names[index]] + times.takes[names[index]] > needed:
            index -= 1
        if index < 0 or times.latest[names[index]] <= times.earliest[recv]:
            continue
        before = names[index]
        trigger = triggers.get(before)
        if trigger is None:
            node = draft.nodes[before]
            trigger = triggers[before] = draft.add(
                "ControlTrigger",
                [],
                {},
                like=node,
                name=f"{before}/_then",
                sources=(before,),
                reason="lets receives begin that are needed after this",
                control_inputs=(before,),
                output_shapes=[],
            )
        node = draft.nodes[recv]
        draft.replace(
            recv,
            control_inputs=(*node.control_inputs, trigger),
            reason=f"held back until '{before}' has run, shortly before it is needed",
        )


def schedule(
    nodes: Mapping[str, StageNode],
    frames: Mapping[str, Path],
    routes: Mapping[str, str],
    costs: Costs | None = None,
    before: Mapping[str, StageNode] = MappingProxyType({}),
) -> Times:
    """Times of all nodes, as if each loop ran once; a `_Recv` takes as long as its transfer.

    `costs` know the nodes as they were `before`; what partitioning has added takes a moment.
    """
    order, successors = _ordered(nodes, frames, routes)
    sender = {recv: send for send, recv in routes.items()}
    takes = dict.fromkeys(order, 0.0)
    for name, node in nodes.items():
        send = nodes.get(sender.get(name, ""))
        if send is not None:
            takes[name] = _transfer(node, send, costs)
        elif costs is not None and name in before:
            takes[name] = max(1.0, costs.compute_ns(before[name], node.device))
        else:
            takes[name] = _NODE_NS
    earliest: dict[str, float] = dict.fromkeys(order, 0.0)
    for name in order:
        ends = earliest[name] + takes[name]
        for after in successors[name]:
            earliest[after] = max(earliest[after], ends)
    makespan = max((earliest[name] + takes[name] for name in order), default=0.0)
    latest: dict[str, float] = {}
    for name in reversed(order):
        ends = min((latest[after] for after in successors[name]), default=makespan)
        latest[name] = ends - takes[name]
    return Times(earliest, latest, takes)


def nbytes(node: StageNode) -> int | None:
    """The size of a node's first output; None if its shape is not known."""
    count = node.output_shapes[0].num_elements()
    return None if count is None else count * node.output_dtypes[0].size


def _transfer(recv: StageNode, send: StageNode, costs: Costs | None) -> float:
    if costs is None:
        return _TRANSFER_NS
    return max(1.0, costs.transfer_ns(nbytes(recv) or 0, send.device, recv.device))


def _ordered(
    nodes: Mapping[str, StageNode], frames: Mapping[str, Path], routes: Mapping[str, str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Nodes after what they need, across devices; and what needs each.  Loops are cut where they lead back.

    Among the names are those of the ends of loops: all of the loop comes before its end, and after it what its Exits lead to.
    """
    edges = list(routes.items())
    for name, node in nodes.items():
        path = frames[name]
        for source in dict.fromkeys([*(name for name, _ in node.inputs), *node.control_inputs]):
            flow = nodes[source].opdef.flow
            if flow == "exit":
                edges.append((_end(frames[source]), name))
            elif not (flow == "next_iteration" and node.opdef.flow == "merge"):
                edges.append((source, name))
        into = (*path, node.attrs["frame_name"]) if node.opdef.flow == "enter" else path
        edges += [(name, _end(into[:depth])) for depth in range(1, len(into) + 1)]
    successors: dict[str, list[str]] = {name: [] for edge in edges for name in edge}
    successors.update((name, []) for name in nodes)
    waiting = dict.fromkeys(successors, 0)
    for source, name in edges:
        successors[source].append(name)
        waiting[name] += 1
    queue = deque(name for name, count in waiting.items() if count == 0)
    order = []
    while queue:
        name = queue.popleft()
        order.append(name)
        for after in successors[name]:
            waiting[after] -= 1
            if waiting[after] == 0:
                queue.append(after)
    return order, successors


def _end(path: Path) -> str:
    return f"the end of {' > '.join(path)}"


def _timetables(
    draft: Draft, frames: Mapping[str, Path], times: Times
) -> dict[tuple[str, Path], tuple[list[float], list[str]]]:
    """For each device and frame: latest starts, in order, and whose they are, of the nodes that receives can be held back by."""
    found: dict[tuple[str, Path], list[tuple[float, str]]] = {}
    for name, node in draft.nodes.items():
        # What has an input runs at a time of its own; a node that waits for nothing says little about the step's progress.
        if node.opdef.flow in _MAY_PRECEDE and node.inputs and name in times.latest:
            found.setdefault((node.device, frames[name]), []).append((times.latest[name], name))
    return {
        place: ([start for start, _ in sorted(rows)], [name for _, name in sorted(rows)])
        for place, rows in found.items()
    }
