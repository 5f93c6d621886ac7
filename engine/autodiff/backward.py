"""The context of a backward loop, and what is built in one or beside one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from engine.control.context import ControlFlowContext, WhileContext, is_loop_exit
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op import fills
from engine.op.registry import raw
from engine.types.dtypes import DType

if TYPE_CHECKING:
    from engine.autodiff.loop import LoopGradient


def while_context_of(op: Operation) -> WhileContext | None:
    """The innermost loop around `op`."""
    context = op._context
    return None if context is None else context.while_context()


def inside(context: ControlFlowContext | None) -> contextlib.AbstractContextManager[None]:
    """Build in `context`, or where we are if it is None."""
    return HERE if context is None else context.entered()


HERE = contextlib.nullcontext()
"""A `with` block that changes nothing."""


def enter_variable(value: Tensor, context: WhileContext, name: str) -> Tensor:
    entered: Tensor = raw.Enter(
        value,
        frame_name=context.name,
        is_constant=False,
        parallel_iterations=context.parallel_iterations,
        name=name,
    )
    context.loop_enters.append(entered)
    return entered


def zeros(shape: Any, dtype: DType) -> Tensor:
    """Zeros of that shape (a list, or a tensor)."""
    made: Tensor = fills.zeros(shape, dtype)
    return made


def runtime_shape(value: Tensor) -> Tensor:
    """The shape of `value` when the graph runs, even if it is known already: a node where the value is, not a constant."""
    shape: Tensor = raw.Shape(value, name="Shape")
    return shape


class GradientContext(WhileContext):
    """The context of a backward loop: forward values reach it through `LoopGradient.real_value`."""

    is_backward = True

    def __init__(self, gradient: LoopGradient, forward: WhileContext) -> None:
        super().__init__(
            forward.parallel_iterations,
            forward.back_prop,
            forward.swap_memory,
            forward.maximum_iterations,
            name=forward.name,
        )
        self.gradient = gradient

    def add_value(self, value: Tensor) -> Tensor:
        if value in self.known or value.op._context is self:
            return self.brought_in.get(value, value)
        if self.graph._scopes.context is not None:
            current = self.graph._scopes.context.while_context()
            if isinstance(current, GradientContext):
                forward = while_context_of(value.op)
                if is_loop_exit(value.op) and forward is not None:
                    forward = forward.outer.while_context() if forward.outer is not None else None
                if forward is not None and forward is current.gradient.forward:
                    self.known.add(value)
                    real = current.gradient.real_value(value)
                    self.brought_in[value] = real
                    return real
        return super().add_value(value)

    def enter(self, value: Tensor, name: str) -> Tensor:
        """`value` as a variable of this loop, which begins with it."""
        return enter_variable(value, self, name)

    def add_op(self, op: Operation) -> None:
        if op.opdef.name in _MEASURES:
            source = op._inputs[0].op
            if while_context_of(source) is self.gradient.forward:
                # Of a forward value only its size is needed: it is measured there, and that is what the stack keeps.
                op._remove_all_control_inputs()
                op._context = source._context
                op._context.add_op(op)
                return
        super().add_op(op)


_MEASURES = ("Shape", "Size", "Rank")
