"""The loops that one call of `gradients` goes through: which of their exits have gradients, and zeros where none came."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from engine.autodiff.backward import HERE, inside, runtime_shape, while_context_of, zeros
from engine.autodiff.guards import Guards, is_cond_switch, is_loop_switch
from engine.autodiff.higher import aligned
from engine.autodiff.history import stack_of
from engine.autodiff.loop import LoopGradient
from engine.control.context import CondContext, WhileContext, is_loop_exit, switch_ref_or_tensor
from engine.graph.default import get_default_graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.registry import raw


class LoopGradients:
    """The loops that one call of `gradients` goes through."""

    def __init__(self) -> None:
        self.guards = Guards()
        self._by_loop: dict[WhileContext, LoopGradient] = {}

    def include(
        self,
        between: dict[Operation, None],
        colocated: Callable[[Operation], contextlib.AbstractContextManager[None]],
    ) -> None:
        """The walk will meet the operations `between`: make the gradients of their loops, and take all exits of these in.

        colocated: in which a loop's gradient is begun, given the exit through which it is met.
        """
        for op in list(between):
            if is_loop_exit(op):
                forward = while_context_of(op)
                if forward is None:
                    raise _without_context(op)
                with colocated(op):
                    self._include(forward, between)
            elif op.type == "StackPushV2":
                # What its loops give may have no gradient, and what is pushed inside has.
                for forward in _loops_between(stack_of(op), op):
                    self._include(forward, between)
                    self._by_loop[forward].has_pushed = True

    def _include(self, forward: WhileContext, between: dict[Operation, None]) -> None:
        if forward in self._by_loop:
            return
        outer_loop = _loop_outside(forward)
        outer = self._by_loop.get(outer_loop) if outer_loop is not None else None
        gradient = self._by_loop[forward] = LoopGradient(forward, outer, self)
        for each in gradient.exits:
            op = each.op
            while (
                is_loop_exit(op) or op.type == "Identity"
            ):  # with gate_gradients there is an Identity between a backward loop's Switch and Exit
                between.setdefault(op)
                op = op._inputs[0].op

    def of(self, op: Operation, before: bool) -> LoopGradient | None:
        """The gradient of the loop around `op`; `before` an Exit is taken to be in the loop outside."""
        loop = while_context_of(op)
        if before and is_loop_exit(op) and loop is not None:
            loop = _loop_outside(loop)
        return self._by_loop.get(loop) if loop is not None else None

    def entered(self, op: Operation, before: bool) -> contextlib.AbstractContextManager[None]:
        """Build in the backward loop of the loop around `op`, if it has one."""
        gradient = self.of(op, before)
        return HERE if gradient is None else gradient.context.entered()

    def unused_exits(self, pending: dict[Operation, int], to_ops: set[Operation]) -> list[Tensor]:
        """Exits that no gradient will reach, of loops all of whose exits are such or y's.

        All Enters of the loops are noted as `pending`: the walk is to go through each, whatever comes before it.
        """
        found: list[Tensor] = []
        for gradient in self._by_loop.values():
            for exit_ in gradient.exits:
                if pending.get(exit_.op, 0) == 0:
                    gradient.pending_exits -= 1
                    if exit_.op not in to_ops:
                        gradient.unused_exits.append(exit_)
                    if gradient.pending_exits == 0:
                        found.extend(gradient.unused_exits)
            for enter in gradient.forward.loop_enters:
                pending.setdefault(enter.op, 1)
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
        if ready or gradient.has_pushed:
            for unused in gradient.unused_exits:
                if unused.dtype.base_dtype.is_floating or unused.dtype.base_dtype.is_complex:
                    send(unused, self.zeros_for_exit(unused))
        return [*ready, *(each.op for each in gradient.unused_exits)]

    def zeros_for_exit(self, exit_: Tensor) -> Tensor:
        """A zero gradient for a loop's result that nothing was computed from."""
        forward = while_context_of(exit_.op)
        assert forward is not None
        outer_loop = _loop_outside(forward)
        outer = self._by_loop.get(outer_loop) if outer_loop is not None else None
        dtype = exit_.dtype.base_dtype
        if outer is None:
            if exit_._shape.is_fully_defined():
                return zeros(exit_._shape.as_list(), dtype)
            nothing: Tensor = raw.ZerosLike(exit_, name="zeros_like")
            return nothing
        if exit_._shape.is_fully_defined():
            with outer.context.entered():
                return zeros(exit_._shape.as_list(), dtype)
        with inside(forward.outer):
            shape = runtime_shape(exit_)
        history = outer.push_history(shape)
        with outer.context.entered():
            return zeros(outer.pop_history(history, shape), dtype)

    def zeros_for(self, op: Operation, index: int) -> Tensor | None:
        """A zero gradient for an output of `op` that nothing was computed from; None for a loop's own Switch."""
        if is_loop_switch(op):
            return None
        value = op.outputs[index]
        gradient = self.of(op, before=False)
        if gradient is None:
            return zeros_outside_loops(op, index)
        if self.guards.bare(value) and not is_cond_switch(op):
            return gradient.zeros_like(value)
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
                shape = runtime_shape(value)
            value.op._context = context
            shape.op._context = context
        else:
            with inside(context):
                shape = runtime_shape(value)
        with gradient.outside():
            history = gradient.push_history(shape, dead_branch)
        return zeros(gradient.pop_history(history, shape, dead_branch), dtype)

    def aligned(self, op: Operation, sources: Sequence[Tensor], grads: Sequence[Any]) -> list[Any]:
        """The gradients of `op` at its `sources`, each alive where its source is (see `engine.autodiff.higher.aligned`)."""
        found = list(grads)
        if not self.guards.is_bare(op):
            return found
        for i, (tensor, grad) in enumerate(zip(op._inputs, grads, strict=False)):
            gradient = self.of(tensor.op, before=True)
            if grad is not None and gradient is not None:
                with gradient.context.entered():
                    found[i] = aligned(gradient, tensor, grad)
        return found

    def finish(self) -> None:
        for gradient in self._by_loop.values():
            gradient.finish()


def _without_context(op: Operation) -> TypeError:
    return TypeError(
        f"There is no gradient of '{op.name}': it is the result of a loop of which this graph has the nodes, and not "
        "which of them belong to it. A GraphDef does not say that, and a MetaGraphDef says it only of loops that "
        "tf.while_loop made, not of those that tf.gradients did. Call tf.gradients in the graph in which the loop was built."
    )


def _loop_outside(loop: WhileContext) -> WhileContext | None:
    return loop.outer.while_context() if loop.outer is not None else None


def _loops_between(stack: Operation, push: Operation) -> list[WhileContext]:
    """The loops around a push that its stack is not in, the outermost first."""
    found: list[WhileContext] = []
    limit, loop = while_context_of(stack), while_context_of(push)
    while loop is not None and loop is not limit:
        found.append(loop)
        loop = _loop_outside(loop)
    return found[::-1]


def zeros_outside_loops(op: Operation, index: int) -> Tensor:
    """A zero gradient for an output of `op`, which is in no loop; a cond's Switch gets one where its other branch is taken."""
    value = op.outputs[index]
    context = op._context
    if op.opdef.flow != "switch" or not isinstance(context, CondContext):
        nothing: Tensor = raw.ZerosLike(value, name="zeros_like")
        return nothing
    other = raw.Switch(op._inputs[0], context.pred, name="Switch")[1 - context.branch]
    pivot = raw.Identity(other)
    shape = runtime_shape(other)
    with get_default_graph().control_dependencies([pivot]):
        return zeros(shape, value.dtype.base_dtype)
