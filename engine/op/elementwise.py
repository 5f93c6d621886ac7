"""Elementwise ops of one input: signs, powers, exponentials, rounding and tests.

`unary` makes a block for a function of one array that keeps shape and dtype.  Where NumPy has the function, the block only names
the ufunc.  Gradients are TensorFlow's: where it computes one from the output rather than the input, so do we, and a complex
derivative is conjugated (the gradient of a real loss with respect to z is dL/dRe z + i dL/dIm z).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import control_dependencies
from engine.op import shapes
from engine.op.const import constant
from engine.op.fills import zeros_like
from engine.op.registry import Kernel, NotDifferentiable, OpDef, op, raw
from engine.op.samples import Sample, floats

FLOATS = "{bfloat16, float16, float32, float64}"
INEXACT = "{bfloat16, float16, float32, float64, complex64, complex128}"
SIGNED = "{bfloat16, float16, float32, float64, int8, int16, int32, int64}"
SIGNED_OR_COMPLEX = "{bfloat16, float16, float32, float64, int8, int16, int32, int64, complex64, complex128}"

__all__ = [
    "abs", "ceil", "exp", "expm1", "floor", "is_finite", "is_inf", "is_nan", "log", "log1p", "logical_not", "negative",
    "reciprocal", "rint", "round", "rsqrt", "sign", "sqrt", "square",
]  # fmt: skip


def unary(
    name: str,
    types: str,
    *,
    ufunc: str | None = None,
    kernel: Kernel | None = None,
    grad: Any = None,
    samples: Any,
    reference: Callable[..., Any] | None = None,
) -> OpDef:
    """The block of an elementwise op of one input; `types` is a set of dtypes as in a signature, the rest as for `op`."""
    return op(
        f"{name}(x: T; T: {types}) -> y: T",
        ufunc=ufunc,
        kernel=kernel,
        shape=shapes.unchanged,
        grad=grad,
        samples=samples,
        reference=reference,
        int32_on_host=True,
    )


def conjugate(x: Any) -> Any:
    """The tensor x, conjugated if it is complex: how a derivative enters a gradient."""
    return raw.Conj(x) if x.dtype.is_complex else x


def after_gradient(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Decorator: a gradient function ``f(op, g)`` whose nodes wait for g, as TensorFlow's do.

    What it computes from the forward values alone would otherwise be computed early, and kept until g comes.
    """

    def waiting(op: Any, g: Any) -> Any:
        with control_dependencies([g]):
            return function(op, g)

    return waiting


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is float16 or bfloat16."""
    # float16 and bfloat16 are the only floating dtypes of two bytes; bfloat16's kind is "V".
    return dtype.itemsize == 2 and dtype.kind in "fV"


def in_float32(body: Kernel) -> Kernel:
    """Decorator: run a kernel on float16 and bfloat16 inputs in float32 and round its one output once, as TensorFlow does."""

    def kernel(k: Any, *inputs: Any) -> Any:
        dtype = inputs[0].dtype
        if not is_half(dtype):
            return body(k, *inputs)
        wide = [x.astype(np.float32) if x.dtype == dtype else x for x in inputs]
        return body(k, *wide).astype(dtype)

    return kernel


# Sign and size.

negative = unary(
    "Neg",
    SIGNED_OR_COMPLEX,
    ufunc="negative",
    grad=lambda op, g: -g,
    samples=floats(-9, 9),
)

_abs = unary(
    "Abs",
    SIGNED,
    ufunc="absolute",
    grad=lambda op, g: g * raw.Sign(op.inputs[0]),
    samples=floats(-9, 9),
)


def abs(x: Any, name: str | None = None) -> Any:
    """|x|, elementwise: of x's dtype, or the real one for a complex tensor."""
    x = convert_to_tensor(x, name="x")
    if x.dtype.is_complex:
        return raw.ComplexAbs(x, Tout=x.dtype.real_dtype, name=name or "Abs")
    return _abs(x, name=name)


def _sign_reference(x: Any) -> Any:
    if np.iscomplexobj(x):
        return np.where(x == 0, 0, x / np.where(x == 0, 1, np.hypot(x.real, x.imag)))
    return np.where(np.isnan(x), x, np.greater(x, 0).astype(np.float64) - np.less(x, 0))


sign = unary(
    "Sign",
    SIGNED_OR_COMPLEX,
    ufunc="sign",
    grad=lambda op, g: zeros_like(op.inputs[0]),
    samples=floats(-9, 9, grad=()),
    reference=_sign_reference,
)


# Powers.


@after_gradient
def _square_grad(op: Any, g: Any) -> Any:
    x = conjugate(op.inputs[0])
    return raw.Mul(g, raw.Mul(x, constant(2.0, x.dtype)))


square = unary(
    "Square",
    "numbers",
    ufunc="square",
    grad=_square_grad,
    samples=floats(-9, 9),
)

