"""Graphs before they run: building, differentiating, the first run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case
from cases.common import session

FED = np.linspace(-1, 1, 8).astype(np.float32)


@case("build a graph of 10,000 nodes", target=0.08)
def build_10k(tf: Any) -> Callable[[], int]:
    """2,500 times ``y = tanh(y * w + b)``, in name scopes of 25: half of the nodes compute, half are constants."""

    def run() -> int:
        graph = tf.Graph()
        with graph.as_default():
            y = tf.placeholder(tf.float32, [None, 8], name="x")
            for _ in range(80):
                with tf.name_scope("block"):
                    for _ in range(25):
                        y = tf.tanh(y * 0.5 + 0.25)
            assert y.shape.as_list() == [None, 8]
        return len(graph.get_operations())

    return run


@case("gradients over a chain of 1,000 nodes", target=0.1)
def gradients_1000(tf: Any) -> tuple[Callable[[], Any], Callable[[Any], int]]:
    """The reverse walk over 500 times ``y = sin(y) * x``; the forward graph is built outside of the measurement."""

    def setup() -> Any:
        graph = tf.Graph()
        with graph.as_default():
            x = tf.placeholder(tf.float32, [8])
            y = x
            for _ in range(500):
                y = tf.sin(y) * x
        return graph, x, y

    def run(prepared: Any) -> int:
        graph, x, y = prepared
        with graph.as_default():
            (gradient,) = tf.gradients(y, [x])
        assert gradient.shape.as_list() == [8]
        return 0

    return setup, run


@case("first run of a new graph (200 nodes and their gradients)", target=1.0)
def first_run(tf: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """From the finished graph to the first result: extending, pruning, optimizing, compiling, running once."""

    def setup() -> Any:
        graph = tf.Graph()
        with graph.as_default():
            x = tf.placeholder(tf.float32, [8])
            y = x
            for _ in range(100):
                y = tf.sin(y) + x
            (gradient,) = tf.gradients(y, [x])
        return session(tf, graph), x, gradient

    def run(prepared: Any) -> Any:
        made, x, gradient = prepared
        return made.run(gradient, {x: FED})

    return setup, run


@first_run.counterpart("jax")
def _(jax: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """From the Python function to the first result: JAX traces it where the others have a graph already."""

    def setup() -> Any:
        def total(x: Any) -> Any:
            y = x
            for _ in range(100):
                y = jax.numpy.sin(y) + x
            return y.sum()

        return total

    return setup, lambda total: np.asarray(jax.jit(jax.grad(total))(FED))


@case("first training step of a new MLP 784-256-256-10, Adam")
def first_step(tf: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The graph is there and its variables have their start values."""
    from cases.dense import mlp

    model = mlp(16)
    return lambda: model.tensorflow(tf), lambda step: step()


@first_step.counterpart("jax")
def _(jax: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from cases.dense import mlp

    model = mlp(16)
    return lambda: model.jax(jax), lambda step: step()
