"""The optimizers' updates as native kernels: one pass over a variable, its slots and its gradient.

Each is the chain of elementwise steps that its op's NumPy kernel performs (`engine.op.training_ops`), in that order, so the bits
are the same.  What depends on the learning rate and other scalars alone is computed once a call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.native.elementwise import fused
from engine.native.kernel import NativeKernel


@dataclass(frozen=True, slots=True)
class _Update:
    """inputs: in the op's order; those in `arrays` have the variable's shape, the others none.  outputs: name of the input that
    is replaced, and of the line that says with what.  program: ``name = Op(operands)`` a line.
    """

    inputs: tuple[str, ...]
    arrays: frozenset[str]
    outputs: Mapping[str, str]
    program: str


def _update(inputs: str, arrays: str, outputs: Mapping[str, str], program: str) -> _Update:
    return _Update(tuple(inputs.split()), frozenset(arrays.split()), outputs, program)


_ADAM_MOMENTS = """
one = OnesLike(lr)
rest1 = Sub(one, beta1)
rest2 = Sub(one, beta2)
b = Sub(one, beta2_power)
root = Sqrt(b)
scaled = Mul(lr, root)
a = Sub(one, beta1_power)
alpha = RealDiv(scaled, a)
m1 = Sub(grad, m)
m2 = Mul(m1, rest1)
moved = AddV2(m2, m)
v0 = Mul(grad, grad)
v1 = Sub(v0, v)
v2 = Mul(v1, rest2)
spread = AddV2(v2, v)
"""
_ADAM_END = """
deviation = Sqrt(spread)
scale = AddV2(deviation, epsilon)
step = RealDiv(size, scale)
next = Sub(var, step)
"""
_ADAM = (
    "var m v beta1_power beta2_power lr beta1 beta2 epsilon grad",
    "var m v grad",
    {"var": "next", "m": "moved", "v": "spread"},
)
_MOMENTUM = ("var accum lr grad momentum", "var accum grad", {"var": "next", "accum": "moved"})
_MOMENTUM_START = """
kept = Mul(accum, momentum)
moved = AddV2(kept, grad)
"""
_ACCUMULATED = """
square = Mul(grad, grad)
total = AddV2(accum, square)
"""
_ADAGRAD = """
scaled = Mul(grad, lr)
root = Sqrt(total)
step = RealDiv(scaled, root)
next = Sub(var, step)
"""
_ADAGRAD_V2 = """
scaled = Mul(grad, lr)
deviation = Sqrt(total)
root = AddV2(deviation, epsilon)
step = RealDiv(scaled, root)
next = Sub(var, step)
"""
_RMS_START = """
one = OnesLike(rho)
rest = Sub(one, rho)
square = Mul(grad, grad)
s1 = Sub(square, ms)
s2 = Mul(s1, rest)
spread = AddV2(ms, s2)
"""
_RMS_END = """
kept = Mul(mom, momentum)
scaled = Mul(grad, lr)
root = Sqrt(within)
step = RealDiv(scaled, root)
moved = AddV2(kept, step)
next = Sub(var, moved)
"""

# By op type and the attr that changes it.
_UPDATES: dict[tuple[str, bool], _Update] = {
    ("ApplyGradientDescent", False): _update(
        "var alpha delta", "var delta", {"var": "next"}, "step = Mul(delta, alpha)\nnext = Sub(var, step)"
    ),
    ("ApplyMomentum", False): _update(
        *_MOMENTUM, _MOMENTUM_START + "step = Mul(moved, lr)\nnext = Sub(var, step)"
    ),
    ("ApplyMomentum", True): _update(
        *_MOMENTUM,
        _MOMENTUM_START
        + "ahead = Mul(grad, lr)\nm1 = Mul(moved, momentum)\nm2 = Mul(m1, lr)\n"
        + "step = AddV2(ahead, m2)\nnext = Sub(var, step)",
    ),
    ("ApplyAdam", False): _update(*_ADAM, _ADAM_MOMENTS + "size = Mul(moved, alpha)" + _ADAM_END),
    ("ApplyAdam", True): _update(
        *_ADAM,
        _ADAM_MOMENTS
        + "g1 = Mul(grad, rest1)\ng2 = Mul(moved, beta1)\ng3 = AddV2(g1, g2)\nsize = Mul(g3, alpha)"
        + _ADAM_END,
    ),
    ("ApplyAdagrad", True): _update(
        "var accum lr grad", "var accum grad", {"var": "next", "accum": "total"}, _ACCUMULATED + _ADAGRAD
    ),
    ("ApplyAdagrad", False): _update(
        "var accum lr grad",
        "var accum grad",
        {"var": "next", "accum": "total"},
        "total = Identity(accum)" + _ADAGRAD,
    ),
    ("ApplyAdagradV2", True): _update(
        "var accum lr epsilon grad",
        "var accum grad",
        {"var": "next", "accum": "total"},
        _ACCUMULATED + _ADAGRAD_V2,
    ),
    ("ApplyAdagradV2", False): _update(
        "var accum lr epsilon grad",
        "var accum grad",
        {"var": "next", "accum": "total"},
        "total = Identity(accum)" + _ADAGRAD_V2,
    ),
    ("ApplyRMSProp", False): _update(
        "var ms mom lr rho momentum epsilon grad",
        "var ms mom grad",
        {"var": "next", "ms": "spread", "mom": "moved"},
        _RMS_START + "within = AddV2(spread, epsilon)" + _RMS_END,
    ),
    ("ApplyCenteredRMSProp", False): _update(
        "var mg ms mom lr rho momentum epsilon grad",
        "var mg ms mom grad",
        {"var": "next", "mg": "mean", "ms": "spread", "mom": "moved"},
        _RMS_START
        + "g1 = Sub(grad, mg)\ng2 = Mul(g1, rest)\nmean = AddV2(mg, g2)\nmean2 = Mul(mean, mean)\n"
        + "d1 = Sub(spread, mean2)\nwithin = AddV2(d1, epsilon)"
        + _RMS_END,
    ),
}
_VARIANT = {
    "ApplyMomentum": ("use_nesterov", False),
    "ApplyAdam": ("use_nesterov", False),
    "ApplyAdagrad": ("update_slots", True),
    "ApplyAdagradV2": ("update_slots", True),
}


def slots(type: str) -> tuple[str, ...]:
    """The inputs that an update replaces, in the order of its kernel's outputs: the variable, then its slots."""
    return tuple(next(each for (name, _), each in _UPDATES.items() if name == type).outputs)


