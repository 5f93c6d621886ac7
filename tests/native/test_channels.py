"""Native channel sums, moments and batch normalization against NumPy and the ops' own kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from native_kernels import run, unaligned

import engine as tf  # noqa: F401  # fills the registry
from engine.native import channels, compiler
from engine.native.kernel import NativeKernel
from engine.op.registry import lookup

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())
SHAPES = [
    ((2, 3, 4, 5), "NHWC"), ((3, 11, 9, 20), "NHWC"), ((2, 3, 4, 5), "NCHW"), ((5, 2, 3, 11), "NCHW"), ((1, 1, 1, 3), "NHWC"),
    ((2, 3, 2, 2, 3), "NDHWC"), ((2, 3, 2, 2, 3), "NCDHW"), ((40, 5, 5, 1), "NHWC"), ((3, 2, 1, 1), "NCHW"),
    ((1, 20, 20, 70), "NHWC"),
]  # fmt: skip


def call(
    kernel: NativeKernel | None, inputs: list[Any], outputs: list[Any], chunk: int | None = 3
) -> list[Any]:
    assert kernel is not None
    run(kernel, [*map(unaligned, inputs), *outputs], chunk)
    return outputs


def axes_of(shape: tuple[int, ...], data_format: str) -> tuple[int, ...]:
    axis = len(shape) - 1 if data_format.endswith("C") else 1
    return tuple(i for i in range(len(shape)) if i != axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (100, 32), (300, 33), (5, 200), (1000, 3), (2, 64)])
def test_column_sums_have_numpys_bits(shape: tuple[int, int], dtype: Any) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    (found,) = call(channels.column_sums(*shape, dtype), [x], [np.empty(shape[1], dtype)], 1)
    np.testing.assert_array_equal(found, x.sum(axis=0) if shape[1] > 1 else found)
    np.testing.assert_allclose(found, x.astype(np.float64).sum(axis=0), rtol=1e-4, atol=1e-5)
    (mean,) = call(channels.column_sums(*shape, dtype, mean=True), [x], [np.empty(shape[1], dtype)])
    np.testing.assert_array_equal(mean, found / dtype(shape[0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape,data_format", SHAPES)
def test_sums_and_moments(shape: tuple[int, ...], data_format: str, dtype: Any) -> None:
    x = (np.random.default_rng(2).normal(size=shape) + 2).astype(dtype)
    axes = axes_of(shape, data_format)
    wide = x.astype(np.float64)
    space = np.empty(wide.sum(axes).shape, dtype)
    tight = {"rtol": 40 * float(np.finfo(dtype).eps), "atol": 10 * float(np.finfo(dtype).eps)}
    (found,) = call(channels.channel_sums(shape, dtype, data_format), [x], [space])
    np.testing.assert_allclose(found, wide.sum(axes), **tight)
    mean, variance = call(channels.moments(shape, dtype, data_format), [x], [space.copy(), space.copy()])
    np.testing.assert_allclose(mean, wide.mean(axes), **tight)
    np.testing.assert_allclose(variance, wide.var(axes), **tight)


def by_the_op(type: str, attrs: dict[str, Any], *inputs: Any) -> Any:
    opdef = lookup(type)
    assert opdef is not None and opdef.kernel is not None
    return opdef.kernel(SimpleNamespace(xp=np, attrs=attrs, op=None), *inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("training,factor", [(True, 1.0), (True, 0.25), (False, 1.0)])
@pytest.mark.parametrize("shape,data_format", SHAPES)
def test_batch_norm(shape: tuple[int, ...], data_format: str, training: bool, factor: float) -> None:
    rng = np.random.default_rng(3)
    x = (rng.normal(size=shape) * 2 + 1).astype(np.float32)
    count = shape[-1] if data_format.endswith("C") else shape[1]
    vectors = [np.abs(rng.normal(size=count)).astype(np.float32) + np.float32(0.5) for _ in range(4)]
    attrs = {
        "epsilon": 1e-3,
        "exponential_avg_factor": factor,
        "is_training": training,
        "data_format": data_format,
    }
    expected = by_the_op("FusedBatchNormV2", attrs, x, *vectors)
    kernel = channels.batch_norm(shape, 1e-3, training=training, factor=factor, data_format=data_format)
    outputs = [np.empty_like(x), *(np.empty(count, np.float32) for _ in range(4))]
    found = call(kernel, [x, *vectors], outputs)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)
    held = x.copy()
    assert kernel is not None
    run(kernel, [held, *vectors, held, *outputs[1:]])
    np.testing.assert_array_equal(held, found[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape,data_format", SHAPES)
def test_batch_norm_gradient(shape: tuple[int, ...], data_format: str, training: bool) -> None:
    rng = np.random.default_rng(4)
    g, x = rng.normal(size=(2, *shape)).astype(np.float32)
    count = shape[-1] if data_format.endswith("C") else shape[1]
    axes = axes_of(shape, data_format)
    vectors = [rng.normal(size=count).astype(np.float32), x.mean(axes), x.var(axes)]
    attrs = {"epsilon": 1e-3, "is_training": training, "data_format": data_format}
    wide = [each.astype(np.float64) for each in (g, x, *vectors)]
    expected = by_the_op("FusedBatchNormGradV2", attrs, *wide)[:3]
    kernel = channels.batch_norm_gradient(shape, 1e-3, training=training, data_format=data_format)
    outputs = [np.empty_like(x), *(np.empty(count, np.float32) for _ in range(2))]
    for mine, theirs in zip(call(kernel, [g, x, *vectors], outputs), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_large_means_do_not_spoil_the_variance() -> None:
    x = (np.random.default_rng(5).normal(size=(30, 10, 10, 8)) + 1000).astype(np.float32)
    mean, variance = call(
        channels.moments(x.shape, np.float32), [x], [np.empty(8, np.float32) for _ in range(2)]
    )
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 1, 2)), rtol=1e-4)


def test_none() -> None:
    assert channels.batch_norm((0, 2, 2, 3), 1e-3) is None
    assert channels.column_sums(0, 3, np.float32) is None
    assert channels.moments((2, 3), np.int32) is None
