"""What kernels over the channels of an array are made of: sums and moments of each channel, and maps that read its numbers.

An array is seen as [outer, channels, inner]: channels last, inner is 1.  Sums over all but the channels are taken in units, runs
of rows or images, each in the array's dtype, and the units' sums in float64, so that long sums lose little; how many threads
share the units does not change the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.native.ir import Function
from engine.native.sweep import GRAIN, Code, Piece, lanes_for, sweep, total
from engine.native.values import Value

_UNIT = 256  # rows that are summed up at a time where channels are last

Load = Callable[[Value], Value]
# What is summed for an element, or stored for it: given how to read an array there, and how to read its channel of a vector.
Terms = Callable[[list[Value], Load, Load], Sequence[Value]]


class Channels:
    """The phases that all these kernels are made of."""

    def __init__(self, name: str, dtype: Any, outer: int, channels: int, inner: int) -> None:
        self.outer, self.channels, self.inner = outer, channels, inner
        self.count = outer * inner
        self.code = Code(
            name, dtype, lanes_for(dtype, channels if inner == 1 else inner, 4 if inner == 1 else 2)
        )
        self.type = self.code.type
        self.units = -(-outer // _UNIT) if inner == 1 else outer

    def scratch(self, terms: int) -> int:
        """The bytes in which `sums` keeps what is not yet together."""
        return self.units * terms * self.channels * self.code.size

    def sums(
        self,
        args: Sequence[int],
        terms: int,
        each: Terms,
        partial: int,
        then: Sequence[int],
        finish: Callable[[Function, Value, list[Value], list[Value]], None],
    ) -> None:
        """Two phases.  The first adds up `terms` numbers for every element, which `each` computes from `args`, into the scratch
        buffer numbered `partial`.  In the second ``finish(f, channel, sums, pointers)`` is given the sums over each channel, in
        float64, and pointers to the arguments `then`.
        """
        if self.inner == 1:
            self._sums_of_rows(args, terms, each, partial)
        else:
            self._sums_of_runs(args, terms, each, partial)

        def combine(f: Function, channel: Value, pointers: list[Value]) -> None:
            parts, rest = pointers[0], pointers[1:]
            zero = f.constant("double", 0.0, 0)

            def add(unit: Value, held: list[Value]) -> list[Value]:
                found = []
                for k, so_far in enumerate(held):
                    index = (unit * terms + k) * self.channels + channel
                    found.append(so_far + self.wide(f, self.code.element(f, parts, index)))
                return found

            finish(f, channel, f.loop(0, self.units, 1, [zero] * terms, add), rest)

        self.code.phase(self.channels, (partial, *then), combine, max(1, GRAIN // max(self.units * terms, 1)))

    def _sums_of_rows(self, args: Sequence[int], terms: int, each: Terms, partial: int) -> None:
        def write(f: Function, unit: Value, pointers: list[Value]) -> None:
            arrays, parts = pointers[:-1], pointers[-1]
            first = unit * _UNIT
            stop = f.select(first + _UNIT < self.outer, first + _UNIT, f.constant("i64", self.outer, 0))

            def column(piece: Piece, held: list[Value]) -> list[Value]:
                def row(number: Value, sums: list[Value]) -> list[Value]:
                    def load(array: Value) -> Value:
                        return piece.load(self.code.row(f, array, number, self.channels))

                    return [a + b for a, b in zip(sums, each(arrays, load, piece.load))]

                zeros = [f.constant(self.type, 0.0)] * terms
                for k, found in enumerate(f.loop(first, stop, 1, zeros, row)):
                    piece.store(found, self.code.row(f, parts, unit * terms + k, self.channels))
                return held

            sweep(f, self.type, self.channels, [], column)

        grain = max(1, GRAIN // (_UNIT * self.channels))
        self.code.phase(self.units, (*args, partial), write, grain)

    def _sums_of_runs(self, args: Sequence[int], terms: int, each: Terms, partial: int) -> None:
        def write(f: Function, run: Value, pointers: list[Value]) -> None:
            arrays, parts = pointers[:-1], pointers[-1]
            image, channel = run.bits("udiv", self.channels), run.bits("urem", self.channels)
            per = self._spread(f, channel, arrays, each)

            def add(piece: Piece, held: list[Value]) -> list[Value]:
                found = each(arrays, lambda array: piece.load(self.code.row(f, array, run, self.inner)), per)
                if piece.count < f.lanes:
                    found = [f.select(piece.inside(), term, f.like(term, 0.0)) for term in found]
                return [a + b for a, b in zip(held, found)]

            zeros = [f.constant(self.type, 0.0)] * terms
            for k, lanes in enumerate(sweep(f, self.type, self.inner, zeros, add)):
                index = (image * terms + k) * self.channels + channel
                f.store(total(f, lanes), f.address(parts, index, self.type))

        self.code.phase(self.outer * self.channels, (*args, partial), write, max(1, GRAIN // self.inner))

    def moments(self, x: int, mean: int, variance: int, partial: int) -> None:
        """Two phases that put the mean and the variance (divided by n) of `x` over each channel into the arguments so numbered.

        The first takes the sum of a unit and, while it is in the cache, that of the squared distances from its own mean; the
        second puts them together: Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance" (1983).  The scratch
        buffer `partial` is for two terms.
        """
        self._moments_of_units(x, partial)

        def combine(f: Function, channel: Value, pointers: list[Value]) -> None:
            parts, center, spread = pointers

            def part(unit: Value, k: int) -> Value:
                return self.wide(f, self.code.element(f, parts, (unit * 2 + k) * self.channels + channel))

            zero = f.constant("double", 0.0, 0)
            (sum_,) = f.loop(0, self.units, 1, [zero], lambda unit, held: [held[0] + part(unit, 0)])
            whole = sum_ / float(self.count)

            def add(unit: Value, held: list[Value]) -> list[Value]:
                count = self._unit_size(f, unit, "double")
                apart = part(unit, 0) / count - whole
                return [held[0] + part(unit, 1) + count * apart * apart]

            (squares,) = f.loop(0, self.units, 1, [zero], add)
            self.put(f, whole, center, channel)
            self.put(f, squares / float(self.count), spread, channel)

        self.code.phase(self.channels, (partial, mean, variance), combine, max(1, GRAIN // (2 * self.units)))

    def _unit_size(self, f: Function, unit: Value, type: str) -> Value:
        """How many elements of a channel are in a unit."""
        if self.inner > 1:
            return f.constant(type, float(self.inner), 0)
        left = self.outer - unit * _UNIT
        return f.convert("sitofp", f.select(left < _UNIT, left, f.constant("i64", _UNIT, 0)), type)

    def _moments_of_units(self, x: int, partial: int) -> None:
        def rows(f: Function, unit: Value, pointers: list[Value]) -> None:
            array, parts = pointers
            first = unit * _UNIT
            stop = f.select(first + _UNIT < self.outer, first + _UNIT, f.constant("i64", self.outer, 0))
            count = f.spread(self._unit_size(f, unit, self.type))

            def column(piece: Piece, held: list[Value]) -> list[Value]:
                def over(term: Load) -> Value:
                    def row(number: Value, so_far: list[Value]) -> list[Value]:
                        return [so_far[0] + term(piece.load(self.code.row(f, array, number, self.channels)))]

                    return f.loop(first, stop, 1, [f.constant(self.type, 0.0)], row)[0]

                sum_ = over(lambda value: value)
                center = sum_ / count
                squares = over(lambda value: (value - center) * (value - center))
                for k, found in enumerate((sum_, squares)):
                    piece.store(found, self.code.row(f, parts, unit * 2 + k, self.channels))
                return held

            sweep(f, self.type, self.channels, [], column)

        def run(f: Function, number: Value, pointers: list[Value]) -> None:
            array, parts = pointers
            image, channel = number.bits("udiv", self.channels), number.bits("urem", self.channels)
            where = self.code.row(f, array, number, self.inner)

            def over(term: Load) -> Value:
                def add(piece: Piece, held: list[Value]) -> list[Value]:
                    found = term(piece.load(where))
                    if piece.count < f.lanes:
                        found = f.select(piece.inside(), found, f.like(found, 0.0))
                    return [held[0] + found]

                return total(f, sweep(f, self.type, self.inner, [f.constant(self.type, 0.0)], add)[0])

            sum_ = over(lambda value: value)
            center = f.spread(sum_ / float(self.inner))
            squares = over(lambda value: (value - center) * (value - center))
            for k, found in enumerate((sum_, squares)):
                index = (image * 2 + k) * self.channels + channel
                f.store(found, f.address(parts, index, self.type))

        if self.inner == 1:
            self.code.phase(self.units, (x, partial), rows, max(1, GRAIN // (_UNIT * self.channels)))
        else:
            self.code.phase(self.outer * self.channels, (x, partial), run, max(1, GRAIN // self.inner))

    def _spread(self, f: Function, channel: Value, arrays: list[Value], each: Terms) -> Load:
        """How to read what `each` wants of a channel's vectors, read here and now: before the loops that will ask for it."""
        held: dict[str, Value] = {}

        def read(vector: Value) -> Value:
            held[vector.text] = f.spread(self.code.element(f, vector, channel))
            return held[vector.text]

        each(arrays, lambda _: f.constant(self.type, 0.0), read)
        return lambda vector: held[vector.text]

    def map(self, args: Sequence[int], each: Terms) -> None:
        """A phase that stores for every element what `each` computes, in the last of `args`."""

        def row(f: Function, number: Value, pointers: list[Value]) -> None:
            def one(piece: Piece, held: list[Value]) -> list[Value]:
                def load(array: Value) -> Value:
                    return piece.load(self.code.row(f, array, number, self.channels))

                (value,) = each(pointers, load, piece.load)
                piece.store(value, self.code.row(f, pointers[-1], number, self.channels))
                return held

            sweep(f, self.type, self.channels, [], one)

        def run(f: Function, number: Value, pointers: list[Value]) -> None:
            per = self._spread(f, number.bits("urem", self.channels), pointers, each)

            def one(piece: Piece, held: list[Value]) -> list[Value]:
                def load(array: Value) -> Value:
                    return piece.load(self.code.row(f, array, number, self.inner))

                (value,) = each(pointers, load, per)
                piece.store(value, self.code.row(f, pointers[-1], number, self.inner))
                return held

            sweep(f, self.type, self.inner, [], one)

        if self.inner == 1:
            self.code.phase(self.outer, args, row, max(1, GRAIN // self.channels))
        else:
            self.code.phase(self.outer * self.channels, args, run, max(1, GRAIN // self.inner))

    # One channel's numbers.

    def wide(self, f: Function, value: Value) -> Value:
        return value if value.type == "double" else f.convert("fpext", value, "double")

    def narrow(self, f: Function, value: Value) -> Value:
        return value if value.type == self.type else f.convert("fptrunc", value, self.type)

    def put(self, f: Function, value: Value, vector: Value, channel: Value) -> None:
        f.store(self.narrow(f, value), f.address(vector, channel, self.type))
