"""Why a step that waits cannot go on, in words: the keys awaited, and for each where its `_Send` stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.passes.stage import StageNode
from engine.runtime.frames import ABSENT, Activation, Frame
from engine.runtime.program import EXIT, MERGE, RECV, SEND, Item
from engine.types import errors

if TYPE_CHECKING:
    from engine.runtime.executable import Executable
    from engine.runtime.step import StepRun

_KEYS = 3  # that are explained; the rest are counted
_LINKS = 8  # of a chain of nodes that wait for each other


def short(device: str) -> str:
    """``CPU:0`` for a device's full name."""
    return device.rpartition("device:")[2] or device


def place(activation: Activation, executable: Executable) -> str:
    """``'name' in frame@iteration``, and the device if the step has several."""
    on = "" if executable.device else f" on {short(activation.item.node.device)}"
    return f"'{activation.name}' in {activation.frame.path}@{activation.iteration}{on}"


def stuck(step: StepRun) -> errors.InternalError:
    """The error of a step in which nothing can run while `_Recv`s wait."""
    assert step.transfers is not None
    parked = step.transfers.parked
    count = len(parked)
    waits = "1 receive waits" if count == 1 else f"{count} receives wait"
    lines = [f"The step cannot go on: nothing is left to run, and {waits} for a tensor that nobody sends"]
    for key, activation in list(parked.items())[:_KEYS]:
        lines.append(f"  {key}")
        lines.append(f"    awaited by {_named(activation.item.node)}")
        lines += [f"    {line}" for line in explain_key(step, activation)]
    if count > _KEYS:
        lines.append(f"  and {count - _KEYS} more")
    error = errors.InternalError(None, None, "\n".join(lines))
    error.attach(next(iter(parked.values())).item.node)
    return error


def explain_key(step: StepRun, recv: Activation) -> Iterator[str]:
    """Where the `_Send` of a parked `_Recv` stands, in lines."""
    send = sender_of(step, recv.item)
    if send is None:
        yield f"there is no _Send of '{recv.item.node.attrs['tensor_name']}' in the graph"
        return
    frame = next(
        (each for each in step.state.live_frames() if each.spec is send.frame and each.tag == recv.frame.tag),
        None,
    )
    if frame is None or recv.iteration not in frame.iterations:
        where = (
            "has not begun or is over" if frame is None else f"has no iteration {recv.iteration} under way"
        )
        name = send.frame.path.removeprefix("root > ")
        yield f"its {_named(send.node)} has not run: the loop {name} {where} on {short(send.node.device)}"
        return
    lead = f"its {_named(send.node)} has not run"
    item = send
    for _ in range(_LINKS):
        missing = _missing(step, item, frame, recv.iteration)
        waiting = step.blocked.get(Activation(item, frame, recv.iteration))
        if waiting is not None:
            yield f"{lead}: it waits for {waiting.reason}"
            return
        if missing is None:
            yield f"{lead}, though all that it needs is there: its token was lost"
            return
        if missing.flow == EXIT:
            yield f"{lead}: it waits for {_named(missing.node)}, whose loop has not ended"
            return
        yield f"{lead}: it waits for {_named(missing.node)}"
        if missing.flow == RECV:
            yield "which waits to receive, too"
            return
        if missing.frame is not item.frame:
            yield "which has not run"
            return
        item, lead = missing, "which has not run"


def sender_of(step: StepRun, recv: Item) -> Item | None:
    """The `_Send` whose keys are those of `recv`."""
    routes = step.executable.routes
    prefix = routes[recv.index].prefix
    for item in step.program.items:
        if item.flow == SEND and routes[item.index].prefix == prefix:
            return item
    return None


def _missing(step: StepRun, item: Item, frame: Frame, number: int) -> Item | None:
    """A producer whose token has not come to `item`, which has not run, in this iteration."""
    by_name = step.program.by_name
    tokens = frame.iterations[number].inputs[item.start : item.end]
    for (name, _), token in zip(item.node.inputs, tokens, strict=True):
        if token is ABSENT:
            return by_name[name]
    for name in item.node.control_inputs:
        producer = by_name[name]
        if producer.frame is not frame.spec or not _has_run(step, producer, frame, number):
            return producer
    return None


def _has_run(step: StepRun, item: Item, frame: Frame, number: int) -> bool:
    """Whether a node has run in this iteration, or is not held up by anything."""
    if item.flow == MERGE:
        return not frame.iterations[number].pending[item.local] & 1
    waits = frame.iterations[number].pending[item.local] > 0
    return not waits and Activation(item, frame, number) not in step.state.outstanding


def _named(node: StageNode) -> str:
    user = node.site.user if node.site is not None else None
    made = f", made at {user.file}:{user.line}" if user is not None else ""
    return f"{node.type} '{node.name}' on {short(node.device)}{made}"
