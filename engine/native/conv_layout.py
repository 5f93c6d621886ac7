"""What convolutions read, laid out for it: zeros around images, and filters cut into vectors of output channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.native.conv_geometry import Pair
from engine.native.emitter import SLACK, Element, Function, Value


@dataclass(frozen=True, slots=True)
class Frame:
    """Images of `image` (rows, columns) with `pads` ((above, below), (left, right)) zeros around; pixels of `pixel` bytes."""

    image: Pair
    pads: tuple[Pair, Pair]
    pixel: int

    @property
    def rows(self) -> int:
        return self.image[0] + sum(self.pads[0])

    @property
    def row(self) -> int:
        """Bytes of a padded row."""
        return (self.image[1] + sum(self.pads[1])) * self.pixel

    @property
    def bytes(self) -> int:
        """Bytes of a padded image."""
        return self.rows * self.row

    @property
    def is_plain(self) -> bool:
        return self.pads == ((0, 0), (0, 0))

    def scratch(self, images: int) -> int:
        return images * self.bytes + SLACK

    def write_row(self, f: Function, source: str, target: str, y: Value) -> None:
        """Row `y` of the padded image at `target`, from the image at `source`."""
        length = self.image[1] * self.pixel
        left, right = (count * self.pixel for count in self.pads[1])
        inner = f.index("sub", y, self.pads[0][0])
        to = f.at(target, f.index("mul", y, self.row))

        def inside() -> Sequence[str]:
            f.clear(to, left)
            f.copy(f.at(to, left), f.at(source, f.index("mul", inner, length)), length)
            f.clear(f.at(to, left + length), right)
            return ()

        def outside() -> Sequence[str]:
            f.clear(to, self.row)
            return ()

        is_inside = f.both(f.compare("sge", inner, 0), f.compare("slt", inner, self.image[0]))
        f.branch(is_inside, inside, outside)

    def write(self, f: Function, source: str, target: str) -> None:
        """A whole padded image."""

        def row(y: Value, _: Sequence[str]) -> Sequence[str]:
            self.write_row(f, source, target, y)
            return ()

        f.loop(0, self.rows, row)

    def function(self, name: str) -> Function:
        """``(images, padded)`` over rows of padded images."""
        f = Function(name, 2)
        padded = f.aligned(f.args[1])

        def unit(i: Value, _: Sequence[str]) -> Sequence[str]:
            image = f.index("udiv", i, self.rows)
            source = f.at(f.args[0], f.index("mul", image, self.image[0] * self.image[1] * self.pixel))
            target = f.at(padded, f.index("mul", image, self.bytes))
            self.write_row(f, source, target, f.index("urem", i, self.rows))
            return ()

        f.loop("%begin", "%end", unit)
        return f


@dataclass(frozen=True, slots=True)
class Taps:
    """Some rows and columns of filters, from the last to the first, and where their vectors begin in the packed filters."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    offset: int


