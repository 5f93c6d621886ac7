"""Dimension: TensorFlow 1's way of talking about one dimension of a partial shape."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any


class Dimension:
    """One dimension: a size, or unknown (`value` is None).

    Arithmetic with an unknown one is unknown; comparing with an unknown one (`==` too) gives None, as in TensorFlow 1.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        if value is None or value.__class__ is int:
            self._value: int | None = value
        elif isinstance(value, Dimension):
            self._value = value._value
        else:
            try:
                self._value = operator.index(value)
            except TypeError:
                raise TypeError(f"{value!r} is not a dimension: give an int or None") from None
        if self._value is not None and self._value < 0:
            raise ValueError(f"dimension {self._value} is negative")

    @property
    def value(self) -> int | None:
        """The size, or None if it is unknown."""
        return self._value

    def is_compatible_with(self, other: Any) -> bool:
        """Whether both may be the same size: equal, or one unknown."""
        other = as_dimension(other)
        return self._value == other._value or self._value is None or other._value is None

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError if the two sizes differ."""
        if not self.is_compatible_with(other):
            raise ValueError(f"dimensions {self} and {as_dimension(other)} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """What both together say.  Raises ValueError if they are not compatible."""
        self.assert_is_compatible_with(other)
        return as_dimension(other) if self._value is None else self

    def _with(self, other: Any, function: Callable[[int, int], int], swapped: bool = False) -> Dimension:
        try:
            right = as_dimension(other)._value
        except TypeError:
            return NotImplemented  # type: ignore[no-any-return]
        left = self._value
        if left is None or right is None:
            return Dimension(None)
        return Dimension(function(right, left) if swapped else function(left, right))

    def __add__(self, other: Any) -> Dimension:
        return self._with(other, operator.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Dimension:
        return self._with(other, operator.sub)

    def __rsub__(self, other: Any) -> Dimension:
        return self._with(other, operator.sub, True)

    def __mul__(self, other: Any) -> Dimension:
        return self._with(other, operator.mul)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Dimension:
        return self._with(other, operator.floordiv)

    def __rfloordiv__(self, other: Any) -> Dimension:
        return self._with(other, operator.floordiv, True)

    def __mod__(self, other: Any) -> Dimension:
        return self._with(other, operator.mod)

    def __rmod__(self, other: Any) -> Dimension:
        return self._with(other, operator.mod, True)

    def __truediv__(self, other: Any) -> Dimension:
        raise TypeError("a Dimension is divided with //, not with /")

    __rtruediv__ = __truediv__

    def _compare(self, other: Any, function: Callable[[int, int], bool]) -> Any:
        try:
            right = as_dimension(other)._value
        except TypeError:
            return NotImplemented
        return None if self._value is None or right is None else function(self._value, right)

    def __eq__(self, other: object) -> Any:
        try:
            right = as_dimension(other)._value
        except (TypeError, ValueError):
            return NotImplemented
        return None if self._value is None or right is None else self._value == right

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is None or equal is NotImplemented else not equal

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, operator.lt)

    def __le__(self, other: Any) -> Any:
        return self._compare(other, operator.le)

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, operator.gt)

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, operator.ge)

    def __int__(self) -> int:
        return self.__index__()

    def __index__(self) -> int:
        if self._value is None:
            raise TypeError("an unknown dimension is not a number")
        return self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def __repr__(self) -> str:
        return f"Dimension({self._value})"


def as_dimension(value: Any) -> Dimension:
    """`value` (a Dimension, an int or None) as a Dimension.  Raises TypeError or ValueError for anything else."""
    return value if isinstance(value, Dimension) else Dimension(value)
