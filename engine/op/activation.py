"""Activation functions and their gradient ops: the ReLU family, softplus and softsign.

The formulas, also of the gradient ops, are TensorFlow's, so that infinities, NaN and the points where a function has a kink come
out as they do there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.elementwise import in_float32
from engine.op.registry import op, raw
from engine.op.samples import Sample, Sampler, array, floats, random_array
from engine.op.shapes import unchanged
from engine.types import dtypes
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.tensor import Tensor
    from engine.types.dtypes import DType

__all__ = [
    "crelu",
    "elu",
    "leaky_relu",
    "relu",
    "relu6",
    "selu",
    "softplus",
    "softsign",
    "swish",
]

# Klambauer et al., "Self-Normalizing Neural Networks" (2017): the fixed point's scale, and scale times alpha.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_SCALE_ALPHA = 1.7580993408473768599402175208123

_KINKS = (0.0, 6.0)


def _away_from_kinks(lo: float = -8, hi: float = 8) -> Sampler:
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


def _gradient_pairs(lo: float = -8, hi: float = 8) -> Sampler:
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


def _each(function: Callable[..., float]) -> Callable[..., Any]:
    """A reference from a function of Python floats, applied to one element at a time."""

    def reference(*inputs: Any, **attrs: Any) -> Any:
        wide = [np.asarray(each, np.float64) for each in inputs]
        flat = [function(*values, **attrs) for values in zip(*(each.ravel().tolist() for each in wide), strict=True)]
        return np.array(flat, np.float64).reshape(wide[0].shape)

    return reference


def _binary_shape(node: Any) -> TensorShape:
    shape: TensorShape = node.inputs[0].shape.merge_with(node.inputs[1].shape)
    return shape


def _expm1(x: float) -> float:
    return math.inf if x > 700 else math.expm1(x)


# ReLU: Nair and Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines" (2010).


def _relu_grad_of_grad(node: Any, g: Any) -> Any:
    return raw.ReluGrad(g, node.inputs[1]), raw.ZerosLike(node.inputs[1])


op(
    "Relu(features: T; T: reals) -> activations: T",
    kernel=lambda k, x: k.xp.maximum(x, x.dtype.type(0)),
    shape=unchanged,
    grad=lambda node, g: raw.ReluGrad(g, node.outputs[0]),
    samples=_away_from_kinks(),
    reference=_each(lambda x: x if x > 0 or x != x else 0.0),
)

op(
    "ReluGrad(gradients: T, features: T; T: reals) -> backprops: T",
    kernel=lambda k, g, x: k.xp.where(x > 0, g, x.dtype.type(0)),
    shape=_binary_shape,
    grad=_relu_grad_of_grad,
    samples=_gradient_pairs(),
    reference=_each(lambda g, x: g if x > 0 else 0.0),
)


def _relu6_grad_of_grad(node: Any, g: Any) -> Any:
    return raw.Relu6Grad(g, node.inputs[1]), raw.ZerosLike(node.inputs[1])


op(
    "Relu6(features: T; T: reals) -> activations: T",
    kernel=lambda k, x: k.xp.minimum(k.xp.maximum(x, x.dtype.type(0)), x.dtype.type(6)),
    shape=unchanged,
    grad=lambda node, g: raw.Relu6Grad(g, node.outputs[0]),
    samples=_away_from_kinks(),
    reference=_each(lambda x: x if x != x else min(max(x, 0.0), 6.0)),
)

op(
    "Relu6Grad(gradients: T, features: T; T: reals) -> backprops: T",
    kernel=lambda k, g, x: k.xp.where((x > 0) & (x < 6), g, x.dtype.type(0)),
    shape=_binary_shape,
    grad=_relu6_grad_of_grad,
    samples=_gradient_pairs(),
    reference=_each(lambda g, x: g if 0 < x < 6 else 0.0),
)

# Leaky ReLU: Maas et al., "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).


def _leaky_relu(k: Any, x: Any) -> Any:
    return k.xp.where(x > 0, x, x * x.dtype.type(k.attrs["alpha"]))


def _leaky_relu_grad(k: Any, g: Any, x: Any) -> Any:
    return k.xp.where(x > 0, g, g * x.dtype.type(k.attrs["alpha"]))


def _leaky_relu_grad_of_grad(node: Any, g: Any) -> Any:
    features = node.inputs[1]
    return raw.LeakyReluGrad(g, features, alpha=node.attrs["alpha"]), raw.ZerosLike(features)


def _with_alpha(sampler: Sampler) -> Sampler:
    def with_alpha(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        for sample in sampler(rng, dtype):
            for alpha in (0.25, 1.5):  # exact in the float32 of an attr
                yield Sample(*sample.inputs, attrs={"alpha": alpha}, grad=sample.grad, note=sample.note)

    return with_alpha


op(
    "LeakyRelu(features: T; alpha: float = 0.2, T: floats = float32) -> activations: T",
    kernel=_leaky_relu,
    shape=unchanged,
    grad=lambda node, g: raw.LeakyReluGrad(g, node.inputs[0], alpha=node.attrs["alpha"]),
    samples=_with_alpha(_away_from_kinks()),
    reference=_each(lambda x, alpha: x if x > 0 else alpha * x),
)

op(
    "LeakyReluGrad(gradients: T, features: T; alpha: float = 0.2, T: floats = float32) -> backprops: T",
    kernel=_leaky_relu_grad,
    shape=_binary_shape,
    grad=_leaky_relu_grad_of_grad,
    samples=_with_alpha(_gradient_pairs()),
    reference=_each(lambda g, x, alpha: g if x > 0 else alpha * g),
)

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
    samples=_away_from_kinks(),
    reference=_each(lambda x: math.expm1(x) if x < 0 else x),
)

op(
    "EluGrad(gradients: T, outputs: T; T: floats) -> backprops: T",
    kernel=lambda k, g, y: k.xp.where(y < 0, g * (y + y.dtype.type(1)), g),
    shape=_binary_shape,
    grad=_elu_grad_of_grad,
    samples=_gradient_pairs(-1, 4),
    reference=_each(lambda g, y: g * (y + 1) if y < 0 else g),
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
    samples=_away_from_kinks(),
    reference=_each(lambda x: 1.6732632423543772 * 1.0507009873554805 * math.expm1(x) if x < 0 else 1.0507009873554805 * x),
)

op(
    "SeluGrad(gradients: T, outputs: T; T: floats) -> backprops: T",
    kernel=_selu_grad,
    shape=_binary_shape,
    grad=_selu_grad_of_grad,
    samples=_gradient_pairs(-1.5, 4),
    reference=_each(lambda g, y: g * (y + 1.7580993408473766) if y < 0 else g * 1.0507009873554805),
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
    reference=_each(lambda x: x if x != x else max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
)

op(
    "SoftplusGrad(gradients: T, features: T; T: floats) -> backprops: T",
    kernel=in_float32(lambda k, g, x: g / (k.xp.exp(-x) + x.dtype.type(1))),
    shape=_binary_shape,
    grad=_softplus_grad_of_grad,
    samples=_gradient_pairs(),
    reference=_each(lambda g, x: g / (1 + (math.inf if x < -700 else math.exp(-x)))),
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
    samples=_away_from_kinks(),
    reference=_each(_softsign_of),
)

op(
    "SoftsignGrad(gradients: T, features: T; T: floats) -> backprops: T",
    kernel=_softsign_grad,
    shape=_binary_shape,
    grad=_softsign_grad_of_grad,
    samples=_gradient_pairs(),
    reference=_each(lambda g, x: g * (1 + abs(x)) ** -2.0),
)


# Public functions.


def relu(features: Any, name: str | None = None) -> Tensor:
    """max(features, 0), elementwise, as `tf.nn.relu`; any real dtype."""
    return _tensor(raw.Relu(features, name=name))


def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(features, 0), 6), elementwise, as `tf.nn.relu6`; any real dtype."""
    return _tensor(raw.Relu6(features, name=name))


