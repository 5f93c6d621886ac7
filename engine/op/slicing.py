"""Taking parts of tensors: Slice and StridedSlice with its gradient; `engine.op.indexing` is how users write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.op.array import rank
from engine.op.array import shape as shape_of
from engine.op.kernels import ints, shape_text, zeros
from engine.op.registry import ANY, HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value, constant_value_as_shape
from engine.op.stacking import stack
from engine.op.static_values import constant_ints
from engine.op.strided import Masks, index, static_shape
from engine.types import dtypes, errors
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__: list[str] = []


# Slice: a box, given by its first corner and its size.


def _slice(k: Any, x: Any, begin: Any, size: Any) -> Any:
    first, count = ints(begin), ints(size)
    shape = x.shape
    if len(first) != len(shape) or len(count) != len(shape):
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Expected begin and size arguments to be 1-D tensors of size {len(shape)}, but got sizes {len(first)} and "
            f"{len(count)} instead.",
        )
    parts = []
    for i, (start, number, limit) in enumerate(zip(first, count, shape, strict=True)):
        if not 0 <= start <= limit:
            raise errors.InvalidArgumentError(
                None, None, f"Expected begin[{i}] in [0, {limit}], but got {start}"
            )
        end = limit if number == -1 else start + number
        if number < -1 or end > limit:
            raise errors.InvalidArgumentError(
                None, None, f"Expected size[{i}] in [0, {limit - start}], but got {number}"
            )
        parts.append(slice(start, end))
    return x[(*parts, ...)]


def _slice_shape(node: Any) -> TensorShape:
    x, begin, size = node.inputs
    begin_dims, size_dims = begin.shape.with_rank(1), size.shape.with_rank(1)
    counts, firsts = constant_ints(size), constant_ints(begin)
    length = (begin_dims.merge_with(size_dims)).as_list()[0]
    if counts is not None:
        length = len(counts)
    shape = x.shape
    if length is not None:
        shape = shape.with_rank(length)
    dims = shape.dims_or_none
    if dims is None:
        return TensorShape.of(None)
    result: list[int | None] = []
    for i, limit in enumerate(dims):
        count = None if counts is None else counts[i]
        first = None if firsts is None else firsts[i]
        if count == -1:
            count = None if limit is None or first is None else limit - first
            if count is not None and count < 0:
                raise ValueError(f"Slice begins at {first} in dimension {i}, past the end of shape {shape}")
        elif count is not None and limit is not None and (first or 0) + count > limit:
            raise ValueError(
                f"Slice of {count} from {first or 0} in dimension {i} does not fit shape {shape}"
            )
        result.append(count)
    return TensorShape.of(tuple(result))


def _slice_grad(node: Any, g: Any) -> Any:
    x, begin, _ = node.inputs
    index_type = begin.dtype.base_dtype
    column = stack([rank(x), 1])
    out_shape = shape_of(node.outputs[0], out_type=index_type)
    before = raw.Reshape(begin, column)
    after = raw.Reshape(shape_of(x, out_type=index_type) - out_shape - begin, column)
    return raw.Pad(g, raw.ConcatV2([before, after], 1, name="concat")), None, None


def _slice_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for index_type in (np.int32, np.int64):
        for shape, begin, size in (
            ((4, 5), (1, 2), (2, 3)),
            ((4, 5), (0, 1), (-1, -1)),
            ((3, 0, 2), (1, 0, 0), (2, 0, 1)),
            ((6,), (6,), (0,)),
            ((), (), ()),
        ):
            yield Sample(
                random_array(rng, dtype, shape), np.array(begin, index_type), np.array(size, index_type)
            )


def _slice_reference(x: Any, begin: Any, size: Any, **_: Any) -> Any:
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        limit = x.shape[axis] if count == -1 else first + count
        x = np.take(x, np.arange(first, limit), axis=axis)
    return x


slice_ = op(
    "Slice(input: T, begin: Index, size: Index; T: type, Index: index) -> output: T",
    kernel=_slice,
    shape=_slice_shape,
    grad=_slice_grad,
    samples=_slice_samples,
    reference=_slice_reference,
    memory={"input": ANY, "begin": HOST, "size": HOST, "output": ANY},
)


# StridedSlice: what `tensor[…]` becomes.

MASKS = "begin_mask: int = 0, end_mask: int = 0, ellipsis_mask: int = 0, new_axis_mask: int = 0, shrink_axis_mask: int = 0"
_MASK_NAMES = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def index_of(k: Any, shape: tuple[int, ...], begin: Any, end: Any, strides: Any) -> Any:
    try:
        return index(shape, ints(begin), ints(end), ints(strides), Masks.of(k.attrs))
    except ValueError as error:
        raise errors.InvalidArgumentError(None, None, f"{error} Input shape: {shape_text(shape)}") from None


def _strided_slice(k: Any, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    return x[index_of(k, x.shape, begin, end, strides)[0]]


def _strided_slice_shape(node: Any) -> TensorShape:
    x, *spec = node.inputs
    lengths = spec[0].shape
    for tensor in spec[1:]:
        lengths = lengths.merge_with(tensor.shape)
    length = lengths.with_rank(1).as_list()[0]
    dims = x.shape.dims_or_none
    if dims is None or length is None:
        return TensorShape.of(None)
    unknown = (None,) * length
    begin, end, strides = (constant_ints(tensor) or unknown for tensor in spec)
    return TensorShape.of(static_shape(dims, begin, end, strides, Masks.of(node.attrs)))


def _mask_attrs(node: Any) -> dict[str, Any]:
    return {name: node.attrs[name] for name in _MASK_NAMES}


def _strided_slice_grad(node: Any, g: Any) -> Any:
    x, begin, end, strides = node.inputs
    if begin.dtype.base_dtype == dtypes.int16:  # the gradient op has no int16
        begin, end, strides = (raw.Cast(tensor, DstT=dtypes.int32) for tensor in (begin, end, strides))
    shape = shape_of(x, out_type=begin.dtype)
    # What is known goes in as a constant: inside a loop the nodes themselves are the forward loop's.
    spec = [
        tensor if (value := constant_value(tensor)) is None else value
        for tensor in (shape, begin, end, strides)
    ]
    return raw.StridedSliceGrad(*spec, g, **_mask_attrs(node)), None, None, None


_SLICES: tuple[tuple[tuple[int, ...], list[int], list[int], list[int], dict[str, int]], ...] = (
    ((4, 5), [1, 0], [3, 5], [1, 2], {}),
    ((4, 5), [-1, 4], [-5, 0], [-2, -1], {}),
    ((4, 5), [2, 9], [9, 9], [1, 1], {"begin_mask": 1, "end_mask": 2}),
    ((4, 5), [3, 0], [0, 0], [-1, 1], {"end_mask": 1, "shrink_axis_mask": 2}),
    ((2, 3, 4), [0, -1], [0, 0], [1, 1], {"ellipsis_mask": 1, "shrink_axis_mask": 2}),
    ((2, 3, 4), [1, 0, 0, 1], [2, 0, 0, 3], [1, 1, 1, 1], {"new_axis_mask": 2, "ellipsis_mask": 4}),
    ((3,), [5], [9], [1], {}),
    ((0, 2), [0], [0], [-1], {"begin_mask": 1, "end_mask": 1}),
    ((), [0, 0], [0, 0], [1, 1], {"new_axis_mask": 1, "ellipsis_mask": 2}),
    ((3, 2), [], [], [], {}),
)


def _strided_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, *spec, masks) in enumerate(_SLICES):
        index_type = (np.int32, np.int64)[i % 2]
        yield Sample(
            random_array(rng, dtype, shape), *(np.array(each, index_type) for each in spec), attrs=masks
        )


def _positions(size: int, begin: int, end: int, stride: int, open_begin: bool, open_end: bool) -> list[int]:
    """The indices that Python's own slice takes from an axis of `size`."""
    part = slice(None if open_begin else begin, None if open_end else end, stride)
    return list(range(size))[part]


