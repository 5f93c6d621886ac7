"""A device's memory and streams at one moment, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.device.device import Device

MOST_ALIVE = 12  # tensors that are named


@dataclass(frozen=True, slots=True)
class AliveTensor:
    """A tensor in a device's memory, by the name of the op that made it."""

    name: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream has been given: pieces of work, their time together, and when the last ends (ns of the device's clock)."""

    name: str
    submitted: int
    busy_ns: float
    tail_ns: float


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device at one moment.

    `modelled`: it is a model of a device, and its times are computed, not measured.  Bytes: `in_use` now, `peak` so far, `limit`;
    `counted` says in a sentence what they are.  `alive` are the largest tensors (none where nobody counts).
    """

    name: str
    type: str
    description: str
    modelled: bool
    in_use: int
    peak: int
    limit: int
    allocations: int
    counted: str
    alive: tuple[AliveTensor, ...] = ()
    streams: tuple[StreamState, ...] = ()


def device_states(devices: Iterable[Device]) -> tuple[DeviceState, ...]:
    """How these devices are now.  Waits for none of them."""
    found = []
    for device in devices:
        facts = device.statistics()
        found.append(
            DeviceState(
                name=device.name,
                type=device.type,
                description=device.description,
                modelled=device.modelled,
                in_use=facts.in_use,
                peak=facts.peak,
                limit=facts.limit,
                allocations=facts.allocations,
                counted=facts.counted,
                alive=tuple(AliveTensor(name, nbytes) for name, nbytes in facts.alive[:MOST_ALIVE]),
                streams=tuple(
                    StreamState(each.name, each.submitted, each.busy_ns, each.tail_ns)
                    for each in device.streams()
                ),
            )
        )
    return tuple(found)


def worth_telling(devices: Sequence[Device]) -> bool:
    """Whether there is more to say than that the host computes in its own memory."""
    return len(devices) > 1 or any(not device.plain for device in devices)
