"""Gradient functions of the control-flow primitives.

Run backward, a Switch merges and a Merge switches, an Exit enters and an Enter exits; `engine.autodiff.loops` holds what a loop's
backward loop keeps.
"""

from __future__ import annotations

from typing import Any

from engine.autodiff import slices
from engine.autodiff.accumulate import accumulate, accumulate_slices
from engine.autodiff.backward import GradientContext
from engine.autodiff.gradients import RegisterGradient
from engine.autodiff.guards import is_cond_switch, is_loop_merge, is_loop_switch
from engine.autodiff.higher import carry, unsupported
from engine.autodiff.history import pops_of, pushed
from engine.control.context import CondContext, output_context
from engine.graph.default import get_default_graph
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw


def _backward_loop() -> GradientContext | None:
    context = get_default_graph()._scopes.context
    loop = context.while_context() if context is not None else None
    return loop if isinstance(loop, GradientContext) else None


@RegisterGradient("Switch")
@RegisterGradient("RefSwitch")
def _switch(op: Operation, *grads: Any) -> Any:
    loop = _backward_loop()
    if is_loop_switch(op):
        assert loop is not None
        merge = loop.gradient.switches.get(op)
        if merge is not None:
            # The second visit, from inside the loop: this is the gradient of the next (that is, earlier) iteration.
            if grads[1] is not None:
                slices.close_loop(merge, grads[1])
            return None, None
        if grads[0] is None:
            if grads[1] is not None and loop.gradient.has_pushed:
                raise unsupported(op, "a part of it comes when the rest has gone on")
            return None, None
        # The first visit, from the Exit: the back edge is filled in at the second, unless all has come from inside already.
        merge = slices.merge([grads[0], grads[0]], name="b_switch")
        loop.gradient.switches[op] = merge
        if grads[1] is not None:
            slices.close_loop(merge, grads[1])
        return merge, None
    if is_cond_switch(op):
        if grads[1 - op._context.branch] is None:
            return None, None
        return slices.merge(grads, name="cond_grad"), None
    if loop is not None:
        return slices.merge(grads, name="cond_grad"), None
    on_false = slices.switch(grads[0], op._inputs[1])[0]
    on_true = slices.switch(grads[1], op._inputs[1])[1]
    return slices.merge([on_false, on_true], name="Merge"), None


@RegisterGradient("Merge")
@RegisterGradient("RefMerge")
def _merge(op: Operation, grad: Any, _: Any) -> Any:
    loop = _backward_loop()
    if is_loop_merge(op):
        assert loop is not None and loop.pivot is not None
        return slices.switch(grad, loop.pivot)
    context = output_context(op._inputs[0].op)
    if isinstance(context, CondContext) and context is not op._context:
        pred = context.pred if loop is None else loop.gradient.backward_predicate(context)
        return slices.switch(grad, pred, name="cond_grad")
    if loop is not None:
        decided = loop.gradient.guards.branches(op)
        if decided is None:
            raise unsupported(op, "no predicate decides which of its inputs is alive")
        sides = slices.switch(grad, loop.gradient.real_value(decided[0]), name="cond_grad")
        return [sides[branch] for branch in decided[1]]
    chosen = [raw.Equal(op.outputs[1], i) for i in range(len(op._inputs))]
    return [slices.switch(grad, each)[1] for each in chosen]


@RegisterGradient("Exit")
@RegisterGradient("RefExit")
def _exit(op: Operation, grad: Any) -> Any:
    loop = _backward_loop()
    assert loop is not None
    if not loop.back_prop:
        return None
    loop.known.update(slices.components(grad))
    entered = slices.enter(grad, loop.enter)
    if op._context.is_backward and isinstance(entered, Tensor):
        # The result of a backward loop has the shape of what was differentiated by; on the way there it may have had others.
        entered._shape = op._inputs[0]._shape
    return entered


@RegisterGradient("NextIteration")
@RegisterGradient("RefNextIteration")
def _next_iteration(op: Operation, grad: Any) -> Any:
    return grad


@RegisterGradient("Enter")
@RegisterGradient("RefEnter")
def _enter(op: Operation, grad: Any) -> Any:
    loop = _backward_loop()
    if loop is None or not loop.back_prop or grad is None:
        return grad
    if op.attrs["is_constant"]:
        if isinstance(grad, IndexedSlices):
            return accumulate_slices(loop.gradient, op, grad)
        return accumulate(loop.gradient, op, grad)
    result = slices.mapped(lambda tensor: raw.Exit(tensor, name="Exit"), grad)
    loop.loop_exits.extend(slices.components(result))
    loop.leave(slices.components(result))
    return result


@RegisterGradient("StackPushV2")
def _push(op: Operation, grad: Any) -> Any:
    return None, (grad if pops_of(op) else None)


@RegisterGradient("StackPopV2")
def _pop(op: Operation, grad: Any) -> Any:
    if pushed(op) is None:  # a stack of the user's: as in TensorFlow, nothing goes through it
        return None
    loop = _backward_loop()
    if loop is None:
        raise unsupported(op, "the loop that it is in is not differentiated")
    return None, carry(loop.gradient.loops, op, grad)
