"""Bits of integers: and, or, exclusive or, not, shifts."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.binary import binary
from engine.op.elementwise import unary
from engine.op.registry import Kernel, NotDifferentiable
from engine.op.samples import Sample, floats, pairs

__all__ = ["bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"]


bitwise_and = binary(
    "BitwiseAnd", "ints", ufunc="bitwise_and", grad=NotDifferentiable, samples=pairs(-99, 99)
)
bitwise_or = binary("BitwiseOr", "ints", ufunc="bitwise_or", grad=NotDifferentiable, samples=pairs(-99, 99))
bitwise_xor = binary(
    "BitwiseXor", "ints", ufunc="bitwise_xor", grad=NotDifferentiable, samples=pairs(-99, 99)
)
invert = unary("Invert", "ints", ufunc="invert", grad=NotDifferentiable, samples=floats(-99, 99))


def _shift(ufunc: str) -> Kernel:
    def kernel(k: Any, x: Any, y: Any) -> Any:
        # C leaves a shift by a negative count or the whole width undefined; TensorFlow moves the count into the range.
        count = k.xp.clip(y, 0, 8 * y.dtype.itemsize - 1)
        return getattr(k.xp, ufunc)(x, count)

    return kernel


def _shift_samples(rng: np.random.Generator, dtype: Any) -> Any:
    yield from pairs(0, 7)(rng, dtype)
    x = np.array([1, 2, 100, 5], dtype.np_dtype)
    yield Sample(x, np.array([100, 0, 64, 3], dtype.np_dtype), note="counts beyond the width")


left_shift = binary(
    "LeftShift", "ints", kernel=_shift("left_shift"), grad=NotDifferentiable, samples=_shift_samples
)
right_shift = binary(
    "RightShift", "ints", kernel=_shift("right_shift"), grad=NotDifferentiable, samples=_shift_samples
)
