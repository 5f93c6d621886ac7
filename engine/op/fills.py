"""Tensors made from little: Fill, ZerosLike, OnesLike, BroadcastTo, and `zeros` and `ones`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import reshape
from engine.op.array import shape as shape_of
from engine.op.const import constant
from engine.op.kernels import filled, ints, shape_text
from engine.op.kernels import zeros as empty_zeros
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, arrays, random_array
from engine.op.shapes import constant_value_as_shape, unchanged
from engine.types import dtypes, errors
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape, as_shape

__all__ = ["broadcast_to", "fill", "ones", "ones_like", "zeros", "zeros_like"]


# Fill and BroadcastTo: one value, or one tensor, over a whole shape.


def _fill(k: Any, dims: Any, value: Any) -> Any:
    if dims.ndim > 1:
        raise errors.InvalidArgumentError(
            None, None, f"dims must be a vector, got shape {shape_text(dims.shape)}"
        )
    if value.ndim:
        raise errors.InvalidArgumentError(
            None, None, f"value must be a scalar, got shape {shape_text(value.shape)}"
        )
    shape = ints(dims)
    if any(size < 0 for size in shape):
        raise errors.InvalidArgumentError(
            None, None, f"Dimension {min(shape)} must be >= 0, in {shape_text(shape)}"
        )
    return filled(k.xp, shape, k.op.output_dtypes[0].np_dtype, value)


def _fill_shape(node: Any) -> TensorShape:
    dims, value = node.inputs
    value.shape.with_rank(0)
    return constant_value_as_shape(dims)


def _fill_grad(node: Any, g: Any) -> Any:
    from engine.op.reduce import reduce_sum

    return None, reduce_sum(g)


def _fills(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, dims in enumerate(((2, 3), (), (0, 2), (4,))):
        yield Sample(np.array(dims, (np.int32, np.int64)[i % 2]), random_array(rng, dtype, ()))


def _repeated(dims: Any, value: Any, **_: Any) -> Any:
    shape = [int(size) for size in dims]
    result = np.empty(shape, value.dtype)
    for position in np.ndindex(*shape):
        result[position] = value.item()
    return result


fill_op = op(
    "Fill(dims: index_type, value: T; T: type, index_type: index = int32) -> output: T",
    kernel=_fill,
    shape=_fill_shape,
    grad=_fill_grad,
    samples=_fills,
    reference=_repeated,
    memory={"dims": HOST},
    int32_on_host=True,
)


def _broadcast_to(k: Any, x: Any, shape: Any) -> Any:
    wanted = ints(shape)
    ones = (1,) * (len(wanted) - x.ndim)
    if x.ndim > len(wanted) or any(a not in (1, b) for a, b in zip(ones + x.shape, wanted)):
        raise errors.InvalidArgumentError(
            None, None, f"Incompatible shapes: {shape_text(x.shape)} vs. {shape_text(wanted)}"
        )
    return k.xp.broadcast_to(x, wanted)


def _broadcast_to_shape(node: Any) -> TensorShape:
    x, wanted = node.inputs[0].shape, constant_value_as_shape(node.inputs[1])
    a, b = x.dims_or_none, wanted.dims_or_none
    if a is None or b is None:
        return wanted
    if len(a) > len(b):
        raise ValueError(f"shape {x} cannot be broadcast to {wanted}: it has more dimensions")
    for mine, other in zip(a[::-1], b[::-1]):
        if mine not in (1, None, other) and other is not None:
            raise ValueError(f"shape {x} cannot be broadcast to {wanted}: {mine} against {other}")
    # A size that is not given is the input's where that is greater than 1, as it could not be anything else.
    front = len(b) - len(a)
    return TensorShape.of(
        tuple(
            (None if i < front or a[i - front] == 1 else a[i - front]) if size is None else size
            for i, size in enumerate(b)
        )
    )


def _broadcast_to_grad(node: Any, g: Any) -> Any:
    x, wanted = node.inputs
    out_type = wanted.dtype.base_dtype
    x_shape = shape_of(x, out_type=out_type)
    axes = raw.BroadcastGradientArgs(shape_of(node.outputs[0], out_type=out_type), x_shape).r1
    return reshape(raw.Sum(g, axes, keep_dims=True), x_shape), None


def _broadcasts(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (source, dims) in enumerate(
        (((3,), (2, 3)), ((2, 1, 3), (2, 4, 3)), ((), (2, 2)), ((1,), (0,)), ((), ()), ((2,), (2,)))
    ):
        yield Sample(random_array(rng, dtype, source), np.array(dims, (np.int32, np.int64)[i % 2]))


def _stretched(x: Any, dims: Any, **_: Any) -> Any:
    shape = tuple(int(size) for size in dims)
    result = np.empty(shape, x.dtype)
    result[...] = x
    return result


broadcast_to_op = op(
    "BroadcastTo(input: T, shape: Tidx; T: type, Tidx: index = int32) -> output: T",
    kernel=_broadcast_to,
    shape=_broadcast_to_shape,
    grad=_broadcast_to_grad,
    samples=_broadcasts,
    reference=_stretched,
    memory={"shape": HOST},
    int32_on_host=True,
)

zeros_like_op = op(
    "ZerosLike(x: T; T: type) -> y: T",
    kernel=lambda k, x: empty_zeros(k.xp, x.shape, x.dtype),
    shape=unchanged,
    grad=NotDifferentiable,
    samples=arrays(),
    reference=lambda x, **_: np.full(x.shape, b"" if x.dtype == object else 0, x.dtype),
    int32_on_host=True,
)

ones_like_op = op(
    "OnesLike(x: T; T: {bfloat16, float16, float32, float64, int8, uint8, int16, uint16, int32, uint32, int64, uint64, "
    "complex64, complex128, bool}) -> y: T",
    kernel=lambda k, x: k.xp.ones(x.shape, dtype=x.dtype),
    shape=unchanged,
    grad=NotDifferentiable,
    samples=arrays(),
    reference=lambda x, **_: np.full(x.shape, 1, x.dtype),
    int32_on_host=True,
)


# Under TensorFlow 1's names.


def fill(dims: Any, value: Any, name: str | None = None) -> Any:
    """A tensor of shape `dims` (an int vector) with the scalar `value` everywhere."""
    return raw.Fill(dims, value, name=name)


_SMALL = 1000  # up to here the values go into the graph; above, a Fill makes them


def _constant_tensor(value: Any, shape: Any, dtype: DType, name: str) -> Any:
    """`value` over `shape` in the scope `name`: a constant where the shape is known and small, else a Fill."""
    if not isinstance(shape, Tensor):
        static = _static_dims(shape)
        if static is None:
            shape = convert_to_tensor(shape, dtypes.int32)
        elif math.prod(static) < _SMALL and np.ndim(shape) == 1:
            return constant(value, dtype, static, name)
        else:
            shape = constant(np.array(static, np.int32), name="shape_as_tensor")
    if shape.shape.ndims == 0:
        shape = reshape(shape, [-1])
    return raw.Fill(shape, constant(value, dtype), name=name)


def _static_dims(shape: Any) -> list[int] | None:
    try:
        known = as_shape(shape)
    except (TypeError, ValueError):  # it holds tensors
        return None
    return known.as_list() if known.is_fully_defined() else None  # type: ignore[return-value]  # fully defined


def _zero(dtype: DType) -> Any:
    return b"" if dtype.base_dtype is dtypes.string else False if dtype.is_bool else 0


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Any:
    """A tensor of zeros (empty strings, False) of `shape`: an int vector, a tensor, or a list with tensors in it."""
    wanted = as_dtype(dtype).base_dtype
    with name_scope(name, "zeros", [shape]) as scope:
        return _constant_tensor(_zero(wanted), shape, wanted, scope)


def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Any:
    """A tensor of ones (True) of `shape`: an int vector, a tensor, or a list with tensors in it."""
    wanted = as_dtype(dtype).base_dtype
    with name_scope(name, "ones", [shape]) as scope:
        return _constant_tensor(True if wanted.is_bool else 1, shape, wanted, scope)


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Zeros of the shape of `tensor`, of its dtype or of `dtype`; a constant where the shape is known (and `optimize`)."""
    with name_scope(name, "zeros_like", [tensor]) as scope:
        source = convert_to_tensor(tensor, name="tensor")
        wanted = source.dtype.base_dtype if dtype is None else as_dtype(dtype)
        if optimize and source.shape.is_fully_defined():
            return zeros(source.shape, wanted, name=scope)
        if wanted != source.dtype.base_dtype:
            return zeros(shape_of(source, optimize=optimize), wanted, name=scope)
        return raw.ZerosLike(source, name=scope)


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Ones of the shape of `tensor`, of its dtype or of `dtype`."""
    with name_scope(name, "ones_like", [tensor]) as scope:
        source = convert_to_tensor(tensor, name="tensor")
        wanted = source.dtype.base_dtype if dtype is None else as_dtype(dtype)
        if optimize and source.shape.is_fully_defined():
            with name_scope("Shape"):
                shape = constant(np.array(source.shape.as_list(), np.int32), name="shape_as_tensor")
        else:
            shape = shape_of(source, optimize=optimize)
        return ones(shape, wanted, name=scope)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Any:
    """`input` repeated along dimensions of size 1, and new ones in front, to `shape`, by NumPy's broadcasting rules."""
    return raw.BroadcastTo(input, shape, name=name)
