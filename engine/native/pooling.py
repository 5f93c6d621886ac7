"""Max and average pooling of NHWC images and their gradients as native kernels, vectorized over channels.

Results are NumPy's bit for bit: every sum has the order of `engine.op.pool`, which goes over the places of a window and takes all
windows at each.  For one pixel that is the last window first, so gradients are scattered from the last window to the first.
The gradient of a maximum goes to the first of the largest; a NaN, which equals nothing, takes none, and makes the maximum NaN.
Windows lie on the image where they can: padding is never the largest, and does not count in an average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.native.conv_geometry import Geometry, Padding, geometry
from engine.native.emitter import Element, Function, Machine, Value, build, element_of, this_machine
from engine.native.kernel import NativeKernel, Phase

__all__ = ["avg_pool", "avg_pool_grad", "max_pool", "max_pool_grad"]

_WORTH = 32_000  # numbers read or written that are worth another thread
_UNROLLED = 16  # places of a window that have no loops
_AT_ONCE = 4  # vectors of channels


def max_pool(
    input_shape: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(images) → the largest of each window, NaN if there is one; −∞ for windows all in the padding.

    input_shape: [n, h, w, c]; ksize, strides: (rows, columns); padding: "SAME", "VALID" or
    ((above, below), (left, right)).  machine: what to make vectors for (this one).  None for dtypes but float32 and float64, and
    for empty images.  Raises UnavailableError without a native compiler.
    """
    pool = _pool(input_shape, ksize, strides, padding, dtype, machine)
    return None if pool is None else pool.forward("max_pool", pool.largest)


