"""What the activation functions are proven on: values away from their kinks, and references that take one number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.samples import Sample, Sampler, array, floats, random_array
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.types.dtypes import DType

_KINKS = (0.0, 6.0)


def away_from_kinks(lo: float = -8, hi: float = 8) -> Sampler:
    """Like `floats`, with no value near a kink of the ReLU family, where finite differences would lie."""
    plain = floats(lo, hi)

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None
        for sample in plain(rng, dtype):
            if dtype.is_floating and sample.grad is None:
                yield Sample(_pushed_away(sample.inputs[0], dtype))
            else:
                yield sample

    return sampler


def _pushed_away(values: Any, dtype: DType) -> Any:
    wide = np.asarray(values, np.float64)
    for kink in _KINKS:
        near = np.abs(wide - kink) < 0.125
        wide = np.where(near, kink + np.where(wide < kink, -0.25, 0.25), wide)
    return array(wide, dtype)


def gradient_pairs(lo: float = -8, hi: float = 8) -> Sampler:
    """A gradient and, of the same shape, a feature or an output away from the kinks."""

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None
        for shape in ((2, 3), (5,), (), (0, 3)):
            features = random_array(rng, dtype, shape, lo, hi)
            if dtype.is_floating:
                features = _pushed_away(features, dtype)
            yield Sample(random_array(rng, dtype, shape), features)
        if dtype.is_floating:
            special = array([0.0, -0.0, 6.0, np.inf, -np.inf, np.nan, 3.0], dtype)
            yield Sample(array([1, 2, 3, 4, 5, 6, np.inf], dtype), special, grad=(), note="special values")

    return sampler


def each(function: Callable[..., float]) -> Callable[..., Any]:
    """A reference from a function of Python floats, applied to one element at a time."""

    def reference(*inputs: Any, **attrs: Any) -> Any:
        wide = [np.asarray(each, np.float64) for each in inputs]
        flat = [
            function(*values, **attrs)
            for values in zip(*(each.ravel().tolist() for each in wide), strict=True)
        ]
        return np.array(flat, np.float64).reshape(wide[0].shape)

    return reference


def binary_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.inputs[0].shape.merge_with(node.inputs[1].shape)
    return shape
