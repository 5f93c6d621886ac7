"""Training steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from cases import case


@case("MLP 784-256-256-10, Adam, batch 128: one training step")
def mlp_adam(tf: Any) -> Callable[[], Any]:
    """Two hidden relu layers, softmax cross entropy, float32; the same start values and batch for both libraries."""
    random = np.random.default_rng(7)
    sizes = (784, 256, 256, 10)
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 784])
        labels = tf.placeholder(tf.int32, [None])
        y = x
        for i, (rows, columns) in enumerate(pairwise(sizes)):
            start = random.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)
            weights = tf.Variable(start, name=f"weights{i}")
            bias = tf.Variable(np.zeros(columns, np.float32), name=f"bias{i}")
            y = tf.nn.bias_add(tf.matmul(y, weights), bias)
            if columns != 10:
                y = tf.nn.relu(y)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=y, labels=labels))
        train = tf.train.AdamOptimizer(1e-4).minimize(loss)
        start_values = tf.global_variables_initializer()
    session = tf.Session(graph=graph)
    session.run(start_values)
    feed = {
        x: random.normal(size=(128, 784)).astype(np.float32),
        labels: random.integers(0, 10, 128).astype(np.int32),
    }
    return lambda: session.run([loss, train], feed)[0]
