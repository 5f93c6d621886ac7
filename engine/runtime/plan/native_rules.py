"""Ops that have a native kernel of their own: faster than what NumPy's functions can do, with other last bits.

A rule gets the operands as views and gives the results, or None where the kernel does not serve: ``rule(recorder, node, views)``
returns (views of the outputs, new views of variables by input slot).  `ConfigProto(exact=True)` asks none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder

Rule = Callable[["Recorder", "StageNode", "Sequence[View]"], "tuple[list[View], dict[int, View]] | None"]
RULES: dict[str, Rule] = {}


def rule(*types: str) -> Callable[[Rule], Rule]:
    """Decorator: the rule of these op types."""

    def register(function: Rule) -> Rule:
        for each in types:
            RULES[each] = function
        return function

    return register


def called(recorder: Recorder, kernel: Any, views: Sequence[View], node: StageNode, count: int) -> list[View]:
    """A call of `kernel` on `views`, copied into C order where need be, with new arrays for the node's first `count` outputs."""
    inputs = []
    for view in views:
        if not view.is_contiguous:
            copied = recorder.new(view.dtype, view.shape)
            recorder.copy(view, copied)
            view = copied
        inputs.append(view)
    outputs = [
        recorder.new(dtype.np_dtype, tuple(shape.as_list()))
        for dtype, shape in zip(node.output_dtypes[:count], node.output_shapes[:count], strict=True)
    ]
    recorder.call(kernel, inputs, outputs)
    return outputs


@rule("ApplyGradientDescent", "ApplyMomentum", "ApplyAdam", "ApplyAdagrad", "ApplyAdagradV2", "ApplyRMSProp")
def _update(recorder: Recorder, node: StageNode, views: Sequence[View]) -> Any:
    from engine.native import updates

    kernel = updates.update(node.type, views[0].dtype, views[0].shape, node.attrs)
    if kernel is None:
        return None
    slots = updates.slots(node.type)
    names = [arg.name for arg in node.opdef.signature.inputs]
    at = [names.index(name) for name in slots]
    outputs = [recorder.new(views[slot].dtype, views[slot].shape) for slot in at]
    recorder.call(kernel, list(views), outputs)
    return [], dict(zip(at, outputs, strict=True))