def avg_pool(
    input_shape: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(images) → the mean of each window, padding not counted, 0 for windows all in the padding; arguments as for `max_pool`."""
    pool = _pool(input_shape, ksize, strides, padding, dtype, machine)
    return None if pool is None else pool.forward("avg_pool", pool.mean)


def max_pool_grad(
    input_shape: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(images, pooled, gradients of pooled) → the gradient for images; arguments as for `max_pool`.

    `pooled` is not read: which pixel was the largest is seen from the images.
    """
    pool = _pool(input_shape, ksize, strides, padding, dtype, machine)
    return None if pool is None else pool.backward("max_pool_grad", 3, pool.to_largest)


def avg_pool_grad(
    input_shape: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(gradients [n, oh, ow, c]) → the gradient for images of `input_shape`; arguments as for `max_pool`."""
    pool = _pool(input_shape, ksize, strides, padding, dtype, machine)
    return None if pool is None else pool.backward("avg_pool_grad", 1, pool.to_all)


@dataclass(frozen=True, slots=True)
class _Window:
    """One window while code is written for it: rows and columns that lie on the image, and whether that is all of them."""

    rows: tuple[Value, Value]
    columns: tuple[Value, Value]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Cell:
    """Some channels of one window: where its first place is in the images and in their gradient, and where its result is."""

    window: _Window
    lanes: int
    images: str
    result: str
    pooled: str


Place = Callable[[Value, Value, Sequence[str]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Pool:
    images: int
    channels: int
    windows: Geometry
    element: Element
    lanes: int

    # What becomes of a window's channels.

    def largest(self, f: Function, cell: _Cell) -> None:
        f.store(self._kind(cell), self._maximum(f, cell), cell.pooled)

    def mean(self, f: Function, cell: _Cell) -> None:
        kind = self._kind(cell)

        def place(row: Value, column: Value, values: Sequence[str]) -> Sequence[str]:
            found = f.load(kind, self._at(f, cell.images, row, column))
            return [f.op(f"fadd {kind} {values[0]}, {found}")]

        (total,) = self._places(f, cell.window, place, [(kind, "zeroinitializer")])
        f.store(kind, f.op(f"fdiv {kind} {total}, {self._count(f, cell)}"), cell.pooled)

    def to_largest(self, f: Function, cell: _Cell) -> None:
        kind, mask = self._kind(cell), f"<{cell.lanes} x i1>"
        largest = self._maximum(f, cell)
        gradient = f.load(kind, cell.pooled)

        def place(row: Value, column: Value, values: Sequence[str]) -> Sequence[str]:
            found = f.load(kind, self._at(f, cell.images, row, column))
            equal = f.op(f"fcmp oeq {kind} {found}, {largest}")
            here = f.op(f"and {mask} {equal}, {values[0]}")
            there = self._at(f, cell.result, row, column)
            share = f.select(kind, mask, here, gradient, "zeroinitializer")
            self._add(f, kind, share, there)
            return [f.op(f"xor {mask} {values[0]}, {here}")]

        free = f"<{', '.join(['i1 true'] * cell.lanes)}>"
        self._places(f, cell.window, place, [(mask, free)])

    def to_all(self, f: Function, cell: _Cell) -> None:
        kind = self._kind(cell)
        share = f.op(f"fdiv {kind} {f.load(kind, cell.pooled)}, {self._count(f, cell)}")

        def place(row: Value, column: Value, values: Sequence[str]) -> Sequence[str]:
            self._add(f, kind, share, self._at(f, cell.result, row, column))
            return ()

        self._places(f, cell.window, place)

    def _maximum(self, f: Function, cell: _Cell) -> str:
        kind, mask = self._kind(cell), f"<{cell.lanes} x i1>"
        lowest = f.splat(self.element, cell.lanes, self.element.constant(float("-inf")))

        def place(row: Value, column: Value, values: Sequence[str]) -> Sequence[str]:
            best, found = values[0], f.load(kind, self._at(f, cell.images, row, column))
            # Of equals the second, as NumPy does it: they may differ in the sign of zero.
            greater = f.op(f"fcmp ogt {kind} {best}, {found}")
            larger = f.select(kind, mask, greater, best, found)
            is_nan = f.op(f"fcmp uno {kind} {best}, {best}")
            return [f.select(kind, mask, is_nan, best, larger)]

        return self._places(f, cell.window, place, [(kind, lowest)])[0]

    def _add(self, f: Function, kind: str, share: str, place: str) -> None:
        """To what other windows gave that pixel; 0 + -0 is 0, as where there are none."""
        so_far = f.load(kind, place) if self._accumulates else "zeroinitializer"
        f.store(kind, f.op(f"fadd {kind} {share}, {so_far}"), place)

    @property
    def _accumulates(self) -> bool:
        return self.windows.overlaps

    def _kind(self, cell: _Cell) -> str:
        return self.element.vector(cell.lanes)

    def _at(self, f: Function, first: str, row: Value, column: Value) -> str:
        pixel = self.channels * self.element.size
        moved = f.index("mul", row, self.windows.image[1] * pixel)
        return f.at(first, f.index("add", moved, f.index("mul", column, pixel)))

    def _count(self, f: Function, cell: _Cell) -> str:
        """How many pixels there are in the window, at least 1, as a vector."""
        rows, columns = (f.index("sub", end, begin) for begin, end in (cell.window.rows, cell.window.columns))
        count = f.larger(f.index("mul", f.larger(rows, 1), f.larger(columns, 1)), 1)
        if isinstance(count, int):
            return f.splat(self.element, cell.lanes, self.element.constant(count))
        return f.splat(self.element, cell.lanes, f.op(f"sitofp i64 {count} to {self.element.name}"))

    def _places(
        self, f: Function, window: _Window, place: Place, carried: Sequence[tuple[str, str]] = ()
    ) -> list[str]:
        """`place(row, column, values)` for each place of a window that lies on the image, in order."""
        height, width = self.windows.size
        kinds, values = [kind for kind, _ in carried], [value for _, value in carried]
        if window.is_whole and height * width <= _UNROLLED:
            for row in range(height):
                for column in range(width):
                    values = list(place(row, column, values))
            return values

        def each(row: Value, values: Sequence[str]) -> Sequence[str]:
            def one(column: Value, values: Sequence[str]) -> Sequence[str]:
                return place(row, column, values)

            return f.loop(*window.columns, one, list(zip(kinds, values, strict=True)))

        return f.loop(*window.rows, each, list(zip(kinds, values, strict=True)))

    # Over windows and channels.

    def forward(self, name: str, cell: Callable[[Function, _Cell], None]) -> NativeKernel:
        """``(images, pooled)`` over rows of windows."""
        f, windows = Function(name, 2), self.windows

        def unit(i: Value, _: Sequence[str]) -> Sequence[str]:
            image, row = f.index("udiv", i, windows.output[0]), f.index("urem", i, windows.output[0])
            source = f.at(f.args[0], f.index("mul", image, self._image_bytes))
            self._row(f, row, source, source, f.at(f.args[1], f.index("mul", i, self._row_bytes)), cell)
            return ()

        f.loop("%begin", "%end", unit)
        library = build([f])
        work = windows.output[1] * windows.size[0] * windows.size[1] * self.channels
        phase = Phase(library.address(name), self.images * windows.output[0], (0, 1), max(1, _WORTH // work))
        return NativeKernel(name, (phase,), 1, 1, keep=library)

    def backward(self, name: str, inputs: int, cell: Callable[[Function, _Cell], None]) -> NativeKernel:
        """``(images, gradients, result)``, or without the first, over images."""
        reads = inputs == 3
        f, windows = Function(name, 3 if reads else 2), self.windows
        gradients, result = f.args[-2], f.args[-1]
        rows = windows.output[0]

        def unit(image: Value, _: Sequence[str]) -> Sequence[str]:
            moved = f.index("mul", image, self._image_bytes)
            target = f.at(result, moved)
            source = f.at(f.args[0], moved) if reads else target
            if self._accumulates or not windows.is_covered:
                f.clear(target, self._image_bytes)
            first = f.at(gradients, f.index("mul", image, rows * self._row_bytes))

            def row(i: Value, _: Sequence[str]) -> Sequence[str]:
                y = f.index("sub", rows - 1, i)
                pooled = f.at(first, f.index("mul", y, self._row_bytes))
                self._row(f, y, source, target, pooled, cell, backwards=True)
                return ()

            f.loop(0, rows, row)
            return ()

        f.loop("%begin", "%end", unit)
        library = build([f])
        work = rows * windows.output[1] * windows.size[0] * windows.size[1] * self.channels
        arguments = (0, 2, 3) if reads else (0, 1)
        phase = Phase(library.address(name), self.images, arguments, max(1, _WORTH // work))
        return NativeKernel(name, (phase,), inputs, 1, keep=library)

    @property
    def _image_bytes(self) -> int:
        return self.windows.image[0] * self.windows.image[1] * self.channels * self.element.size

    @property
    def _row_bytes(self) -> int:
        """Of a row of pooled numbers."""
        return self.windows.output[1] * self.channels * self.element.size

    def _inside(self, axis: int) -> tuple[int, int]:
        """Which windows lie on the image as a whole."""
        w = self.windows
        before, stride = w.pads[axis][0], w.stride[axis]
        last = (w.image[axis] - w.size[axis] + before) // stride
        return -(-before // stride), min(last + 1, w.output[axis])

    def _row(
        self,
        f: Function,
        y: Value,
        images: str,
        result: str,
        pooled: str,
        cell: Callable[[Function, _Cell], None],
        backwards: bool = False,
    ) -> None:
        """One row of windows, of the image at `images` and the gradient at `result`, from left to right or the other way."""
        windows, pixel = self.windows, self.channels * self.element.size
        top = f.index("sub", f.index("mul", y, windows.stride[0]), windows.pads[0][0])
        is_inside = self._test(f, y, 0)

        def window(i: Value, _: Sequence[str]) -> Sequence[str]:
            x = f.index("sub", windows.output[1] - 1, i) if backwards else i
            left = f.index("sub", f.index("mul", x, windows.stride[1]), windows.pads[1][0])
            moved = f.index("mul", f.index("add", f.index("mul", top, windows.image[1]), left), pixel)
            target = f.at(pooled, f.index("mul", x, pixel))

            def some(
                rows: tuple[Value, Value], columns: tuple[Value, Value], is_whole: bool
            ) -> Sequence[str]:
                place = _Window(rows, columns, is_whole)
                self._channels(f, place, (f.at(images, moved), f.at(result, moved), target), cell)
                return ()

            def whole() -> Sequence[str]:
                return some((0, windows.size[0]), (0, windows.size[1]), True)

            def part() -> Sequence[str]:
                return some(self._real(f, top, 0), self._real(f, left, 1), False)

            f.branch(f.both(is_inside, self._test(f, x, 1)), whole, part)
            return ()

        f.loop(0, windows.output[1], window)

    def _test(self, f: Function, place: Value, axis: int) -> str:
        first, end = self._inside(axis)
        low = "true" if first <= 0 else f.compare("sge", place, first)
        high = "true" if end >= self.windows.output[axis] else f.compare("slt", place, end)
        return f.both(low, high)

    def _real(self, f: Function, first: Value, axis: int) -> tuple[Value, Value]:
        """Which places of a window that begins at pixel `first` lie on the image."""
        begin = f.larger(f.index("sub", 0, first), 0)
        return begin, f.smaller(f.index("sub", self.windows.image[axis], first), self.windows.size[axis])

    def _channels(
        self,
        f: Function,
        window: _Window,
        places: tuple[str, str, str],
        cell: Callable[[Function, _Cell], None],
    ) -> None:
        lanes, size = self.lanes, self.element.size
        full = self.channels // lanes

        def vector(c: Value, lanes: int) -> None:
            images, result, pooled = (f.at(place, f.index("mul", c, size)) for place in places)
            cell(f, _Cell(window, lanes, images, result, pooled))

        def several(c: Value, _: Sequence[str]) -> Sequence[str]:
            for i in range(at_once):
                vector(f.index("add", c, i * lanes), lanes)
            return ()

        at_once = next(n for n in (_AT_ONCE, 2, 1) if full % n == 0) if window.is_whole else 1
        f.loop(0, full * lanes, several, step=at_once * lanes)
        rest, done = self.channels % lanes, full * lanes
        while rest:
            part = 1 << (rest.bit_length() - 1)
            vector(done, part)
            rest, done = rest - part, done + part


def _pool(
    shape: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    machine: Machine | None,
) -> _Pool | None:
    element = element_of(dtype)
    if element is None or min(*shape[1:], *ksize) < 1:
        return None
    windows = geometry(shape[1:3], ksize, strides, padding)
    if windows is None:
        return None
    lanes = (machine or this_machine()).lanes(element)
    return _Pool(shape[0], shape[3], windows, element, lanes)
