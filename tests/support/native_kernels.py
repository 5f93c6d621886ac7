"""Running a `NativeKernel` on NumPy arrays, at once or in chunks."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.native.kernel import NativeKernel

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def run(kernel: NativeKernel, arrays: Sequence[np.ndarray[Any, Any]], chunk: int | None = None) -> None:
    """Run the kernel on `arrays`, its inputs and then its outputs; `chunk`: units of a phase a call, backwards."""
    assert len(arrays) == kernel.inputs + kernel.outputs
    scratch = [np.full(size, 0xAB, np.uint8) for size in kernel.scratch]
    everything = [*arrays, *scratch]
    for phase in kernel.phases:
        chosen = [everything[i] for i in phase.args]
        pointers = (ctypes.c_void_p * max(len(chosen), 1))(*(each.ctypes.data for each in chosen))
        function = _FUNCTION(phase.address)
        step = phase.extent if chunk is None else chunk
        for begin in reversed(range(0, phase.extent, max(step, 1))):
            function(ctypes.addressof(pointers), begin, min(begin + step, phase.extent))


def unaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy of `array` at an odd multiple of its item's size: as aligned as its dtype, and no more."""
    size = array.dtype.itemsize
    space = np.empty(array.nbytes + 64 + size, np.uint8)
    start = -space.ctypes.data % 64 + size
    copy = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def ulps(found: Any, exact: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """How far `found` is from `exact` (float64 or longer) in units in the last place of `dtype`; inf and NaN must agree."""
    found = np.asarray(found)
    exact = np.asarray(exact)
    with np.errstate(all="ignore"):
        nearest = exact.astype(dtype)
        unit = np.spacing(np.minimum(np.abs(nearest), np.finfo(dtype).max)).astype(exact.dtype)
        distance = np.abs(found.astype(exact.dtype) - exact) / unit
    same = (found == nearest) | (np.isnan(found) & np.isnan(nearest))
    distance = np.where(same & ~np.isfinite(distance), 0, distance)
    return np.where(np.isnan(distance), np.inf, distance)
