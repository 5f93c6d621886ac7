"""Resources: variables, random counters, queues, whatever outlives a step; and the one manager through which they change.

A resource's whole state is one immutable value.  Every change goes through `ResourceManager.write`, which returns a record that
says what changed and can take it back: rewinding undoes records, race detection and traces read them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.types import errors

if TYPE_CHECKING:
    from engine.op.queues import QueueOptions
    from engine.passes.stage import StageNode
    from engine.runtime.queues import Queue
    from engine.types.dtypes import DType
    from engine.types.shape import TensorShape
    from engine.types.site import Site


class Resource:
    """A named thing with a state.

    `value` is never changed in place, and was `fresh` at first; `version` counts the writes; hold `lock` around a read that a
    write depends on.
    """

    kind = "resource"

    def __init__(self, container: str, name: str, value: Any = None) -> None:
        self.container = container
        self.name = name
        self.value = self.fresh = value
        self.version = 0
        self.lock = threading.RLock()

    def restore(self, record: Write) -> None:
        """Become what it was before `record`, the last write."""
        self.value = record.old
        self.version = record.old_version

    def repeat(self, record: Write) -> None:
        """Become what `record` made of it, once more; it is what it was before."""
        self.value = record.new
        self.version = record.old_version + 1

    def __repr__(self) -> str:
        return f"<{self.kind} '{self.name}' version {self.version}>"


class Variable(Resource):
    """A variable's buffer: an array, or None before it is initialized; `site` says where its node was made."""

    kind = "variable"
    site: Site | None = None

    def __init__(self, container: str, name: str, dtype: DType, shape: TensorShape) -> None:
        super().__init__(container, name)
        self.dtype = dtype
        self.shape = shape

    @property
    def initialized(self) -> bool:
        return self.value is not None

    def read(self, reader: StageNode | None = None) -> Any:
        """The array.  Raises FailedPreconditionError, naming the variable, if it has none yet."""
        value = self.value
        if value is None:
            made = f" (made at {self.site})" if self.site is not None and self.site.frames else ""
            error = errors.FailedPreconditionError(
                None, None, f"Attempting to use uninitialized value {self.name}{made}"
            )
            error.hint = "Run tf.global_variables_initializer() (or its .initializer) in the same session before using it."
            if reader is not None:
                error.attach(reader)
            raise error
        return value


class Stack(Resource):
    """Last in, first out.  The value is None when empty, or a cell (what is below, element, size); `limit` < 0 is no limit."""

    kind = "stack"

    def __init__(self, container: str, name: str, limit: int) -> None:
        super().__init__(container, name)
        self.limit = limit

    @property
    def size(self) -> int:
        return 0 if self.value is None else int(self.value[2])

    def elements(self) -> Iterator[Any]:
        """The elements, the last pushed first."""
        cell = self.value
        while cell is not None:
            cell, element, _ = cell
            yield element


class Keyed(Resource):
    """A resource of many items: `value` maps keys to them, and is changed item by item (`ResourceManager.write_item`)."""

    value: dict[Any, Any]
    size = 0

    def put(self, key: Any, item: Any) -> None:
        """Change one item; MISSING takes it away."""
        if item is MISSING:
            self.value.pop(key, None)
        else:
            self.value[key] = item

    def restore(self, record: Write) -> None:
        if record.key is NO_KEY:
            super().restore(record)
            return
        self.put(record.key, record.old)
        self.size = record.old_size
        self.version = record.old_version


class TensorArray(Keyed):
    """Elements by index.

    `value` maps the indices that have been written to arrays (None where the element was read and let go).  `sums` says that a
    second write of an index adds to it, as in the array of a gradient.
    """

    kind = "tensor array"

    def __init__(
        self,
        container: str,
        name: str,
        dtype: DType,
        size: int,
        element_shape: TensorShape,
        options: TensorArrayOptions,
    ) -> None:
        super().__init__(container, name, {})
        self.dtype = dtype
        self.size = size
        self.element_shape = element_shape
        self.options = options
        self.shapes: dict[int, tuple[int, ...]] = {}  # of the elements written, kept when they are let go
        self._declared_shape = element_shape

    def put(self, key: int, item: Any) -> None:
        super().put(key, item)
        self.size = max(self.size, key + 1)

    def restore(self, record: Write) -> None:
        super().restore(record)
        if record.old is MISSING:
            self.shapes.pop(record.key, None)
            if not self.shapes:  # what it learned of its elements' shape, it learned from the first
                self.element_shape = self._declared_shape


@dataclass(frozen=True, slots=True)
class TensorArrayOptions:
    """How a TensorArray behaves; see TensorFlow's `TensorArrayV3`."""

    dynamic_size: bool = False
    clear_after_read: bool = True
    identical_element_shapes: bool = False
    sums: bool = False


