"""`tf.queue`: after ``queue = FIFOQueue(10, [tf.float32])``, ``queue.enqueue(x)`` and ``queue.dequeue()`` are operations.

A queue lives in the session and holds elements from one `Session.run` to the next; each element is a tuple of tensors, its
components.  A dequeue waits until there are enough elements, an enqueue until there is room, while other threads run steps that
bring that about; a step that waits can be interrupted like any other (Ctrl-C, `session.close()`, `timeout_in_ms`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.queues import component_shapes
from engine.op.random import get_seed
from engine.op.registry import OpDef, raw
from engine.op.shapes import constant_value
from engine.types.dtypes import DType, as_dtype, int64
from engine.types.shape import TensorShape, as_shape

__all__ = ["FIFOQueue", "PaddingFIFOQueue", "PriorityQueue", "QueueBase", "RandomShuffleQueue"]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_length(what: str, given: Sequence[Any], dtypes: Sequence[DType]) -> None:
    if len(given) != len(dtypes):
        raise ValueError(
            f"Queue {what} must have the same length as dtypes, received len({what})={len(given)}, "
            f"len(dtypes)={len(dtypes)}"
        )


class QueueBase:
    """What all queues have in common.

    dtypes: of the components.  shapes: theirs, or None where elements may differ.  names: of the components; with names, elements
    are dicts.  queue_ref: the tensor that stands for the queue.
    """

    def __init__(
        self,
        dtypes: Sequence[Any],
        shapes: Sequence[TensorShape] | None,
        names: Sequence[str] | None,
        queue_ref: Tensor,
    ) -> None:
        self._dtypes = [as_dtype(dtype) for dtype in dtypes]
        if shapes is not None:
            _check_length("shapes", shapes, self._dtypes)
        if names is not None:
            _check_length("names", names, self._dtypes)
        self._shapes = list(shapes) if shapes is not None else None
        self._names = list(names) if names else None
        self._queue_ref = queue_ref
        self._name = queue_ref.op.name

    @property
    def queue_ref(self) -> Tensor:
        return self._queue_ref

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtypes(self) -> list[DType]:
        return self._dtypes

    @property
    def shapes(self) -> list[TensorShape]:
        return component_shapes(tuple(self._shapes or ()), len(self._dtypes))

    @property
    def names(self) -> list[str] | None:
        return self._names

    # Putting in.

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """Put one element in: a tensor, a list of components, or a dict of them where they have names.

        When it runs, it waits for room.  It fails with CancelledError if the queue is closed.
        Raises TypeError for components that do not convert, ValueError for shapes that do not fit.
        """
        values = self._values(vals)
        with name_scope(name, f"{self._name}_enqueue", values) as scope:
            components = self._converted(values)
            for component, shape in zip(components, self.shapes, strict=True):
                component.shape.assert_is_compatible_with(shape)
            made: Operation = raw.QueueEnqueueV2(self._queue_ref, components, name=scope)
        return made

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """Put many elements in at once: the first dimension of the components goes along them.

        All go in together: more of them than the queue ever takes wait until it is empty.
        """
        values = self._values(vals)
        with name_scope(name, f"{self._name}_EnqueueMany", values) as scope:
            components = self._converted(values)
            batch = TensorShape([None])
            for component, shape in zip(components, self.shapes, strict=True):
                batch = batch.merge_with(component.shape.with_rank_at_least(1)[:1])
                component.shape[1:].assert_is_compatible_with(shape)
            made: Operation = raw.QueueEnqueueManyV2(self._queue_ref, components, name=scope)
        return made

    def _values(self, vals: Any) -> list[Any]:
        if isinstance(vals, Mapping):
            if not self._names:
                raise ValueError("Queue must have names to enqueue a dictionary")
            if sorted(self._names, key=str) != sorted(vals, key=str):
                raise ValueError(
                    f"Keys in dictionary to enqueue do not match names of Queue.  Dictionary: {sorted(vals)}, "
                    f"Queue: {sorted(self._names)}"
                )
            return [vals[key] for key in self._names]
        if self._names:
            raise ValueError("You must enqueue a dictionary in a Queue with names")
        values = _listed(vals)
        if len(values) != len(self._dtypes):
            raise ValueError(
                f"Queue '{self._name}' has {len(self._dtypes)} components, {len(values)} were given"
            )
        return values

    def _converted(self, values: Sequence[Any]) -> list[Tensor]:
        return [
            convert_to_tensor(value, dtype=dtype, name=f"component_{number}")
            for number, (value, dtype) in enumerate(zip(values, self._dtypes, strict=True))
        ]

    # Taking out.

    def dequeue(self, name: str | None = None) -> Any:
        """Take one element out: a Tensor, a list of them, or a dict where they have names.

        When it runs, it waits for an element.  It fails with OutOfRangeError if the queue is closed and empty.
        """
        made = raw.QueueDequeueV2(
            self._queue_ref, component_types=self._dtypes, name=name or f"{self._name}_Dequeue"
        )
        return self._results(made, [])

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """Take `n` elements out, stacked along a new first dimension.

        It fails with OutOfRangeError if the queue is closed with fewer in it.  The queue must have shapes.
        """
        made = raw.QueueDequeueManyV2(
            self._queue_ref, n, component_types=self._dtypes, name=name or f"{self._name}_DequeueMany"
        )
        known = constant_value(made[0].op.inputs[1])
        return self._results(made, [None if known is None else int(known)])

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """Take `n` elements out; as many as there are, but at least one, if the queue is closed."""
        made = raw.QueueDequeueUpToV2(
            self._queue_ref, n, component_types=self._dtypes, name=name or f"{self._name}_DequeueUpTo"
        )
        return self._results(made, [None])

    def _results(self, made: Any, first: list[int | None]) -> Any:
        tensors = list(made) if isinstance(made, list | tuple) else [made]
        for tensor, shape in zip(tensors, self.shapes, strict=True):
            tensor.set_shape(TensorShape(first).concatenate(shape))
        if self._names:
            return dict(zip(self._names, tensors, strict=True))
        return tensors if len(tensors) > 1 else tensors[0]

    # About it.

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """No more elements come: later enqueues fail, and dequeues too once what is there does not suffice.

        cancel_pending_enqueues: enqueues that wait for room fail as well, with CancelledError.
        """
        made: Operation = raw.QueueCloseV2(
            self._queue_ref,
            cancel_pending_enqueues=cancel_pending_enqueues,
            name=name or f"{self._name}_Close",
        )
        return made

    def is_closed(self, name: str | None = None) -> Tensor:
        """Whether it is closed, a bool scalar."""
        made: Tensor = raw.QueueIsClosedV2(self._queue_ref, name=name or f"{self._name}_Is_Closed")
        return made

    def size(self, name: str | None = None) -> Tensor:
        """How many elements it holds, an int32 scalar."""
        made: Tensor = raw.QueueSizeV2(self._queue_ref, name=name or f"{self._name}_Size")
        return made


def _is_one_shape(shapes: Sequence[Any]) -> bool:
    """Whether ``shapes=[2, 3]`` is meant for the only component; ``[]`` is a scalar, ``[[]]`` a list of one."""
    return not any(isinstance(each, list | tuple | TensorShape) for each in shapes)


class _Made(QueueBase):
    """A queue with an op of its own.  `first` are components that come before those that the user names."""

    def __init__(
        self,
        op: OpDef,
        capacity: int,
        dtypes: Any,
        shapes: Any,
        names: Any,
        shared_name: str | None,
        name: str,
        first: Sequence[tuple[DType, TensorShape]] = (),
        **attrs: Any,
    ) -> None:
        kinds = [as_dtype(dtype) for dtype in _listed(dtypes)]
        if shapes is None:
            sizes = None
        elif isinstance(shapes, list | tuple) and len(kinds) == 1 and _is_one_shape(shapes):
            sizes = [as_shape(shapes)]
        else:
            sizes = [as_shape(shape) for shape in _listed(shapes)]
        if sizes is not None:
            _check_length("shapes", sizes, kinds)  # before there is a node
        made = op(
            component_types=kinds,
            shapes=sizes or [],
            capacity=capacity,
            shared_name=shared_name or "",
            name=name,
            **attrs,
        )
        all_sizes = None if sizes is None else [*(shape for _, shape in first), *sizes]
        super().__init__(
            [*(dtype for dtype, _ in first), *kinds],
            all_sizes,
            None if names is None else _listed(names),
            made,
        )


class FIFOQueue(_Made):
    """First in, first out.

    capacity: how many elements it takes; -1: any number.  shapes: of the components; needed for `dequeue_many`.
    shared_name: under which sessions' graphs may share it.
    """

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "fifo_queue",
    ) -> None:
        super().__init__(raw.FIFOQueueV2, capacity, dtypes, shapes, names, shared_name, name)


class PaddingFIFOQueue(_Made):
    """First in, first out, of elements whose sizes may differ where `shapes` says None: batches are padded with zeros."""

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "padding_fifo_queue",
    ) -> None:
        super().__init__(raw.PaddingFIFOQueueV2, capacity, dtypes, shapes, names, shared_name, name)


class RandomShuffleQueue(_Made):
    """Elements come out in random order; `min_after_dequeue` of them stay behind while the queue is open."""

    def __init__(
        self,
        capacity: int,
        min_after_dequeue: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        seed: int | None = None,
        shared_name: str | None = None,
        name: str = "random_shuffle_queue",
    ) -> None:
        seed1, seed2 = get_seed(seed)
        super().__init__(
            raw.RandomShuffleQueueV2,
            capacity,
            dtypes,
            shapes,
            names,
            shared_name,
            name,
            min_after_dequeue=min_after_dequeue,
            seed=seed1 or 0,
            seed2=seed2 or 0,
        )


class PriorityQueue(_Made):
    """The element with the smallest priority comes out first; the priority, an int64 scalar, is its first component."""

    def __init__(
        self,
        capacity: int,
        types: Any,
        shapes: Any,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "priority_queue",
    ) -> None:
        priority = int64, TensorShape([])
        super().__init__(
            raw.PriorityQueueV2, capacity, types, shapes, names, shared_name, name, first=[priority]
        )
