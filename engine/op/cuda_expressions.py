"""What each elementwise op is in CUDA: one expression, from a table, and the conversions of 16-bit floats that they need.

The expressions are those of the ops' own kernels, step for step, so that a fused kernel compiled without contraction
(`-fmad=false`) gives their bits; only where a function of CUDA's library stands for several steps here (erf), or is compiled
differently beside others (exp, tanh, pow), may the last bits differ: by `ULPS` at most.  16-bit floats are held in a float that
one of them is equal to: each step ends by rounding to one, as the ops apart do, and so do the steps inside of an op that round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.op.cuda import CONSTANTS, HALVES
from engine.types.dtypes import DType, as_dtype

ULPS = (
    2  # of the step's own dtype: what CUDA's guide states for the functions here, but for those of `_COARSE`
)

HELPERS = (
    CONSTANTS
    + HALVES
    + r"""
template <class T> __device__ T same(T x) { return x; }
template <class T> __device__ float half_of(T x) { return from_half(to_half((float)x)); }
__device__ float half_of(double x) { return from_half(to_half(x)); }
template <class T> __device__ float bfloat_of(T x) { return from_bfloat(to_bfloat((float)x)); }
template <class T> __device__ T greatest(T a, T b) { return a != a || b != b ? a + b : fmax(a, b); }
template <class T> __device__ T least(T a, T b) { return a != a || b != b ? a + b : fmin(a, b); }
template <class T> __device__ T squared(T x) { return x * x; }
template <class T> __device__ T sign_of(T x) { return x < 0 || x > 0 ? copysign((T)1, x) : x - x; }
template <class T> __device__ int shift_count(T n, int bits) { return n < 0 ? 0 : n >= (T)bits ? bits - 1 : (int)n; }
template <class T> __device__ T softplus_of(T x, T threshold) {
    T e = exp(least(x, -threshold));
    return x > -threshold ? x : x < threshold ? e : log1p(e);
}
"""
)


@dataclass(frozen=True, slots=True)
class CType:
    """How a dtype is held: `stored` in memory, `held` in a variable; `load`, `save` and `round` are functions, "" for none.

    `wide` is the unsigned type in which arithmetic on the integer wraps around.
    """

    stored: str
    held: str
    load: str = ""
    save: str = ""
    round: str = ""
    wide: str = "unsigned"


C_TYPES: Mapping[str, CType] = {
    "float16": CType("half_t", "float", "from_half", "to_half", "half_of"),
    "bfloat16": CType("half_t", "float", "from_bfloat", "to_bfloat", "bfloat_of"),
    "float32": CType("float", "float"),
    "float64": CType("double", "double"),
    "int8": CType("signed char", "signed char"),
    "uint8": CType("unsigned char", "unsigned char"),
    "int16": CType("short", "short"),
    "uint16": CType("unsigned short", "unsigned short"),
    "int32": CType("int", "int"),
    "uint32": CType("unsigned", "unsigned"),
    "int64": CType("long long", "long long", wide="unsigned long long"),
    "uint64": CType("unsigned long long", "unsigned long long", wide="unsigned long long"),
    "bool": CType("bool", "bool"),
}

# {0}, {1}, {2}: operands.  {T}: the held type; {U}: the unsigned one; {R}: what rounds to the dtype; {bits}: its width.
_FUNCTIONS = {
    "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan", "Atanh": "atanh", "Cos": "cos",
    "Cosh": "cosh", "Exp": "exp", "Expm1": "expm1", "Log": "log", "Log1p": "log1p", "Sin": "sin", "Sinh": "sinh",
    "Tan": "tan", "Tanh": "tanh", "Abs": "fabs", "Ceil": "ceil", "Floor": "floor", "Rint": "rint", "Round": "rint",
    "Sqrt": "sqrt", "Sign": "sign_of",
}  # fmt: skip
_FLOATS: Mapping[str, str] = {
    **{name: f"{function}({{0}})" for name, function in _FUNCTIONS.items()},
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "BiasAddV1"), "{0} + {1}"),
    **dict.fromkeys(("RealDiv", "Div"), "{0} / {1}"),
    **dict.fromkeys(("Reciprocal", "Inv"), "({T})1 / {0}"),
    **dict.fromkeys(("ReciprocalGrad", "InvGrad"), "-{1} * ({0} * {0})"),
    **dict.fromkeys(("Mod", "TruncateMod"), "fmod({0}, {1})"),
    "Atan2": "atan2({0}, {1})",
    "ClipByValue": "greatest(least({0}, {2}), {1})",
    "Conj": "{0}",
    "DivNoNan": "{1} == 0 ? ({T})0 : {0} / {1}",
    "Elu": "{0} < 0 ? expm1({0}) : {0}",
    "EluGrad": "{1} < 0 ? {0} * {R}({1} + ({T})1) : {0}",
    "Erf": "({T})erf((double){0})",
    "Erfc": "({T})erfc((double){0})",
    "FloorDiv": "floor({R}({0} / {1}))",
    "LeakyRelu": "{0} > 0 ? {0} : {0} * {alpha}",
    "LeakyReluGrad": "{1} > 0 ? {0} : {0} * {alpha}",
    "Maximum": "greatest({0}, {1})",
    "Minimum": "least({0}, {1})",
    "Mul": "{0} * {1}",
    "MulNoNan": "{1} == 0 ? ({T})0 : {0} * {1}",
    "Neg": "-{0}",
    "OnesLike": "({T})1",
    "Pow": "pow({0}, {1})",
    "Relu": "greatest({0}, ({T})0)",
    "Relu6": "least(greatest({0}, ({T})0), ({T})6)",
    "Relu6Grad": "{1} > 0 && {1} < 6 ? {0} : ({T})0",
    "ReluGrad": "{1} > 0 ? {0} : ({T})0",
    "Rsqrt": "({T})1 / sqrt({0})",
    "RsqrtGrad": "{1} * ({T})-0.5 * ({0} * {0}) * {0}",
    "Selu": "{0} < 0 ? {scale_alpha} * expm1({0}) : {scale} * {0}",
    "SeluGrad": "{1} < 0 ? {0} * {R}({1} + {scale_alpha}) : {0} * {scale}",
    "Sigmoid": "({T})1 / (({T})1 + exp(-{0}))",
    "SigmoidGrad": "{1} * {0} * (({T})1 - {0})",
    "Softplus": "softplus_of({0}, {threshold})",
    "SoftplusGrad": "{0} / (exp(-{1}) + ({T})1)",
    "Softsign": "{0} / (fabs({0}) + ({T})1)",
    "SoftsignGrad": "{0} / squared(fabs({1}) + ({T})1)",
    "SqrtGrad": "{1} * ({T})0.5 / {0}",
    "Square": "{0} * {0}",
    "SquaredDifference": "squared({R}({0} - {1}))",
    "Sub": "{0} - {1}",
    "TanhGrad": "{1} * (({T})1 - {0} * {0})",
    "TruncateDiv": "trunc({R}({0} / {1}))",
    "ZerosLike": "({T})0",
}
# Division is not here: a divisor of 0 is an error that the op's own kernel raises.
_INTEGERS: Mapping[str, str] = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "BiasAddV1"), "({U}){0} + ({U}){1}"),
    **dict.fromkeys(("Conj", "Round"), "{0}"),
    "Abs": "{0} < 0 ? ({U})0 - ({U}){0} : ({U}){0}",
    "BitwiseAnd": "{0} & {1}",
    "BitwiseOr": "{0} | {1}",
    "BitwiseXor": "{0} ^ {1}",
    "ClipByValue": "({0} < {2} ? {0} : {2}) > {1} ? ({0} < {2} ? {0} : {2}) : {1}",
    "Invert": "~{0}",
    "LeftShift": "({U}){0} << shift_count({1}, {bits})",
    "Maximum": "{0} > {1} ? {0} : {1}",
    "Minimum": "{0} < {1} ? {0} : {1}",
    "Mul": "({U}){0} * ({U}){1}",
    "Neg": "({U})0 - ({U}){0}",
    "OnesLike": "1",
    "Relu": "{0} > 0 ? {0} : ({T})0",
    "Relu6": "{0} > 6 ? ({T})6 : {0} > 0 ? {0} : ({T})0",
    "Relu6Grad": "{1} > 0 && {1} < 6 ? {0} : ({T})0",
    "ReluGrad": "{1} > 0 ? {0} : ({T})0",
    "RightShift": "{0} >> shift_count({1}, {bits})",
    "Sign": "({0} > 0) - ({0} < 0)",
    "Square": "({U}){0} * ({U}){0}",
    "SquaredDifference": "squared(({U}){0} - ({U}){1})",
    "Sub": "({U}){0} - ({U}){1}",
    "ZerosLike": "0",
}
_BOOLEANS: Mapping[str, str] = {
    "LogicalAnd": "{0} && {1}",
    "LogicalNot": "!{0}",
    "LogicalOr": "{0} || {1}",
    "OnesLike": "true",
    "ZerosLike": "false",
}
# What gives a bool whatever it reads; the last three read floats.
_TESTS: Mapping[str, str] = {
    "Equal": "{0} == {1}", "NotEqual": "{0} != {1}", "Less": "{0} < {1}", "LessEqual": "{0} <= {1}",
    "Greater": "{0} > {1}", "GreaterEqual": "{0} >= {1}", "IsNan": "{0} != {0}", "IsInf": "fabs({0}) == INFINITY",
    "IsFinite": "fabs({0}) < INFINITY",
}  # fmt: skip
_CHOICES = frozenset({"Select", "SelectV2"})
_SUMS = "AddN"
_SCALE, _SCALE_ALPHA = (
    1.0507009873554804934193349852946,
    1.7580993408473768599402175208123,
)  # SELU's fixed point
# CUDA's guide states more than 2 units for these, or their arguments are first rounded.
_COARSE = {
    "Pow": 8,
    "Sinh": 4,
    "Cosh": 4,
    "Tan": 4,
    "Acosh": 4,
    "Asinh": 4,
    "Atanh": 4,
    "Asin": 4,
    "Atan2": 4,
    "Acos": 4,
}
_FUNCTIONAL = frozenset(_FUNCTIONS) - {"Abs", "Ceil", "Floor", "Rint", "Round", "Sqrt", "Sign"} | {
    "Elu", "Erf", "Erfc", "Pow", "Selu", "Sigmoid", "Softplus", "SoftplusGrad", "Atan2",
}  # fmt: skip


def ulps(op_type: str) -> int:
    """How far the op's expression may be from its kernel's result, in units in the last place; 0: the same bits."""
    return _COARSE.get(op_type, ULPS) if op_type in _FUNCTIONAL else 0


def is_float(dtype: str) -> bool:
    return "float" in dtype


def literal(value: float, dtype: str) -> str:
    """`value` rounded to `dtype`, a float, as a C constant of its held type."""
    rounded = float(np.asarray(value).astype(as_dtype(dtype).np_dtype))
    text = rounded.hex() if math.isfinite(rounded) else ("NAN" if math.isnan(rounded) else "INFINITY")
    if not math.isfinite(rounded) and rounded < 0:
        text = "-INFINITY"
    return text if dtype == "float64" or not math.isfinite(rounded) else text + "f"


def _working(op_type: str, dtype: str) -> str:
    """The dtype of an op's constants: float32 for those that compute 16-bit floats in it and round once."""
    return "float32" if dtype in ("float16", "bfloat16") and op_type in ("Selu", "Softplus") else dtype


