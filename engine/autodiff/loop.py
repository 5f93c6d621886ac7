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
from typing import TYPE_CHECKING, Any

from engine.autodiff import slices
from engine.autodiff.backward import GradientContext, enter_variable, inside, runtime_shape, zeros
from engine.autodiff.guards import Guard
from engine.control.context import (
    CondContext,
    ControlFlowContext,
    WhileContext,
    is_constant_enter,
    output_context,
    switch_ref_or_tensor,
)
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.registry import raw
from engine.op.shapes import constant_value
from engine.types.device import DeviceSpec

if TYPE_CHECKING:
    from engine.autodiff.loops import LoopGradients


def _where(value: Tensor) -> contextlib.AbstractContextManager[None]:
    """Where the stack of a forward value is: also with the operation whose gradient asks for the value, as in TensorFlow.

    Where the two may turn out to be on different devices, a stack cannot be with both, and is with the value.  What only
    colocation says of a device (as of a TensorArray, which goes where it is first written) is known when nodes are placed.
    """
    op = value.op
    pushes = [user.device for user in value.consumers() if user.type == "StackPushV2"]  # for other gradients
    wanted = [DeviceSpec.from_string(device) for device in (op.device, *pushes) if device]
    others = [DeviceSpec.from_string(each.device) for each in op.graph._scopes.colocation if each.device]
    stated = len(others) == len(op.graph._scopes.colocation)
    is_free = not wanted and "_class" not in op.attrs
    if is_free or (stated and all(a.is_compatible_with(b) for a in wanted for b in others)):
        return contextlib.nullcontext()
    return op.graph.colocate_with(None, ignore_existing=True)


