"""What `Session.run` costs when there is next to nothing to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case
from cases.common import session


@case("`Session.run` of one scalar add with a feed", target=0.06)
def scalar_feed(tf: Any) -> Callable[[], Any]:
    """``x + 1`` with `x` fed as a Python float."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [])
        y = x + 1.0
    run = session(tf, graph).run
    return lambda: run(y, {x: 2.0})


@scalar_feed.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    return lambda: (torch.tensor(2.0) + 1.0).numpy()


@scalar_feed.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    compiled = jax.jit(lambda x: x + 1.0)
    return lambda: np.asarray(compiled(2.0))


@case("`Session.run` with ten fetches, five feeds")
def fetches_10(tf: Any) -> Callable[[], Any]:
    """Sums and products of five fed vectors of eight floats, fetched as a list of ten."""
    graph = tf.Graph()
    with graph.as_default():
        inputs = [tf.placeholder(tf.float32, [8]) for _ in range(5)]
        outputs = [x + 1.0 for x in inputs] + [x * 2.0 for x in inputs]
    run = session(tf, graph).run
    feed = dict(zip(inputs, _vectors(), strict=True))
    return lambda: run(outputs, feed)


def _vectors() -> list[Any]:
    return [np.linspace(i, i + 1, 8).astype(np.float32) for i in range(5)]


@fetches_10.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    arrays = _vectors()

    def run() -> list[Any]:
        inputs = [torch.from_numpy(array) for array in arrays]
        return [(x + 1.0).numpy() for x in inputs] + [(x * 2.0).numpy() for x in inputs]

    return run


@fetches_10.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    compiled = jax.jit(lambda *inputs: [x + 1.0 for x in inputs] + [x * 2.0 for x in inputs])
    arrays = _vectors()
    return lambda: [np.asarray(value) for value in compiled(*arrays)]
