"""Convolution and pooling: larger images than the samples', arguments, static shapes, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.op import im2col

RNG = np.random.default_rng(0)


def run(*tensors: Any) -> Any:
    with tf.Session() as session:
        return session.run(list(tensors))


def correlate(images: Any, filters: Any, stride: tuple[int, int], pads: Any) -> Any:
    """By windows, in float64: for each output pixel one tensordot."""
    padded = np.pad(images.astype(np.float64), ((0, 0), *pads, (0, 0)))
    kh, kw = filters.shape[:2]
    rows = range(0, padded.shape[1] - kh + 1, stride[0])
    columns = range(0, padded.shape[2] - kw + 1, stride[1])
    return np.stack(
        [
            np.stack([np.tensordot(padded[:, i : i + kh, j : j + kw], filters, 3) for j in columns], axis=1)
            for i in rows
        ],
        axis=1,
    )


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", ["VALID", "EXPLICIT"])
def test_many_images_in_several_pieces(
    stride: tuple[int, int], padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(im2col, "_CACHED_BYTES", 40_000)  # a few images at a time
    images = RNG.normal(size=(17, 9, 11, 3)).astype(np.float32)
    filters = RNG.normal(size=(3, 4, 3, 5)).astype(np.float32)
    pads = ((0, 0), (0, 0)) if padding == "VALID" else ((2, 1), (0, 3))
    given = padding if padding == "VALID" else [[0, 0], *map(list, pads), [0, 0]]
    x, w = tf.constant(images), tf.constant(filters)
    y = tf.nn.conv2d(x, w, strides=[1, *stride, 1], padding=given)
    expected = correlate(images, filters, stride, pads)
    assert y.shape.as_list() == list(expected.shape)
    weights = RNG.normal(size=expected.shape)
    to_x, to_w = tf.gradients(y, [x, w], grad_ys=tf.constant(weights.astype(np.float32)))
    value, to_x, to_w = run(y, to_x, to_w)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    # The gradients by moving one pixel and one weight: a convolution is linear in each.
    for place in ((0, 0, 0, 0), (5, 4, 7, 2), (16, 8, 10, 1), (9, 0, 10, 0)):
        moved = np.zeros_like(images)
        moved[place] = 1
        assert to_x[place] == pytest.approx(
            (correlate(moved, filters, stride, pads) * weights).sum(), rel=1e-3, abs=1e-3
        )
    for place in ((0, 0, 0, 0), (2, 3, 2, 4), (1, 2, 0, 3)):
        moved = np.zeros_like(filters)
        moved[place] = 1
        assert to_w[place] == pytest.approx(
            (correlate(images, moved, stride, pads) * weights).sum(), rel=1e-3, abs=1e-3
        )


def test_same_padding_puts_the_odd_zero_behind() -> None:
    x = tf.reshape(tf.range(1.0, 5.0), [1, 1, 4, 1])
    w = tf.reshape(tf.constant([1.0, 10.0]), [1, 2, 1, 1])
    (value,) = run(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"))
    assert value.ravel().tolist() == [21, 32, 43, 4]


def test_both_data_formats_say_the_same() -> None:
    images, filters = RNG.normal(size=(2, 6, 7, 3)), RNG.normal(size=(3, 2, 3, 4))
    last = tf.nn.conv2d(tf.constant(images), tf.constant(filters), [1, 2, 1, 1], "SAME")
    first = tf.nn.conv2d(
        tf.constant(images.transpose(0, 3, 1, 2)),
        tf.constant(filters),
        [1, 1, 2, 1],
        "SAME",
        data_format="NCHW",
    )
    a, b = run(last, first)
    np.testing.assert_allclose(a, b.transpose(0, 2, 3, 1), rtol=1e-12)


@pytest.mark.parametrize("strides", [2, [2], [2, 2], [1, 2, 2, 1]])
def test_ways_to_say_strides(strides: Any) -> None:
    x, w = tf.zeros([1, 8, 8, 1]), tf.zeros([3, 3, 1, 1])
    assert tf.nn.conv2d(x, w, strides, "SAME").shape.as_list() == [1, 4, 4, 1]
    assert tf.nn.max_pool(x, 2, strides, "SAME").shape.as_list() == [1, 4, 4, 1]


def test_the_transpose_is_the_gradient() -> None:
    """<conv(x), y> = <x, transpose(y)> for every x and y."""
    x, y = RNG.normal(size=(2, 7, 7, 3)), RNG.normal(size=(2, 4, 4, 2))
    w = tf.constant(RNG.normal(size=(3, 3, 3, 2)))
    forward = tf.nn.conv2d(tf.constant(x), w, [1, 2, 2, 1], "SAME")
    back = tf.nn.conv2d_transpose(tf.constant(y), w, [2, 7, 7, 3], [1, 2, 2, 1])
    assert back.shape.as_list() == [2, 7, 7, 3]
    a, b = run(forward, back)
    assert (a * y).sum() == pytest.approx((x * b).sum())


def test_static_shapes_with_unknown_sizes() -> None:
    x, w = tf.placeholder(tf.float32, [None, None, 8, 3]), tf.placeholder(tf.float32, [3, 3, 3, None])
    assert tf.nn.conv2d(x, w, 1, "SAME").shape.as_list() == [None, None, 8, None]
    assert tf.nn.conv2d(x, w, 2, "VALID").shape.as_list() == [None, None, 3, None]
    anything = tf.placeholder(tf.float32, None)
    assert tf.nn.conv2d(anything, w, 1, "SAME").shape.as_list() == [None] * 4
    assert tf.nn.avg_pool(x, 2, 2, "VALID").shape.as_list() == [None, None, 4, 3]


@pytest.mark.parametrize(
    ("image", "window", "keywords", "message"),
    [
        ((1, 2, 2, 1), (3, 3, 1, 1), {"padding": "VALID"}, "Negative dimension"),
        ((1, 4, 4, 3), (3, 3, 2, 1), {"padding": "SAME"}, "Depth of input"),
        ((1, 4, 4), (3, 3, 1, 1), {"padding": "SAME"}, "rank"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "SAME", "strides": [2, 1, 1, 1]}, "batch and channel"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "SAME", "strides": [1, 0, 1, 1]}, "positive"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "SAME", "strides": [1, 1, 1]}, "length 1, 2 or 4"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "FULL"}, "padding"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": [[0, 0], [1, 1], [1, 1], [1, 0]]}, "batch and channel"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": [[0, 0], [1, 1]]}, "4 pairs"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": None}, "padding"),
    ],
)
def test_convolutions_that_cannot_be(image: Any, window: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tf.nn.conv2d(tf.zeros(image), tf.zeros(window), **{"strides": 1, **keywords})


def test_errors_while_running() -> None:
    x, w, g = (tf.placeholder(tf.float32, None) for _ in range(3))
    y = tf.nn.conv2d(x, w, [1, 2, 2, 1], "VALID")
    back = tf.nn.conv2d_backprop_input([1, 5, 5, 1], w, g, [1, 1, 1, 1], "VALID")
    pooled = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError, match="evenly divisible by filter depth: 3 vs 2"):
            session.run(y, {x: np.zeros((1, 4, 4, 3)), w: np.zeros((2, 2, 2, 1))})
        with pytest.raises(tf.errors.InvalidArgumentError, match="would be negative"):
            session.run(y, {x: np.zeros((1, 1, 4, 1)), w: np.zeros((5, 2, 1, 1))})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"4-dimensional: \[4,4,1\]"):
            session.run(y, {x: np.zeros((4, 4, 1)), w: np.zeros((2, 2, 1, 1))})
        with pytest.raises(tf.errors.InvalidArgumentError, match="out_backprop"):
            session.run(back, {w: np.zeros((2, 2, 1, 1)), g: np.zeros((1, 5, 5, 1))})
        with pytest.raises(tf.errors.InvalidArgumentError, match="4-dimensional"):
            session.run(pooled, {x: np.zeros((2, 2))})


def test_pooling_along_channels_is_refused_when_it_runs() -> None:
    x = tf.zeros([1, 2, 2, 4])
    pooled = tf.nn.max_pool(x, [1, 1, 1, 2], [1, 1, 1, 1], "VALID")
    with pytest.raises(tf.errors.UnimplementedError, match="height and width"):
        run(pooled)


def test_empty_batches() -> None:
    x, w = tf.zeros([0, 5, 5, 2]), tf.zeros([3, 3, 2, 4])
    y = tf.nn.conv2d(x, w, 1, "SAME")
    z = tf.nn.max_pool(y, 2, 2, "SAME")
    value, to_w = run(z, tf.gradients(z, w)[0])
    assert value.shape == (0, 3, 3, 4)
    np.testing.assert_array_equal(to_w, np.zeros((3, 3, 2, 4)))


def test_max_pooling_sends_the_gradient_of_a_tie_to_the_first() -> None:
    x = tf.ones([1, 2, 4, 1])
    y = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    (gradient,) = run(tf.gradients(y, x)[0])
    assert gradient[0, :, :, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_average_pooling_does_not_count_padding() -> None:
    x = tf.ones([1, 3, 3, 1])
    (value,) = run(tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"))
    np.testing.assert_array_equal(value, np.ones((1, 2, 2, 1)))


def test_gradients_of_gradients() -> None:
    """Of a small network with convolution and both poolings: against finite differences in float64."""
    start = RNG.permutation(2 * 6 * 6 * 2).reshape(2, 6, 6, 2) / 20.0
    kernel = RNG.normal(size=(3, 3, 2, 2))
    x, w = tf.placeholder(tf.float64, [2, 6, 6, 2]), tf.constant(kernel)
    y = tf.nn.avg_pool(tf.nn.max_pool(tf.nn.conv2d(x, w, 1, "SAME"), 2, 2, "VALID"), 2, 1, "SAME")
    (first,) = tf.gradients(tf.reduce_sum(y * y), x)
    total = tf.reduce_sum(first * first)
    (second,) = tf.gradients(total, x)
    with tf.Session() as session:
        exact = session.run(second, {x: start})
        for place in ((0, 0, 0, 0), (1, 3, 2, 1), (0, 5, 5, 0)):
            step = np.zeros_like(start)
            step[place] = 1e-5
            slope = (session.run(total, {x: start + step}) - session.run(total, {x: start - step})) / 2e-5
            assert exact[place] == pytest.approx(slope, rel=1e-5, abs=1e-5)
