"""What can be chosen about a partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.passes.stage import StageNode


class Device(Protocol):
    """What partitioning needs to know of a device."""

    name: str
    incarnation: int


class Costs(Protocol):
    """What nodes and transfers take; see `engine.placement`."""

    def compute_ns(self, node: StageNode, device: str) -> float: ...

    def transfer_ns(self, nbytes: int, source: str, destination: str) -> float: ...


@dataclass(frozen=True, slots=True)
class PartitionOptions:
    """How to cut a graph.

    wire: "" to send tensors as they are, "bfloat16" to send float32 tensors with their lower 16 bits dropped.
    late_bytes: a receive of a tensor of at least so many bytes (or of a size that is not known) is held back until shortly
        before its first use; None: receives run as soon as they can.
    """

    wire: str = ""
    late_bytes: int | None = 64 << 10

    def __post_init__(self) -> None:
        if self.wire not in ("", "bfloat16"):
            raise ValueError(f"wire_compression is '' or 'bfloat16', not {self.wire!r}")
        if self.late_bytes is not None and self.late_bytes < 0:
            raise ValueError(f"late_receive_bytes is a number of bytes or None, not {self.late_bytes}")
