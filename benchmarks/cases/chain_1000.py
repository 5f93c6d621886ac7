"""Many small ops, each waiting for the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case


@case("a chain of 1,000 small elementwise ops")
def chain_1000(tf: Any) -> Callable[[], Any]:
    """500 times ``y = sin(y) + x`` on eight floats."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [8])
        y = x
        for _ in range(500):
            y = tf.sin(y) + x
    session = tf.Session(graph=graph)
    fed = np.linspace(-1, 1, 8).astype(np.float32)
    return lambda: session.run(y, {x: fed})
