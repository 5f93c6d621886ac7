"""A device with memory and streams of its own: what real GPUs and modelled ones have in common.

Three streams: kernels run on `compute`, copies from the host on `h2d`, copies to it on `d2h`.  The rules of ordering are here
and nowhere else, so that the model, which finds their breach, proves them for real devices too:

- A new array is allocated for the compute stream, which is the one that frees it: memory that is given out again is in that
  stream's order.  A copy into it therefore waits for what the compute stream has been given so far.
- Compute waits for an arriving array's event when a kernel first uses it, not before, so that copies and kernels overlap.
- A copy out waits for what compute has been given, and the array is held (`_held`) until the copy's event has come.
"""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engine.device.device import Device, Link, Span, Speed, Statistics, StreamFacts, running
from engine.types import errors

if TYPE_CHECKING:
    from engine.op.registry import Kernel, Memory


_COPYING = SimpleNamespace(name="a copy")


class Event(Protocol):
    """A point in a stream's work."""

    def done(self) -> bool:
        """Whether the stream has come so far; does not wait."""

    def synchronize(self) -> None:
        """Wait until it has."""


class Stream(Protocol):
    """Work in order, done while the host goes on."""

    name: str

    def wait(self, event: Any) -> None:
        """What is given to this stream from now on comes after `event`."""

    def record(self) -> Any:
        """An event for what the stream has been given so far."""

    def use(self) -> AbstractContextManager[Any]:
        """Inside the block, kernels and allocations are this stream's."""

    def synchronize(self) -> None:
        """Wait until all its work is done."""

    def facts(self) -> StreamFacts: ...


class Backend(Protocol):
    """What a real or modelled GPU does for its `Accelerator`."""

    xp: Any
    array_type: Any

    def stream(self, name: str) -> Any:
        """A `Stream` of that name."""

    def owns(self, array: Any) -> bool:
        """Whether `array`, an instance of `array_type`, is in this device's memory."""

    def where(self, array: Any) -> str:
        """The device of `array`, an instance of `array_type`, in words."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], label: str) -> Any:
        """A new array, allocated for the current stream."""

    def upload(self, host: np.ndarray[Any, Any], array: Any, stream: Any) -> Any:
        """Give `stream` a copy from the host; what is returned must be kept until it is done."""

    def download(self, array: Any, stream: Any) -> np.ndarray[Any, Any]:
        """Give `stream` a copy to a new host array, whose values are there when the copy is done."""

    def between(self, source: Any, target: Any, stream: Any) -> None:
        """Give `stream` a copy from another device of this backend's kind."""

    def name(self, array: Any, label: str, *, again: bool = False) -> None:
        """`array` is the tensor `label`, for those who ask what is alive; `again`: even if it has a name already."""

    def statistics(self) -> Statistics: ...

    def take_spans(self) -> tuple[Span, ...]: ...

    def close(self) -> None: ...