STEP = "_step_"  # what the names of containers begin with that live no longer than a step
NO_KEY: Any = object()
MISSING: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One change of a resource; `old` and `old_version` are what it was before.

    With a `key`, only that item of a resource that holds many changed; `old` is MISSING if it was not there, and `old_size`
    is the resource's size before.
    """

    resource: Resource
    kind: str
    old: Any
    old_version: int
    new: Any
    key: Any = NO_KEY
    old_size: int = 0


class ResourceManager:
    """The resources of one session, by container and name."""

    def __init__(self) -> None:
        self._containers: dict[str, dict[str, Resource]] = {}
        self._lock = threading.Lock()
        # What random ops without a seed start from: theirs alone, but the same however often a step is taken back and repeated.
        self.entropy = int.from_bytes(os.urandom(8), "little")

    def get_or_create(
        self, container: str, name: str, kind: type[Resource], make: Callable[[], Resource]
    ) -> Any:
        """The resource of that name, made by `make` if there is none.  Raises InvalidArgumentError if it is of another kind."""
        with self._lock:
            resources = self._containers.setdefault(container, {})
            found = resources.get(name)
            if found is None:
                found = resources[name] = make()
        if not isinstance(found, kind):
            raise errors.InvalidArgumentError(
                None, None, f"'{name}' is a {found.kind} in this session, and is used as a {kind.kind}"
            )
        return found

    def variable(self, container: str, name: str, dtype: DType, shape: TensorShape) -> Variable:
        """The variable of that name, uninitialized if it is new."""
        found: Variable = self.get_or_create(
            container, name, Variable, lambda: Variable(container, name, dtype, shape)
        )
        return found

    def stack(self, container: str, name: str, limit: int) -> Stack:
        """The stack of that name, empty if it is new."""
        found: Stack = self.get_or_create(container, name, Stack, lambda: Stack(container, name, limit))
        return found

    def tensor_array(
        self, container: str, name: str, dtype: DType, size: int, element_shape: TensorShape, **options: bool
    ) -> TensorArray:
        """The TensorArray of that name, without elements if it is new."""
        found: TensorArray = self.get_or_create(
            container,
            name,
            TensorArray,
            lambda: TensorArray(container, name, dtype, size, element_shape, TensorArrayOptions(**options)),
        )
        return found

    def queue(self, container: str, name: str, options: QueueOptions) -> Queue:
        """The queue of that name, empty if it is new."""
        from engine.runtime.queues import Queue

        found: Queue = self.get_or_create(container, name, Queue, lambda: Queue(container, name, options))
        return found

    def write(self, resource: Resource, value: Any, kind: str = "write") -> Write:
        """Give `resource` a new value; the record says what it was."""
        with resource.lock:
            record = Write(resource, kind, resource.value, resource.version, value)
            resource.value = value
            resource.version += 1
        return record

    def write_item(self, resource: Keyed, key: Any, item: Any, kind: str) -> Write:
        """Give one item of `resource` a new value (MISSING: take it away)."""
        with resource.lock:
            old = resource.value.get(key, MISSING)
            record = Write(resource, kind, old, resource.version, item, key, resource.size)
            resource.put(key, item)
            resource.version += 1
        return record

    def undo(self, record: Write) -> None:
        """Take a write back; later writes of the same resource must have been taken back before."""
        resource = record.resource
        with resource.lock:
            resource.restore(record)

    def redo(self, record: Write) -> None:
        """Make a write once more that was taken back.  Not for one item of many (`write_item`)."""
        resource = record.resource
        with resource.lock:
            resource.repeat(record)

    def lasting(self) -> list[Resource]:
        """The resources that outlive a step."""
        with self._lock:
            return [
                each
                for container, resources in self._containers.items()
                if not container.startswith(STEP)
                for each in resources.values()
            ]

    def contents(self, container: str) -> dict[str, Resource]:
        """What a container has, by name: the mapping itself, which it keeps if the container is forgotten."""
        with self._lock:
            return self._containers.setdefault(container, {})

    def put_back(self, container: str, contents: dict[str, Resource]) -> None:
        """Let a container be what `contents` gave of it."""
        with self._lock:
            self._containers[container] = contents

    def adopt(self, resource: Resource) -> None:
        """Have a resource again that was forgotten, as the last of its container."""
        with self._lock:
            self._containers.setdefault(resource.container, {})[resource.name] = resource

    def made_since(self, count: int, container: str) -> tuple[Resource, ...]:
        """The resources of `container` but for its first `count`, in the order in which they were made."""
        with self._lock:
            return tuple(self._containers.get(container, {}).values())[count:]

    def count(self, container: str) -> int:
        """How many resources `container` has."""
        return len(self._containers.get(container, ()))

    def discard(self, resource: Resource) -> None:
        """Forget a resource whose making has been taken back."""
        with self._lock:
            self._containers.get(resource.container, {}).pop(resource.name, None)

    def lookup(self, name: str, container: str = "") -> Resource | None:
        return self._containers.get(container, {}).get(name)

    def __iter__(self) -> Iterator[Resource]:
        with self._lock:
            found = [each for resources in self._containers.values() for each in resources.values()]
        return iter(found)

    def clear(self, containers: tuple[str, ...] = ()) -> None:
        """Forget all resources, or those of some containers."""
        with self._lock:
            for name in containers or tuple(self._containers):
                self._containers.pop(name, None)
