"""Values that somebody gives by hand, made into arrays that fit where they are to go."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.types.dtypes import DType, string
from engine.types.shape import TensorShape
from viz.format import dtype as dtype_text
from viz.format import shape as shape_text
from viz.format import shorten
from workbench.debugger.command import CommandError
from workbench.debugger.values import print_array

_KINDS = {"b": "a bool", "i": "integers", "u": "integers", "f": "numbers", "c": "complex numbers"}
_KINDS |= dict.fromkeys("SUO", "strings")


def fitted(value: Any, dtype: DType, shape: TensorShape, what: str) -> np.ndarray[Any, Any]:
    """`value` as an array of its own with this dtype and (perhaps partial) shape.

    `what` is called so in messages.  Raises CommandError for a value that would change by becoming `dtype` (a fraction that is
    cut off, a number too large, a bool for a number or the other way round), and for a shape that does not fit.
    """
    dtype = dtype.base_dtype
    array = _strings(value, what) if dtype is string else _numbers(value, dtype, what)
    if not shape.is_compatible_with(array.shape):
        wanted = shape_text(shape)
        hint = ""
        if not array.ndim and shape.is_fully_defined():
            dims = ", ".join(map(str, shape.as_list()))
            hint = f"; full(({dims},), {array[()]}) has it everywhere"
        raise CommandError(f"{what} has shape {wanted}, the value {shape_text(array.shape)}{hint}")
    return array


def _numbers(value: Any, dtype: DType, what: str) -> np.ndarray[Any, Any]:
    wanted = dtype_text(dtype)
    try:
        given = np.asarray(value)
    except ValueError:
        raise CommandError(f"the value for {what} is ragged: rows of different lengths") from None
    kind = given.dtype.kind
    if given.dtype.isbuiltin != 1 and dtype.np_dtype == given.dtype:
        return np.array(given, order="C")  # bfloat16 and its like: as it is
    if kind not in "biufc" or (kind == "O") or not dtype.is_numpy_compatible:
        raise CommandError(f"{what} is {wanted}, and the value is {_KINDS.get(kind, 'something else')}")
    if not given.size:
        return np.array(given, dtype=dtype.np_dtype, order="C")
    if (kind == "b") is not dtype.is_bool:
        hint = "; write True or False" if dtype.is_bool else ""
        raise CommandError(f"{what} is {wanted}, and the value is {_KINDS[kind]}{hint}")
    if kind == "c" and not dtype.is_complex:
        raise CommandError(f"{what} is {wanted}, and the value is complex")
    with np.errstate(all="ignore"):
        array = np.array(given, dtype=dtype.np_dtype, order="C")
        if dtype.is_integer:
            changed = given != array
        else:  # rounding is what is meant by writing 0.1; becoming infinite is not
            changed = np.isfinite(given) & ~np.isfinite(array.astype(given.dtype if kind in "fc" else float))
    if changed.any():
        was = given[changed].flat[0] if given.ndim else given[()]
        raise CommandError(f"{what} is {wanted}, which cannot hold {was}")
    return array


def _strings(value: Any, what: str) -> np.ndarray[Any, Any]:
    given = np.asarray(value, dtype=object)
    made = np.empty(given.shape, object)
    for index, each in np.ndenumerate(given):
        if not isinstance(each, bytes | str):
            raise CommandError(f"{what} holds strings, and {each!r:.60} is none")
        made[index] = each.encode() if isinstance(each, str) else each
    return made


def zeros(dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Zeros, or False, or empty strings."""
    if dtype.base_dtype is string:
        return np.full(shape, b"", object)
    return np.zeros(shape, dtype.base_dtype.np_dtype)


def shown(array: Any) -> str:
    """An array in a few characters."""
    text, _ = print_array(array, 60, 8)
    return shorten(" ".join(text.split()), 60)
