"""The geometric half of a layered drawing: columns for boxes, ports and lanes, and rows for the horizontal pieces of lines.

Between two layers lies a channel.  Each strand that crosses it comes down from one port above, runs along a row of its own (its
track) and goes down to its ports below.  The rules that keep strands from ever lying upon each other:

- no two ports on one side of a channel share a column, except where strands join on purpose (at a trunk; control edges; at a box
  with more inputs than cells),
- strands on one track are apart by at least a cell, or lead to one column,
- where a strand comes down on the column on which another goes down, the first one's track is above the other's; where that
  asks for a circle, a strand changes column half-way, over a column that nobody uses.

So lines that have neither end in common only ever cross, at right angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from viz.layering import Skeleton, Strand, neighbours

BOX_GAP = 2
LANE_GAP = 1


def columns(skeleton: Skeleton, widths: Sequence[int], room: int, passes: int = 8) -> dict[int, int]:
    """The left column of each item: order kept, gaps kept, near to what it is connected to, within `room` columns if possible.

    Each pass moves a layer's items toward the mean of their neighbours, all at once and optimally in the sense of least
    squares (pooling of adjacent violators), first downward, then upward.  A drawing that comes out too wide is drawn together:
    passes in which everything is also pulled to the middle, more and more.
    """
    size = skeleton.size
    width = {item: widths[item] if item < size else 1 for items in skeleton.layers for item in items}
    up, down = neighbours(skeleton.channels)
    left: dict[int, float] = {}
    for items in skeleton.layers:
        at = -sum(width[item] + BOX_GAP for item in items) / 2
        for item in items:
            left[item] = at
            at += width[item] + BOX_GAP
    found: dict[int, int] = {}
    narrowest = -1
    for pull in (0.0, 0.15, 0.35, 0.6):
        for turn in range(passes if not pull else 4):
            for items in skeleton.layers if turn % 2 == 0 else reversed(skeleton.layers):
                near = up if turn % 2 == 0 else down
                wishes = [_wish(item, near.get(item, ()), left, width, size, pull) for item in items]
                left.update(zip(items, _settle(items, wishes, width, size)))
        final = _whole(skeleton, left, width)
        total = max((final[item] + width[item] for item in final), default=0)
        if narrowest < 0 or total < narrowest:
            narrowest, found = total, final
        if narrowest <= room:
            break
    return found


def _wish(
    item: int,
    near: Sequence[int],
    left: Mapping[int, float],
    width: Mapping[int, int],
    size: int,
    pull: float,
) -> tuple[float, float]:
    """Where an item would like its left column to be, and how much that matters: long lines should be straight above all."""
    half = width[item] // 2
    if not near:
        return left[item] * (1 - pull) - half * pull, 0.2
    middle = sum(left[other] + width[other] // 2 for other in near) / len(near)
    if item < size:
        middle *= 1 - pull  # lanes follow: pulled themselves, they would bend
    lanes = any(other >= size for other in near)
    weight = (8.0 if lanes else 2.0) if item >= size else (0.5 if lanes else 1.0)
    return middle - half, weight


def _whole(skeleton: Skeleton, left: Mapping[int, float], width: Mapping[int, int]) -> dict[int, int]:
    """Whole columns from 0 on; rounding keeps the order of a layer, but what it takes from a gap is given back."""
    final = {item: round(at) for item, at in left.items()}
    for items in skeleton.layers:
        for before, item in pairwise(items):
            final[item] = max(final[item], final[before] + width[before] + _gap(before, item, skeleton.size))
    least = min(final.values(), default=0)
    return {item: at - least for item, at in final.items()}


def _gap(before: int, after: int, size: int) -> int:
    return BOX_GAP if before < size and after < size else LANE_GAP


def _settle(
    items: Sequence[int], wishes: Sequence[tuple[float, float]], width: Mapping[int, int], size: int
) -> list[float]:
    """Left columns nearest to the wishes (weighted least squares) that keep the order and the gaps."""
    offsets = [0]
    for before, item in pairwise(items):
        offsets.append(offsets[-1] + width[before] + _gap(before, item, size))
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for (goal, heavy), offset in zip(wishes, offsets):
        mean, total, count = goal - offset, heavy, 1
        while blocks and blocks[-1][0] > mean:
            other, more, many = blocks.pop()
            mean = (mean * total + other * more) / (total + more)
            total += more
            count += many
        blocks.append((mean, total, count))
    flat = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets)]


@dataclass
class Wire:
    """A strand in its channel: the column it comes from, the columns it goes to, and its track."""

    source: int
    targets: list[int]
    track: int = -1
    next: Wire | None = None  # its other half, where it changes column

    @property
    def is_straight(self) -> bool:
        return self.next is None and self.targets == [self.source]

    @property
    def span(self) -> tuple[int, int]:
        return min(self.source, *self.targets), max(self.source, *self.targets)


@dataclass
class Channel:
    """The wires between two layers, in the order of the strands; `tracks` is the number of rows they need.

    `ports` are the columns on which strands reach the items below, by (strand, item).
    """

    wires: list[Wire] = field(default_factory=list)
    ports: dict[tuple[int, int], int] = field(default_factory=dict)
    tracks: int = 0


def route(
    skeleton: Skeleton, left: Mapping[int, int], widths: Sequence[int], joined: str = "control"
) -> list[Channel]:
    """Ports and tracks for every channel; strands of kind `joined` meet before they reach a box."""
    found = []
    for strands in skeleton.channels:
        out = _out_ports(strands, left, widths)
        ports = _in_ports(strands, out, left, widths, joined)
        wires = [
            Wire(out[number], sorted({ports[number, item] for item in strand.below}))
            for number, strand in enumerate(strands)
        ]
        found.append(Channel(wires, ports, _assign_tracks(wires)))
    return found


def _reach(item: int, left: Mapping[int, int], widths: Sequence[int]) -> tuple[int, int]:
    """The columns on which lines may meet an item, first and last."""
    if item >= len(widths):
        return left[item], left[item]
    margin = 1 if widths[item] > 2 else 0
    return left[item] + margin, left[item] + widths[item] - 1 - margin


def _out_ports(strands: Sequence[Strand], left: Mapping[int, int], widths: Sequence[int]) -> list[int]:
    by_item: dict[int, list[tuple[float, int]]] = {}
    for number, strand in enumerate(strands):
        low, high = _reach(strand.above, left, widths)
        middle = (low + high + 1) // 2
        wanted = float(middle)
        if len(strand.below) == 1:
            first, last = _reach(strand.below[0], left, widths)
            if first <= high and last >= low:  # a straight line is possible
                wanted = min(max(middle, first), last)
        by_item.setdefault(strand.above, []).append((wanted, number))
    found = [0] * len(strands)
    for item, wishes in by_item.items():
        low, high = _reach(item, left, widths)
        wishes.sort()
        for (_, number), column in zip(wishes, _apart([at for at, _ in wishes], low, high)):
            found[number] = column
    return found


def _in_ports(
    strands: Sequence[Strand],
    out: Sequence[int],
    left: Mapping[int, int],
    widths: Sequence[int],
    joined: str,
) -> dict[tuple[int, int], int]:
    """The columns on which strands reach the items below; those of kind `joined` share one at each item."""
    by_item: dict[int, dict[tuple[str, int], list[int]]] = {}
    for number, strand in enumerate(strands):
        for item in strand.below:
            port = (joined, 0) if strand.kind == joined else (strand.kind, number)
            by_item.setdefault(item, {}).setdefault(port, []).append(number)
    found: dict[tuple[int, int], int] = {}
    for item, ports in by_item.items():
        low, high = _reach(item, left, widths)
        middle = (low + high + 1) // 2
        wishes = []
        for port, numbers in ports.items():
            columns = [out[number] for number in numbers]
            mean = sum(columns) / len(columns)
            if len(ports) == 1 and not low <= mean <= high:
                mean = middle
            wishes.append((min(max(mean, low), high), mean, port))
        wishes.sort()
        for (_, _, port), column in zip(wishes, _apart([wish for wish, _, _ in wishes], low, high)):
            found.update(((number, item), column) for number in ports[port])
    return found


def _apart(wishes: Sequence[float], low: int, high: int) -> list[int]:
    """Columns from `low` to `high`, in order, near the wishes, two apart if there is room, else one, else shared."""
    room = high - low + 1
    step = 2 if len(wishes) * 2 - 1 <= room else 1
    if len(wishes) > room:
        return [low + position * room // len(wishes) for position in range(len(wishes))]
    found: list[int] = []
    for position, wish in enumerate(wishes):
        at = round(wish)
        if found:
            at = max(at, found[-1] + step)
        found.append(min(at, high - (len(wishes) - 1 - position) * step))
    # Pushed against the right edge, earlier ones may have come too near: push them back.
    for position in range(len(found) - 2, -1, -1):
        found[position] = min(found[position], found[position + 1] - step)
    return found


def _assign_tracks(wires: list[Wire]) -> int:
    """Set each wire's track; return how many tracks there are."""
    used = {column for wire in wires for column in (wire.source, *wire.targets)}
    order = _in_order([wire for wire in wires if not wire.is_straight], used)
    goals = {target for wire in order for target in wire.targets}
    above: dict[int, list[Wire]] = {}
    for wire in order:
        if wire.source in goals:
            above.setdefault(wire.source, []).append(wire)
    tracks: list[list[Wire]] = []
    for wire in order:
        first = 0
        for target in wire.targets:
            for other in above.get(target, ()):
                if other is not wire and other.track >= 0:
                    first = max(first, other.track + 1)
        for other in order:
            if other.next is wire:
                first = max(first, other.track + 1)
        fits = [
            at for at in range(first, len(tracks)) if all(_may_share(wire, other) for other in tracks[at])
        ]
        # Wires that end on one column are best on one track: a bus.
        bus = next((at for at in fits if any(other.targets == wire.targets for other in tracks[at])), None)
        wire.track = bus if bus is not None else fits[0] if fits else max(first, len(tracks))
        while wire.track >= len(tracks):
            tracks.append([])
        tracks[wire.track].append(wire)
    return len(tracks)


