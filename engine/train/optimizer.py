"""The base of all optimizers: from a loss to gradients to updates, with TensorFlow 1's names for every node and slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.autodiff.gradients import gradients
from engine.control.group import group
from engine.control.group import tuple as gate
from engine.graph.convert import convert_to_tensor
from engine.graph.default import colocate_with, control_dependencies, get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op import sparse_training_ops, training_ops
from engine.op.registry import raw
from engine.op.state import assign_add
from engine.op.unique import unique
from engine.train.slots import create_slot, create_slot_with_initializer, create_zeros_slot
from engine.types import dtypes
from engine.variables import Variable, trainable_variables

__all__ = ["Optimizer"]

_REGISTERED = (training_ops, sparse_training_ops)  # the ops that optimizers build

GradAndVar = tuple[Any, Any]


def _graph_key(variable: Any) -> tuple[Any, str]:
    return variable.graph, variable.op.name


class Optimizer:
    """Base class: a subclass says which slots it needs and how it updates a variable.

    `minimize` builds the gradients of a loss and their application; `compute_gradients` and `apply_gradients` are its two
    halves, for whoever wants to change gradients in between.  A gradient may be a Tensor or IndexedSlices, which change some
    rows only.
    """

    GATE_NONE = 0
    GATE_OP = 1
    GATE_GRAPH = 2

    def __init__(self, use_locking: bool, name: str) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking = use_locking
        self._name = name
        self._slots: dict[str, dict[tuple[Any, str], Any]] = {}
        self._non_slots: dict[tuple[str, Any], Any] = {}

    def get_name(self) -> str:
        return self._name

    def minimize(
        self,
        loss: Tensor,
        global_step: Any = None,
        var_list: Sequence[Any] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Any:
        """An operation that changes the variables so that `loss` gets smaller, and adds 1 to `global_step` if there is one.

        var_list: None: the trainable variables.  Raises ValueError if no variable has a gradient.
        """
        grads_and_vars = self.compute_gradients(
            loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss
        )
        if all(gradient is None for gradient, _ in grads_and_vars):
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not support gradients, between "
                f"variables {[str(variable) for _, variable in grads_and_vars]} and loss {loss}."
            )
        return self.apply_gradients(grads_and_vars, global_step, name)

    def compute_gradients(
        self,
        loss: Tensor,
        var_list: Sequence[Any] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[GradAndVar]:
        """The gradient of `loss` with respect to each variable, None where there is none, as (gradient, variable) pairs.

        gate_gradients: GATE_OP (the gradients of an op's inputs are used only when all are computed), GATE_GRAPH (only when all
        gradients are), GATE_NONE.  Raises ValueError without a variable, or for a loss of a type that has no gradients.
        """
        if gate_gradients not in (Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH):
            raise ValueError(
                f"gate_gradients must be one of: Optimizer.GATE_NONE, GATE_OP, GATE_GRAPH. Not {gate_gradients}"
            )
        _check_floating([loss])
        if grad_loss is not None:
            _check_floating([grad_loss])
        variables = trainable_variables() if var_list is None else list(var_list)
        if not variables:
            raise ValueError("No variables to optimize.")
        for variable in variables:
            if not isinstance(variable, Variable | Tensor):
                raise TypeError(f"Argument is not a tf.Variable: {variable!r}")
        targets = [variable._ref() if isinstance(variable, Variable) else variable for variable in variables]
        found = gradients(
            loss,
            targets,
            grad_ys=grad_loss,
            gate_gradients=gate_gradients == Optimizer.GATE_OP,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
        )
        if gate_gradients == Optimizer.GATE_GRAPH:
            found = gate(found)
        pairs = list(zip(found, variables, strict=True))
        _check_floating([variable for gradient, variable in pairs if gradient is not None])
        return pairs

    def apply_gradients(
        self, grads_and_vars: Sequence[GradAndVar], global_step: Any = None, name: str | None = None
    ) -> Any:
        """An operation that applies the gradients to their variables, then adds 1 to `global_step` if there is one.

        Raises ValueError for no pairs or no gradient at all, TypeError for what is no gradient.
        """
        pairs = [(_as_gradient(gradient), variable) for gradient, variable in grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        changed = [variable for gradient, variable in pairs if gradient is not None]
        if not changed:
            raise ValueError(
                f"No gradients provided for any variable: {[str(variable) for _, variable in pairs]}."
            )
        graph = get_default_graph()
        with graph.control_dependencies(None):
            self._create_slots(changed)
        with name_scope(name, self._name) as scope:
            self._prepare()
            updates = [
                self._update(gradient, variable) for gradient, variable in pairs if gradient is not None
            ]
            if global_step is None:
                apply_updates = self._finish(updates, scope)
            else:
                with control_dependencies([self._finish(updates, "update")]), colocate_with(global_step):
                    apply_updates = assign_add(global_step, 1, name=scope)
        train_op = apply_updates.op if isinstance(apply_updates, Tensor) else apply_updates
        if train_op not in graph.get_collection_ref(GraphKeys.TRAIN_OP):
            graph.add_to_collection(GraphKeys.TRAIN_OP, train_op)
        return apply_updates

    def _update(self, gradient: Any, variable: Any) -> Any:
        with name_scope(f"update_{variable.op.name}"), colocate_with(variable):
            if isinstance(gradient, IndexedSlices):
                update = self._apply_sparse_duplicate_indices(gradient, variable)
            else:
                update = self._apply_dense(gradient, variable)
            if getattr(variable, "constraint", None) is not None:
                with control_dependencies([update]):
                    return variable.assign(variable.constraint(variable.read_value())).op
            return update

    # Slots.

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `name` of the variable, or None."""
        return self._slots.get(name, {}).get(_graph_key(var))

    def get_slot_names(self) -> list[str]:
        return sorted(self._slots)

    def variables(self) -> list[Any]:
        """The variables that the optimizer itself has made in the default graph, by name."""
        graph = get_default_graph()
        own = [variable for (_, where), variable in self._non_slots.items() if where is graph]
        own += [
            slot for slots in self._slots.values() for (where, _), slot in slots.items() if where is graph
        ]
        return sorted(own, key=lambda variable: str(variable.name))

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: create_zeros_slot(var, op_name))

    def _get_or_make_slot(self, var: Any, value: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: create_slot(var, value, op_name))

    def _get_or_make_slot_with_initializer(
        self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str, op_name: str
    ) -> Any:
        return self._slot(
            var, slot_name, lambda: create_slot_with_initializer(var, initializer, shape, dtype, op_name)
        )

    def _slot(self, var: Any, slot_name: str, make: Callable[[], Any]) -> Any:
        slots = self._slots.setdefault(slot_name, {})
        key = _graph_key(var)
        if key not in slots:
            slots[key] = make()
        return slots[key]

    def _create_non_slot_variable(self, initial_value: Any, name: str, beside: Any) -> Any:
        """A variable of the optimizer's own, one a graph, on the device of `beside`."""
        key = (name, beside.graph)
        if key not in self._non_slots:
            with colocate_with(beside):
                self._non_slots[key] = Variable(initial_value, name=name, trainable=False)
        return self._non_slots[key]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Any:
        return self._non_slots.get((name, graph or get_default_graph()))

    # What a subclass overrides.

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        """Make the slots of these variables."""

    def _prepare(self) -> None:
        """Make tensors of the hyperparameters."""

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        raise NotImplementedError

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        """Update the rows `grad.indices`, no two of which are equal."""
        raise NotImplementedError

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Operation:
        """Update rows that may come more than once: their gradients are added up first."""
        indices, positions = unique(grad.indices)
        count = raw.Shape(indices)[0]
        summed = raw.UnsortedSegmentSum(grad.values, positions, count)
        return self._apply_sparse(IndexedSlices(summed, indices, grad.dense_shape), var)

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """What is done when all variables are updated."""
        return group(*update_ops, name=name_scope)

    @staticmethod
    def _call_if_callable(value: Any) -> Any:
        """Hyperparameters may be functions without arguments."""
        return value() if callable(value) else value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} '{self._name}'>"


def as_dtype_of(var: Any, tensor: Any) -> Any:
    """A hyperparameter in the dtype of a variable."""
    wanted = var.dtype.base_dtype
    return tensor if tensor.dtype.base_dtype is wanted else raw.Cast(tensor, DstT=wanted, name="Cast")


def _check_floating(values: Sequence[Any]) -> None:
    accepted = (
        dtypes.float16,
        dtypes.bfloat16,
        dtypes.float32,
        dtypes.float64,
        dtypes.complex64,
        dtypes.complex128,
    )
    for value in values:
        if value.dtype.base_dtype not in accepted:
            names = [dtype.name for dtype in accepted]
            raise ValueError(f"Invalid type {value.dtype.base_dtype!r} for {value.name}, expected: {names}.")


def _as_gradient(gradient: Any) -> Any:
    if gradient is None or isinstance(gradient, Tensor | IndexedSlices):
        return gradient
    try:
        return convert_to_tensor(gradient)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Gradient must be convertible to a Tensor or IndexedSlices, or None: {gradient!r}"
        ) from error
