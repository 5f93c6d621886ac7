"""How long one waits for the first answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case


@case("first run of a new graph (200 nodes and their gradients)")
def first_run(tf: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """From the finished graph to the first result: extending, pruning, optimizing, compiling, running once."""
    fed = np.linspace(-1, 1, 8).astype(np.float32)

    def setup() -> Any:
        graph = tf.Graph()
        with graph.as_default():
            x = tf.placeholder(tf.float32, [8])
            y = x
            for _ in range(100):
                y = tf.sin(y) + x
            (gradient,) = tf.gradients(y, [x])
        return tf.Session(graph=graph), x, gradient

    def run(prepared: Any) -> Any:
        session, x, gradient = prepared
        return session.run(gradient, {x: fed})

    return setup, run
