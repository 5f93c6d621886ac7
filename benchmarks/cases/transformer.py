"""A block of a transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases.common import Model, started, training, zeros

BATCH, LENGTH, WIDTH, HEADS, INNER = 8, 64, 256, 4, 1024
EACH = WIDTH // HEADS


def block() -> Model:
    """Layer norm, attention with four heads, layer norm, two dense layers; residual around both; mean squares as the loss."""
    random = np.random.default_rng(19)
    weights = [started(random, WIDTH, WIDTH) * 0.7 for _ in range(4)]
    weights += [
        started(random, WIDTH, INNER),
        zeros(INNER),
        started(random, INNER, WIDTH) * 0.7,
        zeros(WIDTH),
    ]
    weights += [np.ones(WIDTH, np.float32), zeros(WIDTH), np.ones(WIDTH, np.float32), zeros(WIDTH)]
    inputs = [random.normal(size=(BATCH * LENGTH, WIDTH)).astype(np.float32) for _ in range(2)]

    def in_tensorflow(tf: Any, w: Any, inputs: Any) -> Any:
        def norm(x: Any, scale: Any, shift: Any) -> Any:
            mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
            return (x - mean) * tf.rsqrt(variance + 1e-5) * scale + shift

        def heads(x: Any) -> Any:
            return tf.transpose(tf.reshape(x, [BATCH, LENGTH, HEADS, EACH]), [0, 2, 1, 3])

        x, wanted = inputs
        y = norm(x, w[8], w[9])
        query, key, value = (heads(tf.matmul(y, w[i])) for i in range(3))
        weight = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * EACH**-0.5)
        seen = tf.reshape(tf.transpose(tf.matmul(weight, value), [0, 2, 1, 3]), [-1, WIDTH])
        x = x + tf.matmul(seen, w[3])
        y = tf.nn.relu(tf.nn.bias_add(tf.matmul(norm(x, w[10], w[11]), w[4]), w[5]))
        x = x + tf.nn.bias_add(tf.matmul(y, w[6]), w[7])
        return tf.reduce_mean(tf.square(x - wanted))

    def in_torch(torch: Any, w: Any, inputs: Any) -> Any:
        functional = torch.nn.functional

        def heads(x: Any) -> Any:
            return x.reshape(BATCH, LENGTH, HEADS, EACH).transpose(1, 2)

        x, wanted = inputs
        y = functional.layer_norm(x, (WIDTH,), w[8], w[9])
        query, key, value = (heads(y @ w[i]) for i in range(3))
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + seen.transpose(1, 2).reshape(-1, WIDTH) @ w[3]
        y = torch.relu(torch.addmm(w[5], functional.layer_norm(x, (WIDTH,), w[10], w[11]), w[4]))
        x = x + torch.addmm(w[7], y, w[6])
        return (x - wanted).square().mean()

    def in_jax(jax: Any, w: Any, inputs: Any) -> Any:
        def norm(x: Any, scale: Any, shift: Any) -> Any:
            centred = x - x.mean(-1, keepdims=True)
            return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift

        def heads(x: Any) -> Any:
            return x.reshape(BATCH, LENGTH, HEADS, EACH).transpose(0, 2, 1, 3)

        x, wanted = inputs
        y = norm(x, w[8], w[9])
        query, key, value = (heads(y @ w[i]) for i in range(3))
        weight = jax.nn.softmax(query @ key.swapaxes(-1, -2) * EACH**-0.5)
        x = x + (weight @ value).transpose(0, 2, 1, 3).reshape(-1, WIDTH) @ w[3]
        y = jax.nn.relu(norm(x, w[10], w[11]) @ w[4] + w[5])
        x = x + y @ w[6] + w[7]
        return ((x - wanted) ** 2).mean()

    return Model(weights, inputs, "sgd", 0.1, in_tensorflow, in_torch, in_jax)


transformer = training(
    "transformer",
    "transformer block (8×64 tokens, 256 wide, 4 heads, 1024), SGD",
    block,
    target=1.0,
    rtol=1e-3,
)
