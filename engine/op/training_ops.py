"""The optimizers' updates: each reads a variable, its slots and a gradient, and writes the variable and its slots.

Formulas and the order of operations are TensorFlow's, so that float32 training follows the same path.
"""

from __future__ import annotations

from typing import Any

from engine.op.kernels import invalid, shape_text
from engine.op.registry import NotDifferentiable, OpDef, op
from engine.op.samples import untested
from engine.types.shape import TensorShape

__all__: list[str] = []

_BY_HAND = untested("tests/op/test_training_ops.py")


def values(k: Any, *refs: Any) -> list[Any]:
    """The arrays of a variable and its slots.  Raises InvalidArgumentError unless all have one shape."""
    arrays = [ref.read(k.op) for ref in refs]
    for ref, array in zip(refs[1:], arrays[1:], strict=True):
        if array.shape != arrays[0].shape:
            raise invalid(
                f"'{refs[0].name}' and '{ref.name}' do not have the same shape"
                f"{shape_text(arrays[0].shape)} {shape_text(array.shape)}",
            )
    return arrays


def check_scalars(**scalars: Any) -> None:
    for name, value in scalars.items():
        if value.ndim != 0:
            raise invalid(f"{name} is not a scalar: {shape_text(value.shape)}")


def _check_gradient(var: Any, grad: Any) -> None:
    if var.shape != grad.shape:
        raise invalid(
            f"var and grad do not have the same shape{shape_text(var.shape)} {shape_text(grad.shape)}"
        )


def _gradient_descent(k: Any, ref: Any, alpha: Any, delta: Any) -> Any:
    with ref.lock:
        (var,) = values(k, ref)
        check_scalars(alpha=alpha)
        _check_gradient(var, delta)
        k.write(ref, var - delta * alpha, kind="gradient_descent")
    return ref


def _momentum(k: Any, ref: Any, accum_ref: Any, lr: Any, grad: Any, momentum: Any) -> Any:
    with ref.lock:
        var, accum = values(k, ref, accum_ref)
        check_scalars(lr=lr, momentum=momentum)
        _check_gradient(var, grad)
        accum = accum * momentum
        accum += grad
        step = grad * lr + accum * momentum * lr if k.attrs["use_nesterov"] else accum * lr
        k.write(accum_ref, accum, kind="momentum")
        k.write(ref, var - step, kind="momentum")
    return ref


def _adam(
    k: Any,
    ref: Any,
    m_ref: Any,
    v_ref: Any,
    beta1_power: Any,
    beta2_power: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    grad: Any,
) -> Any:
    """Kingma and Ba, "Adam" (2015), with the corrections of both moments in the step's size."""
    xp = k.xp
    with ref.lock:
        var, m, v = values(k, ref, m_ref, v_ref)
        check_scalars(
            beta1_power=beta1_power, beta2_power=beta2_power, lr=lr, beta1=beta1, beta2=beta2, epsilon=epsilon
        )
        _check_gradient(var, grad)
        one = var.dtype.type(1)
        alpha = lr * xp.sqrt(one - beta2_power) / (one - beta1_power)
        # In place from here on, on arrays that are this kernel's own.
        moved = grad - m
        moved *= one - beta1
        moved += m
        spread = grad * grad
        spread -= v
        spread *= one - beta2
        spread += v
        step = (grad * (one - beta1) + moved * beta1) * alpha if k.attrs["use_nesterov"] else moved * alpha
        scale = xp.sqrt(spread)
        scale += epsilon
        step /= scale
        k.write(m_ref, moved, kind="adam")
        k.write(v_ref, spread, kind="adam")
        k.write(ref, var - step, kind="adam")
    return ref


def _adagrad(k: Any, ref: Any, accum_ref: Any, lr: Any, grad: Any) -> Any:
    """Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization" (2011)."""
    with ref.lock:
        var, accum = values(k, ref, accum_ref)
        check_scalars(lr=lr)
        _check_gradient(var, grad)
        if k.attrs["update_slots"]:
            accum = accum + grad * grad
            k.write(accum_ref, accum, kind="adagrad")
        k.write(ref, var - grad * lr / k.xp.sqrt(accum), kind="adagrad")
    return ref


def _adagrad_v2(k: Any, ref: Any, accum_ref: Any, lr: Any, epsilon: Any, grad: Any) -> Any:
    with ref.lock:
        var, accum = values(k, ref, accum_ref)
        check_scalars(lr=lr, epsilon=epsilon)
        _check_gradient(var, grad)
        if k.attrs["update_slots"]:
            accum = accum + grad * grad
            k.write(accum_ref, accum, kind="adagrad")
        k.write(ref, var - grad * lr / (k.xp.sqrt(accum) + epsilon), kind="adagrad")
    return ref


