"""The devices of a script that is being stepped, from its snapshot."""

from __future__ import annotations

from viz.devices_model import (
    DevicesView,
    DeviceView,
    Sent,
    Waiting,
    ends_of_key,
    tensor_of_key,
)
from workbench.debugger.snapshot import Snapshot, Status

_NOW = 4  # nodes that are named


def live_view(snapshot: Snapshot) -> DevicesView:
    """What a snapshot says of devices: their memory now, what may run on each, and the rendezvous."""
    step = snapshot.step
    assert step is not None
    ready: dict[str, list[str]] = {}
    for row in snapshot.ready:
        ready.setdefault(row.activation.device, []).append(row.activation.node)
    states = {state.name: state for state in snapshot.devices}
    ran: dict[str, int] = {}
    busy: dict[str, int] = {}
    for done in snapshot.history:
        device = done.activation.device
        ran[device] = ran.get(device, 0) + 1
        busy[device] = busy.get(device, 0) + done.duration_ns
    names = list(dict.fromkeys([*states, *ready, *ran])) or [""]
    devices = tuple(
        DeviceView(
            name=name,
            nodes=len(ready.get(name, ())),
            ran=ran.get(name, 0),
            dead=0,
            busy_ns=busy.get(name, 0),
            costliest=(),
            state=states.get(name),
            now=tuple(ready.get(name, ())[:_NOW]),
        )
        for name in names
    )
    waiting = tuple(
        Waiting(tensor_of_key(each.key), *ends_of_key(each.key), each.node, each.path, each.waited_ns)
        for each in snapshot.awaited
    )
    sent = tuple(
        Sent(
            tensor_of_key(each.key),
            *ends_of_key(each.key),
            0,
            0,
            each.nbytes,
            each.waited_ns,
            None,
            each.dead,
        )
        for each in snapshot.sent
    )
    stopped = snapshot.status is Status.STOPPED
    note = "" if stopped else "The script runs: this is how it was when it stopped last."
    if not snapshot.devices and stopped:
        note = "The host's CPU is the only device of this step."
    title = f"Session.run {step.step}, {snapshot.executed:,} executed"
    return DevicesView(title, devices, (), sent, waiting, True, note)
