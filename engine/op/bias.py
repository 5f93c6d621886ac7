"""BiasAdd: a vector added along the channel dimension, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op.kernels import invalid, shape_text
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.tensor import Tensor
    from engine.types.dtypes import DType

__all__ = ["bias_add"]


def channel_axis(data_format: str, rank: int) -> int:
    """Where the channels are in an array of that rank: last in NHWC, second in NCHW."""
    return rank - 1 if data_format == "NHWC" else 1


def narrow_sum(xp: Any, values: Any, axes: tuple[int, ...]) -> Any:
    """A sum over `axes` in the dtype of `values`, accumulated in float32 for the 16-bit floats, as TensorFlow does."""
    if values.dtype.itemsize == 2 and values.dtype.kind not in "iu":
        return xp.sum(values.astype(xp.float32), axis=axes).astype(values.dtype)
    return xp.sum(values, axis=axes, dtype=values.dtype)


def _data_format(attrs: Any) -> str:
    found: str = attrs.get("data_format", "NHWC")
    return found


def _bias_add(k: Any, value: Any, bias: Any) -> Any:
    axis = channel_axis(_data_format(k.attrs), value.ndim)
    if value.ndim < 2 or axis >= value.ndim:
        raise invalid(f"Input tensor must be at least {max(2, axis + 1)}D: {shape_text(value.shape)}")
    if bias.ndim != 1:
        raise invalid(f"Biases must be 1D: {shape_text(bias.shape)}")
    if bias.shape[0] != value.shape[axis]:
        raise invalid(
            "Must provide as many biases as the channel dimension of the input tensor: "
            f"{shape_text(bias.shape)} vs. {value.shape[axis]} in {shape_text(value.shape)}",
        )
    if axis != value.ndim - 1:
        bias = bias.reshape(-1, *(1,) * (value.ndim - 1 - axis))
    return value + bias


def _bias_add_shape(node: Any) -> TensorShape:
    data_format = _data_format(node.attrs)
    bias = node.inputs[1].shape.with_rank(1)
    value: TensorShape = node.inputs[0].shape.with_rank_at_least(2 if data_format == "NHWC" else 3)
    if value.dims_or_none is None:
        return TensorShape(None)
    dims = list(value.dims_or_none)
    axis = channel_axis(data_format, len(dims))
    (dims[axis],) = TensorShape.of((dims[axis],)).merge_with(bias).as_list()
    return TensorShape.of(tuple(dims))


def _bias_add_gradient(node: Any, g: Any) -> Any:
    return g, raw.BiasAddGrad(g, data_format=_data_format(node.attrs))


def _bias_add_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for shape in ((2, 3), (2, 1, 3), (2, 4, 2, 3), (2, 2, 1, 2, 3), (0, 3), (2, 0)):
        bias = random_array(rng, dtype, shape[-1:])
        yield Sample(random_array(rng, dtype, shape), bias)
    for shape in ((2, 3, 4), (2, 3, 2, 2), (1, 3, 2, 1, 2)):
        bias = random_array(rng, dtype, (3,))
        yield Sample(random_array(rng, dtype, shape), bias, attrs={"data_format": "NCHW"})


def _bias_add_reference(value: Any, bias: Any, data_format: str = "NHWC") -> Any:
    result = np.array(value)
    for channel in range(len(bias)):
        where = (..., channel) if data_format == "NHWC" else (slice(None), channel)
        result[where] += bias[channel]
    return result


op(
    "BiasAdd(value: T, bias: T; T: numbers, data_format: {'NHWC', 'NCHW'} = 'NHWC') -> output: T",
    kernel=_bias_add,
    shape=_bias_add_shape,
    grad=_bias_add_gradient,
    samples=_bias_add_samples,
    reference=_bias_add_reference,
)

op(
    "BiasAddV1(value: T, bias: T; T: numbers) -> output: T",
    kernel=_bias_add,
    shape=_bias_add_shape,
    grad=lambda node, g: (g, raw.BiasAddGrad(g)),
    samples=lambda rng, dtype: (sample for sample in _bias_add_samples(rng, dtype) if not sample.attrs),
    reference=_bias_add_reference,
)


def _bias_add_grad(k: Any, g: Any) -> Any:
    axis = channel_axis(_data_format(k.attrs), g.ndim)
    if g.ndim < 2 or axis >= g.ndim:
        raise invalid(f"Input tensor must be at least {max(2, axis + 1)}D: {shape_text(g.shape)}")
    return narrow_sum(k.xp, g, tuple(i for i in range(g.ndim) if i != axis))


def _bias_add_grad_shape(node: Any) -> TensorShape:
    data_format = _data_format(node.attrs)
    dims = node.inputs[0].shape.with_rank_at_least(2 if data_format == "NHWC" else 3).dims_or_none
    if dims is None:
        return TensorShape.of((None,))
    return TensorShape.of((dims[channel_axis(data_format, len(dims))],))


def _bias_add_grad_gradient(node: Any, g: Any) -> Any:
    """The vector spread over the shape that was summed away."""
    out_backprop = node.inputs[0]
    if _data_format(node.attrs) == "NCHW":
        # 1 × C × 1 × 1 …: what follows the channel are as many ones as the rank says.
        rank = raw.Rank(out_backprop)
        tail = raw.Fill(raw.ExpandDims(rank - 2, 0), 1)
        g = raw.Reshape(g, raw.ConcatV2([[-1], tail], 0))
    return raw.Add(g, raw.ZerosLike(out_backprop))


def _bias_add_grad_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    for sample in _bias_add_samples(rng, dtype):
        yield Sample(sample.inputs[0], attrs=sample.attrs)


def _bias_add_grad_reference(g: Any, data_format: str = "NHWC") -> Any:
    channels = g.shape[-1] if data_format == "NHWC" else g.shape[1]
    return np.array(
        [np.sum(g[..., c] if data_format == "NHWC" else g[:, c]) for c in range(channels)], g.dtype
    )


op(
    "BiasAddGrad(out_backprop: T; T: numbers, data_format: {'NHWC', 'NCHW'} = 'NHWC') -> output: T",
    kernel=_bias_add_grad,
    shape=_bias_add_grad_shape,
    grad=_bias_add_grad_gradient,
    samples=_bias_add_grad_samples,
    reference=_bias_add_grad_reference,
)


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """`value` plus the vector `bias` along the channels, as `tf.nn.bias_add`.

    value: rank 2 or more; bias: rank 1, as long as the channel dimension, which is the last one in "NHWC" (the default) and
    the second in "NCHW".  Raises ValueError for another data format, or if the static shapes do not fit.
    """
    with name_scope(name, "BiasAdd", [value, bias]) as scope:
        if (
            data_format is not None
            and data_format[:2] not in ("NC", "NH", "ND", "NW")
            and data_format != "N...C"
        ):
            raise ValueError(f"`data_format` must be of the form 'N...C' or 'NC...', not '{data_format}'")
        channels_first = data_format is not None and data_format.startswith("NC")
        x = convert_to_tensor(value, name="input")
        b = convert_to_tensor(bias, dtype=x.dtype.base_dtype, name="bias")
        result: Tensor = raw.BiasAdd(x, b, data_format="NCHW" if channels_first else "NHWC", name=scope)
        return result
