"""Shapes as values, and ops that give the same elements another shape: Shape, Size, Rank, Reshape, Squeeze, ExpandDims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.const import constant
from engine.op.kernels import integer, ints, shape_text
from engine.op.registry import ANY, HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, arrays, random_array
from engine.op.shapes import SCALAR, constant_value, constant_value_as_shape
from engine.types import dtypes, errors
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

__all__ = ["expand_dims", "rank", "reshape", "shape", "shape_n", "size", "squeeze"]


# Shapes as values.


def _shape(k: Any, *values: Any) -> Any:
    dtype = k.attrs["out_type"].np_dtype
    return (
        tuple(np.asarray(value.shape, dtype=dtype) for value in values)
        if k.op.type == "ShapeN"
        else np.asarray(values[0].shape, dtype=dtype)
    )


def _vectors(node: Any) -> list[TensorShape]:
    return [TensorShape.of((tensor.shape.ndims,)) for tensor in node.inputs]


def _asked(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for out_type in (dtypes.int32, dtypes.int64):
        for dims in ((2, 3), (), (0, 4), (5,)):
            yield Sample(random_array(rng, dtype, dims), attrs={"out_type": out_type})


def _measure(x: Any) -> list[int]:
    """The shape, found by looking inside."""
    return [len(x), *_measure(np.asarray(x[0], x.dtype))] if x.ndim and len(x) else list(x.shape)


shape_op = op(
    "Shape(input: T; T: type, out_type: index = int32) -> output: out_type",
    kernel=_shape,
    shape=_vectors,
    grad=NotDifferentiable,
    samples=_asked,
    reference=lambda x, **_: np.array(_measure(x), np.int64),
    memory={"input": ANY, "output": HOST},
)


def _asked_together(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for sample in _asked(rng, dtype):
        yield Sample([*sample.inputs, random_array(rng, dtype, (3, 1))], attrs=sample.attrs)  # type: ignore[list-item]


shape_n_op = op(
    "ShapeN(input: N * T; N: int >= 1, T: type, out_type: index = int32) -> output: N * out_type",
    kernel=_shape,
    shape=_vectors,
    grad=NotDifferentiable,
    samples=_asked_together,
    reference=lambda values, **_: [np.array(_measure(x), np.int64) for x in values],
    memory={"input": ANY, "output": HOST},
)

size_op = op(
    "Size(input: T; T: type, out_type: index = int32) -> output: out_type",
    kernel=lambda k, x: np.asarray(x.size, dtype=k.attrs["out_type"].np_dtype),
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_asked,
    reference=lambda x, **_: np.array(sum(1 for _ in np.ndindex(*x.shape))),
    memory={"input": ANY, "output": HOST},
)

rank_op = op(
    "Rank(input: T; T: type) -> output: int32",
    kernel=lambda k, x: np.asarray(len(x.shape), dtype="int32"),
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=arrays((2, 3), (), (0, 2, 1)),
    reference=lambda x, **_: np.array(x.ndim),
    memory={"input": ANY, "output": HOST},
)


# Reshape.


def _reshape(k: Any, x: Any, wanted: Any) -> Any:
    if wanted.ndim != 1:
        raise errors.InvalidArgumentError(
            None, None, f"shape must be 1-D, got shape {shape_text(wanted.shape)}"
        )
    dims = ints(wanted)
    if -1 in dims:
        dims = _completed(x, dims)
    elif any(d < 0 for d in dims):
        i = next(i for i, d in enumerate(dims) if d < 0)
        raise errors.InvalidArgumentError(None, None, f"Size {i} must be non-negative, not {dims[i]}")
    if math.prod(dims) != x.size:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Input to reshape is a tensor with {x.size} values, but the requested shape has {math.prod(dims)}: "
            f"{shape_text(x.shape)} to {shape_text(dims)}",
        )
    return x.reshape(dims)


def _completed(x: Any, dims: Sequence[int]) -> tuple[int, ...]:
    """`dims` with its -1 replaced by what is left over."""
    open_at = dims.index(-1)
    rest = [d for i, d in enumerate(dims) if i != open_at]
    for i, d in enumerate(dims):
        if i == open_at or d >= 0:
            continue
        if d == -1:
            raise errors.InvalidArgumentError(
                None, None, f"Only one input size may be -1, not both {open_at} and {i}"
            )
        raise errors.InvalidArgumentError(None, None, f"Size {i} must be non-negative, not {d}")
    known = math.prod(rest)
    if known == 0:
        raise errors.InvalidArgumentError(
            None,
            None,
            "reshape cannot infer the missing input size for an empty tensor unless all specified input sizes are non-zero: "
            f"{shape_text(x.shape)} to {shape_text(dims)}",
        )
    if x.size % known:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Input to reshape is a tensor with {x.size} values, but the requested shape requires a multiple of {known}: "
            f"{shape_text(x.shape)} to {shape_text(dims)}",
        )
    return (*dims[:open_at], x.size // known, *dims[open_at + 1 :])


def _reshape_shape(node: Any) -> TensorShape:
    source, wanted = node.inputs[0].shape, constant_value_as_shape(node.inputs[1])
    dims, count = wanted.dims_or_none, source.num_elements()
    if dims is None or count is None:
        return wanted
    unknown = [i for i, d in enumerate(dims) if d is None]
    known = math.prod(d for d in dims if d is not None)
    if not unknown and known != count:
        raise ValueError(
            f"Cannot reshape a tensor with {count} elements, of shape {source}, to shape {wanted} ({known} elements)"
        )
    if len(unknown) == 1 and known > 0:
        if count % known:
            raise ValueError(
                f"Cannot reshape a tensor with {count} elements, of shape {source}, to shape {wanted}: {count} is no multiple "
                f"of {known}"
            )
        return TensorShape.of(tuple(count // known if d is None else d for d in dims))
    return wanted


def _like_input(node: Any, g: Any) -> Any:
    return raw.Reshape(g, shape(node.inputs[0]))


def _reshapes(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, wanted) in enumerate(
        (
            ((2, 6), (3, 4)),
            ((2, 6), (-1,)),
            ((12,), (2, -1, 3)),
            ((), (1, 1)),
            ((1, 1), ()),
            ((0, 3), (3, 0)),
            ((0, 3), (-1, 3)),
        )
    ):
        yield Sample(random_array(rng, dtype, dims), np.array(wanted, (np.int32, np.int64)[i % 2]))


def _refilled(x: Any, wanted: Any, **_: Any) -> Any:
    dims = [int(d) for d in wanted]
    if -1 in dims:
        dims[dims.index(-1)] = x.size // -math.prod(dims)
    result = np.empty(dims, x.dtype)
    for position, value in zip(np.ndindex(*dims), x.ravel().tolist(), strict=True):
        result[position] = value
    return result


reshape_op = op(
    "Reshape(tensor: T, shape: Tshape; T: type, Tshape: index = int32) -> output: T",
    kernel=_reshape,
    shape=_reshape_shape,
    grad=lambda node, g: (_like_input(node, g), None),
    samples=_reshapes,
    reference=_refilled,
    memory={"tensor": ANY, "shape": HOST, "output": ANY},
)


# Squeeze and ExpandDims.


def _squeeze(k: Any, x: Any) -> Any:
    return x.reshape(_squeezed(x.shape, k.attrs["squeeze_dims"], _runtime_error))


def _runtime_error(message: str) -> Exception:
    return errors.InvalidArgumentError(None, None, message)


def _squeezed(dims: tuple[int | None, ...], axes: Sequence[int], error: Any) -> tuple[int | None, ...]:
    """`dims` without `axes`, or without every 1 if there are none."""
    if not axes:
        return tuple(d for d in dims if d != 1)
    gone = set()
    for axis in axes:
        if not -len(dims) <= axis < len(dims):
            raise error(f"Tried to squeeze dim index {axis} for tensor with {len(dims)} dimensions.")
        if dims[axis] not in (1, None):
            raise error(f"Can not squeeze dim[{axis}], expected a dimension of 1, got {dims[axis]}")
        gone.add(axis % len(dims))
    return tuple(d for i, d in enumerate(dims) if i not in gone)


def _squeeze_shape(node: Any) -> TensorShape:
    dims, axes = node.inputs[0].shape.dims_or_none, node.attrs["squeeze_dims"]
    if dims is None or (not axes and None in dims):
        return TensorShape.of(None)  # an unknown dimension may be a 1
    return TensorShape.of(_squeezed(dims, axes, ValueError))


def _squeezes(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, axes in (
        ((1, 3, 1), ()),
        ((1, 3, 1), (0,)),
        ((1, 3, 1), (-1, 0)),
        ((), ()),
        ((2, 0, 1), (2,)),
        ((1,), (0,)),
    ):
        yield Sample(random_array(rng, dtype, dims), attrs={"squeeze_dims": axes})


def _squeeze_reference(x: Any, squeeze_dims: Sequence[int] = (), **_: Any) -> Any:
    for axis in sorted(
        (a % x.ndim for a in squeeze_dims or np.flatnonzero(np.array(x.shape) == 1)), reverse=True
    ):
        x = x[(*[slice(None)] * axis, 0, ...)]
    return x


squeeze_op = op(
    "Squeeze(input: T; T: type, squeeze_dims: list(int) >= 0 = []) -> output: T",
    kernel=_squeeze,
    shape=_squeeze_shape,
    grad=_like_input,
    samples=_squeezes,
    reference=_squeeze_reference,
    memory=ANY,
)


def _expand_dims(k: Any, x: Any, axis: Any) -> Any:
    at = integer(axis, "dim")
    if not -len(x.shape) - 1 <= at <= len(x.shape):
        raise errors.InvalidArgumentError(
            None, None, f"Tried to expand dim index {at} for tensor with {len(x.shape)} dimensions."
        )
    at += len(x.shape) + 1 if at < 0 else 0
    return x.reshape((*x.shape[:at], 1, *x.shape[at:]))


def _expand_dims_shape(node: Any) -> TensorShape:
    dims, axis = node.inputs[0].shape.dims_or_none, constant_value(node.inputs[1])
    if dims is None or axis is None:
        return TensorShape.of(None)
    at = int(axis.reshape(()))
    if not -len(dims) - 1 <= at <= len(dims):
        raise ValueError(
            f"dim {at} not in the interval [{-len(dims) - 1}, {len(dims)}]: the input's shape is {node.inputs[0].shape}"
        )
    at += len(dims) + 1 if at < 0 else 0
    return TensorShape.of((*dims[:at], 1, *dims[at:]))


def _expansions(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, axis) in enumerate((((2, 3), 0), ((2, 3), -1), ((2, 3), 1), ((), 0), ((0,), -2))):
        yield Sample(random_array(rng, dtype, dims), np.array(axis, (np.int32, np.int64)[i % 2]))


expand_dims_op = op(
    "ExpandDims(input: T, dim: Tdim; T: type, Tdim: index = int32) -> output: T",
    kernel=_expand_dims,
    shape=_expand_dims_shape,
    grad=lambda node, g: (_like_input(node, g), None),
    samples=_expansions,
    reference=lambda x, axis, **_: np.stack([x], axis=int(axis)),
    memory={"input": ANY, "dim": HOST, "output": ANY},
)


# Under TensorFlow 1's names.


def shape(input: Any, name: str | None = None, out_type: Any = dtypes.int32, optimize: bool = True) -> Any:
    """The shape of `input`, an int vector of dtype `out_type`; a constant if it is known already (and `optimize`)."""
    with name_scope(name, "Shape", [input]) as scope:
        tensor = convert_to_tensor(input)
        if optimize and tensor.shape.is_fully_defined():
            return constant(np.array(tensor.shape.as_list(), as_dtype(out_type).np_dtype), name=scope)
        return raw.Shape(tensor, out_type=out_type, name=scope)


def shape_n(input: Sequence[Any], out_type: Any = dtypes.int32, name: str | None = None) -> Any:
    """The shape of each tensor of the list `input`, found by one op."""
    return raw.ShapeN(list(input), out_type=out_type, name=name)


def size(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Any:
    """The number of elements of `input`, a scalar of dtype `out_type`; a constant if it is known already."""
    with name_scope(name, "Size", [input]) as scope:
        tensor = convert_to_tensor(input)
        count = tensor.shape.num_elements()
        if count is not None:
            return constant(np.array(count, as_dtype(out_type).np_dtype), name=scope)
        return raw.Size(tensor, out_type=out_type, name=scope)


def rank(input: Any, name: str | None = None) -> Any:
    """The number of dimensions of `input`, an int32 scalar; a constant if it is known already."""
    with name_scope(name, "Rank", [input]) as scope:
        tensor = convert_to_tensor(input)
        if tensor.shape.ndims is not None:
            return constant(tensor.shape.ndims, dtypes.int32, name=scope)
        return raw.Rank(tensor, name=scope)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Any:
    """The elements of `tensor`, in row-major order, with another shape; one -1 in it stands for what is left over.

    Raises ValueError at build time, or InvalidArgumentError when run, if the numbers of elements differ.
    """
    return raw.Reshape(tensor, shape, name=name)


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Any:
    """`input` without its dimensions of size 1: those in `axis` (an int or a list; `squeeze_dims` is its old name), or all."""
    axes = axis if axis is not None else squeeze_dims
    if axis is not None and squeeze_dims is not None:
        raise ValueError("Cannot specify both 'axis' and 'squeeze_dims'")
    if axes is None:
        axes = ()
    return raw.Squeeze(input, squeeze_dims=[axes] if np.ndim(axes) == 0 else axes, name=name)


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Any:
    """`input` with a new dimension of size 1 before `axis` (counted from the end where negative; `dim` is its old name)."""
    if (axis is None) == (dim is None):
        raise ValueError(
            "Must specify an axis argument to tf.expand_dims()"
            if axis is None
            else "Cannot specify both 'axis' and 'dim'"
        )
    return raw.ExpandDims(input, dim if axis is None else axis, name=name)
