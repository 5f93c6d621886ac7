"""Conversion between element types."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import shapes
from engine.op.const import constant
from engine.op.registry import op, raw
from engine.op.samples import Sample, array, random_array
from engine.op.signature import INTS
from engine.types import dtypes
from engine.types.dtypes import DType

__all__ = [
    "cast", "saturate_cast", "to_bfloat16", "to_complex128", "to_complex64", "to_double", "to_float", "to_int32",
    "to_int64",
]  # fmt: skip


def _cast(k: Any, x: Any) -> Any:
    target = k.attrs["DstT"].np_dtype
    if x.dtype == target:
        return x
    if x.dtype.kind == "c" and target.kind not in "cb":
        x = x.real
    result = x.astype(target)
    if k.attrs["Truncate"] and target.kind in "fV" and x.dtype.kind in "fV":
        # Rounded away from zero: one step back is what dropping the lower bits gives.
        past = k.xp.absolute(result.astype(x.dtype)) > k.xp.absolute(x)
        result = k.xp.where(past, k.xp.nextafter(result, target.type(0)), result)
    return result


def _cast_grad(op: Any, g: Any) -> Any:
    source = op.inputs[0].dtype.base_dtype
    if (source.is_floating or source.is_complex) and (g.dtype.is_floating or g.dtype.is_complex):
        return raw.Cast(g, DstT=source)
    return None


_TARGETS = (*INTS, dtypes.bool_, dtypes.bfloat16, dtypes.float16, dtypes.float32, dtypes.float64, *(
    dtypes.complex64, dtypes.complex128))  # fmt: skip

_PRECISE = (dtypes.float64, dtypes.complex128)


def _cast_samples(rng: np.random.Generator, dtype: Any) -> Any:
    if dtype not in _TARGETS:
        return
    for i, target in enumerate(_TARGETS):
        # Whole numbers from 0: what every type holds.  The gradient is checked between types of full precision only.
        precise = dtype in _PRECISE and target in _PRECISE and (target.is_complex or not dtype.is_complex)
        shape = ((2, 3), (), (0, 2), (5,))[i % 4]
        yield Sample(
            random_array(rng, dtype, shape, 0, 100),
            attrs={"DstT": target},
            grad=None if precise else (),
        )
    if dtype.is_floating:
        values = array([2.9, -2.9, 0.5, -0.5, 1.0, -0.0], dtype)
        for target in (
            dtypes.int32,
            dtypes.int64,
            dtypes.bool_,
            dtypes.float16,
            dtypes.bfloat16,
            dtypes.float32,
        ):
            yield Sample(values, attrs={"DstT": target}, grad=())
        special = array([np.nan, np.inf, -np.inf, 0.1], dtype)
        for target in (dtypes.float64, dtypes.float16, dtypes.bool_):
            yield Sample(special, attrs={"DstT": target}, grad=())
    if dtype is dtypes.float32 or dtype is dtypes.float64:
        values = array([1.9999999, -1.9999999, 3.14159, -3.14159, 1.0, 1e-3], dtype)
        for target in (dtypes.bfloat16, dtypes.float16):
            yield Sample(values, attrs={"DstT": target, "Truncate": True}, grad=())


def _cast_reference(x: Any, DstT: DType, Truncate: bool = False) -> Any:
    """Element by element, with Python's own conversions."""
    if DstT.is_bool:
        function: Any = bool
    elif DstT.is_integer:
        function = lambda v: int(v.real) if isinstance(v, complex) else int(v)  # noqa: E731
    else:
        function = (lambda v: v) if DstT.is_complex else lambda v: v.real
    flat = [function(value) for value in x.ravel().tolist()]
    if Truncate:
        bits = 7 if DstT is dtypes.bfloat16 else 10  # of the mantissa, after the leading one
        scale = 2.0 ** (bits - np.floor(np.log2(np.abs(flat))))
        return (np.trunc(flat * scale) / scale).reshape(x.shape)
    return np.array(flat, object).reshape(x.shape)


op(
    "Cast(x: SrcT; SrcT: type, DstT: type, Truncate: bool = False) -> y: DstT",
    kernel=_cast,
    shape=shapes.unchanged,
    grad=_cast_grad,
    samples=_cast_samples,
    reference=_cast_reference,
)


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """x (a tensor, IndexedSlices, or what becomes one) with elements of type `dtype`; as it is if it has that type.

    Floats lose their fraction on the way to integers, complex numbers their imaginary part on the way to reals.  Raises TypeError
    for types between which there is no conversion.
    """
    target = dtypes.as_dtype(dtype).base_dtype
    if hasattr(x, "indices") and hasattr(x, "dense_shape"):
        return type(x)(cast(x.values, target, name), x.indices, x.dense_shape)
    with name_scope(name, "Cast", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        if x.dtype.base_dtype is target:
            return x
        if dtypes.string in (x.dtype.base_dtype, target):
            raise TypeError(f"There is no cast from {x.dtype.name} to {target.name}")
        return raw.Cast(x, DstT=target, name=scope)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any:
    """`cast`, with values beyond the range of `dtype` set to its limits first."""
    target = dtypes.as_dtype(dtype).base_dtype
    with name_scope(name, "saturate_cast", [value]) as scope:
        value = convert_to_tensor(value, name="value")
        source = value.dtype.base_dtype
        if target.is_complex or target.is_bool or source.is_complex or source.is_bool:
            return cast(value, target, scope)
        low, high = max(source.min, target.min), min(source.max, target.max)
        if (source.min, source.max) != (low, high):
            least, most = (constant(_inside(limit, source)) for limit in (low, high))
            value = raw.ClipByValue(value, least, most, name="clamp")
        return cast(value, target, scope)


def _inside(limit: Any, dtype: DType) -> Any:
    """`limit` in `dtype`, rounded towards 0: float32 has no 2³¹ - 1, and the next number above it does not fit an int32."""
    value = np.asarray(limit).astype(dtype.np_dtype)
    if abs(int(value)) > abs(int(limit)):
        value = np.nextafter(value, dtype.np_dtype.type(0))
    return value


def to_float(x: Any, name: str = "ToFloat") -> Any:
    """`cast` to float32."""
    return cast(x, dtypes.float32, name)


def to_double(x: Any, name: str = "ToDouble") -> Any:
    """`cast` to float64."""
    return cast(x, dtypes.float64, name)


def to_int32(x: Any, name: str = "ToInt32") -> Any:
    """`cast` to int32."""
    return cast(x, dtypes.int32, name)


def to_int64(x: Any, name: str = "ToInt64") -> Any:
    """`cast` to int64."""
    return cast(x, dtypes.int64, name)


def to_bfloat16(x: Any, name: str = "ToBFloat16") -> Any:
    """`cast` to bfloat16."""
    return cast(x, dtypes.bfloat16, name)


def to_complex64(x: Any, name: str = "ToComplex64") -> Any:
    """`cast` to complex64."""
    return cast(x, dtypes.complex64, name)


def to_complex128(x: Any, name: str = "ToComplex128") -> Any:
    """`cast` to complex128."""
    return cast(x, dtypes.complex128, name)
