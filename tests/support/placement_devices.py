"""Devices that only placement sees: a speed, a link, a kind; nothing runs on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.device.device import Device, Link, Speed
from engine.passes.stage import Stage, StageNode
from engine.placement.assumptions import Assumptions

SPEED = Speed(flops={"float32": 1e9}, bytes_per_second=1e9, launch_ns=100.0)


class StandIn(Device):
    """The first is the host; a GPU has memory of its own."""

    def __init__(self, type: str, index: int, speed: Speed = SPEED, link: Link | None = None) -> None:
        self.type = type
        self.kinds = (type,)
        self.on_host = type == "CPU"
        super().__init__(index, description="", memory_limit=0, speed=speed)
        self._link = link or Link(bytes_per_second=1e9, latency_ns=500.0)

    def link(self, other: Device) -> Link:
        return self._link


def cpus(count: int) -> tuple[StandIn, ...]:
    return tuple(StandIn("CPU", index) for index in range(count))


def with_gpus(count: int = 1, cpus: int = 1) -> tuple[StandIn, ...]:
    hosts = [StandIn("CPU", index) for index in range(cpus)]
    return (*hosts, *(StandIn("GPU", index) for index in range(count)))


class TableCosts:
    """Costs written out: (node, device) → ns, 1 where nothing is said; `transfer` ns for any tensor between any two devices."""

    def __init__(
        self,
        compute: Mapping[tuple[str, str], float],
        transfer: float,
        assumptions: Assumptions | None = None,
    ) -> None:
        self.compute = compute
        self.transfer = transfer
        self.assumptions = assumptions or Assumptions()

    def compute_ns(self, node: StageNode, device: str) -> float:
        return self.compute.get((node.name, device), 1.0)

    def transfer_ns(self, nbytes: int, source: str, destination: str) -> float:
        return 0.0 if source == destination else self.transfer

    def on(self, stage: Stage) -> Any:
        return self
