"""Activation functions made of exponentials or quotients: ELU, SELU, softplus, softsign, and their gradient ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.op.activation_samples import away_from_kinks, binary_shape, each, gradient_pairs
from engine.op.elementwise import in_float32
from engine.op.registry import op, raw
from engine.op.samples import floats
from engine.op.shapes import unchanged

__all__ = ["elu", "selu", "softplus", "softsign"]

# Klambauer et al., "Self-Normalizing Neural Networks" (2017): the fixed point's scale, and scale times alpha.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_SCALE_ALPHA = 1.7580993408473768599402175208123

# ELU: Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units" (2015).  The gradient ops of ELU
# and SELU read the outputs, not the features.


def _elu_grad_of_grad(node: Any, g: Any) -> Any:
    gradients, outputs = node.inputs
    zeros = raw.ZerosLike(outputs)
    return raw.EluGrad(g, outputs), raw.Select(raw.Less(outputs, zeros), raw.Mul(g, gradients), zeros)


op(
    "Elu(features: T; T: floats) -> activations: T",
    # The exponential is taken of min(x, 0), so that a large x does not overflow in the branch that is not used.
    kernel=in_float32(lambda k, x: k.xp.where(x < 0, k.xp.expm1(k.xp.minimum(x, x.dtype.type(0))), x)),
    shape=unchanged,
    grad=lambda node, g: raw.EluGrad(g, node.outputs[0]),
    samples=away_from_kinks(),
    reference=each(lambda x: math.expm1(x) if x < 0 else x),
)

op(
    "EluGrad(gradients: T, outputs: T; T: floats) -> backprops: T",
    kernel=lambda k, g, y: k.xp.where(y < 0, g * (y + y.dtype.type(1)), g),
    shape=binary_shape,
    grad=_elu_grad_of_grad,
    samples=gradient_pairs(-1, 4),
    reference=each(lambda g, y: g * (y + 1) if y < 0 else g),
)


@in_float32
def _selu(k: Any, x: Any) -> Any:
    xp, of = k.xp, x.dtype.type
    return xp.where(x < 0, of(_SELU_SCALE_ALPHA) * xp.expm1(xp.minimum(x, of(0))), of(_SELU_SCALE) * x)


def _selu_grad(k: Any, g: Any, y: Any) -> Any:
    of = y.dtype.type
    return k.xp.where(y < 0, g * (y + of(_SELU_SCALE_ALPHA)), g * of(_SELU_SCALE))


def _selu_grad_of_grad(node: Any, g: Any) -> Any:
    gradients, outputs = node.inputs
    zeros = raw.ZerosLike(outputs)
    return raw.SeluGrad(g, outputs), raw.Select(raw.Less(outputs, zeros), raw.Mul(g, gradients), zeros)


op(
    "Selu(features: T; T: floats) -> activations: T",
    kernel=_selu,
    shape=unchanged,
    grad=lambda node, g: raw.SeluGrad(g, node.outputs[0]),
    samples=away_from_kinks(),
    reference=each(
        lambda x: 1.6732632423543772 * 1.0507009873554805 * math.expm1(x) if x < 0 else 1.0507009873554805 * x
    ),
)

op(
    "SeluGrad(gradients: T, outputs: T; T: floats) -> backprops: T",
    kernel=_selu_grad,
    shape=binary_shape,
    grad=_selu_grad_of_grad,
    samples=gradient_pairs(-1.5, 4),
    reference=each(lambda g, y: g * (y + 1.7580993408473766) if y < 0 else g * 1.0507009873554805),
)

# Softplus, log(1 + exp x): Dugas et al., "Incorporating Second-Order Functional Knowledge for Better Option Pricing" (2000).


@in_float32
def _softplus(k: Any, x: Any) -> Any:
    """TensorFlow's three pieces: where exp(x) is lost beside 1 the result is exp(x), where 1 is lost beside it, x."""
    xp, of = k.xp, x.dtype.type
    threshold = of(math.log(float(np.finfo(x.dtype).eps)) + 2.0)
    exp = xp.exp(xp.minimum(x, -threshold))
    return xp.where(x > -threshold, x, xp.where(x < threshold, exp, xp.log1p(exp)))


def _softplus_gradient(node: Any, g: Any) -> Any:
    return g * raw.Sigmoid(node.inputs[0])


def _softplus_grad_of_grad(node: Any, g: Any) -> Any:
    dy, x = node.inputs
    wide = raw.Exp(raw.Neg(x)) + 2.0 + raw.Exp(x)
    return raw.SoftplusGrad(g, x), raw.RealDiv(raw.Mul(g, dy), wide)


op(
    "Softplus(features: T; T: floats) -> activations: T",
    kernel=_softplus,
    shape=unchanged,
    grad=_softplus_gradient,
    samples=floats(-20, 20),
    reference=each(lambda x: x if x != x else max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
)

op(
    "SoftplusGrad(gradients: T, features: T; T: floats) -> backprops: T",
    kernel=in_float32(lambda k, g, x: g / (k.xp.exp(-x) + x.dtype.type(1))),
    shape=binary_shape,
    grad=_softplus_grad_of_grad,
    samples=gradient_pairs(),
    reference=each(lambda g, x: g / (1 + (math.inf if x < -700 else math.exp(-x)))),
)


@in_float32
def _softsign_grad(k: Any, g: Any, x: Any) -> Any:
    scale = k.xp.abs(x) + x.dtype.type(1)
    return g / (scale * scale)


def _softsign_of(x: float) -> float:
    if math.isinf(x):
        return math.nan  # infinity over infinity, as in TensorFlow
    return math.copysign(1 - 1 / (1 + abs(x)), x)


def _softsign_grad_of_grad(node: Any, g: Any) -> Any:
    dy, x = node.inputs
    scale = raw.Abs(x) + 1.0
    return raw.SoftsignGrad(g, x), raw.RealDiv(raw.Mul(g, dy) * -2.0 * raw.Sign(x), scale * scale * scale)


op(
    "Softsign(features: T; T: floats) -> activations: T",
    kernel=in_float32(lambda k, x: x / (k.xp.abs(x) + x.dtype.type(1))),
    shape=unchanged,
    grad=lambda node, g: raw.SoftsignGrad(g, node.inputs[0]),
    samples=away_from_kinks(),
    reference=each(_softsign_of),
)

op(
    "SoftsignGrad(gradients: T, features: T; T: floats) -> backprops: T",
    kernel=_softsign_grad,
    shape=binary_shape,
    grad=_softsign_grad_of_grad,
    samples=gradient_pairs(),
    reference=each(lambda g, x: g * (1 + abs(x)) ** -2.0),
)


# Public functions.


def elu(features: Any, name: str | None = None) -> Any:
    """exp(features) - 1 where negative, else `features`, as `tf.nn.elu`; floating dtypes."""
    return raw.Elu(features, name=name)


def selu(features: Any, name: str | None = None) -> Any:
    """ELU scaled so that activations keep mean 0 and variance 1, as `tf.nn.selu`; floating dtypes."""
    return raw.Selu(features, name=name)


def softplus(features: Any, name: str | None = None) -> Any:
    """log(1 + exp(features)), elementwise, as `tf.nn.softplus`; floating dtypes."""
    return raw.Softplus(features, name=name)


def softsign(features: Any, name: str | None = None) -> Any:
    """features / (1 + |features|), elementwise, as `tf.nn.softsign`; floating dtypes."""
    return raw.Softsign(features, name=name)
