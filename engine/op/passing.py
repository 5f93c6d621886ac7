"""Ops that hand their input on: Identity, IdentityN, StopGradient, PreventGradient, CheckNumerics, EnsureShape, Bitcast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.sparse_tensor import SparseTensor
from engine.op.kernels import shape_text
from engine.op.registry import ANY, NotDifferentiable, op, raw
from engine.op.samples import Sample, arrays, random_array
from engine.op.shapes import unchanged
from engine.types import dtypes, errors
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

__all__ = ["bitcast", "check_numerics", "ensure_shape", "identity", "identity_n", "stop_gradient"]


def _same(k: Any, x: Any) -> Any:
    return x


def _copied(x: Any, **_: Any) -> Any:
    return np.array(x, copy=True)


identity_op = op(
    "Identity(input: T; T: type) -> output: T",
    kernel=_same,
    shape=unchanged,
    grad=lambda node, g: g,
    samples=arrays(),
    reference=_copied,
    memory=ANY,
)


def _several(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    yield Sample(
        [
            random_array(rng, dtype, (2, 3)),
            random_array(rng, dtypes.int32, ()),
            random_array(rng, dtype, (0,)),
        ]
    )
    yield Sample([random_array(rng, dtypes.string, (2,))])


identity_n_op = op(
    "IdentityN(input: list(T); T: list(type) >= 1) -> output: list(T)",
    kernel=lambda k, *values: values,
    shape=lambda node: [tensor.shape for tensor in node.inputs],
    grad=lambda node, *gs: list(gs),
    samples=_several,
    reference=lambda values, **_: [np.array(value, copy=True) for value in values],
    memory=ANY,
)

stop_gradient_op = op(
    "StopGradient(input: T; T: type) -> output: T",
    kernel=_same,
    shape=unchanged,
    grad=NotDifferentiable,
    samples=arrays(),
    reference=_copied,
    memory=ANY,
)


def _prevented(node: Any, g: Any) -> Any:
    raise LookupError(f"Gradient explicitly disabled for '{node.name}'. Reason: {node.attrs['message']}")


prevent_gradient = op(
    "PreventGradient(input: T; T: type, message: string = '') -> output: T",
    kernel=_same,
    shape=unchanged,
    grad=_prevented,
    samples=arrays(attrs={"message": "second order is wrong"}, grad=()),
    reference=_copied,
    memory=ANY,
)


def _check_numerics(k: Any, x: Any) -> Any:
    finite = k.xp.isfinite(x)
    if bool(finite.all()):
        return x
    found = [word for word, bad in (("Inf", k.xp.isinf(x)), ("NaN", k.xp.isnan(x))) if bool(bad.any())]
    raise errors.InvalidArgumentError(
        None,
        None,
        f"{k.attrs['message']} : Tensor had {' and '.join(found)} values, shape {shape_text(x.shape)}",
    )


def _check_numerics_grad(node: Any, g: Any) -> Any:
    message = "Not a number (NaN) or infinity (Inf) values detected in gradient."
    return raw.CheckNumerics(g, message=f"{message} {node.attrs['message']}")


check_numerics_op = op(
    "CheckNumerics(tensor: T; T: floats, message: string) -> output: T",
    kernel=_check_numerics,
    shape=unchanged,
    grad=_check_numerics_grad,
    samples=arrays(attrs={"message": "checked"}),
    reference=_copied,
    stateful=True,
)


# EnsureShape: the identity, where the shape is as said.


def _ensure_shape(k: Any, x: Any) -> Any:
    wanted: TensorShape = k.attrs["shape"]
    if not wanted.is_compatible_with(TensorShape.of(x.shape)):
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Shape of tensor {k.op.name} {shape_text(x.shape)} is not compatible with expected shape {wanted}.",
        )
    return x


def _ensured(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, wanted in (((2, 3), [2, None]), ((), []), ((0, 2), [None, None]), ((3,), [3])):
        yield Sample(random_array(rng, dtype, shape), attrs={"shape": TensorShape(wanted)})


ensure_shape_op = op(
    "EnsureShape(input: T; shape: shape, T: type) -> output: T",
    kernel=_ensure_shape,
    shape=lambda node: node.inputs[0].shape.merge_with(node.attrs["shape"]),
    grad=lambda node, g: g,
    samples=_ensured,
    reference=_copied,
    memory=ANY,
)


# Bitcast: the same bytes read as another type.

_BITS = "{bfloat16, float16, float32, float64, int64, int32, uint8, uint16, uint32, uint64, int8, int16, complex64, complex128}"


def _bitcast(k: Any, x: Any) -> Any:
    x = k.xp.ascontiguousarray(x).reshape(
        x.shape
    )  # a view with another item size needs its elements in a row
    target = k.attrs["type"].np_dtype
    source_size, target_size = x.dtype.itemsize, target.itemsize
    if source_size == target_size:
        return x.view(target)
    if source_size > target_size:
        return x.reshape((*x.shape, 1)).view(target)
    ratio = target_size // source_size
    if x.ndim == 0 or x.shape[-1] != ratio:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Cannot bitcast from {k.attrs['T'].name} to {k.attrs['type'].name}: the last dimension of shape "
            f"{shape_text(x.shape)} must be {ratio}",
        )
    return x.reshape((-1, ratio)).view(target).reshape(x.shape[:-1])


def _bitcast_shape(node: Any) -> TensorShape:
    source, target = node.attrs["T"].size, node.attrs["type"].size
    shape: TensorShape = node.inputs[0].shape
    dims = shape.dims_or_none
    if dims is None or source == target:
        return shape
    if source > target:
        return TensorShape.of((*dims, source // target))
    if not dims or dims[-1] not in (None, target // source):
        raise ValueError(f"Cannot bitcast: the last dimension of shape {shape} must be {target // source}")
    return TensorShape.of(dims[:-1])


def _bitcasts(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for target in (dtypes.uint8, dtypes.int32, dtypes.float64, dtypes.complex64):
        ratio = max(1, target.size // dtype.size)
        tails: Sequence[tuple[int, ...]] = ((), (2,), (0, 3))
        for tail in tails:
            shape = (*tail, ratio) if ratio > 1 else tail
            values = rng.integers(0, 127, (*shape, dtype.size), dtype=np.uint8)  # no NaN in any reading
            x = np.frombuffer(values.tobytes(), dtype.np_dtype).reshape(shape)
            yield Sample(x, attrs={"T": dtype, "type": target}, grad=())


def _bitcast_reference(x: Any, T: Any, type: Any, **_: Any) -> Any:
    target = as_dtype(type).np_dtype
    x = x.astype(T.np_dtype)
    flat = np.frombuffer(np.asarray(x).tobytes(), target)
    if x.dtype.itemsize >= target.itemsize:
        ratio = x.dtype.itemsize // target.itemsize
        return flat.reshape(x.shape if ratio == 1 else (*x.shape, ratio))
    return flat.reshape(x.shape[:-1])


bitcast_op = op(
    f"Bitcast(input: T; T: {_BITS}, type: {_BITS}) -> output: type",
    kernel=_bitcast,
    shape=_bitcast_shape,
    samples=_bitcasts,
    reference=_bitcast_reference,
)


# Under TensorFlow 1's names.


def identity(input: Any, name: str | None = None) -> Any:
    """A tensor with the value of `input`; of a SparseTensor, one whose three parts are such tensors."""
    if isinstance(input, SparseTensor):
        return SparseTensor(
            *(raw.Identity(part) for part in (input.indices, input.values, input.dense_shape))
        )
    return raw.Identity(input, name=name)


def identity_n(input: Sequence[Any], name: str | None = None) -> Any:
    """Tensors with the values of the list `input`, all made by one op."""
    return raw.IdentityN(list(input), name=name)


def stop_gradient(input: Any, name: str | None = None) -> Any:
    """A tensor with the value of `input`, which gradients take for a constant."""
    return raw.StopGradient(input, name=name)


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Any:
    """`tensor`, if all of it is finite; else running it raises InvalidArgumentError with `message`."""
    return raw.CheckNumerics(tensor, message=message, name=name)


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Any:
    """`x`, known to have `shape` (which may be partial) from here on; running it raises InvalidArgumentError if it has not."""
    return raw.EnsureShape(x, shape=shape, name=name)


def bitcast(input: Any, type: Any, name: str | None = None) -> Any:
    """The bytes of `input` read as dtype `type`.

    A smaller type adds a last dimension of the ratio of the sizes, a larger one takes it away (it must be that ratio).
    """
    return raw.Bitcast(input, type=type, name=name)
