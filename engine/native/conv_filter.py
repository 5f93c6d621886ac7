"""The gradient of a convolution with respect to its filters: pixels times gradients, summed over all pixels of all images.

A tile of filter numbers × output channels is held in registers while the pixels of a strip go by: each brings one run of numbers
from the image and one vector of gradients.  A strip is a few rows of windows, or a few images; its gradients are copied to the
stack if they are far apart, so that they stay in the first-level cache.  Work is divided by (block of output channels, filter
row, piece of the row), so that no two threads add to the same sum, and each sum has one order.  Between strips sums lie in the
result, or, if a block's would be far apart there, in scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.native.conv_geometry import Geometry, best_tile
from engine.native.conv_layout import Frame
from engine.native.emitter import SLACK, Element, Function, Machine, Value, balanced, build
from engine.native.kernel import NativeKernel, Phase

_IMAGE_BYTES = 16 << 10  # of image rows in a strip
_GRADIENT_BYTES = 16 << 10  # of gradients in a strip, for one block
_FEWEST = 64  # pixels in a strip: sums are loaded and stored once for so many
_FAR = 512  # bytes between the filters' numbers from which on sums are kept in scratch
_UNITS = 8  # if there are fewer, filter rows are cut into pieces
_WORTH = 400_000  # multiply-adds that are worth another thread
_PADDED_BYTES = 256 << 10  # of padded rows that are worth another thread


def filter_gradient(
    images: int, window: Geometry, channels: int, outputs: int, element: Element, machine: Machine
) -> NativeKernel:
    """(images [n, h, w, c], gradients [n, oh, ow, k]) → [kh, kw, c, k]."""
    frame = Frame(window.image, window.pads, channels * element.size)
    maker = _Maker(images, window, frame, outputs, element, machine)
    functions: list[Function] = []
    phases: list[tuple[int, tuple[int, ...], int]] = []
    arguments, scratch = [0, 1, 2], []
    if not frame.is_plain:
        scratch.append(frame.scratch(images))
        arguments[0] = 3
        functions.append(frame.function("pad"))
        phases.append((images * frame.rows, (0, 3), max(1, _PADDED_BYTES // frame.row)))
    if maker.is_far:
        scratch.append(maker.units // maker.pieces * maker.row_bytes + SLACK)
        arguments.append(2 + len(scratch))
    functions.append(maker.function("filter_gradient"))
    work = images * window.output[0] * window.output[1] * maker.run * outputs // (maker.blocks * maker.pieces)
    phases.append((maker.units, tuple(arguments), max(1, _WORTH // max(work, 1))))
    library = build(functions)
    return NativeKernel(
        name="conv2d_backprop_filter",
        phases=tuple(
            Phase(library.address(function.name), extent, args, grain)
            for function, (extent, args, grain) in zip(functions, phases, strict=True)
        ),
        inputs=2,
        outputs=1,
        scratch=tuple(scratch),
        ulps=float(images * window.output[0] * window.output[1]),
        keep=library,
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    """One filter row and block of output channels while code is written for it.

    source: the images, from that row on; gradients, result: from the block's first channel on; sums: where they lie between
    strips, `step` bytes from one number of the filter's row to the next; widths: the real channels in each vector; piece: the
    unit's part of that row.
    """

    source: str
    gradients: str
    result: str
    sums: str
    step: int
    widths: list[int]
    piece: Value


@dataclass(frozen=True, slots=True)
class _Strip:
    """Images and rows of windows; the gradients for a block, the strip's first one first, `step` bytes a pixel."""

    images: tuple[Value, Value]
    rows: tuple[Value, Value]
    gradients: str
    step: int


