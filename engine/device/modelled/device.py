"""Modelled GPUs: the devices themselves."""

from __future__ import annotations

from collections.abc import Sequence

from engine.device.accelerator import Accelerator
from engine.device.device import Device, Link, Speed
from engine.device.modelled.backend import ModelBackend
from engine.device.modelled.parameters import GPUModel
from engine.device.modelled.streams import Clock, Host


class ModelledGPU(Accelerator):
    """A GPU that NumPy computes, with the memory, the order and the times of the model `parameters`."""

    modelled = True

    def __init__(self, index: int, parameters: GPUModel, clock: Clock, memory_fraction: float = 0.0) -> None:
        limit = int(parameters.capacity * (memory_fraction or 1.0))
        backend = ModelBackend(f"/device:GPU:{index}", parameters, clock, limit)
        super().__init__(
            index,
            backend,
            description=f"modelled GPU with the figures of {parameters.name}; computed by NumPy, times are not measured",
            memory_limit=limit,
            speed=Speed(parameters.flops, parameters.bytes_per_second, parameters.launch_ns),
            host_link=Link(parameters.host_bytes_per_second, parameters.host_latency_ns),
        )
        self.parameters = parameters
        self.clock = clock
        backend.memory.reclaim = self.reclaim

    def link(self, other: Device) -> Link:
        if isinstance(other, ModelledGPU) and other is not self:
            return Link(self.parameters.peer_bytes_per_second, self.parameters.peer_latency_ns)
        return self.host_link


def modelled_gpus(count: int, parameters: GPUModel, memory_fraction: float = 0.0) -> Sequence[Device]:
    """`count` GPUs with the same figures."""
    host = Host()
    return [
        ModelledGPU(index, parameters, Clock(f"{parameters.seed}/{index}", host), memory_fraction)
        for index in range(count)
    ]
