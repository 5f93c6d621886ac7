"""`embedding_lookup`, `l2_normalize`, `zero_fraction`, under TensorFlow 1's names; built from other ops, with its nodes."""

from __future__ import annotations

from typing import Any

from engine.control.cond import cond
from engine.graph.convert import convert_to_tensor
from engine.graph.default import colocate_with, name_scope
from engine.op.array import rank, reshape, shape, size
from engine.op.clipping import clip_by_norm
from engine.op.gather import gather
from engine.op.ranges import range as range_op
from engine.op.reduce import either, reduce_sum
from engine.op.registry import raw
from engine.types import dtypes

__all__ = ["embedding_lookup", "l2_normalize", "zero_fraction"]


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: float | None = None,
) -> Any:
    """The rows `ids` (ints of any shape) of a table, which may be cut into a list of tables.

    params: the table [rows, …], or the list of its parts: with strategy "mod" row i is row ``i // n`` of part ``i % n``, with
    "div" the parts follow each other, the first ones one row longer if need be.  max_norm: rows with a larger L2 norm are
    scaled down to it.  Raises ValueError for no params at all or another strategy, InvalidArgumentError when run for an id
    that is not there.
    """
    del validate_indices  # as in TensorFlow 1: it does nothing
    if params is None or (isinstance(params, list | tuple) and not params):
        raise ValueError("Need at least one param")
    tables = list(params) if isinstance(params, list | tuple) else [params]
    with name_scope(name, "embedding_lookup", [*tables, ids]) as scope:
        tables = [
            table if hasattr(table, "graph") else convert_to_tensor(table, name=f"params_{i}")
            for i, table in enumerate(tables)
        ]
        numbers = convert_to_tensor(ids, name="ids")
        if len(tables) == 1:
            with colocate_with(tables[0]):
                found = _clipped(gather(tables[0], numbers, name=scope), numbers, max_norm)
            return raw.Identity(found)
        return _from_parts(tables, numbers, partition_strategy, max_norm, scope)


def _from_parts(tables: list[Any], ids: Any, strategy: str, max_norm: float | None, scope: str) -> Any:
    count = len(tables)
    flat = reshape(ids, [-1])
    places = range_op(size(flat))
    if strategy == "mod":
        owners, rows = flat % count, flat // count
    elif strategy == "div":
        lengths = [convert_to_tensor(shape(table))[0] for table in tables]
        total = raw.Cast(raw.AddN(lengths), DstT=flat.dtype)
        each, more = total // count, total % count
        owners = raw.Maximum(flat // (each + 1), (flat - more) // each)
        rows = raw.Select(owners < more, flat % (each + 1), (flat - more) % each)
    else:
        raise ValueError(f"Unrecognized partition strategy: {strategy}")
    owners = raw.Cast(owners, DstT=dtypes.int32)
    wanted = raw.DynamicPartition(rows, owners, num_partitions=count)
    origins = raw.DynamicPartition(places, owners, num_partitions=count)
    found = []
    for table, some in zip(tables, wanted, strict=True):
        with colocate_with(table):
            found.append(gather(table, some))
    rest = raw.Slice(shape(convert_to_tensor(tables[0])), [1], [-1])
    stitched = raw.DynamicStitch(origins, found, name=scope)
    result = reshape(stitched, raw.ConcatV2([shape(ids), rest], 0))
    static = convert_to_tensor(tables[0]).shape
    if static.ndims is not None:
        result.set_shape(ids.shape.concatenate(static[1:]))
    return _clipped(result, ids, max_norm)


def _clipped(rows: Any, ids: Any, max_norm: float | None) -> Any:
    if max_norm is None:
        return rows
    first, last = ids.shape.ndims, rows.shape.ndims
    if first is not None and last is not None:
        return clip_by_norm(rows, max_norm, axes=list(range(first, last)))
    return clip_by_norm(rows, max_norm, axes=range_op(rank(ids), rank(rows)))


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Any:
    """`x` divided by its L2 norm over `axis` (None: all; `dim` is the older name), which counts as at least sqrt(epsilon)."""
    axis = either(axis, dim, "axis", "dim")
    with name_scope(name, "l2_normalize", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        if x.dtype.is_complex:
            total = reduce_sum(raw.Real(x * raw.Conj(x), Tout=x.dtype.real_dtype), axis, keepdims=True)
            inverse = raw.Rsqrt(raw.Maximum(total, epsilon))
            real, imag = raw.Real(x, Tout=x.dtype.real_dtype), raw.Imag(x, Tout=x.dtype.real_dtype)
            return raw.Complex(real * inverse, imag * inverse, Tout=x.dtype, name=scope)
        total = reduce_sum(raw.Square(x), axis, keepdims=True)
        return raw.Mul(x, raw.Rsqrt(raw.Maximum(total, epsilon)), name=scope)


def zero_fraction(value: Any, name: str | None = None) -> Any:
    """How many of the elements are zero, as a fraction: a float32 scalar, NaN if there are no elements."""
    with name_scope(name, "zero_fraction", [value]):
        tensor = convert_to_tensor(value, name="value")
        count = size(tensor, out_type=dtypes.int64)

        def nonzero(dtype: Any) -> Any:
            zero = convert_to_tensor(0, tensor.dtype.base_dtype)
            return reduce_sum(raw.Cast(raw.NotEqual(tensor, zero), DstT=dtype))

        # A small count is added up in 32 bits.
        found = cond(
            count <= dtypes.int32.max,
            lambda: raw.Cast(nonzero(dtypes.int32), DstT=dtypes.int64),
            lambda: nonzero(dtypes.int64),
        )
        with name_scope("counts_to_fraction"):
            zeros = raw.Cast(count - found, DstT=dtypes.float32)
            fraction = zeros / raw.Cast(count, DstT=dtypes.float32)
        return raw.Identity(fraction, name="fraction")