class _Maker:
    """The sizes of things, and the code."""

    def __init__(
        self, images: int, window: Geometry, frame: Frame, outputs: int, element: Element, machine: Machine
    ) -> None:
        self.images, self.window, self.frame, self.outputs = images, window, frame, outputs
        self.element, self.size, self.vector = element, element.size, machine.vector_bytes
        self.lanes = machine.lanes(element)
        self.run = window.size[1] * frame.pixel // element.size  # numbers in a filter's row
        self.vectors = -(-outputs // self.lanes)
        height, self.width = window.output
        tile = best_tile(machine, (1, self.run), self.vectors, max(images, 1) * height * self.width)
        self.numbers, self.block = tile.columns, tile.vectors  # in a tile; of the latter, vectors
        self.blocks = -(-self.vectors // self.block)
        rows = window.size[0] * self.blocks
        self.pieces = max(1, min(-(-_UNITS // rows), self.run // (8 * self.numbers)))
        self.units = rows * self.pieces
        self.row_bytes = self.run * self.block * self.vector
        self.is_far = self.blocks > 1 and outputs * self.size >= _FAR
        self.copies = (
            self.blocks > 1 and self.run > 3 * self.numbers
        )  # each gradient is used by several tiles
        wanted = max(_IMAGE_BYTES // (window.stride[0] * frame.row), -(-_FEWEST // self.width))
        most = max(1, min(wanted, _GRADIENT_BYTES // (self.width * self.block * self.vector)))
        self.strip_images, self.strip_rows = max(most // height, 1), -(-height // -(-height // most))

    def function(self, name: str) -> Function:
        """``(padded images, gradients, result[, sums])`` over (block, filter row, piece)."""
        f = Function(name, 4 if self.is_far else 3)
        images = f.args[0] if self.frame.is_plain else f.aligned(f.args[0])
        sums = f.aligned(f.args[3]) if self.is_far else ""
        pixels = self.strip_images * self.strip_rows * self.width
        copied = f.room(pixels * self.block * self.vector) if self.copies else ""

        def each(write: Callable[[_Unit], None]) -> None:
            def unit(number: Value, _: Sequence[str]) -> Sequence[str]:
                self._unit(f, number, (images, sums), write)
                return ()

            f.loop("%begin", "%end", unit)

        each(lambda unit: self._numbers(f, unit, lambda sums, _: f.clear(sums, sum(unit.widths) * self.size)))

        def some_images(n: Value, _: Sequence[str]) -> Sequence[str]:
            n_end = f.smaller(f.index("add", n, self.strip_images), self.images)

            def some_rows(y: Value, _: Sequence[str]) -> Sequence[str]:
                y_end = f.smaller(f.index("add", y, self.strip_rows), self.window.output[0])
                each(lambda unit: self._tiles(f, unit, self._strip(f, unit, (n, n_end), (y, y_end), copied)))
                return ()

            f.loop(0, self.window.output[0], some_rows, step=self.strip_rows)
            return ()

        f.loop(0, self.images, some_images, step=self.strip_images)
        if self.is_far:
            each(lambda unit: self._numbers(f, unit, lambda sums, to: self._move(f, unit, sums, to)))
        return f

    def _unit(self, f: Function, number: Value, at: tuple[str, str], write: Callable[[_Unit], None]) -> None:
        """Write the code for a unit: its block is a full one, or the last."""
        piece: Value = 0 if self.pieces == 1 else f.index("urem", number, self.pieces)
        whole = f.index("udiv", number, self.pieces)
        row, block = f.index("urem", whole, self.window.size[0]), f.index("udiv", whole, self.window.size[0])
        images, sums = at
        rest = self.vectors - (self.blocks - 1) * self.block
        ending = [self.lanes] * (rest - 1) + [self.outputs - (self.vectors - 1) * self.lanes]

        def unit(block: Value, widths: list[int]) -> Sequence[str]:
            moved = f.index("mul", block, self.block * self.vector)
            result = f.at(f.at(f.args[2], f.index("mul", row, self.run * self.outputs * self.size)), moved)
            kept, step = result, self.outputs * self.size
            if self.is_far:
                kept, step = f.at(sums, f.index("mul", whole, self.row_bytes)), self.block * self.vector
            source = f.at(images, f.index("mul", row, self.frame.row))
            write(_Unit(source, f.at(f.args[1], moved), result, kept, step, widths, piece))
            return ()

        is_last = "true" if self.blocks == 1 else f.compare("eq", block, self.blocks - 1)
        if ending == [self.lanes] * self.block:
            is_last = "false"
        f.branch(
            is_last,
            lambda: unit(self.blocks - 1, ending),
            lambda: unit(block, [self.lanes] * self.block),
        )

    def _numbers(self, f: Function, unit: _Unit, write: Callable[[str, str], None]) -> None:
        """`write(where its sums are, where the result is)` for each number of the filter's row."""

        def number(i: Value, _: Sequence[str]) -> Sequence[str]:
            result = f.at(unit.result, f.index("mul", i, self.outputs * self.size))
            write(f.at(unit.sums, f.index("mul", i, unit.step)), result)
            return ()

        for begin, end, _ in self._parts(f, unit):
            f.loop(begin, end, number)

    def _parts(self, f: Function, unit: _Unit) -> list[tuple[Value, Value, int]]:
        """(first number, end, numbers in a tile) of those that the unit is for."""
        found: list[tuple[Value, Value, int]] = []
        for first, tiles, count in balanced(self.run, self.numbers):
            begin = f.index("udiv", f.index("mul", unit.piece, tiles), self.pieces)
            end = f.index("udiv", f.index("mul", f.index("add", unit.piece, 1), tiles), self.pieces)
            found.append(
                (
                    f.index("add", f.index("mul", begin, count), first),
                    f.index("add", f.index("mul", end, count), first),
                    count,
                )
            )
        return found

    def _move(self, f: Function, unit: _Unit, source: str, target: str) -> None:
        """One vector or several."""
        for v, lanes in enumerate(unit.widths):
            kind = self.element.vector(lanes)
            f.store(kind, f.load(kind, f.at(source, v * self.vector)), f.at(target, v * self.vector))

    def _strip(
        self,
        f: Function,
        unit: _Unit,
        images: tuple[Value, Value],
        rows: tuple[Value, Value],
        copied: str,
    ) -> _Strip:
        """A strip, with its gradients copied if that is better."""
        step = self.outputs * self.size
        first = f.index("add", f.index("mul", images[0], self.window.output[0]), rows[0])
        gradients = f.at(unit.gradients, f.index("mul", first, self.width * step))
        if not self.copies:
            return _Strip(images, rows, gradients, step)
        near = len(unit.widths) * self.vector

        def pixel(i: Value, _: Sequence[str]) -> Sequence[str]:
            source = f.at(gradients, f.index("mul", i, step))
            self._move(f, unit, source, f.at(copied, f.index("mul", i, near)))
            return ()

        count = f.index(
            "mul", self._length(f, images, self.strip_images), self._length(f, rows, self.strip_rows)
        )
        f.loop(0, f.index("mul", count, self.width), pixel)
        return _Strip(images, rows, copied, near)

    def _length(self, f: Function, span: tuple[Value, Value], most: int) -> Value:
        return 1 if most == 1 else f.index("sub", span[1], span[0])

    def _tiles(self, f: Function, unit: _Unit, strip: _Strip) -> None:
        """All numbers of the unit."""
        for begin, end, count in self._parts(f, unit):

            def one(i: Value, _: Sequence[str], count: int = count) -> Sequence[str]:
                source = f.at(unit.source, f.index("mul", i, self.size))
                sums = f.at(unit.sums, f.index("mul", i, unit.step))
                self._tile(f, unit, strip, (source, sums), count)
                return ()

            f.loop(begin, end, one, step=count)

    def _tile(self, f: Function, unit: _Unit, strip: _Strip, at: tuple[str, str], count: int) -> None:
        """`count` numbers of the filter's row, whose images and sums are at `at`."""
        source, kept = at
        kinds = [self.element.vector(lanes) for lanes in unit.widths]
        cells = [(number, v) for number in range(count) for v in range(len(kinds))]
        places = [f.at(kept, number * unit.step + v * self.vector) for number, v in cells]
        sums = [(kinds[v], f.load(kinds[v], place)) for (_, v), place in zip(cells, places, strict=True)]

        def carried(sums: Sequence[str]) -> list[tuple[str, str]]:
            return [(kinds[v], total) for (_, v), total in zip(cells, sums, strict=True)]

        def image(n: Value, sums: Sequence[str]) -> Sequence[str]:
            of_image = f.at(source, f.index("mul", n, self.frame.bytes))
            before = f.index("mul", f.index("sub", n, strip.images[0]), self.window.output[0])

            def row(y: Value, sums: Sequence[str]) -> Sequence[str]:
                pixels = f.at(of_image, f.index("mul", y, self.window.stride[0] * self.frame.row))
                passed = f.index("add", before, f.index("sub", y, strip.rows[0]))
                gradients = f.at(strip.gradients, f.index("mul", passed, self.width * strip.step))

                def pixel(x: Value, sums: Sequence[str]) -> Sequence[str]:
                    here = f.at(pixels, f.index("mul", x, self.window.stride[1] * self.frame.pixel))
                    there = f.at(gradients, f.index("mul", x, strip.step))
                    return self._products(f, unit, (here, there), sums)

                return f.loop(0, self.width, pixel, carried(sums))

            return f.loop(*strip.rows, row, carried(sums))

        if self.strip_images == 1:
            totals = list(image(strip.images[0], [value for _, value in sums]))
        else:
            totals = f.loop(*strip.images, image, sums)
        for (_, v), place, total in zip(cells, places, totals, strict=True):
            f.store(kinds[v], total, place)

    def _products(self, f: Function, unit: _Unit, at: tuple[str, str], sums: Sequence[str]) -> list[str]:
        """The sums with those products added that one pixel brings, its numbers and gradients being at `at`."""
        kinds = [self.element.vector(lanes) for lanes in unit.widths]
        gradients = [f.load(kind, f.at(at[1], v * self.vector)) for v, kind in enumerate(kinds)]
        result: list[str] = []
        for number in range(len(sums) // len(kinds)):
            scalar = f.load(self.element.name, f.at(at[0], number * self.size))
            for v, lanes in enumerate(unit.widths):
                factor = f.splat(self.element, lanes, scalar)
                result.append(f.multiply_add(kinds[v], factor, gradients[v], sums[len(result)]))
        return result
