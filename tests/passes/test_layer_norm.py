"""Layer normalization found in the graph: the bits of the ops apart, and only where nothing else needs a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pass_runs import run, same_bits, types

import engine as tf

EPSILON = 1e-3


def by_moments(x: Any, scale: Any, offset: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON)


def _statistics(x: Any) -> tuple[Any, Any]:
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    centered = x - mean
    return centered, tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)


def _scaled(normal: Any, scale: Any, offset: Any) -> Any:
    normal = normal if scale is None else scale * normal
    return normal if offset is None else normal + offset


def by_root(x: Any, scale: Any, offset: Any) -> Any:
    centered, variance = _statistics(x)
    return _scaled(centered / tf.sqrt(variance + EPSILON), scale, offset)


def by_inverse(x: Any, scale: Any, offset: Any) -> Any:
    centered, variance = _statistics(x)
    return _scaled(tf.rsqrt(EPSILON + variance) * centered, scale, offset)


def by_gain(x: Any, scale: Any, offset: Any) -> Any:
    centered, variance = _statistics(x)
    gain = tf.rsqrt(variance + EPSILON)
    gain = gain if scale is None else gain * scale
    return _scaled(centered * gain, None, offset)


def by_both(x: Any, scale: Any, offset: Any) -> Any:
    """The mean from `moments`, whose square is a SquaredDifference, subtracted by hand."""
    mean, variance = tf.nn.moments(x, [x.shape.ndims - 1], keep_dims=True)
    return _scaled((x - mean) / tf.sqrt(variance + EPSILON), scale, offset)


WAYS = (by_moments, by_root, by_inverse, by_gain, by_both)


def feed(shape: Any, dtype: str = "float32") -> Any:
    return (np.random.default_rng(0).normal(size=shape) * 3 + 1).astype(dtype)


def vector(size: int, seed: int, dtype: str) -> Any:
    return np.random.default_rng(seed).normal(size=size).astype(dtype)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("has_scale", "has_offset"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_every_way_of_writing_it_has_the_bits_of_the_ops(
    way: Callable[..., Any], dtype: str, has_scale: bool, has_offset: bool
) -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(dtype, [None, 3, 7])
        scale = vector(7, 1, dtype) if has_scale else None
        offset = vector(7, 2, dtype) if has_offset else None
        y = tf.identity(way(x, scale, offset), name="end")
        feeds = {x: feed((2, 3, 7), dtype)}
        plain, _ = run([y], feeds)
        fused, stage = run([y], feeds, "remap")
    same_bits(fused, plain)
    (node,) = [node for node in stage if node.type == "_FusedLayerNorm"]
    assert (node.attrs["has_scale"], node.attrs["has_offset"]) == (has_scale, has_offset)
    assert "Mean" not in types(stage)
    wide = feeds[x].astype(np.float64)
    wanted = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + EPSILON)
    wanted = wanted * (1 if scale is None else scale) + (0 if offset is None else offset)
    np.testing.assert_allclose(fused[0], wanted, rtol=1e-4, atol=1e-5)


def test_it_knows_its_sources_and_says_why() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 8], name="x")
        y = by_moments(x, vector(8, 1, "float32"), vector(8, 2, "float32"))
        _, stage = run([y], {x: feed((4, 8))}, "remap")
    (node,) = [node for node in stage if node.type == "_FusedLayerNorm"]
    assert node.name == y.op.name
    assert {"moments/mean", "moments/variance", "batchnorm/Rsqrt", "batchnorm/add_1"} <= set(
        stage.origin(node.name)
    )
    assert node.lineage.reason == "11 ops that normalize along the last axis as one kernel"
    assert "part of 'batchnorm/add_1'" in next(
        each.removed["moments/mean"] for each in stage.chain() if "moments/mean" in each.removed
    )


def count(build: Callable[[Any], Any], shape: Any = (None, 8), **options: Any) -> int:
    """How many normalizations are found in what `build` makes; the values are those of the graph as written."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, shape)
        made = build(x)
        fetches = made if isinstance(made, list) else [made]
        feeds = {x: feed([4 if size is None else size for size in shape])}
        plain, _ = run(fetches, feeds)
        found, stage = run(fetches, feeds, "remap", **options)
    same_bits(found, plain)
    return types(stage).count("_FusedLayerNorm")


def test_one_after_the_other_are_two() -> None:
    gain, shift = vector(8, 1, "float32"), vector(8, 2, "float32")
    assert count(lambda x: by_moments(by_root(x, gain, shift), gain, shift)) == 2
    assert count(lambda x: by_root(by_moments(x, None, None), None, None)) == 2
    assert count(lambda x: by_moments(x, gain, shift) + by_inverse(x, shift, gain)) == 2


def test_what_is_needed_elsewhere_stays() -> None:
    def fetched(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
        return [tf.nn.batch_normalization(x, mean, variance, None, None, EPSILON), variance]

    def awaited(x: Any) -> Any:
        centered, variance = _statistics(x)
        y = centered / tf.sqrt(variance + EPSILON)
        with tf.control_dependencies([variance]):
            return [y, tf.identity(x)]

    def differentiated(x: Any) -> Any:
        y = by_moments(x, vector(8, 1, "float32"), vector(8, 2, "float32"))
        return [y, *tf.gradients(y, x)]

    for build in (fetched, awaited, differentiated):
        assert count(build) == 0


def test_what_is_something_else_stays() -> None:
    def other_axis(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [0], keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, None, EPSILON)

    def other_mean(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
        other = tf.reduce_mean(x, axis=0, keepdims=True)
        return tf.nn.batch_normalization(x, other, variance, None, None, EPSILON)

    def both_axes(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [0, 1], keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, None, EPSILON)

    def epsilon_by_row(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, None, np.full((4, 1), 0.5, np.float32))

    def scaled_twice(x: Any) -> Any:
        scale = tf.constant(vector(8, 1, "float32"))
        return by_gain(x, scale, None) * scale

    for build in (other_axis, other_mean, both_axes, epsilon_by_row):
        assert count(build) == 0
    assert count(lambda x: by_moments(x, None, None), (None, None)) == 1
    assert count(scaled_twice) == 1  # the second product is its own node


def test_a_scale_that_broadcasts_otherwise_is_the_programs() -> None:
    assert count(lambda x: by_root(x, tf.constant(2.0), np.ones((4, 1), np.float32))) == 1


def test_an_error_names_the_op_that_failed() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, None])
        scale = tf.placeholder(tf.float32, [None])
        y = by_root(x, scale, None)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes") as caught:
            run([y], {x: feed((4, 8)), scale: feed((3,))}, "remap")
    assert caught.value.node_def is None or "mul" in str(caught.value)
