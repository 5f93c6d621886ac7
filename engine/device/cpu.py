"""The CPU: NumPy's kernels in the host's memory.  Several of them, by ``device_count={"CPU": 4}``, share it.

Nothing is counted while a step runs: `statistics` asks the operating system, when somebody asks it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.device.device import Device, Speed, Statistics, register

if TYPE_CHECKING:
    from engine.runtime.config import ConfigProto

# One core with 256-bit vectors at 3 GHz and one channel's worth of memory: what a cost model starts from before anybody has
# measured.  A launch is what NumPy takes to get going.
SPEED = Speed(
    flops={"float32": 48e9, "float64": 24e9, "int32": 24e9, "int64": 12e9, "float16": 1e9, "bfloat16": 1e9},
    bytes_per_second=12e9,
    launch_ns=1_000,
)


class CPU(Device):
    """One CPU device.  Arrays are NumPy's, and all CPU devices' are in one memory: `put`, `get`, `copy` copy nothing."""

    def __init__(self, index: int) -> None:
        super().__init__(index, description="CPU (NumPy)", memory_limit=_physical_memory(), speed=SPEED)

    def copy(self, array: Any, source: Device) -> Any:
        return array if source.on_host else source.get(array)

    def statistics(self) -> Statistics:
        in_use, peak = _process_memory()
        return Statistics(
            in_use, peak, self.memory_limit, 0, counted="the whole process, as the operating system counts it"
        )


def _make(config: ConfigProto) -> Sequence[Device]:
    return [CPU(index) for index in range(max(1, config.device_count.get("CPU", 1)))]


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _process_memory() -> tuple[int, int]:
    """Bytes of this process in memory, now and at most (0 where the system does not say)."""
    found = {"VmRSS": 0, "VmHWM": 0}
    try:
        with open("/proc/self/status") as status:
            for line in status:
                key, _, rest = line.partition(":")
                if key in found:
                    found[key] = int(rest.split()[0]) * 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return 0, peak
    return found["VmRSS"], found["VmHWM"]


register("CPU", _make)
