"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.train.optimizer import Optimizer, as_dtype_of

__all__ = ["MomentumOptimizer"]


class MomentumOptimizer(Optimizer):
    """accumulation = momentum · accumulation + gradient; variable -= learning_rate · accumulation.

    use_nesterov: look ahead along the accumulation (Sutskever et al., 2013).  Slot: "momentum".
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._use_nesterov = use_nesterov
        self._learning_rate_tensor: Any = None
        self._momentum_tensor: Any = None

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)

    def _prepare(self) -> None:
        rate = self._call_if_callable(self._learning_rate)
        self._learning_rate_tensor = convert_to_tensor(rate, name="learning_rate")
        momentum = self._call_if_callable(self._momentum)
        self._momentum_tensor = convert_to_tensor(momentum, name="momentum")

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        op: Operation = raw.ApplyMomentum(
            var,
            self.get_slot(var, "momentum"),
            as_dtype_of(var, self._learning_rate_tensor),
            grad,
            as_dtype_of(var, self._momentum_tensor),
            use_locking=self._use_locking,
            use_nesterov=self._use_nesterov,
        ).op
        return op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        op: Operation = raw.SparseApplyMomentum(
            var,
            self.get_slot(var, "momentum"),
            as_dtype_of(var, self._learning_rate_tensor),
            grad.values,
            grad.indices,
            as_dtype_of(var, self._momentum_tensor),
            use_locking=self._use_locking,
            use_nesterov=self._use_nesterov,
        ).op
        return op