def pack(name: str, element: Element, lanes: int, taps: int, channels: int) -> Function:
    """``(filters, packed)`` over vectors: filters [taps, channels] become [vectors, taps, lanes], zeros past the channels."""
    f = Function(name, 2)
    packed, vectors, last = f.aligned(f.args[1]), -(-channels // lanes), channels % lanes or lanes

    def vector(number: Value, count: int) -> None:
        source = f.at(f.args[0], f.index("mul", number, lanes * element.size))
        target = f.at(packed, f.index("mul", number, taps * lanes * element.size))

        def tap(i: Value, _: Sequence[str]) -> Sequence[str]:
            found = f.load(element.vector(count), f.at(source, f.index("mul", i, channels * element.size)))
            to = f.at(target, f.index("mul", i, lanes * element.size))
            f.store(element.vector(lanes), f.resized(element, found, count, lanes), to)
            return ()

        f.loop(0, taps, tap)

    _by_vector(f, vectors, lanes, last, vector)
    return f


def pack_transposed(name: str, element: Element, taps: int, channels: int) -> Function:
    """``(filters, packed)`` over channels: filters [taps, channels] become [channels, taps]."""
    f, size = Function(name, 2), element.size
    packed = f.aligned(f.args[1])

    def unit(channel: Value, _: Sequence[str]) -> Sequence[str]:
        source = f.at(f.args[0], f.index("mul", channel, size))
        target = f.at(packed, f.index("mul", channel, taps * size))

        def tap(i: Value, _: Sequence[str]) -> Sequence[str]:
            found = f.load(element.name, f.at(source, f.index("mul", i, channels * size)))
            f.store(element.name, found, f.at(target, f.index("mul", i, size)))
            return ()

        f.loop(0, taps, tap)
        return ()

    f.loop("%begin", "%end", unit)
    return f


def pack_flipped(
    name: str,
    element: Element,
    lanes: int,
    filters: tuple[int, int, int, int],
    parts: Sequence[Taps],
    strides: Pair,
) -> Function:
    """``(filters, packed)`` over vectors of input channels, for the gradient with respect to the input.

    filters: [height, width, channels, outputs].  Each part becomes [vectors, rows, columns, outputs, lanes]; with one lane,
    [channels, rows, columns, outputs].
    """
    _, width, channels, outputs = filters
    f, size = Function(name, 2), element.size
    packed, vectors, last = f.aligned(f.args[1]), -(-channels // lanes), channels % lanes or lanes
    table = f.table(
        [(part.offset, part.rows[0], len(part.rows), part.columns[0], len(part.columns)) for part in parts]
    )

    def vector(number: Value, count: int) -> None:
        source = f.at(f.args[0], f.index("mul", number, lanes * outputs * size))

        def part(p: Value, _: Sequence[str]) -> Sequence[str]:
            offset, first_row, rows, first_column, columns = table(p)
            taps = f.index("mul", f.index("mul", rows, columns), outputs * lanes * size)
            target = f.at(packed, f.index("add", offset, f.index("mul", number, taps)))

            def row(i: Value, _: Sequence[str]) -> Sequence[str]:
                y = f.index("mul", f.index("sub", first_row, f.index("mul", i, strides[0])), width)

                def column(j: Value, _: Sequence[str]) -> Sequence[str]:
                    x = f.index("sub", first_column, f.index("mul", j, strides[1]))
                    at = f.at(source, f.index("mul", f.index("add", y, x), channels * outputs * size))
                    cell = f.index("add", f.index("mul", i, columns), j)
                    to = f.at(target, f.index("mul", cell, outputs * lanes * size))
                    _transpose(f, element, (count, outputs, lanes), at, to)
                    return ()

                f.loop(0, columns, column)
                return ()

            f.loop(0, rows, row)
            return ()

        f.loop(0, len(parts), part)

    _by_vector(f, vectors, lanes, last, vector)
    return f


def _transpose(f: Function, element: Element, shape: tuple[int, int, int], source: str, target: str) -> None:
    """The numbers [channels, outputs] at `source`, as [outputs, lanes] at `target`: shape is (channels, outputs, lanes)."""
    (channels, outputs, lanes), size = shape, element.size
    if lanes == 1:
        f.copy(target, source, outputs * size)
        return
    kind = element.vector(lanes)

    def output(k: Value, _: Sequence[str]) -> Sequence[str]:
        at = f.at(source, f.index("mul", k, size))
        found = "zeroinitializer"
        for lane in range(channels):
            number = f.load(element.name, f.at(at, lane * outputs * size))
            found = f.op(f"insertelement {kind} {found}, {element.name} {number}, i64 {lane}")
        f.store(kind, found, f.at(target, f.index("mul", k, lanes * size)))
        return ()

    f.loop(0, outputs, output)


def _by_vector(
    f: Function, vectors: int, lanes: int, last: int, vector: Callable[[Value, int], None]
) -> None:
    """`vector(number, real lanes)` for each vector of the chunk; the last has but `last` lanes."""

    def unit(number: Value, _: Sequence[str]) -> Sequence[str]:
        def short() -> Sequence[str]:
            vector(number, last)
            return ()

        def full() -> Sequence[str]:
            vector(number, lanes)
            return ()

        is_short = "false" if last == lanes else f.compare("eq", number, vectors - 1)
        f.branch(is_short, short, full)
        return ()

    f.loop("%begin", "%end", unit)
