"""On what it depends, inside one iteration of a loop, whether a tensor is alive.

What a user writes in a branch has a context that says so.  The gradient of a branch has none: between its bare Switch and its
Merge it is dead where the forward branch was not taken.  When that in turn is differentiated, stacks must be popped only where
something was pushed, and the gradient of a tensor must be alive exactly where the tensor is.  So the guard of a tensor is worked
out from how the executor passes deadness on: a dead input makes dead, a Switch adds a condition, a Merge takes one away.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.control.context import (
    CondContext,
    ControlFlowContext,
    WhileContext,
    is_loop_enter,
    is_loop_exit,
    output_context,
)
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor

Guard = tuple[tuple[Tensor, int], ...]
"""(predicate, the value it must have), the outermost first."""


def is_loop_switch(op: Operation) -> bool:
    """Whether `op` is a loop's own Switch, and not one of a cond inside of it."""
    return (
        op.opdef.flow == "switch"
        and isinstance(op._context, WhileContext)
        and op._inputs[1].op.opdef.flow == "loop_cond"
    )


def is_loop_merge(op: Operation) -> bool:
    """Whether `op` is a loop's own Merge, of what enters and of what comes back."""
    return op.opdef.flow == "merge" and is_loop_enter(op._inputs[0].op)


def is_cond_switch(op: Operation) -> bool:
    """Whether `op` brings a tensor into a branch of a cond that has a context."""
    return (
        op.opdef.flow == "switch"
        and isinstance(op._context, CondContext)
        and op._inputs[1] is op._context.pred
    )


def guard_of_context(context: ControlFlowContext | None) -> Guard:
    """The branches around a place, up to the loop around it."""
    found: list[tuple[Tensor, int]] = []
    while isinstance(context, CondContext):
        found.append((context.pred, context.branch))
        context = context.outer
    return tuple(reversed(found))


class Guards:
    """The guards of the tensors of a graph, as they are asked for.  Outside of all loops nobody needs them: there all are ()."""

    def __init__(self) -> None:
        self._known: dict[Operation, Guard] = {}

    def of(self, tensor: Tensor) -> Guard:
        """The guard of `tensor` in its iteration."""
        op = tensor.op
        if not _in_loop(op):
            return ()
        guard = self.of_op(op)
        if op.opdef.flow != "switch" or is_loop_switch(op) or op._inputs[0] is op._inputs[1]:
            return guard  # a Switch of the predicate itself is the pivot of a context, which says the same
        return (*guard, (op._inputs[1], op.outputs.index(tensor)))

    def bare(self, tensor: Tensor) -> Guard:
        """The part of the guard of `tensor` that no context says."""
        known = guard_of_context(output_context(tensor.op))
        return tuple(each for each in self.of(tensor) if each not in known)

    def is_bare(self, op: Operation) -> bool:
        """Whether `op` runs, or not, for a reason that its context does not say."""
        entering = is_loop_enter(op)
        if not entering and not _in_loop(op):
            return False
        guard = self.of_loop(op._context) if entering else self.of_op(op)
        known = guard_of_context(op._context.outer if entering else output_context(op))
        return any(each not in known for each in guard)

    def of_loop(self, loop: WhileContext) -> Guard:
        """On what it depends, in the loop outside, whether `loop` runs."""
        found = guard_of_context(loop.outer)
        for enter in loop.loop_enters:
            found = _both(found, self.of(enter.op._inputs[0]))
        return found

    def of_op(self, op: Operation) -> Guard:
        """The guard under which `op` runs, in the iteration in which its outputs are."""
        waiting = [op]
        while waiting:
            top = waiting[-1]
            missing = [each for each in _needed(top) if each not in self._known]
            if top in self._known or not missing:
                self._known.setdefault(waiting.pop(), self._combined(top))
            else:
                waiting.extend(missing)
        return self._known[op]

    def branches(self, merge: Operation) -> tuple[Tensor, list[int]] | None:
        """The predicate that decides which input of a Merge is alive, and its value for each input; None if there is no such."""
        if len(merge._inputs) != 2:
            return None
        first, second = (self.of(tensor) for tensor in merge._inputs)
        for pred, branch in reversed(first):
            if (pred, 1 - branch) in second:
                return pred, [branch, 1 - branch]
        return None

    def _combined(self, op: Operation) -> Guard:
        if op in self._known:
            return self._known[op]
        context = output_context(op)
        if is_cond_switch(op):
            context = context.outer
        found = guard_of_context(context)
        if op.opdef.flow == "merge" and not is_loop_merge(op):
            first, *others = (self.of(tensor) for tensor in op._inputs)
            return _both(found, tuple(each for each in first if all(each in other for other in others)))
        if is_loop_exit(op):
            return _both(found, self.of_loop(op._context))
        for tensor in _inputs(op):
            found = _both(found, self.of(tensor))
        for source in _controls(op):
            found = _both(found, self._known[source])
        return found


def _both(first: Guard, second: Guard) -> Guard:
    if not second or first == second:
        return first
    return (*first, *(each for each in second if each not in first))


def _in_loop(op: Operation) -> bool:
    context = output_context(op)
    return context is not None and context.while_context() is not None


def _inputs(op: Operation) -> Sequence[Tensor]:
    """The inputs in the same iteration that make `op` dead."""
    if op.opdef.flow in ("enter", "next_iteration", "control_trigger") or is_loop_merge(op):
        return ()
    return op._inputs


def _controls(op: Operation) -> list[Operation]:
    if op.opdef.flow in ("enter", "next_iteration", "control_trigger") or is_loop_merge(op):
        return []
    return [each for each in op._control_inputs if _in_loop(each)]


def _needed(op: Operation) -> list[Operation]:
    """The operations whose guards that of `op` is made of."""
    if is_loop_exit(op):
        tensors = [enter.op._inputs[0] for enter in op._context.loop_enters]
        return [tensor.op for tensor in tensors if _in_loop(tensor.op)]
    return [tensor.op for tensor in _inputs(op) if _in_loop(tensor.op)] + _controls(op)
