"""Differentiating a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import case


@case("gradients over a chain of 1,000 nodes")
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
