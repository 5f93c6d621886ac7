"""Special functions: the error functions and the family of the gamma function.

NumPy has none of these, so they are computed here in float64 and rounded: erf and erfc by Cody's rational approximations
(W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969), the gamma family by shifting the
argument up and using the asymptotic series there, with reflection for negative arguments (Abramowitz and Stegun, 6.1-6.4).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.graph.default import control_dependencies
from engine.op.broadcasting import unbroadcast
from engine.op.const import constant
from engine.op.elementwise import FLOATS, after_gradient, unary
from engine.op.registry import Kernel, op, raw
from engine.op.samples import Sample, floats, random_array
from engine.op.shapes import broadcast
from engine.types import dtypes

__all__ = ["digamma", "erf", "erfc", "lgamma", "polygamma", "zeta"]


def _in_float64(body: Any) -> Kernel:
    """A kernel that runs ``body(xp, *inputs)`` on float64 arrays of rank 1 or more."""

    def kernel(k: Any, *inputs: Any) -> Any:
        wide = [k.xp.atleast_1d(x.astype(np.float64)) for x in inputs]
        result = body(k.xp, *wide)
        return result.astype(inputs[0].dtype).reshape(np.broadcast_shapes(*(x.shape for x in inputs)))

    return kernel


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's scheme, highest power first."""
    result = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


# Error functions.

# erf(x) = x·P(x²)/Q(x²) for |x| ≤ 0.46875.
_ERF_P = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
    3.20937758913846947e3,
)  # fmt: skip
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
# erfc(x) = exp(-x²)·P(x)/Q(x) for 0.46875 ≤ x ≤ 4.
_ERFC_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # fmt: skip
_ERFC_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
# erfc(x) = exp(-x²)/x·(1/√π - P(1/x²)/(x²·Q(1/x²))) beyond.
_TAIL_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_TAIL_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _erfc_positive(xp: Any, x: Any) -> Any:
    """erfc for x ≥ 0.46875."""
    middle = _polynomial(x, _ERFC_P) / _polynomial(x, _ERFC_Q)
    z = 1 / xp.maximum(x * x, 1.0)
    tail = (1 / math.sqrt(math.pi) - z * _polynomial(z, _TAIL_P) / _polynomial(z, _TAIL_Q)) / x
    # exp(-x²) in two factors, the first of a square that float64 holds exactly.
    whole = xp.trunc(x * 16) / 16
    decay = xp.exp(-whole * whole) * xp.exp(-(x - whole) * (x + whole))
    # Beyond 27 erfc is 0 in float64; the quotients above would be infinity over infinity far out.
    return xp.where(x > 27, 0.0, decay * xp.where(x <= 4, middle, tail))


def _erf_small(x: Any) -> Any:
    return x * _polynomial(x * x, _ERF_P) / _polynomial(x * x, _ERF_Q)


