"""Combining updates into places of an array, where one place may come several times: NumPy's ``ufunc.at`` for any namespace.

A GPU does it with atomic operations, where it has them for the dtype; floats are then added in no fixed order.  For the rest the
updates go in rounds, in each of which no place comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_ADDED = frozenset({"int32", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128"})
_COMPARED = frozenset({"int32", "uint32", "uint64", "float32", "float64"})
_ATOMIC = {"add": _ADDED, "subtract": _ADDED, "minimum": _COMPARED, "maximum": _COMPARED}


def combine_at(xp: Any, name: str, array: Any, indices: Any, updates: Any) -> None:
    """``array[indices[i]] = function(array[indices[i]], updates[i])`` for each i, in place; `name` is the ufunc's.

    array: shape [n, …]; indices: any shape, all in [0, n); updates: shape ``indices.shape + array.shape[1:]``, or one that
    broadcasts to it.
    """
    function = getattr(xp, name)
    kind = array.dtype.name
    if xp is np or kind in _ATOMIC.get(name, ()):
        function.at(array, indices, updates)
    elif kind == "int64" and name in ("add", "subtract"):  # two's complement: the bits are the same
        function.at(array.view(np.uint64), indices, xp.asarray(updates).astype(np.int64).view(np.uint64))
    else:
        places = indices.reshape(-1)
        spread = xp.broadcast_to(updates, (*indices.shape, *array.shape[1:])).reshape(
            len(places), *array.shape[1:]
        )
        for chosen in rounds(xp, places):
            rows = places[chosen]
            array[rows] = function(array[rows], spread[chosen])


def rounds(xp: Any, indices: Any) -> Iterator[Any]:
    """The positions in `indices` (shape [n]), in groups within which no index comes twice: all first occurrences, then all
    second ones, and so on.  Going through the groups in turn changes a place that comes twice twice, in order.
    """
    left = xp.arange(len(indices))
    while len(left):
        _, first = xp.unique(indices[left], return_index=True)
        yield left[xp.sort(first)]
        keep = xp.ones(len(left), bool)
        keep[first] = False
        left = left[keep]
