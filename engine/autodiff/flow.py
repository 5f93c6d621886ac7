"""Gradient functions of the control-flow primitives.

Run backward, a Switch merges and a Merge switches, an Exit enters and an Enter exits; `engine.autodiff.loops` holds what a loop's
backward loop keeps.
"""

from __future__ import annotations

from typing import Any

from engine.autodiff import slices
from engine.autodiff.accumulate import accumulate, accumulate_slices
from engine.autodiff.gradients import RegisterGradient, no_gradient
from engine.autodiff.loop import GradientContext
from engine.control.context import CondContext, WhileContext, output_context
from engine.graph.default import get_default_graph
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.op.registry import raw


def _backward_loop() -> GradientContext | None:
    context = get_default_graph()._scopes.context
    loop = context.while_context() if context is not None else None
    return loop if isinstance(loop, GradientContext) else None


@RegisterGradient("Switch")
@RegisterGradient("RefSwitch")
def _switch(op: Operation, *grads: Any) -> Any:
    context = op._context
    if isinstance(context, WhileContext):
        loop = _backward_loop()
        assert loop is not None
        merge = loop.gradient.switches.get(op)
        if merge is not None:
            # The second visit, from inside the loop: this is the gradient of the next (that is, earlier) iteration.
            if grads[1] is not None:
                slices.close_loop(merge, grads[1])
            return None, None
        if grads[0] is None:
            return None, None
        # The first visit, from the Exit: the back edge is filled in at the second.
        merge = slices.merge([grads[0], grads[0]], name="b_switch")
        loop.gradient.switches[op] = merge
        return merge, None
    if isinstance(context, CondContext):
        if grads[1 - context.branch] is None:
            return None, None
        return slices.merge(grads, name="cond_grad"), None
    on_false = slices.switch(grads[0], op._inputs[1])[0]
    on_true = slices.switch(grads[1], op._inputs[1])[1]
    return slices.merge([on_false, on_true], name="Merge"), None


@RegisterGradient("Merge")
@RegisterGradient("RefMerge")
def _merge(op: Operation, grad: Any, _: Any) -> Any:
    context = output_context(op._inputs[0].op)
    loop = _backward_loop()
    if isinstance(context, WhileContext):
        assert loop is not None and loop.pivot is not None
        return slices.switch(grad, loop.pivot)
    if isinstance(context, CondContext):
        pred = context.pred if loop is None else loop.gradient.backward_predicate(context)
        return slices.switch(grad, pred, name="cond_grad")
    chosen = [raw.Equal(op.outputs[1], i) for i in range(len(op._inputs))]
    return [slices.switch(grad, each)[1] for each in chosen]


@RegisterGradient("Exit")
@RegisterGradient("RefExit")
def _exit(op: Operation, grad: Any) -> Any:
    loop = _backward_loop()
    assert loop is not None
    if not loop.back_prop:
        return None
    if isinstance(op._context, GradientContext):
        raise TypeError(
            f"Second-order gradient for while loops not supported: '{op.name}' is the result of a loop's gradient. "
            "Write the loop out, or use tf.stop_gradient."
        )
    loop.known.update(slices.components(grad))
    return slices.enter(grad, loop.enter)


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


for _stack_op in ("StackPushV2", "StackPopV2"):
    no_gradient(_stack_op)
