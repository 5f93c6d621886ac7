"""Layers as one kernel: the same bits (or, where constants are folded, stated ulps), fewer nodes, gradients included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_runs import run, same_bits, types
from searches import examples

import engine as tf
from engine.passes.settings import RewriterConfig
from engine.types import errors

FUSED = {"_FusedMatMul", "_FusedConv2D", "_FusedBatchNormEx"}


def activation(name: str, x: Any) -> Any:
    return tf.nn.leaky_relu(x, 0.3) if name == "leaky_relu" else getattr(tf.nn, name)(x)


def biased(how: str, x: Any, bias: Any) -> Any:
    """The two ways to write a bias, the second in both orders."""
    return {"bias_add": lambda: tf.nn.bias_add(x, bias), "add": lambda: x + bias, "radd": lambda: bias + x}[
        how
    ]()


ACTIVATIONS = ["relu", "relu6", "elu", "leaky_relu", "tanh", "sigmoid", "softplus"]
HOW = ["bias_add", "add", "radd"]


@st.composite
def networks(draw: st.DrawFn) -> Any:
    """(convolutional layers, dense layers, whether there are gradients); a layer: outputs, how biased, normalized, activation."""
    layer = st.tuples(
        st.integers(1, 4),
        st.sampled_from(HOW),
        st.sampled_from(["", "training", "inference"]),
        st.sampled_from(ACTIVATIONS),
    )
    return (
        draw(st.lists(layer, max_size=2)),
        draw(st.lists(layer, min_size=1, max_size=3)),
        draw(st.booleans()),
    )


def build(network: Any, x: Any, rng: np.random.Generator) -> Any:
    convolutional, dense, gradients = network
    variables = []

    def variable(*shape: int) -> Any:
        variables.append(tf.Variable(rng.normal(size=shape).astype(np.float32)))
        return variables[-1]

    h = x
    for outputs, how, normalized, function in convolutional:
        h = tf.nn.conv2d(h, variable(2, 2, h.shape.as_list()[3], outputs), 1, "SAME")
        if normalized:
            extra = (
                [tf.constant([0.5] * outputs), tf.constant([1.5] * outputs)]
                if normalized == "inference"
                else []
            )
            scale, offset = variable(outputs), variable(outputs)
            h = tf.nn.fused_batch_norm(h, scale, offset, *extra, is_training=not extra)[0]
        else:
            h = biased(how, h, variable(outputs))
        h = activation(function, h)
    h = tf.reshape(h, [-1, int(np.prod(h.shape.as_list()[1:]))])
    for outputs, how, _, function in dense:
        h = activation(
            function, biased(how, tf.matmul(h, variable(h.shape.as_list()[1], outputs)), variable(outputs))
        )
    loss = tf.reduce_mean(tf.square(h))
    return [loss, *(tf.gradients(loss, variables) if gradients else [])]


@examples(10)
@given(networks(), st.integers(0, 2**32 - 1))
def test_random_networks_and_their_gradients_have_the_same_bits(network: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 4, 4, 2])
        fetches = [tensor for tensor in build(network, x, rng) if tensor is not None]
        feeds = {x: rng.normal(size=(2, 4, 4, 2)).astype(np.float32)}
        plain, before = run(fetches, feeds)
        remapped, after = run(fetches, feeds, "remap")
        both, fewest = run(fetches, feeds, "remap", "fuse")
    same_bits(remapped, plain)
    same_bits(both, plain)
    assert FUSED & set(types(after))
    assert len(fewest) <= len(after) < len(before)


def test_a_dense_layer_is_one_node_that_knows_its_sources() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3, 4], name="x")
        y = tf.nn.relu(
            tf.add(tf.matmul(x, np.ones((4, 2), np.float32), name="product"), [1.0, -5.0]), name="layer"
        )
        (value,), stage = run([y], {x: np.arange(12.0).reshape(3, 4)}, "remap")
    node = stage.nodes["layer"]
    assert (node.type, node.attrs["fused_ops"], node.attrs["num_args"]) == (
        "_FusedMatMul",
        ("BiasAdd", "Relu"),
        1,
    )
    assert set(stage.origin("layer")) == {"product", "Add", "layer"}
    assert node.lineage.reason == "MatMul + AddV2 + Relu as one kernel"
    np.testing.assert_array_equal(value, [[7, 1], [23, 17], [39, 33]])


def test_what_is_fetched_or_shared_ends_the_layer() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3, 4])
        product = tf.matmul(x, np.ones((4, 2), np.float32))
        y = tf.nn.relu(tf.nn.bias_add(product, [1.0, 2.0]))
        _, stage = run([y, product], {x: np.ones((3, 4))}, "remap")
        assert not FUSED & set(types(stage))
        middle = tf.nn.bias_add(tf.matmul(x, np.ones((4, 2), np.float32)), [1.0, 2.0], name="middle")
        _, stage = run([tf.nn.relu(middle), tf.exp(middle)], {x: np.ones((3, 4))}, "remap")
        assert stage.nodes["middle"].attrs["fused_ops"] == ("BiasAdd",)
        assert "Relu" in types(stage)


def test_a_matrix_that_is_added_is_no_bias() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 2])
        _, stage = run([tf.matmul(x, x) + np.ones((2, 2), np.float32)], {x: np.eye(2)}, "remap")
        assert "MatMul" in types(stage)
        _, stage = run([tf.matmul(x, x) + np.float32(1)], {x: np.eye(2)}, "remap")
        assert "MatMul" in types(stage)


def test_a_residual_block_is_one_convolution() -> None:
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 5, 5, 3])
        filters = rng.normal(size=(3, 3, 3, 3)).astype(np.float32)
        h = tf.nn.bias_add(tf.nn.conv2d(x, filters, 1, "SAME"), [0.1, 0.2, 0.3])
        y = tf.nn.relu(x + h, name="block")
        feeds = {x: rng.normal(size=(2, 5, 5, 3)).astype(np.float32)}
        plain, _ = run([y], feeds)
        fused, stage = run([y], feeds, "remap")
    same_bits(fused, plain)
    assert stage.nodes["block"].attrs["fused_ops"] == ("BiasAdd", "Add", "Relu")


def test_the_part_that_fails_is_named() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 3])
        bias = tf.placeholder(tf.float32, None)
        y = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, np.ones((3, 4), np.float32)), bias, name="the_bias"))
        with pytest.raises(errors.InvalidArgumentError, match=r"as many biases.*\[5\] vs\. 4") as caught:
            run([y], {x: np.ones((2, 3)), bias: np.ones(5)}, "remap")
    assert caught.value.op.name == "the_bias"
    assert 'name="the_bias"' in str(caught.value)


# Folding normalization into constants.


def normalized(x: Any, rng: np.random.Generator, bias: bool, data_format: str) -> tuple[Any, Any]:
    """A convolution with constant parameters and its normalization; and the same in float64, by the definitions."""
    filters = rng.normal(size=(3, 3, 3, 5)).astype(np.float32)
    shift, scale, offset, mean = (rng.normal(size=5).astype(np.float32) for _ in range(4))
    variance = rng.uniform(0.3, 2, 5).astype(np.float32)
    h = tf.nn.conv2d(x, tf.constant(filters), 1, "VALID", data_format=data_format)
    if bias:
        h = tf.nn.bias_add(h, tf.constant(shift), data_format=data_format)
    parameters = [tf.constant(each) for each in (scale, offset, mean, variance)]
    h = tf.nn.fused_batch_norm(h, *parameters, epsilon=0.01, is_training=False, data_format=data_format)[0]

    def reference(images: Any) -> Any:
        wide = images.astype(np.float64)
        wide = wide if data_format == "NHWC" else np.moveaxis(wide, 1, 3)
        out = sum(
            np.einsum("nhwc,co->nhwo", wide[:, i : i + 4, j : j + 4], filters[i, j].astype(np.float64))
            for i in range(3)
            for j in range(3)
        )
        out = out + (shift if bias else 0)
        out = (out - mean) / np.sqrt(variance.astype(np.float64) + 0.01) * scale + offset
        return np.maximum(out if data_format == "NHWC" else np.moveaxis(out, 3, 1), 0)

    return tf.nn.relu(h, name="y"), reference


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_normalization_is_folded_where_rounding_may_differ(bias: bool, data_format: str) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 6, 6, 3) if data_format == "NHWC" else (2, 3, 6, 6)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, shape)
        y, reference = normalized(x, rng, bias, data_format)
        images = rng.normal(size=shape).astype(np.float32)
        plain, before = run([y], {x: images})
        exact, kept = run([y], {x: images}, "remap")
        folded, after = run([y], {x: images}, "remap", remapping=RewriterConfig.AGGRESSIVE)
    same_bits(exact, plain)
    assert after.nodes["y"].attrs["fused_ops"] == ("BiasAdd", "Relu")
    assert len(after) < len(kept) < len(before)
    wanted = reference(images)
    # Sums of 27 products of size about 10: a few dozen roundings of the largest partial sum.
    bound = 32 * np.finfo(np.float32).eps * np.abs(wanted).max()
    assert np.abs(folded[0] - wanted).max() < bound
    assert np.abs(plain[0] - wanted).max() < bound


def test_normalization_in_training_is_not_folded() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 4, 4, 3])
        h = tf.nn.conv2d(x, np.ones((1, 1, 3, 2), np.float32), 1, "SAME")
        y, mean, _ = tf.nn.fused_batch_norm(h, tf.constant([1.0, 2.0]), tf.constant([0.0, 1.0]))
        feeds = {x: np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)}
        fetches = [tf.nn.relu(y), mean]
        plain, _ = run(fetches, feeds)
        found, stage = run(fetches, feeds, "remap", remapping=RewriterConfig.AGGRESSIVE)
    same_bits(found, plain)
    assert {"Conv2D", "_FusedBatchNormEx"} <= set(types(stage)) and "Relu" not in types(stage)
