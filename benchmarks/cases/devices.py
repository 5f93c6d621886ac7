"""One graph on two devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case
from cases.common import session


@case("a chain of 200 ops that changes between two CPU devices 20 times")
def two_devices(tf: Any) -> Callable[[], Any]:
    """``y = sin(y) + x`` on vectors of 1,000, ten ops a device in turn: 20 transfers of `y`, one of `x`."""
    graph = tf.Graph()
    with graph.as_default():
        with tf.device("/cpu:0"):
            x = tf.placeholder(tf.float32, [1000])
        y = x
        for part in range(20):
            with tf.device(f"/cpu:{(part + 1) % 2}"):
                for _ in range(5):
                    y = tf.sin(y) + x
    run = session(tf, graph, device_count={"CPU": 2}).run
    fed = np.linspace(-1, 1, 1000).astype(np.float32)
    return lambda: run(y, {x: fed})


@case("a matrix product on each of two CPU devices, added on the first")
def two_products(tf: Any) -> Callable[[], Any]:
    """Two products of 256×256 matrices that may run at the same time: with two cores the second device is worth something."""
    graph = tf.Graph()
    with graph.as_default():
        with tf.device("/cpu:0"):
            x = tf.placeholder(tf.float32, [256, 256])
            here = tf.matmul(tf.matmul(x, x), x)
        with tf.device("/cpu:1"):
            there = tf.matmul(tf.matmul(x, x, transpose_b=True), x)
        with tf.device("/cpu:0"):
            total = tf.reduce_sum(here + there, axis=1)
    run = session(tf, graph, device_count={"CPU": 2}).run
    fed = (np.random.default_rng(23).normal(size=(256, 256)) / 16).astype(np.float32)
    return lambda: run(total, {x: fed})
