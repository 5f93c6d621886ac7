"""The backend of a real GPU: CuPy, which is imported when a session asks for GPUs (`cupy_gpus`) and not before.

Streams do not wait for the default stream.  Each device of a session has a memory pool of its own.  Copies go through pinned
memory, so that they really are asynchronous.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.device.accelerator import Accelerator
from engine.device.device import Device, Link, Span, Speed, Statistics, StreamFacts, exhausted, running

# Peak figures for cost models until somebody measures: the H200's data sheet (see `GPUModel`).
_FLOPS = {
    "float64": 34e12,
    "float32": 67e12,
    "float16": 989e12,
    "bfloat16": 989e12,
    "int32": 34e12,
    "int64": 17e12,
}
_UNNAMED = "a copy from the host"  # until somebody says what tensor it is


class CupyEvent:
    """An event out of a pool, to which it returns when nobody refers to it any more."""

    __slots__ = ("_pool", "raw")

    def __init__(self, backend: CupyBackend, stream: Any) -> None:
        self._pool = pool = backend.events
        self.raw = pool.pop() if pool else backend.cupy.cuda.Event(disable_timing=True)
        self.raw.record(stream)

    def done(self) -> bool:
        return bool(self.raw.done)

    def synchronize(self) -> None:
        self.raw.synchronize()

    def __del__(self) -> None:
        self._pool.append(self.raw)  # a wait that was asked for holds what was recorded then


class CupyStream:
    """A stream of one device, whose kernels allocate from that device's pool."""

    def __init__(self, name: str, backend: CupyBackend) -> None:
        self.name = name
        self.backend = backend
        self.submitted = 0
        with backend.on_device():
            self.raw = backend.cupy.cuda.Stream(non_blocking=True)

    def wait(self, event: CupyEvent) -> None:
        self.raw.wait_event(event.raw)

    def record(self) -> CupyEvent:
        with self.backend.on_device():
            return CupyEvent(self.backend, self.raw)

    @contextmanager
    def use(self) -> Iterator[CupyStream]:
        self.submitted += 1
        backend = self.backend
        with backend.on_device(), self.raw, backend.cupy.cuda.using_allocator(backend.allocate):
            yield self

    def synchronize(self) -> None:
        self.backend.synchronizations += 1
        self.raw.synchronize()

    def facts(self) -> StreamFacts:
        return StreamFacts(self.name, self.submitted, busy_ns=0.0, tail_ns=0.0)


