"""Tensor health: dtype, shape, range and non-finite counts of an array, for traces."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from engine.types.dtypes import as_dtype

_NAN = math.nan


class ArrayHealth(NamedTuple):
    """See `engine.observe.Health`, whose columns these are."""

    dtype: int
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean: float
    nan: int
    inf: int
    nbytes: int


class _Known(NamedTuple):
    """A dtype: its TensorFlow number; whether a scalar of it is its own minimum, maximum and mean; a float below 32 bits?"""

    number: int
    plain: bool
    is_short: bool


@cache
def _known(dtype: np.dtype[Any]) -> _Known:
    kind = as_dtype(dtype)
    return _Known(kind.as_datatype_enum, dtype.kind in "biuf", bool(kind.is_floating) and dtype.itemsize < 4)


def measure(array: Any) -> ArrayHealth:
    """The health of a NumPy array or scalar."""
    array = np.asarray(array)
    known = _known(array.dtype)
    if array.ndim == 0 and known.plain:  # by far the most common, in loops
        value = float(array)
        if math.isfinite(value):
            return ArrayHealth(known.number, (), value, value, value, 0, 0, array.nbytes)
    number = known.number
    if array.dtype.hasobject:
        nbytes = sum(len(item) for item in array.reshape(-1) if isinstance(item, bytes))
        return ArrayHealth(number, array.shape, _NAN, _NAN, _NAN, 0, 0, nbytes)
    if array.size == 0:
        return ArrayHealth(number, array.shape, _NAN, _NAN, _NAN, 0, 0, 0)
    values = array
    if array.dtype.kind == "c":
        values = np.abs(array)
    elif known.is_short:
        values = array.astype(np.float32)
    if values.dtype.kind != "f":
        low, high = values.min(), values.max()
        return ArrayHealth(
            number, array.shape, float(low), float(high), float(values.mean()), 0, 0, array.nbytes
        )
    low, high = np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)
    if math.isfinite(low) and math.isfinite(high):  # min and max carry a NaN, so this is the whole answer
        mean = float(np.add.reduce(values, axis=None, dtype=np.float64)) / values.size
        return ArrayHealth(number, array.shape, float(low), float(high), mean, 0, 0, array.nbytes)
    nan = int(np.count_nonzero(np.isnan(values)))
    inf = int(np.count_nonzero(np.isinf(values)))
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return ArrayHealth(number, array.shape, _NAN, _NAN, _NAN, nan, inf, array.nbytes)
    mean = float(finite.mean(dtype=np.float64))
    return ArrayHealth(
        number, array.shape, float(finite.min()), float(finite.max()), mean, nan, inf, array.nbytes
    )
