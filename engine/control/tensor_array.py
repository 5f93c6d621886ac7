"""TensorArray: an array of tensors that loops write and read by index, as TensorFlow 1's `tf.TensorArray`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import colocate_with, control_dependencies, device, get_default_graph, name_scope
from engine.graph.tensor import Tensor
from engine.op.array import shape
from engine.op.cast import cast
from engine.op.ranges import range as range_op
from engine.op.registry import raw
from engine.op.shapes import constant_value
from engine.types.dtypes import DType, as_dtype, int32, int64
from engine.types.shape import TensorShape, as_shape

__all__ = ["TensorArray"]


class TensorArray:
    """A per-step array of `size` tensors of one dtype.

    Every write gives a new TensorArray whose `flow` orders what follows after it: ``ta = ta.write(i, x)``.  An element is written
    once, and let go when it is read unless `clear_after_read` is false.  dynamic_size: writing past the end grows it.
    infer_shape: all elements have one shape, known from `element_shape` or from the first write.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: bool | None = None,
        tensor_array_name: str | None = None,
        handle: Tensor | None = None,
        flow: Tensor | None = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: str | None = None,
    ) -> None:
        if handle is not None and tensor_array_name:
            raise ValueError("Cannot construct with both handle and tensor_array_name")
        if handle is None and size is None:
            raise ValueError("Size must be provided if handle is not provided")
        if handle is not None and (size is not None or dynamic_size is not None):
            raise ValueError("Cannot provide both a handle and size or dynamic_size at the same time")
        self._dtype = as_dtype(dtype).base_dtype
        self._dynamic_size = bool(dynamic_size)
        self._size = size
        self._infer_shape = infer_shape
        # One list shared by all TensorArrays of one handle: what the first write tells the others.
        self._element_shape: list[TensorShape] = [as_shape(element_shape)]
        self._first_write: list[Tensor] | None = [] if colocate_with_first_write_call else None
        with name_scope(name, "TensorArray", [handle, size, flow]) as scope:
            if handle is not None:
                self._handle = handle
                self._flow = flow if flow is not None else _ordering(handle)
                return
            with device(None) if colocate_with_first_write_call else contextlib.nullcontext():
                made = raw.TensorArrayV3(
                    size,
                    dtype=self._dtype,
                    element_shape=self._element_shape[0],
                    dynamic_size=self._dynamic_size,
                    clear_after_read=True if clear_after_read is None else clear_after_read,
                    identical_element_shapes=infer_shape,
                    tensor_array_name=tensor_array_name or "",
                    name=scope,
                )
            self._handle, self._flow = made[0], made[1]

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def handle(self) -> Tensor:
        return self._handle

    @property
    def flow(self) -> Tensor:
        """A float scalar: what depends on it happens after the writes so far."""
        return self._flow

    @property
    def dynamic_size(self) -> bool:
        return self._dynamic_size

    @property
    def element_shape(self) -> TensorShape:
        return self._element_shape[0]

    def _with_flow(self, flow: Tensor) -> TensorArray:
        """The same array after something more has happened to it."""
        get_default_graph().unique_name("TensorArray")  # as if it were made anew: TensorFlow's names count on
        other = TensorArray.__new__(TensorArray)
        other.__dict__.update(self.__dict__)
        other._flow = flow
        return other

    def _learn_shape(self, shape: TensorShape) -> None:
        """Every element has `shape`.  Raises ValueError if that contradicts the others."""
        if not self._infer_shape:
            return
        if not self._element_shape[0].is_compatible_with(shape):
            raise ValueError(f"Inconsistent shapes: saw {shape} but expected {self._element_shape[0]}")
        self._element_shape[0] = self._element_shape[0].merge_with(shape)

    @contextlib.contextmanager
    def _beside_first_write(self, value: Tensor) -> Iterator[None]:
        if self._first_write is None:
            yield
            return
        if not self._first_write:
            self._first_write.append(value)
        with colocate_with(self._first_write[0]):
            yield

    def identity(self) -> TensorArray:
        """The same array, whose use waits for this point of the program."""
        return self._with_flow(raw.Identity(self._flow))

    def grad(self, source: str, flow: Tensor | None = None, name: str | None = None) -> TensorArray:
        """The array that collects the gradients of this one's elements for the call of gradients() named `source`."""
        flow = self._flow if flow is None else flow
        with name_scope(name, "TensorArrayGrad", [self._handle]), colocate_with(self._handle):
            made = raw.TensorArrayGradV3(self._handle, flow, source=source)
            with control_dependencies([made[0]]):
                ordered = raw.Identity(flow, name="gradient_flow")
        return TensorArray(
            self._dtype,
            handle=made[0],
            flow=ordered,
            infer_shape=self._infer_shape,
            element_shape=self._element_shape[0],
            colocate_with_first_write_call=False,
        )

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """The element at `index`."""
        value: Tensor = raw.TensorArrayReadV3(self._handle, index, self._flow, dtype=self._dtype, name=name)
        if self._element_shape[0].ndims is not None:
            value.set_shape(self._element_shape[0])
        return value

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with `value` at `index`."""
        with name_scope(name, "TensorArrayWrite", [self._handle, index, value]):
            tensor = convert_to_tensor(value, self._dtype, name="value")
            self._learn_shape(tensor.shape)
            with self._beside_first_write(tensor):
                return self._with_flow(raw.TensorArrayWriteV3(self._handle, index, tensor, self._flow))

    def stack(self, name: str | None = None) -> Tensor:
        """All elements as one tensor of shape [size, …]."""
        with colocate_with(self._handle), name_scope(name, "TensorArrayStack", [self._handle]):
            value = self.gather(range_op(0, self.size()))
        if self._size is not None and not self._dynamic_size and self._element_shape[0].ndims is not None:
            size = (
                constant_value(convert_to_tensor(self._size))
                if isinstance(self._size, Tensor)
                else self._size
            )
            known = None if size is None else int(size)
            value.set_shape(TensorShape.of((known,)).concatenate(self._element_shape[0]))
        return value

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements at `indices` as one tensor."""
        value: Tensor = raw.TensorArrayGatherV3(
            self._handle,
            indices,
            self._flow,
            dtype=self._dtype,
            element_shape=self._element_shape[0],
            name=name,
        )
        return value

    def concat(self, name: str | None = None) -> Tensor:
        """The elements, one after the other along their first axis."""
        shape = self._element_shape[0]
        rest = TensorShape(None) if shape.ndims is None else as_shape(shape.as_list()[1:])
        value: Tensor = raw.TensorArrayConcatV3(
            self._handle, self._flow, dtype=self._dtype, element_shape_except0=rest, name=name
        )[0]
        if rest.ndims is not None:
            value.set_shape(TensorShape.of((None,)).concatenate(rest))
        return value

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array with the rows of `value` as its elements."""
        with name_scope(name, "TensorArrayUnstack", [self._handle, value]):
            return self.scatter(range_op(0, shape(value)[0]), value)

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with row i of `value` at ``indices[i]``."""
        with name_scope(name, "TensorArrayScatter", [self._handle, value, indices]):
            rows = convert_to_tensor(value, self._dtype, name="value")
            if rows.shape.ndims is not None:
                self._learn_shape(as_shape(rows.shape.as_list()[1:]))
            with self._beside_first_write(rows):
                return self._with_flow(raw.TensorArrayScatterV3(self._handle, indices, rows, self._flow))

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array with consecutive pieces of `value`, ``lengths[i]`` rows in element i."""
        with name_scope(name, "TensorArraySplit", [self._handle, value, lengths]):
            rows = convert_to_tensor(value, self._dtype, name="value")
            pieces = cast(lengths, int64)
            if self._infer_shape and rows.shape.ndims is not None:
                fixed = constant_value(pieces)
                same = fixed is not None and fixed.size > 0 and bool((fixed == fixed[0]).all())
                first = int(fixed[0]) if same else None
                self._learn_shape(as_shape([first, *rows.shape.as_list()[1:]]))
            with self._beside_first_write(rows):
                return self._with_flow(raw.TensorArraySplitV3(self._handle, rows, pieces, self._flow))

    def size(self, name: str | None = None) -> Tensor:
        """The number of elements."""
        if not self._dynamic_size and self._size is not None:
            return convert_to_tensor(self._size, int32)
        size: Tensor = raw.TensorArraySizeV3(self._handle, self._flow, name=name)
        return size

    def close(self, name: str | None = None) -> Any:
        """An operation that lets go of all elements."""
        return raw.TensorArrayCloseV3(self._handle, name=name)


def _ordering(handle: Tensor) -> Tensor:
    with control_dependencies([handle]):
        return convert_to_tensor(0.0, name="flow")
