"""The backend of a modelled GPU: NumPy computes, at once; streams, memory and time are those of the model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.device.device import Span, Statistics, running
from engine.device.modelled import differences
from engine.device.modelled.array import ModelArray
from engine.device.modelled.cost import kernel_ns, nbytes_of
from engine.device.modelled.memory import Memory, Storage
from engine.device.modelled.namespace import Namespace
from engine.device.modelled.parameters import GPUModel
from engine.device.modelled.streams import Clock, VirtualStream
from engine.types import errors

MAX_SPANS = 100_000
# Methods that take what the functions of the same name take after the array.
_AS_FUNCTIONS = frozenset(
    {
        "all", "any", "argmax", "argmin", "argsort", "clip", "cumprod", "cumsum", "max", "mean", "min", "nonzero", "prod",
        "repeat", "round", "searchsorted", "std", "sum", "take", "trace", "var",
    }
)  # fmt: skip
_NO_KERNEL = frozenset({"empty", "empty_like"})


class ModelBackend:
    """See `engine.device.accelerator.Backend`."""

    array_type = ModelArray

    def __init__(self, device: str, model: GPUModel, clock: Clock, limit: int) -> None:
        self.device = device
        self.model = model
        self.clock = clock
        self.memory = Memory(device, limit)
        self.xp = Namespace(self)
        self._random = random.Random(f"{model.seed}/{device}")
        self._current: list[VirtualStream] = []
        self._spans: list[Span] = []

    # Streams.

    def stream(self, name: str) -> VirtualStream:
        def count() -> None:
            self.memory.synchronizations += 1

        return VirtualStream(name, self.device, self.clock, self.model.delay_ns, self._current, count)

    def check_running(self, array: ModelArray) -> None:
        """Raise InternalError unless a kernel of this array's device is running."""
        if running.device is None or running.device.backend is not self:
            user = "the host" if running.device is None else repr(running.device)
            op = f", by '{running.op}'" if running.op else ""
            raise errors.InternalError(
                None,
                None,
                f"'{array._storage.label}', a {array.dtype} array of shape {list(array.shape)} in the memory of {self.device} "
                f"(modelled), was used on {user}{op}: a Send and a Recv should have brought it there",
            )

    # Copies.

    def owns(self, array: Any) -> bool:
        return array._backend is self

    def where(self, array: Any) -> str:
        return f"{array._backend.device} (modelled)"

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], label: str) -> ModelArray:
        return self._new(np.empty(shape, dtype), label or "a copy from the host")

    def upload(self, host: np.ndarray[Any, Any], array: ModelArray, stream: VirtualStream) -> Any:
        model = self.model
        array._storage.check_write(stream)
        array._data[...] = host
        took = model.host_latency_ns + 1e9 * host.nbytes / model.host_bytes_per_second
        self._work(stream, "host to device", took, (), (array._storage,), host.nbytes)
        return host

    def download(self, array: ModelArray, stream: VirtualStream) -> np.ndarray[Any, Any]:
        model = self.model
        array._storage.check_read(stream)
        took = model.host_latency_ns + 1e9 * array.nbytes / model.host_bytes_per_second
        self._work(stream, "device to host", took, (array._storage,), (), array.nbytes)
        return array._data.copy()

    def between(self, source: ModelArray, target: ModelArray, stream: VirtualStream) -> None:
        model = self.model
        source._storage.check_read(stream)
        target._storage.check_write(stream)
        target._data[...] = source._data
        took = model.peer_latency_ns + 1e9 * source.nbytes / model.peer_bytes_per_second
        self._work(stream, "device to device", took, (source._storage,), (target._storage,), source.nbytes)

    def upload_now(self, host: np.ndarray[Any, Any]) -> ModelArray:
        """What a kernel makes of the host's values: copied on the kernel's own stream."""
        host = np.asarray(host)
        if host.dtype.hasobject:
            raise ValueError(f"Unsupported dtype {host.dtype} (CuPy)")
        array = self._new(np.array(host), self._temporary())
        self.upload(host, array, self._stream())
        return array

    def to_host(self, array: ModelArray, what: str) -> np.ndarray[Any, Any]:
        """The values of `array` within a kernel: the host waits for its stream."""
        self.check_running(array)
        stream = self._stream()
        found = self.download(array, stream)
        stream.synchronize()
        return found

    # Kernels.

    def call(
        self,
        name: str,
        function: Callable[..., Any],
        args: Sequence[Any],
        keywords: dict[str, Any] | None = None,
        writes: Sequence[ModelArray] = (),
    ) -> Any:
        """Run a function of NumPy's on the arrays' data: order is checked, time passes, results are this device's arrays."""
        keywords = keywords or {}
        out = keywords.get("out")
        if out is not None:
            writes = (*writes, *(out if isinstance(out, tuple) else (out,)))
        arrays: list[ModelArray] = []
        raw = [self._raw(each, arrays) for each in args]
        raw_keywords = {key: self._raw(value, arrays) for key, value in keywords.items()}
        stream = self._stream()
        for array in arrays:
            array._storage.check_read(stream)
        for array in writes:
            array._storage.check_write(stream)
        with np.errstate(all="ignore"):
            result = function(*raw, **raw_keywords)
        if out is not None:
            made: list[np.ndarray[Any, Any]] = [each._data for each in writes]
            wrapped: Any = out
        else:
            storages = {id(array._storage.root): array._storage for array in arrays}
            made = []
            wrapped = self._wrap(result, storages, made)
            made += [each._data for each in writes]
        if (made and name not in _NO_KERNEL) or name in differences.SYNCHRONIZING:
            took = kernel_ns(self.model, name, [array._data for array in arrays], made)
            self.clock.now += self.model.launch_ns
            written = [each._storage for each in writes]
            nbytes = nbytes_of([*(array._data for array in arrays), *made])
            number = self._work(stream, "kernel", took, [array._storage for array in arrays], written, nbytes)
            self._note_made(wrapped, stream, number)
        if name in differences.SYNCHRONIZING:
            stream.synchronize()
        return wrapped

    def call_method(self, name: str, array: ModelArray, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """A method of an array."""
        if name == "astype":
            copy = keywords.get("copy", True)
            return self.call(
                name, lambda x: differences.cast(x, args[0] if args else keywords["dtype"], copy), (array,)
            )
        if name in ("fill", "sort", "partition", "put"):
            function = getattr(np.ndarray, name)
            return self.call(
                name, lambda x, *rest: function(x, *rest, **keywords), (array, *args), writes=(array,)
            )
        shared = getattr(self.xp, name) if name in _AS_FUNCTIONS else None
        if shared is not None:
            return shared(array, *args, **keywords)
        return self.call(name, getattr(np.ndarray, name), (array, *args), keywords)

    def get_items(self, array: ModelArray, index: Any) -> Any:
        arrays: list[ModelArray] = [array]
        raw = self._raw_index(index, arrays)
        if any(isinstance(part, np.ndarray) and part.dtype.kind == "b" for part in _parts(raw)):
            self._stream().synchronize()  # how many are True decides the shape
        return self.call("getitem", lambda x, *rest: x[differences.wrapped(raw, x.shape)], arrays)

    def set_items(self, array: ModelArray, index: Any, value: Any) -> None:
        arrays: list[ModelArray] = [array]
        raw = self._raw_index(index, arrays)
        if isinstance(value, np.ndarray):
            raise TypeError(
                f"Unsupported type {type(value)} (CuPy sets items from its own arrays and from scalars)"
            )

        def run(data: Any, new: Any, *rest: Any) -> None:
            differences.write_items(data, differences.wrapped(raw, data.shape), new, self.shuffled)

        self.call("setitem", run, (array, value, *arrays[1:]), writes=(array,))

    def shuffled(self, count: int) -> np.ndarray[Any, Any]:
        """The order in which `count` writes that race come to be: the model's seed decides."""
        order = list(range(count))
        self._random.shuffle(order)
        return np.array(order, np.intp)

    # What the above is made of.

    def _stream(self) -> VirtualStream:
        return self._current[-1]

    def _temporary(self) -> str:
        return f"a temporary of {running.op}" if running.op else "an array"

    def _work(
        self,
        stream: VirtualStream,
        kind: str,
        duration_ns: float,
        reads: Sequence[Storage],
        writes: Sequence[Storage],
        nbytes: int,
    ) -> int:
        number, start, end = stream.submit(duration_ns)
        for storage in reads:
            storage.note_read(stream, number)
        for storage in writes:
            storage.note_write(stream, number)
        if len(self._spans) < MAX_SPANS:
            self._spans.append(Span(stream.name, kind, running.op, start, end, nbytes))
        return number

    def _new(self, data: np.ndarray[Any, Any], label: str) -> ModelArray:
        return ModelArray(self, data, Storage(self.memory, _root(data), self._stream(), label))

    def _raw(self, value: Any, arrays: list[ModelArray]) -> Any:
        """`value` with the data of arrays in their place; they are added to `arrays`."""
        if isinstance(value, ModelArray):
            self.check_running(value)
            arrays.append(value)
            return value._data
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}: an array of the host's in a function of CuPy's")
        if isinstance(value, list | tuple):
            found = [self._raw(each, arrays) for each in value]
            return found if isinstance(value, list) else tuple(found)
        return value

    def _raw_index(self, index: Any, arrays: list[ModelArray]) -> Any:
        if isinstance(index, tuple):
            return tuple(self._raw_index(part, arrays) for part in index)
        if isinstance(index, ModelArray):
            self.check_running(index)
            arrays.append(index)
            return index._data
        if isinstance(index, np.ndarray | list):
            copied = self.upload_now(np.asarray(index))
            arrays.append(copied)
            return copied._data
        return index

    def _wrap(self, result: Any, storages: dict[int, Storage], made: list[np.ndarray[Any, Any]]) -> Any:
        """Arrays of this device for NumPy's; what is no view of an input is added to `made`."""
        if isinstance(result, tuple | list):
            wrapped = [self._wrap(each, storages, made) for each in result]
            return wrapped if isinstance(result, list) else tuple(wrapped)
        if isinstance(result, np.bool_ | np.generic):
            result = np.asarray(result)
        if not isinstance(result, np.ndarray):
            return result
        root = _root(result)
        storage = storages.get(id(root))
        if storage is None:
            if root.base is not None or not root.flags.owndata:
                result = root = np.array(result)
            made.append(result)
            storage = storages[id(root)] = Storage(self.memory, root, self._stream(), self._temporary())
        return ModelArray(self, result, storage)

    def _note_made(self, wrapped: Any, stream: VirtualStream, number: int) -> None:
        for each in wrapped if isinstance(wrapped, tuple | list) else (wrapped,):
            if isinstance(each, ModelArray) and each._storage.written[1] == 0:
                each._storage.check_write(stream)
                each._storage.note_write(stream, number)

    # Facts.

    def name(self, array: ModelArray, label: str, *, again: bool = False) -> None:
        storage = array._storage
        if again or not storage.named:
            storage.label, storage.named = label, True

    def statistics(self) -> Statistics:
        return self.memory.statistics()

    def take_spans(self) -> tuple[Span, ...]:
        found, self._spans = tuple(self._spans), []
        return found

    def close(self) -> None:
        self._spans.clear()


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _root(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array that owns the memory; `array` is a view of it, or it itself."""
    found: Any = array
    while getattr(found, "base", None) is not None:
        found = found.base
    return found if isinstance(found, np.ndarray) else array
