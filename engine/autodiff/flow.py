"""Gradient functions of the control-flow primitives.

Run backward, a Switch merges and a Merge switches, an Exit enters and an Enter exits; `engine.autodiff.loops` holds what a loop's
backward loop keeps.
"""

from __future__ import annotations

from typing import Any

from engine.autodiff.gradients import RegisterGradient, no_gradient
from engine.autodiff.loops import GradientContext
from engine.control.context import CondContext, WhileContext, output_context, switch_ref_or_tensor
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
    context = op._context
    if isinstance(context, WhileContext):
        loop = _backward_loop()
        assert loop is not None
        merge = loop.gradient.switches.get(op)
        if merge is not None:
            # The second visit, from inside the loop: this is the gradient of the next (that is, earlier) iteration.
            if grads[1] is not None:
                following = raw.NextIteration(grads[1], name="NextIteration")
                merge.op._update_input(1, following)
            return None, None
        if grads[0] is None:
            return None, None
        # The first visit, from the Exit: the back edge is filled in at the second.
        merge = raw.Merge([grads[0], grads[0]], name="b_switch")[0]
        loop.gradient.switches[op] = merge
        return merge, None
    if isinstance(context, CondContext):
        if grads[1 - context.branch] is None:
            return None, None
        return raw.Merge(list(grads), name="cond_grad")[0], None
    on_false = raw.Switch(grads[0], op._inputs[1])[0]
    on_true = raw.Switch(grads[1], op._inputs[1])[1]
    return raw.Merge([on_false, on_true])[0], None


@RegisterGradient("Merge")
@RegisterGradient("RefMerge")
def _merge(op: Operation, grad: Any, _: Any) -> Any:
    context = output_context(op._inputs[0].op)
    loop = _backward_loop()
    if isinstance(context, WhileContext):
        assert loop is not None and loop.pivot is not None
        return switch_ref_or_tensor(grad, loop.pivot)
    if isinstance(context, CondContext):
        pred = context.pred if loop is None else loop.gradient.backward_predicate(context)
        with get_default_graph().colocate_with(grad, ignore_existing=True):
            return list(raw.Switch(grad, pred, name="cond_grad"))
    chosen = [raw.Equal(op.outputs[1], i) for i in range(len(op._inputs))]
    return [switch_ref_or_tensor(grad, each)[1] for each in chosen]


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
    if isinstance(grad, IndexedSlices):
        raise TypeError(f"The gradient of the loop result '{op.name}' is IndexedSlices; make it dense with tf.convert_to_tensor")
    loop.known.add(grad)
    entered = raw.Enter(
        grad, frame_name=loop.name, is_constant=False, parallel_iterations=loop.parallel_iterations, name="b_exit"
    )
    loop.loop_enters.append(entered)
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
            grad = _dense(grad)
        return loop.gradient.accumulate(op, grad)
    result: Tensor = raw.Exit(grad, name="Exit")
    loop.loop_exits.append(result)
    loop.leave([result])
    return result


def _dense(grad: IndexedSlices) -> Tensor:
    from engine.graph.convert import convert_to_tensor

    return convert_to_tensor(grad)


for _stack_op in ("StackPushV2", "StackPopV2"):
    no_gradient(_stack_op)
