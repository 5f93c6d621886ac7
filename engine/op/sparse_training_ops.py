"""The optimizers' updates of some rows: as in `engine.op.training_ops`, for a gradient that has rows and their indices.

TensorFlow goes through the rows one by one; a row that comes twice is updated twice, the second time from the result of the
first.  Here it is `rounds` of rows.
"""

from __future__ import annotations

from typing import Any

from engine.op.atomics import rounds
from engine.op.gather import check_indices
from engine.op.kernels import invalid, shape_text
from engine.op.registry import NotDifferentiable, OpDef, op
from engine.op.samples import untested
from engine.op.training_ops import check_scalars, values
from engine.types.shape import TensorShape

__all__: list[str] = []

_BY_HAND = untested("tests/op/test_training_ops.py")


def _check_rows(k: Any, var: Any, grad: Any, indices: Any) -> None:
    if var.ndim < 1:
        raise invalid("var must be at least 1 dimensional")
    if indices.ndim != 1:
        raise invalid(f"indices must be one-dimensional, not of shape {shape_text(indices.shape)}")
    if grad.shape != (indices.shape[0], *var.shape[1:]):
        raise invalid(
            f"grad must have one row for each index and the variable's other dimensions: got {shape_text(grad.shape)}, "
            f"{indices.shape[0]} indices, and var {shape_text(var.shape)}",
        )
    check_indices(k, indices, var.shape[0])


def _sparse_momentum(
    k: Any, ref: Any, accum_ref: Any, lr: Any, grad: Any, indices: Any, momentum: Any
) -> Any:
    with ref.lock:
        var, accum = (array.copy() for array in values(k, ref, accum_ref))
        check_scalars(lr=lr, momentum=momentum)
        _check_rows(k, var, grad, indices)
        for chosen in rounds(k.xp, indices):
            rows, g = indices[chosen], grad[chosen]
            accum[rows] = a = accum[rows] * momentum + g
            var[rows] -= g * lr + a * momentum * lr if k.attrs["use_nesterov"] else a * lr
        k.write(accum_ref, accum, kind="momentum")
        k.write(ref, var, kind="momentum")
    return ref


def _sparse_adagrad(k: Any, ref: Any, accum_ref: Any, lr: Any, grad: Any, indices: Any) -> Any:
    with ref.lock:
        var, accum = (array.copy() for array in values(k, ref, accum_ref))
        check_scalars(lr=lr)
        _check_rows(k, var, grad, indices)
        for chosen in rounds(k.xp, indices):
            rows, g = indices[chosen], grad[chosen]
            if k.attrs["update_slots"]:
                accum[rows] += g * g
            var[rows] -= g * lr / k.xp.sqrt(accum[rows])
        k.write(accum_ref, accum, kind="adagrad")
        k.write(ref, var, kind="adagrad")
    return ref


def _sparse_rms_prop(
    k: Any,
    ref: Any,
    ms_ref: Any,
    mom_ref: Any,
    lr: Any,
    rho: Any,
    momentum: Any,
    epsilon: Any,
    grad: Any,
    indices: Any,
) -> Any:
    with ref.lock:
        var, ms, mom = (array.copy() for array in values(k, ref, ms_ref, mom_ref))
        check_scalars(lr=lr, rho=rho, momentum=momentum, epsilon=epsilon)
        _check_rows(k, var, grad, indices)
        one = var.dtype.type(1)
        for chosen in rounds(k.xp, indices):
            rows, g = indices[chosen], grad[chosen]
            ms[rows] = spread = ms[rows] * rho + g * g * (one - rho)
            mom[rows] = moved = mom[rows] * momentum + g * lr / k.xp.sqrt(spread + epsilon)
            var[rows] -= moved
        k.write(ms_ref, ms, kind="rms_prop")
        k.write(mom_ref, mom, kind="rms_prop")
        k.write(ref, var, kind="rms_prop")
    return ref


def _sparse_centered_rms_prop(
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
    indices: Any,
) -> Any:
    with ref.lock:
        var, mg, ms, mom = (array.copy() for array in values(k, ref, mg_ref, ms_ref, mom_ref))
        check_scalars(lr=lr, rho=rho, momentum=momentum, epsilon=epsilon)
        _check_rows(k, var, grad, indices)
        one = var.dtype.type(1)
        for chosen in rounds(k.xp, indices):
            rows, g = indices[chosen], grad[chosen]
            ms[rows] = spread = ms[rows] * rho + g * g * (one - rho)
            mg[rows] = mean = mg[rows] * rho + g * (one - rho)
            mom[rows] = moved = mom[rows] * momentum + g * lr / k.xp.sqrt(spread + epsilon - mean * mean)
            var[rows] -= moved
        for each, value in ((mg_ref, mg), (ms_ref, ms), (mom_ref, mom), (ref, var)):
            k.write(each, value, kind="rms_prop")
    return ref


def _sparse_shape(node: Any) -> TensorShape:
    """The variable's, which its slots share; the gradient has a row for each index."""
    shape: TensorShape = node.inputs[0].shape
    for spec, tensor in zip(node.opdef.signature.inputs, node.inputs, strict=True):
        if spec.is_ref:
            shape = shape.merge_with(tensor.shape)
        elif spec.name == "indices":
            tensor.shape.with_rank(1)
    return shape


def _apply(signature: str, kernel: Any) -> OpDef:
    return op(
        signature,
        kernel=kernel,
        shape=_sparse_shape,
        grad=NotDifferentiable,
        samples=_BY_HAND,
        stateful=True,
    )


_apply(
    "SparseApplyMomentum(var: Ref(T), accum: Ref(T), lr: T, grad: T, indices: Tindices, momentum: T; T: numbers, "
    "Tindices: index, use_locking: bool = False, use_nesterov: bool = False) -> out: Ref(T)",
    _sparse_momentum,
)
_apply(
    "SparseApplyAdagrad(var: Ref(T), accum: Ref(T), lr: T, grad: T, indices: Tindices; T: numbers, Tindices: index, "
    "use_locking: bool = False, update_slots: bool = True) -> out: Ref(T)",
    _sparse_adagrad,
)
_apply(
    "SparseApplyRMSProp(var: Ref(T), ms: Ref(T), mom: Ref(T), lr: T, rho: T, momentum: T, epsilon: T, grad: T, "
    "indices: Tindices; T: numbers, Tindices: index, use_locking: bool = False) -> out: Ref(T)",
    _sparse_rms_prop,
)
_apply(
    "SparseApplyCenteredRMSProp(var: Ref(T), mg: Ref(T), ms: Ref(T), mom: Ref(T), lr: T, rho: T, momentum: T, epsilon: T, "
    "grad: T, indices: Tindices; T: numbers, Tindices: index, use_locking: bool = False) -> out: Ref(T)",
    _sparse_centered_rms_prop,
)
