"""Layout: networks in the order that the device prefers; the same results, and transposes at the ends only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_runs import same_bits, types
from searches import examples

import engine as tf
from engine.device.cpu import CPU
from engine.passes.settings import RewriterConfig


def run(fetches: list[Any], feeds: dict[Any, Any], preferred: str, *passes: str) -> tuple[list[Any], Any]:
    """The values, and the stage before partition, on two CPUs that prefer that layout, with these passes and `layout`."""
    rewriter = RewriterConfig(disable_meta_optimizer=True, passes=dict.fromkeys((*passes, "layout"), True))
    config = tf.ConfigProto(device_count={"CPU": 2}, graph_options=tf.GraphOptions(rewrite_options=rewriter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CPU, "layout", preferred)
        with tf.Session(graph=fetches[0].graph, config=config) as session:
            if fetches[0].graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
                session.run(tf.global_variables_initializer())
            values = session.run(fetches, feeds)
            stage = session.stage_for(fetches, list(feeds))
    return [np.asarray(value) for value in values], stage


def close(found: list[Any], wanted: list[Any]) -> None:
    for a, b in zip(found, wanted, strict=True):
        scale = float(np.abs(b).max(initial=1e-3))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * scale)


def orders(stage: Any) -> dict[str, set[str]]:
    """The data formats of the ops that have one, by op type."""
    found: dict[str, set[str]] = {}
    for node in stage:
        if "data_format" in node.attrs and node.output_shapes[0].ndims != 2:
            found.setdefault(node.type, set()).add(node.attrs["data_format"])
    return found


# Random networks.

_BLOCKS = ("conv", "bias", "relu", "pool", "average", "norm", "residual", "scale", "pad", "concat", "square")


@st.composite
def networks(draw: st.DrawFn) -> Any:
    blocks = draw(st.lists(st.sampled_from(_BLOCKS), min_size=2, max_size=8))
    return (
        blocks,
        draw(st.sampled_from(["mean", "flatten", "none"])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


def build(x: Any, network: Any, data_format: str, rng: np.random.Generator) -> list[Any]:
    blocks, end, gradients, _ = network
    nhwc = data_format == "NHWC"
    channel_axis = 3 if nhwc else 1
    h = x
    filters: list[Any] = []

    def channels() -> int:
        return h.shape.as_list()[channel_axis]

    def vector(n: int) -> Any:
        return rng.normal(size=n if nhwc else (n, 1, 1)).astype(np.float32)

    for block in blocks:
        if block == "conv":
            filters.append(tf.Variable(rng.normal(size=(2, 3, channels(), 3)).astype(np.float32) * 0.3))
            h = tf.nn.conv2d(h, filters[-1], 1, "SAME", data_format=data_format)
        elif block == "bias":
            h = tf.nn.bias_add(h, rng.normal(size=channels()).astype(np.float32), data_format=data_format)
        elif block == "relu":
            h = tf.nn.relu(h)
        elif block == "pool":
            h = tf.nn.max_pool(h, 2, 1, "SAME", data_format=data_format)
        elif block == "average":
            h = tf.nn.avg_pool(h, [2, 1], [1, 2], "SAME", data_format=data_format)
        elif block == "norm":
            n = channels()
            h = tf.nn.fused_batch_norm(
                h, np.ones(n, np.float32), np.zeros(n, np.float32), data_format=data_format
            )[0]
        elif block == "residual":
            h = h + tf.tanh(h)
        elif block == "scale":
            h = h * vector(channels()) + 0.5
        elif block == "pad":
            rows = [[0, 0], [1, 0], [0, 2], [0, 0]]
            h = tf.pad(h, rows if nhwc else [rows[i] for i in (0, 3, 1, 2)])
        elif block == "concat":
            h = tf.concat([h, -h], channel_axis)
        else:
            h = tf.square(h)
    image = h
    if end == "mean":
        h = tf.reduce_mean(h, [1, 2] if nhwc else [2, 3])
    elif end == "flatten":
        h = tf.reshape(h, [2, -1])
    loss = tf.reduce_sum(tf.sin(h) + h * h)  # whose gradient does not cancel behind a normalization
    found = tf.gradients(loss, [x, *filters]) if gradients else []
    return [loss, image, *(g for g in found if g is not None)]


@pytest.mark.parametrize("source", ["NHWC", "NCHW"])
@examples(8)
@given(network=networks(), seed=st.integers(0, 2**32 - 1))
def test_random_networks_give_the_same(source: str, network: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = {"NHWC": "NCHW", "NCHW": "NHWC"}[source]
    shape = (2, 5, 6, 3) if source == "NHWC" else (2, 3, 5, 6)
    with tf.Graph().as_default():
        x = tf.placeholder(
            tf.float32, [None, *shape[1:]] if network[3] and network[1] != "flatten" else shape
        )
        fetches = build(x, network, source, rng)
        feeds = {x: rng.normal(size=shape).astype(np.float32)}
        as_is, before = run(fetches, feeds, source)
        turned, after = run(fetches, feeds, other)
        fused, last = run(fetches, feeds, other, "remap", "fuse", "fold")
    assert "optimized/layout" not in [each.name for each in before.chain()]
    close(turned, as_is)
    close(fused, as_is)
    for stage in (after, last):
        for op_type, formats in orders(stage).items():
            if op_type.removeprefix("_Fused")[:4] in ("Conv", "MaxP", "AvgP") or "Norm" in op_type:
                assert formats == {other}, (op_type, formats)


# What is turned, and how often.


def lenet(x: Any) -> Any:
    h = x
    for i in range(2):
        channels = h.shape.as_list()[3]
        h = tf.nn.conv2d(h, np.full((3, 3, channels, 4), 0.1 + i, np.float32), 1, "SAME", name=f"conv{i}")
        h = tf.nn.max_pool(tf.nn.relu(tf.nn.bias_add(h, [0.1, -9.0, 0.3, 0.4])), 2, 2, "SAME")
    return h


def test_a_network_is_turned_once_at_each_end() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 8, 8, 1])
        y = lenet(x)
        feeds = {x: np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)}
        plain, _ = run([y], feeds, "NHWC")
        turned, stage = run([y], feeds, "NCHW")
    same_bits(turned, plain)
    assert types(stage).count("Transpose") == 2
    assert set().union(*orders(stage).values()) == {"NCHW"}
    node = stage.nodes["conv0/NCHW"]
    assert node.output_shapes[0].as_list() == [2, 4, 8, 8]
    assert stage.origin("conv0/NCHW") == ("conv0",)
    assert "in NCHW, which /job:localhost/replica:0/task:0/device:CPU:0 prefers" in node.lineage.reason
    assert stage.nodes["MaxPool/NCHW"].attrs["ksize"] == (1, 1, 2, 2)


def test_transposes_of_the_user_cancel() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 8, 8, 1])
        y = tf.transpose(lenet(x), [0, 3, 1, 2])
        feeds = {x: np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)}
        plain, _ = run([y], feeds, "NHWC")
        turned, stage = run([y], feeds, "NCHW")
    same_bits(turned, plain)
    assert types(stage).count("Transpose") == 1


def test_in_a_loop_and_in_a_branch() -> None:
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 4, 4, 2])
        flag = tf.placeholder(tf.bool, [])
        filters = tf.constant(rng.normal(size=(3, 3, 2, 2)).astype(np.float32))

        def body(i: Any, v: Any) -> Any:
            return i + 1, tf.tanh(tf.nn.conv2d(v, filters, 1, "SAME"))

        looped = tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]
        chosen = tf.cond(flag, lambda: tf.nn.avg_pool(looped, 2, 1, "SAME"), lambda: tf.nn.relu(looped))
        feeds = {x: rng.normal(size=(2, 4, 4, 2)).astype(np.float32)}
        for taken in (True, False):
            plain, _ = run([chosen], {**feeds, flag: taken}, "NHWC")
            turned, stage = run([chosen], {**feeds, flag: taken}, "NCHW")
            same_bits(turned, plain)
            assert orders(stage)["Conv2D"] == {"NCHW"} == orders(stage)["AvgPool"]


def test_an_error_names_the_op_of_the_user() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 4, 4, 2])
        bias = tf.placeholder(tf.float32, None)
        h = tf.nn.conv2d(x, np.ones((1, 1, 2, 3), np.float32), 1, "SAME")
        y = tf.nn.relu(tf.nn.bias_add(h, bias, name="the_bias"))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"as many biases") as caught:
            run([y], {x: np.ones((2, 4, 4, 2)), bias: np.ones(5)}, "NCHW")
    assert caught.value.op.name == "the_bias"
    assert 'name="the_bias"' in str(caught.value)


def test_a_matrix_has_no_layout() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 3])
        y = tf.nn.bias_add(x, [1.0, 2.0, 3.0])
        _, stage = run([y], {x: np.ones((2, 3))}, "NCHW")
    assert types(stage) == sorted(["Const", "BiasAdd", "_Arg", "_Retval"])
    assert "optimized/layout" not in [each.name for each in stage.chain()]


def test_a_convnet_trains_on_a_gpu_that_prefers_channels_first() -> None:
    """The whole way, on a modelled GPU: placed, turned, cut, run; beside one CPU without any pass."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 8, 8, 1)).astype(np.float32)
    losses = []
    for device in ("/cpu:0", "/gpu:0"):
        with tf.Graph().as_default(), tf.device(device):
            x = tf.placeholder(tf.float32, [4, 8, 8, 1])
            filters = tf.Variable(np.linspace(-1, 1, 36, dtype=np.float32).reshape(3, 3, 1, 4))
            bias = tf.Variable(np.zeros(4, np.float32))
            h = tf.nn.bias_add(tf.nn.conv2d(x, filters, 1, "SAME"), bias)
            h = tf.nn.fused_batch_norm(h, np.ones(4, np.float32), np.zeros(4, np.float32))[0]
            h = tf.nn.max_pool(tf.nn.relu(h), 2, 2, "SAME")
            loss = tf.reduce_mean(tf.square(tf.reduce_mean(h, [1, 2]) - 1.0))
            train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
            options = (
                {"gpu_options": tf.GPUOptions(modelled=True), "device_count": {"GPU": 1}}
                if "gpu" in device
                else {}
            )
            with tf.Session(config=tf.ConfigProto(allow_soft_placement=True, **options)) as session:
                session.run(tf.global_variables_initializer())
                losses.append([session.run([loss, train], {x: images})[0] for _ in range(5)])
                chain = [each.name for each in session.stage_for([loss, train], [x]).chain()]
        assert ("optimized/layout" in chain) == ("gpu" in device)
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize("how", ["bias_add", "addition"])
def test_what_has_been_turned_is_fused(how: str) -> None:
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 8, 8, 3])
        bias = tf.placeholder(tf.float32, [4])
        product = tf.nn.conv2d(x, rng.normal(size=(3, 3, 3, 4)).astype(np.float32), 1, "SAME")
        y = tf.nn.relu(tf.nn.bias_add(product, bias) if how == "bias_add" else product + bias)
        feeds = {x: rng.normal(size=(2, 8, 8, 3)).astype(np.float32), bias: [0.1, -9.0, 0.3, 0.4]}
        plain, _ = run([y], feeds, "NHWC")
        turned, stage = run([y], feeds, "NCHW", "remap")
    same_bits(turned, plain)
    (node,) = [node for node in stage if node.type == "_FusedConv2D"]
    assert node.attrs["data_format"] == "NCHW" and node.attrs["fused_ops"] == ("BiasAdd", "Relu")
    assert not {"Reshape", "AddV2", "BiasAdd", "Relu"} & set(types(stage))
