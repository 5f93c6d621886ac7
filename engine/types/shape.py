"""Partial shapes: the rank, or some of the dimensions, may be unknown.

A `TensorShape` holds a tuple of ints and Nones, or None for an unknown rank; `Dimension` objects are made only when somebody
indexes or iterates.  Merging and broadcasting follow TensorFlow 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias, overload

from engine.types.dimension import Dimension, as_dimension

__all__ = [
    "Dimension",
    "Dims",
    "TensorShape",
    "as_dimension",
    "as_shape",
    "broadcast_static_shape",
    "unknown_shape",
]

Dims: TypeAlias = "tuple[int | None, ...] | None"


class TensorShape:
    """The static shape of a tensor, as far as it is known.

    Made from None (unknown rank), an int (a vector), a sequence of ints, Nones and Dimensions, another TensorShape, or a
    TensorShapeProto.  Immutable; equal when the same things are known.
    """

    __slots__ = ("_dims",)

    _dims: Dims

    def __init__(self, dims: Any = None) -> None:
        if dims is None:
            self._dims = None
        elif dims.__class__ is TensorShape:
            self._dims = dims._dims
        elif isinstance(dims, (str, bytes)):
            raise TypeError(f"{dims!r} is not a shape: give a sequence of ints and Nones")
        elif hasattr(dims, "unknown_rank"):  # a TensorShapeProto, whose -1 is an unknown dimension
            self._dims = (
                None if dims.unknown_rank else tuple(d.size if d.size >= 0 else None for d in dims.dim)
            )
        elif isinstance(dims, Iterable) and getattr(dims, "ndim", 1) != 0:
            self._dims = tuple([Dimension(d)._value for d in dims])
        else:
            self._dims = (Dimension(dims)._value,)

    @staticmethod
    def of(dims: Dims) -> TensorShape:
        """The shape with exactly these dimensions, unchecked: Python ints and Nones only.

        Equal ones are mostly one object.
        """
        found = _interned.get(dims)
        if found is None:
            found = TensorShape.__new__(TensorShape)
            found._dims = dims
            if len(_interned) > 20_000:
                _interned.clear()
            _interned[dims] = found
        return found

    @property
    def dims_or_none(self) -> Dims:
        """The dimensions as a tuple of ints and Nones; None for an unknown rank."""
        return self._dims

    @property
    def dims(self) -> list[Dimension] | None:
        """The dimensions as Dimension objects; None for an unknown rank."""
        return None if self._dims is None else [Dimension(d) for d in self._dims]

    @property
    def ndims(self) -> int | None:
        """The number of dimensions, or None."""
        return None if self._dims is None else len(self._dims)

    @property
    def rank(self) -> int | None:
        """The number of dimensions, or None."""
        return None if self._dims is None else len(self._dims)

    def as_list(self) -> list[int | None]:
        """The dimensions as a list of ints and Nones.  Raises ValueError for an unknown rank."""
        if self._dims is None:
            raise ValueError("a shape of unknown rank has no list of dimensions")
        return list(self._dims)

    def num_elements(self) -> int | None:
        """The product of the dimensions, or None if the shape is not fully known."""
        return math.prod(self._dims) if self._known(self._dims) else None  # type: ignore[arg-type]

    @staticmethod
    def _known(dims: Dims) -> bool:
        return dims is not None and None not in dims

    def is_fully_defined(self) -> bool:
        """Whether the rank and every dimension are known."""
        return self._known(self._dims)

    def assert_is_fully_defined(self) -> None:
        """Raises ValueError if something is unknown."""
        if not self.is_fully_defined():
            raise ValueError(f"shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        """Whether some full shape fits both."""
        a, b = self._dims, as_shape(other)._dims
        if a is None or b is None or a == b:
            return True
        return len(a) == len(b) and all(x == y or x is None or y is None for x, y in zip(a, b, strict=True))

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError if no full shape fits both."""
        if not self.is_compatible_with(other):
            raise ValueError(f"shapes {self} and {as_shape(other)} are not compatible")

    def merge_with(self, other: Any) -> TensorShape:
        """What both together say.  Raises ValueError if they are not compatible."""
        other = as_shape(other)
        a, b = self._dims, other._dims
        if a is None:
            return other  # type: ignore[no-any-return]
        if b is None or a == b:
            return self
        if not self.is_compatible_with(other):
            raise ValueError(f"shapes {self} and {other} are not compatible")
        return TensorShape.of(tuple([y if x is None else x for x, y in zip(a, b, strict=True)]))

    def most_specific_compatible_shape(self, other: Any) -> TensorShape:
        """The most that is true of both: differing dimensions, or a differing rank, become unknown."""
        a, b = self._dims, as_shape(other)._dims
        if a is None or b is None or len(a) != len(b):
            return TensorShape.of(None)
        return TensorShape.of(tuple([x if x == y else None for x, y in zip(a, b, strict=True)]))

    def concatenate(self, other: Any) -> TensorShape:
        """These dimensions, then those of `other`; an unknown rank makes the result's unknown."""
        a, b = self._dims, as_shape(other)._dims
        return TensorShape.of(None if a is None or b is None else a + b)

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return as_shape(other).concatenate(self)

    def with_rank(self, rank: int) -> TensorShape:
        """This shape, known to have `rank` dimensions.  Raises ValueError if it has another number."""
        if self._dims is None:
            return unknown_shape(rank)
        if len(self._dims) != rank:
            raise ValueError(f"shape {self} has rank {len(self._dims)}, but must have rank {rank}")
        return self

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """This shape.  Raises ValueError if it has fewer than `rank` dimensions."""
        if self._dims is not None and len(self._dims) < rank:
            raise ValueError(f"shape {self} has rank {len(self._dims)}, but must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """This shape.  Raises ValueError if it has more than `rank` dimensions."""
        if self._dims is not None and len(self._dims) > rank:
            raise ValueError(f"shape {self} has rank {len(self._dims)}, but must have rank at most {rank}")
        return self

    def assert_has_rank(self, rank: int) -> None:
        """Raises ValueError if the rank is known to be another."""
        self.with_rank(rank)

    def assert_same_rank(self, other: Any) -> None:
        """Raises ValueError if both ranks are known and differ."""
        other = as_shape(other)
        if self._dims is not None and other._dims is not None and len(self._dims) != len(other._dims):
            raise ValueError(f"shapes {self} and {other} must have the same rank")

    def as_proto(self) -> Any:
        """A TensorShapeProto, with -1 for an unknown dimension."""
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        if self._dims is None:
            return TensorShapeProto(unknown_rank=True)
        dim = TensorShapeProto.Dim
        return TensorShapeProto(dim=[dim(size=-1 if d is None else d) for d in self._dims])

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("a shape of unknown rank has no length")
        return len(self._dims)

    def __bool__(self) -> bool:
        """Whether the rank is known."""
        return self._dims is not None

    def __iter__(self) -> Iterator[Dimension]:
        if self._dims is None:
            raise ValueError("a shape of unknown rank cannot be iterated over")
        return iter([Dimension(d) for d in self._dims])

    @overload
    def __getitem__(self, key: int) -> Dimension: ...
    @overload
    def __getitem__(self, key: slice) -> TensorShape: ...
    def __getitem__(self, key: int | slice) -> Dimension | TensorShape:
        if self._dims is not None:
            return TensorShape.of(self._dims[key]) if isinstance(key, slice) else Dimension(self._dims[key])
        if not isinstance(key, slice):
            return Dimension(None)
        start, stop = key.start or 0, key.stop
        if key.step not in (None, 1):
            raise ValueError("a shape of unknown rank cannot be sliced with a step")
        if stop is None or start < 0 or stop < 0:
            return TensorShape.of(None)
        return unknown_shape(max(0, stop - start))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        try:
            return self._dims == as_shape(other)._dims
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._dims)

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorShape.of, (self._dims,)

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        inner = ", ".join(["?" if d is None else str(d) for d in self._dims])
        return f"({inner},)" if len(self._dims) == 1 else f"({inner})"

    def __repr__(self) -> str:
        return "TensorShape(None)" if self._dims is None else f"TensorShape({list(self._dims)})"


# Bounded, so that a program with ever new shapes does not leak; a shape that was dropped from it is still a good shape.
_interned: dict[Dims, TensorShape] = {}


def unknown_shape(rank: int | None = None, *, ndims: int | None = None) -> TensorShape:
    """The shape of which nothing is known, or only its rank (`ndims` is TensorFlow 1's other name for it)."""
    rank = ndims if rank is None else rank
    return TensorShape.of(None if rank is None else (None,) * rank)


def as_shape(value: Any) -> TensorShape:
    """`value` as a TensorShape (see its constructor for what may be given)."""
    return value if value.__class__ is TensorShape else TensorShape(value)


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The shape that an elementwise op gives for these two, as far as it is known.

    An unknown dimension against one greater than 1 is taken to be equal to it or 1, so the result has that size; against 1
    the result is unknown.  Raises ValueError, with both shapes, if they cannot be broadcast.
    """
    return _broadcast(as_shape(shape_x)._dims, as_shape(shape_y)._dims)


@lru_cache(maxsize=1024)  # a graph has few shapes, and asks this for each of its elementwise nodes
def _broadcast(x: Dims, y: Dims) -> TensorShape:
    if x is None or y is None:
        return TensorShape.of(None)
    if x == y and None not in x:
        return TensorShape.of(x)
    rank = max(len(x), len(y))
    dims: list[int | None] = []
    for a, b in zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y, strict=True):
        if a == b or b == 1:
            dims.append(a)
        elif a == 1 or a is None:
            dims.append(b)
        elif b is None:
            dims.append(a)
        else:
            raise ValueError(
                f"shapes {TensorShape.of(x)} and {TensorShape.of(y)} cannot be broadcast: {a} against {b}"
            )
    return TensorShape.of(tuple(dims))
