"""Gradients of broadcasting ops: what is summed, and which nodes it takes where static shapes are known or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.types import errors


def types_of(graph: tf.Graph, scope: str = "gradients") -> list[str]:
    return [op.type for op in graph.get_operations() if op.name.startswith(scope) and op.type != "Const"]


SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), ()),
    ((2, 1), (1, 3)),
    ((1, 3), (4, 2, 1)),
    ((0, 3), (1, 3)),
    ((2, 1), (1, 0)),
    ((1,), (1, 1)),
]


@pytest.mark.parametrize("mask", ["known", "unknown dimensions", "unknown rank"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_gradient_has_the_operands_shape_and_sums_what_was_stretched(shapes: Any, mask: str) -> None:
    a, b = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes))
    static = {
        "known": lambda shape: shape,
        "unknown dimensions": lambda shape: [None] * len(shape),
        "unknown rank": lambda shape: None,
    }[mask]
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = (tf.placeholder(tf.float64, static(shape)) for shape in shapes)
        product = x * y
        weight = np.random.default_rng(2).normal(size=np.broadcast_shapes(*shapes))
        found = session.run(tf.gradients(product, [x, y], tf.constant(weight)), {x: a, y: b})
    for gradient, own, other in ((found[0], a, b), (found[1], b, a)):
        assert gradient.shape == own.shape
        whole = weight * np.broadcast_to(other, weight.shape)
        whole = whole.reshape((1,) * (weight.ndim - whole.ndim) + whole.shape)
        padded = (1,) * (weight.ndim - own.ndim) + own.shape
        axes = tuple(i for i in range(weight.ndim) if padded[i] == 1)
        np.testing.assert_allclose(gradient, whole.sum(axes).reshape(own.shape))


def test_equal_static_shapes_are_not_summed() -> None:
    with tf.Graph().as_default() as graph:
        x, y = tf.placeholder(tf.float32, [2, 3]), tf.placeholder(tf.float32, [2, 3])
        tf.gradients(x + y, [x, y])
        assert not {"Sum", "Reshape", "BroadcastGradientArgs"} & set(types_of(graph))


def test_a_bias_is_summed_over_what_it_lacks_without_asking_at_run_time() -> None:
    with tf.Graph().as_default() as graph:
        x, bias = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [3])
        g = tf.gradients(x + bias, [bias])[0]
        assert types_of(graph).count("Sum") == 1
        assert "BroadcastGradientArgs" not in types_of(graph)
        assert g.shape.as_list() == [3]


def test_unknown_shapes_are_worked_out_at_run_time() -> None:
    with tf.Graph().as_default() as graph:
        x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
        gx, gy = tf.gradients(x * y, [x, y])
        assert "BroadcastGradientArgs" in types_of(graph)
        with tf.Session() as session:
            found = session.run([gx, gy], {x: [2.0], y: [1.0, 2.0, 3.0]})
        np.testing.assert_array_equal(found[0], [6.0])
        np.testing.assert_array_equal(found[1], [2.0, 2.0, 2.0])


def test_incompatible_shapes_are_named() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        with pytest.raises(errors.InvalidArgumentError, match=r"\[2,3\] vs. \[2,4\]"):
            session.run(tf.raw_ops.BroadcastGradientArgs([2, 3], [2, 4]))
        x, y = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
        with pytest.raises(errors.InvalidArgumentError, match=r"\[2\] vs. \[3\]"):
            session.run(x + y, {x: [1, 2], y: [1, 2, 3]})
