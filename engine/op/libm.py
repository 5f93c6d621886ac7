"""float32 logarithm, sine and cosine, with the same bits everywhere.

NumPy's float32 functions differ by a few units in the last place from one processor to the next, CuPy's from both.  Random
numbers must not: a seed means one sequence.  So these are computed in float64 arithmetic, which is the same everywhere, by the
polynomials that glibc (2.28 and later) uses for `logf` and `sincosf`; the results are glibc's bit for bit, and so are the normal
deviates that TensorFlow makes with them.  The coefficients are those of Arm's optimized-routines (MIT licence).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_hex = float.fromhex

# sin r = r + S₀r³ + S₁r⁵ + S₂r⁷ and cos r = 1 + C₀r² + … + C₃r⁸ for |r| ≤ π/4, least maximal error.
_SIN = tuple(map(_hex, ("-0x1.555545995a603p-3", "0x1.1107605230bc4p-7", "-0x1.994eb3774cf24p-13")))
_COS = tuple(
    map(
        _hex,
        ("-0x1.ffffffd0c621cp-2", "0x1.55553e1068f19p-5", "-0x1.6c087e89a359dp-10", "0x1.99343027bf8c3p-16"),
    )
)

# ln z = ln c + ln(z/c), with c near the middle of z's sixteenth of an octave: 1/c, and ln c.
_LOG_TABLE = tuple(
    (_hex(inverse), _hex(logarithm))
    for inverse, logarithm in (
        ("0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"),
        ("0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"),
        ("0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"),
        ("0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"),
        ("0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"),
        ("0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"),
        ("0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"),
        ("0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"),
        ("0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"),
        ("0x1p+0", "0x0p+0"),
        ("0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"),
        ("0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"),
        ("0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"),
        ("0x1.9c2d163a1aa2dp-1", "0x1.bc2860d224770p-3"),
        ("0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"),
        ("0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"),
    )
)
_LOG_INVERSE = np.array([inverse for inverse, _ in _LOG_TABLE])
_LOG_CENTER = np.array([center for _, center in _LOG_TABLE])
_LOG = tuple(map(_hex, ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")))
_LN2 = _hex("0x1.62e42fefa39efp-1")
_HALF_PI = _hex("0x1.921fb54442d18p+0")
_TWO_OVER_PI = _hex("0x1.45f306dc9c883p-1")
_LOG_OFFSET = (
    0x3F330000  # the bits of about 0.7: octaves are counted from there, so that 1 is in the middle of one
)


def log32(xp: Any, x: Any) -> Any:
    """The natural logarithm of a float32 array of positive, normal numbers, as float32."""
    bits = x.view(xp.uint32)
    offset = bits - xp.uint32(_LOG_OFFSET)
    interval = (offset >> xp.uint32(19)) & xp.uint32(15)
    octave = (offset.view(xp.int32) >> xp.int32(23)).astype(xp.float64)
    z = (bits - (offset & xp.uint32(0xFF800000))).view(xp.float32).astype(xp.float64)
    r = z * xp.asarray(_LOG_INVERSE)[interval] - 1.0
    base = xp.asarray(_LOG_CENTER)[interval] + octave * _LN2
    square = r * r
    polynomial = (_LOG[1] * r + _LOG[2]) + _LOG[0] * square
    return (polynomial * square + (base + r)).astype(xp.float32)


def sincos32(xp: Any, x: Any) -> tuple[Any, Any]:
    """Sine and cosine of a float32 array with |x| below about 100, each as float32."""
    wide = x.astype(xp.float64)
    quarters = xp.rint(wide * _TWO_OVER_PI)
    r = wide - quarters * _HALF_PI
    square = r * r
    sine = r + r * square * (_SIN[0] + square * (_SIN[1] + square * _SIN[2]))
    cosine = 1.0 + square * (_COS[0] + square * (_COS[1] + square * (_COS[2] + square * _COS[3])))
    quadrant = quarters.astype(xp.int32) & 3
    swapped = (quadrant & 1) == 1
    sin = xp.where(swapped, cosine, sine)
    cos = xp.where(swapped, sine, cosine)
    sin = xp.where(quadrant >= 2, -sin, sin)
    cos = xp.where((quadrant == 1) | (quadrant == 2), -cos, cos)
    return sin.astype(xp.float32), cos.astype(xp.float32)
