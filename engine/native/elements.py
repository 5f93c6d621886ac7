"""What elementwise ops do to one element of each operand, in LLVM IR: one row an op type.

The formulas are those of the ops' NumPy kernels, operation by operation, so that arithmetic, comparisons, choices and
conversions have NumPy's bits.  The 16-bit floats are computed in float32 and rounded where NumPy would round them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.native import vector_math
from engine.native.element_types import BFLOAT16, HALF, Inexpressible, kind_of, rounded, types_of
from engine.native.ir import Function
from engine.native.values import FLOATS, Value


@dataclass
class Step:
    """One op being written: `dtype` is that of its operands (the last one's, where the first is a condition)."""

    f: Function
    type: str
    dtype: np.dtype[Any]
    result: np.dtype[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    ulps: float = 0.0

    @property
    def unsigned(self) -> bool:
        return self.dtype.kind == "u"

    def round(self, value: Value) -> Value:
        """Where NumPy has an array in between."""
        return rounded(self.f, value, self.dtype)

    def number(self, value: float) -> Value:
        """A number in the dtype, as a NumPy kernel writes ``dtype.type(value)``."""
        if kind_of(self.dtype) == "f":
            value = float(np.asarray(value).astype(self.dtype))
        return self.f.constant(types_of(self.dtype)[1], value)

    def math(self, name: str, *operands: Value) -> Value:
        self.ulps += vector_math.ulps(name, operands[0].type)
        return vector_math.apply(self.f, name, *operands)

    def attr(self, name: str, default: Any) -> Any:
        return self.attrs.get(name, default)


Rule = Callable[..., Value]
_ALPHA = float(np.float32(0.2))  # of a leaky ReLU, unless it says otherwise: attrs are float32


@dataclass(frozen=True, slots=True)
class Op:
    """kinds: of dtypes that it takes.  operands: how many, or -1 for any number.  result: "b" for bool, "" for the operands'."""

    rule: Rule
    kinds: str
    operands: int
    result: str = ""
    condition: bool = False  # whether the first operand is a bool that chooses


# Rules.  s is the Step.


def _is_finite(s: Step, x: Value) -> Value:
    return s.f.abs(x) < math.inf


def _sign(s: Step, x: Value) -> Value:
    if s.dtype == BFLOAT16:  # ml_dtypes keeps a zero's sign
        return s.f.select((s.f.abs(x) > 0), s.f.copysign(s.f.like(x, 1), x), x)
    zero, one = s.f.like(x, 0), s.f.like(x, 1)
    if s.unsigned:
        return s.f.select(x.equals(0), zero, one)
    signed = s.f.select(x > 0, one, s.f.select(x < 0, s.f.like(x, -1), zero))
    return s.f.select(x.differs(x), x, signed) if x.type in FLOATS else signed


def _abs(s: Step, x: Value) -> Value:
    if x.type in FLOATS:
        return s.f.abs(x)
    return x if s.unsigned else s.f.select(x < 0, -x, x)


def _extreme(relation: str) -> Rule:
    def rule(s: Step, x: Value, y: Value) -> Value:
        f = s.f
        if s.dtype == HALF:  # of two zeros the first, not the second
            return f.select(x.differs(x) | x.compare(relation + "=", y), x, y)
        return (f.maximum if relation == ">" else f.minimum)(x, y, unsigned=s.unsigned)

    return rule


_maximum, _minimum = _extreme(">"), _extreme("<")


def _relu(s: Step, x: Value) -> Value:
    return _maximum(s, x, s.f.like(x, 0))


def _positive(s: Step, x: Value) -> Value:
    return x.compare(">", 0, unsigned=s.unsigned)


def _add_n(s: Step, *values: Value) -> Value:
    total = values[0]
    for each in values[1:]:
        total = s.round(total + each)
    return total


def _squared_difference(s: Step, x: Value, y: Value) -> Value:
    difference = s.round(x - y)
    return difference * difference


def _rounding(intrinsic: str) -> Rule:
    return lambda s, x: s.f.intrinsic(intrinsic, x)


def _round(s: Step, x: Value) -> Value:
    return s.f.rint(x) if x.type in FLOATS else x


def _quotient(intrinsic: str) -> Rule:
    return lambda s, x, y: s.f.intrinsic(intrinsic, s.round(x / y))


def _floor_mod(s: Step, x: Value, y: Value) -> Value:
    f = s.f
    rest = s.math("fmod", x, y)
    other_sign = (y < 0.0) ^ (rest < 0.0)
    moved = f.select(other_sign, rest + y, rest)
    return f.select(rest.equals(0.0), f.copysign(f.like(x, 0.0), y), moved)


def _elu(s: Step, x: Value) -> Value:
    return s.f.select(x < 0, s.math("expm1", _minimum(s, x, s.f.like(x, 0.0))), x)


def _selu(s: Step, x: Value) -> Value:
    f = s.f
    negative = s.math("expm1", _minimum(s, x, f.like(x, 0.0))) * _SELU_SCALE_ALPHA
    return f.select(x < 0, negative, x * _SELU_SCALE)


_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_SCALE_ALPHA = 1.7580993408473768599402175208123


def _softplus(s: Step, x: Value) -> Value:
    f = s.f
    eps = np.finfo(np.float32 if x.type == "float" else np.float64).eps
    threshold = float(np.float32(math.log(eps) + 2)) if x.type == "float" else math.log(eps) + 2
    exp = s.math("exp", _minimum(s, x, f.like(x, -threshold)))
    return f.select(x > -threshold, x, f.select(x < threshold, exp, s.math("log1p", exp)))


def _sigmoid(s: Step, x: Value) -> Value:
    s.ulps += 1
    return 1.0 / (s.math("exp", -x) + 1.0)


def _softsign_grad(s: Step, g: Value, x: Value) -> Value:
    scale = s.f.abs(x) + 1.0
    return g / (scale * scale)


def _clip(s: Step, x: Value, low: Value, high: Value) -> Value:
    return _maximum(s, _minimum(s, x, high), low)


def _shift(left: bool) -> Rule:
    def rule(s: Step, x: Value, y: Value) -> Value:
        most = s.f.like(y, 8 * s.dtype.itemsize - 1)
        count = _minimum(s, _maximum(s, y, s.f.like(y, 0)), most)
        return x.bits("shl" if left else "lshr" if s.unsigned else "ashr", count)

    return rule


def _cast(s: Step, x: Value) -> Value:
    """As C converts.  A float out of an integer's range gives what this processor gives."""
    f = s.f
    source, target = kind_of(s.dtype), kind_of(s.result)
    into = types_of(s.result)[1]
    if s.dtype == s.result:
        return x
    if s.attr("Truncate", False) and source == target == "f":
        raise Inexpressible("a cast that truncates")
    if target == "b":
        return x.differs(0)
    if target == "f":
        return _to_float(s, x, source, into)
    if source == "f":
        if s.result == np.uint64:
            raise Inexpressible("a cast from a float to uint64")
        wide = "i32" if s.result.itemsize < 4 or s.result == np.int32 else "i64"
        whole = f.convert("fptosi", x, wide)
        return whole if wide == into else f.convert("trunc", whole, into)
    have, want = (1 if source == "b" else 8 * s.dtype.itemsize), 8 * s.result.itemsize
    if have == want:
        return x
    return f.convert("trunc" if have > want else "sext" if source == "i" else "zext", x, into)


def _to_float(s: Step, x: Value, source: str, into: str) -> Value:
    f = s.f
    short = s.result in (HALF, BFLOAT16)
    if source == "f":
        if x.type == into:  # between 16-bit floats and float32: rounded below
            return rounded(f, x, s.result)
        if short:
            raise Inexpressible(f"a cast from {s.dtype} to {s.result}")
        return f.convert("fpext" if into == "double" else "fptrunc", x, into)
    if short and s.dtype.itemsize > 2:
        raise Inexpressible(f"a cast from {s.dtype} to {s.result}")
    return rounded(f, f.convert("sitofp" if source == "i" else "uitofp", x, into), s.result)


def _invert(s: Step, x: Value) -> Value:
    return x ^ (True if x.type == "i1" else -1)


def _function(name: str) -> Rule:
    return lambda s, *x: s.math(name, *x)


def _comparison(relation: str) -> Rule:
    return lambda s, x, y: x.compare(relation, y, unsigned=s.unsigned)


_REAL, _INT, _ANY = "fiu", "iu", "fiub"

_REALS: dict[str, tuple[int, Rule]] = {
    "Add": (2, lambda s, x, y: x + y),
    "AddV2": (2, lambda s, x, y: x + y),
    "AddN": (-1, _add_n),
    "BiasAdd": (2, lambda s, x, y: x + y),
    "BiasAddV1": (2, lambda s, x, y: x + y),
    "Sub": (2, lambda s, x, y: x - y),
    "Mul": (2, lambda s, x, y: x * y),
    "Neg": (1, lambda s, x: -x),
    "Abs": (1, _abs),
    "Sign": (1, _sign),
    "Square": (1, lambda s, x: x * x),
    "SquaredDifference": (2, _squared_difference),
    "Maximum": (2, _maximum),
    "Minimum": (2, _minimum),
    "Relu": (1, _relu),
    "ReluGrad": (2, lambda s, g, x: s.f.select(_positive(s, x), g, s.f.like(g, 0))),
    "Relu6": (1, lambda s, x: _minimum(s, _relu(s, x), s.f.like(x, 6))),
    "Relu6Grad": (
        2,
        lambda s, g, x: s.f.select(
            _positive(s, x) & x.compare("<", 6, unsigned=s.unsigned), g, s.f.like(g, 0)
        ),
    ),
    "ClipByValue": (3, _clip),
}

_FLOATING: dict[str, tuple[int, Rule]] = {
    "RealDiv": (2, lambda s, x, y: x / y),
    "Div": (2, lambda s, x, y: x / y),
    "DivNoNan": (2, lambda s, x, y: s.f.select(y.equals(0), s.f.like(x, 0), x / y)),
    "MulNoNan": (2, lambda s, x, y: s.f.select(y.equals(0), s.f.like(x, 0), x * y)),
    "FloorDiv": (2, _quotient("floor")),
    "TruncateDiv": (2, _quotient("trunc")),
    "FloorMod": (2, _floor_mod),
    "Mod": (2, _function("fmod")),
    "TruncateMod": (2, _function("fmod")),
    "Reciprocal": (1, lambda s, x: 1.0 / x),
    "Inv": (1, lambda s, x: 1.0 / x),
    "ReciprocalGrad": (2, lambda s, y, g: -g * (y * y)),
    "InvGrad": (2, lambda s, y, g: -g * (y * y)),
    "Sqrt": (1, lambda s, x: s.f.sqrt(x)),
    "SqrtGrad": (2, lambda s, y, g: g * 0.5 / y),
    "Rsqrt": (1, lambda s, x: 1.0 / s.f.sqrt(x)),
    "RsqrtGrad": (2, lambda s, y, g: g * -0.5 * (y * y) * y),
    "Floor": (1, _rounding("floor")),
    "Ceil": (1, _rounding("ceil")),
    "Rint": (1, _rounding("rint")),
    "Tanh": (1, _function("tanh")),
    "TanhGrad": (2, lambda s, y, g: g * (1.0 - y * y)),
    "Sigmoid": (1, _sigmoid),
    "SigmoidGrad": (2, lambda s, y, g: g * y * (1.0 - y)),
    "LeakyRelu": (1, lambda s, x: s.f.select(x > 0, x, x * s.number(s.attr("alpha", _ALPHA)))),
    "LeakyReluGrad": (2, lambda s, g, x: s.f.select(x > 0, g, g * s.number(s.attr("alpha", _ALPHA)))),
    "Elu": (1, _elu),
    "EluGrad": (2, lambda s, g, y: s.f.select(y < 0, g * s.round(y + 1.0), g)),
    "Selu": (1, _selu),
    "SeluGrad": (
        2,
        lambda s, g, y: s.f.select(
            y < 0, g * s.round(y + s.number(_SELU_SCALE_ALPHA)), g * s.number(_SELU_SCALE)
        ),
    ),
    "Softplus": (1, _softplus),
    "SoftplusGrad": (2, lambda s, g, x: g / (s.math("exp", -x) + 1.0)),
    "Softsign": (1, lambda s, x: x / (s.f.abs(x) + 1.0)),
    "SoftsignGrad": (2, _softsign_grad),
    "Pow": (2, _function("pow")),
    "Atan2": (2, _function("atan2")),
    **{
        name: (1, _function(name.lower()))
        for name in (
            "Exp", "Expm1", "Log", "Log1p", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
            "Atanh", "Erf", "Erfc",
        )
    },
}  # fmt: skip

OPS: dict[str, Op] = {
    **{name: Op(rule, _REAL, count) for name, (count, rule) in _REALS.items()},
    **{name: Op(rule, "f", count) for name, (count, rule) in _FLOATING.items()},
    **{
        name: Op(_comparison(relation), _REAL, 2, "b")
        for name, relation in (("Less", "<"), ("LessEqual", "<="), ("Greater", ">"), ("GreaterEqual", ">="))
    },
    "Equal": Op(_comparison("=="), _ANY, 2, "b"),
    "NotEqual": Op(_comparison("!="), _ANY, 2, "b"),
    "IsNan": Op(lambda s, x: x.differs(x), "f", 1, "b"),
    "IsInf": Op(lambda s, x: s.f.abs(x).equals(math.inf), "f", 1, "b"),
    "IsFinite": Op(_is_finite, "f", 1, "b"),
    "LogicalAnd": Op(lambda s, x, y: x & y, "b", 2),
    "LogicalOr": Op(lambda s, x, y: x | y, "b", 2),
    "LogicalNot": Op(_invert, "b", 1),
    "BitwiseAnd": Op(lambda s, x, y: x & y, _INT, 2),
    "BitwiseOr": Op(lambda s, x, y: x | y, _INT, 2),
    "BitwiseXor": Op(lambda s, x, y: x ^ y, _INT, 2),
    "Invert": Op(_invert, _INT, 1),
    "LeftShift": Op(_shift(True), _INT, 2),
    "RightShift": Op(_shift(False), _INT, 2),
    "Select": Op(lambda s, c, x, y: s.f.select(c, x, y), _ANY, 3, condition=True),
    "SelectV2": Op(lambda s, c, x, y: s.f.select(c, x, y), _ANY, 3, condition=True),
    "Cast": Op(_cast, _ANY, 1, "cast"),
    "Round": Op(_round, "fi", 1),
    "Identity": Op(lambda s, x: x, _ANY, 1),
    "Conj": Op(lambda s, x: x, _REAL, 1),
    "ZerosLike": Op(lambda s, x: s.f.like(x, 0), _ANY, 1),
    "OnesLike": Op(lambda s, x: s.f.like(x, 1), _ANY, 1),
}


def result_dtype(type: str, operands: Sequence[np.dtype[Any]], attrs: Mapping[str, Any]) -> np.dtype[Any]:
    """The dtype that an op gives for operands of these.  Raises Inexpressible where it has no rule for them."""
    op = OPS.get(type)
    if op is None:
        raise Inexpressible(f"op {type} has no native form")
    if len(operands) != op.operands and not (op.operands < 0 and operands):
        raise Inexpressible(f"{type} with {len(operands)} operands")
    if op.condition and operands[0] != np.bool_:
        raise Inexpressible(f"{type} with a condition of dtype {operands[0]}")
    values = operands[1:] if op.condition else operands
    if len(set(values)) != 1 or kind_of(values[0]) not in op.kinds:
        raise Inexpressible(f"{type} of {', '.join(map(str, operands))}")
    types_of(values[0])
    if op.result == "cast":
        target = attrs["DstT"]
        dtype: np.dtype[Any] = np.dtype(getattr(target, "np_dtype", target))
        types_of(dtype)
        return dtype
    return np.dtype(np.bool_) if op.result == "b" else values[0]


def write(
    f: Function,
    type: str,
    operands: Sequence[Value],
    dtypes: Sequence[np.dtype[Any]],
    attrs: Mapping[str, Any],
) -> tuple[Value, float]:
    """The op's result, rounded to its dtype, and how many units in the last place it may be off."""
    op = OPS[type]
    result = result_dtype(type, dtypes, attrs)
    step = Step(f, type, dtypes[-1], result, attrs)
    value = op.rule(step, *operands)
    if result == step.dtype:
        value = rounded(f, value, result)
    return value, step.ulps
