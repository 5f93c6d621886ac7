"""Choosing by truth: Where with one argument (the indices of what is true), `boolean_mask`, `sequence_mask`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import expand_dims, reshape, squeeze
from engine.op.array import shape as shape_of
from engine.op.const import constant
from engine.op.gather import gather
from engine.op.joining import concat
from engine.op.registry import NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

__all__ = ["boolean_mask", "sequence_mask"]


def _wheres(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims in ((2, 3), (7,), (), (0, 3), (2, 1, 2)):
        yield Sample(
            random_array(rng, dtype, dims, -1, 1) if dtype.is_integer else _some_zero(rng, dtype, dims),
            grad=(),
        )


def _some_zero(rng: np.random.Generator, dtype: DType, dims: tuple[int, ...]) -> Any:
    values = random_array(rng, dtype, dims)
    return values * np.asarray(rng.integers(0, 2, dims)).astype(dtype.np_dtype)


def _where_reference(x: Any, **_: Any) -> Any:
    found = [position for position in np.ndindex(*x.shape) if x[position] != 0]
    return np.array(found, np.int64).reshape((len(found), x.ndim))


op(
    "Where(input: T; T: {float32, float64, int32, uint8, int16, int8, complex64, int64, bfloat16, uint16, complex128, float16, "
    "uint32, uint64, bool} = bool) -> index: int64",
    kernel=lambda k, x: k.xp.argwhere(x).astype(np.int64, copy=False),
    shape=lambda node: TensorShape.of((None, node.inputs[0].shape.ndims)),
    grad=NotDifferentiable,
    samples=_wheres,
    reference=_where_reference,
)


def boolean_mask(tensor: Any, mask: Any, name: str | None = "boolean_mask", axis: Any = None) -> Any:
    """The slices of `tensor` where `mask` is True: shape [count, …] in place of the dimensions that the mask covers.

    The mask (bools, of known rank K > 0) covers K dimensions from `axis` (an int, 0) on.  Raises ValueError if the rank is not
    known, is 0, or its shape does not fit.
    """
    with name_scope(name, "boolean_mask", [tensor, mask]):
        data = convert_to_tensor(tensor, name="tensor")
        keep = convert_to_tensor(mask, name="mask")
        ndims = keep.shape.ndims
        if ndims == 0:
            raise ValueError("mask cannot be scalar.")
        if ndims is None:
            raise ValueError(
                "Number of mask dimensions must be specified, even if some dimensions are None.  E.g. shape=[None] is ok, but "
                "shape=None is not."
            )
        first = 0 if axis is None else int(constant_value(axis) if isinstance(axis, Tensor) else axis)
        if first < 0:
            first += len(data.shape.with_rank_at_least(1))
        covered = data.shape[first : first + ndims]
        if not covered.is_compatible_with(keep.shape):
            raise ValueError(
                f"Shapes {covered} and {keep.shape} are incompatible: the mask must fit the tensor from axis {first}"
            )
        leading = raw.Prod(shape_of(data)[first : first + ndims], [0])
        flat = reshape(
            data,
            concat([shape_of(data)[:first], [leading], shape_of(data)[first + ndims :]], 0),
        )
        count = covered.num_elements()
        if data.shape.ndims is not None:
            flat.set_shape(data.shape[:first].concatenate([count]).concatenate(data.shape[first + ndims :]))
        chosen = squeeze(raw.Where(reshape(keep, [-1])), axis=[1])
        return gather(flat, chosen, axis=first)


def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool_, name: str | None = None
) -> Any:
    """For each length n a row of `maxlen` (default: the greatest length) entries, the first n True (or 1 of `dtype`).

    lengths: an int tensor of any shape [...]; maxlen: an int scalar.  Returns [..., maxlen].
    """
    with name_scope(name, "SequenceMask", [lengths, maxlen]):
        given = convert_to_tensor(lengths)
        if maxlen is None:
            axes = (
                constant(np.arange(given.shape.ndims, dtype=np.int32))
                if given.shape.ndims is not None
                else raw.Range(0, raw.Rank(given), 1)
            )
            most = raw.Max(given, axes)
            limit = raw.Maximum(constant(0, most.dtype.base_dtype), most)
        else:
            limit = convert_to_tensor(maxlen)
        if limit.shape.ndims not in (None, 0):
            raise ValueError(
                f"Argument `maxlen` must be scalar for sequence_mask, received shape {limit.shape}"
            )
        index_type = limit.dtype.base_dtype
        steps = raw.Range(constant(0, index_type), limit, constant(1, index_type))
        each = raw.Cast(expand_dims(given, -1), DstT=index_type)
        result = raw.Less(steps, each)
        wanted = as_dtype(dtype)
        return result if wanted.is_bool else raw.Cast(result, DstT=wanted)
