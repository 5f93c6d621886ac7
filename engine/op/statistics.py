"""Norms, variances and other quantities made of reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import shapes
from engine.op.cast import cast
from engine.op.const import constant
from engine.op.elementwise import FLOATS, is_half
from engine.op.reduce import axes_of, either, kept, reduction, reduction_dims, reference_by, samples_of
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types import dtypes

__all__ = [
    "count_nonzero",
    "l2_loss",
    "norm",
    "reduce_euclidean_norm",
    "reduce_logsumexp",
    "reduce_std",
    "reduce_variance",
]


def _norm_grad(op: Any, g: Any) -> Any:
    return op.inputs[0] / (kept(op, op.outputs[0]) / kept(op, g)), None


def _euclidean_norm(k: Any, x: Any, indices: Any) -> Any:
    axes, keep = axes_of(indices, x.ndim), k.attrs["keep_dims"]
    wide = np.float32 if is_half(x.dtype) else np.float64 if x.dtype.kind in "iu" else x.dtype
    x, dtype = x.astype(wide), x.dtype
    return k.xp.sqrt(k.xp.add.reduce(x * k.xp.conj(x), axis=axes, keepdims=keep)).astype(dtype)


reduction(
    "EuclideanNorm",
    "numbers",
    _euclidean_norm,
    grad=_norm_grad,
    # Of complex numbers the gradient is TensorFlow's, and not the derivative.
    samples=lambda rng, dtype: samples_of(1, 9, grad=() if dtype.is_complex else None)(rng, dtype),
    reference=lambda x, indices, keep_dims=False: np.sqrt(
        reference_by(np.sum)(np.abs(x).astype(np.float64) ** 2, indices, keep_dims)
    ),
)


def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Any:
    """The square root of the sum of squares over `axis`; see `reduce_sum`."""
    x = convert_to_tensor(input_tensor)
    return raw.EuclideanNorm(x, reduction_dims(x, axis), keep_dims=bool(keepdims), name=name)


def _l2_loss(k: Any, t: Any) -> Any:
    flat = t.astype(np.float32).ravel() if is_half(t.dtype) else t.ravel()
    return (k.xp.dot(flat, flat) * flat.dtype.type(0.5)).astype(t.dtype)


def _l2_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((2, 3), (), (0,), (4, 1, 2)):
        yield Sample(random_array(rng, dtype, shape, -3, 3))


l2_loss = op(
    f"L2Loss(t: T; T: {FLOATS}) -> output: T",
    kernel=_l2_loss,
    shape=shapes.scalar,
    grad=lambda op, g: op.inputs[0] * g,
    samples=_l2_samples,
    reference=lambda t: np.sum(t**2) / 2,
)


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """log(sum(exp(x))) over `axis`, computed around the maximum so that it overflows nowhere; see `reduce_sum`."""
    axis = either(axis, reduction_indices, "axis", "reduction_indices")
    keep = bool(either(keepdims, keep_dims, "keepdims", "keep_dims"))
    with name_scope(name, "ReduceLogSumExp", [input_tensor]) as scope:
        x = convert_to_tensor(input_tensor)
        greatest = raw.Max(x, reduction_dims(x, axis), keep_dims=True)
        # Where the maximum is infinite, x - maximum would be NaN.
        greatest = raw.StopGradient(raw.SelectV2(raw.IsFinite(greatest), greatest, 0))
        total = raw.Sum(raw.Exp(raw.Sub(x, greatest)), reduction_dims(x, axis), keep_dims=keep)
        result = raw.Log(total)
        if not keep:
            greatest = raw.Reshape(greatest, raw.Shape(result))
        return raw.AddV2(result, greatest, name=scope)


def reduce_variance(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Any:
    """The mean squared distance from the mean over `axis`; see `reduce_sum`.  Raises TypeError for an integer tensor."""
    with name_scope(name, "reduce_variance", [input_tensor]):
        x = convert_to_tensor(input_tensor)
        if x.dtype.is_integer:
            raise TypeError(
                f"The variance of a tensor of type {x.dtype.name} has no integer value: cast it first"
            )
        away = x - raw.Mean(x, reduction_dims(x, axis), keep_dims=True)
        squared = (
            raw.Real(away * raw.Conj(away), Tout=x.dtype.real_dtype)
            if x.dtype.is_complex
            else raw.Square(away)
        )
        return raw.Mean(squared, reduction_dims(x, axis), keep_dims=bool(keepdims))


def reduce_std(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Any:
    """The square root of `reduce_variance`."""
    with name_scope(name, "reduce_std", [input_tensor]):
        return raw.Sqrt(reduce_variance(input_tensor, axis, keepdims))


def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
    dtype: Any = dtypes.int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
    input: Any = None,
) -> Any:
    """The number of elements that are not 0 (not empty, for strings) over `axis`, of type `dtype`; see `reduce_sum`."""
    axis = either(axis, reduction_indices, "axis", "reduction_indices")
    keep = bool(either(keepdims, keep_dims, "keepdims", "keep_dims"))
    with name_scope(name, "count_nonzero", [input_tensor]):
        x = convert_to_tensor(either(input, input_tensor, "input", "input_tensor"))
        zero = constant(b"" if x.dtype.base_dtype is dtypes.string else 0, x.dtype.base_dtype, name="zeros")
        ones = raw.Cast(raw.NotEqual(x, zero), DstT=dtypes.int64)
        return cast(raw.Sum(ones, reduction_dims(ones, axis), keep_dims=keep), dtype)


def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    keep_dims: bool | None = None,
) -> Any:
    """The norm of vectors, or the Frobenius norm of matrices.

    axis: None for the norm of all elements as one vector, an int for the vectors along it, a pair of ints for matrices.
    ord: 'euclidean', 1, 2, infinity, or any positive number; 'euclidean' or 'fro' for matrices.

    Raises ValueError for another `ord` or `axis`.
    """
    keep = bool(either(keepdims, keep_dims, "keepdims", "keep_dims"))
    matrix = isinstance(axis, list | tuple)
    if matrix and (len(axis) != 2 or axis[0] == axis[1]):
        raise ValueError(f"'axis' must be None, an integer, or a pair of different integers, not {axis!r}")
    allowed = ("euclidean", "fro") if matrix else ("euclidean",)
    if ord not in allowed and (matrix or not (isinstance(ord, int | float) and ord > 0)):
        raise ValueError(
            f"'ord' must be {' or '.join(map(repr, allowed))}{'' if matrix else ' or a positive number'}, not {ord!r}"
        )
    with name_scope(name, "norm", [tensor]):
        x = convert_to_tensor(tensor)

        def reduced(op_type: str, values: Any) -> Any:
            dims = reduction_dims(
                x, list(axis) if matrix else [axis] if isinstance(axis, int) and not keep else axis
            )
            return getattr(raw, op_type)(values, dims, keep_dims=True)

        if ord in ("euclidean", "fro", 2):
            # Complex: x times its conjugate is real, in a complex type.
            result = raw.Sqrt(reduced("Sum", x * (raw.Conj(x) if x.dtype.is_complex else x)))
            if x.dtype.is_complex:
                result = raw.Real(result, Tout=x.dtype.real_dtype)
        else:
            size = raw.ComplexAbs(x, Tout=x.dtype.real_dtype) if x.dtype.is_complex else raw.Abs(x)
            if ord == 1:
                result = reduced("Sum", size)
            elif ord == np.inf:
                result = reduced("Max", size)
            else:
                result = raw.Pow(reduced("Sum", raw.Pow(size, ord)), 1.0 / ord)
        if keep:
            return result
        squeezed = range(x.shape.ndims) if axis is None and x.shape.ndims is not None else axis
        if squeezed is None:
            return raw.Reshape(result, [])
        return raw.Squeeze(
            result, squeeze_dims=list(squeezed) if not isinstance(squeezed, int) else [squeezed]
        )
