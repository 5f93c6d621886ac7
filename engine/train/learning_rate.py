"""Learning rates that change with the global step, as tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.cast import cast
from engine.op.registry import raw
from engine.types import dtypes

__all__ = [
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "linear_cosine_decay",
    "natural_exp_decay",
    "piecewise_constant",
    "piecewise_constant_decay",
    "polynomial_decay",
]


def _require(global_step: Any, function: str) -> None:
    if global_step is None:
        raise ValueError(f"global_step is required for {function}.")


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """learning_rate · decay_rate ** (global_step / decay_steps), the exponent rounded down if `staircase`."""
    _require(global_step, "exponential_decay")
    with name_scope(name, "ExponentialDecay", [learning_rate, global_step, decay_steps, decay_rate]) as scope:
        initial = convert_to_tensor(learning_rate, name="initial_learning_rate")
        dtype = initial.dtype.base_dtype
        steps = cast(decay_steps, dtype)
        rate = cast(decay_rate, dtype)
        progress = cast(global_step, dtype) / steps
        if staircase:
            progress = raw.Floor(progress)
        return raw.Mul(initial, raw.Pow(rate, progress), name=scope)


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """learning_rate · exp(-decay_rate · global_step / decay_steps), the quotient rounded down if `staircase`."""
    _require(global_step, "natural_exp_decay")
    base = raw.Exp(raw.Neg(decay_rate))
    return exponential_decay(learning_rate, global_step, decay_steps, base, staircase, name)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """learning_rate / (1 + decay_rate · global_step / decay_steps), the quotient rounded down if `staircase`."""
    _require(global_step, "inverse_time_decay")
    with name_scope(name, "InverseTimeDecay", [learning_rate, global_step, decay_rate]) as scope:
        initial = convert_to_tensor(learning_rate, name="initial_learning_rate")
        dtype = initial.dtype.base_dtype
        steps = cast(decay_steps, dtype)
        rate = cast(decay_rate, dtype)
        progress = cast(global_step, dtype) / steps
        if staircase:
            progress = raw.Floor(progress)
        one = convert_to_tensor(1, dtype=dtype, name="Const")
        return raw.RealDiv(initial, raw.AddV2(one, raw.Mul(rate, progress), name="Add"), name=scope)


def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Any:
    """From learning_rate to end_learning_rate in `decay_steps`: (learning_rate - end) · (1 - step/decay_steps) ** power + end.

    After that it stays, or, if `cycle`, goes on with a multiple of decay_steps that is beyond the step.
    """
    _require(global_step, "polynomial_decay")
    with name_scope(
        name, "PolynomialDecay", [learning_rate, global_step, decay_steps, end_learning_rate, power]
    ) as scope:
        initial = convert_to_tensor(learning_rate, name="initial_learning_rate")
        dtype = initial.dtype.base_dtype
        end = cast(end_learning_rate, dtype)
        exponent = cast(power, dtype)
        step = cast(global_step, dtype)
        steps = cast(decay_steps, dtype)
        if cycle:
            zero = convert_to_tensor(0, dtype=step.dtype.base_dtype)
            one = convert_to_tensor(1.0, dtype=dtype)
            steps = raw.Mul(steps, raw.Select(raw.Equal(step, zero), one, raw.Ceil(step / steps)))
        else:
            step = raw.Minimum(step, steps)
        left = step / steps
        return raw.AddV2(raw.Mul(initial - end, raw.Pow(1 - left, exponent)), end, name=scope)


def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Any:
    """values[i] where boundaries[i-1] < x <= boundaries[i]; there is one more value than boundaries.

    x: a scalar, as the global step.  Raises ValueError for other numbers of values.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with name_scope(name, "PiecewiseConstant", [x, *boundaries, *values]) as scope:
        step = convert_to_tensor(x)
        dtype = step.dtype.base_dtype
        limits = raw.Pack([cast(limit, dtype) for limit in boundaries], axis=0, name="boundaries")
        rates = raw.Pack([convert_to_tensor(value) for value in values], axis=0, name="values")
        passed = raw.Sum(raw.Cast(raw.Greater(step, limits), DstT=dtypes.int32), [0])
        return raw.GatherV2(rates, passed, 0, name=scope)


piecewise_constant_decay = piecewise_constant


def _cosine(step: Any, steps: Any, periods: float = 1.0) -> Any:
    fraction = raw.Minimum(step, steps) / steps
    angle = convert_to_tensor(math.pi * periods, dtype=fraction.dtype.base_dtype, name="Const") * fraction
    return fraction, 0.5 * (1.0 + raw.Cos(angle))


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: Any = 0.0, name: str | None = None
) -> Any:
    """Half a cosine from learning_rate to alpha · learning_rate in `decay_steps`: Loshchilov and Hutter (2017)."""
    _require(global_step, "cosine_decay")
    with name_scope(name, "CosineDecay", [learning_rate, global_step]):
        initial = convert_to_tensor(learning_rate, name="initial_learning_rate")
        dtype = initial.dtype.base_dtype
        steps = cast(decay_steps, dtype)
        _, decayed = _cosine(cast(global_step, dtype), steps)
        return raw.Mul(initial, (1 - alpha) * decayed + alpha)


def linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    num_periods: float = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Any:
    """A straight line to 0 times a cosine of `num_periods`, plus beta: Bello et al. (2017)."""
    _require(global_step, "linear_cosine_decay")
    with name_scope(name, "LinearCosineDecay", [learning_rate, global_step]) as scope:
        initial = convert_to_tensor(learning_rate, name="initial_learning_rate")
        dtype = initial.dtype.base_dtype
        steps = cast(decay_steps, dtype)
        fraction, cosine = _cosine(cast(global_step, dtype), steps, 2.0 * num_periods)
        return raw.Mul(initial, (alpha + (1 - fraction)) * cosine + beta, name=scope)
