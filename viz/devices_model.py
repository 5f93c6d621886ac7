"""What a recorded step did on each device: its nodes and how long they ran, what crossed, the rendezvous, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.observe import Allocation, Executions, Transfer
from engine.passes.stage import Stage
from tracing.devices import DeviceState
from viz import format as fmt


class Way(NamedTuple):
    """All tensors that went from one device to another."""

    source: str
    destination: str
    tensors: int
    nbytes: int
    dead: int

    @property
    def label(self) -> str:
        return f"{fmt.device(self.source)} → {fmt.device(self.destination)}"


def transfer_ways(transfers: Iterable[Transfer]) -> list[Way]:
    """The ways between devices that were used, the one with the most bytes first."""
    found: dict[tuple[str, str], list[Transfer]] = {}
    for each in transfers:
        found.setdefault((each.source, each.destination), []).append(each)
    ways = [
        Way(
            *way,
            len(group),
            sum(each.nbytes for each in group if not each.dead),
            sum(each.dead for each in group),
        )
        for way, group in found.items()
    ]
    return sorted(ways, key=lambda way: (-way.nbytes, way.label))


class Sent(NamedTuple):
    """One tensor's way through the rendezvous; times are ns from the step's beginning, `received_ns` None while it lies there."""

    tensor: str
    source: str
    destination: str
    frame: int
    iteration: int
    nbytes: int
    sent_ns: int
    received_ns: int | None
    dead: bool


class Waiting(NamedTuple):
    """A `_Recv` that waits: for what, from where, in which frame, and for how long (ns)."""

    tensor: str
    source: str
    destination: str
    node: str
    where: str
    waited_ns: int


@dataclass(frozen=True)
class DeviceView:
    """One device in a step.

    `busy_ns` is how long its nodes ran, `ran` how many executions; `costliest` are (node, ns), the longest first.
    `memory` are (ns from the step's beginning, bytes in use), of a device that counts.  `state` is how it was at the end of the
    step, or is now, if that is known; `now` are the nodes that run or may run on it, of a step that goes on.
    """

    name: str
    nodes: int
    ran: int
    dead: int
    busy_ns: int
    costliest: tuple[tuple[str, int], ...]
    memory: tuple[tuple[int, int], ...] = ()
    state: DeviceState | None = None
    now: tuple[str, ...] = ()

    @property
    def modelled(self) -> bool:
        return self.state is not None and self.state.modelled


@dataclass(frozen=True)
class DevicesView:
    """All devices of a step, what crossed between them, and who waits; `title` says which step, `live` whether it goes on."""

    title: str
    devices: tuple[DeviceView, ...]
    ways: tuple[Way, ...] = ()
    sent: tuple[Sent, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    live: bool = False
    note: str = ""


_COSTLIEST = 5


def devices_view(
    title: str,
    stage: Stage,
    batches: Sequence[Executions],
    transfers: Sequence[Transfer],
    allocations: Sequence[Allocation],
    started_ns: int,
    states: Iterable[DeviceState] = (),
) -> DevicesView:
    """The devices of a recorded step, in the order of the stage."""
    names = list(stage.order)
    on = np.array([stage.nodes[name].device for name in names], dtype=object)
    node = np.concatenate([batch.node for batch in batches]) if batches else np.zeros(0, np.int32)
    took = (
        np.concatenate([batch.end_ns - batch.start_ns for batch in batches])
        if batches
        else np.zeros(0, np.int64)
    )
    dead = np.concatenate([batch.dead for batch in batches]) if batches else np.zeros(0, np.bool_)
    by_name = {state.name: state for state in states}
    devices: list[DeviceView] = []
    for device in stage.devices:
        mine = on[node] == device if len(node) else np.zeros(0, np.bool_)
        live = mine & ~dead if len(node) else mine
        spent = (
            np.bincount(node[live], weights=took[live], minlength=len(names))
            if len(node)
            else np.zeros(len(names))
        )
        top = [int(i) for i in np.argsort(-spent, kind="stable")[:_COSTLIEST] if spent[i] > 0]
        memory = tuple(
            (each.at_ns - started_ns, each.in_use) for each in allocations if each.device == device
        )
        devices.append(
            DeviceView(
                name=device,
                nodes=len(stage.on(device)),
                ran=int(live.sum()),
                dead=int((mine & dead).sum()) if len(node) else 0,
                busy_ns=int(took[live].sum()) if len(node) else 0,
                costliest=tuple((names[i], int(spent[i])) for i in top),
                memory=memory,
                state=by_name.get(device),
            )
        )
    sent = tuple(sorted((_sent(each, started_ns) for each in transfers), key=lambda each: each.sent_ns))
    return DevicesView(title, tuple(devices), tuple(transfer_ways(transfers)), sent)


def ends_of_key(key: str) -> tuple[str, str]:
    """From which device to which a rendezvous key leads."""
    parts = key.split(";")
    return (parts[0], parts[2]) if len(parts) > 3 else ("", "")


def tensor_of_key(key: str) -> str:
    """The tensor's name in a rendezvous key; `edge_7_w/read` is `w/read`, as TensorFlow names what its partitions send."""
    parts = key.split(";")
    return plain_tensor(parts[3] if len(parts) > 3 else key)


def plain_tensor(name: str) -> str:
    """``edge_7_w/read`` as ``w/read``."""
    head, _, rest = name.partition("_")
    number, _, tail = rest.partition("_")
    return tail if head == "edge" and number.isdigit() and tail else name


def _sent(each: Transfer, zero: int) -> Sent:
    return Sent(
        tensor_of_key(each.key),
        each.source,
        each.destination,
        each.frame,
        each.iteration,
        each.nbytes,
        each.sent_ns - zero,
        each.received_ns - zero,
        each.dead,
    )
