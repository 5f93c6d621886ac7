"""Devices: what runs kernels and holds tensors.  The interface, and the registry of kinds.

A kind of device is one file that registers a function which makes its devices for a session (`register`).  CPU and GPU are in
the table `_BUILT_IN` and are imported when a session is made.  Devices belong to their session.
"""

from __future__ import annotations

import importlib
import itertools
import numbers
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.types import errors
from engine.types.device import DeviceSpec

if TYPE_CHECKING:
    from engine.op.registry import Kernel, OpDef
    from engine.runtime.config import ConfigProto
    from engine.types.dtypes import DType

TASK = "/job:localhost/replica:0/task:0"


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a device computes, for cost models: peak operations per second by dtype, memory bytes per second, launch ns.

    A dtype that is not in `flops` counts as float32.
    """

    flops: Mapping[str, float]
    bytes_per_second: float
    launch_ns: float

    def compute_ns(self, flops: float, nbytes: float, dtype: str = "float32") -> float:
        """The roofline's time of one kernel: the slower of its arithmetic and its memory traffic, and its launch."""
        rate = self.flops.get(dtype) or self.flops["float32"]
        return self.launch_ns + 1e9 * max(flops / rate, nbytes / self.bytes_per_second)


@dataclass(frozen=True, slots=True)
class Link:
    """How fast tensors go from one device to another."""

    bytes_per_second: float
    latency_ns: float

    def transfer_ns(self, nbytes: float) -> float:
        return self.latency_ns + 1e9 * nbytes / self.bytes_per_second if self.bytes_per_second else 0.0


SAME_MEMORY = Link(bytes_per_second=0.0, latency_ns=0.0)
BUS = Link(bytes_per_second=16e9, latency_ns=10_000.0)
"""An assumption: PCI Express 3.0 with 16 lanes, less its framing, and the time to set up a copy."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A device's memory in bytes: in use, the most so far, the limit; how many allocations; and the tensors alive.

    `alive` has (tensor name, bytes), the largest first; it is empty where nobody counts.  `synchronizations` says how often the
    host has waited for the device.  `counted` says in one sentence what the figures are.
    """

    in_use: int
    peak: int
    limit: int
    allocations: int
    alive: tuple[tuple[str, int], ...] = ()
    synchronizations: int = 0
    counted: str = ""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a stream of a device has been given: how many pieces of work, their time together, and when the last one ends.

    Times are ns of the device's clock, which on a modelled device is a virtual one.
    """

    name: str
    submitted: int
    busy_ns: float
    tail_ns: float


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work on a stream: a kernel or a copy, for which op, and when by the device's clock."""

    stream: str
    kind: str
    op: str
    start_ns: float
    end_ns: float
    nbytes: int = 0


class Device:
    """One device of a session.

    name: in full, ``/job:localhost/replica:0/task:0/device:GPU:0``.
    type: 'CPU', 'GPU', …; kinds: whose kernels it runs, the most specific first (its type, mostly).
    modelled: whether it is a model of a device, whose times are computed and not measured.
    incarnation: tells this device from earlier ones of the same name; the same in every run of a script.
    xp: the array namespace of its kernels; layout: the order of an image's dimensions that its kernels are best at.
    on_host: whether its arrays are NumPy's, in the host's memory, so that nothing need be copied to use them there.
    """

    type = "CPU"
    kinds: tuple[str, ...] = ("CPU",)
    modelled = False
    on_host = True
    layout = "NHWC"
    xp: Any = np

    def __init__(self, index: int, *, description: str, memory_limit: int, speed: Speed) -> None:
        self.name = f"{TASK}/device:{self.type}:{index}"
        self.index = index
        self.incarnation = (zlib.crc32(self.name.encode()) << 32) | next(_incarnations)
        self.description = description
        self.memory_limit = memory_limit
        self.speed = speed

    def __repr__(self) -> str:
        return f"<device {self.name}{' (modelled)' if self.modelled else ''}>"

    @property
    def short_name(self) -> str:
        """The name without job, replica and task: ``/device:GPU:0``."""
        return self.name[len(TASK) :]

    def kernel(self, opdef: OpDef, dtypes: Sequence[DType]) -> Kernel | None:
        """The kernel of `opdef` for these input and output dtypes on this device, or None if there is none.

        One registered for any of `kinds`, the most specific first; or else the body that all devices share.
        """
        for find in (opdef.own_kernel_for, opdef.kernel_for):
            for kind in self.kinds:
                found = find(kind, dtypes)
                if found is not None:
                    return found
        return None

    @property
    def plain(self) -> bool:
        """Whether `run` calls the kernel and does nothing else, so that callers may do without it."""
        return type(self).run is Device.run

    # Arrays.

    def put(self, array: np.ndarray[Any, Any]) -> Any:
        """A NumPy array as an array of this device."""
        return array

    def get(self, array: Any) -> Any:
        """An array of this device as a NumPy array; waits until it is there."""
        return array

    def copy(self, array: Any, source: Device) -> Any:
        """`array`, which is in `source`'s memory (or, as small integers mostly are, in the host's), in this device's memory."""
        return self.put(source.get(array))

    def name_array(self, array: Any, label: str) -> None:
        """`array`, which was brought here, is the tensor `label`, for those who ask what is alive."""

    # Running.

    def run(self, kernel: Kernel, k: Any, inputs: Sequence[Any]) -> Any:
        """What ``kernel(k, *inputs)`` gives, on this device; k is the node's `KernelContext`.

        Inputs are brought to where the op's block says that it wants them: this device's memory, or the host's.  Raises
        InternalError for an input that is in another device's memory, and ResourceExhaustedError when this one's is used up.
        On a device with streams it returns before the work is done; whoever needs the result asks for it with `get`.
        """
        return kernel(k, *inputs)

    def synchronize(self) -> None:
        """Wait until all work given to the device is done.  Raises what went wrong there since the last time."""

    # Facts.

    def statistics(self) -> Statistics:
        """The memory as it is now."""
        return Statistics(0, 0, self.memory_limit, 0)

    def streams(self) -> tuple[StreamFacts, ...]:
        """The device's streams; none on a device that computes while the caller waits."""
        return ()

    def take_spans(self) -> tuple[Span, ...]:
        """What has run on the streams since this was asked last; () on a device that does not keep account."""
        return ()

    def link(self, other: Device) -> Link:
        """The way from this device to `other`; a device with memory of its own that does not state one has a bus."""
        if not self.on_host:
            return BUS
        return SAME_MEMORY if other.on_host else other.link(self)

    def close(self) -> None:
        """Let go of what the device holds; its session has been closed."""


