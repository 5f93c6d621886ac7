"""What the batch normalization ops are proven on, and references that take one channel after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.samples import Sample, random_array
from engine.types import dtypes

if TYPE_CHECKING:
    from engine.types.dtypes import DType


def channel(data_format: str, rank: int) -> int:
    """Which dimension the channels are: the last, or the second in formats that begin with NC."""
    return 1 if data_format.startswith("NC") else rank - 1


def _cases(
    rng: np.random.Generator, dtype: DType, rank5: bool
) -> Iterator[tuple[Any, list[Any], dict[str, Any]]]:
    def vectors(channels: int) -> list[Any]:
        found = [random_array(rng, dtypes.float32, (channels,)) for _ in range(4)]
        return [*found[:3], np.abs(found[3]) + np.float32(0.5)]

    layouts: list[tuple[tuple[int, ...], str]] = [((2, 3, 4, 2), "NHWC"), ((2, 3, 2, 2), "NCHW")]
    if rank5:
        layouts += [((2, 2, 2, 3, 2), "NDHWC"), ((2, 2, 2, 2, 3), "NCDHW")]
    for shape, data_format in layouts:
        channels = shape[channel(data_format, len(shape))]
        x = random_array(rng, dtype, shape)
        for training in (True, False):
            attrs = {"data_format": data_format, "is_training": training, "epsilon": 0.0078125}
            yield x, vectors(channels), attrs
    yield (
        random_array(rng, dtype, (3, 2, 2, 2)),
        vectors(2),
        {"exponential_avg_factor": 0.25, "epsilon": 0.0078125},
    )
    yield random_array(rng, dtype, (1, 1, 1, 2)), vectors(2), {"epsilon": 0.0078125}


def forward_samples(rank5: bool) -> Any:
    def samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None
        for x, (scale, offset, mean, variance), attrs in _cases(rng, dtype, rank5):
            if attrs.get("is_training", True) and "exponential_avg_factor" not in attrs:
                mean = variance = np.zeros((0,), np.float32)
            yield Sample(x, scale, offset, mean, variance, attrs=attrs, grad=())

    return samples


def backward_samples(rank5: bool, with_third: bool) -> Any:
    def samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None
        for x, (scale, _, mean, variance), attrs in _cases(rng, dtype, rank5):
            if "exponential_avg_factor" in attrs or x.shape[0] == 1:
                continue
            rest = [np.zeros((), np.float32)] if with_third else []
            yield Sample(
                random_array(rng, dtype, x.shape), x, scale, mean, variance, *rest, attrs=attrs, grad=()
            )

    return samples


def _bychannel(x: Any, data_format: str) -> Any:
    """[channels, everything else], in float64."""
    axis = channel(data_format, x.ndim)
    return np.moveaxis(np.asarray(x, np.float64), axis, 0).reshape(x.shape[axis], -1)


def _back(rows: Any, like: Any, data_format: str) -> Any:
    axis = channel(data_format, like.ndim)
    moved = np.moveaxis(np.empty(like.shape), axis, 0).shape
    return np.moveaxis(np.asarray(rows).reshape(moved), 0, axis)


def forward_reference(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any,
    variance: Any,
    epsilon: float = 1e-4,
    exponential_avg_factor: float = 1.0,
    data_format: str = "NHWC",
    is_training: bool = True,
) -> tuple[Any, ...]:
    rows, kept = [], []
    for c, row in enumerate(_bychannel(x, data_format)):
        m, v = (np.mean(row), np.var(row)) if is_training else (mean[c], variance[c])
        rows.append([(value - m) / (v + epsilon) ** 0.5 * scale[c] + offset[c] for value in row])
        if is_training:
            population = np.var(row, ddof=1) if len(row) > 1 else 0.0
            blend = exponential_avg_factor
            old = (mean[c], variance[c]) if blend != 1.0 else (0.0, 0.0)
            kept.append((old[0] + blend * (m - old[0]), old[1] + blend * (population - old[1]), m, v))
        else:
            kept.append((m, v, m, v))
    return _back(rows, x, data_format), *(np.array(column) for column in zip(*kept, strict=True))


def backward_reference(
    gradient: Any,
    x: Any,
    scale: Any,
    mean: Any,
    variance: Any,
    *_: Any,
    epsilon: float = 1e-4,
    data_format: str = "NHWC",
    is_training: bool = True,
) -> tuple[Any, ...]:
    """By the chain rule through y = s · (x - m)/√(v + ε), then m and v as functions of x."""
    rows, to_scale, to_offset = [], [], []
    for c, (g, row) in enumerate(
        zip(_bychannel(gradient, data_format), _bychannel(x, data_format), strict=True)
    ):
        deviation = (variance[c] + epsilon) ** 0.5
        normalized = (row - mean[c]) / deviation
        direct = g * scale[c] / deviation
        if is_training:
            to_mean = -direct.sum()
            to_variance = -0.5 * (direct * normalized).sum() / deviation
            direct = direct + to_mean / len(row) + to_variance * 2 * (row - mean[c]) / len(row)
        rows.append(direct)
        to_scale.append((g * normalized).sum())
        to_offset.append(g.sum())
    none = np.zeros(0)
    return _back(rows, x, data_format), np.array(to_scale), np.array(to_offset), none, none


def v3_reference(*inputs: Any, **attrs: Any) -> tuple[Any, ...]:
    return (*forward_reference(*inputs, **attrs), np.zeros(()))
