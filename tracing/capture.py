"""Which of the captured values a run keeps: all that are not too large, until the budget is used up."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.observe import Value
from tracing.batches import Dropped

VALUE_BUDGET = 256 << 20
"""Bytes of captured values that a run keeps unless told otherwise."""
VALUE_CAP = 1 << 20
"""Bytes above which a single value is not kept unless told otherwise."""


class Budget:
    """Bytes that captured values may take: `total` in the whole run, `cap` each.  Thread-safe."""

    def __init__(self, total: int = VALUE_BUDGET, cap: int = VALUE_CAP) -> None:
        self.left = total
        self.cap = cap
        self._lock = threading.Lock()

    def choose(self, values: Iterable[Value]) -> tuple[list[Value], int, list[Dropped]]:
        """Copies of the values that fit, on the host, how many bytes they take, and what is said of the others."""
        kept: list[Value] = []
        kept_bytes = 0
        dropped: list[Dropped] = []
        for value in values:
            array, nbytes = _on_host(value.array, min(self.cap, self.left))
            if array is not None and self._take(nbytes):
                kept.append(Value(value.row, value.slot, np.array(array)))
                kept_bytes += nbytes
            else:
                dropped.append(Dropped(value.row, value.slot, nbytes))
        return kept, kept_bytes, dropped

    def _take(self, nbytes: int) -> bool:
        with self._lock:
            fits = nbytes <= self.left
            if fits:
                self.left -= nbytes
            return fits


def _on_host(value: Any, most: int) -> tuple[Any, int]:
    """A value as a NumPy array (None if it is larger than `most` or has no stored form), and its size in bytes."""
    nbytes = int(value.nbytes)
    if nbytes > most:
        return None, nbytes
    if not isinstance(value, (np.ndarray, np.generic)):
        value = value.get() if hasattr(value, "__cuda_array_interface__") else np.asarray(value)
    if value.dtype.hasobject:
        items = value.reshape(-1).tolist()
        if not all(isinstance(item, bytes) for item in items):
            return None, nbytes  # handles of resources
        nbytes += sum(map(len, items))
        if nbytes > most:
            return None, nbytes
    return value, nbytes