class Accelerator(Device):
    """A GPU, by its backend.  Thread-safe: one thread at a time gives it work."""

    type = "GPU"
    kinds: tuple[str, ...] = ("GPU",)
    on_host = False
    layout = "NCHW"

    def __init__(
        self,
        index: int,
        backend: Backend,
        *,
        description: str,
        memory_limit: int,
        speed: Speed,
        host_link: Link,
    ) -> None:
        super().__init__(index, description=description, memory_limit=memory_limit, speed=speed)
        self.backend = backend
        self.xp = backend.xp
        self.host_link = host_link
        self.compute, self.h2d, self.d2h = (backend.stream(name) for name in ("compute", "h2d", "d2h"))
        self._lock = threading.RLock()
        self._arriving: dict[int, tuple[weakref.ref[Any], Event]] = {}
        self._copies: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self._doubts: list[tuple[Any, Any, Callable[[], errors.OpError]]] = []
        self._held: deque[tuple[Event, Any]] = deque()
        self._memories: dict[int, tuple[Any, Memory]] = {}

    # Arrays.

    def put(self, array: Any, label: str = "") -> Any:
        host = np.ascontiguousarray(array).reshape(np.shape(array))
        if host.dtype.hasobject:
            raise errors.InvalidArgumentError(
                None, None, f"{self._called()} has no strings: they are the host's, and stay there"
            )
        with self._lock:
            self._release()
            with self.compute.use():
                found = self.backend.empty(host.shape, host.dtype, label)
            self.h2d.wait(self.compute.record())
            kept = self.backend.upload(host, found, self.h2d)
            self._arrives(found, self.h2d.record(), kept)
        return found

    def get(self, array: Any) -> Any:
        if not isinstance(array, self.backend.array_type):
            return array
        with self._lock:
            self._check_owner(array, "the host")
            self._settle()
            return self._download(array)

    def _download(self, array: Any) -> np.ndarray[Any, Any]:
        self._await(array)
        array = self._contiguous(array)
        self.d2h.wait(self.compute.record())
        host = self.backend.download(array, self.d2h)
        event = self.d2h.record()
        self._held.append((event, array))
        event.synchronize()
        self._release()
        return host

    def copy(self, array: Any, source: Device) -> Any:
        if source is self:
            return array
        if isinstance(source, Accelerator) and isinstance(array, self.backend.array_type):
            return self._copy_between(array, source)
        host = source.get(array)
        # TensorFlow keeps int32 in the host's memory too: they are sizes, axes and counters, mostly.
        small = (
            not isinstance(host, np.ndarray | np.generic) or host.dtype.hasobject or host.dtype == np.int32
        )
        return host if small else self.put(host)

    def name_array(self, array: Any, label: str) -> None:
        if isinstance(array, self.backend.array_type):
            self.backend.name(array, label)

    def _copy_between(self, array: Any, source: Accelerator) -> Any:
        with source._lock:
            source._check_owner(array, self._called())
            source._await(array)
            array = source._contiguous(array)
            ready = source.compute.record()
        with self._lock:
            self._release()
            with self.compute.use():
                found = self.backend.empty(array.shape, array.dtype, "")
            self.h2d.wait(self.compute.record())
            self.h2d.wait(ready)
            self.backend.between(array, found, self.h2d)
            self._arrives(found, self.h2d.record(), array)
        return found

    def _contiguous(self, array: Any) -> Any:
        if array.flags.c_contiguous:
            return array
        with self._in_kernel(_COPYING):
            return self.xp.ascontiguousarray(array)

    def _arrives(self, array: Any, event: Event, kept: Any) -> None:
        """Note that `array` is there when `event` has come, and hold `kept` until then."""
        self._held.append((event, (kept, array)))
        self._arriving[id(array)] = (weakref.ref(array), event)

    def _await(self, array: Any) -> None:
        """Make the compute stream wait until `array` has arrived."""
        entry = self._arriving.pop(id(array), None)
        if entry is not None and entry[0]() is array:
            self.compute.wait(entry[1])

    def _release(self) -> None:
        """Let go of what was held for copies that are done."""
        held = self._held
        while held and held[0][0].done():
            held.popleft()
        if len(self._arriving) > 64:
            self._arriving = {key: entry for key, entry in self._arriving.items() if entry[0]() is not None}

    # Running.

    def run(self, kernel: Kernel, k: Any, inputs: Sequence[Any]) -> Any:
        node = k.op
        memory = self._memory(node)
        if memory.on_host:
            k = copy.copy(k)
            k.xp = np
            return kernel(k, *[self._to_host(x) for x in inputs])
        with self._lock:
            self._release()
            prepared = [
                self._prepare(x, where, node, slot)
                for slot, (x, where) in enumerate(zip(inputs, memory.inputs, strict=True))
            ]
            with self._in_kernel(node):
                result = kernel(k, *prepared)
            self._check_outputs(node, memory, result)
            for write in getattr(k, "writes", ()):
                if isinstance(write.new, self.backend.array_type):
                    self.backend.name(write.new, write.resource.name, again=True)
        return result

    @contextmanager
    def _in_kernel(self, node: Any) -> Iterator[None]:
        """Inside the block, this thread is in a kernel of `node`."""
        before = running.device, running.op, running.node
        running.device, running.op, running.node = self, node.name, node
        try:
            with self.compute.use():
                yield
        finally:
            running.device, running.op, running.node = before

    def check_later(self, bad: Any, explain: Callable[[], errors.OpError]) -> None:
        """Raise ``explain()``, as of the node whose kernel is running, if `bad` turns out to have a True in it.

        That is looked at when somebody waits for this device: in `get` and `synchronize`.
        """
        self._doubts.append((running.node, bad.any(), explain))

    def _settle(self) -> None:
        """Look at what `check_later` put off."""
        doubts, self._doubts = self._doubts, []
        if not doubts:
            return
        with self._in_kernel(doubts[0][0]):
            flags = self.xp.stack([flag.reshape(()) for _, flag, _ in doubts])
        if not (found := self._download(flags)).any():
            return
        node, _, explain = doubts[int(found.argmax())]
        with self._in_kernel(node):
            raise explain().attach(node)

    def _memory(self, node: Any) -> Memory:
        found = self._memories.get(id(node))
        if found is None:
            found = self._memories[id(node)] = (node, node.opdef.memory_of(node))
        return found[1]

    def _to_host(self, x: Any) -> Any:
        return self.get(x) if isinstance(x, self.backend.array_type) else x

    def _prepare(self, x: Any, where: str, node: Any, slot: int) -> Any:
        """An input where its op wants it; references and handles as they are."""
        if isinstance(x, self.backend.array_type):
            if where == "host":
                return self.get(x)
            self._check_owner(x, self._called())
            self._await(x)
            return x
        if where == "device" and isinstance(x, np.ndarray | np.generic):
            x = self._uploaded(x, "{}:{}".format(*node.inputs[slot]))
            self._await(x)
        return x

    def _uploaded(self, x: Any, label: str) -> Any:
        """`put`, once for each array: what is on an edge is never changed, so a constant is copied once and for all."""
        entry = self._copies.get(id(x))
        if entry is not None and entry[0]() is x:
            return entry[1]
        found = self.put(x, label)
        if isinstance(x, np.ndarray):
            copies, key = self._copies, id(x)
            copies[key] = (weakref.ref(x, lambda _: copies.pop(key, None)), found)
        return found

    def _check_owner(self, array: Any, user: str) -> None:
        if not self.backend.owns(array):
            raise errors.InternalError(
                None,
                None,
                f"A tensor in the memory of {self.backend.where(array)} is used by {user}, {self._called()}: "
                "a Send and a Recv should have brought it",
            )

    def _check_outputs(self, node: Any, memory: Memory, result: Any) -> None:
        """Give the outputs their names; raise InternalError for one that is not where the op's block says."""
        outputs = result if isinstance(result, tuple | list) else (result,)
        for slot, (value, where) in enumerate(zip(outputs, memory.outputs, strict=False)):
            if isinstance(value, self.backend.array_type):
                if where == "host":
                    raise self._misplaced(node, slot, "is in the device's memory", "the host's")
                self.backend.name(value, f"{node.name}:{slot}")
            elif where == "device" and isinstance(value, np.ndarray | np.generic):
                raise self._misplaced(node, slot, "is in the host's memory", "the device's")

    def _misplaced(self, node: Any, slot: int, found: str, wanted: str) -> errors.InternalError:
        return errors.InternalError(
            None,
            None,
            f"The kernel of {node.type} on {self._called()} gave an output {slot} that {found}, not in {wanted}: "
            "the kernel, or `memory` in the op's block, is wrong",
        )

    def _called(self) -> str:
        return f"{self.short_name}{' (modelled)' if self.modelled else ''}"

    def synchronize(self) -> None:
        for stream in (self.h2d, self.compute, self.d2h):
            stream.synchronize()
        with self._lock:
            self._release()
            self._settle()

    def reclaim(self) -> None:
        """Let go of all that nobody needs, waiting for the copies under way: memory is short."""
        gc.collect()  # a step that is over may still be held by its own cycles
        while self._held:
            self._held.popleft()[0].synchronize()

    # Facts.

    def statistics(self) -> Statistics:
        return self.backend.statistics()

    def streams(self) -> tuple[StreamFacts, ...]:
        return tuple(stream.facts() for stream in (self.compute, self.h2d, self.d2h))

    def take_spans(self) -> tuple[Span, ...]:
        return self.backend.take_spans()

    def link(self, other: Device) -> Link:
        return self.host_link

    def close(self) -> None:
        with self._lock:
            self._held.clear()
            self._arriving.clear()
            self._copies.clear()
            self._doubts.clear()
            self._memories.clear()
            self.backend.close()
