"""Complex numbers: made from parts, taken apart, conjugated; absolute value and angle."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import shapes
from engine.op.broadcasting import unbroadcast
from engine.op.registry import Kernel, OpDef, op, raw
from engine.op.samples import Sample, floats, random_array
from engine.types import dtypes

__all__ = ["angle", "complex", "conj", "imag", "real"]

_PARTS = {
    dtypes.complex64: dtypes.float32,
    dtypes.complex128: dtypes.float64,
    dtypes.float32: dtypes.complex64,
    dtypes.float64: dtypes.complex128,
}


# Complex.


def _complex(k: Any, real: Any, imag: Any) -> Any:
    # real + 1j * imag would make NaN of an infinite part.
    shape = real.shape if real.shape == imag.shape else np.broadcast_shapes(real.shape, imag.shape)
    result = k.xp.empty(shape, k.attrs["Tout"].np_dtype)
    result.real = real
    result.imag = imag
    return result


def _complex_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for real, imag in (((2, 3), (2, 3)), ((2, 3), (3,)), ((), (2,)), ((), ()), ((0, 2), (1, 2))):
        yield Sample(
            random_array(rng, dtype, real), random_array(rng, dtype, imag), attrs={"Tout": _PARTS[dtype]}
        )
    special = np.array([0, 1, np.inf, -np.inf, np.nan]).astype(dtype.np_dtype)
    yield Sample(special[:, None], special[None, :].copy(), attrs={"Tout": _PARTS[dtype]}, grad=())


def _complex_reference(real: Any, imag: Any, **_: Any) -> Any:
    return np.frompyfunc(lambda a, b: np.complex128(f"{a:.17g}{b:+.17g}j"), 2, 1)(real, imag)


op(
    "Complex(real: T, imag: T; T: {float32, float64} = float32, Tout: complexes = complex64) -> out: Tout",
    kernel=_complex,
    shape=shapes.broadcast,
    grad=lambda op, g: unbroadcast(op, real(g), imag(g)),
    samples=_complex_samples,
    reference=_complex_reference,
)


def complex(real: Any, imag: Any, name: str | None = None) -> Any:
    """The complex tensor with these parts: complex64 from float32, complex128 from float64.  TypeError for other dtypes."""
    real = convert_to_tensor(real, name="real")
    imag = convert_to_tensor(imag, name="imag")
    made = _PARTS.get(real.dtype.base_dtype)
    if made is None or not made.is_complex or real.dtype.base_dtype is not imag.dtype.base_dtype:
        raise TypeError(
            f"The parts of a complex tensor are both float32 or both float64, not {real.dtype.name} and {imag.dtype.name}"
        )
    return raw.Complex(real, imag, Tout=made, name=name)


# Parts.


def _part(name: str, kernel: Kernel, grad: Any, samples: Any, reference: Any) -> OpDef:
    argument, result = ("x", "y") if name == "ComplexAbs" else ("input", "output")
    return op(
        f"{name}({argument}: T; T: complexes = complex64, Tout: {{float32, float64}} = float32) -> {result}: Tout",
        kernel=kernel,
        shape=shapes.unchanged,
        grad=grad,
        samples=samples,
        reference=reference,
    )


def _parts_of(lo: float, hi: float) -> Any:
    base = floats(lo, hi)

    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        for sample in base(rng, dtype):
            yield Sample(*sample.inputs, attrs={"Tout": _PARTS[dtype]})

    return samples


def _of_real(g: Any) -> Any:
    """A complex tensor with the real part g."""
    return raw.Complex(g, 0.0, Tout=_PARTS[g.dtype.base_dtype])


_part(
    "Real",
    lambda k, x: x.real,
    grad=lambda op, g: _of_real(g),
    samples=_parts_of(-3, 3),
    reference=lambda x, **_: (x + np.conj(x)) / 2,
)

_part(
    "Imag",
    lambda k, x: x.imag,
    grad=lambda op, g: raw.Complex(0.0, g, Tout=_PARTS[g.dtype.base_dtype]),
    samples=_parts_of(-3, 3),
    reference=lambda x, **_: (x - np.conj(x)) / 2j,
)


def _abs_grad(op: Any, g: Any) -> Any:
    """g·x/|x|, and 0 where x is 0."""
    return raw.DivNoNan(_of_real(g) * op.inputs[0], _of_real(op.outputs[0]))


_part(
    "ComplexAbs",
    lambda k, x: k.xp.absolute(x),
    grad=_abs_grad,
    samples=_parts_of(0.3, 3),
    reference=lambda x, **_: np.hypot(x.real, x.imag),
)


def _angle_grad(op: Any, g: Any) -> Any:
    x = op.inputs[0]
    turned = raw.Complex(imag(x), real(x), Tout=x.dtype.base_dtype)
    return -_of_real(g) * raw.Reciprocal(turned)


_part(
    "Angle",
    lambda k, x: k.xp.arctan2(x.imag, x.real),
    grad=_angle_grad,
    samples=_parts_of(0.3, 3),
    reference=lambda x, **_: np.angle(x),
)


def real(input: Any, name: str | None = None) -> Any:
    """The real part, in the dtype of the parts; a real tensor is returned as it is."""
    x = convert_to_tensor(input, name="input")
    return raw.Real(x, Tout=x.dtype.real_dtype.base_dtype, name=name) if x.dtype.is_complex else x


def imag(input: Any, name: str | None = None) -> Any:
    """The imaginary part, in the dtype of the parts; zeros for a real tensor."""
    x = convert_to_tensor(input, name="input")
    if x.dtype.is_complex:
        return raw.Imag(x, Tout=x.dtype.real_dtype.base_dtype, name=name)
    return raw.ZerosLike(x, name=name)


def angle(input: Any, name: str | None = None) -> Any:
    """The angle from the positive real axis, in radians, in (-π, π]; of a real tensor 0, or π where it is negative."""
    with name_scope(name, "Angle", [input]) as scope:
        x = convert_to_tensor(input, name="input")
        if x.dtype.is_complex:
            return raw.Angle(x, Tout=x.dtype.real_dtype.base_dtype, name=scope)
        return raw.SelectV2(raw.Less(x, 0), np.pi, raw.ZerosLike(x), name=scope)


# Conjugate.

op(
    "Conj(input: T; T: complexes = complex64) -> output: T",
    ufunc="conjugate",
    shape=shapes.unchanged,
    grad=lambda op, g: raw.Conj(g),
    samples=floats(-3, 3),
)


def conj(x: Any, name: str | None = None) -> Any:
    """The complex conjugate; a real tensor is returned as it is.  Raises TypeError for a tensor that holds no numbers."""
    x = convert_to_tensor(x, name="x")
    if x.dtype.is_complex:
        return raw.Conj(x, name=name)
    if x.dtype.is_floating or x.dtype.is_integer:
        return x
    raise TypeError(f"Expected numeric tensor, got dtype {x.dtype!r}")
