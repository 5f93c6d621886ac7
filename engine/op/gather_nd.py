"""Picking slices by the indices of their first few axes: GatherNd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.op.array import rank, reshape
from engine.op.array import shape as shape_of
from engine.op.kernels import invalid, require, shape_text
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types import errors
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["gather_nd"]


def check_nd_indices(k: Any, indices: Any, shape: Sequence[int], what: str) -> None:
    """Raise InvalidArgumentError, naming the first row of `indices` (shape [..., K]) that is not an index into `shape`."""
    limits = k.xp.asarray(shape[: indices.shape[-1]], dtype=np.int64)
    bad = ((indices < 0) | (indices >= limits)).any(axis=-1)

    def explain() -> errors.InvalidArgumentError:
        position = tuple(int(places[0]) for places in bad.nonzero()) if bad.ndim else ()
        place = f"[{','.join(map(str, position))}]" if position else ""
        row = ", ".join(str(i) for i in indices[position].tolist())
        return invalid(f"indices{place} = [{row}] does not index into {what}{shape_text(shape)}")

    require(k, bad, explain)


def _gather_nd(k: Any, params: Any, indices: Any) -> Any:
    if indices.ndim < 1:
        raise invalid("indices must be at least a vector")
    depth = indices.shape[-1]
    if depth > params.ndim:
        raise invalid(
            f"index innermost dimension length must be <= params rank; saw: {depth} vs. {params.ndim}"
        )
    check_nd_indices(k, indices, params.shape, "param shape ")
    if depth == 0:
        return k.xp.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    return params[(*(indices[..., i] for i in range(depth)), ...)]


def _gather_nd_shape(node: Any) -> TensorShape:
    params, indices = node.inputs
    picks = indices.shape.with_rank_at_least(1).dims_or_none
    if picks is None or picks[-1] is None or params.shape.ndims is None:
        return TensorShape.of(None)
    if picks[-1] > params.shape.ndims:
        raise ValueError(
            f"indices of shape {indices.shape} name {picks[-1]} axes of params of shape {params.shape}"
        )
    return TensorShape.of((*picks[:-1], *params.shape.dims_or_none[picks[-1] :]))


def _gather_nd_grad(node: Any, g: Any) -> Any:
    params, indices = node.inputs
    dims = indices.shape.dims_or_none
    if dims is not None and len(dims) == 2 and dims[-1] == 1:  # whole rows
        return IndexedSlices(g, raw.Squeeze(indices, squeeze_dims=[-1]), shape_of(params)), None
    return raw.ScatterNd(indices, g, shape_of(params, out_type=indices.dtype.base_dtype)), None


def _gather_nds(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, indices) in enumerate(
        (
            ((3, 4), [[0, 1], [2, 3]]), ((3, 4), [[2], [0]]), ((3, 4), [1, 2]), ((2, 3, 2), [[[0, 1]], [[1, 2]]]),
            ((2, 2), np.zeros((3, 0))),
            ((2, 2), np.zeros((0, 2))),
        )
    ):  # fmt: skip
        yield Sample(random_array(rng, dtype, shape), np.array(indices, (np.int32, np.int64)[i % 2]))


def _picked_nd(params: Any, indices: Any, **_: Any) -> Any:
    result = np.empty((*indices.shape[:-1], *params.shape[indices.shape[-1] :]), params.dtype)
    for position in np.ndindex(*indices.shape[:-1]):
        result[(*position, ...)] = params[(*indices[position].tolist(), ...)]
    return result


gather_nd_op = op(
    "GatherNd(params: Tparams, indices: Tindices; Tparams: type, Tindices: {int16, int32, int64}, "
    "bad_indices_policy: string = '') "
    "-> output: Tparams",
    kernel=_gather_nd,
    shape=_gather_nd_shape,
    grad=_gather_nd_grad,
    samples=_gather_nds,
    reference=_picked_nd,
)


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Any:
    """The slices (or elements) of `params` at each row of `indices`, an int tensor [..., K] that names its first K axes.

    The first `batch_dims` dimensions of both are paired up.  An index out of range raises InvalidArgumentError when run.
    """
    if batch_dims == 0:
        return raw.GatherNd(params, indices, name=name)
    return _batch_gather_nd(params, indices, batch_dims, name)


def _batch_gather_nd(params: Any, indices: Any, batch_dims: int, name: str | None) -> Any:
    """As `gather_nd`, with each row of indices completed by the position of its batch."""
    with name_scope(name, "GatherNd", [params, indices]) as scope:
        picks = convert_to_tensor(indices, name="indices")
        index_type = picks.dtype.base_dtype
        dims = shape_of(picks, out_type=index_type)
        lead = raw.Slice(dims, [0], [batch_dims])
        one = np.array(1, index_type.np_dtype)
        count = raw.Prod(lead, [0])
        # Row r of the flattened batches gets its position along every batch axis.
        flat = raw.Range(np.array(0, index_type.np_dtype), count, one)
        columns = []
        for axis in range(batch_dims - 1, -1, -1):
            size = raw.GatherV2(dims, axis, 0)
            columns.append(raw.FloorMod(flat, size))
            flat = raw.FloorDiv(flat, size)
        grid = raw.Pack(columns[::-1], axis=1)
        inner_rank = raw.Sub(rank(picks), batch_dims)
        ones = raw.Fill(raw.Reshape(raw.Sub(inner_rank, 1), [1]), np.array(1, index_type.np_dtype))
        grid = reshape(grid, raw.ConcatV2([lead, ones, np.array([batch_dims], index_type.np_dtype)], 0))
        repeats = raw.ConcatV2(
            [
                raw.OnesLike(lead),
                raw.Slice(dims, [batch_dims], raw.Reshape(raw.Sub(inner_rank, 1), [1])),
                [1],
            ],
            0,
        )
        return raw.GatherNd(params, raw.ConcatV2([raw.Tile(grid, repeats), picks], -1), name=scope)