sqrt = unary(
    "Sqrt",
    INEXACT,
    ufunc="sqrt",
    grad=lambda op, g: raw.SqrtGrad(op.outputs[0], g),
    samples=floats(0.1, 9),
)


@in_float32
def _rsqrt(k: Any, x: Any) -> Any:
    return k.xp.reciprocal(k.xp.sqrt(x))


rsqrt = unary(
    "Rsqrt",
    INEXACT,
    kernel=_rsqrt,
    grad=lambda op, g: raw.RsqrtGrad(op.outputs[0], g),
    samples=floats(0.1, 9),
    reference=lambda x: 1 / np.sqrt(x),
)


def _reciprocal(k: Any, x: Any) -> Any:
    if x.dtype.kind == "i" and (k.xp is not np or not x.all()):
        # C leaves it undefined and NumPy gives the least integer; TensorFlow has no CPU kernel for integers.
        return k.xp.where(x == 0, x, k.xp.reciprocal(x))
    return k.xp.reciprocal(x)


reciprocal = unary(
    "Reciprocal",
    SIGNED_OR_COMPLEX,
    kernel=_reciprocal,
    grad=lambda op, g: raw.ReciprocalGrad(op.outputs[0], g),
    samples=floats(0.3, 4),
    reference=lambda x: np.trunc(1 / np.asarray(x, np.float64)) if x.dtype.kind == "i" else 1 / x,
)

inv = unary(
    "Inv",
    SIGNED_OR_COMPLEX,
    kernel=_reciprocal,
    grad=lambda op, g: raw.ReciprocalGrad(op.outputs[0], g),
    samples=floats(0.3, 4),
    reference=lambda x: np.trunc(1 / np.asarray(x, np.float64)) if x.dtype.kind == "i" else 1 / x,
)


# Exponentials.

exp = unary(
    "Exp",
    INEXACT,
    ufunc="exp",
    grad=after_gradient(lambda op, g: g * conjugate(op.outputs[0])),
    samples=floats(-3, 3),
)

expm1 = unary(
    "Expm1",
    INEXACT,
    ufunc="expm1",
    grad=after_gradient(lambda op, g: g * raw.Exp(conjugate(op.inputs[0]))),
    samples=floats(-3, 3),
)

log = unary(
    "Log",
    INEXACT,
    ufunc="log",
    grad=after_gradient(lambda op, g: g * raw.Reciprocal(conjugate(op.inputs[0]))),
    samples=floats(0.1, 9),
)

log1p = unary(
    "Log1p",
    INEXACT,
    ufunc="log1p",
    grad=after_gradient(lambda op, g: g * raw.Reciprocal(1.0 + conjugate(op.inputs[0]))),
    samples=floats(-0.9, 9),
)


# Rounding.

floor = unary("Floor", FLOATS, ufunc="floor", grad=NotDifferentiable, samples=floats(-9, 9, grad=()))
ceil = unary("Ceil", FLOATS, ufunc="ceil", grad=NotDifferentiable, samples=floats(-9, 9, grad=()))
rint = unary(
    "Rint",
    FLOATS,
    ufunc="rint",
    grad=NotDifferentiable,
    samples=floats(-9, 9, extra=(0.5, 1.5, 2.5, -0.5, -1.5, -2.5), grad=()),
)


def _round(k: Any, x: Any) -> Any:
    return x if x.dtype.kind == "i" else k.xp.rint(x)


_round_op = unary(
    "Round",
    SIGNED_OR_COMPLEX,
    kernel=_round,
    grad=NotDifferentiable,
    samples=floats(-9, 9, extra=(0.5, 1.5, 2.5, -0.5, -1.5, -2.5), grad=()),
    reference=np.round,
)


def round(x: Any, name: str | None = None) -> Any:
    """x rounded to the nearest whole number, halves to the even one; an integer tensor is returned as it is."""
    x = convert_to_tensor(x, name="x")
    return x if x.dtype.is_integer else _round_op(x, name=name)


# Tests.


def _test(name: str, ufunc: str) -> OpDef:
    return op(
        f"{name}(x: T; T: {FLOATS}) -> y: bool",
        ufunc=ufunc,
        shape=shapes.unchanged,
        grad=NotDifferentiable,
        samples=floats(-9, 9),
    )


is_nan = _test("IsNan", "isnan")
is_inf = _test("IsInf", "isinf")
is_finite = _test("IsFinite", "isfinite")


def _booleans(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((2, 3), (), (0, 2)):
        yield Sample(np.asarray(rng.integers(0, 2, shape) == 1))


logical_not = op(
    "LogicalNot(x: bool) -> y: bool",
    ufunc="logical_not",
    shape=shapes.unchanged,
    grad=NotDifferentiable,
    samples=_booleans,
)
