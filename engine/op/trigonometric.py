"""Trigonometric and hyperbolic functions, the sigmoid, and the gradient ops of tanh and sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.const import constant
from engine.op.elementwise import FLOATS, INEXACT, after_gradient, conjugate, in_float32, unary
from engine.op.output_gradients import output_gradient
from engine.op.registry import op, raw
from engine.op.samples import floats, pairs
from engine.op.shapes import broadcast

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "sigmoid", "sin", "sinh", "tan", "tanh",
]  # fmt: skip

sin = unary(
    "Sin",
    INEXACT,
    ufunc="sin",
    grad=after_gradient(lambda op, g: g * raw.Cos(conjugate(op.inputs[0]))),
    samples=floats(-3, 3),
)

cos = unary(
    "Cos",
    INEXACT,
    ufunc="cos",
    grad=after_gradient(lambda op, g: -g * raw.Sin(conjugate(op.inputs[0]))),
    samples=floats(-3, 3),
)

tan = unary(
    "Tan",
    INEXACT,
    ufunc="tan",
    grad=after_gradient(lambda op, g: raw.Square(raw.Reciprocal(raw.Cos(conjugate(op.inputs[0])))) * g),
    samples=floats(-1.3, 1.3),
)


def _one_and_square(op: Any) -> tuple[Any, Any]:
    x = conjugate(op.inputs[0])
    squared = raw.Square(x)
    return constant(1.0, x.dtype), squared


def _asin_derivative(op: Any) -> Any:
    return raw.Reciprocal(raw.Sqrt(raw.Sub(*_one_and_square(op))))


@after_gradient
def _acos_grad(op: Any, g: Any) -> Any:
    derivative = _asin_derivative(op)
    return -g * derivative


asin = unary(
    "Asin",
    INEXACT,
    ufunc="arcsin",
    grad=after_gradient(lambda op, g: g * _asin_derivative(op)),
    samples=floats(-0.9, 0.9),
)

acos = unary(
    "Acos",
    INEXACT,
    ufunc="arccos",
    grad=_acos_grad,
    samples=floats(-0.9, 0.9),
)

atan = unary(
    "Atan",
    INEXACT,
    ufunc="arctan",
    grad=after_gradient(lambda op, g: g * raw.Reciprocal(raw.AddV2(*_one_and_square(op), name="Add"))),
    samples=floats(-0.9, 0.9),
)

sinh = unary(
    "Sinh",
    INEXACT,
    ufunc="sinh",
    grad=after_gradient(lambda op, g: g * raw.Cosh(conjugate(op.inputs[0]))),
    samples=floats(-3, 3),
)

cosh = unary(
    "Cosh",
    INEXACT,
    ufunc="cosh",
    grad=after_gradient(lambda op, g: g * raw.Sinh(conjugate(op.inputs[0]))),
    samples=floats(-3, 3),
)

asinh = unary(
    "Asinh",
    INEXACT,
    ufunc="arcsinh",
    grad=after_gradient(lambda op, g: g / raw.Cosh(conjugate(op.outputs[0]))),
    samples=floats(-3, 3),
)

acosh = unary(
    "Acosh",
    INEXACT,
    ufunc="arccosh",
    grad=after_gradient(lambda op, g: g / raw.Sinh(conjugate(op.outputs[0]))),
    samples=floats(1.2, 5),
)

atanh = unary(
    "Atanh",
    INEXACT,
    ufunc="arctanh",
    grad=after_gradient(lambda op, g: g * raw.Reciprocal(raw.Sub(*_one_and_square(op)))),
    samples=floats(-0.9, 0.9),
)

tanh = unary(
    "Tanh",
    INEXACT,
    ufunc="tanh",
    grad=after_gradient(lambda op, g: raw.TanhGrad(conjugate(op.outputs[0]), g)),
    samples=floats(-3, 3),
)


@in_float32
def _sigmoid(k: Any, x: Any) -> Any:
    one = x.dtype.type(1)
    return one / (one + k.xp.exp(-x))


sigmoid = unary(
    "Sigmoid",
    INEXACT,
    kernel=_sigmoid,
    grad=after_gradient(lambda op, g: raw.SigmoidGrad(conjugate(op.outputs[0]), g)),
    samples=floats(-3, 3),
    reference=lambda x: 0.5 + 0.5 * np.tanh(x / 2),
)


# TanhGrad and SigmoidGrad are the two gradient ops that take y as it comes: their callers conjugate it.


def _tanh_grad(k: Any, y: Any, dy: Any) -> Any:
    return dy * (y.dtype.type(1) - y * y)


@after_gradient
def _tanh_grad_grad(op: Any, g: Any) -> Any:
    y, dy = conjugate(op.inputs[0]), conjugate(op.inputs[1])
    return g * -2.0 * dy * y, raw.TanhGrad(y, g)


output_gradient("TanhGrad", _tanh_grad, grad=_tanh_grad_grad, reference=lambda y, dy: dy * (1 - y**2))


def _sigmoid_grad(k: Any, y: Any, dy: Any) -> Any:
    return dy * y * (y.dtype.type(1) - y)


@after_gradient
def _sigmoid_grad_grad(op: Any, g: Any) -> Any:
    y, dy = conjugate(op.inputs[0]), conjugate(op.inputs[1])
    slope = g * dy
    return slope - 2.0 * slope * y, raw.SigmoidGrad(y, g)


output_gradient(
    "SigmoidGrad", _sigmoid_grad, grad=_sigmoid_grad_grad, reference=lambda y, dy: dy * (y - y**2)
)


@after_gradient
def _atan2_grad(op: Any, g: Any) -> Any:
    from engine.op.broadcasting import unbroadcast

    y, x = op.inputs
    scaled = g / (raw.Square(y) + raw.Square(x))
    return unbroadcast(op, x * scaled, -y * scaled)


atan2 = op(
    f"Atan2(y: T, x: T; T: {FLOATS}) -> z: T",
    ufunc="arctan2",
    shape=broadcast,
    grad=_atan2_grad,
    samples=pairs(-3, 3, nonzero=True),
)
