"""Gradients of gradients through loops: what a backward loop needs beyond what a user's loop does when it is differentiated.

A backward loop B of a loop F pops, in its iterations N … 1, what F pushed in its iterations 1 … N.  The backward loop of B
runs 1 … N again and pushes the gradients of what B popped; the second backward loop of F, which begins when that has ended,
runs N … 1 and pops them.  So a pop's gradient is a push and a push's gradient is a pop.  The new pair is once more a loop that
pushes and a later one that pops in reverse, so that gradients of any order are made this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.autodiff import slices
from engine.autodiff.backward import inside
from engine.autodiff.history import is_copied, pushed, stack_of
from engine.autodiff.loop import LoopGradient
from engine.control.context import switch_ref_or_tensor
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.registry import raw

if TYPE_CHECKING:
    from engine.autodiff.loops import LoopGradients


_WRITE_OUT = "Write the loop out, or use tf.stop_gradient"

_BEFORE = "Call tf.gradients before tf.cond, and use in the branch what it gives"
_OUTSIDE = "Call tf.gradients outside of tf.while_loop, for tf.hessians once for each element of the gradient"


def unsupported(op: Operation, why: str, instead: str = _WRITE_OUT) -> TypeError:
    """The error for a gradient of a loop's gradient that cannot be made, naming the forward operation and its line."""
    cause = op
    while cause._original_op is not None:
        cause = cause._original_op
    frame = cause.site.user if cause.site is not None else None
    where = f" (made at {frame})" if frame is not None else ""
    return TypeError(
        f"The gradient of the gradient of '{cause.name}'{where} is not supported: {why}. It was to go through '{op.name}'. "
        f"{instead}."
    )


def carry(loops: LoopGradients, pop: Operation, grad: slices.Gradient) -> Tensor | None:
    """The gradient at what was pushed, in the second backward loop of the loop that did, from `grad` at what `pop` gave."""
    value, stack = pushed(pop), stack_of(pop)
    later = loops.of(pop, before=False)  # the gradient of the loop that pops; it runs first
    earlier = loops.of(value.op, before=False) if value is not None else None
    if value is None or later is None or earlier is None or stack.type != "StackV2":
        raise unsupported(
            pop, "the stack that it pops from is not one that a loop around it keeps for its gradient"
        )
    if is_copied(pop):
        raise unsupported(
            pop, "the first gradient was taken inside a loop, of a loop outside of it", _OUTSIDE
        )
    home = loops.of(stack, before=False)
    first, last = _outermost(later, home), _outermost(earlier, home)
    if first.context.outer is not last.context.outer or first.guard != last.guard:
        why = "the first gradient was taken inside a branch of a cond, of a loop outside of it"
        raise unsupported(pop, why, _BEFORE)
    graph = get_default_graph()
    around = home.context if home is not None else later.caller
    with graph.control_dependencies(None), inside(around), graph.colocate_with(value):
        made = raw.StackV2(constant(-1), elem_type=value.dtype.base_dtype, name="b_acc")
    later.push_gradient(made, convert_to_tensor(grad))
    if first.end not in last.start._control_inputs:
        last.start._add_control_input(first.end)
    return earlier.pop_history(made, value, stack=stack)


def _outermost(gradient: LoopGradient, home: LoopGradient | None) -> LoopGradient:
    """Of the loops around that of `gradient` the outermost inside that of `home`, in which their stack is."""
    while gradient.outer is not home and gradient.outer is not None:
        gradient = gradient.outer
    return gradient


def aligned(gradient: LoopGradient, tensor: Tensor, grad: slices.Gradient) -> slices.Gradient:
    """`grad`, a gradient of `tensor` in the loop of `gradient`, alive exactly where `tensor` is.

    In the gradient of a branch what depends on the predicate is mixed with what does not: a loop invariant comes in past the
    Switch.  Where the branch is not taken the gradient of the invariant is zero, not dead.
    """
    guards = gradient.guards
    wanted = [(gradient.real_value(pred), branch) for pred, branch in guards.of(tensor)]
    have = guards.of(slices.components(grad)[0])
    for pred, branch in reversed([each for each in have if each not in wanted]):
        nothing = switch_ref_or_tensor(gradient.zeros_like(tensor), pred)[1 - branch]
        sides = [nothing, nothing]
        sides[branch] = grad
        grad = slices.merge(sides, name="cond_grad")
    for pred, branch in [each for each in wanted if each not in have]:
        grad = slices.switch(grad, pred, name="cond_grad")[branch]
    return grad
