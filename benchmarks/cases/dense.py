"""Training steps of fully connected networks."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from cases.common import Model, started, training, zeros


def mlp(batch: int) -> Model:
    """784-256-256-10: two hidden relu layers, softmax cross entropy, float32."""
    random = np.random.default_rng(7)
    weights = []
    for rows, columns in pairwise((784, 256, 256, 10)):
        weights += [started(random, rows, columns), zeros(columns)]
    inputs = [
        random.normal(size=(batch, 784)).astype(np.float32),
        random.integers(0, 10, batch).astype(np.int32),
    ]

    def in_tensorflow(tf: Any, weights: Any, inputs: Any) -> Any:
        y, labels = inputs
        for i in range(0, 6, 2):
            y = tf.nn.bias_add(tf.matmul(y, weights[i]), weights[i + 1])
            y = tf.nn.relu(y) if i < 4 else y
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=y, labels=labels))

    def in_torch(torch: Any, weights: Any, inputs: Any) -> Any:
        y, labels = inputs
        for i in range(0, 6, 2):
            y = torch.addmm(weights[i + 1], y, weights[i])
            y = torch.relu(y) if i < 4 else y
        return torch.nn.functional.cross_entropy(y, labels.long())

    def in_jax(jax: Any, weights: Any, inputs: Any) -> Any:
        y, labels = inputs
        for i in range(0, 6, 2):
            y = y @ weights[i] + weights[i + 1]
            y = jax.nn.relu(y) if i < 4 else y
        return jax_cross_entropy(jax, y, labels)

    return Model(weights, inputs, "adam", 1e-4, in_tensorflow, in_torch, in_jax)


def jax_cross_entropy(jax: Any, logits: Any, labels: Any) -> Any:
    """The mean of softmax cross entropies with integer labels."""
    chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()


mlp_adam_16 = training("mlp_adam_16", "MLP 784-256-256-10, Adam, batch 16", partial(mlp, 16))
mlp_adam_128 = training("mlp_adam_128", "MLP 784-256-256-10, Adam, batch 128", partial(mlp, 128), target=0.8)
