"""Histograms of logged values, with the bucket limits that TensorFlow's own summaries use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tracing import columns

_SMALLEST = 1e-12
_LARGEST = 1e20
_GROWTH = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How values are distributed.

    `counts[i]` values are at most `limits[i]` and above `limits[i - 1]`; limits grow by 10 % from one to the next, on both sides
    of zero, and only the buckets from the first that is not empty to the last are kept.  `minimum` to `sum_squares` are over
    the finite values; `nonfinite` says how many others were left out.
    """

    limits: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    minimum: float
    maximum: float
    number: int
    sum: float
    sum_squares: float
    nonfinite: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Histogram:
        """The histogram of an array of numbers or bools of any shape.  Raises TypeError for anything else."""
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" and array.dtype.kind != "V":
            raise TypeError(f"a histogram is made of real numbers, not of dtype {array.dtype}")
        flat = array.astype(np.float64).reshape(-1)
        finite = flat[np.isfinite(flat)]
        nonfinite = len(flat) - len(finite)
        if not len(finite):
            none = np.zeros(0, np.float64)
            return cls(none, none, 0.0, 0.0, 0, 0.0, 0.0, nonfinite)
        limits = _default_limits()
        counts = np.bincount(np.searchsorted(limits, finite, side="left"), minlength=len(limits))
        used = np.flatnonzero(counts)
        kept = slice(used[0], used[-1] + 1)
        return cls(
            limits=limits[kept],
            counts=counts[kept].astype(np.float64),
            minimum=float(finite.min()),
            maximum=float(finite.max()),
            number=len(finite),
            sum=float(finite.sum()),
            sum_squares=float((finite * finite).sum()),
            nonfinite=nonfinite,
        )

    def pack(self) -> bytes:
        """As a blob of columns."""
        numbers = (self.minimum, self.maximum, self.sum, self.sum_squares)
        return columns.pack(
            {
                "limits": self.limits,
                "counts": self.counts,
                "numbers": np.array(numbers, np.float64),
                "sizes": np.array((self.number, self.nonfinite), np.int64),
            }
        )

    @classmethod
    def unpack(cls, blob: bytes) -> Histogram:
        """What `pack` wrote.  Raises ColumnsError or KeyError for anything else."""
        found = columns.unpack(blob)
        minimum, maximum, total, sum_squares = found["numbers"].tolist()
        number, nonfinite = found["sizes"].tolist()
        return cls(found["limits"], found["counts"], minimum, maximum, number, total, sum_squares, nonfinite)

    def put(self, message: Any) -> None:
        """Fill `message`, a HistogramProto."""
        message.min, message.max, message.num = self.minimum, self.maximum, self.number
        message.sum, message.sum_squares = self.sum, self.sum_squares
        message.bucket_limit.extend(self.limits.tolist())
        message.bucket.extend(self.counts.tolist())


@cache
def _default_limits() -> npt.NDArray[np.float64]:
    count = int(np.ceil(np.log(_LARGEST / _SMALLEST) / np.log(_GROWTH)))
    positive = _SMALLEST * _GROWTH ** np.arange(count)
    most = np.finfo(np.float64).max
    return np.concatenate([[-most], -positive[::-1], [0.0], positive, [most]])
