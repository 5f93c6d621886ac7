"""Elementary functions on vectors, written in LLVM IR: for every argument, in float32 and float64.

Each is a function of its own that is called, not copied in, which keeps compilation short.  None raises a flag that matters, all
take subnormal, infinite and huge arguments and NaN.  `ULPS` says how far a result may be from the exact one, in units in the last
place; the tests measure it.  What is in `_BY_LANE` calls the C library for each lane, in float64.

Methods: argument reduction to a small interval, where a Taylor series to below half a unit does (exp, expm1, log as in Kahan's
and Ng's 1986 design with s = f/(2+f), sin, cos); erf by polynomials fitted for it in float32 and by Cody's rational functions in
float64 (W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.native.ir import Function
from engine.native.values import Value

# Largest errors, (float32, float64), against the exact result.
ULPS: dict[str, tuple[float, float]] = {
    "exp": (1.1, 1.1),
    "expm1": (2.0, 2.0),
    "log": (1.0, 1.0),
    "log1p": (1.0, 1.0),
    "tanh": (2.5, 2.75),
    "erf": (1.5, 2.0),
    "sin": (0.6, 1.1),
    "cos": (0.6, 1.1),
    "pow": (0.6, 1.0),
    "tan": (0.6, 1.0),
    "sinh": (0.6, 2.0),
    "cosh": (0.6, 2.0),
    "asin": (0.6, 1.0),
    "acos": (0.6, 1.0),
    "atan": (0.6, 1.0),
    "asinh": (0.6, 2.0),
    "acosh": (0.6, 2.0),
    "atanh": (0.6, 2.0),
    "erfc": (0.6, 4.0),
    "atan2": (0.6, 1.0),
    "fmod": (0.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class _Format:
    """What a floating-point type is made of.  least and most: where exp is 0 and infinite; ln 2 in two parts, the first short."""

    integer: str
    mantissa: int
    bias: int
    normal: float
    least: float
    most: float
    ln2: tuple[float, float]
    terms: int  # of the series of exp
    log_terms: int


_hex = float.fromhex

_FORMATS = {
    "float": _Format(
        "i32", 23, 127, 2.0**-126, -104.0, 89.0, (0.693359375, -2.12194440054690583e-4), 8, 5
    ),
    "double": _Format(
        "i64", 52, 1023, 2.0**-1022, -746.0, 710.0,
        (_hex("0x1.62e42feep-1"), 1.90821492927058781614e-10), 14, 11,
    ),
}  # fmt: skip


def apply(f: Function, name: str, *operands: Value) -> Value:
    """Write a call of the function `name` (a key of `ULPS`) into f."""
    first = operands[0]
    symbol = f"{name}_{first.type}_{first.lanes}"

    def write() -> Function:
        kind = (first.type, first.lanes)
        helper = Function(f.module, symbol, [kind] * len(operands), kind, lanes=first.lanes)
        body = _VECTOR.get(name)
        if body is not None:
            helper.ret(body(helper, *helper.parameters))
        else:
            helper.ret(_by_lane(helper, name, helper.parameters))
        return helper

    return f.call(f.module.helper(symbol, write), *operands)


def ulps(name: str, type: str) -> float:
    """The bound on the error of the function in an element type."""
    return ULPS[name][type == "double"]


# Exponentials.


def _reduced(f: Function, x: Value) -> tuple[Value, Value]:
    """n, whole, and r with x = n·ln 2 + r and |r| ≤ ln 2 / 2."""
    of = _FORMATS[x.type]
    n = f.rint(x * (1 / math.log(2)))
    high, low = of.ln2
    return n, f.fma(n, -low, f.fma(n, -high, x))


def _to_integer(f: Function, n: Value) -> Value:
    """A small whole number as an integer as wide as its type."""
    small = f.convert("fptosi", n, "i32")
    return small if n.type == "float" else f.convert("sext", small, "i64")


def _power_of_two(f: Function, exponent: Value, type: str) -> Value:
    """2 to an integer in the range of normal numbers."""
    of = _FORMATS[type]
    return f.convert("bitcast", (exponent + of.bias).bits("shl", of.mantissa), type)


def _clamped(f: Function, x: Value, low: float, high: float) -> Value:
    """x within bounds; NaN stays NaN."""
    x = f.select(x > high, f.like(x, high), x)
    return f.select(x < low, f.like(x, low), x)


def _exp(f: Function, x: Value) -> Value:
    of = _FORMATS[x.type]
    n, r = _reduced(f, _clamped(f, x, of.least, of.most))
    # 1 + (r + r²·(…)): the 1 last, so that one rounding decides.
    rest = f.polynomial(r, [1 / math.factorial(k) for k in range(2, of.terms)])
    value = f.fma(r * r, rest, r) + 1.0
    # 2ⁿ in two factors: n may be beyond the exponents of normal numbers.
    whole = _to_integer(f, n)
    half = whole.bits("ashr", 1)
    return value * _power_of_two(f, half, x.type) * _power_of_two(f, whole - half, x.type)


def _expm1(f: Function, x: Value) -> Value:
    of = _FORMATS[x.type]
    low = -20.0 if x.type == "float" else -40.0
    n, r = _reduced(f, _clamped(f, x, low, of.most))
    rest = f.polynomial(r, [1 / math.factorial(k) for k in range(2, of.terms + 1)])
    q = f.fma(r * r, rest, r)
    # 2ⁿ·q + (2ⁿ - 1), as twice its half: 2ⁿ itself may overflow.
    half = _power_of_two(f, _to_integer(f, n) - 1, x.type)
    value = 2.0 * f.fma(half, q, half - 0.5)
    return f.select(x.equals(0.0), x, value)


def _small_expm1(f: Function, x: Value) -> tuple[Value, Value]:
    """q and s with exp(x) = s·q + s, s a power of 2 and |q| < ½: for |x| where s is a normal number."""
    n, r = _reduced(f, x)
    rest = f.polynomial(r, [1 / math.factorial(k) for k in range(2, _FORMATS[x.type].terms)])
    return f.fma(r * r, rest, r), _power_of_two(f, _to_integer(f, n), x.type)


def _tanh(f: Function, x: Value) -> Value:
    size = f.abs(x)
    top = 10.0 if x.type == "float" else 20.0  # where the result is 1
    q, s = _small_expm1(f, 2.0 * f.select(size > top, f.like(x, top), size))
    t = f.fma(s, q, s - 1.0)
    return f.copysign(t / (t + 2.0), x)


# Logarithms.


def _split(f: Function, x: Value) -> tuple[Value, Value, Value]:
    """The exponent e as an integer and as a float, and m in [√½, √2) with x = 2ᵉ·m, for normal positive x."""
    of = _FORMATS[x.type]
    bits = f.convert("bitcast", x, of.integer)
    one = of.bias << of.mantissa
    root = 0x3F3504F3 if x.type == "float" else 0x3FE6A09E667F3BCD
    moved = bits + (one - root)
    exponent = moved.bits("ashr", of.mantissa) - of.bias
    m = f.convert("bitcast", (moved & ((1 << of.mantissa) - 1)) + root, x.type)
    small = exponent if x.type == "float" else f.convert("trunc", exponent, "i32")
    return exponent, f.convert("sitofp", small, x.type), m


def _log_near_one(f: Function, e: Value, y: Value, correction: Value | None = None) -> Value:
    """e·ln 2 + log(1 + y) + correction, for 1 + y in [√½, √2)."""
    of = _FORMATS[y.type]
    s = y / (y + 2.0)
    z = s * s
    rest = z * f.polynomial(z, [2 / (2 * k + 3) for k in range(of.log_terms)])
    half = 0.5 * y * y
    high, low = of.ln2
    small = s * (half + rest) + f.fma(e, low, 0.0 if correction is None else correction)
    return f.fma(e, high, y - (half - small))


def _log(f: Function, x: Value) -> Value:
    of = _FORMATS[x.type]
    tiny = x < of.normal
    shift = of.mantissa + 2
    _, e, m = _split(f, f.select(tiny, x * 2.0**shift, x))
    e = f.select(tiny, e - float(shift), e)
    return _log_ends(f, x, _log_near_one(f, e, m - 1.0), 0.0)


def _log_ends(f: Function, x: Value, result: Value, pole: float) -> Value:
    """What a logarithm is at its pole, below it, at infinity and of NaN."""
    result = f.select(x < math.inf, result, x)
    result = f.select(x < pole, f.like(x, math.nan), result)
    return f.select(x.equals(pole), f.like(x, -math.inf), result)


def _log1p(f: Function, x: Value) -> Value:
    u = x + 1.0
    exponent, e, m = _split(f, u)
    near = exponent.equals(0)
    # What the sum lost, relative to it.
    lost = f.select(x < 1.0, x - (u - 1.0), 1.0 - (u - x)) / u
    y = f.select(near, x, m - 1.0)
    result = _log_near_one(f, e, y, f.select(near, f.like(x, 0.0), lost))
    return f.select(x.equals(0.0), x, _log_ends(f, x, result, -1.0))


# The error function.

# erf(x)/x - 1 in powers of x² up to 0.75: in float32 with least maximal error, 1.5e-9; in float64 Taylor's.
_ERF_NEAR = {
    "float": (
        0.128379165629875, -0.3761261992271828, 0.1128339297445408, -0.026835434565362325, 0.0051159816957724764,
        -0.0006761095690704498,
    ),
    "double": (
        0.1283791670955125739,
        *((-1) ** k * 2 / math.sqrt(math.pi) / (math.factorial(k) * (2 * k + 1)) for k in range(1, 17)),
    ),
}  # fmt: skip
# log(erfc(x)) from 0.75 to 4, with least maximal error of erf, 3e-10.
_ERF_FAR = (
    0.00012479385164887447, -1.1292615257306895, -0.6338864072342272, -0.1076566342059112, 0.024697454813746664,
    -0.004003915046871535, 0.0003986055182578507, -1.788274391592818e-05,
)  # fmt: skip
# Cody's: erfc(x) = exp(-x²)·P(x)/Q(x) from 0.46875 to 4, in rising powers.
_ERFC_P = (
    1.23033935479799725e3, 2.05107837782607147e3, 1.71204761263407058e3, 8.81952221241769090e2, 2.98635138197400131e2,
    6.61191906371416295e1, 8.88314979438837594e0, 5.64188496988670089e-1, 2.15311535474403846e-8,
)  # fmt: skip
_ERFC_Q = (
    1.23033935480374942e3, 3.43936767414372164e3, 4.36261909014324716e3, 3.29079923573345963e3, 1.62138957456669019e3,
    5.37181101862009858e2, 1.17693950891312499e2, 1.57449261107098347e1, 1.0,
)  # fmt: skip


def _erf(f: Function, x: Value) -> Value:
    size = f.abs(x)
    square = x * x
    near = f.fma(x, f.polynomial(square, _ERF_NEAR[x.type]), x)
    if x.type == "float":
        q, s = _small_expm1(f, f.polynomial(f.select(size > 4.0, f.like(x, 4.0), size), _ERF_FAR))
        far = f.fma(-s, q, 1.0 - s)
    else:
        # Beyond 6 the result is 1; up to there the rational function is good enough beside it.
        bounded = f.select(size > 6.0, f.like(x, 6.0), size)
        ratio = f.polynomial(bounded, _ERFC_P) / f.polynomial(bounded, _ERFC_Q)
        q, s = _small_expm1(f, -(bounded * bounded))
        far = 1.0 - f.fma(s, q, s) * ratio
    return f.select(size < 0.75, near, f.copysign(far, x))


# Sine and cosine.

_HALF_PI = (_hex("0x1.921fb544p+0"), _hex("0x1.0b4611a6p-34"), _hex("0x1.3198a2e037073p-69"))
_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(1, 10))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(2, 10))
_FAR = 2.0**20  # beyond, the quarters are not exact any more


def _sine(shift: int) -> Callable[[Function, Value], Value]:
    """The sine of x + shift·π/2."""
    name = ("sin", "cos")[shift]

    def body(f: Function, x: Value) -> Value:
        single = x.type == "float"
        wide = f.convert("fpext", x, "double") if single else x
        far = (f.abs(wide) < _FAR) ^ True  # NaN and infinities, too
        near = f.select(far, f.like(wide, 0.0), wide)
        result = _near_sine(f, near, shift, single)
        result = _where_far(f, far, wide, result, name)
        # -0 stays -0.
        result = f.select(wide.equals(0.0), wide, result) if shift == 0 else result
        return f.convert("fptrunc", result, "float") if single else result

    return body


def _near_sine(f: Function, x: Value, shift: int, single: bool) -> Value:
    n = f.rint(x * (2 / math.pi))
    first, second, third = _HALF_PI
    # Products of n and the short parts are exact.
    high = x - n * first
    low = n * second
    r = high - low
    tail = f.fma(n, -third, (high - r) - low)
    square = r * r
    terms = 4 if single else 8
    sine = f.fma(square * r, f.polynomial(square, _SIN[:terms]), r)
    cosine = f.fma(square * square, f.polynomial(square, _COS[:terms]), 1.0 - 0.5 * square)
    if not single:
        half = 0.5 * square
        start = 1.0 - half
        lost = (1.0 - start) - half
        cosine = start + f.fma(square * square, f.polynomial(square, _COS[:terms]), lost - r * tail)
        sine = r + f.fma(square * r, f.polynomial(square, _SIN[:terms]), tail * (1.0 - half))
    quadrant = f.convert("fptosi", n, "i32") + shift
    swapped = (quadrant & 1).differs(0)
    value = f.select(swapped, cosine, sine)
    return f.select((quadrant & 2).differs(0), -value, value)


def _where_far(f: Function, far: Value, x: Value, result: Value, name: str) -> Value:
    """`result`, with the C library's function in the lanes where `far` is true."""
    f.module.declare(f"declare double @{name}(double)")
    before, some, after = f.block, f.label("far"), f.label("near")
    f.line(f"br {f.any(far)}, label %{some}, label %{after}")
    f.start(some)
    changed = result
    for i in range(x.lanes):
        exact = f.emit(f"call double @{name}({f.lane(x, i)})", "double", 0)
        changed = f.insert(changed, i, f.select(f.lane(far, i), exact, f.lane(result, i)))
    f.line(f"br label %{after}")
    f.start(after)
    return f.emit(
        f"phi {result.full_type} [ {result.text}, %{before} ], [ {changed.text}, %{some} ]", "double", x.lanes
    )


