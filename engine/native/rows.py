"""Kernels that work on each row of a matrix by itself: softmax, its logarithm and their gradients, cross entropies.

The definitions are the ops' (`engine.op.softmax`, `engine.op.cross_entropy`).  Exponentials are taken of what a row's maximum
is subtracted from; sums are taken in vector lanes and then over the lanes, so that they differ from NumPy's by units in the last
place.  All functions give None for a dtype that is not float32 or float64, and where there is no native code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.native import vector_math
from engine.native.ir import Function
from engine.native.kernel import NativeKernel
from engine.native.sweep import GRAIN, Code, Piece, lanes_for, sweep, total, type_of
from engine.native.values import Value

# Against the NumPy kernels, whose exponential is up to 2.5 units off itself; of a loss, relative to the row's largest term.
_ULPS = 8.0


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1]


def _code(name: str, dtype: Any, width: int) -> Code:
    return Code(name, dtype, lanes_for(dtype, width))


def _grain(width: int) -> int:
    return max(1, GRAIN // max(width, 1))


def _largest(f: Function, type: str, width: int, row: Value) -> Value:
    """The largest element of a row, in every lane.  NaN is passed over: what is done with it next is NaN for it all the same."""

    def body(piece: Piece, held: list[Value]) -> list[Value]:
        x = piece.load(row, -math.inf)
        return [f.select(x > held[0], x, held[0])]

    (lanes,) = sweep(f, type, width, [f.constant(type, -math.inf)], body)
    return f.spread(f.fold(lanes, lambda a, b: f.select(a > b, a, b)))


def _exponentials(
    f: Function, type: str, width: int, row: Value, top: Value, into: Value | None = None
) -> Value:
    """The sum of exp(row - top); the terms are kept in `into`."""

    def body(piece: Piece, held: list[Value]) -> list[Value]:
        exp = vector_math.apply(f, "exp", piece.load(row, -math.inf) - top)
        if into is not None:
            piece.store(exp, into)
        return [held[0] + exp]

    (lanes,) = sweep(f, type, width, [f.constant(type, 0.0)], body)
    return total(f, lanes)


def softmax(shape: Sequence[int], dtype: Any) -> NativeKernel | None:
    """exp(x) / sum(exp(x)) along the last dimension.  Inputs: x of `shape` (rank 1 or more); outputs: the same shape."""
    type = type_of(dtype)
    if type is None or not shape:
        return None
    rows, width = _matrix(shape)
    code = _code("softmax", dtype, width)

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        x, out = (code.row(f, each, number, width) for each in pointers)
        top = _largest(f, type, width, x)
        divisor = f.spread(_exponentials(f, type, width, x, top, out))

        def divide(piece: Piece, held: list[Value]) -> list[Value]:
            piece.store(piece.load(out) / divisor, out)
            return held

        sweep(f, type, width, [], divide)

    code.phase(rows if width else 0, (0, 1), write, _grain(width))
    return code.kernel(1, 1, overwrites={0: (0,)}, ulps=_ULPS)


def log_softmax(shape: Sequence[int], dtype: Any) -> NativeKernel | None:
    """x - log(sum(exp(x))) along the last dimension.  Inputs: x of `shape` (rank 1 or more); outputs: the same shape."""
    type = type_of(dtype)
    if type is None or not shape:
        return None
    rows, width = _matrix(shape)
    code = _code("log_softmax", dtype, width)

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        x, out = (code.row(f, each, number, width) for each in pointers)
        top = _largest(f, type, width, x)
        log = f.spread(vector_math.apply(f, "log", _exponentials(f, type, width, x, top)))

        def subtract(piece: Piece, held: list[Value]) -> list[Value]:
            piece.store(piece.load(x) - top - log, out)
            return held

        sweep(f, type, width, [], subtract)

    code.phase(rows if width else 0, (0, 1), write, _grain(width))
    return code.kernel(1, 1, overwrites={0: (0,)}, ulps=_ULPS)


def softmax_gradient(shape: Sequence[int], dtype: Any, *, logarithm: bool = False) -> NativeKernel | None:
    """The gradient of softmax, (g - sum(g·y))·y, or of its logarithm, g - sum(g)·exp(y).

    Inputs: the output y and its gradient g, both of `shape`; outputs: the same shape.
    """
    type = type_of(dtype)
    if type is None or not shape:
        return None
    rows, width = _matrix(shape)
    code = _code("softmax_gradient", dtype, width)

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        y, g, out = (code.row(f, each, number, width) for each in pointers)

        def add(piece: Piece, held: list[Value]) -> list[Value]:
            term = piece.load(g)
            return [held[0] + (term if logarithm else term * piece.load(y))]

        (lanes,) = sweep(f, type, width, [f.constant(type, 0.0)], add)
        inner = f.spread(total(f, lanes))

        def finish(piece: Piece, held: list[Value]) -> list[Value]:
            if logarithm:
                piece.store(piece.load(g) - inner * vector_math.apply(f, "exp", piece.load(y)), out)
            else:
                piece.store((piece.load(g) - inner) * piece.load(y), out)
            return held

        sweep(f, type, width, [], finish)

    code.phase(rows if width else 0, (0, 1, 2), write, _grain(width))
    return code.kernel(2, 1, overwrites={0: (0, 1)}, ulps=_ULPS)


def cross_entropy(rows: int, classes: int, dtype: Any) -> NativeKernel | None:
    """SoftmaxCrossEntropyWithLogits.  Inputs: logits and labels, [rows, classes]; outputs: loss [rows], backprop [rows, classes].

    loss = sum(labels·(log(sum(exp(shifted))) - shifted)) with shifted = logits - their maximum; backprop = softmax - labels.
    """
    type = type_of(dtype)
    if type is None or not classes:
        return None
    code = _code("cross_entropy", dtype, classes)

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        logits, labels, loss, out = pointers
        x, target, back = (code.row(f, each, number, classes) for each in (logits, labels, out))
        top = _largest(f, type, classes, x)
        sum_ = _exponentials(f, type, classes, x, top, back)
        log, divisor = f.spread(vector_math.apply(f, "log", sum_)), f.spread(sum_)

        def finish(piece: Piece, held: list[Value]) -> list[Value]:
            wanted = piece.load(target)
            term = wanted * (log - (piece.load(x) - top))
            if piece.count < f.lanes:  # beyond the row's end an infinite maximum would give NaN
                term = f.select(piece.inside(), term, f.constant(type, 0.0))
            piece.store(piece.load(back) / divisor - wanted, back)
            return [held[0] + term]

        (lanes,) = sweep(f, type, classes, [f.constant(type, 0.0)], finish)
        f.store(total(f, lanes), f.address(loss, number, type))

    code.phase(rows, (0, 1, 2, 3), write, _grain(classes))
    return code.kernel(2, 2, ulps=_ULPS)


def sparse_cross_entropy(
    rows: int, classes: int, dtype: Any, label_dtype: Any = np.int64
) -> NativeKernel | None:
    """SparseSoftmaxCrossEntropyWithLogits.  Inputs: logits [rows, classes] and labels [rows], int32 or int64.

    Outputs: loss [rows], backprop [rows, classes], and `wrong`, one int64: 0, or the number of the first row, counted from 1,
    whose label is no class.  Where it is not 0 the op's error has to be raised; the other outputs mean nothing then.
    """
    type = type_of(dtype)
    label = {np.dtype(np.int32): "i32", np.dtype(np.int64): "i64"}.get(np.dtype(label_dtype))
    if type is None or label is None or not classes:
        return None
    code = _code("sparse_cross_entropy", dtype, classes)

    def check(f: Function, _: Value, pointers: list[Value]) -> None:
        labels, wrong = pointers

        def one(i: Value, held: list[Value]) -> list[Value]:
            found = f.load(f.address(labels, i, label), label, 0)
            bad = found.compare(">=", classes, unsigned=True)
            return [f.select(bad & held[0].equals(0), i + 1, held[0])]

        (first,) = f.loop(0, rows, 1, [f.constant("i64", 0, 0)], one)
        f.store(first, wrong)

    def write(f: Function, number: Value, pointers: list[Value]) -> None:
        logits, labels, loss, out = pointers
        x, back = code.row(f, logits, number, classes), code.row(f, out, number, classes)
        top = _largest(f, type, classes, x)
        sum_ = _exponentials(f, type, classes, x, top, back)
        divisor = f.spread(sum_)

        def divide(piece: Piece, held: list[Value]) -> list[Value]:
            piece.store(piece.load(back) / divisor, back)
            return held

        found = f.load(f.address(labels, number, label), label, 0)
        known = f.select(found.compare("<", classes, unsigned=True), found, f.constant(label, 0, 0))
        place = known if label == "i64" else f.convert("sext", known, "i64")
        logit = code.element(f, x, place)
        shifted = logit - f.lane(top, 0)
        f.store(vector_math.apply(f, "log", sum_) - shifted, f.address(loss, number, type))
        sweep(f, type, classes, [], divide)
        there = f.address(back, place, type)
        f.store(f.load(there, type, 0) - 1.0, there)

    code.phase(1, (1, 4), check)
    code.phase(rows, (0, 1, 2, 3), write, _grain(classes))
    return code.kernel(2, 3, ulps=_ULPS)
