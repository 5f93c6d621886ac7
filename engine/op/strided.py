"""What a strided slice means: begin, end, strides and five masks → one entry an axis → static shape or NumPy index.

The rules are TensorFlow's (`StridedSlice`): bit i of a mask speaks of the i-th entry of the sparse specification, one ellipsis
stands for as many whole axes as are missing, a new axis beats shrinking, and an entry that shrinks its axis reads one index of
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

Known: TypeAlias = (
    "Sequence[int | None]"  # entries of begin, end or strides; None where the value is not known yet
)


class Masks(NamedTuple):
    """The five bit masks of a strided slice."""

    begin: int = 0
    end: int = 0
    ellipsis: int = 0
    new_axis: int = 0
    shrink: int = 0

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> Masks:
        return cls(
            attrs["begin_mask"],
            attrs["end_mask"],
            attrs["ellipsis_mask"],
            attrs["new_axis_mask"],
            attrs["shrink_axis_mask"],
        )


class AxisSlice(NamedTuple):
    """The part of one input axis that a strided slice takes; a number that is not known is None."""

    begin: int | None
    end: int | None
    stride: int | None
    begin_masked: bool
    end_masked: bool
    shrink: bool

    def bounds(self, axis: int, size: int) -> tuple[int, int, int]:
        """First index, limit and number of indices taken from an axis of `size`; needs every number known.

        Raises ValueError for an index outside of the axis.
        """
        assert self.begin is not None
        if self.shrink:
            index = self.begin + size if self.begin < 0 else self.begin
            if not 0 <= index < size:
                raise ValueError(f"slice index {self.begin} of dimension {axis} out of bounds.")
            return index, index + 1, 1
        assert self.end is not None and self.stride is not None
        forward = self.stride > 0
        low, high = (0, size) if forward else (-1, size - 1)

        def canonical(value: int) -> int:
            return min(max(value + size if value < 0 else value, low), high)

        first = (low if forward else high) if self.begin_masked else canonical(self.begin)
        limit = (high if forward else low) if self.end_masked else canonical(self.end)
        span = limit - first if forward else first - limit
        return first, limit, max(0, -(-span // abs(self.stride)))

    def size(self, axis: int, size: int | None) -> int | None:
        """How many indices are taken from an axis of `size`, as far as that is known."""
        if self.shrink:
            if size is not None and self.begin is not None:
                self.bounds(axis, size)
            return 1
        if size is None or self.stride is None:
            return None
        if self.begin_masked and self.end_masked:
            return self._replace(begin=0, end=0).bounds(axis, size)[2]
        begin = 0 if self.begin_masked else self.begin
        end = 0 if self.end_masked else self.end
        if begin is None or end is None:
            return None
        return self._replace(begin=begin, end=end).bounds(axis, size)[2]


_WHOLE = AxisSlice(0, 0, 1, True, True, False)


def axes(rank: int, begin: Known, end: Known, strides: Known, masks: Masks) -> list[AxisSlice | None]:
    """The slice as one entry an axis, in order; None stands for a new axis of size 1.

    Raises ValueError for a zero stride, a second ellipsis, more entries than axes, or a stride other than 1 where one index
    is read.
    """
    count = len(begin)
    if masks.ellipsis & (masks.ellipsis - 1) & ((1 << count) - 1):
        raise ValueError("Multiple ellipses in slice spec not allowed")
    ellipsis = next((i for i in range(count) if masks.ellipsis >> i & 1), count)
    taken = sum(1 for i in range(count) if i != ellipsis and not masks.new_axis >> i & 1)
    if taken > rank:
        raise ValueError(f"Index out of range using input dim {rank}; input has only {rank} dims")
    found: list[AxisSlice | None] = []
    for i in range(count):
        if i == ellipsis:
            found.extend([_WHOLE] * (rank - taken))
        elif masks.new_axis >> i & 1:
            found.append(None)
        else:
            stride = strides[i]
            shrink = bool(masks.shrink >> i & 1)
            if stride == 0:
                raise ValueError(f"strides[{i}] must be non-zero")
            if shrink and stride is not None and stride < 0:
                raise ValueError("only stride 1 allowed on non-range indexing.")
            found.append(
                AxisSlice(
                    begin[i], end[i], stride, bool(masks.begin >> i & 1), bool(masks.end >> i & 1), shrink
                )
            )
    if ellipsis == count:
        found.extend([_WHOLE] * (rank - taken))
    return found


def static_shape(
    dims: Sequence[int | None], begin: Known, end: Known, strides: Known, masks: Masks
) -> tuple[int | None, ...]:
    """The shape of the slice of an input with these dims, as far as it is known.  Raises ValueError as `axes` does."""
    result: list[int | None] = []
    axis = 0
    for entry in axes(len(dims), begin, end, strides, masks):
        if entry is None:
            result.append(1)
            continue
        size = entry.size(axis, dims[axis])
        if not entry.shrink:
            result.append(size)
        axis += 1
    return tuple(result)


@lru_cache(maxsize=4096)
def index(
    shape: tuple[int, ...],
    begin: tuple[int, ...],
    end: tuple[int, ...],
    strides: tuple[int, ...],
    masks: Masks,
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """A NumPy index that takes the slice of an array of `shape` (always as an array, never a scalar), and the result's shape.

    Raises ValueError as `axes` and `AxisSlice.bounds` do.
    """
    parts: list[Any] = []
    result: list[int] = []
    axis = 0
    for entry in axes(len(shape), begin, end, strides, masks):
        if entry is None:
            parts.append(None)
            result.append(1)
            continue
        first, limit, count = entry.bounds(axis, shape[axis])
        if entry.shrink:
            parts.append(first)
        else:
            # A limit of -1 would mean "from the end" to NumPy; here it means "down to and with index 0".
            parts.append(slice(first, None if limit < 0 else limit, entry.stride) if count else slice(0, 0))
            result.append(count)
        axis += 1
    return (*parts, Ellipsis), tuple(result)