def elu(features: Any, name: str | None = None) -> Tensor:
    """exp(features) - 1 where negative, else `features`, as `tf.nn.elu`; floating dtypes."""
    return _tensor(raw.Elu(features, name=name))


def selu(features: Any, name: str | None = None) -> Tensor:
    """ELU scaled so that activations keep mean 0 and variance 1, as `tf.nn.selu`; floating dtypes."""
    return _tensor(raw.Selu(features, name=name))


def softplus(features: Any, name: str | None = None) -> Tensor:
    """log(1 + exp(features)), elementwise, as `tf.nn.softplus`; floating dtypes."""
    return _tensor(raw.Softplus(features, name=name))


def softsign(features: Any, name: str | None = None) -> Tensor:
    """features / (1 + |features|), elementwise, as `tf.nn.softsign`; floating dtypes."""
    return _tensor(raw.Softsign(features, name=name))


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """`features` where positive, else alpha times it, as `tf.nn.leaky_relu`; integers become float32."""
    with name_scope(name, "LeakyRelu", [features, alpha]) as scope:
        x = convert_to_tensor(features, name="features")
        if x.dtype.is_integer:
            x = raw.Cast(x, DstT=dtypes.float32)
        return _tensor(raw.LeakyRelu(x, alpha=float(alpha), name=scope))


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Tensor:
    """ReLU of `features` and of -features, concatenated along `axis`, as `tf.nn.crelu` (Shang et al., 2016)."""
    with name_scope(name, "CRelu", [features]) as scope:
        x = convert_to_tensor(features, name="features")
        return relu(raw.ConcatV2([x, raw.Neg(x)], axis, name=scope))


def swish(features: Any, name: str | None = None) -> Tensor:
    """features * sigmoid(features), as `tf.nn.swish` (Ramachandran et al., 2017); floating dtypes."""
    with name_scope(name, "swish", [features]):
        x = convert_to_tensor(features, name="features")
        return _tensor(raw.Mul(x, raw.Sigmoid(x)))


def _tensor(value: Any) -> Tensor:
    result: Tensor = value
    return result
