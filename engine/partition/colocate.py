"""Before cutting: which control flow nodes move to their neighbours.

A loop's Merge must find the NextIteration that leads back to it on its own device, or that device would not see that there is a
loop.  TensorFlow moves these nodes in the same way (`OptimizeControlFlowColocation` in graph_partition.cc); they do no work, so
that a placement has no reason to want them elsewhere.
"""

from __future__ import annotations

from engine.passes.rewrite import Draft
from engine.placement.flow import Flow

_UPSTREAM = {"switch", "exit"}
_DOWNSTREAM = {"enter", "next_iteration"}


def colocate_control_flow(draft: Draft, flow: Flow) -> None:
    """Put each Switch and Exit where its data comes from, each Enter and NextIteration where its first reader is."""
    order = flow.order
    # Downstream first: what an Enter or NextIteration leads to is a Merge or a kernel, or another Enter, and these stay.
    for name in reversed(order):
        node = draft.nodes[name]
        if node.opdef.flow in _DOWNSTREAM and not node.input_dtypes[0]._is_ref_dtype:
            readers = draft.readers((name, 0))
            if readers:
                _move(draft, name, readers[0][0])
    for name in order:
        if draft.nodes[name].opdef.flow in _UPSTREAM:
            _move(draft, name, draft.nodes[name].inputs[0][0])


def _move(draft: Draft, name: str, beside: str) -> None:
    device = draft.nodes[beside].device
    if draft.nodes[name].device != device:
        draft.replace(
            name, device=device, reason=f"moved to {device.rpartition('device:')[2]}, where '{beside}' is"
        )
