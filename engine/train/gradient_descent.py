"""Gradient descent."""

from __future__ import annotations

from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.train.optimizer import Optimizer, as_dtype_of

__all__ = ["GradientDescentOptimizer"]


class GradientDescentOptimizer(Optimizer):
    """variable -= learning_rate · gradient.  The learning rate is a number, a scalar tensor, or a function that returns one."""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._learning_rate_tensor: Any = None

    def _prepare(self) -> None:
        rate = self._call_if_callable(self._learning_rate)
        self._learning_rate_tensor = convert_to_tensor(rate, name="learning_rate")

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        rate = as_dtype_of(var, self._learning_rate_tensor)
        op: Operation = raw.ApplyGradientDescent(var, rate, grad, use_locking=self._use_locking).op
        return op

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Operation:
        # Subtracting twice is subtracting the sum: equal rows need not be put together.
        scaled = grad.values * as_dtype_of(var, self._learning_rate_tensor)
        op: Operation = var.scatter_sub(
            IndexedSlices(scaled, grad.indices, grad.dense_shape), self._use_locking
        ).op
        return op
