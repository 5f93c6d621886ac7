"""Making tensors larger: Tile repeats them, Pad and PadV2 put a value around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.graph.indexed_slices import IndexedSlices
from engine.op.array import rank, reshape, size
from engine.op.array import shape as shape_of
from engine.op.kernels import filled, ints, invalid, shape_text
from engine.op.permute import transpose
from engine.op.ranges import range_
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import constant_value
from engine.op.stacking import stack
from engine.op.static_values import constant_ints
from engine.types.dtypes import DType
from engine.types.shape import TensorShape, unknown_shape

__all__ = ["pad", "tile"]

_INDEX = (np.int32, np.int64)


# Tile.


def _tile(k: Any, x: Any, multiples: Any) -> Any:
    times = ints(multiples)
    if len(times) != x.ndim:
        raise invalid(
            f"Expected multiples argument to be a vector of length {x.ndim} but got length {len(times)}"
        )
    for i, count in enumerate(times):
        if count < 0:
            raise invalid(f"Expected multiples[{i}] >= 0, but got {count}")
    return k.xp.tile(x, times)


def _tile_shape(node: Any) -> TensorShape:
    x, multiples = node.inputs
    length = multiples.shape.with_rank(1).as_list()[0]
    shape = x.shape if length is None else x.shape.with_rank(length)
    times = constant_ints(multiples)
    if shape.ndims is None and times is not None:
        shape = unknown_shape(len(times))
    dims = shape.dims_or_none
    if dims is None or times is None:
        return unknown_shape(shape.ndims)
    if any(count is not None and count < 0 for count in times):
        raise ValueError(f"Expected multiples >= 0, but got {list(times)}")
    return TensorShape.of(
        tuple(None if size is None or count is None else size * count for size, count in zip(dims, times))
    )


def _tile_grad(node: Any, g: Any) -> Any:
    """Fold each axis into (multiple, size) and sum over the multiples."""
    x, multiples = node.inputs
    x_shape = shape_of(x, out_type=multiples.dtype)
    folded = reshape(transpose(stack([multiples, x_shape])), [-1])
    axes = range_(0, size(folded), 2)
    if isinstance(g, IndexedSlices):
        # Rows of the same original row come together first, so that no dense gradient of the tiled shape is made.
        rows = raw.FloorMod(g.indices, raw.Cast(raw.GatherV2(x_shape, 0, 0), DstT=g.indices.dtype))
        g = raw.UnsortedSegmentSum(g.values, rows, raw.GatherV2(x_shape, 0, 0))
        folded = raw.ConcatV2([[1], raw.Slice(folded, [1], [-1])], 0)
    result = raw.Sum(reshape(g, folded), axes)
    result.set_shape(x.shape)
    return result, None


def _tiles(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, times) in enumerate(
        (((2, 3), (2, 1)), ((2, 3), (1, 3)), ((3,), (0,)), ((), ()), ((0, 2), (2, 2)), ((2, 1, 2), (2, 3, 1)))
    ):
        yield Sample(random_array(rng, dtype, shape), np.array(times, _INDEX[i % 2]))


def _tiled(x: Any, multiples: Any, **_: Any) -> Any:
    result = np.empty([size * int(count) for size, count in zip(x.shape, multiples, strict=True)], x.dtype)
    for position in np.ndindex(*result.shape):
        result[position] = x[tuple(i % size for i, size in zip(position, x.shape, strict=True))]
    return result


tile_op = op(
    "Tile(input: T, multiples: Tmultiples; T: type, Tmultiples: index = int32) -> output: T",
    kernel=_tile,
    shape=_tile_shape,
    grad=_tile_grad,
    samples=_tiles,
    reference=_tiled,
    memory={"multiples": HOST},
    int32_on_host=True,
)


# Pad and PadV2.


def margins_of(x: Any, paddings: Any) -> list[tuple[int, int]]:
    if paddings.ndim != 2 or paddings.shape[1] != 2:
        raise invalid(f"paddings must be a matrix with 2 columns: {shape_text(paddings.shape)}")
    if paddings.shape[0] != x.ndim:
        raise invalid(
            f"The first dimension of paddings must be the rank of inputs{shape_text(paddings.shape)} {shape_text(x.shape)}"
        )
    pairs = [(before, after) for before, after in paddings.tolist()]
    for before, after in pairs:
        if before < 0 or after < 0:
            raise invalid(f"Paddings must be non-negative: {before} {after}")
    return pairs


def _padded(k: Any, x: Any, paddings: Any, value: Any) -> Any:
    margins = margins_of(x, paddings)
    result = filled(k.xp, [a + size + b for size, (a, b) in zip(x.shape, margins)], x.dtype, value)
    result[(*(slice(a, a + size) for size, (a, _) in zip(x.shape, margins)), ...)] = x
    return result


def _pad_value(x: Any) -> Any:
    return b"" if x.dtype.hasobject else 0


def pad_shape(node: Any) -> TensorShape:
    x, paddings = node.inputs[0].shape, node.inputs[1]
    rows, _ = paddings.shape.merge_with(TensorShape.of((None, 2))).as_list()
    shape: TensorShape = x if rows is None else x.with_rank(rows)
    dims = shape.dims_or_none
    if dims is None:
        return shape
    pairs = known_margins(paddings, len(dims))
    result: list[int | None] = []
    for known, (before, after) in zip(dims, pairs):
        if (before is not None and before < 0) or (after is not None and after < 0):
            raise ValueError(f"Paddings must be non-negative: {before} {after}")
        result.append(None if known is None or before is None or after is None else before + known + after)
    return TensorShape.of(tuple(result))


def known_margins(paddings: Any, ndim: int) -> list[tuple[int | None, int | None]]:
    """What is known of each axis's (before, after), also where the matrix is stacked from rows of which some are constants."""
    value = constant_value(paddings)
    if value is not None:
        return [(before, after) for before, after in value.tolist()]
    if paddings.op.type == "Pack" and paddings.op.get_attr("axis") == 0:
        rows = [constant_ints(row) or (None, None) for row in paddings.op.inputs]
        return [(row[0], row[1]) for row in rows]
    return [(None, None)] * ndim


