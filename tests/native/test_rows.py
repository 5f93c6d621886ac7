"""Native softmax, cross entropies and layer normalization against float64 and the ops' kernels; gradients by differences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import run, unaligned

import engine as tf  # noqa: F401  # fills the registry
from engine.native import compiler, layer_norm, rows
from engine.native.kernel import NativeKernel
from engine.op.registry import lookup

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
DTYPES = [np.float32, np.float64]
SHAPES = [(5, 10), (3, 1), (4, 16), (2, 7, 33), (1000,), (3, 129), (9, 3)]


def by_the_op(type: str, *inputs: Any) -> Any:
    opdef = lookup(type)
    assert opdef is not None and opdef.kernel is not None
    with np.errstate(all="ignore"):
        return opdef.kernel(SimpleNamespace(xp=np, attrs={}, op=None), *inputs)  # type: ignore[arg-type]


def close(found: Any, exact: Any, units: float = 16, scale: Any = 0) -> None:
    """Within `units` in the last place of the result, or of `scale` where terms cancel."""
    eps = np.finfo(found.dtype).eps
    exact = np.asarray(exact, np.float64)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(exact))
    finite = np.isfinite(exact)
    room = units * eps * np.maximum(np.abs(exact), np.broadcast_to(scale, exact.shape))
    tiny = float(np.finfo(found.dtype).tiny)
    assert np.all(np.abs(found - exact)[finite] <= room[finite] + tiny), np.abs(found - exact)[finite].max()


def call(
    kernel: NativeKernel | None, inputs: list[Any], outputs: list[Any], chunk: int | None = 2
) -> list[Any]:
    assert kernel is not None
    run(kernel, [*map(unaligned, inputs), *outputs], chunk)
    return outputs


def logits(shape: Any, dtype: Any, seed: int = 1) -> Any:
    return (np.random.default_rng(seed).normal(size=shape) * 5).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape: tuple[int, ...], dtype: Any) -> None:
    x = logits(shape, dtype)
    wide = x.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    exact = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    (found,) = call(rows.softmax(shape, dtype), [x], [np.empty_like(x)])
    close(found, exact, 60)  # of what is far below the maximum, the distance is rounded
    (logarithm,) = call(rows.log_softmax(shape, dtype), [x], [np.empty_like(x)])
    close(logarithm, shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), scale=np.abs(shifted).max())
    held = x.copy()
    kernel = rows.softmax(shape, dtype)
    assert kernel is not None and kernel.overwrites == {0: (0,)}
    run(kernel, [held, held])
    np.testing.assert_array_equal(held, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 8, 40])
def test_special_logits(width: int, dtype: Any) -> None:
    x = np.zeros((9, width), dtype)
    x[0, 0], x[1, 1], x[2, 2], x[3] = np.nan, np.inf, -np.inf, -np.inf
    x[4, 0], x[4, 1] = 1e4, -1e4
    x[5, -1], x[6, -1] = np.nan, np.inf
    x[7], x[8] = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    for op, make in (("Softmax", rows.softmax), ("LogSoftmax", rows.log_softmax)):
        (found,) = call(make(x.shape, dtype), [x], [np.empty_like(x)])
        np.testing.assert_allclose(found, by_the_op(op, x), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax_gradient(logarithm: bool, dtype: Any) -> None:
    for shape in SHAPES:
        y, g = logits(shape, dtype) / 10, logits(shape, dtype, 2)
        kernel = rows.softmax_gradient(shape, dtype, logarithm=logarithm)
        (found,) = call(kernel, [y, g], [np.empty_like(y)])
        wide, slope = y.astype(np.float64), g.astype(np.float64)
        if logarithm:
            exact = slope - slope.sum(-1, keepdims=True) * np.exp(wide)
        else:
            exact = (slope - (slope * wide).sum(-1, keepdims=True)) * wide
        close(found, exact, scale=np.abs(slope).sum(-1, keepdims=True) * 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 10), (3, 1), (128, 7), (4, 130), (2, 16)])
def test_cross_entropy(shape: tuple[int, int], dtype: Any) -> None:
    x = logits(shape, dtype)
    labels = np.abs(logits(shape, dtype, 3)) + dtype(0.1)
    labels /= labels.sum(1, keepdims=True)
    loss, back = call(
        rows.cross_entropy(*shape, dtype), [x, labels], [np.empty(shape[0], dtype), np.empty_like(x)]
    )
    wide, target = x.astype(np.float64), labels.astype(np.float64)
    log_p = wide - wide.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    close(loss, -(target * log_p).sum(1), scale=np.abs(log_p).max())
    close(back, np.exp(log_p) - target, scale=1)
    for found, expected in zip(
        (loss, back), by_the_op("SoftmaxCrossEntropyWithLogits", x, labels), strict=True
    ):
        close(found, expected, scale=np.abs(log_p).max())


@pytest.mark.parametrize("label_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 10), (3, 1), (128, 7), (4, 130)])
def test_sparse_cross_entropy(shape: tuple[int, int], dtype: Any, label_dtype: Any) -> None:
    x = logits(shape, dtype)
    labels = np.random.default_rng(4).integers(0, shape[1], shape[0]).astype(label_dtype)
    kernel = rows.sparse_cross_entropy(*shape, dtype, label_dtype)
    outputs = [np.empty(shape[0], dtype), np.empty_like(x), np.full(1, 99, np.int64)]
    loss, back, wrong = call(kernel, [x, labels], outputs)
    assert wrong[0] == 0
    expected = by_the_op("SparseSoftmaxCrossEntropyWithLogits", x, labels)
    close(loss, expected[0], scale=10)
    close(back, expected[1], scale=1)
    for place, bad in ((shape[0] - 1, shape[1]), (1, -1)):
        labels[place] = bad
        call(kernel, [x, labels], outputs)
        assert wrong[0] == place + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 8, 19])
def test_special_values_in_cross_entropies(width: int, dtype: Any) -> None:
    x = np.zeros((6, width), dtype)
    x[0, 0], x[1, 1], x[2, 2], x[3], x[4, 0], x[5, -1] = np.nan, np.inf, -np.inf, -np.inf, 1e4, -1e4
    labels = np.zeros_like(x)
    labels[:, 1] = 1
    outputs = [np.empty(6, dtype), np.empty_like(x)]
    found = call(rows.cross_entropy(*x.shape, dtype), [x, labels], outputs)
    for mine, theirs in zip(found, by_the_op("SoftmaxCrossEntropyWithLogits", x, labels), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    for label in range(3):
        wanted = np.full(6, label, np.int64)
        found = call(
            rows.sparse_cross_entropy(*x.shape, dtype), [x, wanted], [*outputs, np.empty(1, np.int64)]
        )[:2]
        for mine, theirs in zip(
            found, by_the_op("SparseSoftmaxCrossEntropyWithLogits", x, wanted), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.integers(1, 70), st.sampled_from(DTYPES), st.integers(1, 7))
def test_random_sizes(count: int, width: int, dtype: Any, chunk: int) -> None:
    x = logits((count, width), dtype, count + width)
    (found,) = call(rows.softmax(x.shape, dtype), [x], [np.empty_like(x)], chunk)
    close(found, by_the_op("Softmax", x))


def test_none_and_nothing() -> None:
    assert rows.softmax((), np.float32) is None
    assert rows.softmax((2, 3), np.float16) is None
    assert rows.cross_entropy(3, 0, np.float32) is None
    assert rows.sparse_cross_entropy(3, 2, np.float32, np.int16) is None
    call(rows.softmax((0, 3), np.float32), [np.empty((0, 3), np.float32)], [np.empty((0, 3), np.float32)])
    call(rows.softmax((3, 0), np.float32), [np.empty((3, 0), np.float32)], [np.empty((3, 0), np.float32)])


# Layer normalization.


def normalized(x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
    center, spread = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (x - center) / np.sqrt(spread + epsilon) * scale + offset


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 8), (70, 33), (5, 100), (2, 3)])
def test_layer_norm(shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x = (rng.normal(size=shape) * 3 + 1).astype(dtype)
    scale, offset = rng.normal(size=(2, shape[1])).astype(dtype)
    outputs = [np.empty_like(x), np.empty(shape[0], dtype), np.empty(shape[0], dtype)]
    y, mean, variance = call(layer_norm.layer_norm(*shape, 1e-3, dtype), [x, scale, offset], outputs)
    wide = x.astype(np.float64)
    close(y, normalized(wide, scale, offset, 1e-3), scale=10)
    close(mean, wide.mean(1), scale=3)
    close(variance, wide.var(1))
    center, spread = call(layer_norm.moments(*shape, dtype), [x], [np.empty_like(mean), np.empty_like(mean)])
    np.testing.assert_array_equal(center, mean)
    np.testing.assert_array_equal(spread, variance)


@pytest.mark.parametrize("shape", [(3, 8), (70, 5), (40, 19)])
def test_layer_norm_gradient(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    x, g = rng.normal(size=(2, *shape))
    scale, offset = rng.normal(size=(2, shape[1]))
    inputs = [g, x, scale, x.mean(1), x.var(1)]
    outputs = [np.empty_like(x), np.empty_like(scale), np.empty_like(scale)]
    found = call(layer_norm.layer_norm_gradient(*shape, 1e-3, np.float64), inputs, outputs, 1)
    for which, at in enumerate((x, scale, offset)):
        step = np.zeros_like(at)
        for index in list(np.ndindex(at.shape))[::7]:
            step[index] = 1e-6
            moved = [
                (at + sign * step if i == which else each)
                for sign in (1, -1)
                for i, each in enumerate((x, scale, offset))
            ]
            slope = (g * (normalized(*moved[:3], 1e-3) - normalized(*moved[3:], 1e-3))).sum() / 2e-6
            np.testing.assert_allclose(found[which][index], slope, rtol=1e-5, atol=1e-7)
            step[index] = 0
    single = [each.astype(np.float32) for each in inputs]
    close_enough = call(
        layer_norm.layer_norm_gradient(*shape, 1e-3, np.float32),
        single,
        [each.astype(np.float32) for each in outputs],
    )
    for mine, exact in zip(close_enough, found, strict=True):
        np.testing.assert_allclose(mine, exact, rtol=1e-4, atol=1e-5)
