"""Dropout, built from other ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.random import random_uniform
from engine.op.registry import raw
from engine.op.shapes import constant_value
from engine.types.shape import TensorShape, as_shape

if TYPE_CHECKING:
    from engine.graph.tensor import Tensor

__all__ = ["dropout"]


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """Set elements of `x` to 0 at random and scale the others up so that the expected sum stays, as `tf.nn.dropout`.

    x: a floating tensor.  rate: the probability with which an element is dropped, in [0, 1): a number or a rank-0 tensor of
    x's dtype; or `keep_prob` = 1 - rate, the older spelling.  noise_shape: the shape of the random mask, which is broadcast to
    x (a 1 drops or keeps along that dimension as one); None: the shape of x.

    Raises ValueError if not exactly one of rate and keep_prob is given, if it is out of range, or if x is not floating.
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
    """
    if (rate is None) == (keep_prob is None):
        raise ValueError("dropout takes `rate` or `keep_prob` (= 1 - rate), exactly one of them")
    if rate is None:
        rate = _complement(keep_prob)
    with name_scope(name, "dropout", [x]):
        values = convert_to_tensor(x, name="x")
        dtype = values.dtype.base_dtype
        if not dtype.is_floating:
            raise ValueError(f"dropout scales its input, so x must be a floating tensor, not {dtype.name}")
        if isinstance(rate, int | float):
            if not 0 <= rate < 1:
                raise ValueError(f"`rate` must be in [0, 1), not {rate}")
            if rate == 0:
                return values
            scaled = raw.Mul(values, _const(1 / (1 - float(rate)), dtype))
            threshold: Any = float(rate)
        else:
            threshold = convert_to_tensor(rate, dtype=dtype, name="rate")
            threshold.shape.assert_has_rank(0)
            if constant_value(threshold) == 0:
                return values
            scaled = raw.RealDiv(values, raw.Sub(_const(1, dtype), threshold))
        noise = random_uniform(_noise_shape(values, noise_shape), seed=seed, dtype=dtype)
        result: Tensor = raw.SelectV2(raw.GreaterEqual(noise, threshold), scaled, _const(0.0, dtype))
        return result


def _complement(keep_prob: Any) -> Any:
    if isinstance(keep_prob, int | float):
        if not 0 < keep_prob <= 1:
            raise ValueError(f"`keep_prob` must be in (0, 1], not {keep_prob}")
    return 1 - keep_prob


def _const(value: float, dtype: Any) -> Any:
    return convert_to_tensor(value, dtype=dtype, name="Const")


def _noise_shape(x: Tensor, noise_shape: Any) -> Any:
    """The mask's shape: the user's, with x's own size where he wrote None."""
    if noise_shape is None:
        return raw.Shape(x)
    try:
        wanted = as_shape(noise_shape)
    except (TypeError, ValueError):
        return noise_shape  # a tensor
    dims, own = wanted.dims_or_none, x.shape.dims_or_none
    if dims is not None and own is not None and len(dims) == len(own):
        filled = tuple(size if mask is None else mask for mask, size in zip(dims, own, strict=True))
        return TensorShape.of(filled)
    return noise_shape
