"""RMSProp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.initializers import ones_initializer
from engine.op.registry import raw
from engine.train.optimizer import Optimizer, as_dtype_of

__all__ = ["RMSPropOptimizer"]


class RMSPropOptimizer(Optimizer):
    """Steps divided by the root of a running mean of squared gradients (slot "rms"), with momentum: Tieleman and Hinton (2012).

    centered: the gradient's running mean (slot "mg") is taken out: divided by the standard deviation, not the root mean square.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._decay = decay
        self._momentum = momentum
        self._epsilon = epsilon
        self._centered = centered
        self._tensors: tuple[Any, ...] = ()

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            dtype, shape = var.dtype.base_dtype, var.get_shape()
            if shape.is_fully_defined():
                start = ones_initializer(dtype=dtype)
                self._get_or_make_slot_with_initializer(var, start, shape, dtype, "rms", self._name)
            else:
                ones = raw.OnesLike(var.initialized_value())
                self._get_or_make_slot(var, ones, "rms", self._name)
            if self._centered:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)

    def _prepare(self) -> None:
        given = (
            (self._learning_rate, "learning_rate"),
            (self._decay, "decay"),
            (self._momentum, "momentum"),
            (self._epsilon, "epsilon"),
        )
        self._tensors = tuple(
            convert_to_tensor(self._call_if_callable(value), name=name) for value, name in given
        )

    def _inputs(self, var: Any) -> tuple[list[Any], list[Any]]:
        names = ("mg", "rms", "momentum") if self._centered else ("rms", "momentum")
        return [self.get_slot(var, name) for name in names], [
            as_dtype_of(var, tensor) for tensor in self._tensors
        ]

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        slots, numbers = self._inputs(var)
        kind = raw.ApplyCenteredRMSProp if self._centered else raw.ApplyRMSProp
        op: Operation = kind(var, *slots, *numbers, grad, use_locking=self._use_locking).op
        return op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        slots, numbers = self._inputs(var)
        kind = raw.SparseApplyCenteredRMSProp if self._centered else raw.SparseApplyRMSProp
        op: Operation = kind(
            var, *slots, *numbers, grad.values, grad.indices, use_locking=self._use_locking
        ).op
        return op
