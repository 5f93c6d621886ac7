"""Sums of products along chosen dimensions of two tensors, by way of one product of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.const import constant
from engine.op.registry import raw

__all__ = ["tensordot"]


def _contraction(a: Any, axes: Any) -> tuple[list[int], list[int]]:
    """The dimensions of both operands to sum over.  Raises ValueError for axes that are neither a number nor two lists."""
    if isinstance(axes, int | np.integer):
        count = int(axes)
        if count < 0:
            raise ValueError(f"'axes' must be at least 0, not {count}")
        if a.shape.ndims is None:
            raise ValueError("A number as 'axes' needs the rank of a to be known; give the dimensions")
        if count > a.shape.ndims:
            raise ValueError(
                f"'axes' must not be larger than the number of dimensions of a, {a.shape}; it is {count}"
            )
        return list(range(a.shape.ndims - count, a.shape.ndims)), list(range(count))
    if not isinstance(axes, list | tuple | np.ndarray) or len(axes) != 2:
        raise ValueError(f"'axes' must be an integer or have length 2, not {axes!r}")
    of_a, of_b = ([int(i) for i in np.ravel(each)] for each in axes)
    if len(of_a) != len(of_b):
        raise ValueError(f"Different number of contraction axes for a and b: {of_a} and {of_b}")
    return of_a, of_b


def _split(x: Any, axes: list[int]) -> tuple[Any, Any, Any, Any]:
    """The free dimensions of x and the summed ones, and their sizes: lists if the shape is known, else tensors."""
    rank = x.shape.ndims
    if rank is None:
        shape, rank = raw.Shape(x), raw.Rank(x)
        given = constant(np.array(axes, np.int32), name="axes")
        summed = raw.Select(raw.GreaterEqual(given, 0), given, given + rank)
        free = raw.ListDiff(raw.Range(0, rank, 1, name="range"), summed).out
        return free, summed, raw.GatherV2(shape, free, 0), raw.GatherV2(shape, summed, 0)
    for axis in axes:
        if not -rank <= axis < rank:
            raise ValueError(f"The axis {axis} is not in [{-rank}, {rank}), for shape {x.shape}")
    summed = [axis % rank for axis in axes]
    free = [i for i in range(rank) if i not in summed]
    dims = x.shape.dims_or_none
    if None not in dims:
        return free, summed, [dims[i] for i in free], [dims[i] for i in summed]
    across = constant(np.array(summed, np.int32), name="axes")
    along = constant(np.array(free, np.int32), name="free")
    shape = raw.Shape(x)
    return along, across, raw.GatherV2(shape, along, 0), raw.GatherV2(shape, across, 0)


def _as_matrix(x: Any, axes: list[int], last: bool) -> tuple[Any, Any]:
    """x as a matrix, with `axes` as its last or first dimension, and the sizes of the rest: a list, or a tensor."""
    free, summed, rest, inner = _split(x, axes)
    if isinstance(rest, list):
        moved = _transposed(x, free, summed, last)
        if len(free) == 1 and len(summed) == 1:
            return moved, rest
        sizes: Any = [math.prod(rest), math.prod(inner)]
        return raw.Reshape(moved, np.array(sizes if last else sizes[::-1], np.int32)), rest
    sizes = [raw.Prod(rest, constant([0])), raw.Prod(inner, constant([0]))]
    order = raw.ConcatV2([free, summed] if last else [summed, free], 0, name="concat")
    wanted = raw.Pack(sizes if last else sizes[::-1], name="stack")
    return raw.Reshape(raw.Transpose(x, order, name="transpose"), wanted), rest


def _transposed(x: Any, free: list[int], summed: list[int], last: bool) -> Any:
    order = free + summed if last else summed + free
    return (
        x
        if order == list(range(len(order)))
        else raw.Transpose(x, np.array(order, np.int32), name="transpose")
    )


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Any:
    """The sum of products over dimensions of a and b: the remaining ones of a, then of b, make the result.

    axes: how many (the last of a, the first of b), or a pair of lists of dimensions.  Raises ValueError for axes that do not fit.
    """
    with name_scope(name, "Tensordot", [a, b]) as scope:
        a = convert_to_tensor(a, name="a")
        b = convert_to_tensor(b, a.dtype.base_dtype, name="b")
        of_a, of_b = _contraction(a, axes)
        left, rest_a = _as_matrix(a, of_a, last=True)
        right, rest_b = _as_matrix(b, of_b, last=False)
        product = raw.MatMul(left, right)
        if isinstance(rest_a, list) and isinstance(rest_b, list):
            if len(rest_a) == 1 and len(rest_b) == 1:
                return product
            return raw.Reshape(product, np.array(rest_a + rest_b, np.int32), name=scope)
        rests = [
            constant(np.array(rest, np.int32)) if isinstance(rest, list) else rest
            for rest in (rest_a, rest_b)
        ]
        result = raw.Reshape(product, raw.ConcatV2(rests, 0, name="concat"), name=scope)
        if a.shape.ndims is not None and b.shape.ndims is not None:
            result.set_shape(
                [
                    x.shape.dims_or_none[i]
                    for x, of in ((a, of_a), (b, of_b))
                    for i in range(x.shape.ndims)
                    if i not in [axis % x.shape.ndims for axis in of]
                ]
            )
        return result
