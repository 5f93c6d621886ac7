"""The devices of a step, and its rendezvous, as parts of a snapshot."""

from __future__ import annotations

import time

from tracing.devices import DeviceState, device_states, worth_telling
from workbench.debugger.frame_notes import path
from workbench.debugger.snapshot import MAX_PARCELS, AwaitedView, SentView
from workbench.debugger.stepping import Stepping


def device_states_of(stepping: Stepping) -> tuple[DeviceState, ...]:
    """The step's devices as they are now."""
    devices = stepping.step.executable.devices
    return device_states(devices) if worth_telling(devices) else ()


def awaited_views(stepping: Stepping) -> tuple[AwaitedView, ...]:
    """The `_Recv`s that wait, the one that has waited longest first."""
    transfers = stepping.step.transfers
    if transfers is None:
        return ()
    now = time.perf_counter_ns()
    found = []
    for awaited in transfers.rendezvous.state().waiting[:MAX_PARCELS]:
        activation = transfers.parked.get(awaited.key)
        where = "" if activation is None else path(activation.frame, activation.iteration)
        name = "" if activation is None else activation.name
        found.append(AwaitedView(awaited.key, name, where, max(0, now - awaited.since_ns)))
    return tuple(found)


def sent_views(stepping: Stepping) -> tuple[SentView, ...]:
    """What was sent and not taken, the oldest first."""
    transfers = stepping.step.transfers
    if transfers is None:
        return ()
    now = time.perf_counter_ns()
    sent = transfers.rendezvous.state().sent[:MAX_PARCELS]
    return tuple(SentView(each.key, each.nbytes, each.dead, max(0, now - each.sent_ns)) for each in sent)