def _pad_grad(node: Any, g: Any) -> Any:
    x, paddings = node.inputs[:2]
    index_type = paddings.dtype.base_dtype
    before = raw.Slice(paddings, [0, 0], stack([rank(x), 1]))
    inner = raw.Slice(g, reshape(before, [-1]), shape_of(x, out_type=index_type))
    if len(node.inputs) == 2:
        return inner, None
    # The padding value takes all of the gradient that lies outside of x.
    return inner, None, raw.Sub(_total(g), _total(inner))


def _total(tensor: Any) -> Any:
    return raw.Sum(tensor, raw.Range(0, raw.Rank(tensor), 1))


def _pads(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, margins) in enumerate(
        (
            ((2, 3), [(1, 2), (0, 1)]), ((3,), [(0, 0)]), ((0, 2), [(1, 1), (0, 0)]), ((2, 1, 2), [(0, 1), (2, 0), (1, 1)]),
            ((), np.zeros((0, 2))),
        )
    ):  # fmt: skip
        yield Sample(random_array(rng, dtype, shape), np.array(margins, _INDEX[i % 2]))


def _pad_v2s(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for sample in _pads(rng, dtype):
        yield Sample(*sample.inputs, random_array(rng, dtype, ()))


def _pad_reference(x: Any, paddings: Any, value: Any = None, **_: Any) -> Any:
    if value is None:
        value = np.array(_pad_value(x), x.dtype)
    for axis, (before, after) in enumerate(np.asarray(paddings).tolist()):
        moved = list(np.moveaxis(x, axis, 0))
        row = np.empty(np.moveaxis(x, axis, 0).shape[1:], x.dtype)
        row[...] = value
        rows = [row] * int(before) + moved + [row] * int(after)
        x = np.moveaxis(np.stack(rows) if rows else np.moveaxis(x, axis, 0), 0, axis)
    return x


pad_op = op(
    "Pad(input: T, paddings: Tpaddings; T: type, Tpaddings: index = int32) -> output: T",
    kernel=lambda k, x, paddings: _padded(k, x, paddings, _pad_value(x)),
    shape=pad_shape,
    grad=_pad_grad,
    samples=_pads,
    reference=_pad_reference,
    memory={"paddings": HOST},
    int32_on_host=True,
)

pad_v2_op = op(
    "PadV2(input: T, paddings: Tpaddings, constant_values: T; T: type, Tpaddings: index = int32) -> output: T",
    kernel=_padded,
    shape=pad_shape,
    grad=_pad_grad,
    samples=_pad_v2s,
    reference=_pad_reference,
    memory={"paddings": HOST},
    int32_on_host=True,
)


# Under TensorFlow 1's names.


def tile(input: Any, multiples: Any, name: str | None = None) -> Any:
    """`input` repeated `multiples[i]` times along each axis i."""
    return raw.Tile(input, multiples, name=name)


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Any:
    """`tensor` with `paddings[i] = (before, after)` more entries along each axis i.

    mode CONSTANT: they are `constant_values`; REFLECT: the entries inside in reverse order, without the edge; SYMMETRIC: with it.
    Raises ValueError for another mode.
    """
    kind = mode.upper()
    if kind in ("REFLECT", "SYMMETRIC"):
        return raw.MirrorPad(tensor, paddings, mode=kind, name=name)
    if kind != "CONSTANT":
        raise ValueError(f"Unknown padding mode: {mode}. It must be CONSTANT, REFLECT or SYMMETRIC")
    if isinstance(constant_values, int | float) and constant_values == 0:
        return raw.Pad(tensor, paddings, name=name)
    return raw.PadV2(tensor, paddings, constant_values, name=name)
