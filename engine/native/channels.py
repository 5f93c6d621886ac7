"""Kernels over the channels of an array: sums, moments, and batch normalization, for channels last or in between.

Batch normalization is that of `engine.op.batchnorm`; `engine.native.channel_code` says how sums are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.native.channel_code import Channels, Load
from engine.native.ir import Function
from engine.native.kernel import NativeKernel
from engine.native.sweep import GRAIN, Code, Piece, lanes_for, type_of
from engine.native.values import Value

_ULPS = 8.0  # of what is not a difference that cancels, against NumPy's sums in other orders


def seen(shape: Sequence[int], data_format: str) -> tuple[int, int, int]:
    """outer, channels and inner of an array in NHWC, NDHWC, NCHW or NCDHW."""
    axis = len(shape) - 1 if data_format.endswith("C") else 1
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


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
    k = Channels("channel_sums", dtype, outer, channels, inner)
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
    k = Channels("moments", dtype, outer, channels, inner)
    k.moments(0, 1, 2, 3)
    return k.code.kernel(1, 2, scratch=[k.scratch(2)], ulps=_ULPS)


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
    k = Channels("batch_norm", dtype, outer, channels, inner)
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
        k.moments(x, mean, variance, partial)
    vectors = (offset, scale, offset, old_mean, old_variance, kept_mean, kept_variance, mean, variance, gain)
    k.code.phase(channels, vectors, prepare, GRAIN)
    k.map((x, mean, gain, offset, y), normalize)
    scratch = [channels * k.code.size, k.scratch(2) if training else 0]
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
    k = Channels("batch_norm_gradient", dtype, outer, channels, inner)
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
