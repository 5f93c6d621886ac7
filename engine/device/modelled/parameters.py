"""The figures of a modelled GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_H200_FLOPS = MappingProxyType(
    {
        "float64": 34e12,
        "complex128": 34e12,
        "float32": 67e12,
        "complex64": 67e12,
        "float16": 989e12,
        "bfloat16": 989e12,
        "int8": 1979e12,
        "int32": 34e12,
        "int64": 17e12,
    }
)


@dataclass(frozen=True, slots=True)
class GPUModel:
    """What a modelled GPU can do.  The default is NVIDIA's data sheet of the H200 SXM; nothing in it was measured.

    flops: operations per second by dtype; one that is missing counts as float32.  16-bit and int8 figures are those of dense
        matrix products; integer ones are a share of float32's (a guess: data sheets do not give them).
    bytes_per_second: the device memory's.
    launch_ns: what the host spends on giving the device one kernel; kernel_ns: what the shortest kernel takes there.  Both are
        assumptions, of the size that others have reported for CuPy and CUDA.
    host_bytes_per_second, host_latency_ns: a copy from or to the host, one way.  PCIe 5 with 16 lanes is 64e9 at most.
    peer_bytes_per_second, peer_latency_ns: a copy from another modelled GPU.  NVLink's 900e9 is both ways together.
    capacity: bytes of memory.
    delay_ns: before each piece of work on a stream comes a random pause of up to so much; it changes times, and no order that
        was asked for.
    seed: of the delays, and of the order in which writes that race come to be.
    """

    name: str = "NVIDIA H200 SXM"
    flops: Mapping[str, float] = field(default_factory=lambda: _H200_FLOPS)
    bytes_per_second: float = 4.8e12
    launch_ns: float = 5_000
    kernel_ns: float = 2_000
    host_bytes_per_second: float = 55e9
    host_latency_ns: float = 10_000
    peer_bytes_per_second: float = 450e9
    peer_latency_ns: float = 10_000
    capacity: int = 141_000_000_000
    delay_ns: float = 0.0
    seed: int = 0