def _erf(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    small = size <= 0.46875
    large = xp.copysign(1 - _erfc_positive(xp, xp.where(small, 1.0, size)), x)
    return xp.where(xp.isnan(x), x, xp.where(small, _erf_small(xp.where(small, x, 0.0)), large))


def _erfc(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    small = size <= 0.46875
    large = _erfc_positive(xp, xp.where(small, 1.0, size))
    large = xp.where(x < 0, 2 - large, large)
    return xp.where(xp.isnan(x), x, xp.where(small, 1 - _erf_small(xp.where(small, x, 0.0)), large))


def _by(function: Any) -> Any:
    """A reference that calls a function of `math` for each element."""

    def each(*values: float) -> float:
        try:
            return float(function(*values))
        except (ValueError, OverflowError):
            return math.inf

    return lambda *arrays: np.frompyfunc(each, len(arrays), 1)(*(np.asarray(a, np.float64) for a in arrays))


def _gaussian_grad(factor: float) -> Any:
    """The gradient function of what has the derivative factor·exp(-x²)."""

    def grad(op: Any, g: Any) -> Any:
        x = op.inputs[0]
        constant_factor = constant(factor, x.dtype.base_dtype)
        with control_dependencies([g]):
            return g * constant_factor * raw.Exp(-raw.Square(x))

    return grad


erf = unary(
    "Erf",
    FLOATS,
    kernel=_in_float64(_erf),
    grad=_gaussian_grad(2 / math.sqrt(math.pi)),
    samples=floats(-3, 3, extra=(0.46875, 4.0, -4.5, 5.0, 0.2, -0.46)),
    reference=_by(math.erf),
)

erfc = unary(
    "Erfc",
    FLOATS,
    kernel=_in_float64(_erfc),
    grad=_gaussian_grad(-2 / math.sqrt(math.pi)),
    samples=floats(-3, 3, extra=(0.46875, 4.0, -4.5, 5.0, 9.0, 0.2, -0.46)),
    reference=_by(math.erfc),
)


# The gamma family.

_SHIFT = 12  # arguments below this are moved up by whole steps; the series is exact to float64 beyond it
# B₂ₖ/(2k(2k-1)) of Stirling's series for ln Γ, k = 1, 2, …
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
# B₂ₖ, the Bernoulli numbers
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _lgamma_positive(xp: Any, x: Any) -> Any:
    """ln Γ(x) for x > 0."""
    product = xp.ones_like(x)
    shifted = x
    for _ in range(_SHIFT):
        below = shifted < _SHIFT
        product = xp.where(below, product * shifted, product)
        shifted = xp.where(below, shifted + 1, shifted)
    z = 1 / (shifted * shifted)
    series = _polynomial(z, _STIRLING[::-1]) / shifted
    log = xp.log(shifted)
    return (shifted - 0.5) * log - shifted + 0.5 * math.log(2 * math.pi) + series - xp.log(product)


def _lgamma(xp: Any, x: Any) -> Any:
    positive = x > 0
    at = xp.where(positive, x, 1 - x)
    value = _lgamma_positive(xp, xp.where(xp.isfinite(at), at, 1.0))
    # Γ(x)·Γ(1-x) = π / sin πx; the sine of the distance to the nearest whole number is exact where it is 0.
    away = xp.absolute(x - xp.rint(x))
    reflected = math.log(math.pi) - xp.log(xp.sin(math.pi * away)) - value
    # The factorials 0! and 1!, whose logarithm is exactly 0.
    value = xp.where((x == 1) | (x == 2), 0.0, xp.where(positive, value, reflected))
    return xp.where(xp.isinf(x), math.inf, xp.where(xp.isnan(x), x, value))


def _digamma(xp: Any, x: Any) -> Any:
    positive = x > 0
    at = xp.where(positive, x, 1 - x)
    at = xp.where(xp.isfinite(at), at, 1.0)
    total = xp.zeros_like(at)
    for _ in range(_SHIFT):
        below = at < _SHIFT
        total = xp.where(below, total - 1 / at, total)
        at = xp.where(below, at + 1, at)
    z = 1 / (at * at)
    series = _polynomial(z, tuple(b / (2 * k) for k, b in enumerate(_BERNOULLI, 1))[::-1]) * z
    value = total + xp.log(at) - 0.5 / at - series
    # ψ(1-x) - ψ(x) = π·cot πx
    away = x - xp.rint(x)
    value = xp.where(positive, value, value - math.pi / xp.tan(math.pi * away))
    pole = (x <= 0) & (away == 0)
    return xp.where(xp.isnan(x) | pole | (x == -math.inf), math.nan, xp.where(x == math.inf, x, value))


def _zeta(xp: Any, x: Any, q: Any) -> Any:
    """Hurwitz' zeta function, Σ (q+n)^-x over n ≥ 0, by Euler and Maclaurin's summation; x > 1, q > 0."""
    x, q = xp.broadcast_arrays(x, q)
    total = xp.zeros(x.shape, np.float64)
    at = q
    for _ in range(_SHIFT):
        total = total + at**-x
        at = at + 1
    total = total + at ** (1 - x) / (x - 1) + 0.5 * at**-x
    factor = x / at
    power = at**-x
    for k, bernoulli in enumerate(_BERNOULLI, 1):
        total = total + bernoulli / math.factorial(2 * k) * factor * power
        factor = factor * (x + 2 * k - 1) * (x + 2 * k) / (at * at)
    pole = (q <= 0) & (q == xp.floor(q))
    undefined = (x < 1) | xp.isnan(x) | xp.isnan(q) | ((q < 0) & ~pole & (x != xp.floor(x)))
    return xp.where(undefined, math.nan, xp.where((x == 1) | pole, math.inf, total))


def _polygamma(xp: Any, a: Any, x: Any) -> Any:
    """The a-th derivative of digamma, (-1)^(a+1)·a!·ζ(a+1, x), for whole a ≥ 0."""
    a, x = xp.broadcast_arrays(a, x)
    sign = xp.where(a % 2 == 1, 1.0, -1.0)
    value = sign * xp.exp(_lgamma(xp, a + 1)) * _zeta(xp, xp.maximum(a, 1.0) + 1, x)
    value = xp.where(a == 0, _digamma(xp, x), value)
    return xp.where((a < 0) | (a != xp.floor(a)), math.nan, value)


def _slope(function: Any, step: float = 1e-5) -> Any:
    """The derivative of a function of `math` by a five-point difference."""

    def slope(x: float) -> Any:
        if x != x:
            return math.nan
        h = step * max(1.0, abs(x))
        points = [function(x + i * h) for i in (-2, -1, 1, 2)]
        return (points[0] - 8 * points[1] + 8 * points[2] - points[3]) / (12 * h)

    return slope


lgamma = unary(
    "Lgamma",
    FLOATS,
    kernel=_in_float64(_lgamma),
    grad=after_gradient(lambda op, g: g * raw.Digamma(op.inputs[0])),
    samples=floats(0.1, 20, extra=(1e-3, 1.0, 2.0, 3.0, 100.0, -0.5, -2.5, -7.25, 0.0, -1.0)),
    reference=_by(math.lgamma),
)


@after_gradient
def _digamma_grad(op: Any, g: Any) -> Any:
    x = op.inputs[0]
    if x.dtype.size > 2:
        return g * raw.Polygamma(constant(1.0, x.dtype.base_dtype), x)
    # Polygamma takes no 16-bit floats.
    wide = raw.Polygamma(1.0, raw.Cast(x, DstT=dtypes.float32))
    return g * raw.Cast(wide, DstT=x.dtype.base_dtype)


digamma = unary(
    "Digamma",
    FLOATS,
    kernel=_in_float64(_digamma),
    grad=_digamma_grad,
    samples=floats(0.2, 20, special=False, extra=(1.0, 2.0, 100.0, -0.5, -2.25), atol=1e-6, rtol=1e-6),
    reference=_by(_slope(math.lgamma, 1e-3)),
)


def _zeta_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for a, b in (((2, 3), (2, 3)), ((), (4,)), ((3, 1), (2,)), ((0,), (1,))):
        yield Sample(random_array(rng, dtype, a, 1.5, 6), random_array(rng, dtype, b, 0.3, 9), grad=(1,))


def _zeta_reference(x: Any, q: Any) -> Any:
    """The sum itself for the first terms, and the integral of the rest with one correction."""
    n = np.arange(20000.0)
    x, q = np.broadcast_arrays(x, q)
    end = q + len(n)
    total = np.sum((q[..., None] + n) ** -x[..., None], axis=-1)
    return total + end ** (1 - x) / (x - 1) + end**-x / 2


def _zeta_grad(op: Any, g: Any) -> Any:
    x, q = op.inputs
    return unbroadcast(op, None, g * (-x * raw.Zeta(x + 1.0, q)))


zeta = op(
    "Zeta(x: T, q: T; T: {float32, float64}) -> z: T",
    kernel=_in_float64(_zeta),
    shape=broadcast,
    grad=_zeta_grad,
    samples=_zeta_samples,
    reference=_zeta_reference,
)


def _polygamma_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for a, shape in ((1, (2, 3)), (2, (4,)), (3, ()), (0, (5,)), (1, (0, 2))):
        order = np.full((), a, dtype.np_dtype)
        yield Sample(order, random_array(rng, dtype, shape, 0.5, 9), grad=(1,))


def _polygamma_reference(a: Any, x: Any) -> Any:
    order = int(a)
    if order == 0:
        return _by(_slope(math.lgamma, 1e-3))(x)
    return (-1) ** (order + 1) * math.factorial(order) * _zeta_reference(np.float64(order + 1), x)


def _polygamma_grad(op: Any, g: Any) -> Any:
    a, x = op.inputs
    return unbroadcast(op, None, g * raw.Polygamma(a + 1.0, x))


polygamma = op(
    "Polygamma(a: T, x: T; T: {float32, float64}) -> z: T",
    kernel=_in_float64(_polygamma),
    shape=broadcast,
    grad=_polygamma_grad,
    samples=_polygamma_samples,
    reference=_polygamma_reference,
)