def _may_share(wire: Wire, other: Wire) -> bool:
    """Whether two wires may be on one track: apart by a cell, or both on their way to one and the same column."""
    (low, high), (start, end) = wire.span, other.span
    if low > end + 1 or start > high + 1:
        return True
    return (
        len(wire.targets) == 1 and wire.targets == other.targets and wire.next is None and other.next is None
    )


def _in_order(work: list[Wire], used: set[int]) -> list[Wire]:
    """Wires so that one whose source column is another's target column comes before it.

    A circle is broken by giving a wire a second half: the first goes over to a free column, the second on from there.
    """
    found: list[Wire] = []
    left = sorted(work, key=_preference)
    while left:
        sources = {wire.source: wire for wire in left}
        chosen = next(
            (wire for wire in left if all(sources.get(target, wire) is wire for target in wire.targets)),
            None,
        )
        if chosen is not None:
            found.append(chosen)
            left.remove(chosen)
            continue
        broken = left.pop(0)
        free = broken.source + 1
        while free in used:
            free += 1
        used.add(free)
        broken.next = Wire(free, broken.targets)
        broken.targets = [free]  # on which nobody else comes down
        found.append(broken)
        left.append(broken.next)
    return found


def _preference(wire: Wire) -> tuple[int, int]:
    """Who should be higher of the wires that may come next: the rightmost of those going right, the leftmost of the others."""
    middle = sum(wire.targets) / len(wire.targets)
    return (0, -wire.source) if middle >= wire.source else (1, wire.source)
