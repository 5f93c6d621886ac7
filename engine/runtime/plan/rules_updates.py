"""Optimizers' updates as one pass over a variable, its slots and its gradient.  The bits are those of the ops' kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.runtime.plan.rule_table import rule, view

if TYPE_CHECKING:
    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder


@rule(
    "ApplyGradientDescent",
    "ApplyMomentum",
    "ApplyAdam",
    "ApplyAdagrad",
    "ApplyAdagradV2",
    "ApplyRMSProp",
    exact=True,
)
def _update(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native import updates

    kernel = updates.update(node.type, inputs[0].dtype, inputs[0].shape, node.attrs)
    if kernel is None:
        return None
    slots = updates.slots(node.type)
    names = [arg.name for arg in node.opdef.signature.inputs]
    at = [names.index(name) for name in slots]
    if any(inputs[i].shape != inputs[0].shape for i in (*at, names.index(_GRADIENTS.get(node.type, "grad")))):
        return None
    outputs = [recorder.new(inputs[slot].dtype, inputs[slot].shape) for slot in at]
    recorder.call(kernel, [view(recorder, each) for each in inputs], outputs)
    return [], dict(zip(at, outputs, strict=True))


_GRADIENTS = {"ApplyGradientDescent": "delta"}