def update(
    type: str, dtype: Any, shape: Sequence[int], attrs: Mapping[str, Any] | None = None
) -> NativeKernel | None:
    """The kernel of an Apply op for variables of a floating dtype and static shape; None for another op or dtype.

    Its inputs are the op's, in order, with arrays where the op has references: the variable and its slots as they are, scalars
    (0-d, of the variable's dtype) and the gradient.  Its outputs are the variable and its slots as they become, in that order;
    each may be written over what it was.  The bits are those of the op's NumPy kernel.
    """
    name, default = _VARIANT.get(type, ("", False))
    found = _UPDATES.get((type, bool((attrs or {}).get(name, default))))
    if found is None:
        return None
    numbers = {each: f"x{i}" for i, each in enumerate(found.inputs)}
    steps: list[tuple[str, list[str], Mapping[str, Any]]] = []
    for line in found.program.split("\n"):
        if line:
            result, _, call = line.partition(" = ")
            op, _, operands = call.rstrip(")").partition("(")
            steps.append((op, [numbers[each] for each in operands.split(", ")], {}))
            numbers[result] = f"t{len(steps) - 1}"
    size = math.prod(shape)
    return fused(
        steps,
        [dtype] * len(found.inputs),
        [(size,) if each in found.arrays else () for each in found.inputs],
        outputs=[int(numbers[each][1:]) for each in found.outputs.values()],
        name=type,
    )
