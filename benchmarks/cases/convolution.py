"""Training steps of convolutional networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases.common import Model, started, training, zeros
from cases.dense import jax_cross_entropy


def _torch_conv(torch: Any, x: Any, kernel: Any, bias: Any) -> Any:
    """relu(convolution + bias) with TensorFlow's layout of kernels; x is NCHW in channels-last memory."""
    padding = kernel.shape[0] // 2
    return torch.relu(torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=padding))


def _jax_conv(jax: Any, x: Any, kernel: Any, bias: Any) -> Any:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.nn.relu(
        jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias
    )


def _jax_pool(jax: Any, x: Any) -> Any:
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jax.numpy.inf, jax.lax.max, window, window, "VALID")


def _tf_conv(tf: Any, x: Any, kernel: Any, bias: Any) -> Any:
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), bias))


def _tf_pool(tf: Any, x: Any) -> Any:
    return tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")


def lenet(batch: int = 128) -> Model:
    """5x5x32, pool, 5x5x64, pool, 1024, 10 on images of 28x28."""
    random = np.random.default_rng(11)
    weights = [started(random, 5, 5, 1, 32), zeros(32), started(random, 5, 5, 32, 64), zeros(64)]
    weights += [started(random, 7 * 7 * 64, 1024), zeros(1024), started(random, 1024, 10), zeros(10)]
    inputs = [
        random.normal(size=(batch, 28, 28, 1)).astype(np.float32),
        random.integers(0, 10, batch).astype(np.int32),
    ]

    def in_tensorflow(tf: Any, w: Any, inputs: Any) -> Any:
        x, labels = inputs
        x = _tf_pool(tf, _tf_conv(tf, x, w[0], w[1]))
        x = _tf_pool(tf, _tf_conv(tf, x, w[2], w[3]))
        x = tf.nn.relu(tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, 7 * 7 * 64]), w[4]), w[5]))
        logits = tf.nn.bias_add(tf.matmul(x, w[6]), w[7])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels))

    def in_torch(torch: Any, w: Any, inputs: Any) -> Any:
        pool = torch.nn.functional.max_pool2d
        x, labels = inputs[0].permute(0, 3, 1, 2), inputs[1]
        x = pool(_torch_conv(torch, x, w[0], w[1]), 2)
        x = pool(_torch_conv(torch, x, w[2], w[3]), 2)
        x = torch.relu(torch.addmm(w[5], x.permute(0, 2, 3, 1).reshape(-1, 7 * 7 * 64), w[4]))
        return torch.nn.functional.cross_entropy(torch.addmm(w[7], x, w[6]), labels.long())

    def in_jax(jax: Any, w: Any, inputs: Any) -> Any:
        x, labels = inputs
        x = _jax_pool(jax, _jax_conv(jax, x, w[0], w[1]))
        x = _jax_pool(jax, _jax_conv(jax, x, w[2], w[3]))
        x = jax.nn.relu(x.reshape(-1, 7 * 7 * 64) @ w[4] + w[5])
        return jax_cross_entropy(jax, x @ w[6] + w[7], labels)

    return Model(weights, inputs, "adam", 1e-4, in_tensorflow, in_torch, in_jax)


def vgg_block() -> Model:
    """Two 3x3 convolutions, 64 → 128 → 128 channels, and a pool, on 8 images of 56x56."""
    random = np.random.default_rng(13)
    weights = [started(random, 3, 3, 64, 128), zeros(128), started(random, 3, 3, 128, 128), zeros(128)]
    inputs = [random.normal(size=(8, 56, 56, 64)).astype(np.float32)]

    def in_tensorflow(tf: Any, w: Any, inputs: Any) -> Any:
        x = _tf_conv(tf, _tf_conv(tf, inputs[0], w[0], w[1]), w[2], w[3])
        return tf.reduce_mean(tf.square(_tf_pool(tf, x)))

    def in_torch(torch: Any, w: Any, inputs: Any) -> Any:
        x = inputs[0].permute(0, 3, 1, 2)
        x = _torch_conv(torch, _torch_conv(torch, x, w[0], w[1]), w[2], w[3])
        return torch.nn.functional.max_pool2d(x, 2).square().mean()

    def in_jax(jax: Any, w: Any, inputs: Any) -> Any:
        x = _jax_conv(jax, _jax_conv(jax, inputs[0], w[0], w[1]), w[2], w[3])
        return (_jax_pool(jax, x) ** 2).mean()

    return Model(weights, inputs, "sgd", 0.01, in_tensorflow, in_torch, in_jax)


lenet_adam = training(
    "lenet_adam", "LeNet (5×5×32, 5×5×64, 1024), Adam, batch 128", lenet, target=1.0, rtol=1e-3
)
vgg = training(
    "vgg", "VGG-like block (3×3, 3×3, pool; 8×56×56×64 → 128), SGD", vgg_block, target=1.1, rtol=1e-3
)
