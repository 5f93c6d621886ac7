"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.initializers import constant_initializer
from engine.op.registry import raw
from engine.train.optimizer import Optimizer, as_dtype_of

__all__ = ["AdagradOptimizer"]


class AdagradOptimizer(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (slot "accumulator"): Duchi et al. (2011).

    Raises ValueError for an initial accumulator value that is not positive.
    """

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(f"initial_accumulator_value must be positive: {initial_accumulator_value}")
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._initial_accumulator_value = initial_accumulator_value
        self._learning_rate_tensor: Any = None

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            dtype, shape = var.dtype.base_dtype, var.get_shape()
            if shape.is_fully_defined():
                start = constant_initializer(self._initial_accumulator_value, dtype=dtype)
                self._get_or_make_slot_with_initializer(var, start, shape, dtype, "accumulator", self._name)
            else:
                size = raw.Shape(var.initialized_value())
                filled = raw.Fill(size, convert_to_tensor(self._initial_accumulator_value, dtype=dtype))
                self._get_or_make_slot(var, filled, "accumulator", self._name)

    def _prepare(self) -> None:
        rate = self._call_if_callable(self._learning_rate)
        self._learning_rate_tensor = convert_to_tensor(rate, name="learning_rate")

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        op: Operation = raw.ApplyAdagrad(
            var,
            self.get_slot(var, "accumulator"),
            as_dtype_of(var, self._learning_rate_tensor),
            grad,
            use_locking=self._use_locking,
        ).op
        return op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        op: Operation = raw.SparseApplyAdagrad(
            var,
            self.get_slot(var, "accumulator"),
            as_dtype_of(var, self._learning_rate_tensor),
            grad.values,
            grad.indices,
            use_locking=self._use_locking,
        ).op
        return op
