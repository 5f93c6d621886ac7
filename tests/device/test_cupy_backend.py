"""The backend for CuPy, with a stand-in for CuPy in its place: what it asks of CuPy, in which order, on which stream.

The stand-in computes with NumPy at once and writes down what is asked of it.  What it cannot show is whether CuPy and a GPU do as
they are asked: that is for ``pytest -m gpu``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda
from model_runs import nodes_of, run_node

import engine as tf
from engine.device.cupy_backend import CupyGPU
from engine.types import errors


class Array(np.ndarray):
    """NumPy's array with what the backend uses of CuPy's."""

    said: list[Any]

    def __array_finalize__(self, other: Any) -> None:
        self.said = getattr(other, "said", [])

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=0)

    data = property(lambda self: Pointer(self))  # type: ignore[assignment]

    def set(self, host: Any, stream: Any) -> None:
        self.said.append(("copy in", stream.name))
        self[...] = host.view(np.ndarray)

    def get(self, stream: Any, out: Any, blocking: bool) -> None:
        assert not blocking and self.flags.c_contiguous
        self.said.append(("copy out", stream.name))
        out[...] = self.view(np.ndarray)


class Pointer:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.mem = SimpleNamespace(ptr=array.__array_interface__["data"][0], size=array.nbytes)


class OutOfMemory(Exception):
    pass


class CuPy:
    """As much of the module as is used."""

    ndarray = Array

    def __init__(self, free: int = 10**6) -> None:
        self.said: list[Any] = []
        self.current: list[Any] = []
        self.free = free
        self.streams = iter(("compute", "h2d", "d2h"))
        said, current, streams, outer = self.said, self.current, self.streams, self

        class Stream:
            def __init__(self, non_blocking: bool) -> None:
                assert non_blocking
                self.name = next(streams)

            def __enter__(self) -> None:
                current.append(self.name)

            def __exit__(self, *exc_info: Any) -> None:
                current.pop()

            def wait_event(self, event: Any) -> None:
                said.append((self.name, "waits for", event.on))

            def synchronize(self) -> None:
                said.append(("host waits for", self.name))

        class Event:
            done = True

            def __init__(self, disable_timing: bool) -> None:
                assert disable_timing

            def record(self, stream: Any) -> None:
                self.on = stream.name

            def synchronize(self) -> None:
                said.append(("host waits for event of", self.on))

        class MemoryPool:
            limit = 0

            def set_limit(self, size: int) -> None:
                self.limit = size

            def malloc(self, size: int) -> int:
                if size > outer.free:
                    raise OutOfMemory
                said.append(("malloc", size, current[-1]))
                return size

            def used_bytes(self) -> int:
                return 512

            def free_all_blocks(self) -> None:
                said.append(("free all",))

        @contextmanager
        def device(number: int) -> Iterator[None]:
            yield

        @contextmanager
        def using_allocator(allocate: Any) -> Iterator[None]:
            before, self.allocate = self.allocate, allocate
            yield
            self.allocate = before

        properties = {
            "name": b"Stand-in", "major": 9, "minor": 0, "totalGlobalMem": 1000, "memoryClockRate": 1000, "memoryBusWidth": 64,
        }  # fmt: skip
        self.allocate: Any = None
        self.cuda = SimpleNamespace(
            Stream=Stream,
            Event=Event,
            MemoryPool=MemoryPool,
            Device=device,
            using_allocator=using_allocator,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemory),
            runtime=SimpleNamespace(getDeviceProperties=lambda number: properties),
        )
        self.__version__ = "14"

    def empty(self, shape: Any, dtype: Any) -> Any:
        self.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        found = np.empty(shape, dtype).view(Array)
        found.said = self.said
        return found

    def ascontiguousarray(self, array: Any) -> Any:
        found = np.ascontiguousarray(array).view(Array)
        found.said = self.said
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def make(free: int = 10**6) -> tuple[Any, CuPy]:
    cupy = CuPy(free)
    cupyx = SimpleNamespace(empty_pinned=lambda shape, dtype: np.empty(shape, dtype))
    return CupyGPU(cupy, cupyx, 0, 0, 0.5), cupy


def test_a_copy_in_a_kernel_and_a_copy_out() -> None:
    gpu, cupy = make()
    with tf.Graph().as_default() as graph:
        tf.transpose(tf.placeholder(tf.float32), [1, 0], name="turned")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    held = gpu.put(x)
    assert cupy.said == [("malloc", 24, "compute"), ("h2d", "waits for", "compute"), ("copy in", "h2d")]
    cupy.said.clear()
    (turned,) = run_node(gpu, nodes_of(graph)["turned"], [held, np.array([1, 0])])
    assert cupy.said == [("compute", "waits for", "h2d")]
    cupy.said.clear()
    np.testing.assert_array_equal(gpu.get(turned), x.T)
    assert cupy.said == [
        ("d2h", "waits for", "compute"),
        ("copy out", "d2h"),
        ("host waits for event of", "d2h"),
    ]


def test_a_fused_node_is_one_launch_and_one_allocation(tmp_path: Path) -> None:
    gpu, cupy = make()
    host = HostCuda(tmp_path)
    cupy.RawKernel = host.RawKernel  # type: ignore[attr-defined]
    program = "t0 = Mul(x0, x1)\nt1 = Neg(t0)\nt2 = Relu(t1)"
    with tf.Graph().as_default() as graph:
        x = [tf.placeholder(tf.float32) for _ in range(2)]
        tf.raw_ops._FusedElementwise(x, T=tf.float32, program=program, name="chain")
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3) - 3, np.array([1, -1, 2], np.float32)
    there = [gpu.put(a), gpu.put(b)]
    cupy.said.clear()
    (found,) = run_node(gpu, nodes_of(graph)["chain"], there)
    assert cupy.said == [
        ("compute", "waits for", "h2d"),
        ("compute", "waits for", "h2d"),
        ("malloc", 24, "compute"),
    ]
    assert host.launches == ["fused"]
    np.testing.assert_array_equal(gpu.get(found), np.maximum(-(a * b), 0))


def test_what_it_says_of_itself() -> None:
    gpu, _ = make()
    held = gpu.put(np.zeros(4, np.float32), "weights")
    found = gpu.statistics()
    assert (found.limit, found.in_use, found.alive) == (500, 512, (("weights", 16),))
    assert gpu.description == "Stand-in, compute capability 9.0, CuPy 14" and not gpu.modelled
    assert gpu.kinds == ("CUDA", "GPU") and gpu.speed.bytes_per_second == 16e6
    del held
    gpu.reclaim()
    assert gpu.statistics().alive == ()


def test_out_of_memory() -> None:
    gpu, cupy = make(free=100)
    held = gpu.put(np.zeros(10, np.float32), "weights")
    with pytest.raises(
        errors.ResourceExhaustedError, match=r"OOM when allocating 400 bytes .*\n.*40 bytes  weights"
    ):
        gpu.put(np.zeros(100, np.float32))
    assert ("free all",) in cupy.said and held is not None


def test_events_are_used_again() -> None:
    gpu, _ = make()
    for _ in range(20):
        gpu.get(gpu.put(np.zeros(1, np.float32)))
    gpu.synchronize()
    gpu._release()
    assert 0 < len(gpu.backend.events) < 12
    gpu.close()
