"""Queues: elements that one step puts in and another takes out, or the same.

An operation that has to wait (a dequeue from a queue that holds too little, an enqueue into one that is full) raises `Blocked`
and has done nothing; it is tried again when the queue has changed.

Behaviour and messages are those of TensorFlow: `data_flow_ops.cc`, `queue_base.cc`, `fifo_queue.cc`, and so on.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op import philox
from engine.op.kernels import filled, integer, invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op
from engine.op.samples import untested
from engine.op.shapes import SCALAR, no_outputs
from engine.types import errors
from engine.types.dtypes import DType, int64
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.runtime.queues import Contents, Element, Queue

__all__: list[str] = []

_BY_HAND = untested("tests/op/test_queues.py")
BLOCKING = frozenset(
    {"QueueEnqueueV2", "QueueEnqueueManyV2", "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2"}
)
"""Types of operations that may wait for a queue."""


class Blocked(Exception):
    """The operation has to wait for `queue`, and has changed nothing.

    who: what names it there (`Queue.register`).  wants: for how many elements it waits; 0: it brings `brings` of them, and waits
    for room.
    """

    def __init__(self, queue: Queue, who: Any, reason: str, *, wants: int = 0, brings: int = 0) -> None:
        super().__init__(reason)
        self.queue = queue
        self.who = who
        self.reason = reason
        self.wants = wants
        self.brings = brings


# Making one.


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What a queue is: `kind` is its op's type without the version, `shapes` one a component, or none at all.

    capacity: how many elements it takes; -1: any number.
    least: how many elements must stay behind after a dequeue while the queue is open (RandomShuffleQueue).
    seeds: what the order of a RandomShuffleQueue is drawn from.
    """

    kind: str
    dtypes: tuple[DType, ...]
    shapes: tuple[TensorShape, ...]
    capacity: int
    least: int = 0
    seeds: tuple[int, int] = (0, 0)


def _make(k: Any) -> Any:
    a = k.attrs
    kind = k.op.type.removesuffix("V2")
    dtypes, shapes = tuple(a["component_types"]), tuple(a["shapes"])
    if kind == "PriorityQueue":
        dtypes = (int64, *dtypes)
        shapes = (SCALAR, *shapes) if shapes or len(dtypes) == 1 else ()
    options = QueueOptions(
        kind,
        dtypes,
        shapes,
        int(a["capacity"]),
        int(a.get("min_after_dequeue", 0)),
        (int(a.get("seed", 0)), int(a.get("seed2", 0))),
    )
    queue = k.resources.queue(a["container"], a["shared_name"] or k.op.name, options)
    _check_same(queue, options)
    return queue


def _check_same(queue: Queue, wanted: Any) -> None:
    """Raise InvalidArgumentError if a queue that is shared by name was made as another one."""
    has = queue.options
    for what, first, second in (
        ("type", has.kind, wanted.kind),
        ("capacity", has.capacity, wanted.capacity),
        (
            "component types",
            [each.name for each in has.dtypes],
            [each.name for each in wanted.dtypes],
        ),
        ("component shapes", [str(each) for each in has.shapes], [str(each) for each in wanted.shapes]),
        ("min_after_dequeue", has.least, wanted.least),
    ):
        if first != second:
            raise invalid(f"Shared queue '{queue.name}' has {what} {first} but requested {what} was {second}")


for _kind, _more in (
    ("FIFOQueueV2", ""),
    ("PaddingFIFOQueueV2", ""),
    ("RandomShuffleQueueV2", "min_after_dequeue: int = 0, seed: int = 0, seed2: int = 0, "),
    ("PriorityQueueV2", ""),
):
    _types = "list(type) >= 0 = []" if _kind == "PriorityQueueV2" else "list(type) >= 1"
    _shapes = "list(shape) >= 0" + ("" if _kind == "PriorityQueueV2" else " = []")
    op(
        f"{_kind}(; component_types: {_types}, shapes: {_shapes}, capacity: int = -1, {_more}"
        "container: string = '', shared_name: string = '') -> handle: resource",
        kernel=_make,
        shape=lambda node: SCALAR,
        grad=NotDifferentiable,
        samples=_BY_HAND,
        stateful=True,
        memory=HOST,
    )


# Putting in.


def _who(k: Any) -> tuple[Any, ...]:
    return k.step.id, k.op.name, k.frame, k.iteration


