"""A table of which a step reads a few rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases.common import Model, started, training, zeros
from cases.dense import jax_cross_entropy

WORDS, WIDTH, BATCH, LENGTH = 20_000, 64, 64, 16


def bag_of_words() -> Model:
    """Rows of an embedding are averaged and classified; the embedding's gradient is sparse.

    TensorFlow's Adam lets every row's moments decay and moves every row, and adds only the gradient sparsely; PyTorch's and
    JAX's dense Adam computes the same.
    """
    random = np.random.default_rng(17)
    table = random.normal(0, 0.5, (WORDS, WIDTH)).astype(np.float32)
    weights = [table, started(random, WIDTH, 10), zeros(10)]
    inputs = [
        random.integers(0, WORDS, (BATCH, LENGTH)).astype(np.int32),
        random.integers(0, 10, BATCH).astype(np.int32),
    ]

    def in_tensorflow(tf: Any, w: Any, inputs: Any) -> Any:
        ids, labels = inputs
        mean = tf.reduce_mean(tf.nn.embedding_lookup(w[0], ids), axis=1)
        logits = tf.nn.bias_add(tf.matmul(mean, w[1]), w[2])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels))

    def in_torch(torch: Any, w: Any, inputs: Any) -> Any:
        ids, labels = inputs
        mean = torch.nn.functional.embedding(ids.long(), w[0]).mean(1)
        return torch.nn.functional.cross_entropy(torch.addmm(w[2], mean, w[1]), labels.long())

    def in_jax(jax: Any, w: Any, inputs: Any) -> Any:
        ids, labels = inputs
        return jax_cross_entropy(jax, w[0][ids].mean(1) @ w[1] + w[2], labels)

    return Model(weights, inputs, "adam", 1e-3, in_tensorflow, in_torch, in_jax)


embedding_adam = training("embedding_adam", "embedding 20,000×64, 64×16 lookups, sparse Adam", bag_of_words)
