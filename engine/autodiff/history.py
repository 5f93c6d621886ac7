"""Which pop gives what which push took: the way of a derivative from a backward loop to the loop that it is the gradient of.

No edge joins the two, only the stack that both know.  For the walk of `gradients` the value pushed is one more input of the
pop; each stack of a gradient has one push and one pop.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.graph.operation import Operation
from engine.graph.tensor import Tensor

_PASS_HANDLES_ON = ("Enter", "Switch", "Identity", "_StackCopy")


def stack_of(op: Operation) -> Operation:
    """What made the stack that a push or a pop works on, seen through the frames and branches that the handle went into."""
    maker = op._inputs[0].op
    while maker.type in _PASS_HANDLES_ON:
        maker = maker._inputs[0].op
    return maker


def is_copied(op: Operation) -> bool:
    """Whether a pop works on a copy of the stack, which others also copy."""
    maker = op
    while maker.type != "_StackCopy" and maker._inputs:
        maker = maker._inputs[0].op
        if maker.type == "StackV2":
            return False
    return maker.type == "_StackCopy"


def users_of(stack: Operation, op_type: str) -> list[Operation]:
    """The operations of a type that work on a stack."""
    found: list[Operation] = []
    handles = [stack.outputs[0]]
    while handles:
        for user in handles.pop().consumers():
            if user.type == op_type:
                found.append(user)
            elif user.type in _PASS_HANDLES_ON:
                handles.extend(user.outputs)
    return found


def pops_of(push: Operation) -> list[Operation]:
    """The operations that give, in another loop, what `push` took."""
    return [pop for pop in users_of(stack_of(push), "StackPopV2") if _in_two_loops(push, pop)]


def pushed(pop: Operation) -> Tensor | None:
    """The value that `pop` gives, in the loop where it was pushed; None if the stack is not the history of another loop."""
    pushes = users_of(stack_of(pop), "StackPushV2")
    if len(pushes) != 1 or not _in_two_loops(pushes[0], pop):
        return None
    return pushes[0].outputs[0]


def _in_two_loops(first: Operation, second: Operation) -> bool:
    loops = [None if op._context is None else op._context.while_context() for op in (first, second)]
    return None not in loops and loops[0] is not loops[1]


def sources_of(op: Operation) -> Sequence[Tensor]:
    """What derivatives go on to from `op`: its inputs, and from a pop also what was pushed."""
    if op.opdef.name != "StackPopV2":
        return op._inputs
    value = pushed(op)
    return op._inputs if value is None else [*op._inputs, value]


def readers_of(tensor: Tensor) -> Sequence[Operation]:
    """What `tensor` is a source of (see `sources_of`), each as often as it is."""
    readers = tensor._consumers or ()
    return readers if tensor.op.opdef.name != "StackPushV2" else [*readers, *pops_of(tensor.op)]
