"""Kernels over the channels of an array: sums, moments, and batch normalization, for channels last or in between.

An array is seen as [outer, channels, inner]: channels last, inner is 1.  Sums over all but the channels are taken in units, runs
of rows or images, each in the array's dtype, and the units' sums in float64, so that long sums lose little; how many threads
share the units does not change the result.  Batch normalization is that of `engine.op.batchnorm`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.native.ir import Function
from engine.native.kernel import NativeKernel
from engine.native.sweep import GRAIN, Code, Piece, lanes_for, sweep, total, type_of
from engine.native.values import Value

_UNIT = 256  # rows that are summed up at a time where channels are last
_ULPS = 8.0  # of what is not a difference that cancels, against NumPy's sums in other orders

Load = Callable[[Value], Value]
# What is summed for an element, or stored for it: given how to read an array there, and how to read its channel of a vector.
Terms = Callable[[list[Value], Load, Load], Sequence[Value]]


def seen(shape: Sequence[int], data_format: str) -> tuple[int, int, int]:
    """outer, channels and inner of an array in NHWC, NDHWC, NCHW or NCDHW."""
    axis = len(shape) - 1 if data_format.endswith("C") else 1
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


class _Channels:
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


def column_sums(rows: int, columns: int, dtype: Any, *, mean: bool = False) -> NativeKernel | None:
    """The sum (or mean) over the rows of a matrix.  Inputs: [rows, columns]; outputs: [columns].  The bits are NumPy's.

    Each column is added up from its first row to its last; a thread takes columns.  None for dtypes other than float32 and
    float64, and for no rows.
    """
    type = type_of(dtype)
    if type is None or not rows:
        return None
    code = Code("column_sums", dtype, lanes_for(dtype, columns, 4))
    blocks = -(-columns // code.lanes)

    def write(f: Function, block: Value, pointers: list[Value]) -> None:
        x, out = pointers

        def add(piece: Piece) -> None:
            def row(number: Value, held: list[Value]) -> list[Value]:
                return [held[0] + piece.load(code.row(f, x, number, columns))]

            (found,) = f.loop(1, rows, 1, [piece.load(x)], row)
            piece.store(found / float(rows) if mean else found, out)

        rest = columns % code.lanes
        if not rest:
            add(Piece(f, type, block * code.lanes, code.lanes))
            return
        last = f.constant("i64", blocks - 1, 0)
        if blocks > 1:
            f.when(block < last, lambda: add(Piece(f, type, block * code.lanes, code.lanes)))
        f.when(block.equals(last), lambda: add(Piece(f, type, last * code.lanes, rest)))

    code.phase(blocks, (0, 1), write, max(1, GRAIN // (rows * code.lanes)))
    return code.kernel(1, 1)


def channel_sums(shape: Sequence[int], dtype: Any, data_format: str = "NHWC") -> NativeKernel | None:
    """The sum over all dimensions but the channels: what BiasAddGrad is.  Inputs: an array of `shape`; outputs: [channels]."""
    outer, channels, inner = seen(shape, data_format)
    if type_of(dtype) is None or not outer * channels * inner:
        return None
    if inner == 1:
        return column_sums(outer, channels, dtype)
    k = _Channels("channel_sums", dtype, outer, channels, inner)
    k.sums(
        (0,),
        1,
        lambda arrays, load, per: [load(arrays[0])],
        2,
        (1,),
        lambda f, channel, sums, out: k.put(f, sums[0], out[0], channel),
    )
    return k.code.kernel(1, 1, scratch=[k.scratch(1)], ulps=_ULPS)


def moments(shape: Sequence[int], dtype: Any, data_format: str = "NHWC") -> NativeKernel | None:
    """Mean and variance (divided by n) over all dimensions but the channels.  Outputs: mean and variance, [channels] each."""
    outer, channels, inner = seen(shape, data_format)
    if type_of(dtype) is None or not outer * channels * inner:
        return None
    k = _Channels("moments", dtype, outer, channels, inner)
    _add_moments(k, 0, 1, 2, 3)
    return k.code.kernel(1, 2, scratch=[k.scratch(1)], ulps=_ULPS)


def _add_moments(k: _Channels, x: int, mean: int, variance: int, partial: int) -> None:
    """The phases that put the mean and the variance of `x` into the arguments so numbered."""

    def put(f: Function, channel: Value, sums: list[Value], out: list[Value]) -> None:
        k.put(f, sums[0] / float(k.count), out[0], channel)

    def square(arrays: list[Value], load: Load, per: Load) -> list[Value]:
        centered = load(arrays[0]) - per(arrays[1])
        return [centered * centered]

    k.sums((x,), 1, lambda arrays, load, per: [load(arrays[0])], partial, (mean,), put)
    k.sums((x, mean), 1, square, partial, (variance,), put)


def batch_norm(
    shape: Sequence[int],
    epsilon: float,
    *,
    training: bool = True,
    factor: float = 1.0,
    data_format: str = "NHWC",
    dtype: Any = np.float32,
) -> NativeKernel | None:
    """FusedBatchNorm.  Inputs: x of `shape`, scale, offset, mean, variance, [channels] each; outputs: y, the moving mean and
    variance, and the mean and variance that y was made with.

    epsilon, training (is_training), factor (exponential_avg_factor): the op's attrs.  `mean` and `variance` are read unless it is
    training with factor 1.  y may be written over x.  None for dtypes other than float32 and float64 and for no elements.
    """
    outer, channels, inner = seen(shape, data_format)
    type = type_of(dtype)
    if type is None or not outer * channels * inner:
        return None
    of = np.dtype(dtype).type
    k = _Channels("batch_norm", dtype, outer, channels, inner)
    x, scale, offset, old_mean, old_variance, y, kept_mean, kept_variance, mean, variance, gain, partial = (
        range(12)
    )

    def prepare(f: Function, channel: Value, pointers: list[Value]) -> None:
        """Everything of a channel that follows from its statistics."""
        at = [k.code.element(f, each, channel) for each in pointers[:3]]
        if training:
            used_mean, used_variance = (k.code.element(f, each, channel) for each in pointers[7:9])
            new_mean, new_variance = used_mean, used_variance * float(of(k.count / max(k.count - 1, 1)))
            if factor != 1.0:
                new, old = float(of(factor)), float(of(1.0 - factor))
                before = [k.code.element(f, each, channel) for each in pointers[3:5]]
                new_mean = old * before[0] + new * new_mean
                new_variance = old * before[1] + new * new_variance
        else:
            used_mean, used_variance = (k.code.element(f, each, channel) for each in pointers[3:5])
            new_mean, new_variance = used_mean, used_variance
            k.put(f, used_mean, pointers[7], channel)
            k.put(f, used_variance, pointers[8], channel)
        k.put(f, new_mean, pointers[5], channel)
        k.put(f, new_variance, pointers[6], channel)
        k.put(f, at[1] / f.sqrt(used_variance + float(of(epsilon))), pointers[9], channel)

    def normalize(arrays: list[Value], load: Load, per: Load) -> list[Value]:
        return [(load(arrays[0]) - per(arrays[1])) * per(arrays[2]) + per(arrays[3])]

    if training:
        _add_moments(k, x, mean, variance, partial)
    vectors = (offset, scale, offset, old_mean, old_variance, kept_mean, kept_variance, mean, variance, gain)
    k.code.phase(channels, vectors, prepare, GRAIN)
    k.map((x, mean, gain, offset, y), normalize)
    scratch = [channels * k.code.size, k.scratch(1) if training else 0]
    return k.code.kernel(5, 5, scratch=scratch, overwrites={0: (0,)}, ulps=_ULPS)


def batch_norm_gradient(
    shape: Sequence[int],
    epsilon: float,
    *,
    training: bool = True,
    data_format: str = "NHWC",
    dtype: Any = np.float32,
) -> NativeKernel | None:
    """FusedBatchNormGrad.  Inputs: the gradient of y and x, both of `shape`, scale, and the mean and variance that y was made
    with, [channels] each; outputs: the gradients of x, scale and offset (the op's two empty outputs are left out).

    The gradient of x may be written over that of y, or over x.  None as for `batch_norm`.
    """
    outer, channels, inner = seen(shape, data_format)
    type = type_of(dtype)
    if type is None or not outer * channels * inner:
        return None
    of = np.dtype(dtype).type
    k = _Channels("batch_norm_gradient", dtype, outer, channels, inner)
    g, x, scale, mean, variance, to_x, to_scale, to_offset, gain, shift, along, partial = range(12)

    def terms(arrays: list[Value], load: Load, per: Load) -> list[Value]:
        slope = load(arrays[0])
        return [slope, slope * (load(arrays[1]) - per(arrays[2]))]

    def finish(f: Function, channel: Value, sums: list[Value], pointers: list[Value]) -> None:
        factor, spread = (k.code.element(f, each, channel) for each in pointers[:2])
        inverse = 1.0 / f.sqrt(spread + float(of(epsilon)))
        whole, projected = (k.narrow(f, each) for each in sums)
        k.put(f, projected * inverse, pointers[2], channel)
        k.put(f, whole, pointers[3], channel)
        k.put(f, factor * inverse, pointers[4], channel)
        k.put(f, whole / float(k.count), pointers[5], channel)
        k.put(f, projected * inverse * inverse / float(k.count), pointers[6], channel)

    def back(arrays: list[Value], load: Load, per: Load) -> list[Value]:
        if not training:
            return [per(arrays[3]) * load(arrays[0])]
        centered = load(arrays[1]) - per(arrays[2])
        return [per(arrays[3]) * (load(arrays[0]) - per(arrays[4]) - centered * per(arrays[5]))]

    k.sums(
        (g, x, mean), 2, terms, partial, (scale, variance, to_scale, to_offset, gain, shift, along), finish
    )
    k.map((g, x, mean, gain, shift, along, to_x), back)
    vector = channels * k.code.size
    scratch = [vector, vector, vector, k.scratch(2)]
    return k.code.kernel(5, 3, scratch=scratch, overwrites={0: (0, 1)}, ulps=_ULPS)
