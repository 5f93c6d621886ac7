"""All that a step under the debugger is at one point, as something that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.runtime.rendezvous import Rendezvous
from engine.runtime.resources import Resource, Stack, TensorArray
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Reference


def plain(value: Any) -> Any:
    """A token, or what a resource holds, as something that can be compared."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            return ("objects", value.shape, tuple(np.asarray(value).reshape(-1).tolist()))
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, Reference):
        return ("reference", value.resource.name, plain(value.value))
    if isinstance(value, Resource):
        return ("resource", value.name)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    return repr(value) if value is not None else None


def state_of(stepping: Stepping) -> dict[str, Any]:
    """All that a step is at one point."""
    step, state = stepping.step, stepping.state

    def place(activation: Any) -> tuple[str, int, int]:
        return activation.name, activation.frame.id, activation.iteration

    frames = {
        frame.id: (
            frame.spec.index,
            frame.parent.id if frame.parent is not None else -1,
            frame.parent_iteration,
            frame.count,
            frame.pending_enters,
            frame.live,
            tuple((item.name, plain(token)) for item, token in frame.deferred),
            tuple((item.name, plain(token)) for item, token in frame.invariants),
            tuple(item.name for item in frame.dead_exits),
            {
                number: (
                    list(each.pending),
                    plain(each.inputs),
                    dict(each.dead),
                    each.outstanding,
                    each.children,
                )
                for number, each in frame.iterations.items()
            },
        )
        for frame in state.live_frames()
    }
    resources: dict[str, Any] = {}
    for each in step.resources:
        if isinstance(each, Rendezvous):
            resources[each.name] = {
                key: (plain(parcel.token), parcel.dead) for key, parcel in each.value.items()
            }
        elif each.version or isinstance(each, Stack | TensorArray):
            value = tuple(each.elements()) if isinstance(each, Stack) else each.value
            more: Any = (
                (each.size, dict(each.shapes), str(each.element_shape))
                if isinstance(each, TensorArray)
                else ()
            )
            resources[f"{each.container.partition('_step_')[0]}/{each.name}"] = (
                each.version,
                plain(value),
                more,
            )
    return {
        "ready": [place(each) for each in stepping.ready],
        "outstanding": {place(each): order for each, order in state.outstanding.items()},
        "frames": frames,
        "resources": resources,
        "results": plain(step.context.results),
        "parked": sorted(step.transfers.parked) if step.transfers is not None else [],
        "waiting": sorted(each.key for each in step.transfers.rendezvous.state().waiting)
        if step.transfers
        else [],
        "executed": stepping.executed,
        "done": {at: dict(sorted(done.items())) for at, done in stepping.done.items() if done},
        "latest": {index: (entry.row, plain(entry.outputs)) for index, entry in stepping.latest.items()},
        "notes": {
            id: (note.path, note.begin_row, note.end_row, note.live, tuple(note.entered), note.tally)
            for id, note in stepping.frames.by_id.items()
        },
        "bytes": stepping.held_bytes,
    }
