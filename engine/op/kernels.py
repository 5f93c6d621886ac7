"""What kernels of several families share: reading small integer inputs, and making arrays of any dtype, strings too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.device.device import running
from engine.types import errors

_ON_HOST = (np.ndarray, np.generic)


def invalid(message: str) -> errors.InvalidArgumentError:
    """The error for a value or shape that a kernel cannot work with; `message` names it."""
    return errors.InvalidArgumentError(None, None, message)


def ints(values: Any) -> tuple[int, ...]:
    """The numbers in an integer input of rank 0 or 1 (an axis, a shape, a permutation) as Python ints."""
    listed = values.tolist()
    return tuple(listed) if isinstance(listed, list) else (listed,)


def integer(value: Any, what: str) -> int:
    """The number in an integer input that must be a scalar.  Raises InvalidArgumentError, naming it as `what`, if it is not."""
    if value.ndim and value.size != 1:
        raise invalid(f"{what} must be a scalar, got shape {shape_text(value.shape)}")
    return int(value.reshape(()))


def require(k: Any, bad: Any, explain: Callable[[], errors.OpError]) -> None:
    """Raise what ``explain()`` gives if any element of the bool array `bad` is True.

    Where the array is on a device with streams, the kernel does not wait for it: the error comes when a result of the device
    is next waited for.
    """
    if isinstance(bad, _ON_HOST):
        if bad.any():
            raise explain()
    elif bad.size:
        running.device.check_later(bad, explain)


def filled(xp: Any, shape: Sequence[int], dtype: np.dtype[Any], value: Any) -> Any:
    """A new array of `shape` with `value` (a number, bytes, or a rank-0 array) everywhere."""
    array = xp.empty(tuple(shape), dtype=dtype)
    array[...] = value
    return array


def zeros(xp: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """A new array of zeros; of empty strings where the dtype is that of strings."""
    if dtype.hasobject:
        return filled(xp, shape, dtype, b"")
    return xp.zeros(tuple(shape), dtype=dtype)


def orderable(x: Any) -> Any:
    """`x` in a dtype in which sorting puts NaN at the end: bfloat16, which NumPy does not know, as float32."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


def shape_text(shape: Sequence[int]) -> str:
    """A shape as TensorFlow's messages write it: ``[2,3]``."""
    return "[" + ",".join(str(size) for size in shape) + "]"
