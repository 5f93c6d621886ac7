"""Two models trained over several devices, all passes on: the same losses as on one device with none, bit for bit on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optimizing import same_bits
from pipeline_programs import alone
from schedules import Shuffled, driven_by

import engine as tf

STEPS = 20
On = Callable[[int], str]


def convnet(on: On) -> tuple[Any, Any]:
    """Convolution, batch normalization, pooling, a dense layer; Momentum."""
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 8, 8, 1)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 3, 8))
    with tf.device(on(0)):
        filters = tf.Variable(rng.normal(size=(3, 3, 1, 4)).astype(np.float32) * 0.3, name="filters")
        scale = tf.Variable(tf.ones([4]), name="scale")
        offset = tf.Variable(tf.zeros([4]), name="offset")
        hidden = tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME")
        hidden, _, _ = tf.nn.fused_batch_norm(hidden, scale, offset)
        pooled = tf.nn.max_pool(tf.nn.relu(hidden), [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    with tf.device(on(1)):
        weights = tf.Variable(rng.normal(size=(64, 3)).astype(np.float32) * 0.3, name="weights")
        bias = tf.Variable(tf.zeros([3]), name="bias")
        logits = tf.matmul(tf.reshape(pooled, [8, 64]), weights) + bias
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    train = tf.train.MomentumOptimizer(0.02, 0.9).minimize(loss, colocate_gradients_with_ops=True)
    return loss, train


def rnn(on: On) -> tuple[Any, Any]:
    """A loop over time that reads rows from a TensorArray and writes outputs to another."""
    rng = np.random.default_rng(2)
    rows = tf.constant(rng.normal(size=(6, 4, 3)).astype(np.float32))  # time, batch, features
    with tf.device(on(0)):
        inner = tf.Variable(rng.normal(size=(3, 6)).astype(np.float32) * 0.5, name="inner")
        around = tf.Variable(rng.normal(size=(6, 6)).astype(np.float32) * 0.5, name="around")
    with tf.device(on(1)):
        out = tf.Variable(rng.normal(size=(6, 2)).astype(np.float32) * 0.5, name="out")
    given = tf.TensorArray(tf.float32, size=6).unstack(rows)

    def body(t: Any, state: Any, made: Any) -> Any:
        with tf.device(on(0)):
            state = tf.tanh(tf.matmul(given.read(t), inner) + tf.matmul(state, around))
        with tf.device(on(1)):
            output = tf.matmul(state, out)
        return t + 1, state, made.write(t, output)

    with tf.device(on(0)):
        _, _, made = tf.while_loop(
            lambda t, *_: t < 6, body, (0, tf.zeros([4, 6]), tf.TensorArray(tf.float32, size=6))
        )
    with tf.device(on(1)):
        loss = tf.reduce_mean(tf.square(made.stack() - 1.0))
    return loss, tf.train.MomentumOptimizer(0.05, 0.9).minimize(loss, colocate_gradients_with_ops=True)


def losses(build: Callable[[On], Any], config: Any, on: On, devices: int) -> list[Any]:
    """The losses of 20 steps; the step must have been on so many devices (0: on any)."""
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        tf.set_random_seed(7)
        loss, train = build(on)
        session.run(tf.global_variables_initializer())
        found = [session.run([loss, train])[0] for _ in range(STEPS)]
        assert not devices or len(session.stage_for([loss, train]).devices) == devices
    return found


def anywhere(number: int) -> str:
    return ""


MODELS = [convnet, rnn]


@pytest.mark.parametrize("build", MODELS)
def test_two_cpus(build: Any) -> None:
    want = losses(build, replace(alone(), exact=True), anywhere, 1)
    assert want[-1] < 0.8 * want[0]
    for threads in (1, 0, 3):
        config = tf.ConfigProto(
            device_count={"CPU": 2},
            inter_op_parallelism_threads=threads,
            expensive_kernel_ns=5_000,
            exact=True,
        )
        got = losses(build, config, lambda number: f"/cpu:{number}", 2)
        assert all(same_bits(a, b) for a, b in zip(want, got, strict=True)), (threads, want, got)


@pytest.mark.parametrize("build", MODELS)
def test_four_cpus_placed_greedily(build: Any) -> None:
    want = losses(build, replace(alone(), exact=True), anywhere, 1)
    got = losses(build, tf.ConfigProto(device_count={"CPU": 4}, placement="greedy", exact=True), anywhere, 0)
    assert all(same_bits(a, b) for a, b in zip(want, got, strict=True)), (want, got)


@pytest.mark.parametrize("build", MODELS)
def test_a_cpu_and_a_modelled_gpu(build: Any) -> None:
    """The same, but for the order in which a GPU adds, over 20 steps."""
    want = losses(build, replace(alone(), exact=True), anywhere, 1)
    config = tf.ConfigProto(
        device_count={"CPU": 2, "GPU": 1}, gpu_options=tf.GPUOptions(modelled=True), allow_soft_placement=True
    )
    got = losses(build, config, lambda number: ("/gpu:0", "/cpu:1")[number], 3)
    np.testing.assert_allclose(got, want, rtol=2e-4)


def test_the_gradient_of_a_map_on_one_device_in_a_loop_on_another() -> None:
    """The stacks of the map's arrays are with what they hold: nobody asked for the two devices in one place."""
    x = tf.placeholder(tf.float64, [3, 2])

    def row(value: Any) -> Any:
        with tf.device("/cpu:0"):
            return tf.tanh(value) * 2.0

    with tf.device("/cpu:1"):
        _, y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, tf.map_fn(row, a)), [0, x])
    (first,) = tf.gradients(tf.reduce_sum(y), x)
    (second,) = tf.gradients(tf.reduce_sum(first * first), x)
    found = []
    for config in (tf.ConfigProto(allow_soft_placement=True), tf.ConfigProto(device_count={"CPU": 2})):
        with tf.Session(config=config) as session:
            found.append(session.run([first, second], {x: np.arange(6).reshape(3, 2) / 4}))
            assert len(session.stage_for([first, second], [x]).devices) == len(session.devices)
    assert all(same_bits(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("inner", [1, 10])
def test_iterations_that_go_one_by_one_do_so_over_all_devices(inner: int) -> None:
    """What a loop does on another device in one iteration comes before all that it does in the next, in any order."""
    seen: list[tuple[int, int]] = []

    def note(i: Any, j: Any) -> Any:
        seen.append((int(i), int(j)))
        return np.int32(1)

    def outer(i: Any, x: Any) -> Any:
        def body(j: Any, y: Any) -> Any:
            with tf.device("/cpu:1"):
                noted = tf.py_func(note, [i, j], tf.int32)
                noted.set_shape([])
            return j + 1, y + noted

        _, y = tf.while_loop(lambda j, y: j < 3, body, [0, x], parallel_iterations=inner)
        return i + 1, y

    with tf.device("/cpu:0"):
        _, total = tf.while_loop(lambda i, x: i < 3, outer, [0, 0], parallel_iterations=1)
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        for seed in range(8):
            seen.clear()
            with driven_by(Shuffled(seed, rewind=False)):
                assert session.run(total) == 9
            assert seen == [(i, j) for i in range(3) for j in range(3)]
