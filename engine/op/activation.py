"""Activation functions and their gradient ops: the ReLU family, softplus and softsign.

The formulas, also of the gradient ops, are TensorFlow's, so that infinities, NaN and the points where a function has a kink come
out as they do there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.activation_samples import away_from_kinks, binary_shape, each, gradient_pairs
from engine.op.registry import op, raw
from engine.op.samples import Sample, Sampler
from engine.op.shapes import unchanged
from engine.types import dtypes

if TYPE_CHECKING:
    from engine.types.dtypes import DType

__all__ = [
    "crelu",
    "leaky_relu",
    "relu",
    "relu6",
    "swish",
]

# ReLU: Nair and Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines" (2010).


def _relu_grad_of_grad(node: Any, g: Any) -> Any:
    return raw.ReluGrad(g, node.inputs[1]), raw.ZerosLike(node.inputs[1])


op(
    "Relu(features: T; T: reals) -> activations: T",
    kernel=lambda k, x: k.xp.maximum(x, x.dtype.type(0)),
    shape=unchanged,
    grad=lambda node, g: raw.ReluGrad(g, node.outputs[0]),
    samples=away_from_kinks(),
    reference=each(lambda x: x if x > 0 or x != x else 0.0),
)

op(
    "ReluGrad(gradients: T, features: T; T: reals) -> backprops: T",
    kernel=lambda k, g, x: k.xp.where(x > 0, g, x.dtype.type(0)),
    shape=binary_shape,
    grad=_relu_grad_of_grad,
    samples=gradient_pairs(),
    reference=each(lambda g, x: g if x > 0 else 0.0),
)


def _relu6_grad_of_grad(node: Any, g: Any) -> Any:
    return raw.Relu6Grad(g, node.inputs[1]), raw.ZerosLike(node.inputs[1])


op(
    "Relu6(features: T; T: reals) -> activations: T",
    kernel=lambda k, x: k.xp.minimum(k.xp.maximum(x, x.dtype.type(0)), x.dtype.type(6)),
    shape=unchanged,
    grad=lambda node, g: raw.Relu6Grad(g, node.outputs[0]),
    samples=away_from_kinks(),
    reference=each(lambda x: x if x != x else min(max(x, 0.0), 6.0)),
)

op(
    "Relu6Grad(gradients: T, features: T; T: reals) -> backprops: T",
    kernel=lambda k, g, x: k.xp.where((x > 0) & (x < 6), g, x.dtype.type(0)),
    shape=binary_shape,
    grad=_relu6_grad_of_grad,
    samples=gradient_pairs(),
    reference=each(lambda g, x: g if 0 < x < 6 else 0.0),
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
    samples=_with_alpha(away_from_kinks()),
    reference=each(lambda x, alpha: x if x > 0 else alpha * x),
)

op(
    "LeakyReluGrad(gradients: T, features: T; alpha: float = 0.2, T: floats = float32) -> backprops: T",
    kernel=_leaky_relu_grad,
    shape=binary_shape,
    grad=_leaky_relu_grad_of_grad,
    samples=_with_alpha(gradient_pairs()),
    reference=each(lambda g, x, alpha: g if x > 0 else alpha * g),
)

# Public functions.


def relu(features: Any, name: str | None = None) -> Any:
    """max(features, 0), elementwise, as `tf.nn.relu`; any real dtype."""
    return raw.Relu(features, name=name)


def relu6(features: Any, name: str | None = None) -> Any:
    """min(max(features, 0), 6), elementwise, as `tf.nn.relu6`; any real dtype."""
    return raw.Relu6(features, name=name)


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Any:
    """`features` where positive, else alpha times it, as `tf.nn.leaky_relu`; integers become float32."""
    with name_scope(name, "LeakyRelu", [features, alpha]) as scope:
        x = convert_to_tensor(features, name="features")
        if x.dtype.is_integer:
            x = raw.Cast(x, DstT=dtypes.float32)
        return raw.LeakyRelu(x, alpha=float(alpha), name=scope)


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Any:
    """ReLU of `features` and of -features, concatenated along `axis`, as `tf.nn.crelu` (Shang et al., 2016)."""
    with name_scope(name, "CRelu", [features]) as scope:
        x = convert_to_tensor(features, name="features")
        return relu(raw.ConcatV2([x, raw.Neg(x)], axis, name=scope))


def swish(features: Any, name: str | None = None) -> Any:
    """features * sigmoid(features), as `tf.nn.swish` (Ramachandran et al., 2017); floating dtypes."""
    with name_scope(name, "swish", [features]):
        x = convert_to_tensor(features, name="features")
        return raw.Mul(x, raw.Sigmoid(x))