class LoopGradient:
    """The gradient of one forward loop, within one call of `gradients`."""

    def __init__(self, forward: WhileContext, outer: LoopGradient | None, loops: LoopGradients) -> None:
        self.forward = forward
        self.loops = loops
        self.guards = loops.guards
        # Where `gradients` was called.
        self.caller: ControlFlowContext | None = forward.graph._scopes.context
        self.outer = outer
        self.history: dict[Tensor, Tensor] = {}  # forward value → its value in the backward iteration
        self.switches: dict[
            Operation, Any
        ] = {}  # loop Switch → the backward loop's Merge (or Merges) for that variable
        self.has_pushed = False  # whether gradients arrive inside of the forward loop, at what it pushed
        self.unused_exits: list[Tensor] = []
        self.deferred_exits: list[Tensor] = []
        self.exits = list(forward.loop_exits)
        self.pending_exits = len(self.exits)
        self._forward_sync: Operation | None = None
        self._backward_sync: Operation | None = None
        # Whether the backward loop is in a loop that `forward` is not in, and so goes through the same history again and again.
        self._repeated: bool = (
            outer._repeated if outer is not None else _is_in_another_loop(self.caller, forward)
        )
        around = forward.outer if outer is None else outer.forward
        with self._beside(around):
            count, self.forward_index = self._count_up()
        if outer is None:
            if self._repeated:
                assert self.caller is not None
                count = self.caller.add_value(count)
            self.count = count
            with inside(None if self._repeated else forward.outer):
                self.context = GradientContext(self, forward)
                self.backward_index = self._count_down(count)
            return
        self.count = outer.count
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
            entered = enter_variable(start, forward, "f_count")
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
            entered = enter_variable(count, context, "b_count")
            self.start = entered.op
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
            self.end = final.op
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
        with graph.control_dependencies(None), _where(value):
            with inside(self._home), graph.colocate_with(value):
                stack = raw.StackV2(constant(-1), elem_type=value.dtype.base_dtype, name="f_acc")
            handle = self.forward.add_value(stack)
            context = output_context(value.op)
            if context is self.forward:
                with self.forward.entered():
                    push = raw.StackPushV2(handle, value, swap_memory=self.forward.swap_memory)
                after = self.forward_sync if self.guards.of(value) else self.forward_index.op
                after._add_control_input(push.op)
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

    def push_gradient(self, stack: Tensor, grad: Tensor) -> None:
        """Push `grad` on a stack in every backward iteration."""
        with self.forward.graph.control_dependencies(None):
            handle = self.context.add_value(stack)
            with self.context.entered():
                push = raw.StackPushV2(handle, grad, swap_memory=self.context.swap_memory)
            self.backward_sync._add_control_input(push.op)
            push.op._add_control_input(self.backward_index.op._inputs[0].op)

    def pop_history(
        self, history: Tensor, value: Tensor, dead_branch: bool = False, stack: Operation | None = None
    ) -> Tensor:
        """In every backward iteration, the value that the matching forward iteration pushed on `history`.

        stack: what made the stack on which `value` was pushed, if `history` is another, with as many elements.
        """
        home = history.op._context if stack is None else stack._context
        bare = () if dead_branch else self.guards.bare(value)
        cond: CondContext | None = None
        context = value.op._context
        while context is not None and context is not home:
            if isinstance(context, CondContext):
                cond = context
                break
            context = context.outer
        if self._repeated and stack is None:
            history = self._copied(history)
        with self.forward.graph.control_dependencies(None), _where(value), self.context.entered():
            # Pop only where something was pushed.
            for pred, branch in bare:
                history = switch_ref_or_tensor(history, self.real_value(pred))[branch]
            if cond is not None and not bare:
                branch = 1 - cond.branch if dead_branch else cond.branch
                history = switch_ref_or_tensor(history, self._known_predicate(cond))[branch]
            pop: Tensor = raw.StackPopV2(history, elem_type=value.dtype.base_dtype)
            pop.set_shape(value._shape)
        if self.context.parallel_iterations > 1:
            self.backward_sync._add_control_input(pop.op)
        return pop

    @property
    def _home(self) -> ControlFlowContext | None:
        """Where the stacks are made."""
        if not self._repeated:
            return self.caller
        return self.forward.outer if self.outer is None else self.outer._home

    @contextlib.contextmanager
    def _beside(self, context: ControlFlowContext | None) -> Iterator[None]:
        """Build where the forward loop is."""
        if not self._repeated:
            with inside(context):
                yield
        else:
            with self.forward.graph.control_dependencies(None), inside(context):
                yield

    def _copied(self, history: Tensor) -> Tensor:
        """The stack as the forward loop left it, for one iteration of the loop in which `gradients` was called."""
        graph, caller = self.forward.graph, self.caller
        assert caller is not None
        loop = caller.while_context()
        assert loop is not None
        with graph.control_dependencies(None), caller.entered(), graph.control_dependencies([self.count]):
            made: Tensor = raw._StackCopy(history, name="StackCopy")
        pivot = loop.control_pivot()
        if pivot is not None:
            made.op._add_control_input(pivot.op)
        return made

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

    @property
    def guard(self) -> Guard:
        """On what it depends whether the forward loop runs, in the loop around it."""
        return self.guards.of_loop(self.forward)

    def zeros_like(self, value: Tensor) -> Tensor:
        """In the backward iteration, zeros of the shape of the forward loop's `value`, alive where that is."""
        dtype = value.dtype.base_dtype
        if not value._shape.is_fully_defined():
            with inside(self.forward):
                shape = runtime_shape(value)
            with self.outside():
                history = self.push_history(shape)
            return zeros(self.pop_history(history, shape), dtype)
        made = constant(0, dtype, value._shape.as_list())
        for pred, branch in self.guards.of(value):
            made = switch_ref_or_tensor(made, self.real_value(pred))[branch]
        return made

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Leave the backward loops for a moment, to where `gradients` was called."""
        scopes = self.forward.graph._scopes
        before, scopes.context = scopes.context, self.caller
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
        for switch, merged in self.switches.items():
            merge, *rest = slices.components(merged)
            if merge.op._inputs[0] is not merge.op._inputs[1]:
                continue
            entering = merge.op._inputs[0]
            shape = entering._shape
            if shape.is_fully_defined():
                with self.context.entered():
                    following = raw.NextIteration(
                        constant(0, merge.dtype, shape.as_list()), name="NextIteration"
                    )
            elif self.forward.is_backward:
                # A variable of a backward loop has the shape of what it is the gradient of, another in each iteration.
                with self.context.entered():
                    following = raw.NextIteration(self.zeros_like(switch.outputs[1]), name="NextIteration")
            else:
                with inside(self.context.outer):
                    nothing = zeros(runtime_shape(entering.op._inputs[0]), merge.dtype)
                with self.context.entered():
                    following = raw.NextIteration(nothing, name="NextIteration")
            merge.op._update_input(1, following)
            for each in rest:  # of slices: zeros in the rows where there was something
                with self.context.entered():
                    each.op._update_input(1, raw.NextIteration(each.op._inputs[0], name="NextIteration"))


def _is_in_another_loop(caller: ControlFlowContext | None, forward: WhileContext) -> bool:
    """Whether `gradients` was called in a loop that is not around `forward`, and will go through it in each iteration."""
    around = forward.outer.while_context() if forward.outer is not None else None
    return caller is not None and caller.while_context() is not around


def _constant_enter_behind(value: Tensor) -> Operation | None:
    """The constant Enter that `value` is, seen through Switches and Identities; None if it is something else."""
    op = value.op
    while op.opdef.name in ("Switch", "RefSwitch", "Identity", "RefIdentity"):
        op = op._inputs[0].op
    return op if is_constant_enter(op) else None
