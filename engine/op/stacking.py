"""Joining tensors along a new axis, and taking one apart along an axis that goes: Pack and Unpack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.op.kernels import invalid, shape_text
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["stack", "unstack"]


def _pack(k: Any, *values: Any) -> Any:
    axis, ndim = k.attrs["axis"], values[0].ndim + 1
    for i, value in enumerate(values):
        if value.shape != values[0].shape:
            raise invalid(
                f"Shapes of all inputs must match: values[0].shape = {shape_text(values[0].shape)} != values[{i}].shape = "
                f"{shape_text(value.shape)}"
            )
    if not -ndim <= axis < ndim:
        raise invalid(f"axis = {axis} not in [{-ndim}, {ndim})")
    return k.xp.stack(values, axis=axis)


def _pack_shape(node: Any) -> TensorShape:
    merged = TensorShape.of(None)
    for tensor in node.inputs:
        merged = merged.merge_with(tensor.shape)
    dims, axis = merged.dims_or_none, node.attrs["axis"]
    if dims is None:
        return merged
    ndim = len(dims) + 1
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis = {axis} not in [{-ndim}, {ndim})")
    axis %= ndim
    return TensorShape.of((*dims[:axis], len(node.inputs), *dims[axis:]))


def _packs(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for count, shape, axis in ((2, (2, 3), 0), (3, (2, 3), -1), (1, (), 0), (2, (0,), 1), (2, (2, 3), 1)):
        yield Sample([random_array(rng, dtype, shape) for _ in range(count)], attrs={"axis": axis})


def _packed(values: Sequence[Any], axis: int = 0, **_: Any) -> Any:
    axis %= values[0].ndim + 1
    shape = values[0].shape
    result = np.empty((*shape[:axis], len(values), *shape[axis:]), values[0].dtype)
    for position in np.ndindex(*result.shape):
        rest = (*position[:axis], *position[axis + 1 :])
        result[position] = values[position[axis]][rest]
    return result


pack_op = op(
    "Pack(values: N * T; N: int >= 1, T: type, axis: int = 0) -> output: T",
    kernel=_pack,
    shape=_pack_shape,
    grad=lambda node, g: raw.Unpack(g, num=node.attrs["N"], axis=node.attrs["axis"], name="unstack"),
    samples=_packs,
    reference=_packed,
    int32_on_host=True,
)


def _unpack(k: Any, value: Any) -> Any:
    axis, num = k.attrs["axis"], k.attrs["num"]
    if not -value.ndim <= axis < value.ndim:
        raise invalid(f"axis = {axis} not in [{-value.ndim}, {value.ndim})")
    axis %= value.ndim
    if value.shape[axis] != num:
        raise invalid(f"Input shape axis {axis} must equal {num}, got shape {shape_text(value.shape)}")
    front = (slice(None),) * axis
    return tuple(value[(*front, i, ...)] for i in range(num))


def _unpack_shape(node: Any) -> list[TensorShape]:
    shape, axis, num = node.inputs[0].shape, node.attrs["axis"], node.attrs["num"]
    dims = shape.dims_or_none
    if dims is None:
        return [shape] * num
    if not -len(dims) <= axis < len(dims):
        raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)}) of shape {shape}")
    axis %= len(dims)
    if dims[axis] not in (None, num):
        raise ValueError(
            f"Cannot unstack {num} tensors from axis {axis} of shape {shape}: it has {dims[axis]}"
        )
    return [TensorShape.of((*dims[:axis], *dims[axis + 1 :]))] * num


def _unpacks(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape, axis in (((2, 3), 0), ((2, 3), 1), ((2, 3, 2), -1), ((3,), 0), ((2, 0), 0)):
        yield Sample(random_array(rng, dtype, shape), attrs={"num": shape[axis], "axis": axis})


unpack_op = op(
    "Unpack(value: T; num: int >= 0, T: type, axis: int = 0) -> output: num * T",
    kernel=_unpack,
    shape=_unpack_shape,
    grad=lambda node, *gs: (
        raw.Pack(list(gs), axis=node.attrs["axis"], name="stack") if gs else raw.ZerosLike(node.inputs[0])
    ),
    samples=_unpacks,
    reference=lambda value, num, axis=0, **_: [np.take(value, i, axis=axis) for i in range(num)],
)


def stack(values: Any, axis: int = 0, name: str | None = "stack") -> Any:
    """The tensors of the list `values`, all of one shape and dtype, as the entries along a new axis before `axis`.

    Values that are all constants become one constant.  Raises ValueError for an axis out of range or shapes that differ.
    """
    name = name or "stack"
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError):
            pass  # not one list of numbers and tensors of one dtype: the op says what is wrong with it
    first = convert_to_tensor(values[0], name=name)
    ndims = first.shape.ndims
    if ndims is not None and not -ndims - 1 <= axis <= ndims:
        raise ValueError(f"Argument `axis` = {axis} not in range [{-ndims - 1}, {ndims + 1})")
    return raw.Pack(list(values), axis=axis, name=name)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str | None = "unstack") -> Any:
    """The list of the `num` tensors that lie along `axis` of `value`.

    Raises ValueError if `num` is not given and the static shape does not say it.
    """
    tensor = convert_to_tensor(value)
    if num is None:
        dims = tensor.shape.dims_or_none
        if dims is not None:
            if not -len(dims) <= axis < len(dims):
                raise ValueError(f"Argument `axis` = {axis} not in range [{-len(dims)}, {len(dims)})")
            num = dims[axis]
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {tensor.shape}")
    parts = raw.Unpack(tensor, num=num, axis=axis, name=name or "unstack")
    return parts if num else []  # a node without outputs is returned as itself
