"""Evenly spaced numbers: Range, LinSpace, and `meshgrid`."""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import reshape, size
from engine.op.fills import ones
from engine.op.kernels import integer, invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, array
from engine.op.shapes import constant_value
from engine.op.stacking import stack
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

__all__ = ["lin_space", "linspace", "meshgrid", "range"]


def _number(value: Any, what: str) -> Any:
    """A Python int for an integer scalar; a NumPy scalar of its own dtype for a floating one."""
    if value.ndim:
        raise invalid(f"{what} must be a scalar, not shape {shape_text(value.shape)}")
    number = value.item()
    return number if value.dtype.kind in "iu" else value.dtype.type(number)


def _steps(start: Any, limit: Any, delta: Any, error: Any) -> int:
    """How many values a range has: exact for integers, rounded in the dtype for floating ones, as TensorFlow counts."""
    first, end, step = _number(start, "start"), _number(limit, "limit"), _number(delta, "delta")
    if step == 0:
        raise error(f"Requires delta != 0: {step}")
    if step > 0 and first > end:
        raise error(f"Requires start <= limit when delta > 0: {first}/{end}")
    if step < 0 and first < end:
        raise error(f"Requires start >= limit when delta < 0: {first}/{end}")
    if isinstance(first, int):
        return int(-(-abs(end - first) // abs(step)))
    with np.errstate(all="ignore"):
        count = abs(float((end - first) / step))
    if not math.isfinite(count):
        raise error(f"Requires finite start, limit and delta: {first}, {end}, {step}")
    return math.ceil(count)


def _range(k: Any, start: Any, limit: Any, delta: Any) -> Any:
    dtype = k.op.output_dtypes[0].np_dtype
    count = _steps(start, limit, delta, invalid)
    first, step = _number(start, "start"), _number(delta, "delta")
    if isinstance(first, int):
        # Counted in int64 (uint64 where that is asked for): a step down cannot be held by an unsigned dtype.
        wide = dtype if dtype.itemsize == 8 else np.dtype(np.int64)
        return (k.xp.arange(count, dtype=wide) * wide.type(step) + wide.type(first)).astype(dtype)
    return k.xp.arange(count).astype(dtype) * step + first


def _range_shape(node: Any) -> TensorShape:
    for tensor in node.inputs:
        tensor.shape.with_rank(0)
    values = [constant_value(tensor) for tensor in node.inputs]
    if any(value is None for value in values):
        return TensorShape.of((None,))
    start, limit, delta = values
    return TensorShape.of((_steps(start, limit, delta, ValueError),))


def _ranges(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    cases = [(0, 5, 1), (2, 11, 3), (3, 3, 1), (1, 9, 4)]
    if not dtype.is_unsigned:
        cases += [(5, -4, -2), (-3, 4, 2)]
    for case in cases:
        yield Sample(*(array(value, dtype) for value in case), grad=())
    if dtype.is_floating:
        yield Sample(*(array(value, dtype) for value in (0.0, 1.0, 0.25)), grad=())
        yield Sample(*(array(value, dtype) for value in (1.0, -0.75, -0.5)), grad=())


def _range_reference(start: Any, limit: Any, delta: Any, **_: Any) -> Any:
    values = []
    value, end, step = float(start), float(limit), float(delta)
    while value < end if step > 0 else value > end:
        values.append(value)
        value += step
    return np.array(values)


range_op = op(
    "Range(start: Tidx, limit: Tidx, delta: Tidx; Tidx: {bfloat16, float16, float32, float64, int8, int16, int32, int64, "
    "uint16, uint32, uint64} = int32) -> output: Tidx",
    kernel=_range,
    shape=_range_shape,
    grad=NotDifferentiable,
    samples=_ranges,
    reference=_range_reference,
    memory=HOST,
)


def _lin_space(k: Any, start: Any, stop: Any, num: Any) -> Any:
    count = integer(num, "num")
    if count <= 0:
        raise invalid(f"Requires num > 0: {count}")
    dtype = k.op.output_dtypes[0].np_dtype
    wide = dtype if dtype.itemsize > 4 else np.dtype(np.float64)
    values = k.xp.linspace(float(start), float(stop), count, dtype=wide).astype(dtype)
    values[0] = start  # where there is only one, it is the start
    return values


def _lin_space_shape(node: Any) -> TensorShape:
    for tensor in node.inputs:
        tensor.shape.with_rank(0)
    num = constant_value(node.inputs[2])
    if num is not None and num <= 0:
        raise ValueError(f"Requires num > 0: {num}")
    return TensorShape.of((None if num is None else int(num),))


def _spans(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (start, stop, num) in enumerate(((0.0, 1.0, 5), (2.0, -3.0, 4), (1.5, 9.0, 1), (1.0, 1.0, 3))):
        yield Sample(
            array(start, dtype), array(stop, dtype), np.array(num, (np.int32, np.int64)[i % 2]), grad=()
        )


def _lin_space_reference(start: Any, stop: Any, num: Any, **_: Any) -> Any:
    count = int(num)
    return np.array(
        [float(start) + (float(stop) - float(start)) * i / max(1, count - 1) for i in builtins.range(count)]
    )


lin_space_op = op(
    "LinSpace(start: T, stop: T, num: Tidx; T: floats, Tidx: index = int32) -> output: T",
    kernel=_lin_space,
    shape=_lin_space_shape,
    grad=NotDifferentiable,
    samples=_spans,
    reference=_lin_space_reference,
    memory=HOST,
)


# Under TensorFlow 1's names.


_RANGE_TYPES = (dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64)


def range_(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = "range"
) -> Any:
    """The numbers from `start` (0 where only one is given) up to and without `limit`, by steps of `delta`.

    start, limit, delta are scalars; the dtype is `dtype`, or the widest of theirs.  Raises ValueError, or
    InvalidArgumentError when run, if delta is 0 or leads away from `limit`.
    """
    if limit is None:
        start, limit = 0, start
    with name_scope(name, "Range", [start, limit, delta]) as scope:
        wanted = None if dtype is None else as_dtype(dtype)
        ends = [
            value if isinstance(value, Tensor) else convert_to_tensor(value, wanted, part)
            for value, part in ((start, "start"), (limit, "limit"), (delta, "delta"))
        ]
        if wanted is None:
            present = [tensor.dtype.base_dtype for tensor in ends]
            unlisted = next((found for found in present if found not in _RANGE_TYPES), None)
            wanted = unlisted or max(present, key=_RANGE_TYPES.index)
        ends = [
            tensor if tensor.dtype.base_dtype == wanted else raw.Cast(tensor, DstT=wanted) for tensor in ends
        ]
        return raw.Range(*ends, name=scope)


def lin_space(start: Any, stop: Any, num: Any, name: str | None = None) -> Any:
    """A vector of `num` numbers evenly spaced from the scalar `start` to the scalar `stop`, both included."""
    return raw.LinSpace(start, stop, num, name=name)


linspace = lin_space


def meshgrid(*args: Any, indexing: str = "xy", name: str | None = "meshgrid") -> list[Any]:
    """For vectors of n1, n2, … numbers, the coordinates of the points of their grid: one tensor a vector, all of one shape.

    indexing "ij": shape [n1, n2, …]; "xy": the first two axes exchanged, as for a picture's rows and columns.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Argument `indexing` must be either 'xy' or 'ij', got {indexing!r}")
    with name_scope(name, "meshgrid", args):
        count = len(args)
        columns = [
            reshape(stack(value), [-1 if axis == other else 1 for other in builtins.range(count)])
            for axis, value in enumerate(args)
        ]
        sizes = [size(value) for value in args]
        dtype = convert_to_tensor(args[0]).dtype.base_dtype if args else dtypes.float32
        if indexing == "xy" and count > 1:
            columns[0] = reshape(columns[0], [1, -1] + [1] * (count - 2))
            columns[1] = reshape(columns[1], [-1, 1] + [1] * (count - 2))
            sizes[0], sizes[1] = sizes[1], sizes[0]
        grid = ones(sizes, dtype) if count else None
        return [column * grid for column in columns]


range = range_
