"""Layer normalization and its gradient, over the last dimension: Ba, Kiros and Hinton, "Layer Normalization" (2016)."""

from __future__ import annotations

from typing import Any

from engine.native.ir import Function
from engine.native.kernel import NativeKernel
from engine.native.sweep import GRAIN, Code, Piece, lanes_for, sweep, total, type_of
from engine.native.values import Value

_ULPS = 8.0
_UNIT = 32  # rows whose part of the gradients of scale and offset is added up by itself


def _sum(f: Function, type: str, width: int, term: Any, count: int = 1) -> list[Value]:
    """Sums over a row of what `term(piece)` lists, in every lane."""

    def add(piece: Piece, held: list[Value]) -> list[Value]:
        found = term(piece)
        if piece.count < f.lanes:
            found = [f.select(piece.inside(), each, f.like(each, 0.0)) for each in found]
        return [a + b for a, b in zip(held, found)]

    lanes = sweep(f, type, width, [f.constant(type, 0.0)] * count, add)
    return [f.spread(total(f, each)) for each in lanes]


def moments(rows: int, width: int, dtype: Any) -> NativeKernel | None:
    """Mean and variance (divided by n) of each row.  Inputs: [rows, width]; outputs: [rows] each.  None as for `layer_norm`."""
    type = type_of(dtype)
    if type is None or not width:
        return None
    code = Code("moments", dtype, lanes_for(dtype, width))

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        x, mean, variance = pointers
        center, spread = _statistics(f, type, width, code.row(f, x, number, width))
        f.store(f.lane(center, 0), f.address(mean, number, type))
        f.store(f.lane(spread, 0), f.address(variance, number, type))

    code.phase(rows, (0, 1, 2), write, max(1, GRAIN // width))
    return code.kernel(1, 2, ulps=_ULPS)


def _statistics(f: Function, type: str, width: int, row: Value) -> tuple[Value, Value]:
    """Mean and variance of a row, in every lane."""
    (sum_,) = _sum(f, type, width, lambda piece: [piece.load(row)])
    mean = sum_ / float(width)

    def square(piece: Piece) -> list[Value]:
        centered = piece.load(row) - mean
        return [centered * centered]

    (squares,) = _sum(f, type, width, square)
    return mean, squares / float(width)


def layer_norm(rows: int, width: int, epsilon: float, dtype: Any) -> NativeKernel | None:
    """(x - mean) / sqrt(variance + epsilon) · scale + offset, with each row's own mean and variance (divided by n).

    Inputs: x [rows, width], scale and offset [width]; outputs: y [rows, width], mean and variance [rows].  y may be written over
    x.  None for dtypes other than float32 and float64, for rows of no width, and where there is no native code.
    """
    type = type_of(dtype)
    if type is None or not width:
        return None
    code = Code("layer_norm", dtype, lanes_for(dtype, width))

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        x, scale, offset, y, mean, variance = pointers
        row, out = code.row(f, x, number, width), code.row(f, y, number, width)
        center, spread = _statistics(f, type, width, row)
        inverse = 1.0 / f.sqrt(spread + epsilon)

        def normalize(piece: Piece, held: list[Value]) -> list[Value]:
            piece.store((piece.load(row) - center) * inverse * piece.load(scale) + piece.load(offset), out)
            return held

        sweep(f, type, width, [], normalize)
        f.store(f.lane(center, 0), f.address(mean, number, type))
        f.store(f.lane(spread, 0), f.address(variance, number, type))

    code.phase(rows, tuple(range(6)), write, max(1, GRAIN // width))
    return code.kernel(3, 3, overwrites={0: (0,)}, ulps=_ULPS)


def layer_norm_gradient(rows: int, width: int, epsilon: float, dtype: Any) -> NativeKernel | None:
    """The gradient of `layer_norm`.

    Inputs: the gradient of y and x, [rows, width], scale [width], mean and variance [rows]; outputs: the gradients of x
    [rows, width], scale and offset [width].  That of x may be written over that of y, or over x.  None as for `layer_norm`.
    """
    type = type_of(dtype)
    if type is None or not width:
        return None
    code = Code("layer_norm_gradient", dtype, lanes_for(dtype, width))
    units = -(-rows // _UNIT)

    def write(f: Function, unit: Value, pointers: list[Value]) -> None:
        g, x, scale, mean, variance, to_x, parts = pointers
        sums = [code.row(f, parts, unit * 2 + k, width) for k in range(2)]

        def clear(piece: Piece, held: list[Value]) -> list[Value]:
            for each in sums:
                piece.store(f.constant(type, 0.0), each)
            return held

        sweep(f, type, width, [], clear)
        first = unit * _UNIT
        stop = f.select(first + _UNIT < rows, first + _UNIT, f.constant("i64", rows, 0))

        def one(number: Value, _: list[Value]) -> list[Value]:
            slopes, row, out = (code.row(f, each, number, width) for each in (g, x, to_x))
            center = f.spread(code.element(f, mean, number))
            inverse = 1.0 / f.sqrt(f.spread(code.element(f, variance, number)) + epsilon)

            def terms(piece: Piece) -> list[Value]:
                slope = piece.load(slopes)
                normal = (piece.load(row) - center) * inverse
                scaled = slope * piece.load(scale)
                piece.store(piece.load(sums[0]) + slope * normal, sums[0])
                piece.store(piece.load(sums[1]) + slope, sums[1])
                return [scaled, scaled * normal]

            whole, projected = (each / float(width) for each in _sum(f, type, width, terms, 2))

            def finish(piece: Piece, held: list[Value]) -> list[Value]:
                normal = (piece.load(row) - center) * inverse
                scaled = piece.load(slopes) * piece.load(scale)
                piece.store((scaled - whole - normal * projected) * inverse, out)
                return held

            sweep(f, type, width, [], finish)
            return []

        f.loop(first, stop, 1, (), one)

    def combine(f: Function, k: Value, pointers: list[Value]) -> None:
        parts, to_scale, to_offset = pointers
        out = f.select(k.equals(0), to_scale, to_offset)

        def column(piece: Piece, held: list[Value]) -> list[Value]:
            def add(unit: Value, so_far: list[Value]) -> list[Value]:
                return [so_far[0] + piece.load(code.row(f, parts, unit * 2 + k, width))]

            piece.store(f.loop(0, units, 1, [f.constant(type, 0.0)], add)[0], out)
            return held

        sweep(f, type, width, [], column)

    code.phase(units, (0, 1, 2, 3, 4, 5, 8), write, max(1, GRAIN // (_UNIT * width)))
    code.phase(2, (8, 6, 7), combine)
    return code.kernel(5, 3, scratch=[units * 2 * width * code.size], overwrites={0: (0, 1)}, ulps=_ULPS)