def _enqueue(k: Any, queue: Queue, elements: list[Element]) -> tuple[()]:
    """Put all of `elements` in, or none; wait for room."""
    who = _who(k)
    with queue.lock:
        state, options = queue.value, queue.options
        if state.closed and (state.cancelled or who not in queue.pending):
            if who in queue.pending:
                raise errors.CancelledError(None, None, "Enqueue operation was cancelled")
            raise errors.CancelledError(None, None, f"{options.kind} '{queue.name}' is closed.")
        if not queue.takes(len(elements)):
            raise Blocked(
                queue,
                who,
                f"room for {len(elements)} in {options.kind} '{queue.name}', which holds {queue.size} of {options.capacity}",
                brings=len(elements),
            )
        held = (*state.elements, *elements)
        if options.kind == "PriorityQueue":
            in_order = list(state.elements)
            for element in elements:
                bisect.insort_right(in_order, element, key=lambda each: int(each[0]))
            held = tuple(in_order)
        k.write(queue, state._replace(elements=held), kind="enqueue")
    queue.tell()
    return ()


def _checked(queue: Queue, components: tuple[Any, ...], many: bool) -> list[Element]:
    """The elements that these components are.  Raises InvalidArgumentError for what the queue does not take."""
    options = queue.options
    if len(components) != len(options.dtypes):
        raise invalid(
            f"Wrong number of components in tuple. Expected {len(options.dtypes)}, got {len(components)}"
        )
    for number, (component, dtype) in enumerate(zip(components, options.dtypes, strict=True)):
        if component.dtype != dtype.np_dtype:
            raise invalid(
                f"Type mismatch in tuple component {number}. Expected {dtype.name}, got {component.dtype}"
            )
        if many and not component.ndim:
            raise invalid(f"Component {number} of what is enqueued has no first dimension to go along")
        shape = component.shape[1:] if many else component.shape
        if options.shapes and not options.shapes[number].is_compatible_with(shape):
            expected = shape_text([-1 if size is None else size for size in options.shapes[number].as_list()])
            raise invalid(
                f"Shape mismatch in tuple component {number}. Expected {expected}, got {shape_text(shape)}"
            )
    if not many:
        return [tuple(np.array(component) for component in components)]
    counts = {len(component) for component in components}
    if len(counts) > 1:
        raise invalid(
            "All input tensors must have the same size in the 0th dimension. Component sizes: "
            f"{[len(component) for component in components]}"
        )
    copies = [np.array(component) for component in components]
    return [tuple(copy[i, ...] for copy in copies) for i in range(counts.pop())]


op(
    "QueueEnqueueV2(handle: resource, components: list(Tcomponents); Tcomponents: list(type) >= 1, timeout_ms: int = -1) -> ",
    kernel=lambda k, queue, *components: _enqueue(k, queue, _checked(queue, components, False)),
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)


def _enqueue_many(k: Any, queue: Queue, *components: Any) -> Any:
    elements = _checked(queue, components, True)
    return _enqueue(k, queue, elements) if elements else ()


op(
    "QueueEnqueueManyV2(handle: resource, components: list(Tcomponents); Tcomponents: list(type) >= 1, timeout_ms: int = -1) "
    "-> ",
    kernel=_enqueue_many,
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)


# Taking out.


def _dequeue(k: Any, queue: Queue, count: int, at_least: int) -> list[Element]:
    """Take `count` elements out; if the queue is closed, as many as there are, but at least `at_least`."""
    who = _who(k)
    with queue.lock:
        state, options = queue.value, queue.options
        size = len(state.elements)
        behind = 0 if state.closed else options.least
        if size < count + behind:
            if not state.closed:
                kept = f", of which {behind} have to stay" if behind else ""
                raise Blocked(
                    queue,
                    who,
                    f"{count} element{'s' * (count != 1)} in {options.kind} '{queue.name}', which holds {size}{kept}",
                    wants=count + behind,
                )
            if size < max(at_least, 1):
                raise errors.OutOfRangeError(
                    None,
                    None,
                    f"{options.kind} '{queue.name}' is closed and has insufficient elements "
                    f"(requested {count}, current size {size})",
                )
            count = size
        if options.kind == "RandomShuffleQueue":
            taken, state = _draw(k, queue, state, count)
        else:
            taken = list(state.elements[:count])
            state = state._replace(elements=state.elements[count:])
        k.write(queue, state, kind="dequeue")
    queue.tell()
    return taken


