"""Decision: why a node is on the device that it is on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Decision:
    """How the placement of one node came about.

    `requested` is the device spec that the program asked for ('' if none), `possible` the full names of the devices on which
    the node could have been, the preferred one first.  `finish_ns` are the predicted times, from the step's beginning, at which
    the node would have finished on each of them (empty where nothing was predicted).  `colocated_with` are the nodes that must
    be on one device, this one among them (empty if it is alone); `reason` is one sentence.
    """

    requested: str = ""
    possible: tuple[str, ...] = ()
    finish_ns: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    colocated_with: tuple[str, ...] = ()
    reason: str = ""