# Powers in float32, by way of float64.


def _pow(f: Function, x: Value, y: Value) -> Value:
    if x.type == "double":
        return _by_lane(f, "pow", [x, y])
    base, exponent = f.convert("fpext", x, "double"), f.convert("fpext", y, "double")
    size = f.abs(base)
    value = apply(f, "exp", exponent * apply(f, "log", size))
    whole = f.intrinsic("trunc", exponent).equals(exponent)
    half = 0.5 * exponent
    odd = whole & f.intrinsic("trunc", half).differs(half)
    negative = f.convert("bitcast", base, "i64") < 0
    value = f.select(negative & odd, -value, value)
    infinite = f.abs(base).equals(math.inf)
    value = f.select((base < 0.0) & (whole ^ True) & (infinite ^ True), f.like(base, math.nan), value)
    # 1 to any power, and anything to the power 0, is 1, also where NaN is involved; so is -1 to an infinite one.
    unbounded = size.equals(1.0) & f.abs(exponent).equals(math.inf)
    one = base.equals(1.0) | exponent.equals(0.0) | unbounded
    return f.convert("fptrunc", f.select(one, f.like(base, 1.0), value), "float")


# One lane after the other.


def _by_lane(f: Function, name: str, operands: Sequence[Value]) -> Value:
    """The C library's function of float64 in each lane; float32 is widened, and rounded once."""
    single = operands[0].type == "float"
    wide = [f.convert("fpext", each, "double") if single else each for each in operands]
    f.module.declare(f"declare double @{name}({', '.join(['double'] * len(wide))})")
    result = f.like(wide[0], 0.0)
    for i in range(wide[0].lanes):
        given = ", ".join(str(f.lane(each, i)) for each in wide)
        result = f.insert(result, i, f.emit(f"call double @{name}({given})", "double", 0))
    return f.convert("fptrunc", result, "float") if single else result


_VECTOR: dict[str, Callable[..., Value]] = {
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "tanh": _tanh,
    "erf": _erf,
    "sin": _sine(0),
    "cos": _sine(1),
    "pow": _pow,
}
