"""The innermost part of a convolution: tiles of sums in registers, and the two ways in which their lanes are used.

`ChannelLanes`: a register holds output channels of one pixel; each number of the window, in all lanes, is multiplied with a
vector of filters.  `TapLanes`, where output channels are few: a register holds partial sums of one output, each of every
lanes-th number of a window's rows; they are added up at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.native.conv_geometry import Pair
from engine.native.emitter import Element, Function, Machine, Value

# What sums begin with in the first strip, and in later ones.
Begin = tuple[Callable[[], list[str]], Callable[[], list[str]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all convolutions of a kernel have in common.

    channels: results a pixel; lanes: of a vector; taps_in_lanes: which of the two ways; groups: into which the rows of an image
    fall; `source_*`: bytes from a window to the next pixel's, row's, and to its own next row; `target_*`: the same of results;
    weight_tap: to the filters of the next number in a window.
    """

    element: Element
    machine: Machine
    channels: int
    lanes: int
    taps_in_lanes: bool
    groups: int
    relu: bool
    source_pixel: int
    source_row: int
    source_tap_row: int
    target_pixel: int
    target_row: int
    weight_tap: int

    @property
    def step(self) -> int:
        """Output channels in a register."""
        return 1 if self.taps_in_lanes else self.lanes

    @property
    def registers(self) -> int:
        """For all output channels of a pixel."""
        return -(-self.channels // self.step)

    @property
    def kind(self) -> str:
        return self.element.vector(self.lanes)


@dataclass(frozen=True, slots=True)
class Block:
    """Where one register's worth of output channels, or several, read and write.

    weights: their filters, the next register's `weight_vector` bytes on, a window's next row `weight_row`; widths: the real
    channels in each.
    """

    source: str
    target: str
    weights: str
    weight_vector: Value
    weight_row: Value
    bias: str | None
    widths: list[int]


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows and run of the taps that are added up at once, and whether they are the first, or the last."""

    rows: tuple[Value, Value]
    run: tuple[Value, Value]
    first: str
    last: str
    tail: int  # numbers at the end of a row that fill no vector


class ChannelLanes:
    """See the module; `tile` writes the code for a tile of pixels (rows, columns)."""

    def __init__(self, f: Function, plan: Plan) -> None:
        self.f, self.plan = f, plan

    def tile(self, block: Block, strip: Strip, shape: Pair) -> None:
        f, plan = self.f, self.plan
        places = [(row, column) for row in range(shape[0]) for column in range(shape[1])]
        sources = [row * plan.source_row + column * plan.source_pixel for row, column in places]
        channels = [(vector, lanes) for vector, lanes in enumerate(block.widths)]
        bytes_ = plan.step * plan.element.size
        cells = [
            (f.at(block.target, row * plan.target_row + column * plan.target_pixel + v * bytes_), v, lanes)
            for row, column in places
            for v, lanes in channels
        ]

        def fresh() -> list[str]:
            if block.bias is None:
                return [self._zero() for _ in cells]
            found = [self._load(f.at(block.bias, v * bytes_), lanes) for v, lanes in channels]
            return [found[v] for _, v, _ in cells]

        def so_far() -> list[str]:
            return [self._load(place, lanes) for place, _, lanes in cells]

        for (place, _, lanes), total in zip(
            cells, self._totals(block, strip, sources, (fresh, so_far), len(cells)), strict=True
        ):
            self._store(total, place, lanes)

    def _totals(
        self, block: Block, strip: Strip, sources: Sequence[int], begin: Begin, count: int
    ) -> list[str]:
        kind = self.plan.kind
        begun = self.f.branch(strip.first, *begin, [kind] * count)
        return rectified(self.f, self.plan, kind, self._taps(block, strip, sources, begun), strip.last)

    def _zero(self) -> str:
        return "zeroinitializer"

    def _load(self, place: str, lanes: int) -> str:
        found = self.f.load(self.plan.element.vector(lanes), place)
        return self.f.resized(self.plan.element, found, lanes, self.plan.lanes)

    def _store(self, total: str, place: str, lanes: int) -> None:
        cut = self.f.resized(self.plan.element, total, self.plan.lanes, lanes)
        self.f.store(self.plan.element.vector(lanes), cut, place)

    def _taps(self, block: Block, strip: Strip, sources: Sequence[int], sums: Sequence[str]) -> list[str]:
        """The sums with the strip's products added."""
        f, plan = self.f, self.plan

        def row(y: Value, sums: Sequence[str]) -> Sequence[str]:
            source = f.at(block.source, f.index("mul", y, plan.source_tap_row))
            weights = f.at(block.weights, f.index("mul", y, block.weight_row))
            return self._run(block, strip, source, weights, sources, sums)

        return f.loop(*strip.rows, row, [(plan.kind, total) for total in sums])

    def _run(
        self,
        block: Block,
        strip: Strip,
        source: str,
        weights: str,
        sources: Sequence[int],
        sums: Sequence[str],
    ) -> list[str]:
        """One row of windows."""
        f, plan = self.f, self.plan

        def tap(x: Value, sums: Sequence[str]) -> Sequence[str]:
            at = f.at(source, f.index("mul", x, plan.element.size))
            by = f.at(weights, f.index("mul", x, plan.weight_tap))
            filters = self._filters(block, by, plan.lanes)
            result: list[str] = []
            for moved in sources:
                scalar = f.load(plan.element.name, f.at(at, moved))
                number = f.splat(plan.element, plan.lanes, scalar)
                for vector in filters:
                    result.append(f.multiply_add(plan.kind, number, vector, sums[len(result)]))
            return result

        return f.loop(*strip.run, tap, [(plan.kind, total) for total in sums])

    def _filters(self, block: Block, place: str, lanes: int) -> list[str]:
        f = self.f
        return [
            self._load(f.at(place, f.index("mul", v, block.weight_vector)), lanes)
            for v in range(len(block.widths))
        ]


class TapLanes(ChannelLanes):
    """See the module."""

    def _totals(
        self, block: Block, strip: Strip, sources: Sequence[int], begin: Begin, count: int
    ) -> list[str]:
        f, element = self.f, self.plan.element
        lanes = self._taps(block, strip, sources, ["zeroinitializer"] * count)
        begun = f.branch(strip.first, *begin, [element.name] * count)
        totals = [
            f.op(f"fadd {element.name} {before}, {self._added_up(each)}")
            for before, each in zip(begun, lanes, strict=True)
        ]
        return rectified(f, self.plan, element.name, totals, strip.last)

    def _added_up(self, vector: str) -> str:
        """The sum of a vector's lanes: one half added to the other, until one is left."""
        f, element, lanes = self.f, self.plan.element, self.plan.lanes
        while lanes > 1:
            low, high = f.resized(element, vector, lanes, lanes // 2), f.upper_half(element, vector, lanes)
            lanes //= 2
            vector = f.op(f"fadd {element.vector(lanes)} {low}, {high}")
        return f.op(f"extractelement {element.vector(1)} {vector}, i64 0")

    def _zero(self) -> str:
        return self.plan.element.constant(0.0)

    def _load(self, place: str, lanes: int) -> str:
        return self.f.load(self.plan.element.name, place)

    def _store(self, total: str, place: str, lanes: int) -> None:
        self.f.store(self.plan.element.name, total, place)

    def _run(
        self,
        block: Block,
        strip: Strip,
        source: str,
        weights: str,
        sources: Sequence[int],
        sums: Sequence[str],
    ) -> list[str]:
        f, plan = self.f, self.plan
        begin, end = strip.run

        def taps(x: Value, sums: Sequence[str], lanes: int = plan.lanes) -> list[str]:
            at = f.at(source, f.index("mul", x, plan.element.size))
            by = f.at(weights, f.index("mul", x, plan.element.size))
            filters = self._filters(block, by, lanes)
            result: list[str] = []
            for moved in sources:
                numbers = super(TapLanes, self)._load(f.at(at, moved), lanes)
                for vector in filters:
                    result.append(f.multiply_add(plan.kind, numbers, vector, sums[len(result)]))
            return result

        count = f.index("sub", end, begin)
        whole = f.index("sub", end, f.index("urem", count, plan.lanes))
        sums = f.loop(begin, whole, taps, [(plan.kind, total) for total in sums], step=plan.lanes)
        if not strip.tail:
            return sums
        kinds = [plan.kind] * len(sums)
        is_short = f.compare("slt", whole, end)
        return f.branch(is_short, lambda: taps(whole, sums, strip.tail), lambda: sums, kinds)

    def _filters(self, block: Block, place: str, lanes: int) -> list[str]:
        f = self.f
        places = [f.at(place, f.index("mul", v, block.weight_vector)) for v in range(len(block.widths))]
        return [super(TapLanes, self)._load(each, lanes) for each in places]


def rectified(f: Function, plan: Plan, kind: str, sums: Sequence[str], last: str) -> list[str]:
    """max(0, sum), if the plan says so and this is the last strip: +0 for −0, NaN as it is, as NumPy's maximum."""
    if not plan.relu:
        return list(sums)
    element = plan.element
    floor = element.constant(0.0)
    if last != "true":
        floor = f.select(element.name, "i1", last, floor, element.constant(float("-inf")))
    mask_kind = "i1"
    if kind != element.name:
        floor, mask_kind = f.splat(element, plan.lanes, floor), f"<{plan.lanes} x i1>"
    found = []
    for total in sums:
        mask = f.op(f"fcmp ugt {kind} {total}, {floor}")
        found.append(f.select(kind, mask_kind, mask, total, floor))
    return found