def expression(
    op_type: str, attrs: Mapping[str, Any], operands: Sequence[str], dtypes: Sequence[str]
) -> tuple[str, str] | None:
    """The C expression of an op on these variables, and its dtype; None if there is none for these dtypes.

    attrs: all of the op's, those with default values too.
    The expression's value is that of the result before it is brought to its type (`held`) and rounded.
    """
    if any(dtype not in C_TYPES for dtype in dtypes):
        return None
    if op_type == "Cast":
        return _cast(attrs, operands[0], dtypes[0])
    if op_type in _CHOICES:
        condition, first, second = dtypes
        chosen = f"{operands[0]} ? {operands[1]} : {operands[2]}"
        return (chosen, first) if condition == "bool" and first == second else None
    dtype = dtypes[0]
    if any(other != dtype for other in dtypes):
        return None
    if op_type == _SUMS:
        return _sum(operands, dtype)
    if op_type in _TESTS:
        floats_only = op_type.startswith("Is")
        return (_TESTS[op_type].format(*operands), "bool") if is_float(dtype) or not floats_only else None
    table = _FLOATS if is_float(dtype) else _BOOLEANS if dtype == "bool" else _INTEGERS
    template = table.get(op_type)
    return None if template is None else (_filled(template, op_type, attrs, operands, dtype), dtype)