def _draw(k: Any, queue: Queue, state: Contents, count: int) -> tuple[list[Element], Contents]:
    """Take `count` elements at random; the last one takes the place of each."""
    seed, seed2 = queue.options.seeds
    stream = philox.Stream.seeded(*((seed, seed2) if seed or seed2 else (k.resources.entropy, 0)))
    blocks = np.arange(state.drawn // 4, (state.drawn + count - 1) // 4 + 1, dtype=np.uint64)
    words = philox.words(np, stream, blocks).reshape(-1)[state.drawn % 4 :]
    left, taken = list(state.elements), []
    for word in words[:count].tolist():
        index = word % len(left)
        taken.append(left[index])
        left[index] = left[-1]
        left.pop()
    return taken, state._replace(elements=tuple(left), drawn=state.drawn + count)


def _results(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


def _batched(queue: Queue, elements: list[Element]) -> list[Any]:
    """The elements, a component at a time: stacked, and padded where the queue pads."""
    found = []
    for number, dtype in enumerate(queue.options.dtypes):
        parts = [element[number] for element in elements]
        if not parts:
            known = [size or 0 for size in queue.options.shapes[number].as_list()]
            found.append(np.empty((0, *known), dtype.np_dtype))
            continue
        if queue.options.kind != "PaddingFIFOQueue":
            found.append(np.stack(parts))
            continue
        largest = tuple(max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True))
        zero = b"" if dtype.np_dtype.hasobject else 0
        batch = filled(np, (len(parts), *largest), dtype.np_dtype, zero)
        for row, part in enumerate(parts):
            batch[(row, *(slice(size) for size in part.shape))] = part
        found.append(batch)
    return found


def _check_outputs(k: Any, queue: Queue) -> None:
    wanted = [dtype.name for dtype in k.attrs["component_types"]]
    has = [dtype.name for dtype in queue.options.dtypes]
    if wanted != has:
        raise invalid(f"'{queue.name}' holds elements of {has}, and {wanted} are to come out of it")


def _dequeue_one(k: Any, queue: Queue) -> Any:
    _check_outputs(k, queue)
    return _results(list(_dequeue(k, queue, 1, 1)[0]))


def _dequeue_many(k: Any, queue: Queue, n: Any, whole: bool) -> Any:
    _check_outputs(k, queue)
    count = integer(n, "n")
    if count < 0:
        raise invalid(f"{k.op.type.removesuffix('V2')} requested {count} elements, which is fewer than none")
    if not queue.options.shapes:
        raise invalid(
            f"{k.op.type.removesuffix('V2')} requires the components to have specified shapes: '{queue.name}' was made "
            "without `shapes`"
        )
    return _results(_batched(queue, _dequeue(k, queue, count, count if whole else 1) if count else []))


op(
    "QueueDequeueV2(handle: resource; component_types: list(type) >= 1, timeout_ms: int = -1) "
    "-> components: list(component_types)",
    kernel=_dequeue_one,
    shape=None,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)

for _name, _whole in (("QueueDequeueManyV2", True), ("QueueDequeueUpToV2", False)):
    op(
        f"{_name}(handle: resource, n: int32; component_types: list(type) >= 1, timeout_ms: int = -1) "
        "-> components: list(component_types)",
        kernel=lambda k, queue, n, whole=_whole: _dequeue_many(k, queue, n, whole),
        shape=None,
        grad=NotDifferentiable,
        samples=_BY_HAND,
        stateful=True,
        memory=HOST,
    )


# About them.


def _close(k: Any, queue: Queue) -> tuple[()]:
    with queue.lock:
        if queue.value.closed:
            raise errors.CancelledError(None, None, f"Queue '{queue.name}' is already closed.")
        state = queue.value._replace(closed=True, cancelled=bool(k.attrs["cancel_pending_enqueues"]))
        k.write(queue, state, kind="close")
    queue.tell()
    return ()


op(
    "QueueCloseV2(handle: resource; cancel_pending_enqueues: bool = False) -> ",
    kernel=_close,
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)

op(
    "QueueSizeV2(handle: resource) -> size: int32",
    kernel=lambda k, queue: np.int32(queue.size),
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)

op(
    "QueueIsClosedV2(handle: resource) -> is_closed: bool",
    kernel=lambda k, queue: np.bool_(queue.value.closed),
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)


def component_shapes(shapes: tuple[TensorShape, ...], count: int) -> list[TensorShape]:
    """The shapes of `count` components, unknown where the queue has none."""
    return list(shapes) if shapes else [TensorShape(None)] * count
