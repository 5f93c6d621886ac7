"""Stacks and TensorArrays inside of a segment, with the bits and the errors of their ops.

A stack or a TensorArray that is made and used within one segment needs no resource: it is a stack of the tape, or a buffer with a
state for each element.  To the lowering its handle is one of the objects here.  What would be an error (an index out of range, a
second write, an empty stack) fails the run, so that the ops themselves say what is wrong.

A handler gets what is known of the operands: a `View`, a constant array, or such a handle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.native.layout import View
from engine.runtime.plan.recording import NotRecordable, Recorder, Step
from engine.runtime.plan.rule_table import constant, view

if TYPE_CHECKING:
    from engine.passes.stage import StageNode

_FLOW = np.float32(0)
_GRADIENTS = 3  # arrays of gradients that one TensorArray may have
_BYTE = np.zeros((), np.uint8)
_MOST_ELEMENTS = 1 << 20


class Handle:
    """What a handle is while a segment is recorded; `root` is the one that was made first, of which it may be the gradient."""

    @property
    def root(self) -> Handle:
        return self


Handler = Callable[[Recorder, "StageNode", "Sequence[Any]"], "list[Any]"]
HANDLERS: dict[str, Handler] = {}

MAKERS = frozenset({"StackV2", "TensorArrayV3", "Unique"})
"""Ops that make a handle; one that leaves its segment is made before it, by the op itself."""


def handler(*types: str) -> Callable[[Handler], Handler]:
    """Decorator: what these op types become."""

    def register(function: Handler) -> Handler:
        for each in types:
            HANDLERS[each] = function
        return function

    return register


def _handle(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise NotRecordable("a stack or TensorArray that was made outside of the segment")
    return value


def _index(recorder: Recorder, value: Any, rank: int = 0) -> View:
    found = view(recorder, value)
    if found.dtype != np.int32 or len(found.shape) != rank:
        raise NotRecordable("indices of another kind")
    return found


def shaped(operand: View, shape: Sequence[int]) -> View:
    """The same elements, which are in C order, in another shape."""
    return View.of(operand.slot, operand.dtype, shape, operand.offset)


def _parameters(recorder: Recorder, *numbers: int) -> View:
    return recorder.constant(np.array(numbers, np.int64))


# Stacks.


@dataclass(slots=True, eq=False)
class NativeStack(Handle):
    """`number` is the tape's stack.  Of elements that are all one constant, only how many there are is kept: `same`."""

    number: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None = None
    same: Any = None


