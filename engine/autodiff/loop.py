"""The gradient of a while loop: a second loop that runs backward.

The backward loop of a loop takes as many iterations as the loop did (it counts down what a counter added to the loop counted up)
and in each computes the gradients of one forward iteration, the last first.  A forward value that a gradient needs is pushed on a
stack in its forward iteration and popped in the backward one; a loop invariant is brought in as it is, and its gradient is
summed over the iterations.  Loops nest: a stack of an inner loop is made anew in each iteration of the outer one, and kept on a
stack of that one in turn.  Structure and names of what is added are TensorFlow 1's; the scheme is section 5.1 of Yu et al.,
"Dynamic Control Flow in Large-Scale Machine Learning" (EuroSys 2018).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from engine.autodiff import slices
from engine.control.context import (
    CondContext,
    ControlFlowContext,
    WhileContext,
    is_constant_enter,
    is_loop_exit,
    output_context,
    switch_ref_or_tensor,
)
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op import fills
from engine.op.const import constant
from engine.op.registry import raw
from engine.op.shapes import constant_value
from engine.types.dtypes import DType


def while_context_of(op: Operation) -> WhileContext | None:
    """The innermost loop around `op`."""
    context = op._context
    return None if context is None else context.while_context()


def is_loop_switch(op: Operation) -> bool:
    """Whether `op` is a loop's own Switch, and not one of a cond inside of it."""
    return op.opdef.flow == "switch" and isinstance(op._context, WhileContext)


@contextlib.contextmanager
def inside(context: ControlFlowContext | None) -> Iterator[None]:
    """Build in `context`, or where we are if it is None."""
    if context is None:
        yield
    else:
        with context.entered():
            yield


def _enter(value: Tensor, context: WhileContext, name: str) -> Tensor:
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
        return _enter(value, self, name)

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


