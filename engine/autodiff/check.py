"""The numeric gradient checker: symbolic derivatives beside central differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.autodiff.gradients import gradients
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, get_default_session
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.tensor import Tensor
from engine.op.placeholder import placeholder
from engine.runtime.session import Session

__all__ = ["compute_gradient", "compute_gradient_error"]


def compute_gradient(
    x: Any,
    x_shape: Sequence[int],
    y: Tensor,
    y_shape: Sequence[int],
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Any = None,
    extra_feed_dict: Mapping[Any, Any] | None = None,
) -> Any:
    """The Jacobian of y by x, symbolic and numeric, as TensorFlow 1's `tf.test.compute_gradient`.

    x: a tensor or a list of tensors of floating dtype (with a list of shapes and of initial values).  Returns (symbolic,
    numeric), each an array of shape [x size, y size], or a list of such pairs.  The numeric one uses central differences of
    half-width `delta`.  Needs a default session, or makes one for the default graph.
    """
    session = get_default_session()
    if session is None:
        with Session(graph=get_default_graph()):
            return compute_gradient(
                x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict
            )
    if init_targets is not None:
        session.run(init_targets)
    xs = list(x) if isinstance(x, list | tuple) else [x]
    shapes: list[Any] = list(x_shape) if isinstance(x, list | tuple) else [x_shape]
    given = (
        list(x_init_value)
        if isinstance(x, list | tuple) and x_init_value is not None
        else [x_init_value] * len(xs)
    )
    values = [_initial(tensor, shape, value) for tensor, shape, value in zip(xs, shapes, given, strict=True)]
    feeds = dict(extra_feed_dict or {})
    feeds.update(zip(xs, values, strict=True))
    pairs = [
        (_symbolic(session, each, y, tuple(y_shape), feeds), _numeric(session, each, y, feeds, delta))
        for each in xs
    ]
    return pairs if isinstance(x, list | tuple) else pairs[0]


def compute_gradient_error(*args: Any, **keywords: Any) -> float:
    """The largest absolute difference between the two Jacobians of `compute_gradient`, whose arguments it takes."""
    pairs = compute_gradient(*args, **keywords)
    pairs = pairs if isinstance(pairs, list) else [pairs]
    return max((float(np.max(np.abs(a - b))) for a, b in pairs if a.size), default=0.0)


def _initial(tensor: Tensor, shape: Sequence[int], value: Any) -> Any:
    dtype = tensor.dtype.base_dtype.np_dtype
    if value is not None:
        return np.array(value, dtype)
    return np.random.default_rng(0).uniform(-1, 1, tuple(shape)).astype(dtype)


def _symbolic(session: Any, x: Tensor, y: Tensor, y_shape: tuple[int, ...], feeds: Mapping[Any, Any]) -> Any:
    start = placeholder(y.dtype.base_dtype, y_shape, name="grad_y")
    (grad,) = gradients(y, x, grad_ys=start)
    x_value = feeds[x]
    size = int(np.prod(y_shape, dtype=np.int64))
    jacobian = np.zeros((x_value.size, size), x_value.dtype)
    if grad is None:
        return jacobian
    dense = convert_to_tensor(grad) if isinstance(grad, IndexedSlices) else grad
    unit = np.zeros(size, y.dtype.base_dtype.np_dtype)
    for column in range(size):
        unit[column] = 1
        jacobian[:, column] = session.run(dense, {**feeds, start: unit.reshape(y_shape)}).reshape(-1)
        unit[column] = 0
    return jacobian


def _numeric(session: Any, x: Tensor, y: Tensor, feeds: Mapping[Any, Any], delta: float) -> Any:
    base = feeds[x]
    rows = []
    for i in range(base.size):
        sides = []
        for sign in (1, -1):
            moved = base.copy()
            moved.reshape(-1)[i] += sign * delta
            sides.append(np.asarray(session.run(y, {**feeds, x: moved}), np.float64).reshape(-1))
        rows.append((sides[0] - sides[1]) / (2 * delta))
    return np.array(rows).reshape(base.size, -1)
