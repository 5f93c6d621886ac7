"""Where CuPy is not NumPy, in what functions do (what they take is in `namespace`).

Out-of-range indices wrap around; of several writes to one place any may come last; float32 denormals are 0; a float that an
integer cannot hold becomes its nearest one, and NaN becomes 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.device.modelled.array import ModelArray

if TYPE_CHECKING:
    from engine.device.modelled.backend import ModelBackend

_TINY = np.float32(np.finfo(np.float32).tiny)


def as_loop(result: Any, wanted: Sequence[np.dtype[Any]]) -> Any:
    """What a ufunc gives, in the dtypes of the loop that CuPy takes: mostly NumPy's."""
    if isinstance(result, tuple):
        return tuple(as_loop(each, [dtype]) for each, dtype in zip(result, wanted, strict=True))
    return result if result.dtype == wanted[0] else result.astype(wanted[0])


def flush_denormals(result: Any) -> Any:
    """float32 results with denormals made 0, as code compiled with -ftz=true has it."""
    for each in result if isinstance(result, tuple) else (result,):
        if each.dtype == np.float32 and each.size:
            small = (np.abs(each) < _TINY) & (each != 0)
            if small.any():
                if isinstance(each, np.ndarray) and each.flags.writeable:
                    each[small] = np.copysign(np.float32(0), each[small])
                else:
                    return np.copysign(np.float32(0), each)
    return result


def cast(data: np.ndarray[Any, Any], dtype: Any, copy: bool = True) -> Any:
    """`data.astype(dtype)` with CUDA's conversion of floats to integers."""
    wanted = np.dtype(dtype)
    if wanted.kind in "iu" and (
        data.dtype.kind == "f" or (data.dtype.kind == "V" and data.dtype.itemsize == 2)
    ):
        limits = np.iinfo(wanted)
        wide = np.trunc(np.nan_to_num(data.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
        found = np.clip(wide, float(limits.min), float(limits.max)).astype(wanted)
        found = np.where(wide >= float(limits.max), wanted.type(limits.max), found)
        return np.where(wide <= float(limits.min), wanted.type(limits.min), found)
    return data.astype(wanted, copy=copy)


def wrapped(index: Any, shape: tuple[int, ...]) -> Any:
    """An index whose integer arrays are brought into range, as a GPU's are that nobody checks."""
    parts = index if isinstance(index, tuple) else (index,)
    taken = sum(_width(part) for part in parts)
    found = []
    dimension = 0
    for part in parts:
        if part is Ellipsis:
            dimension += len(shape) - taken
        elif isinstance(part, np.ndarray) and part.dtype.kind in "iu":
            found.append(np.mod(part, max(1, shape[dimension])) if dimension < len(shape) else part)
            dimension += 1
            continue
        else:
            dimension += _width(part)
        found.append(part)
    return tuple(found) if isinstance(index, tuple) else found[0]


def _width(part: Any) -> int:
    """How many dimensions a part of an index takes up."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1


def write_items(data: np.ndarray[Any, Any], index: Any, value: Any, shuffle: Callable[[int], Any]) -> None:
    """``data[index] = value``, the places in any order."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" and part.ndim for part in parts):
        data[index] = value
        return
    places = np.arange(data.size).reshape(data.shape)[index]
    order = shuffle(places.size)
    values = np.broadcast_to(np.asarray(value), places.shape).reshape(-1)
    data.flat[places.reshape(-1)[order]] = values[order].astype(data.dtype)


def at(backend: ModelBackend, ufunc: np.ufunc, a: ModelArray, indices: Any, b: Any) -> None:
    """``ufunc.at``, the places in any order: atomic operations come as they come."""

    def run(data: Any, index: Any, value: Any) -> None:
        index = wrapped(index, data.shape)
        if data.ndim == 0:
            ufunc.at(data, index, value)
            return
        places = np.arange(data.size).reshape(data.shape)[index]
        order = backend.shuffled(places.size)
        values = np.broadcast_to(np.asarray(value), places.shape).reshape(-1)[order]
        flat = data.reshape(-1)
        ufunc.at(flat, places.reshape(-1)[order], values.astype(data.dtype))
        data[...] = flat.reshape(data.shape)

    backend.call(f"{ufunc.__name__}.at", run, (a, indices, b), writes=(a,))


# Functions of their own.


def _where(backend: ModelBackend, condition: Any, x: Any = None, y: Any = None) -> Any:
    if (x is None) != (y is None):
        raise ValueError("either both or neither of x and y should be given")
    if x is None:
        return backend.call("nonzero", np.nonzero, (condition,))
    return backend.call("where", np.where, (condition, x, y))


def _take(backend: ModelBackend, a: Any, indices: Any, axis: Any = None, out: Any = None) -> Any:
    return backend.call("take", lambda x, i: np.take(x, i, axis, mode="wrap"), (a, indices))


def _take_along_axis(backend: ModelBackend, a: Any, indices: Any, axis: Any) -> Any:
    def run(x: Any, i: Any) -> Any:
        size = x.size if axis is None else x.shape[axis]
        return np.take_along_axis(x, np.mod(i, max(1, size)), axis)

    return backend.call("take_along_axis", run, (a, indices))


def _kind(kind: Any) -> None:
    if kind not in (None, "stable"):
        raise ValueError(f"kind can only be None or 'stable', not {kind!r} (CuPy)")


def _sort(backend: ModelBackend, a: Any, axis: int = -1, kind: Any = None) -> Any:
    _kind(kind)
    return backend.call("sort", lambda x: np.sort(x, axis, kind="stable"), (a,))


def _argsort(backend: ModelBackend, a: Any, axis: int = -1, kind: Any = None) -> Any:
    _kind(kind)
    return backend.call("argsort", lambda x: np.argsort(x, axis, kind="stable"), (a,))


def _from_host(name: str) -> Callable[..., Any]:
    """`asarray` and its like: what they are given may be the host's."""
    function = getattr(np, name)

    def make(backend: ModelBackend, a: Any, *args: Any, **keywords: Any) -> Any:
        keywords.pop("blocking", None)
        if not isinstance(a, ModelArray) and not _holds_arrays(a):
            return backend.upload_now(function(a, *args, **keywords))
        return backend.call(name, function, (a, *args), keywords)

    return make


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(
        isinstance(v, ModelArray) or _holds_arrays(v) for v in value
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "take": _take,
    "take_along_axis": _take_along_axis,
    "sort": _sort,
    "argsort": _argsort,
    **{
        name: _from_host(name)
        for name in ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
    },
}

# What looks at values to know the shape of its result, or gives a number to the host: the host waits.
SYNCHRONIZING = frozenset(
    {
        "nonzero",
        "flatnonzero",
        "argwhere",
        "unique",
        "bincount",
        "extract",
        "compress",
        "setdiff1d",
        "intersect1d",
    }
)
