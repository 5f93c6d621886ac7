"""Gradients of while loops: for each loop a second one that runs backward.

The backward loop of a loop takes as many iterations as the loop did (it counts down what a counter added to the loop counted up)
and in each computes the gradients of one forward iteration, the last first.  A forward value that a gradient needs is pushed on a
stack in its forward iteration and popped in the backward one; a loop invariant is brought in as it is, and its gradient is
summed over the iterations.  Loops nest: a stack of an inner loop is made anew in each iteration of the outer one, and kept on a
stack of that one in turn.  Structure and names of what is added are TensorFlow 1's; the scheme is section 5.1 of Yu et al.,
"Dynamic Control Flow in Large-Scale Machine Learning" (EuroSys 2018).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.control.context import (
    CondContext,
    ControlFlowContext,
    WhileContext,
    is_constant_enter,
    is_loop_exit,
    output_context,
    switch_ref_or_tensor,
)
from engine.graph.default import get_default_graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.fills import zeros
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


def _zeros(shape: Any, dtype: DType) -> Tensor:
    made: Tensor = zeros(shape, dtype)
    return made


def _runtime_shape(value: Tensor) -> Tensor:
    """The shape of `value` when the graph runs, even if it is known already: a node where the value is, not a constant."""
    shape: Tensor = raw.Shape(value, name="Shape")
    return shape


class GradientContext(WhileContext):
    """The context of a backward loop: forward values reach it through `LoopGradient.real_value`."""

    def __init__(self, gradient: LoopGradient, forward: WhileContext) -> None:
        super().__init__(
            forward.parallel_iterations, forward.back_prop, forward.swap_memory, forward.maximum_iterations, name=forward.name
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


class LoopGradient:
    """The gradient of one forward loop, within one call of `gradients`."""

    def __init__(self, forward: WhileContext, outer: LoopGradient | None) -> None:
        self.forward = forward
        self._caller: ControlFlowContext | None = forward.graph._scopes.context  # where `gradients` was called
        self.outer = outer
        self.history: dict[Tensor, Tensor] = {}  # forward value → its value in the backward iteration
        self.switches: dict[Operation, Tensor] = {}  # loop Switch → the backward loop's Merge for that variable
        self.unused_exits: list[Tensor] = []
        self.deferred_exits: list[Tensor] = []
        self.exits = list(forward.loop_exits)
        self.pending_exits = len(self.exits)
        self._forward_sync: Operation | None = None
        self._backward_sync: Operation | None = None
        with inside(forward.outer):
            count, self.forward_index = self._count_up()
        if outer is None:
            with inside(forward.outer):
                self.context = GradientContext(self, forward)
                self.backward_index = self._count_down(count)
            return
        assert forward.outer is not None
        forward.outer.known.add(count)
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
                    raise TypeError(f"'{value.name}' is in no branch of a cond inside the loop '{self.forward.name}'")
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
            with self._outside():
                history = owner.push_history(value)
            break
        real = owner.pop_history(history, value)
        return real if owner is self else self.context.add_value(real)

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
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
            with self._outside():
                history = self.push_history(cond.pred)
            real = self.pop_history(history, cond.pred)
            self.history[cond.pred] = real
        return real

    def accumulate(self, enter: Operation, grad: Tensor) -> Tensor:
        """The sum over all backward iterations of the gradient of a loop invariant."""
        context = self.context
        with self._outside():
            start = self._zeros_outside(enter._inputs[0], grad)
        context.known.add(start)
        entered = _enter(start, context, "b_acc")
        merge = raw.Merge([entered, entered], name="b_acc")[0]
        assert context.pivot is not None
        switch = raw.Switch(merge, context.pivot, name="Switch")
        total = raw.AddV2(switch[1], grad, name="Add")
        merge.op._update_input(1, raw.NextIteration(total, name="NextIteration"))
        result: Tensor = raw.Exit(switch[0], name="b_acc")
        context.loop_exits.append(result)
        context.leave([result])
        return result

    def _zeros_outside(self, like: Tensor, grad: Tensor) -> Tensor:
        if grad._shape.is_fully_defined() or self.outer is None:
            with inside(self.context.outer):
                if grad._shape.is_fully_defined():
                    return constant(0, grad.dtype, grad._shape.as_list(), name="b_acc")
                return _zeros(_runtime_shape(like), grad.dtype)
        with inside(self.forward.outer):
            shape = _runtime_shape(like)
        history = self.outer.push_history(shape)
        with self.outer.context.entered():
            return _zeros(self.outer.pop_history(history, shape), grad.dtype)

    def finish(self) -> None:
        """Close backward variables whose gradient in one iteration does not depend on the one before: zeros from then on."""
        for merge in self.switches.values():
            if merge.op._inputs[0] is not merge.op._inputs[1]:
                continue
            shape = merge.op._inputs[0]._shape
            if shape.is_fully_defined():
                with self.context.entered():
                    following = raw.NextIteration(constant(0, merge.dtype, shape.as_list()), name="NextIteration")
            else:
                with inside(self.context.outer):
                    entering = merge.op._inputs[0].op._inputs[0]
                    nothing = _zeros(_runtime_shape(entering), merge.dtype)
                with self.context.entered():
                    following = raw.NextIteration(nothing, name="NextIteration")
            merge.op._update_input(1, following)


def _constant_enter_behind(value: Tensor) -> Operation | None:
    """The constant Enter that `value` is, seen through Switches and Identities; None if it is something else."""
    op = value.op
    while op.opdef.name in ("Switch", "RefSwitch", "Identity", "RefIdentity"):
        op = op._inputs[0].op
    return op if is_constant_enter(op) else None


class LoopGradients:
    """The loops that one call of `gradients` goes through."""

    def __init__(self) -> None:
        self._by_loop: dict[WhileContext, LoopGradient] = {}

    def include(self, exit_op: Operation, between: dict[Operation, None]) -> None:
        """The walk will meet this Exit: make its loop's gradient, and take all exits of the loop into the walk."""
        forward = while_context_of(exit_op)
        assert forward is not None
        if forward in self._by_loop:
            return
        outer_loop = forward.outer.while_context() if forward.outer is not None else None
        outer = self._by_loop.get(outer_loop) if outer_loop is not None else None
        gradient = self._by_loop[forward] = LoopGradient(forward, outer)
        for each in gradient.exits:
            between.setdefault(each.op)

    def of(self, op: Operation, before: bool) -> LoopGradient | None:
        """The gradient of the loop around `op`; `before` an Exit is taken to be in the loop outside."""
        loop = while_context_of(op)
        if before and is_loop_exit(op) and loop is not None:
            loop = loop.outer.while_context() if loop.outer is not None else None
        return self._by_loop.get(loop) if loop is not None else None

    @contextlib.contextmanager
    def entered(self, op: Operation, before: bool) -> Iterator[None]:
        """Build in the backward loop of the loop around `op`, if it has one."""
        gradient = self.of(op, before)
        with inside(gradient.context if gradient is not None else None):
            yield

    def unused_exits(self, pending: dict[Operation, int], to_ops: set[Operation]) -> list[Tensor]:
        """Exits that no gradient will reach, of loops all of whose exits are such or y's."""
        found: list[Tensor] = []
        for gradient in self._by_loop.values():
            for exit_ in gradient.exits:
                if pending.get(exit_.op, 0) == 0:
                    gradient.pending_exits -= 1
                    if exit_.op not in to_ops:
                        gradient.unused_exits.append(exit_)
                    if gradient.pending_exits == 0:
                        found.extend(gradient.unused_exits)
        return found

    def ready_exit(
        self, exit_: Tensor, has_gradient: Callable[[Operation], bool], send: Callable[[Tensor, Any], None]
    ) -> Sequence[Operation]:
        """An Exit has all its gradients; once all of its loop have, the operations to go on with (zeros where none came)."""
        gradient = self.of(exit_.op, before=False)
        assert gradient is not None
        gradient.deferred_exits.append(exit_)
        gradient.pending_exits -= 1
        if gradient.pending_exits:
            return ()
        ready = [each.op for each in gradient.deferred_exits if has_gradient(each.op)]
        gradient.unused_exits.extend(each for each in gradient.deferred_exits if not has_gradient(each.op))
        if ready:
            for unused in gradient.unused_exits:
                if unused.dtype.base_dtype.is_floating or unused.dtype.base_dtype.is_complex:
                    send(unused, self.zeros_for_exit(unused))
        return [*ready, *(each.op for each in gradient.unused_exits)]

    def zeros_for_exit(self, exit_: Tensor) -> Tensor:
        """A zero gradient for a loop's result that nothing was computed from."""
        forward = while_context_of(exit_.op)
        assert forward is not None
        outer_loop = forward.outer.while_context() if forward.outer is not None else None
        outer = self._by_loop.get(outer_loop) if outer_loop is not None else None
        dtype = exit_.dtype.base_dtype
        if outer is None:
            if exit_._shape.is_fully_defined():
                return _zeros(exit_._shape.as_list(), dtype)
            nothing: Tensor = raw.ZerosLike(exit_, name="zeros_like")
            return nothing
        if exit_._shape.is_fully_defined():
            with outer.context.entered():
                return _zeros(exit_._shape.as_list(), dtype)
        with inside(forward.outer):
            shape = _runtime_shape(exit_)
        history = outer.push_history(shape)
        with outer.context.entered():
            return _zeros(outer.pop_history(history, shape), dtype)

    def zeros_for(self, op: Operation, index: int) -> Tensor | None:
        """A zero gradient for an output of `op` that nothing was computed from; None for a loop's own Switch."""
        if is_loop_switch(op):
            return None
        value = op.outputs[index]
        gradient = self.of(op, before=False)
        if gradient is None:
            return zeros_outside_loops(op, index)
        context = op._context
        dead_branch = op.opdef.flow == "switch"
        dtype = value.dtype.base_dtype
        if value._shape.is_fully_defined():
            result = constant(0, dtype, value._shape.as_list())
            if dead_branch:
                predicate = gradient._known_predicate(context)
                result = switch_ref_or_tensor(result, predicate)[1 - context.branch]
            return result
        if dead_branch:
            with inside(context.outer):
                value = switch_ref_or_tensor(op._inputs[0], context.pred)[1 - context.branch]
                shape = _runtime_shape(value)
            value.op._context = context
            shape.op._context = context
        else:
            with inside(context):
                shape = _runtime_shape(value)
        with gradient._outside():
            history = gradient.push_history(shape, dead_branch)
        return _zeros(gradient.pop_history(history, shape, dead_branch), dtype)

    def finish(self) -> None:
        for gradient in self._by_loop.values():
            gradient.finish()


def zeros_outside_loops(op: Operation, index: int) -> Tensor:
    """A zero gradient for an output of `op`, which is in no loop; for a cond's Switch, made only where its other branch is taken."""
    value = op.outputs[index]
    context = op._context
    if op.opdef.flow != "switch" or not isinstance(context, CondContext):
        nothing: Tensor = raw.ZerosLike(value, name="zeros_like")
        return nothing
    other = raw.Switch(op._inputs[0], context.pred, name="Switch")[1 - context.branch]
    pivot = raw.Identity(other)
    shape = _runtime_shape(other)
    with get_default_graph().control_dependencies([pivot]):
        return _zeros(shape, value.dtype.base_dtype)
