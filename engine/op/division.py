"""Division and remainders, each as TensorFlow defines it for integers and floats.

============  ======================  =====================================
op            integers                floats
============  ======================  =====================================
Div           rounds towards 0        x / y
RealDiv       -                       x / y
TruncateDiv   rounds towards 0        x / y rounded towards 0
FloorDiv      rounds down             floor(x / y)
TruncateMod   has the sign of x       the same (Mod is an older name)
FloorMod      has the sign of y       the same
DivNoNan      -                       x / y, and 0 where y is 0
============  ======================  =====================================

Dividing an integer by zero is an InvalidArgumentError.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.binary import binary, own_dtype
from engine.op.broadcasting import unbroadcast
from engine.op.elementwise import INEXACT, conjugate, in_float32
from engine.op.kernels import invalid, require
from engine.op.registry import Kernel, NotDifferentiable, raw
from engine.op.samples import Sample, pairs, random_array
from engine.types import dtypes

__all__ = [
    "div", "div_no_nan", "divide", "floor_div", "floordiv", "floormod", "mod", "realdiv", "truediv", "truncatediv",
    "truncatemod",
]  # fmt: skip


def _divisor_checked(body: Kernel) -> Kernel:
    """Decorator: an integer divisor of 0 is an error, where NumPy warns and gives 0."""

    def kernel(k: Any, x: Any, y: Any) -> Any:
        if y.dtype.kind in "iu" and x.size and (k.xp is not np or not y.all()):
            require(k, y == 0, lambda: invalid("Integer division by zero"))
        return body(k, x, y)

    return kernel


def _toward_zero(xp: Any, x: Any, y: Any) -> Any:
    """The quotient of integers, rounded towards 0."""
    quotient = xp.floor_divide(x, y)
    if x.dtype.kind == "u":
        return quotient
    inexact = xp.remainder(x, y) != 0
    return (quotient + (inexact & ((x < 0) != (y < 0)))).astype(x.dtype)


def _quotient_grad(divide: str, name: str | None = None) -> Any:
    """d(x/y): g/y for x, and g·(-x/y)/y for y, in the order that keeps TensorFlow's behaviour at overflow."""

    def grad(op: Any, g: Any) -> Any:
        x, y = conjugate(op.inputs[0]), conjugate(op.inputs[1])
        over = partial(getattr(raw, divide), name=name)
        return unbroadcast(op, over(g, y), g * over(over(-x, y), y))

    return grad


def _between_whole_numbers(rng: np.random.Generator, dtype: Any) -> Any:
    """Pairs whose quotient is no whole number: where rounding it, or the remainder, does not jump."""
    for shape in ((2, 3), (), (0, 2)):
        whole = random_array(rng, dtypes.int64, shape, -3, 3)
        y = random_array(rng, dtype, shape, 1, 3)
        x = ((whole + rng.uniform(0.3, 0.7, shape)) * y.astype(np.float64)).astype(dtype.np_dtype)
        yield Sample(x, y, note="between whole numbers")


def _rounded_quotients(rng: np.random.Generator, dtype: Any) -> Any:
    if dtype.size > 2 or not dtype.is_floating:
        yield from pairs(-9, 9, nonzero=True, grad=())(rng, dtype)
    else:
        # The quotient is rounded to the dtype before it is rounded to a whole number.
        yield from _between_whole_numbers(rng, dtype)


# Quotients.


@_divisor_checked
def _div(k: Any, x: Any, y: Any) -> Any:
    return _toward_zero(k.xp, x, y) if x.dtype.kind in "iu" else k.xp.divide(x, y)


def _truncated(x: Any, y: Any) -> Any:
    return np.trunc(np.divide(x, y))


def _div_reference(x: Any, y: Any) -> Any:
    return _truncated(x, y) if x.dtype.kind in "iu" else np.divide(x, y)


binary(
    "Div",
    "numbers",
    kernel=_div,
    grad=_quotient_grad("RealDiv", "truediv"),
    samples=pairs(-9, 9, nonzero=True),
    reference=_div_reference,
)

realdiv = binary(
    "RealDiv",
    INEXACT,
    ufunc="divide",
    grad=_quotient_grad("RealDiv"),
    samples=pairs(-9, 9, nonzero=True),
)


@_divisor_checked
def _truncate_div(k: Any, x: Any, y: Any) -> Any:
    return _toward_zero(k.xp, x, y) if x.dtype.kind in "iu" else k.xp.trunc(k.xp.divide(x, y))


truncatediv = binary(
    "TruncateDiv",
    "reals",
    kernel=_truncate_div,
    grad=NotDifferentiable,
    samples=_rounded_quotients,
    reference=_truncated,
)


@_divisor_checked
def _floor_div(k: Any, x: Any, y: Any) -> Any:
    # np.floor_divide of floats takes the remainder's way to the floor: 1 // 0.1 is 9 there, 10 here and in TensorFlow.
    return k.xp.floor_divide(x, y) if x.dtype.kind in "iu" else k.xp.floor(k.xp.divide(x, y))


