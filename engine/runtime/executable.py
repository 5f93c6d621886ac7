"""Executable: a stage's program with a kernel for each node, on the node's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.passes.stage import Stage
from engine.runtime.context import KernelContext
from engine.runtime.plan.choose import Choice
from engine.runtime.program import SEND, Item, Program
from engine.runtime.rendezvous import make_key
from engine.types import errors

if TYPE_CHECKING:
    from engine.device.device import Device


class BoundItem:
    """An item with its kernel, chosen for its device and dtypes, and the kernel's context.

    `device` is None where kernels are called and nothing else, as on the host's CPUs; elsewhere `kernel` goes through
    `Device.run`.  `cost_ns` is what the kernel has been seen to take lately (`engine.runtime.costs`), `lane` its device's number.
    """

    __slots__ = (
        "allows_uninitialized",
        "context",
        "cost_ns",
        "device",
        "kernel",
        "lane",
        "n_outputs",
        "stateful",
    )

    def __init__(self, item: Item, device: Device) -> None:
        node = item.node
        kernel = device.kernel(node.opdef, (*node.input_dtypes, *node.output_dtypes))
        if kernel is None:
            error = errors.UnimplementedError(
                None, None, f"There is no kernel of '{node.type}' for {device.type}"
            )
            error.attach(node)
            raise error
        self.device = None if device.plain else device
        self.kernel: Callable[..., Any] = (
            kernel if self.device is None else partial(_on_device, device, kernel)
        )
        self.context = KernelContext(node, device.xp)
        self.n_outputs = item.n_outputs
        self.stateful = node.opdef.stateful
        self.allows_uninitialized = node.opdef.allows_uninitialized
        self.cost_ns = -1.0
        self.lane = 0


def _on_device(device: Device, kernel: Callable[..., Any], k: Any, *inputs: Any) -> Any:
    return device.run(kernel, k, inputs)


class Route:
    """Where a _Send or _Recv leads: `prefix` begins its keys; `tensor`, a node's name, goes from `source` to `destination`."""

    __slots__ = ("destination", "prefix", "source", "tensor")

    def __init__(self, item: Item, device_of: Callable[[str], Device]) -> None:
        attrs = item.node.attrs
        self.prefix = make_key(
            attrs["send_device"], attrs["send_device_incarnation"], attrs["recv_device"], attrs["tensor_name"]
        )
        self.tensor = attrs["tensor_name"].split("_", 2)[-1]  # without "edge_3_"
        self.source = device_of(attrs["send_device"])
        self.destination = device_of(attrs["recv_device"])


class Executable:
    """A program with kernels: everything about a `Session.run` signature that does not change between steps.

    `devices` are those that nodes are on, in the stage's order; `device` is the name of the only one, or "".  `choice` knows the
    plan, if there is one.  `joined` says that edges and loops go over several devices as if they were one
    (`engine.runtime.plan.joining`).
    """

    def __init__(self, stage: Stage, devices: Sequence[Device] = (), joined: bool = False) -> None:
        if not devices:
            from engine.device.cpu import CPU

            devices = (CPU(0),)
        known = {device.name: device for device in devices}
        self.stage = stage
        on = [known.get(node.device, devices[0]) for node in stage]
        self.devices: tuple[Device, ...] = tuple(dict.fromkeys(on)) or (devices[0],)
        self.device = self.devices[0].name if len(self.devices) == 1 else ""
        self.program = Program(stage, per_device=len(self.devices) > 1 and not joined)
        self.bound = [BoundItem(item, device) for item, device in zip(self.program.items, on, strict=True)]
        for bound, device in zip(self.bound, on, strict=True):
            bound.lane = self.devices.index(device)
        self.choice = Choice(self)
        # Who calls BLAS: its products are held to one thread (see `engine.runtime.calm`).
        self.multiplies = any("MatMul" in node.type or "Conv" in node.type for node in stage)
        self.routes = {
            item.index: Route(item, lambda name: known.get(name, devices[0]))
            for item in self.program.items
            if item.flow >= SEND
        }
