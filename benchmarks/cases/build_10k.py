"""Building a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import case


@case("build a graph of 10,000 nodes")
def build_10k(tf: Any) -> Callable[[], int]:
    """2,500 times ``y = tanh(y * w + b)``, in name scopes of 25: half of the nodes compute, half are constants."""

    def run() -> int:
        graph = tf.Graph()
        with graph.as_default():
            x = tf.placeholder(tf.float32, [None, 8], name="x")
            y = x
            for _ in range(80):
                with tf.name_scope("block"):
                    for _ in range(25):
                        y = tf.tanh(y * 0.5 + 0.25)
            assert y.shape.as_list() == [None, 8]
        return len(graph.get_operations())

    return run
