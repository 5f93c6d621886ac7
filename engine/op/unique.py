"""Sets of values in a vector: Unique, UniqueWithCounts, ListDiff."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.op.kernels import invalid, orderable, shape_text
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["listdiff", "setdiff1d", "unique", "unique_with_counts"]


def _distinct(k: Any, x: Any) -> tuple[Any, Any]:
    """The distinct values in the order in which they first occur, and for each element which of them it is."""
    if x.ndim != 1:
        raise invalid(f"unique expects a 1D vector, got shape {shape_text(x.shape)}")
    if x.dtype.hasobject:
        numbers: dict[bytes, int] = {}
        places = np.array([numbers.setdefault(value, len(numbers)) for value in x.tolist()], np.int64)
        values = np.empty(len(numbers), object)
        values[:] = list(numbers)
        return values, places
    # NaN differs from NaN, so each is its own value, as in TensorFlow.
    _, first, places = k.xp.unique(orderable(x), return_index=True, return_inverse=True, equal_nan=False)
    order = k.xp.argsort(first)
    rank = k.xp.empty_like(order)
    rank[order] = k.xp.arange(order.size)
    return x[first[order]], rank[places.reshape(-1)]


def _unique(k: Any, x: Any) -> tuple[Any, ...]:
    values, places = _distinct(k, x)
    index_type = k.attrs["out_idx"].np_dtype
    if k.n_outputs == 2:
        return values, places.astype(index_type)
    counts = k.xp.bincount(places, minlength=values.size)
    return values, places.astype(index_type), counts.astype(index_type)


def _unique_shape(node: Any) -> list[TensorShape]:
    x = node.inputs[0].shape.with_rank(1)
    some = TensorShape.of((None,))
    return [some, x, some][: len(node.outputs)]


def _uniques(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for index_type in (dtypes.int32, dtypes.int64):
        for size in (9, 1, 0):
            x = random_array(rng, dtype, (size,), 0, 3)
            if dtype.is_floating or dtype.is_complex:
                x = np.round(x.astype(np.complex128 if dtype.is_complex else np.float64)).astype(
                    dtype.np_dtype
                )
            yield Sample(x, attrs={"out_idx": index_type}, grad=())
    if dtype.is_floating:
        x = np.array([np.nan, 1.0, np.nan, 0.0, 0.0, 1.0]).astype(dtype.np_dtype)
        yield Sample(x, grad=(), note="NaN differs from NaN")


def _first_seen(x: Any) -> tuple[list[Any], list[int]]:
    values: list[Any] = []
    places = []
    for value in x.tolist():
        if value not in values:  # by identity too, but `tolist` makes a new NaN each time
            values.append(value)
        places.append(values.index(value))
    return values, places


def _unique_reference(x: Any, **_: Any) -> tuple[Any, Any]:
    values, places = _first_seen(x)
    return np.array(values, x.dtype), np.array(places)


def _counts_reference(x: Any, **_: Any) -> tuple[Any, Any, Any]:
    values, places = _first_seen(x)
    return (
        np.array(values, x.dtype),
        np.array(places),
        np.array([places.count(i) for i in range(len(values))]),
    )


op(
    "Unique(x: T; T: type, out_idx: index = int32) -> y: T, idx: out_idx",
    kernel=_unique,
    shape=_unique_shape,
    samples=_uniques,
    reference=_unique_reference,
)

op(
    "UniqueWithCounts(x: T; T: type, out_idx: index = int32) -> y: T, idx: out_idx, count: out_idx",
    kernel=_unique,
    shape=_unique_shape,
    samples=_uniques,
    reference=_counts_reference,
)


def _list_diff(k: Any, x: Any, y: Any) -> tuple[Any, Any]:
    for name, value in (("x", x), ("y", y)):
        if value.ndim != 1:
            raise invalid(f"{name} should be a 1D vector, got shape {shape_text(value.shape)}")
    keep = ~k.xp.isin(x, y)
    return x[keep], k.xp.flatnonzero(keep).astype(k.attrs["out_idx"].np_dtype)


def _list_diffs(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for sizes in ((7, 3), (4, 0), (0, 3)):
        x, y = (random_array(rng, dtype, (size,), 0, 4) for size in sizes)
        if dtype.is_floating or dtype.is_complex:
            x, y = (
                np.round(v.astype(np.complex128 if dtype.is_complex else np.float64)).astype(dtype.np_dtype)
                for v in (x, y)
            )
        yield Sample(x, y, grad=())


def _list_diff_reference(x: Any, y: Any, **_: Any) -> tuple[Any, Any]:
    others = y.tolist()
    kept = [i for i, value in enumerate(x.tolist()) if value not in others]
    result = np.empty(len(kept), x.dtype)
    for i, place in enumerate(kept):
        result[i] = x[place]
    return result, np.array(kept)


op(
    "ListDiff(x: T, y: T; T: type, out_idx: index = int32) -> out: T, idx: out_idx",
    kernel=_list_diff,
    shape=lambda node: [TensorShape.of((None,))] * 2,
    grad=NotDifferentiable,
    samples=_list_diffs,
    reference=_list_diff_reference,
    memory=HOST,
)


def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """(y, idx): the distinct values of the vector `x` in the order in which they first occur, and `x[i] == y[idx[i]]`."""
    return raw.Unique(x, out_idx=out_idx, name=name)


def unique_with_counts(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """(y, idx, count): as `unique`, and how often each value occurs."""
    return raw.UniqueWithCounts(x, out_idx=out_idx, name=name)


def setdiff1d(x: Any, y: Any, index_dtype: Any = dtypes.int32, name: str | None = None) -> Any:
    """(out, idx): the values of the vector `x` that are not in the vector `y`, in order, and where they stood."""
    return raw.ListDiff(x, y, out_idx=index_dtype, name=name)


def listdiff(x: Any, y: Any, out_idx: Any = None, name: str | None = None) -> Any:
    """`setdiff1d` under its old name."""
    return raw.ListDiff(x, y, out_idx=dtypes.int32 if out_idx is None else out_idx, name=name)
