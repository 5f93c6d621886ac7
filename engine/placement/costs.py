"""Costs: how long a node takes on a device, and a tensor between two.

`StaticCosts` is a roofline model over static shapes (Williams et al., "Roofline", CACM 2009): a node takes its launch, and then
the longer of the time for its arithmetic and the time for its memory traffic, at the speeds which the device states.
`MeasuredCosts` has times from an earlier run, and asks another model where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.passes.stage import Stage, StageNode
from engine.placement.assumptions import Assumptions
from engine.placement.specs import spec_of
from engine.placement.work import work_of
from engine.types.shape import TensorShape, unknown_shape

if TYPE_CHECKING:
    from engine.device.device import Device


class Costs(Protocol):
    """A cost model.  All times are in nanoseconds; devices are full names."""

    assumptions: Assumptions

    def compute_ns(self, node: StageNode, device: str) -> float:
        """How long `node` keeps `device` busy."""
        ...

    def transfer_ns(self, nbytes: int, source: str, destination: str) -> float:
        """How long `nbytes` take from one device to another; 0 where both are the same."""
        ...

    def on(self, stage: Stage) -> Costs:
        """The same model, reading shapes of inputs from `stage`."""
        ...


class StaticCosts:
    """Costs from static shapes and the speeds that the devices state; nothing is measured.

    The first device is the host: int32 arithmetic that a GPU leaves to the host is timed there.  Without a stage (see `on`),
    inputs are taken to have the shapes of the node's first output.
    """

    def __init__(
        self, devices: Sequence[Device], assumptions: Assumptions | None = None, stage: Stage | None = None
    ) -> None:
        self.assumptions = assumptions or Assumptions()
        self._devices = {device.name: device for device in devices}
        self._all = tuple(devices)
        self._stage = stage
        self._known: dict[tuple[str, str], float] = {}

    def on(self, stage: Stage) -> StaticCosts:
        return self if stage is self._stage else StaticCosts(self._all, self.assumptions, stage)

    def compute_ns(self, node: StageNode, device: str) -> float:
        """The roofline's time.  Raises KeyError for a device that the model was not made with."""
        found = self._known.get((node.name, device))
        if found is None:
            runs_on = self._devices[device]
            if not runs_on.on_host and node.opdef.memory_of(node).on_host:
                runs_on = self._all[0]
            work = work_of(node, self._input_shapes(node), self.assumptions.unknown_dimension)
            dtypes = node.output_dtypes or node.input_dtypes
            dtype = dtypes[0].base_dtype.name if dtypes else "float32"
            found = runs_on.speed.compute_ns(work.flops, work.nbytes, dtype)
            self._known[node.name, device] = found
        return found

    def transfer_ns(self, nbytes: int, source: str, destination: str) -> float:
        """The launches of a Send and of a Recv, and the link's time for the bytes."""
        if source == destination:
            return 0.0
        a, b = self._devices[source], self._devices[destination]
        return a.speed.launch_ns + b.speed.launch_ns + a.link(b).transfer_ns(nbytes)

    def _input_shapes(self, node: StageNode) -> list[TensorShape]:
        if self._stage is not None:
            nodes = self._stage.nodes
            return [nodes[name].output_shapes[slot] for name, slot in node.inputs]
        own = node.output_shapes[0] if node.output_shapes else unknown_shape()
        return [own] * len(node.inputs)


class MeasuredCosts:
    """Times of an earlier run: `measured` maps (node name, device type) to nanoseconds; `fallback` has all others."""

    def __init__(self, measured: Mapping[tuple[str, str], float], fallback: Costs) -> None:
        self.measured = measured
        self.fallback = fallback
        self.assumptions = fallback.assumptions

    def on(self, stage: Stage) -> MeasuredCosts:
        return MeasuredCosts(self.measured, self.fallback.on(stage))

    def compute_ns(self, node: StageNode, device: str) -> float:
        found = self.measured.get((node.name, spec_of(device).device_type or ""))
        return self.fallback.compute_ns(node, device) if found is None else found

    def transfer_ns(self, nbytes: int, source: str, destination: str) -> float:
        return self.fallback.transfer_ns(nbytes, source, destination)