class CupyBackend:
    """See `engine.device.accelerator.Backend`."""

    def __init__(self, cupy: Any, cupyx: Any, number: int, name: str, limit: int) -> None:
        self.cupy = self.xp = cupy
        self.cupyx = cupyx
        self.array_type = cupy.ndarray
        self.number = number
        self.device = name
        self.limit = limit
        self.events: list[Any] = []
        self.synchronizations = 0
        self.allocations = 0
        self.peak = 0
        self.reclaim: Callable[[], None] = lambda: None
        self.pool = self.cupy.cuda.MemoryPool()
        self._names: dict[int, tuple[weakref.ref[Any], str]] = {}
        with self.on_device():
            self.pool.set_limit(size=limit)

    def on_device(self) -> Any:
        return self.cupy.cuda.Device(self.number)

    def stream(self, name: str) -> CupyStream:
        return CupyStream(name, self)

    def owns(self, array: Any) -> bool:
        return bool(array.device.id == self.number)

    def where(self, array: Any) -> str:
        return f"CUDA device {array.device.id}"

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], label: str) -> Any:
        array = self.cupy.empty(shape, dtype)
        self.name(array, label or _UNNAMED)
        return array

    def allocate(self, size: int) -> Any:
        """The pool's memory.  Raises ResourceExhaustedError when there is none, after letting go of all that can be."""
        self.allocations += 1
        try:
            found = self.pool.malloc(size)
        except self.cupy.cuda.memory.OutOfMemoryError:
            self.reclaim()
            self.pool.free_all_blocks()
            try:
                found = self.pool.malloc(size)
            except self.cupy.cuda.memory.OutOfMemoryError:
                label = f"a temporary of {running.op}" if running.op else "a copy"
                raise exhausted(label, size, self.device, self.statistics()) from None
        self.peak = max(self.peak, self.pool.used_bytes())
        return found

    def upload(self, host: np.ndarray[Any, Any], array: Any, stream: CupyStream) -> Any:
        if not host.size:
            return None
        pinned = self.cupyx.empty_pinned(host.shape, host.dtype)
        pinned[...] = host
        with self.on_device():
            array.set(pinned, stream=stream.raw)
        return pinned

    def download(self, array: Any, stream: CupyStream) -> np.ndarray[Any, Any]:
        self.synchronizations += 1
        found: np.ndarray[Any, Any] = self.cupyx.empty_pinned(array.shape, array.dtype)
        if array.size:
            with self.on_device():
                array.get(stream=stream.raw, out=found, blocking=False)
        return found

    def between(self, source: Any, target: Any, stream: CupyStream) -> None:
        with self.on_device():
            target.data.copy_from_device_async(source.data, source.nbytes, stream.raw)

    def name(self, array: Any, label: str, *, again: bool = False) -> None:
        key, names = id(array), self._names
        known = names.get(key)
        if again or known is None or known[0]() is not array or known[1] == _UNNAMED:
            names[key] = (weakref.ref(array, lambda _: names.pop(key, None)), label)

    def statistics(self) -> Statistics:
        alive: dict[int, tuple[str, int]] = {}
        for held, label in list(self._names.values()):
            array = held()
            if array is not None:
                alive[array.data.mem.ptr] = (label, array.data.mem.size)
        largest = sorted(alive.values(), key=lambda pair: (-pair[1], pair[0]))
        counted = "bytes of CuPy's memory pool for this device and session"
        return Statistics(
            self.pool.used_bytes(),
            self.peak,
            self.limit,
            self.allocations,
            tuple(largest),
            self.synchronizations,
            counted,
        )

    def take_spans(self) -> tuple[Span, ...]:
        return ()

    def close(self) -> None:
        self._names.clear()
        self.pool.free_all_blocks()


class CupyGPU(Accelerator):
    """A real GPU, which also runs the kernels written in CUDA."""

    kinds = ("CUDA", "GPU")

    def __init__(self, cupy: Any, cupyx: Any, index: int, number: int, memory_fraction: float) -> None:
        properties = cupy.cuda.runtime.getDeviceProperties(number)
        limit = int(properties["totalGlobalMem"] * (memory_fraction or 1.0))
        capability = f"{properties['major']}.{properties['minor']}"
        # Twice, as memory is clocked on both edges; kHz and bits.
        bandwidth = 2e3 * properties["memoryClockRate"] * properties["memoryBusWidth"] / 8
        backend = CupyBackend(cupy, cupyx, number, f"/device:GPU:{index}", limit)
        super().__init__(
            index,
            backend,
            description=f"{properties['name'].decode()}, compute capability {capability}, CuPy {cupy.__version__}",
            memory_limit=limit,
            speed=Speed(_FLOPS, bandwidth or 1e12, launch_ns=10_000),
            host_link=Link(bytes_per_second=25e9, latency_ns=10_000),
        )
        backend.reclaim = self.reclaim

    def close(self) -> None:
        self.synchronize()
        super().close()


def cupy_gpus(count: int, options: Any) -> Sequence[Device]:
    """Up to `count` of this machine's GPUs, those of `visible_device_list` if it names any."""
    import cupy
    import cupyx

    there = cupy.cuda.runtime.getDeviceCount()
    visible = [int(word) for word in options.visible_device_list.split(",") if word.strip()] or list(
        range(there)
    )
    chosen = [number for number in visible if 0 <= number < there][:count]
    return [
        CupyGPU(cupy, cupyx, index, number, options.per_process_gpu_memory_fraction)
        for index, number in enumerate(chosen)
    ]