def exhausted(label: str, nbytes: int, device: str, statistics: Statistics) -> errors.ResourceExhaustedError:
    """The error for an allocation of `nbytes` for `label` that does not fit: what is in use, and for which tensors."""
    largest = "".join(f"\n  {size:>15,} bytes  {name}" for name, size in statistics.alive[:10])
    holds = f" The largest tensors alive:{largest}" if largest else ""
    return errors.ResourceExhaustedError(
        None,
        None,
        f"OOM when allocating {nbytes:,} bytes for {label} on {device}: "
        f"{statistics.in_use:,} bytes of {statistics.limit:,} are in use.{holds}",
    )


class Running(threading.local):
    """Which device's kernel this thread is in, and the name of the node that it is for; None and '' outside of kernels.

    Set by devices with memory of their own.
    """

    device: Any = None
    node: Any = None
    op: str = ""


running = Running()
_incarnations = itertools.count(1)

# The registry.

Maker = Callable[["ConfigProto"], Sequence[Device]]


@dataclass(slots=True)
class _Kind:
    make: Maker
    diagnose: Callable[[], str] = field(default=lambda: "")


_kinds: dict[str, _Kind] = {}
_BUILT_IN = {"CPU": "engine.device.cpu", "GPU": "engine.device.gpu"}


def register(type: str, make: Maker, *, diagnose: Callable[[], str] | None = None) -> None:
    """Make a kind of device known.

    type: its name in device specs.  `make(config)` gives a session's devices of the kind, in order, () for none; it looks at
    ``config.device_count.get(type)``.  `diagnose()` says in one line why there are none of the kind here, '' if there are.
    Registering a type a second time replaces it.  Raises ValueError for a name that device specs cannot have.
    """
    DeviceSpec.from_string(f"/device:{type}:0")
    _kinds[type] = _Kind(make, diagnose or (lambda: ""))


def unregister(type: str) -> None:
    """Forget a kind of device; sessions that have such devices keep them."""
    _kinds.pop(type, None)


def make_devices(config: ConfigProto) -> tuple[Device, ...]:
    """The devices of a session with these options; CPU:0 is always there, and first.

    Raises InvalidArgumentError if `device_count` names a kind that nobody has registered, or what is not a number of devices.
    """
    _import_built_in()
    if not isinstance(config.device_count, Mapping):
        raise errors.InvalidArgumentError(
            None, None, f"device_count must be a dict, as in {{'CPU': 2}}, not {config.device_count!r}"
        )
    for type, count in config.device_count.items():
        if type not in _kinds:
            known = ", ".join(sorted(_kinds))
            raise errors.InvalidArgumentError(
                None, None, f"device_count asks for devices of type '{type}', which is none of {known}"
            )
        if not isinstance(count, numbers.Integral) or count < 0:
            raise errors.InvalidArgumentError(
                None, None, f"device_count['{type}'] is {count!r}: it must be a whole number, 0 or more"
            )
    order = ["CPU", *(type for type in _kinds if type != "CPU")]
    return tuple(device for type in order for device in _kinds[type].make(config))


def diagnostics() -> Mapping[str, str]:
    """For each kind of device of which there are none here, one line that says why."""
    _import_built_in()
    told = {type: kind.diagnose() for type, kind in _kinds.items()}
    return {type: line for type, line in told.items() if line}


def _import_built_in() -> None:
    for type, module in _BUILT_IN.items():
        if type not in _kinds:
            importlib.import_module(module)
