"""Putting reflections around a tensor: MirrorPad and its gradient.

Mode REFLECT leaves out the edge itself, SYMMETRIC repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.op.kernels import invalid
from engine.op.padding import known_margins, margins_of, pad_shape
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__: list[str] = []

_INDEX = (np.int32, np.int64)

_MODES = "mode: {'REFLECT', 'SYMMETRIC'}"


def _mirror_margins(k: Any, shape: Any, x: Any, paddings: Any) -> tuple[list[tuple[int, int]], int]:
    margins = margins_of(x, paddings)
    skip = int(k.attrs["mode"] == "REFLECT")
    for size, (before, after) in zip(shape, margins):
        if max(before, after) > size - skip:
            comparison = ("no greater than", "greater than") if not skip else ("less than", "not less than")
            raise invalid(
                f"paddings must be {comparison[0]} the dimension size: {before}, {after} {comparison[1]} {size}"
            )
    return margins, skip


def _mirror_pad(k: Any, x: Any, paddings: Any) -> Any:
    margins, skip = _mirror_margins(k, x.shape, x, paddings)
    for axis, (before, after) in enumerate(margins):
        if before or after:
            # Position i of the result shows position source[i] of x.
            steps = k.xp.arange(-before, x.shape[axis] + after)
            source = k.xp.where(steps < 0, -steps - 1 + skip, steps)
            last = x.shape[axis] - 1
            source = k.xp.where(source > last, 2 * last - source + 1 - skip, source)
            x = k.xp.take(x, source, axis=axis)
    return x


def _mirror_pads(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (shape, margins) in enumerate(
        (((3, 4), [(1, 2), (0, 3)]), ((2,), [(1, 1)]), ((3, 2), [(0, 0), (0, 0)]))
    ):
        for mode in ("REFLECT", "SYMMETRIC"):
            yield Sample(
                random_array(rng, dtype, shape), np.array(margins, _INDEX[i % 2]), attrs={"mode": mode}
            )
    yield Sample(random_array(rng, dtype, (2,)), np.array([(2, 2)], np.int32), attrs={"mode": "SYMMETRIC"})


def _mirror_reference(x: Any, paddings: Any, mode: str, **_: Any) -> Any:
    margins = [(int(before), int(after)) for before, after in paddings]
    return np.pad(x, margins, mode="reflect" if mode == "REFLECT" else "symmetric")


mirror_pad_op = op(
    f"MirrorPad(input: T, paddings: Tpaddings; T: type, Tpaddings: index = int32, {_MODES}) -> output: T",
    kernel=_mirror_pad,
    shape=pad_shape,
    grad=lambda node, g: (raw.MirrorPadGrad(g, node.inputs[1], mode=node.attrs["mode"]), None),
    samples=_mirror_pads,
    reference=_mirror_reference,
    memory={"paddings": HOST},
)


def _mirror_pad_grad(k: Any, g: Any, paddings: Any) -> Any:
    """Add the gradient of each reflection to that of what it reflects."""
    shape = [size - before - after for size, (before, after) in zip(g.shape, margins_of(g, paddings))]
    margins, skip = _mirror_margins(k, shape, g, paddings)
    for axis, (before, after) in enumerate(margins):
        if not (before or after):
            continue
        moved = k.xp.moveaxis(g, axis, 0)
        size = shape[axis]
        inner = moved[before : before + size].copy()
        inner[skip : skip + before] += moved[:before][::-1]
        inner[size - skip - after : size - skip] += moved[before + size :][::-1]
        g = k.xp.moveaxis(inner, 0, axis)
    return g


def _mirror_grads(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for sample in _mirror_pads(rng, dtype):
        x, paddings = sample.inputs
        shape = [size + int(a) + int(b) for size, (a, b) in zip(x.shape, paddings)]  # type: ignore[union-attr]
        yield Sample(random_array(rng, dtype, shape), paddings, attrs=sample.attrs)


def _mirror_grad_reference(g: Any, paddings: Any, mode: str, **_: Any) -> Any:
    """Scatter by index: pad the positions of the small array, then sum what landed on each."""
    shape = [size - int(a) - int(b) for size, (a, b) in zip(g.shape, paddings)]
    positions = _mirror_reference(np.arange(int(np.prod(shape))).reshape(shape), paddings, mode)
    result = np.zeros(int(np.prod(shape)), g.dtype)
    for position, value in zip(positions.ravel(), g.ravel()):
        result[position] += value
    return result.reshape(shape)


def _mirror_grad_shape(node: Any) -> TensorShape:
    dims = node.inputs[0].shape.dims_or_none
    if dims is None:
        return TensorShape.of(None)
    pairs = known_margins(node.inputs[1], len(dims))
    return TensorShape.of(
        tuple(
            None if size is None or a is None or b is None else size - a - b
            for size, (a, b) in zip(dims, pairs)
        )
    )


mirror_pad_grad_op = op(
    f"MirrorPadGrad(input: T, paddings: Tpaddings; T: numbers, Tpaddings: index = int32, {_MODES}) -> output: T",
    kernel=_mirror_pad_grad,
    shape=_mirror_grad_shape,
    grad=lambda node, g: (raw.MirrorPad(g, node.inputs[1], mode=node.attrs["mode"]), None),
    samples=_mirror_grads,
    reference=_mirror_grad_reference,
    memory={"paddings": HOST},
)