def _filled(
    template: str, op_type: str, attrs: Mapping[str, Any], operands: Sequence[str], dtype: str
) -> str:
    kind = C_TYPES[dtype]
    names: dict[str, Any] = {"T": kind.held, "U": kind.wide, "R": kind.round or "same"}
    if is_float(dtype):
        working = _working(op_type, dtype)
        eps = float(np.finfo(np.float64 if working == "float64" else np.float32).eps)
        if "alpha" in attrs:
            names["alpha"] = literal(attrs["alpha"], dtype)
        names["scale"], names["scale_alpha"] = literal(_SCALE, working), literal(_SCALE_ALPHA, working)
        names["threshold"] = literal(math.log(eps) + 2.0, working)
    else:
        names["bits"] = 8 * np.dtype(dtype).itemsize
    return template.format(*operands, **names)


def _sum(operands: Sequence[str], dtype: str) -> tuple[str, str] | None:
    if dtype == "bool":
        return None
    kind = C_TYPES[dtype]
    total = operands[0]
    for other in operands[1:]:
        total = (
            f"{kind.round or 'same'}({total} + {other})"
            if is_float(dtype)
            else f"({kind.wide}){total} + ({kind.wide}){other}"
        )
    return total, dtype


def _cast(attrs: Mapping[str, Any], operand: str, source: str) -> tuple[str, str] | None:
    target: DType = attrs["DstT"]
    if attrs["Truncate"] or target.name not in C_TYPES:
        return None
    if target.name == "bool":
        return f"{operand} != 0", "bool"
    return operand, target.name
