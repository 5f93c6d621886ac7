"""The combinatorial half of a layered drawing: which edges to turn round, which layer a box is on, in what order.

The method is Sugiyama's (Sugiyama, Tagawa, Toda 1981), with the greedy cycle breaking of Eades, Lin and Smyth (1993) and
barycenter sweeps.  Boxes are numbered; all functions are pure and deterministic.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Pair = tuple[int, int]


def components(size: int, edges: Iterable[Pair]) -> list[int]:
    """The strongly connected component of each box, as a number (Tarjan's algorithm, without recursion)."""
    follow: list[list[int]] = [[] for _ in range(size)]
    for source, target in edges:
        follow[source].append(target)
    number = [-1] * size
    low = [0] * size
    found = [-1] * size
    stack: list[int] = []
    counter = groups = 0
    for root in range(size):
        if number[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            box, at = work.pop()
            if at == 0:
                number[box] = low[box] = counter
                counter += 1
                stack.append(box)
            for position in range(at, len(follow[box])):
                other = follow[box][position]
                if number[other] < 0:
                    work.append((box, position + 1))
                    work.append((other, 0))
                    break
                if found[other] < 0:
                    low[box] = min(low[box], low[other] if low[other] < number[other] else number[other])
            else:
                if low[box] == number[box]:
                    while True:
                        other = stack.pop()
                        found[other] = groups
                        if other == box:
                            break
                    groups += 1
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[box])
    return found


def backward_edges(size: int, edges: Sequence[Pair], weights: Sequence[int]) -> set[int]:
    """Indices of edges that, turned round, leave no cycle; few and light ones.

    Within each cycle's component two orders of the boxes are tried, the one in which they were given (the order in which a
    program made them, in which a loop's NextIteration comes last) and a greedy one; the edges that go backward in the lighter
    order are the result.
    """
    group = components(size, edges)
    inside: dict[int, list[int]] = {}
    for index, (source, target) in enumerate(edges):
        if source != target and group[source] == group[target]:
            inside.setdefault(group[source], []).append(index)
    found: set[int] = set()
    for indices in inside.values():
        given = {index for index in indices if edges[index][0] > edges[index][1]}
        rank = _greedy_order([edges[index] for index in indices], [weights[index] for index in indices])
        greedy = {index for index in indices if rank[edges[index][0]] > rank[edges[index][1]]}
        found |= min(given, greedy, key=lambda chosen: sum(weights[index] for index in chosen))
    return found


def _greedy_order(edges: list[Pair], weights: list[int]) -> dict[int, int]:
    boxes = sorted({box for edge in edges for box in edge})
    out: dict[int, dict[int, int]] = {box: {} for box in boxes}
    into: dict[int, dict[int, int]] = {box: {} for box in boxes}
    for (source, target), weight in zip(edges, weights):
        out[source][target] = out[source].get(target, 0) + weight
        into[target][source] = into[target].get(source, 0) + weight
    first: list[int] = []
    last: list[int] = []
    left = dict.fromkeys(boxes)

    def take(box: int) -> None:
        del left[box]
        for target in out[box]:
            into[target].pop(box, None)
        for source in into[box]:
            out[source].pop(box, None)

    while left:
        sink = next((box for box in left if not out[box]), None)
        if sink is not None:
            last.append(sink)
            take(sink)
            continue
        source = next((box for box in left if not into[box]), -1)
        if source < 0:
            source = max(left, key=lambda box: sum(out[box].values()) - sum(into[box].values()))
        first.append(source)
        take(source)
    return {box: rank for rank, box in enumerate([*first, *reversed(last)])}


def layers_of(size: int, edges: Sequence[Pair]) -> list[int]:
    """A layer for each box, every edge going down: as high as its inputs allow, then moved to where its edges are short.

    `edges` must have no cycle.
    """
    into: list[list[int]] = [[] for _ in range(size)]
    out: list[list[int]] = [[] for _ in range(size)]
    for source, target in edges:
        into[target].append(source)
        out[source].append(target)
    waiting = [len(sources) for sources in into]
    order = [box for box in range(size) if not waiting[box]]
    layer = [0] * size
    for box in order:
        for target in out[box]:
            layer[target] = max(layer[target], layer[box] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    # A box with more below it than above it (a variable, a constant) moves down to its readers.
    for _ in range(3):
        moved = False
        for box in reversed(order):
            if len(out[box]) > len(into[box]) or (out[box] and not into[box]):
                wanted = min(layer[target] for target in out[box]) - 1
                moved = moved or wanted != layer[box]
                layer[box] = wanted
        if not moved:
            break
    top = min(layer, default=0)
    return [at - top for at in layer]


def split_wide(layer: Sequence[int], widths: Sequence[int], room: int) -> list[int]:
    """Layers in which no layer's boxes are wider than `room` together: a wide one becomes several, one below the other.

    There are no edges within a layer, so any split keeps all edges going down.
    """
    members: dict[int, list[int]] = {}
    for box, at in enumerate(layer):
        members.setdefault(at, []).append(box)
    found = [0] * len(layer)
    row = -1
    for at in sorted(members):
        total = sum(widths[box] for box in members[at])
        share = total / max(1, -(-total // room))  # rows of about equal length
        used = 0
        row += 1
        for box in members[at]:
            if used and (used + widths[box] > room or used >= share):
                row += 1
                used = 0
            found[box] = row
            used += widths[box]
    return found


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that goes down, from a box to a box on a lower layer; lines of different `kind` are kept apart."""

    source: int
    target: int
    kind: str


@dataclass
class Strand:
    """What leaves one item into the channel below it: a line that forks to `below`, items of the next layer."""

    above: int
    kind: str
    below: list[int] = field(default_factory=list)


@dataclass
class Skeleton:
    """Boxes and lanes on layers, in order.

    Items below `size` are boxes, the others lanes: they carry lines through a layer, either all lines of one box on their way to
    deeper ones (a stem), or all lines to one box on their way from higher ones (a trunk).  `channels[i]` are the strands from
    layer i to layer i + 1; `ways[e]` says for edge e which strand and which item below it takes in each channel, from the
    source's layer on.
    """

    size: int
    layers: list[list[int]]
    channels: list[list[Strand]]
    ways: list[list[tuple[int, int]]]


Owner = tuple[bool, int, str]  # whether a trunk, the box, the kind


def _owners(edges: Sequence[Edge], layer: Sequence[int]) -> dict[int, Owner]:
    """For each edge that is longer than one layer, whose lane it takes: its source's or its target's.

    The fewest lanes are a least vertex cover of the long edges; the greedy one takes the box with the most edges yet uncovered.
    """
    left: dict[Owner, set[int]] = {}
    for index, edge in enumerate(edges):
        if layer[edge.target] - layer[edge.source] > 1:
            left.setdefault((False, edge.source, edge.kind), set()).add(index)
            left.setdefault((True, edge.target, edge.kind), set()).add(index)
    found: dict[int, Owner] = {}
    while left:
        owner = max(left, key=lambda each: (len(left[each]), each[0], -each[1]))
        chosen = left.pop(owner)
        for index in chosen:
            found[index] = owner
            edge = edges[index]
            other = (False, edge.source, edge.kind) if owner[0] else (True, edge.target, edge.kind)
            left[other].discard(index)
            if not left[other]:
                del left[other]
    return found


def skeleton(size: int, layer: Sequence[int], edges: Sequence[Edge], sweeps: int = 12) -> Skeleton:
    """Put boxes and lanes in an order with few crossings."""
    depth = max(layer, default=-1) + 1
    layers: list[list[int]] = [[] for _ in range(depth)]
    for box, at in enumerate(layer):
        layers[at].append(box)
    channels: list[list[Strand]] = [[] for _ in range(max(0, depth - 1))]
    lanes: dict[tuple[Owner, int], int] = {}
    strands: dict[tuple[int, str], int] = {}
    owners = _owners(edges, layer)
    ways = []
    for index, edge in enumerate(edges):
        way = []
        above = edge.source
        for at in range(layer[edge.source], layer[edge.target]):
            if at + 1 == layer[edge.target]:
                below = edge.target
            else:
                lane = owners[index], at + 1
                if lane not in lanes:
                    lanes[lane] = size + len(lanes)
                    layers[at + 1].append(lanes[lane])
                below = lanes[lane]
            key = above, edge.kind
            if key not in strands:
                strands[key] = len(channels[at])
                channels[at].append(Strand(above, edge.kind))
            strand = strands[key]
            if below not in channels[at][strand].below:
                channels[at][strand].below.append(below)
            way.append((strand, below))
            above = below
        ways.append(way)
    _order(layers, channels, sweeps)
    return Skeleton(size, layers, channels, ways)


def crossings(layers: Sequence[Sequence[int]], channels: Sequence[Sequence[Strand]]) -> int:
    """How many pairs of edges between neighbouring layers cross."""
    total = 0
    for at, channel in enumerate(channels):
        above = {item: position for position, item in enumerate(layers[at])}
        below = {item: position for position, item in enumerate(layers[at + 1])}
        pairs = sorted((above[strand.above], below[item]) for strand in channel for item in strand.below)
        seen: list[int] = []
        for _, position in pairs:
            total += len(seen) - bisect_left(seen, position + 1)
            insort(seen, position)
    return total


def neighbours(channels: Sequence[Sequence[Strand]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """For each item, the items above it that lead to it, and the items below it to which it leads."""
    up: dict[int, list[int]] = {}
    down: dict[int, list[int]] = {}
    for channel in channels:
        for strand in channel:
            for item in strand.below:
                down.setdefault(strand.above, []).append(item)
                up.setdefault(item, []).append(strand.above)
    return up, down


def _order(layers: list[list[int]], channels: Sequence[Sequence[Strand]], sweeps: int) -> None:
    up, down = neighbours(channels)
    # A first order: each box next to what it was reached from.
    place: dict[int, float] = {}
    for items in layers:
        start = {item: (position + 0.5) / len(items) for position, item in enumerate(items)}
        items.sort(key=lambda item: _mean(place, up.get(item, ()), start[item]))
        place.update((item, (position + 0.5) / len(items)) for position, item in enumerate(items))
    best = [list(items) for items in layers]
    fewest = crossings(layers, channels)
    for sweep in range(sweeps):
        if not fewest:
            break
        downward = sweep % 2 == 0
        near = up if downward else down
        for at in range(1, len(layers)) if downward else range(len(layers) - 2, -1, -1):
            fixed = {item: float(i) for i, item in enumerate(layers[at - 1 if downward else at + 1])}
            items = layers[at]
            wanted = {item: _mean(fixed, near.get(item, ()), -1.0) for item in items}
            # What has no neighbour on that side stays where it is.
            free = iter(sorted((item for item in items if wanted[item] >= 0), key=wanted.__getitem__))
            layers[at] = [item if wanted[item] < 0 else next(free) for item in items]
        count = crossings(layers, channels)
        if count < fewest:
            fewest, best = count, [list(items) for items in layers]
    for at, items in enumerate(best):
        layers[at] = items


def _mean(place: dict[int, float], items: Sequence[int], otherwise: float) -> float:
    known = [place[item] for item in items if item in place]
    return sum(known) / len(known) if known else otherwise