@handler("StackV2")
def _stack(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    limit = constant(inputs[0])
    if limit is None or int(limit) >= 0:
        raise NotRecordable("a stack of limited size")
    made = NativeStack(recorder.stack(0), node.attrs["elem_type"].base_dtype.np_dtype)
    recorder.reset(made.number)
    return [made]


@handler("StackPushV2")
def _push(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    stack, element = _handle(inputs[0], NativeStack), inputs[1]
    if isinstance(element, Handle) or element.dtype != stack.dtype or not element.size:
        raise NotRecordable("a stack of handles, of nothing, or of another dtype")
    first = stack.shape is None
    if not first and stack.shape != element.shape:
        raise NotRecordable("a stack of elements of several shapes")
    value = constant(element)
    if first:
        stack.shape, stack.same = element.shape, value
        recorder.stacks[stack.number] = 1 if value is not None else element.nbytes
    elif (value is None) != (stack.same is None) or (
        value is not None and np.asarray(value).tobytes() != np.asarray(stack.same).tobytes()
    ):
        raise NotRecordable("a stack of constants and what is none")
    recorder.push(stack.number, element if value is None else recorder.constant(_BYTE))
    return [element]


@handler("StackPopV2")
def _pop(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    stack = _handle(inputs[0], NativeStack)
    if stack.shape is None or node.attrs["elem_type"].base_dtype.np_dtype != stack.dtype:
        raise NotRecordable("a stack that is taken from before something is put on it")
    if stack.same is not None:
        recorder.pop(stack.number, recorder.new(_BYTE.dtype, ()))
        return [stack.same]
    made = recorder.new(stack.dtype, stack.shape)
    recorder.pop(stack.number, made)
    return [made]


@handler("StackCloseV2")
def _close_stack(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    recorder.reset(_handle(inputs[0], NativeStack).number)
    return []


# TensorArrays.


@dataclass(slots=True, eq=False)
class NativeArray(Handle):
    """A TensorArray of `size` elements: `states` says of each whether it is written.

    shape: of the elements, once it is known; buffer: they.  is_shaped: whether the op that made it says their shape.  born: the
    step from which on it lives.  origin: of the array of a gradient, the other one.
    """

    size: int
    dtype: np.dtype[Any]
    states: View
    born: Step
    clears: bool
    sums: bool
    is_shaped: bool
    static: Any
    shape: tuple[int, ...] | None = None
    buffer: View | None = None
    origin: NativeArray | None = None
    gradients: dict[str, NativeArray] = field(default_factory=dict)

    def known(self, recorder: Recorder, shape: tuple[int, ...] | None = None) -> View:
        """The buffer, for elements of that shape.  Raises NotRecordable for another one than before, or if there is none yet."""
        wanted = self.shape if shape is None else shape
        if wanted is None and self.origin is not None:
            wanted = self.origin.shape
        if wanted is None:
            raise NotRecordable("a TensorArray that is read before it is written")
        if self.buffer is None:
            if not self.static.is_compatible_with(wanted):
                raise NotRecordable("an element of another shape than the TensorArray's")
            self.shape = wanted
            self.buffer = recorder.new(self.dtype, (self.size, *wanted))
            self.born.writes = (*self.born.writes, self.buffer)
        elif wanted != self.shape:
            raise NotRecordable("a TensorArray of elements of several shapes")
        return self.buffer

    @property
    def root(self) -> Handle:
        return self if self.origin is None else self.origin.root

    @property
    def element(self) -> tuple[int, int]:
        """Bytes and numbers of an element."""
        count = math.prod(self.shape or ())
        return count * self.dtype.itemsize, count


@handler("TensorArrayV3")
def _make(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    attrs, size = node.attrs, constant(inputs[0])
    if size is None or attrs["dynamic_size"] or not 0 < int(size) <= _MOST_ELEMENTS:
        raise NotRecordable("a TensorArray whose size is not known, or nothing")
    count = int(size)
    states = recorder.new(np.dtype(np.uint8), (1 + _GRADIENTS, count))
    recorder.fill(states, 0)
    shape = attrs["element_shape"]
    made = NativeArray(
        size=count,
        dtype=attrs["dtype"].base_dtype.np_dtype,
        states=shaped(states.at(0, 0, 1), (count,)),
        born=recorder.begin(),
        clears=attrs["clear_after_read"],
        sums=False,
        is_shaped=shape.is_fully_defined(),
        static=shape,
    )
    made.born.writes = (states,)
    if made.is_shaped:
        made.shape = tuple(shape.as_list())
    return [made, _FLOW]


def _put(recorder: Recorder, array: NativeArray, indices: View, values: Any) -> None:
    """Write elements, the first dimension of `values`."""
    from engine.native.indexing import write_elements

    source = view(recorder, values)
    if source.dtype != array.dtype or not source.size:
        raise NotRecordable("elements of another dtype, or of nothing")
    buffer = array.known(recorder, source.shape[1:])
    kernel = write_elements(array.dtype, array.sums)
    if kernel is None:
        raise NotRecordable(f"elements of {array.dtype} are not added up natively")
    parameters = _parameters(recorder, indices.size, array.size, *array.element)
    failed = recorder.new(np.dtype(np.bool_), ())
    recorder.call(kernel, [indices, source, parameters, buffer, array.states], [buffer, array.states, failed])
    recorder.fail_if(failed)


def _take(recorder: Recorder, array: NativeArray, indices: View, shape: Sequence[int]) -> View:
    """Read elements into an array of `shape` and the elements' own."""
    from engine.native.indexing import read_elements

    buffer = array.known(recorder)
    kernel = read_elements()
    assert kernel is not None
    size, _ = array.element
    parameters = _parameters(
        recorder, indices.size, array.size, size, int(array.clears), int(array.is_shaped)
    )
    assert array.shape is not None
    made = recorder.new(array.dtype, (*shape, *array.shape))
    failed = recorder.new(np.dtype(np.bool_), ())
    others = array.states if array.origin is None else array.origin.states
    recorder.call(kernel, [indices, parameters, buffer, array.states, others], [made, array.states, failed])
    recorder.fail_if(failed)
    return made


@handler("TensorArrayWriteV3")
def _write(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array, index, value, flow = _handle(inputs[0], NativeArray), *inputs[1:]
    source = view(recorder, value)
    _put(recorder, array, _index(recorder, index), shaped(source, (1, *source.shape)))
    return [flow]


@handler("TensorArrayReadV3")
def _read(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array = _handle(inputs[0], NativeArray)
    return [_take(recorder, array, _index(recorder, inputs[1]), ())]


@handler("TensorArrayGatherV3")
def _gather(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array, indices = _handle(inputs[0], NativeArray), _index(recorder, inputs[1], 1)
    if not indices.size:
        raise NotRecordable("no elements of a TensorArray")
    return [_take(recorder, array, indices, indices.shape)]


@handler("TensorArrayScatterV3")
def _scatter(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array, indices = _handle(inputs[0], NativeArray), _index(recorder, inputs[1], 1)
    if inputs[2].shape[:1] != indices.shape:
        raise NotRecordable("more or fewer elements than indices")
    _put(recorder, array, indices, inputs[2])
    return [inputs[3]]


def _all(recorder: Recorder, array: NativeArray) -> View:
    return recorder.constant(np.arange(array.size, dtype=np.int32))


@handler("TensorArrayConcatV3")
def _concat(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array = _handle(inputs[0], NativeArray)
    array.known(recorder)
    if not array.shape:
        raise NotRecordable("a concatenation of scalars")
    made = _take(recorder, array, _all(recorder, array), (array.size,))
    length, *rest = array.shape
    return [shaped(made, (array.size * length, *rest)), np.full(array.size, length, np.int64)]


@handler("TensorArraySplitV3")
def _split(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    array, value, lengths = _handle(inputs[0], NativeArray), inputs[1], constant(inputs[2])
    if lengths is None or lengths.shape != (array.size,) or (lengths != lengths[0]).any() or not value.shape:
        raise NotRecordable("a split into parts whose lengths are not known, or differ")
    if int(lengths.sum()) != value.shape[0]:
        raise NotRecordable("a split that does not fit")
    source = view(recorder, value)
    parts = shaped(source, (array.size, int(lengths[0]), *source.shape[1:]))
    _put(recorder, array, _all(recorder, array), parts)
    return [inputs[3]]


@handler("TensorArraySizeV3")
def _size(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    return [np.int32(_handle(inputs[0], NativeArray).size)]


@handler("TensorArrayGradV3")
def _gradient(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    """The array of a gradient is there from when the other one was made; who asks first, and when, is the same to all."""
    array, source = _handle(inputs[0], NativeArray), node.attrs["source"]
    found = array.gradients.get(source)
    if found is None:
        if array.origin is not None or len(array.gradients) == _GRADIENTS:
            raise NotRecordable("a gradient of a gradient, or too many of one TensorArray")
        number = 1 + len(array.gradients)
        whole = array.born.writes[0]
        found = array.gradients[source] = NativeArray(
            size=array.size,
            dtype=array.dtype,
            states=shaped(whole.at(0, number, 1), (array.size,)),
            born=array.born,
            clears=False,
            sums=True,
            is_shaped=array.is_shaped,
            static=array.static,
            shape=array.shape,
            origin=array,
        )
    return [found, inputs[1]]


@handler("TensorArrayCloseV3")
def _close_array(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    recorder.fill(_handle(inputs[0], NativeArray).states, 0)
    return []
