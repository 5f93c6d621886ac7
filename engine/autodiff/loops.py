"""The loops that one call of `gradients` goes through: which of their exits have gradients, and zeros where none came."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.autodiff.loop import LoopGradient, inside, is_loop_switch, runtime_shape, while_context_of, zeros
from engine.control.context import CondContext, WhileContext, is_loop_exit, switch_ref_or_tensor
from engine.graph.default import get_default_graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.registry import raw


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

    def finish(self) -> None:
        for gradient in self._by_loop.values():
            gradient.finish()


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
