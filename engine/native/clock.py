"""The clock of native logs: the processor's counter where it runs evenly, else the system's monotonic clock.

The counter costs half of what the clock costs.  It is trusted where Linux says that it neither changes its pace nor stops (the
flags constant_tsc and nonstop_tsc); pace and origin are measured against `time.perf_counter_ns`.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.native import driver

_LEAST = 20_000_000  # ns over which the pace is measured: reading both clocks is 0.1 µs inexact, so 5 parts in a million
_LASTS = 10_000_000  # ns that one comparison of the two clocks is good for: 50 ns at that pace


@lru_cache(maxsize=1)
def _counter() -> Callable[[], int] | None:
    """The function that reads the counter, or None where it is not to be trusted."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    try:
        with Path("/proc/cpuinfo").open() as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return None
    if not {"constant_tsc", "nonstop_tsc"} <= set(flags):
        return None
    return ctypes.PYFUNCTYPE(ctypes.c_longlong)(driver.address("counter"))


@lru_cache(maxsize=1)
def _system() -> int:
    """The address of the C library's clock_gettime."""
    found = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value
    return found or 0


def native() -> int:
    """What a run's state says of the clock: 0 for the counter, or the address of clock_gettime."""
    if _counter() is None:
        return _system()
    _origin()
    return 0


def _both(read: Callable[[], int]) -> tuple[int, int]:
    """The counter and the clock (ns) at one moment, from the quickest of a few readings."""
    tries = []
    for _ in range(5):
        before = time.perf_counter_ns()
        count = read()
        after = time.perf_counter_ns()
        tries.append((after - before, count, (before + after) // 2))
    _, count, when = min(tries)
    return count, when


@lru_cache(maxsize=1)
def _origin() -> tuple[int, int]:
    read = _counter()
    return (0, 0) if read is None else _both(read)


class _Rate:
    """The counter and the clock (ns) at one moment, and ns a count: good for a while."""

    def __init__(self, read: Callable[[], int]) -> None:
        count0, when0 = _origin()
        self.count, self.when = _both(read)
        if self.when - when0 < _LEAST:
            time.sleep((_LEAST - (self.when - when0)) / 1e9)
            self.count, self.when = _both(read)
        self.pace = (self.when - when0) / (self.count - count0)


_rate: _Rate | None = None


def nanoseconds(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Times of `time.perf_counter_ns` for what TIME put into a log.

    The two clocks are compared anew if that was long ago: the nearer the moment, the less the pace matters.
    """
    global _rate
    read = _counter()
    if read is None or not len(counts):
        return counts
    rate = _rate
    if rate is None or time.perf_counter_ns() - rate.when > _LASTS:
        rate = _rate = _Rate(read)
    times: npt.NDArray[np.int64] = rate.when + np.rint((counts - rate.count) * rate.pace).astype(np.int64)
    return times