floor_div = binary(
    "FloorDiv",
    "reals",
    kernel=_floor_div,
    grad=NotDifferentiable,
    samples=_rounded_quotients,
    reference=lambda x, y: np.floor(np.divide(x, y)),
)


def _div_no_nan(k: Any, x: Any, y: Any) -> Any:
    return k.xp.where(y == 0, y.dtype.type(0), k.xp.divide(x, y))


_div_no_nan_op = binary(
    "DivNoNan",
    INEXACT,
    kernel=_div_no_nan,
    grad=_quotient_grad("DivNoNan", "div_no_nan"),
    samples=pairs(-9, 9, nonzero=True),
    reference=lambda x, y: np.where(np.equal(y, 0), 0, np.divide(x, np.where(np.equal(y, 0), 1, y))),
)


# Remainders.


def _floor_mod_samples(rng: np.random.Generator, dtype: Any) -> Any:
    yield from pairs(-9, 9, nonzero=True, grad=())(rng, dtype)
    if dtype.is_floating:
        yield from _between_whole_numbers(rng, dtype)


def _floor_mod_grad(op: Any, g: Any) -> Any:
    x, y = op.inputs
    return unbroadcast(op, g, g * -raw.FloorDiv(x, y))


floormod = binary(
    "FloorMod",
    "reals",
    kernel=_divisor_checked(in_float32(lambda k, x, y: k.xp.remainder(x, y))),
    grad=_floor_mod_grad,
    samples=_floor_mod_samples,
    reference=np.mod,
)
mod = floormod

_truncate_mod = _divisor_checked(in_float32(lambda k, x, y: k.xp.fmod(x, y)))
_MOD_TYPES = "{int32, int64, bfloat16, float16, float32, float64}"

truncatemod = binary(
    "TruncateMod",
    _MOD_TYPES,
    kernel=_truncate_mod,
    samples=pairs(-9, 9, nonzero=True, grad=()),
    reference=np.fmod,
)
binary(
    "Mod", _MOD_TYPES, kernel=_truncate_mod, samples=pairs(-9, 9, nonzero=True, grad=()), reference=np.fmod
)


# TensorFlow's functions over them.

_TRUE_DIVISION = {
    dtypes.int8: dtypes.float32,
    dtypes.uint8: dtypes.float32,
    dtypes.int16: dtypes.float32,
    dtypes.uint16: dtypes.float32,
    dtypes.int32: dtypes.float64,
    dtypes.uint32: dtypes.float64,
    dtypes.int64: dtypes.float64,
    dtypes.uint64: dtypes.float64,
}


def _operands(x: Any, y: Any) -> tuple[Any, Any, dtypes.DType]:
    """Two operands of which at least one is a tensor, and the dtype that it gives them.

    Raises TypeError if both are tensors and differ in dtype.
    """
    mine, other = own_dtype(x), own_dtype(y)
    if mine is None and other is None:
        x = convert_to_tensor(x, name="x")
        mine = x.dtype.base_dtype
    if mine is not None and other is not None and mine is not other:
        raise TypeError(f"x and y must have the same dtype, got {mine!r} != {other!r}")
    return x, y, mine or other  # type: ignore[return-value]  # one of them is there


def truediv(x: Any, y: Any, name: str | None = None) -> Any:
    """x / y as Python 3 divides: integers of up to 16 bits are cast to float32 first, wider ones to float64.

    Raises TypeError if the dtypes differ, or for one that has no division.
    """
    x, y, base = _operands(x, y)
    if base.is_floating or base.is_complex:
        return realdiv(x, y, name=name or "truediv")
    wide = _TRUE_DIVISION.get(base)
    if wide is None:
        raise TypeError(f"Invalid dtype {base!r} in __truediv__: only numbers can be divided")
    with name_scope(name, "truediv", [x, y]) as scope:
        x, y = convert_to_tensor(x, base, name="x"), convert_to_tensor(y, base, name="y")
        return realdiv(raw.Cast(x, DstT=wide), raw.Cast(y, DstT=wide), name=scope)


def divide(x: Any, y: Any, name: str | None = None) -> Any:
    """x / y as Python 3 divides; see `truediv`."""
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Any:
    """x / y as Python 2 divides: rounded down for integers.  Raises TypeError if the dtypes differ."""
    x, y, base = _operands(x, y)
    return (realdiv if base.is_floating or base.is_complex else floor_div)(x, y, name=name or "div")


def floordiv(x: Any, y: Any, name: str | None = None) -> Any:
    """floor(x / y), elementwise with broadcasting, of the operands' dtype."""
    return floor_div(x, y, name=name or "floordiv")


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Any:
    """x / y, and 0 where y is 0, elementwise with broadcasting."""
    return _div_no_nan_op(x, y, name=name or "div_no_nan")
