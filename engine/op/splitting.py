"""Cutting a tensor along an axis: Split into equal parts, SplitV into parts of given sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.op.kernels import integer, ints, invalid, shape_text
from engine.op.registry import ANY, HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.op.static_values import constant_ints
from engine.types.dtypes import DType
from engine.types.shape import Dimension, TensorShape, unknown_shape

__all__ = ["split"]


def _cut(x: Any, axis: int, sizes: list[int]) -> tuple[Any, ...]:
    """Views of `x`, one after the other along `axis`."""
    front = (slice(None),) * axis
    parts, start = [], 0
    for size in sizes:
        parts.append(x[(*front, slice(start, start + size), ...)])
        start += size
    return tuple(parts)


def _axis(split_dim: Any, ndim: int) -> int:
    axis = integer(split_dim, "split_dim")
    if not -ndim <= axis < ndim:
        raise invalid(f"-input rank({-ndim}) <= split_dim < input rank ({ndim}), but got {axis}")
    return axis % ndim


def _split(k: Any, split_dim: Any, x: Any) -> Any:
    axis, num = _axis(split_dim, x.ndim), k.attrs["num_split"]
    size = x.shape[axis]
    if size % num:
        raise invalid(
            f"Number of ways to split should evenly divide the split dimension, but got split_dim {axis} (size = {size}) and "
            f"num_split {num}; the input's shape is {shape_text(x.shape)}"
        )
    return _cut(x, axis, [size // num] * num)


def _static_axis(split_dim: Any, shape: TensorShape) -> int | None:
    """The axis counted from the front, or None if it or the rank is not known.  Raises ValueError if it is out of range."""
    split_dim.shape.with_rank(0)
    value, ndim = constant_value(split_dim), shape.ndims
    if value is None or ndim is None:
        return None
    axis = int(value.reshape(()))
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"split_dim {axis} is out of range for shape {shape}: it must be in [{-ndim}, {ndim})"
        )
    return axis % ndim


def _split_shape(node: Any) -> list[TensorShape]:
    shape, num = node.inputs[1].shape, node.attrs["num_split"]
    axis = _static_axis(node.inputs[0], shape)
    if axis is None:
        return [unknown_shape(shape.ndims)] * num
    dims = shape.as_list()
    size = dims[axis]
    if size is not None and size % num:
        raise ValueError(f"Dimension {axis} of shape {shape} cannot be split evenly into {num} parts")
    dims[axis] = None if size is None else size // num
    return [TensorShape.of(tuple(dims))] * num


def _join_again(node: Any, axis: Any, gs: tuple[Any, ...]) -> Any:
    return raw.ConcatV2(list(gs), axis, name="concat") if len(gs) > 1 else gs[0]


def _splits(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, axis, num in (
        ((4, 3), 0, 2),
        ((2, 6), 1, 3),
        ((2, 6), -1, 1),
        ((0, 2), 0, 2),
        ((2, 0, 2), 2, 2),
        ((3,), 0, 3),
    ):
        yield Sample(np.array(axis, np.int32), random_array(rng, dtype, shape), attrs={"num_split": num})


split_op = op(
    "Split(split_dim: int32, value: T; num_split: int >= 1, T: type) -> output: num_split * T",
    kernel=_split,
    shape=_split_shape,
    grad=lambda node, *gs: (None, _join_again(node, node.inputs[0], gs)),
    samples=_splits,
    reference=lambda axis, x, num_split, **_: np.split(x, num_split, axis=int(axis)),
    memory={"split_dim": HOST, "value": ANY, "output": ANY},
)


# SplitV: one size may be -1, for what is left.


def _split_v(k: Any, x: Any, size_splits: Any, split_dim: Any) -> Any:
    axis = _axis(split_dim, x.ndim)
    sizes, total = list(ints(size_splits)), x.shape[axis]
    if len(sizes) != k.attrs["num_split"]:
        raise invalid(f"size_splits must have {k.attrs['num_split']} elements, but has {len(sizes)}")
    open_ends = [i for i, size in enumerate(sizes) if size == -1]
    if len(open_ends) > 1:
        raise invalid("There can only be one -1 in the input.")
    negative = next((i for i, size in enumerate(sizes) if size < -1), None)
    if negative is not None:
        raise invalid(f"Split size at index {negative} must be >= 0. Got: {sizes[negative]}")
    determined = sum(size for size in sizes if size != -1)
    if determined > total or (not open_ends and determined != total):
        raise invalid(
            "Determined shape must either match input shape along split_dim exactly if fully specified, or be less than the size "
            f"of the input along split_dim if not fully specified.  Got: {determined}, and {total} along split_dim {axis}"
        )
    if open_ends:
        sizes[open_ends[0]] = total - determined
    return _cut(x, axis, sizes)


def _split_v_shape(node: Any) -> list[TensorShape]:
    x, size_splits, split_dim = node.inputs
    num = node.attrs["num_split"]
    size_splits.shape.merge_with(TensorShape.of((num,)))
    axis = _static_axis(split_dim, x.shape)
    if axis is None:
        return [x.shape if num == 1 else unknown_shape(x.shape.ndims)] * num
    dims = x.shape.as_list()
    total = dims[axis]
    values = constant_value(size_splits)
    sizes: list[int | None] = list(constant_ints(size_splits) or (None,) * num)
    if values is not None:
        sizes = values.tolist()
        open_ends = [i for i, size in enumerate(sizes) if size == -1]
        determined = sum(size for size in sizes if size is not None and size != -1)
        if len(open_ends) > 1:
            raise ValueError("There can only be one -1 in the sizes of a split")
        if total is not None and (determined > total or (not open_ends and determined != total)):
            raise ValueError(
                f"Sizes {sizes} do not add up to the {total} of dimension {axis} of shape {x.shape}"
            )
        for i in open_ends:
            sizes[i] = None if total is None else total - determined
    if num == 1:
        return [x.shape]
    sizes = [None if size is not None and size < 0 else size for size in sizes]
    return [TensorShape.of((*dims[:axis], size, *dims[axis + 1 :])) for size in sizes]


def _split_vs(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, sizes, axis) in enumerate(
        (
            ((5, 2), (2, 3), 0),
            ((2, 6), (1, -1, 2), 1),
            ((2, 3), (0, 3), -1),
            ((4,), (4,), 0),
            ((0, 2), (0, 0), 0),
            ((2, 3), (3, -1), 1),
        )
    ):
        yield Sample(
            random_array(rng, dtype, shape),
            np.array(sizes, (np.int64, np.int32, np.int8)[i % 3]),
            np.array(axis, np.int32),
            attrs={"num_split": len(sizes)},
        )


def _split_v_reference(x: Any, sizes: Any, axis: Any, **_: Any) -> list[Any]:
    known = [int(size) for size in sizes]
    if -1 in known:
        known[known.index(-1)] = x.shape[int(axis)] - sum(known) - 1
    return np.split(x, np.cumsum(known)[:-1], axis=int(axis))


split_v_op = op(
    "SplitV(value: T, size_splits: Tlen, split_dim: int32; num_split: int >= 1, T: type, Tlen: {int8, int32, int64} = int64) "
    "-> output: num_split * T",
    kernel=_split_v,
    shape=_split_v_shape,
    grad=lambda node, *gs: (_join_again(node, node.inputs[2], gs), None, None),
    samples=_split_vs,
    reference=_split_v_reference,
    memory={"value": ANY, "size_splits": HOST, "split_dim": HOST, "output": ANY},
)


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str | None = "split"
) -> Any:
    """The list of the parts of `value` along `axis`.

    num_or_size_splits: into how many equal parts, or an int vector with the size of each part, of which one may be -1.  `num` is
    how many sizes there are where the static shape does not say it.  Raises ValueError if the parts do not fit.
    """
    name = name or "split"
    if isinstance(num_or_size_splits, Dimension) or (
        hasattr(num_or_size_splits, "__index__") and not getattr(num_or_size_splits, "ndim", 0)
    ):
        return raw.Split(axis, value, num_split=num_or_size_splits, name=name)
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.shape.ndims == 0:
        raise ValueError(
            "Rank-0 tensors are not supported as the num_or_size_splits argument to split: give an int"
        )
    if num is None:
        dims = sizes.shape.with_rank(1).as_list()
        if dims[0] is None:
            raise ValueError(f"Cannot infer argument `num` from shape {sizes.shape}")
        num = dims[0]
    return raw.SplitV(value, sizes, axis, num_split=num, name=name)