def _walk(shape: Sequence[int], spec: Sequence[Any], masks: dict[str, int]) -> list[list[int] | int | None]:
    """The reference's reading of a specification: for each entry the indices taken, one index, or None for a new axis."""
    begin, end, strides = ([int(v) for v in each] for each in spec)
    bits = [{name for name in _MASK_NAMES if masks.get(name, 0) >> i & 1} for i in range(len(begin))]
    entries: list[list[int] | int | None] = []
    axis = 0
    for i, bit in enumerate(bits):
        if "ellipsis_mask" in bit:
            used = sum(1 for other in bits[i + 1 :] if "new_axis_mask" not in other)
            while axis < len(shape) - used:
                entries.append(list(range(shape[axis])))
                axis += 1
        elif "new_axis_mask" in bit:
            entries.append(None)
        elif "shrink_axis_mask" in bit:
            entries.append(begin[i] % shape[axis])
            axis += 1
        else:
            entries.append(
                _positions(shape[axis], begin[i], end[i], strides[i], "begin_mask" in bit, "end_mask" in bit)
            )
            axis += 1
    return entries + [list(range(size)) for size in shape[axis:]]


def _strided_reference(x: Any, begin: Any, end: Any, strides: Any, **masks: Any) -> Any:
    entries = _walk(x.shape, (begin, end, strides), masks)
    taken = [[entry] if isinstance(entry, int) else entry for entry in entries if entry is not None]
    picked = x[np.ix_(*taken)] if taken else x
    shape = [1 if entry is None else len(entry) for entry in entries if not isinstance(entry, int)]
    return np.reshape(picked, shape)


