"""Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.control.group import group
from engine.graph.convert import convert_to_tensor
from engine.graph.default import control_dependencies
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.op.state import assign, assign_sub
from engine.train.optimizer import Optimizer, as_dtype_of

__all__ = ["AdamOptimizer"]


class AdamOptimizer(Optimizer):
    """Steps scaled by running means of the gradient (slot "m") and of its square ("v"): Kingma and Ba (2015).

    `epsilon` is the paper's "epsilon hat": it is added after the correction of the means.  The powers of beta1 and beta2 are
    variables of the optimizer's own, "beta1_power" and "beta2_power".  A sparse gradient decays all rows' means, and moves all
    rows.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._lr = learning_rate
        self._beta1 = beta1
        self._beta2 = beta2
        self._epsilon = epsilon
        self._lr_t: Any = None
        self._beta1_t: Any = None
        self._beta2_t: Any = None
        self._epsilon_t: Any = None

    def _powers(self) -> tuple[Any, Any]:
        return self._get_non_slot_variable("beta1_power"), self._get_non_slot_variable("beta2_power")

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        # With one variable, always the same, so that the powers are where it is.
        first = min(var_list, key=lambda var: str(var.name))
        self._create_non_slot_variable(self._call_if_callable(self._beta1), "beta1_power", first)
        self._create_non_slot_variable(self._call_if_callable(self._beta2), "beta2_power", first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _prepare(self) -> None:
        self._lr_t = convert_to_tensor(self._call_if_callable(self._lr), name="learning_rate")
        self._beta1_t = convert_to_tensor(self._call_if_callable(self._beta1), name="beta1")
        self._beta2_t = convert_to_tensor(self._call_if_callable(self._beta2), name="beta2")
        self._epsilon_t = convert_to_tensor(self._call_if_callable(self._epsilon), name="epsilon")

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        beta1_power, beta2_power = self._powers()
        op: Operation = raw.ApplyAdam(
            var,
            self.get_slot(var, "m"),
            self.get_slot(var, "v"),
            as_dtype_of(var, beta1_power.value()),
            as_dtype_of(var, beta2_power.value()),
            as_dtype_of(var, self._lr_t),
            as_dtype_of(var, self._beta1_t),
            as_dtype_of(var, self._beta2_t),
            as_dtype_of(var, self._epsilon_t),
            grad,
            use_locking=self._use_locking,
        ).op
        return op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        beta1_power, beta2_power = (as_dtype_of(var, power.value()) for power in self._powers())
        rate, beta1, beta2, epsilon = (
            as_dtype_of(var, each) for each in (self._lr_t, self._beta1_t, self._beta2_t, self._epsilon_t)
        )
        rate = rate * raw.Sqrt(1 - beta2_power) / (1 - beta1_power)
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        values = grad.values
        scaled = values * (1 - beta1)
        decayed = assign(m, m * beta1, use_locking=self._use_locking)
        with control_dependencies([decayed]):
            m_t = raw.ScatterAdd(m, grad.indices, scaled, use_locking=self._use_locking)
        scaled = (values * values) * (1 - beta2)
        decayed = assign(v, v * beta2, use_locking=self._use_locking)
        with control_dependencies([decayed]):
            v_t = raw.ScatterAdd(v, grad.indices, scaled, use_locking=self._use_locking)
        root = raw.Sqrt(v_t)
        update = assign_sub(var, rate * m_t / (root + epsilon), use_locking=self._use_locking)
        return group(update, m_t, v_t)

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        beta1_power, beta2_power = self._powers()
        graph = beta1_power.graph
        with control_dependencies(update_ops), graph.colocate_with(beta1_power):
            first = beta1_power.assign(beta1_power * self._beta1_t, use_locking=self._use_locking)
            second = beta2_power.assign(beta2_power * self._beta2_t, use_locking=self._use_locking)
        return group(*update_ops, first, second, name=name_scope)
