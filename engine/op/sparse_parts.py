"""What ops on sparse tensors share.

A sparse tensor is ``indices`` (int64 [n, rank]), ``values`` ([n]) and ``dense_shape`` (int64 [rank]).  Gradients flow to its
values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.graph.sparse_tensor import SparseTensor, convert_to_tensor_or_sparse_tensor
from engine.op.atomics import combine_at
from engine.op.kernels import ints, invalid, require, shape_text
from engine.op.samples import random_array
from engine.types import errors
from engine.types.dtypes import DType


def parts(k: Any, indices: Any, values: Any, dense_shape: Any, what: str = "") -> tuple[int, ...]:
    """The dense shape.  Raises InvalidArgumentError if the three parts of a sparse tensor do not fit together."""
    if indices.ndim != 2 or values.ndim != 1 or dense_shape.ndim != 1:
        raise invalid(
            f"A sparse tensor has{what} indices of rank 2, values of rank 1 and a shape of rank 1, not "
            f"{shape_text(indices.shape)}, {shape_text(values.shape)}, {shape_text(dense_shape.shape)}"
        )
    if indices.shape != (values.shape[0], dense_shape.shape[0]):
        raise invalid(
            f"The indices{what} of {values.shape[0]} values in {dense_shape.shape[0]} dimensions must be of shape "
            f"[{values.shape[0]},{dense_shape.shape[0]}], not {shape_text(indices.shape)}"
        )
    dims = ints(dense_shape)
    check_bounds(k, indices, dims)
    return dims


def check_bounds(k: Any, indices: Any, dims: Sequence[int]) -> None:
    """Raise InvalidArgumentError, naming the first position that is outside of a tensor of shape `dims`."""
    outside = ((indices < 0) | (indices >= k.xp.asarray(dims, dtype=indices.dtype))).any(axis=1)

    def explain() -> errors.InvalidArgumentError:
        at = int(outside.argmax())
        place = shape_text(indices[at].tolist())
        return invalid(f"indices[{at}] = {place} is out of bounds: need 0 <= index < {shape_text(dims)}")

    require(k, outside, explain)


def check_order(k: Any, indices: Any, dims: Sequence[int]) -> None:
    """Raise InvalidArgumentError for positions that are not in row-major order, or that repeat."""
    flat = linear(k, indices, dims)
    wrong = flat[1:] <= flat[:-1]
    if wrong.any():
        at = int(wrong.argmax()) + 1
        position = shape_text(indices[at].tolist())
        if flat[at] == flat[at - 1]:
            raise invalid(f"indices[{at}] = {position} is repeated")
        raise invalid(
            f"indices[{at}] = {position} is out of order. Many sparse ops require sorted indices.\n"
            "    Use `tf.sparse.reorder` to create a correctly ordered copy."
        )


def linear(k: Any, indices: Any, dims: Sequence[int]) -> Any:
    """Each position as a number in row-major order."""
    flat = k.xp.zeros(indices.shape[0], dtype=np.int64)
    for axis, size in enumerate(dims):
        flat = flat * size + indices[:, axis]
    return flat


def add_at(xp: Any, into: Any, places: Any, values: Any) -> None:
    """Add values to the elements (or rows) `places` of `into`, in order, in float32 for the half precisions."""
    if into.dtype.itemsize == 2 and into.dtype.kind in "fV":
        wide = into.astype(np.float32)
        combine_at(xp, "add", wide, places, values.astype(np.float32))
        into[...] = wide.astype(into.dtype)
    else:
        combine_at(xp, "add", into, places, values)


def positions(rng: np.random.Generator, dims: Sequence[int], count: int) -> np.ndarray[Any, Any]:
    """`count` different positions in row-major order."""
    chosen = np.sort(rng.choice(math.prod(dims), count, replace=False)) if count else np.zeros(0, np.int64)
    return np.stack(np.unravel_index(chosen, dims), axis=1).astype(np.int64).reshape(count, len(dims))


def sparse_sample(
    rng: np.random.Generator, dtype: DType, dims: Sequence[int], count: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """indices, values and shape of a random sparse tensor."""
    return positions(rng, dims, count), random_array(rng, dtype, (count,)), np.array(dims, np.int64)


SIZES: tuple[tuple[tuple[int, ...], int], ...] = (((3, 4), 5), ((6,), 3), ((2, 3, 2), 6), ((2, 3), 0))


def dense_of(indices: Any, values: Any, dense_shape: Any, default: Any = 0) -> Any:
    """For references: the dense array, element by element."""
    dense = np.empty(tuple(int(size) for size in dense_shape), values.dtype)
    dense[...] = default
    for position, value in zip(np.asarray(indices).tolist(), values, strict=True):
        dense[tuple(position)] = value
    return dense


def as_sparse(value: Any) -> SparseTensor:
    """`value` as a SparseTensor.  Raises TypeError if it is not sparse."""
    found = convert_to_tensor_or_sparse_tensor(value) if not isinstance(value, SparseTensor) else value
    if not isinstance(found, SparseTensor):
        raise TypeError(f"Input must be a SparseTensor, not {value!r}.")
    return found