strided_slice = op(
    f"StridedSlice(input: T, begin: Index, end: Index, strides: Index; T: type, Index: {{int16, int32, int64}}, {MASKS})"
    " -> output: T",
    kernel=_strided_slice,
    shape=_strided_slice_shape,
    grad=_strided_slice_grad,
    samples=_strided_samples,
    reference=_strided_reference,
    memory={"input": ANY, "begin": HOST, "end": HOST, "strides": HOST, "output": ANY},
)


def _strided_slice_grad_kernel(k: Any, shape: Any, begin: Any, end: Any, strides: Any, dy: Any) -> Any:
    dims = ints(shape)
    where, taken = index_of(k, dims, begin, end, strides)
    if dy.shape != taken:
        raise errors.InvalidArgumentError(
            None, None, f"shape of dy was {shape_text(dy.shape)} instead of {shape_text(taken)}"
        )
    result = zeros(k.xp, dims, dy.dtype)
    result[where] = dy
    return result


def _gradient_of_gradient(node: Any, g: Any) -> Any:
    _, begin, end, strides, _ = node.inputs
    return None, None, None, None, raw.StridedSlice(g, begin, end, strides, **_mask_attrs(node))


def _strided_grad_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, *spec, masks) in enumerate(_SLICES):
        index_type = (np.int32, np.int64)[i % 2]
        begin, end, strides = (np.array(each, index_type) for each in spec)
        taken = _strided_reference(np.zeros(shape), begin, end, strides, **masks).shape
        dy = random_array(rng, dtype, taken)
        yield Sample(np.array(shape, index_type), begin, end, strides, dy, attrs=masks)


def _strided_grad_reference(shape: Any, begin: Any, end: Any, strides: Any, dy: Any, **masks: Any) -> Any:
    dims = tuple(int(size) for size in shape)
    flat = np.arange(int(np.prod(dims))).reshape(dims)
    result = np.full(flat.size, b"" if dy.dtype == object else 0, dy.dtype)
    for position, value in zip(
        _strided_reference(flat, begin, end, strides, **masks).ravel(), dy.ravel(), strict=True
    ):
        result[position] = value
    return result.reshape(dims)


strided_slice_grad = op(
    "StridedSliceGrad(shape: Index, begin: Index, end: Index, strides: Index, dy: T; T: type, Index: index, "
    f"{MASKS}) -> output: T",
    kernel=_strided_slice_grad_kernel,
    shape=lambda node: constant_value_as_shape(node.inputs[0]),
    grad=_gradient_of_gradient,
    samples=_strided_grad_samples,
    reference=_strided_grad_reference,
    memory={"shape": HOST, "begin": HOST, "end": HOST, "strides": HOST},
)
