"""What several cases share: sessions, and training steps from a loss written for each library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cases import Case, add

Array = npt.NDArray[Any]
Loss = Callable[[Any, Sequence[Any], Sequence[Any]], Any]
"""(library, weights, inputs) → a scalar loss."""


def session(tf: Any, graph: Any, **options: Any) -> Any:
    """A session for `graph`, whose ConfigProto has `options`; variables have their start values."""
    made = tf.Session(graph=graph, config=tf.ConfigProto(**options))
    with graph.as_default():
        if tf.global_variables():
            made.run(tf.global_variables_initializer())
    return made


def started(random: np.random.Generator, *shape: int) -> Array:
    """float32 start values for weights of `shape`, scaled for relu by what a unit adds up."""
    incoming = int(np.prod(shape[:-1]))
    return random.normal(0, np.sqrt(2 / incoming), shape).astype(np.float32)


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True)
class Model:
    """A training step: what is trained, on what, by which optimizer, and its loss for each library.

    weights, inputs: the start values and the batch, the same for every library.  TensorFlow and ours are fed the batch in each
    step; PyTorch and JAX get it as tensors of theirs once.
    optimizer: "adam" or "sgd".
    """

    weights: Sequence[Array]
    inputs: Sequence[Array]
    optimizer: str
    rate: float
    tf_loss: Loss
    torch_loss: Loss | None = None
    jax_loss: Loss | None = None

    def tensorflow(self, tf: Any) -> Callable[[], Any]:
        """`run` for TensorFlow's API: one step, its loss."""
        graph = tf.Graph()
        with graph.as_default():
            weights = [tf.Variable(array, name=f"weights{i}") for i, array in enumerate(self.weights)]
            inputs = [tf.placeholder(tf.as_dtype(array.dtype), array.shape) for array in self.inputs]
            loss = self.tf_loss(tf, weights, inputs)
            made = {"adam": tf.train.AdamOptimizer, "sgd": tf.train.GradientDescentOptimizer}
            train = made[self.optimizer](self.rate).minimize(loss)
        run = session(tf, graph).run
        feed = dict(zip(inputs, self.inputs, strict=True))
        return lambda: run([loss, train], feed)[0]

    def torch(self, torch: Any) -> Callable[[], Any]:
        """`run` for PyTorch, eager."""
        assert self.torch_loss is not None
        loss_of = self.torch_loss
        weights = [torch.nn.Parameter(torch.tensor(array)) for array in self.weights]
        inputs = [torch.tensor(array) for array in self.inputs]
        made = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        optimizer = made[self.optimizer](weights, lr=self.rate)

        def run() -> float:
            optimizer.zero_grad()
            loss = loss_of(torch, weights, inputs)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return run

    def jax(self, jax: Any) -> Callable[[], Any]:
        """`run` for JAX: the whole step is one compiled function, which takes over the buffers of its state."""
        assert self.jax_loss is not None
        loss_of, numpy, rate, adam = self.jax_loss, jax.numpy, self.rate, self.optimizer == "adam"
        inputs = [numpy.asarray(array) for array in self.inputs]

        def step(weights: Any, means: Any, squares: Any, count: Any, inputs: Any) -> Any:
            loss, slopes = jax.value_and_grad(lambda all_of: loss_of(jax, all_of, inputs))(weights)
            if not adam:
                moved = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
                return loss, moved, means, squares, count
            count = count + 1
            scale = rate * numpy.sqrt(1 - 0.999**count) / (1 - 0.9**count)
            means = [m + 0.1 * (g - m) for m, g in zip(means, slopes, strict=True)]
            squares = [s + 0.001 * (g * g - s) for s, g in zip(squares, slopes, strict=True)]
            moved = [
                w - scale * m / (numpy.sqrt(s) + 1e-8)
                for w, m, s in zip(weights, means, squares, strict=True)
            ]
            return loss, moved, means, squares, count

        compiled = jax.jit(step, donate_argnums=(0, 1, 2))
        slots = self.weights if adam else []
        state: list[Any] = [
            [numpy.array(array) for array in self.weights],
            [numpy.zeros_like(array) for array in slots],
            [numpy.zeros_like(array) for array in slots],
            numpy.float32(0),
        ]

        def run() -> Any:
            loss, *state[:] = jax.block_until_ready(compiled(*state, inputs))
            return np.asarray(loss)

        return run


def training(
    name: str, title: str, model: Callable[[], Model], *, target: float | None = None, rtol: float = 1e-4
) -> Case:
    """Add the case of a training step of what `model` makes; the losses of the first three steps are compared."""
    new = Case(name, title, lambda tf: model().tensorflow(tf), target=target, checks=3, rtol=rtol)
    new.counterpart("torch")(lambda torch: model().torch(torch))
    new.counterpart("jax")(lambda jax: model().jax(jax))
    return add(new)
