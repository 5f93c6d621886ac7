"""Many small ops: what a node costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case
from cases.common import session

FED = np.linspace(-1, 1, 8).astype(np.float32)
LIMITS = np.random.default_rng(3).uniform(-1, 1, (1000, 8)).astype(np.float32)


def chain(tf: Any) -> tuple[Any, Any, Any]:
    """(session, x, y): 500 times ``y = sin(y) + x`` on eight floats."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [8])
        y = x
        for _ in range(500):
            y = tf.sin(y) + x
    return session(tf, graph), x, y


@case("a chain of 1,000 small elementwise ops", target=0.12)
def chain_1000(tf: Any) -> Callable[[], Any]:
    """Each op waits for the one before."""
    made, x, y = chain(tf)
    return lambda: made.run(y, {x: FED})


def _chain_of(sin: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def compute(x: Any) -> Any:
        y = x
        for _ in range(500):
            y = sin(y) + x
        return y

    return compute


@chain_1000.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    compute = _chain_of(torch.sin)
    return lambda: compute(torch.from_numpy(FED)).numpy()


@chain_1000.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    compiled = jax.jit(_chain_of(jax.numpy.sin))
    return lambda: np.asarray(compiled(FED))


@case("1,000 independent small ops", target=0.12)
def wide_1000(tf: Any) -> Callable[[], Any]:
    """A thousand maxima of one vector and different constants, which a last op adds up."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [8])
        y = tf.add_n([tf.maximum(x, limit) for limit in LIMITS])
    run = session(tf, graph).run
    return lambda: run(y, {x: FED})


@wide_1000.counterpart("torch")
def _(torch: Any) -> Callable[[], Any]:
    limits = list(torch.from_numpy(LIMITS))

    def run() -> Any:
        x = torch.from_numpy(FED)
        return torch.stack([torch.maximum(x, limit) for limit in limits]).sum(0).numpy()

    return run


@wide_1000.counterpart("jax")
def _(jax: Any) -> Callable[[], Any]:
    limits = [jax.numpy.asarray(limit) for limit in LIMITS]
    compiled = jax.jit(lambda x: sum(jax.numpy.maximum(x, limit) for limit in limits))
    return lambda: np.asarray(compiled(FED))