class LoopGradient:
    """The gradient of one forward loop, within one call of `gradients`."""

    def __init__(self, forward: WhileContext, outer: LoopGradient | None) -> None:
        self.forward = forward
        self._caller: ControlFlowContext | None = (
            forward.graph._scopes.context
        )  # where `gradients` was called
        self.outer = outer
        self.history: dict[Tensor, Tensor] = {}  # forward value → its value in the backward iteration
        self.switches: dict[
            Operation, Any
        ] = {}  # loop Switch → the backward loop's Merge (or Merges) for that variable
        self.unused_exits: list[Tensor] = []
        self.deferred_exits: list[Tensor] = []
        self.exits = list(forward.loop_exits)
        self.pending_exits = len(self.exits)
        self._forward_sync: Operation | None = None
        self._backward_sync: Operation | None = None
        around = forward.outer if outer is None else outer.forward
        with inside(around):
            count, self.forward_index = self._count_up()
        if outer is None:
            with inside(forward.outer):
                self.context = GradientContext(self, forward)
                self.backward_index = self._count_down(count)
            return
        outer.forward.known.add(count)
        history = outer.push_history(count)
        with outer.context.entered():
            self.context = GradientContext(self, forward)
            self.backward_index = self._count_down(outer.pop_history(history, count))

    def _count_up(self) -> tuple[Tensor, Tensor]:
        """Add a counter to the forward loop: (its final value, its value in the next iteration)."""
        forward = self.forward
        start = constant(0, name="f_count")
        if self.outer is not None:
            # What an inner loop pushes in one run of it comes before what it pushes in the next.
            start.op._add_control_input(self.outer.forward_index.op._inputs[0].op)
        with forward.entered():
            forward.known.add(start)
            entered = _enter(start, forward, "f_count")
            merge = raw.Merge([entered, entered], name="Merge")[0]
            assert forward.pivot is not None
            switch = raw.Switch(merge, forward.pivot, name="Switch")
            following = raw.NextIteration(raw.AddV2(switch[1], 1, name="Add"), name="NextIteration")
            merge.op._update_input(1, following)
            total: Tensor = raw.Exit(switch[0], name="f_count")
            forward.loop_exits.append(total)
            forward.leave([total])
        return total, following

    def _count_down(self, count: Tensor) -> Tensor:
        """Head the backward loop by a counter from `count` down to one; its value in the next iteration."""
        context = self.context
        one = constant(1, name="b_count")
        with context.entered():
            context.known.add(count)
            entered = _enter(count, context, "b_count")
            merge = raw.Merge([entered, entered], name="Merge")[0]
            context.pivot_for_pred = merge
            context.pivot = raw.LoopCond(raw.GreaterEqual(merge, one, name="GreaterEqual"), name="b_count")
            switch = raw.Switch(merge, context.pivot, name="Switch")
            index = raw.Sub(switch[1], one, name="Sub")
            context.pivot_for_body = index
            following: Tensor = raw.NextIteration(index, name="NextIteration")
            merge.op._update_input(1, following)
            final: Tensor = raw.Exit(switch[0], name="b_count")
            context.loop_exits.append(final)
            if self.outer is not None:
                # What an inner loop pops in one run of it comes before what it pops in the next.
                self.outer.backward_sync._add_control_input(final.op)
            context.leave([final])
        return following

    @property
    def forward_sync(self) -> Operation:
        """Waits for pushes that a cond may leave dead, before the next forward iteration."""
        if self._forward_sync is None:
            with self.forward.graph.control_dependencies(None):
                sync = raw.ControlTrigger(name="f_sync")
            sync._context = self.forward
            self.forward_index.op._add_control_input(sync)
            self._forward_sync = sync
        return self._forward_sync

    @property
    def backward_sync(self) -> Operation:
        """Waits for all pops of a backward iteration, before the next one."""
        if self._backward_sync is None:
            with self.forward.graph.control_dependencies(None):
                sync = raw.ControlTrigger(name="b_sync")
            sync._context = self.context
            self.backward_index.op._add_control_input(sync)
            self._backward_sync = sync
        return self._backward_sync

    def push_history(self, value: Tensor, dead_branch: bool = False) -> Tensor:
        """Push `value` on a stack in every forward iteration; the stack's handle, made outside of the forward loop.

        dead_branch: `value` belongs to the branch of a cond that its context says is not taken.
        """
        graph = self.forward.graph
        with graph.control_dependencies(None):
            with inside(self._caller), graph.colocate_with(value):
                stack = raw.StackV2(constant(-1), elem_type=value.dtype.base_dtype, name="f_acc")
            handle = self.forward.add_value(stack)
            context = output_context(value.op)
            if context is self.forward:
                with self.forward.entered():
                    push = raw.StackPushV2(handle, value, swap_memory=self.forward.swap_memory)
                self.forward_index.op._add_control_input(push.op)
            else:
                if not isinstance(context, CondContext):
                    raise TypeError(
                        f"'{value.name}' is in no branch of a cond inside the loop '{self.forward.name}'"
                    )
                with inside(context.outer if dead_branch else context):
                    push = raw.StackPushV2(handle, value, swap_memory=self.forward.swap_memory)
                if dead_branch:
                    push.op._context = context
                self.forward_sync._add_control_input(push.op)
            # After the counter has moved on, so that the pushes of one iteration come after those of the one before.
            push.op._add_control_input(self.forward_index.op._inputs[0].op)
        found: Tensor = stack
        return found

    def pop_history(self, history: Tensor, value: Tensor, dead_branch: bool = False) -> Tensor:
        """In every backward iteration, the value that the matching forward iteration pushed on `history`."""
        home = history.op._context
        cond: CondContext | None = None
        context = value.op._context
        while context is not None and context is not home:
            if isinstance(context, CondContext):
                cond = context
                break
            context = context.outer
        with self.forward.graph.control_dependencies(None), self.context.entered():
            if cond is not None:  # pop only where something was pushed
                branch = 1 - cond.branch if dead_branch else cond.branch
                history = switch_ref_or_tensor(history, self._known_predicate(cond))[branch]
            pop: Tensor = raw.StackPopV2(history, elem_type=value.dtype.base_dtype)
            pop.set_shape(value._shape)
        if self.context.parallel_iterations > 1:
            self.backward_sync._add_control_input(pop.op)
        return pop

    def _known_predicate(self, cond: CondContext) -> Tensor:
        """The predicate of a forward cond in the backward iteration."""
        gradient: LoopGradient | None = self
        while gradient is not None:
            found = gradient.history.get(cond.pred)
            if found is not None:
                return found
            gradient = gradient.outer
        return cond.pred

    def real_value(self, value: Tensor) -> Tensor:
        """What stands for the forward loop's `value` in the backward loop, made at the first call for it."""
        real = self.history.get(value)
        if real is None:
            real = self._find_real_value(value)
            self.history[value] = real
        return real

    def _find_real_value(self, value: Tensor) -> Tensor:
        owner: LoopGradient | None = self
        while True:
            assert owner is not None
            enter = _constant_enter_behind(value)
            if enter is not None:
                value = enter._inputs[0]
                owner = owner.outer
                if owner is None:  # an invariant of all loops
                    return self.context.add_value(value)
                continue
            if value.op.opdef.name == "Const":
                return constant(constant_value(value), value.dtype)
            with self.outside():
                history = owner.push_history(value)
            break
        real = owner.pop_history(history, value)
        return real if owner is self else self.context.add_value(real)

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Leave the backward loops for a moment, to where `gradients` was called."""
        scopes = self.forward.graph._scopes
        before, scopes.context = scopes.context, self._caller
        try:
            yield
        finally:
            scopes.context = before

    def backward_predicate(self, cond: CondContext) -> Tensor:
        """The value that the predicate of a cond inside the forward loop had, in the backward iteration."""
        real = self.history.get(cond.pred)
        if real is None:
            with self.outside():
                history = self.push_history(cond.pred)
            real = self.pop_history(history, cond.pred)
            self.history[cond.pred] = real
        return real

    def finish(self) -> None:
        """Close backward variables whose gradient in one iteration does not depend on the one before: zeros from then on."""
        for merge, *rest in map(slices.components, self.switches.values()):
            if merge.op._inputs[0] is not merge.op._inputs[1]:
                continue
            entering = merge.op._inputs[0]
            shape = entering._shape
            if shape.is_fully_defined():
                with self.context.entered():
                    following = raw.NextIteration(
                        constant(0, merge.dtype, shape.as_list()), name="NextIteration"
                    )
            else:
                with inside(self.context.outer):
                    nothing = zeros(runtime_shape(entering.op._inputs[0]), merge.dtype)
                with self.context.entered():
                    following = raw.NextIteration(nothing, name="NextIteration")
            merge.op._update_input(1, following)
            for each in rest:  # of slices: zeros in the rows where there was something
                with self.context.entered():
                    each.op._update_input(1, raw.NextIteration(each.op._inputs[0], name="NextIteration"))


def _constant_enter_behind(value: Tensor) -> Operation | None:
    """The constant Enter that `value` is, seen through Switches and Identities; None if it is something else."""
    op = value.op
    while op.opdef.name in ("Switch", "RefSwitch", "Identity", "RefIdentity"):
        op = op._inputs[0].op
    return op if is_constant_enter(op) else None
