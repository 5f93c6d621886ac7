"""A layered layout for boxes of one row, measured in terminal cells: where each box stands, and the way of each line.

Lines go down, from the bottom of a box to the top of another, along rows and columns only.  Lines may lie upon each other only if
they come from one box (a stem that forks) or lead to one box (a trunk that others join); all others only cross (`viz.routing`
says how that is made sure).  An edge that would close a cycle is
turned round for the layout: its line runs up, and `Route.back` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from viz.layering import Edge, backward_edges, layers_of, skeleton, split_wide
from viz.routing import BOX_GAP, Channel, Wire, columns, route

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """Something to place: `width` cells wide (at least 3), one row high."""

    key: str
    width: int


@dataclass(frozen=True, slots=True)
class Link:
    """An edge; lines of different `kind` are kept apart.  `weight` is how much it matters that it goes down."""

    source: str
    target: str
    kind: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box stands: its left column, its row, its width."""

    x: int
    y: int
    width: int


@dataclass(frozen=True, slots=True)
class Route:
    """The line of one edge: corner points from source to target, both on the rows of the boxes, consecutive ones in line.

    For a `back` edge the points go from the source's top up to the target's bottom.
    """

    source: str
    target: str
    kind: str
    back: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Places by key, routes, and the size of the whole in cells."""

    places: dict[str, Place]
    routes: tuple[Route, ...]
    width: int
    height: int


def layout(boxes: Sequence[Box], links: Iterable[Link], *, room: int = 120, least_rows: int = 1) -> Layout:
    """Place `boxes` and find a way for every link.

    room: the width in cells that one row of boxes should not exceed (lines may make the drawing wider).
    least_rows: the least number of rows between two rows of boxes.

    Links from a box to itself have no line and are left out.  Raises KeyError for a link to an unknown box, ValueError for two
    boxes of one key.
    """
    number = {box.key: position for position, box in enumerate(boxes)}
    if len(number) < len(boxes):
        raise ValueError("two boxes have the same key")
    edges: list[tuple[int, int]] = []
    kept: list[Link] = []
    for link in dict.fromkeys(links):
        source, target = number[link.source], number[link.target]
        if source != target:
            edges.append((source, target))
            kept.append(link)
    reverse = backward_edges(len(boxes), edges, [link.weight for link in kept])
    down = [
        (target, source) if index in reverse else (source, target)
        for index, (source, target) in enumerate(edges)
    ]
    # A line that runs up is a kind of its own, so that its arrow tells the direction of all of it.
    lines = [
        Edge(*ends, link.kind + "^" * (index in reverse))
        for index, (ends, link) in enumerate(zip(down, kept))
    ]
    # Every line that leaves a box has a cell of its own to leave from.
    leaving = Counter(source for source, _ in {(line.source, line.kind) for line in lines})
    widths = [max(3, box.width, leaving[position] + 2) for position, box in enumerate(boxes)]
    layer = split_wide(layers_of(len(boxes), down), [width + BOX_GAP for width in widths], room)
    frame = skeleton(len(boxes), layer, lines)
    left = columns(frame, widths, room)
    channels = route(frame, left, widths)
    rows = [0]
    for channel in channels:
        rows.append(rows[-1] + 1 + max(least_rows, channel.tracks))
    places = {
        box.key: Place(left[position], rows[layer[position]], widths[position])
        for position, box in enumerate(boxes)
    }
    routes = []
    for index, link in enumerate(kept):
        points = _way(frame.ways[index], layer[down[index][0]], rows, channels)
        back = index in reverse
        routes.append(Route(link.source, link.target, link.kind, back, points[::-1] if back else points))
    width = max((place.x + place.width for place in places.values()), default=0)
    width = max([width, *(x + 1 for each in routes for x, _ in each.points)])
    return Layout(places, tuple(routes), width, rows[max(layer)] + 1 if boxes else 0)


def _way(
    way: Sequence[tuple[int, int]], first: int, rows: Sequence[int], channels: Sequence[Channel]
) -> tuple[Point, ...]:
    """The corners of a line that takes these strands, from layer `first` down."""
    points: list[Point] = []
    for at, (strand, item) in enumerate(way, first):
        channel = channels[at]
        wire: Wire | None = channel.wires[strand]
        goal = channel.ports[strand, item]
        while wire is not None:
            column = wire.source
            after = goal if wire.next is None else wire.next.source
            points.append((column, rows[at] if not points or points[-1][0] != column else points[-1][1]))
            if after != column:
                y = rows[at] + 1 + wire.track
                points += [(column, y), (after, y)]
            wire = wire.next
        points.append((goal, rows[at + 1]))
    found: list[Point] = []
    for point in points:
        if found and found[-1] == point:
            continue
        if len(found) > 1 and _in_line(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return tuple(found)


def _in_line(first: Point, second: Point, third: Point) -> bool:
    return first[0] == second[0] == third[0] or first[1] == second[1] == third[1]
