"""Which of a tape's steps a fused kernel can do, and what they cost in nanoseconds there and by themselves.

The figures are of one core of an AMD EPYC (AVX-512, NumPy 2.4, arrays of 4,096 elements, best of seven times): what matters is
how they compare.  A step by itself reads and writes memory, whose rate depends on how much it touches, and calls NumPy's loop
once for each run of elements; a fused one reads and writes what comes from outside and leaves, and computes in registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.native import layout

if TYPE_CHECKING:
    import numpy as np

    from engine.native.layout import View
    from engine.runtime.plan.recording import Step

COMPILING = 25e6  # ns: a kernel, when it is not on the disk already
LONG_ROW = 64  # elements from which on a fused kernel walks rows as they lie (`engine.native.chain_loops`)
_STEP = 12.0  # of one instruction with a call
_CALL = 9.0  # of each further call of a loop within an instruction
_ROW = 12.0  # of a row of a fused kernel
_SPREAD = 0.15  # an element of an operand that is repeated along short rows
_RATES = ((24e3, 0.0055), (600e3, 0.0105), (8e6, 0.0145), (math.inf, 0.0175))  # ns a byte, by bytes touched
_FOLDED = 14.0  # of each result of a reduction
# An element of a reduction of float32 and of float64, besides memory: in NumPy, and at the end of a fused kernel.
_FOLD = {"add": (0.22, 0.2), "maximum": (0.06, 0.1), "minimum": (0.06, 0.1)}
_FUSED_FOLD = {"add": (0.15, 0.28), "maximum": (0.13, 0.25), "minimum": (0.13, 0.25)}
_HALF = (2.0, 5.0)  # of float16 in NumPy, an element: of what gives another dtype, and the same


@dataclass(frozen=True, slots=True)
class Op:
    """`types`: the op types of `engine.native.elements` that do it, each on what the one before gives and the next operand.

    alone: what NumPy computes on an element of float32 and of float64; one: that where an operand is a single number along the
    loop, for which some loops have no vector code; fused: what a fused kernel computes; all without memory.
    """

    types: tuple[str, ...]
    alone: tuple[float, float] = (0.0, 0.0)
    fused: tuple[float, float] = (0.01, 0.02)
    one: tuple[float, float] = (0.0, 0.0)


def _plain(**types: str) -> dict[str, Op]:
    return {name: Op((type,)) for name, type in types.items()}


# By the ufunc's name.  What calls the C library for each element is as slow in both.
UFUNCS: dict[str, Op] = {
    **_plain(
        add="AddV2", subtract="Sub", multiply="Mul", negative="Neg", absolute="Abs", fabs="Abs", square="Square",
        floor="Floor", ceil="Ceil", rint="Rint", less="Less", less_equal="LessEqual",
        greater="Greater", greater_equal="GreaterEqual", equal="Equal", not_equal="NotEqual",
        isnan="IsNan", isinf="IsInf", isfinite="IsFinite", logical_and="LogicalAnd", logical_or="LogicalOr",
        logical_not="LogicalNot", logical_xor="NotEqual", bitwise_and="BitwiseAnd", bitwise_or="BitwiseOr",
        bitwise_xor="BitwiseXor", invert="Invert", positive="Identity", conjugate="Conj",
    ),
    "maximum": Op(("Maximum",), one=(0.8, 0.33)),
    "minimum": Op(("Minimum",), one=(0.8, 0.33)),
    "clip": Op(("Maximum", "Minimum"), one=(0.8, 0.33)),
    "divide": Op(("RealDiv",), (0.14, 0.35), (0.11, 0.35)),
    "reciprocal": Op(("Reciprocal",), (0.25, 0.69), (0.13, 0.36)),
    "sqrt": Op(("Sqrt",), (0.4, 1.33), (0.2, 0.7)),
    "sign": Op(("Sign",), (0.7, 0.65), (0.08, 0.11)),
    "exp": Op(("Exp",), (2.1, 9.2), (0.7, 2.0)),
    "expm1": Op(("Expm1",), (12.5, 6.2), (0.8, 2.3)),
    "log": Op(("Log",), (2.4, 4.4), (1.3, 3.0)),
    "log1p": Op(("Log1p",), (14.5, 8.0), (1.4, 3.6)),
    "sin": Op(("Sin",), (2.6, 10.0), (2.0, 2.8)),
    "cos": Op(("Cos",), (2.6, 9.8), (1.9, 2.7)),
    "tanh": Op(("Tanh",), (4.1, 17.4), (0.9, 2.5)),
    "power": Op(("Pow",), (10.0, 25.0), (7.0, 25.0)),
    "fmod": Op(("Mod",), (6.0, 7.6), (4.5, 7.6)),
    "tan": Op(("Tan",), (14.0, 14.0), (14.0, 14.0)),
    "sinh": Op(("Sinh",), (19.0, 20.0), (17.0, 20.0)),
    "cosh": Op(("Cosh",), (13.0, 10.0), (12.0, 10.0)),
    "arcsin": Op(("Asin",), (9.4, 5.4), (10.0, 8.0)),
    "arccos": Op(("Acos",), (8.7, 9.2), (10.0, 9.2)),
    "arctan": Op(("Atan",), (6.0, 10.0), (10.0, 10.0)),
    "arcsinh": Op(("Asinh",), (20.0, 15.0), (20.0, 18.0)),
    "arctanh": Op(("Atanh",), (22.0, 22.0), (22.0, 24.0)),
    "arctan2": Op(("Atan2",), (18.7, 42.0), (18.7, 40.0)),
}  # fmt: skip

# The same on booleans, where NumPy's name says something else.
BOOLEANS: dict[str, Op] = _plain(
    bitwise_and="LogicalAnd", bitwise_or="LogicalOr", bitwise_xor="NotEqual", invert="LogicalNot", logical_xor="NotEqual",
    maximum="LogicalOr", minimum="LogicalAnd", add="LogicalOr", multiply="LogicalAnd",
)  # fmt: skip

# By the kind of other steps.
KINDS: dict[str, Op] = {
    "select": Op(("SelectV2",), one=(1.6, 1.4)),
    "cast": Op(("Cast",)),
    "copy": Op(("Identity",), one=(0.45, 0.33)),
}

# What reductions a chain may end in.
FOLDS = {"add": "Sum", "maximum": "Max", "minimum": "Min"}


def op_of(step: Step) -> Op | None:
    """How a fused kernel does a step; None if it has no way."""
    if step.kind != "ufunc":
        return KINDS.get(step.kind)
    if len(step.writes) != 1:
        return None
    table = BOOLEANS if step.reads and all(view.dtype.kind == "b" for view in step.reads) else UFUNCS
    return table.get(step.data) or UFUNCS.get(step.data)


def _wide(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize > 4


def alone(step: Step) -> float:
    """What an elementwise step or a reduction costs as an instruction of its own."""
    views = (*step.reads, *step.writes)
    shape = step.writes[0].shape
    if step.kind == "reduce":
        source = step.reads[0]
        rows = step.writes[0].size
        fold = _FOLD.get(step.data[0], (0.2, 0.2))[_wide(source.dtype)]
        return _STEP + rows * _FOLDED + source.size * (fold + source.dtype.itemsize * _rate(source.nbytes))
    walk = layout.elementwise(tuple((view.shape, view.strides, view.dtype.itemsize) for view in views))
    if walk is None:
        return _STEP
    size = math.prod(shape)
    touched = _touched(views)
    op = op_of(step)
    dtype = step.reads[-1].dtype
    computing = 0.0
    if op is not None:
        alike = all(steps for steps in walk.strides[0])
        computing = op.alone[_wide(dtype)] if alike else max(op.alone[_wide(dtype)], op.one[_wide(dtype)])
        if dtype.kind == "f" and dtype.itemsize == 2:
            computing += _HALF[step.writes[0].dtype == dtype]
    return _STEP + (walk.calls - 1) * _CALL + max(touched * _rate(touched), size * computing)


def fused(
    steps: Sequence[Step],
    outside: Sequence[View],
    shape: tuple[int, ...],
    repeated: int,
    folded: bool = False,
) -> float:
    """What they cost as one call: `outside` are the operands that come from memory or go there, `repeated` of which broadcast.

    With `folded`, the last step is a reduction, and the last of the operands what it gives.
    """
    size = math.prod(shape)
    touched = _touched(outside)
    computing = sum(
        op.fused[_wide(step.writes[0].dtype)] for step in steps if (op := op_of(step)) is not None
    )
    total = _STEP + touched * _rate(touched) + size * computing
    if folded:
        fold = _FUSED_FOLD[steps[-1].data[0]][_wide(outside[-1].dtype)]
        total += _STEP + size * fold + outside[-1].size * _FOLDED
    if repeated and len(shape) > 1:
        rows = size // shape[-1]
        total += rows * _ROW if shape[-1] >= LONG_ROW else size * _SPREAD * repeated
    return total


def _touched(views: Sequence[View]) -> int:
    return sum(view.nbytes for view in views if any(view.strides) or view.size == 1)


def _rate(touched: float) -> float:
    return next(rate for limit, rate in _RATES if touched <= limit)
