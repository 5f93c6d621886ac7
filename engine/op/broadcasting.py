"""What broadcasting costs the gradients: summing a gradient back to the shape that an operand had.

`unbroadcast` decides from the static shapes which dimensions an operand was stretched along.  Where they leave it open, the graph
computes it: BroadcastGradientArgs on the two shapes gives the dimensions to sum over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.kernels import shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, array
from engine.types import errors
from engine.types.shape import TensorShape

Dims = tuple[int | None, ...]


def _gradient_args(k: Any, s0: Any, s1: Any) -> tuple[Any, Any]:
    a, b = s0.tolist(), s1.tolist()
    empty = np.zeros(0, s0.dtype)
    if a == b:
        return empty, empty
    rank = max(len(a), len(b))
    # A missing dimension counts as 1; one that is 1 on both sides is listed for both, as TensorFlow does: summing it is harmless.
    a, b = [1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b
    for m, n in zip(a, b):
        if m != n and 1 not in (m, n):
            raise errors.InvalidArgumentError(
                None, None, f"Incompatible shapes: {shape_text(s0.tolist())} vs. {shape_text(s1.tolist())}"
            )
    return (
        np.array([i for i, size in enumerate(a) if size == 1], s0.dtype),
        np.array([i for i, size in enumerate(b) if size == 1], s0.dtype),
    )


def _gradient_args_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for a, b in (
        ([2, 1, 3], [1, 3]), ([2, 1], [1, 1]), ([1], [1]), ([], [2, 3]), ([], []), ([0, 3], [1, 3]),
        ([2, 1, 3], [2, 1, 3]), ([1, 1, 3], [3]), ([2, 1, 1, 3], [1, 1, 3]), ([4], [3, 1]),
    ):  # fmt: skip
        yield Sample(array(a, dtype), array(b, dtype))


def _gradient_args_reference(s0: Any, s1: Any) -> tuple[Any, Any]:
    """Stretch two arrays of ones and see along which dimensions each has stride 0."""
    if list(s0) == list(s1):
        return np.zeros(0), np.zeros(0)
    pair = np.broadcast_arrays(np.zeros([int(n) for n in s0]), np.zeros([int(n) for n in s1]))
    rank = pair[0].ndim
    result = []
    for shape in (s0, s1):
        padded = [1] * (rank - len(shape)) + [int(n) for n in shape]
        result.append(np.array([i for i in range(rank) if padded[i] == 1], np.float64))
    return result[0], result[1]


op(
    "BroadcastGradientArgs(s0: T, s1: T; T: index = int32) -> r0: T, r1: T",
    kernel=_gradient_args,
    shape=lambda op: [TensorShape.of((None,))] * 2,
    grad=NotDifferentiable,
    samples=_gradient_args_samples,
    reference=_gradient_args_reference,
    memory=HOST,
)


def _axes(mine: Dims | None, other: Dims | None) -> tuple[list[int], list[int]] | None:
    """The dimensions of the result along which two operands of these static shapes are stretched; None: it is not known."""
    if mine is None or other is None:
        return None
    rank = max(len(mine), len(other))
    missing = rank - len(mine), rank - len(other)
    axes: tuple[list[int], list[int]] = ([], [])
    for i in range(rank):
        sizes = [dims[i - gap] if i >= gap else 1 for dims, gap in zip((mine, other), missing, strict=True)]
        if None in sizes and 1 not in sizes:
            return None  # the unknown one may be 1 when it runs
        for j in (0, 1):
            if i < missing[j] or (sizes[j] == 1 and sizes[1 - j] != 1):
                axes[j].append(i)
    return axes


def fully_known_and_equal(*tensors: Any) -> bool:
    """Whether the static shapes of all `tensors` are known and the same."""
    dims, *others = [tensor.shape.dims_or_none for tensor in tensors]
    return dims is not None and None not in dims and others.count(dims) == len(others)


def shape_of(tensor: Any) -> Any:
    """The shape of `tensor` as an int32 array where it is known, else a tensor that computes it."""
    dims = tensor.shape.dims_or_none
    if dims is None or None in dims:
        return raw.Shape(tensor)
    return np.array(dims, np.int32)


def shape_node(tensor: Any) -> Any:
    """A node named Shape with the shape of `tensor`: a constant where it is known."""
    from engine.op.array import shape

    return shape(tensor)


def unbroadcast(op: Any, grad_x: Any, grad_y: Any) -> tuple[Any, Any]:
    """Sum the gradients for the two inputs of a broadcasting binary op to the shapes of the inputs.

    A gradient of None stays None.  Where the static shapes show that an input was not stretched, its gradient is used as it is.
    The nodes and their names are TensorFlow's, also where their values turn out not to be needed.
    """
    return unbroadcast_pair(op.inputs[0], op.inputs[1], grad_x, grad_y)


def unbroadcast_pair(x: Any, y: Any, grad_x: Any, grad_y: Any) -> tuple[Any, Any]:
    """`unbroadcast` for operands x and y of a computation that is not one op."""
    shapes = shape_node(x), shape_node(y)
    axes: Any = _axes(x.shape.dims_or_none, y.shape.dims_or_none)
    if axes is None:
        axes = raw.BroadcastGradientArgs(*shapes)
    return _summed(grad_x, axes[0], shapes[0]), _summed(grad_y, axes[1], shapes[1])


def _summed(gradient: Any, axes: Any, shape: Any) -> Any:
    """`gradient` summed over `axes` (a list, or a tensor) to `shape`."""
    if gradient is None or (isinstance(axes, list) and not axes):
        return gradient
    return raw.Reshape(raw.Sum(gradient, axes, keep_dims=True), shape)
