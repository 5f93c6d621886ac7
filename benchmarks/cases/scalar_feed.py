"""What `Session.run` costs when there is next to nothing to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import case


@case("Session.run of one scalar add with a feed")
def scalar_feed(tf: Any) -> Callable[[], Any]:
    """``x + 1`` with `x` fed as a Python float."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [])
        y = x + 1.0
    session = tf.Session(graph=graph)
    return lambda: session.run(y, {x: 2.0})
