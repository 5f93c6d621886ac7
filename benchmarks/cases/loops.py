"""Loops: what an iteration costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case
from cases.common import Model, session, started, training, zeros


@case("1,000 iterations of a scalar `while_loop`", target=0.02)
def while_scalar(tf: Any) -> Callable[[], Any]:
    """``while i < n: i, a = i + 1, a * 1.001`` with `n` fed."""
    graph = tf.Graph()
    with graph.as_default():
        n = tf.placeholder(tf.int32, [])
        loop = tf.while_loop(
            lambda i, a: i < n, lambda i, a: (i + 1, a * 1.001), (tf.constant(0), tf.constant(1.0))
        )
    run = session(tf, graph).run
    return lambda: run(loop, {n: 1000})[1]


@while_scalar.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    def run() -> Any:
        i, n, a = torch.tensor(0), torch.tensor(1000), torch.tensor(1.0)
        while i < n:
            i, a = i + 1, a * 1.001
        return a.numpy()

    return run


@while_scalar.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    def compute(n: Any) -> Any:
        return jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 1.001), (0, 1.0))

    compiled = jax.jit(compute)
    return lambda: np.asarray(compiled(1000)[1])


START = np.linspace(-1, 1, 16).astype(np.float32)


@case("1,000 iterations of a `while_loop` over vectors of 16", target=0.08)
def while_vector(tf: Any) -> Callable[[], Any]:
    """``while i < n: i, v = i + 1, sin(v) * 0.5 + v0`` with `n` and `v0` fed."""
    graph = tf.Graph()
    with graph.as_default():
        n = tf.placeholder(tf.int32, [])
        start = tf.placeholder(tf.float32, [16])
        loop = tf.while_loop(
            lambda i, v: i < n, lambda i, v: (i + 1, tf.sin(v) * 0.5 + start), (tf.constant(0), start)
        )
    run = session(tf, graph).run
    return lambda: run(loop, {n: 1000, start: START})[1]


@while_vector.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    def run() -> Any:
        i, n, start = torch.tensor(0), torch.tensor(1000), torch.from_numpy(START)
        v = start
        while i < n:
            i, v = i + 1, torch.sin(v) * 0.5 + start
        return v.numpy()

    return run


@while_vector.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    def compute(n: Any, start: Any) -> Any:
        return jax.lax.while_loop(
            lambda s: s[0] < n, lambda s: (s[0] + 1, jax.numpy.sin(s[1]) * 0.5 + start), (0, start)
        )

    compiled = jax.jit(compute)
    return lambda: np.asarray(compiled(1000, START)[1])


@case("a `while_loop` of 20 in one of 50, with a `cond`")
def nested(tf: Any) -> Callable[[], Any]:
    """The inner loop adds 1.5 or halves, as the number is below a fed limit or not; the outer one takes its square root."""
    graph = tf.Graph()
    with graph.as_default():
        limit = tf.placeholder(tf.float32, [])

        def inner(j: Any, a: Any) -> Any:
            return j + 1, tf.cond(a < limit, lambda: a + 1.5, lambda: a * 0.5)

        def outer(i: Any, a: Any) -> Any:
            return i + 1, tf.sqrt(tf.while_loop(lambda j, a: j < 20, inner, (0, a))[1])

        loop = tf.while_loop(lambda i, a: i < 50, outer, (tf.constant(0), tf.constant(1.0)))
    run = session(tf, graph).run
    return lambda: run(loop, {limit: 7.0})[1]


@nested.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    def run() -> Any:
        limit, a = torch.tensor(7.0), torch.tensor(1.0)
        for _ in range(50):
            for _ in range(20):
                a = a + 1.5 if a < limit else a * 0.5
            a = torch.sqrt(a)
        return a.numpy()

    return run


@nested.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    lax, numpy = jax.lax, jax.numpy

    def compute(limit: Any) -> Any:
        def inner(_: Any, a: Any) -> Any:
            return lax.cond(a < limit, lambda a: a + 1.5, lambda a: a * 0.5, a)

        def outer(_: Any, a: Any) -> Any:
            return numpy.sqrt(lax.fori_loop(0, 20, inner, a))

        return lax.fori_loop(0, 50, outer, numpy.float32(1))

    compiled = jax.jit(compute)
    return lambda: np.asarray(compiled(7.0))


STEPS, BATCH, HIDDEN = 100, 32, 64


def _rnn() -> tuple[list[Any], list[Any]]:
    """Weights (input, recurrent, bias) and inputs (sequence, start) of a plain recurrent network."""
    random = np.random.default_rng(5)
    weights = [started(random, HIDDEN, HIDDEN) * 0.3, started(random, HIDDEN, HIDDEN) * 0.3, zeros(HIDDEN)]
    sequence = random.normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)
    return weights, [sequence, zeros(BATCH, HIDDEN)]


def rnn_outputs(tf: Any, weights: Any, inputs: Any) -> Any:
    """``h = tanh(x W + h U + b)`` over the sequence, in and out by TensorArrays; [STEPS, BATCH, HIDDEN]."""
    (w, u, b), (sequence, start) = weights, inputs
    read = tf.TensorArray(tf.float32, STEPS).unstack(sequence)

    def body(i: Any, h: Any, out: Any) -> Any:
        h = tf.tanh(tf.matmul(read.read(i), w) + tf.matmul(h, u) + b)
        return i + 1, h, out.write(i, h)

    written = tf.TensorArray(tf.float32, STEPS)
    return tf.while_loop(lambda i, h, out: i < STEPS, body, (tf.constant(0), start, written))[2].stack()


def rnn_torch(torch: Any, weights: Any, inputs: Any) -> Any:
    (w, u, b), (sequence, h) = weights, inputs
    outputs = []
    for x in sequence:
        h = torch.tanh(x @ w + h @ u + b)
        outputs.append(h)
    return torch.stack(outputs)


def rnn_jax(jax: Any, weights: Any, inputs: Any) -> Any:
    (w, u, b), (sequence, start) = weights, inputs

    def body(h: Any, x: Any) -> Any:
        h = jax.numpy.tanh(x @ w + h @ u + b)
        return h, h

    return jax.lax.scan(body, start, sequence)[1]


@case("RNN: 100 steps of a `while_loop`, batch 32, 64 units, forward", target=0.35)
def rnn_forward(tf: Any) -> Callable[[], Any]:
    """Weights are constants; the outputs of all steps are fetched."""
    weights, inputs = _rnn()
    graph = tf.Graph()
    with graph.as_default():
        fed = [tf.placeholder(tf.float32, array.shape) for array in inputs]
        outputs = rnn_outputs(tf, [tf.constant(array) for array in weights], fed)
    run = session(tf, graph).run
    feed = dict(zip(fed, inputs, strict=True))
    return lambda: run(outputs, feed)


@rnn_forward.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    weights, inputs = ([torch.from_numpy(array) for array in arrays] for arrays in _rnn())

    def run() -> Any:
        with torch.no_grad():
            return rnn_torch(torch, weights, inputs).numpy()

    return run


@rnn_forward.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    weights, inputs = _rnn()
    compiled = jax.jit(lambda *inputs: rnn_jax(jax, weights, inputs))
    return lambda: np.asarray(compiled(*inputs))


def _rnn_model() -> Model:
    return Model(
        *_rnn(),
        "sgd",
        0.1,
        lambda tf, weights, inputs: tf.reduce_mean(tf.square(rnn_outputs(tf, weights, inputs))),
        lambda torch, weights, inputs: rnn_torch(torch, weights, inputs).square().mean(),
        lambda jax, weights, inputs: (rnn_jax(jax, weights, inputs) ** 2).mean(),
    )


rnn_train = training("rnn_train", "the same RNN, SGD: one training step", _rnn_model)
