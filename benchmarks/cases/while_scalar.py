"""A loop whose body is nothing: the cost of an iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import case


@case("1,000 iterations of a scalar while_loop")
def while_scalar(tf: Any) -> Callable[[], Any]:
    """``while i < n: i, a = i + 1, a * 1.001`` with `n` fed."""
    graph = tf.Graph()
    with graph.as_default():
        n = tf.placeholder(tf.int32, [])
        loop = tf.while_loop(
            lambda i, a: i < n,
            lambda i, a: (i + 1, a * 1.001),
            (tf.constant(0), tf.constant(1.0)),
        )
    session = tf.Session(graph=graph)
    return lambda: session.run(loop, {n: 1000})[1]
