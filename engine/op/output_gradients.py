"""Gradients of elementwise functions whose derivative follows from their output y: ops that take y and its gradient dy.

They conjugate a complex y themselves; TanhGrad and SigmoidGrad (`trigonometric`) are given a conjugated one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.op import shapes
from engine.op.elementwise import INEXACT, after_gradient, conjugate, in_float32
from engine.op.registry import Kernel, OpDef, op, raw
from engine.op.samples import Sampler, pairs


def output_gradient(
    name: str,
    kernel: Kernel,
    *,
    grad: Any,
    samples: Sampler | None = None,
    reference: Callable[..., Any],
) -> OpDef:
    """The block of an op ``name(y, dy)``: the gradient of a unary op by its output y and the gradient dy of y."""
    return op(
        f"{name}(y: T, dy: T; T: {INEXACT}) -> z: T",
        kernel=in_float32(kernel),
        shape=shapes.unchanged,
        grad=grad,
        samples=samples or same_shapes(0.3, 2),
        reference=reference,
    )


def same_shapes(lo: float, hi: float) -> Sampler:
    """Samples for a binary op that does not broadcast: those of `pairs` whose operands have one shape."""
    sampler = pairs(lo, hi, special=False)

    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        for sample in sampler(rng, dtype):
            if sample.inputs[0].shape == sample.inputs[1].shape:  # type: ignore[union-attr]
                yield sample

    return samples


@after_gradient
# They are functions of conj(y): in the gradient for y that conjugates the incoming one instead of the derivative.


def _sqrt_grad_grad(op: Any, g: Any) -> Any:
    ratio = g / op.inputs[0]
    return -conjugate(ratio) * op.outputs[0], 0.5 * ratio


output_gradient(
    "SqrtGrad",
    lambda k, y, dy: dy * y.dtype.type(0.5) / k.xp.conj(y),
    grad=_sqrt_grad_grad,
    reference=lambda y, dy: dy / (2 * np.conj(y)),
)


@after_gradient
def _rsqrt_grad_grad(op: Any, g: Any) -> Any:
    y, dy = conjugate(op.inputs[0]), op.inputs[1]
    return -1.5 * conjugate(g) * dy * raw.Square(y), raw.RsqrtGrad(y, g)


def _rsqrt_grad(k: Any, y: Any, dy: Any) -> Any:
    y = k.xp.conj(y)
    return dy * y.dtype.type(-0.5) * (y * y) * y


output_gradient(
    "RsqrtGrad", _rsqrt_grad, grad=_rsqrt_grad_grad, reference=lambda y, dy: -dy * np.conj(y) ** 3 / 2
)


@after_gradient
def _reciprocal_grad_grad(op: Any, g: Any) -> Any:
    y, dy = conjugate(op.inputs[0]), op.inputs[1]
    return conjugate(g) * -2.0 * dy * y, raw.ReciprocalGrad(y, g)


def _reciprocal_grad(k: Any, y: Any, dy: Any) -> Any:
    y = k.xp.conj(y)
    return -dy * (y * y)


for _name in ("ReciprocalGrad", "InvGrad"):
    output_gradient(
        _name, _reciprocal_grad, grad=_reciprocal_grad_grad, reference=lambda y, dy: -dy * np.conj(y) ** 2
    )