def _rms_prop(
    k: Any, ref: Any, ms_ref: Any, mom_ref: Any, lr: Any, rho: Any, momentum: Any, epsilon: Any, grad: Any
) -> Any:
    """Tieleman and Hinton, "Lecture 6.5 - RMSProp" (2012)."""
    with ref.lock:
        var, ms, mom = values(k, ref, ms_ref, mom_ref)
        check_scalars(lr=lr, rho=rho, momentum=momentum, epsilon=epsilon)
        _check_gradient(var, grad)
        one = var.dtype.type(1)
        ms = ms + (grad * grad - ms) * (one - rho)
        mom = mom * momentum + grad * lr / k.xp.sqrt(ms + epsilon)
        k.write(ms_ref, ms, kind="rms_prop")
        k.write(mom_ref, mom, kind="rms_prop")
        k.write(ref, var - mom, kind="rms_prop")
    return ref


def _centered_rms_prop(
    k: Any,
    ref: Any,
    mg_ref: Any,
    ms_ref: Any,
    mom_ref: Any,
    lr: Any,
    rho: Any,
    momentum: Any,
    epsilon: Any,
    grad: Any,
) -> Any:
    """As RMSProp, with the gradient's variance in place of its second moment: Graves (2013), equation 39."""
    with ref.lock:
        var, mg, ms, mom = values(k, ref, mg_ref, ms_ref, mom_ref)
        check_scalars(lr=lr, rho=rho, momentum=momentum, epsilon=epsilon)
        _check_gradient(var, grad)
        one = var.dtype.type(1)
        ms = ms + (grad * grad - ms) * (one - rho)
        mg = mg + (grad - mg) * (one - rho)
        mom = mom * momentum + grad * lr / k.xp.sqrt(ms - mg * mg + epsilon)
        k.write(mg_ref, mg, kind="rms_prop")
        k.write(ms_ref, ms, kind="rms_prop")
        k.write(mom_ref, mom, kind="rms_prop")
        k.write(ref, var - mom, kind="rms_prop")
    return ref


# The blocks.


def _dense_shape(node: Any) -> TensorShape:
    """The variable's, which its slots and a dense gradient share."""
    shape: TensorShape = node.inputs[0].shape
    for spec, tensor in zip(node.opdef.signature.inputs, node.inputs, strict=True):
        if spec.is_ref or spec.name in ("grad", "delta"):
            shape = shape.merge_with(tensor.shape)
        else:
            tensor.shape.with_rank(0)
    return shape


def _apply(signature: str, kernel: Any) -> OpDef:
    return op(
        signature,
        kernel=kernel,
        shape=_dense_shape,
        grad=NotDifferentiable,
        samples=_BY_HAND,
        stateful=True,
    )


_apply(
    "ApplyGradientDescent(var: Ref(T), alpha: T, delta: T; T: numbers, use_locking: bool = False) -> out: Ref(T)",
    _gradient_descent,
)
_apply(
    "ApplyMomentum(var: Ref(T), accum: Ref(T), lr: T, grad: T, momentum: T; T: numbers, use_locking: bool = False, "
    "use_nesterov: bool = False) -> out: Ref(T)",
    _momentum,
)
_apply(
    "ApplyAdam(var: Ref(T), m: Ref(T), v: Ref(T), beta1_power: T, beta2_power: T, lr: T, beta1: T, beta2: T, epsilon: T, "
    "grad: T; T: numbers, use_locking: bool = False, use_nesterov: bool = False) -> out: Ref(T)",
    _adam,
)
_apply(
    "ApplyAdagrad(var: Ref(T), accum: Ref(T), lr: T, grad: T; T: numbers, use_locking: bool = False, "
    "update_slots: bool = True) -> out: Ref(T)",
    _adagrad,
)
_apply(
    "ApplyAdagradV2(var: Ref(T), accum: Ref(T), lr: T, epsilon: T, grad: T; T: numbers, use_locking: bool = False, "
    "update_slots: bool = True) -> out: Ref(T)",
    _adagrad_v2,
)
_apply(
    "ApplyRMSProp(var: Ref(T), ms: Ref(T), mom: Ref(T), lr: T, rho: T, momentum: T, epsilon: T, grad: T; T: numbers, "
    "use_locking: bool = False) -> out: Ref(T)",
    _rms_prop,
)
_apply(
    "ApplyCenteredRMSProp(var: Ref(T), mg: Ref(T), ms: Ref(T), mom: Ref(T), lr: T, rho: T, momentum: T, epsilon: T, "
    "grad: T; T: numbers, use_locking: bool = False) -> out: Ref(T)",
    _centered_rms_prop,
)
