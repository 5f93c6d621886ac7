"""Cumulative sums and products along a dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.op import shapes
from engine.op.elementwise import conjugate, is_half
from engine.op.registry import HOST, Kernel, OpDef, op, raw
from engine.op.samples import Sample, array, random_array
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

__all__ = ["cumprod", "cumsum"]


def _cumulative(ufunc: str, neutral: int) -> Kernel:
    def kernel(k: Any, x: Any, axis: Any) -> Any:
        at = int(axis)
        if not -x.ndim <= at < x.ndim:
            raise errors.InvalidArgumentError(
                None, None, f"ScanOp: Expected scan axis in the range [{-x.ndim}, {x.ndim}), but got {at}"
            )
        at %= x.ndim
        dtype = x.dtype
        wide = np.dtype(np.float32) if is_half(dtype) else dtype
        every = (slice(None),) * at
        backward = (*every, slice(None, None, -1))
        reverse = k.attrs["reverse"]
        along = x[backward] if reverse else x
        if k.attrs["exclusive"]:
            result = k.xp.empty(x.shape, wide)
            result[(*every, slice(0, 1))] = neutral
            shifted = along[(*every, slice(None, -1))]
            result[(*every, slice(1, None))] = getattr(k.xp, ufunc)(shifted, axis=at, dtype=wide)
        else:
            result = getattr(k.xp, ufunc)(along, axis=at, dtype=wide)
        if reverse:
            result = result[backward]
        return result.astype(dtype) if wide != dtype else result

    return kernel


def _shape(op: Any) -> TensorShape:
    shape: TensorShape = op.inputs[0].shape
    axis = shapes.constant_value(op.inputs[1])
    if axis is not None and shape.ndims is not None and not -shape.ndims <= int(axis) < shape.ndims:
        raise ValueError(f"The axis {int(axis)} is not in [{-shape.ndims}, {shape.ndims}), for shape {shape}")
    return shape


def _samples(lo: float, hi: float) -> Any:
    def sampler(rng: np.random.Generator, dtype: Any) -> Any:
        for shape, axis in (
            ((2, 3), 0),
            ((2, 3), -1),
            ((5,), 0),
            ((2, 4, 3), 1),
            ((0, 3), 0),
            ((0, 3), 1),
            ((1,), 0),
        ):
            for exclusive in (False, True):
                for reverse in (False, True):
                    yield Sample(
                        random_array(rng, dtype, shape, lo, hi),
                        array(axis, dtypes.int64 if reverse else dtypes.int32),
                        attrs={"exclusive": exclusive, "reverse": reverse},
                    )

    return sampler


def _reference(reduce: Callable[..., Any]) -> Callable[..., Any]:
    """Each element by its definition: the reduction of those before it."""

    def reference(x: Any, axis: Any, exclusive: bool = False, reverse: bool = False) -> Any:
        x = np.moveaxis(x, int(axis), 0)
        count = len(x)
        rows = []
        for i in range(count):
            if reverse:
                rows.append(reduce(x[i + exclusive :], axis=0))
            else:
                rows.append(reduce(x[: i + (not exclusive)], axis=0))
        return np.moveaxis(np.stack(rows) if rows else x, 0, int(axis))

    return reference


def _cumsum_grad(op: Any, g: Any) -> Any:
    exclusive, reverse = op.attrs["exclusive"], op.attrs["reverse"]
    return raw.Cumsum(g, op.inputs[1], exclusive=exclusive, reverse=not reverse), None


def _cumprod_grad(op: Any, g: Any) -> Any:
    """TensorFlow's: the cumulative sum of g times the product, over x; and so 0 for an element that is 0."""
    x, axis = op.inputs
    exclusive, reverse = op.attrs["exclusive"], op.attrs["reverse"]
    weighted = conjugate(op.outputs[0]) * g
    summed = raw.Cumsum(weighted, axis, exclusive=exclusive, reverse=not reverse)
    return raw.DivNoNan(summed, conjugate(x)), None


def _op(name: str, kernel: Kernel, grad: Any, samples: Any, reference: Callable[..., Any]) -> OpDef:
    return op(
        f"{name}(x: T, axis: Tidx; exclusive: bool = False, reverse: bool = False, T: numbers, Tidx: index = int32) -> out: T",
        kernel=kernel,
        shape=_shape,
        grad=grad,
        samples=samples,
        reference=reference,
        memory={"axis": HOST},
    )


_op("Cumsum", _cumulative("cumsum", 0), _cumsum_grad, _samples(-9, 9), _reference(np.sum))
_op("Cumprod", _cumulative("cumprod", 1), _cumprod_grad, _samples(1, 2), _reference(np.prod))


def cumsum(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Any:
    """The sums of the elements up to each one along `axis` (an int or scalar tensor), in x's shape and dtype.

    exclusive: without the element itself; reverse: from the other end.  Raises ValueError for an axis that x does not have.
    """
    return raw.Cumsum(x, axis, exclusive=exclusive, reverse=reverse, name=name)


def cumprod(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Any:
    """The products of the elements up to each one along `axis`; see `cumsum`."""
    return raw.Cumprod(x, axis, exclusive=exclusive, reverse=reverse, name=name)
