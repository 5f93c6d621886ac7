"""TensorArrays: arrays of tensors written and read by index inside loops, for one step.

Every op takes the handle and a `flow`, a float scalar of no meaning that orders reads after writes; every write gives a new flow.
An element is written once; by default it is let go when it is read.  The array of a gradient (`TensorArrayGradV3`) adds
up what is written to one index, and an element never written reads as zeros.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from engine.op.registry import ANY, HOST, NotDifferentiable, op, raw
from engine.op.samples import untested
from engine.op.shapes import SCALAR, UNKNOWN
from engine.types import errors
from engine.types.shape import TensorShape

__all__: list[str] = []

_BY_HAND = untested("tests/control/test_tensor_array.py")
_FLOW = np.float32(0)


def _invalid(message: str) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(None, None, message)


def _make(k: Any, size: Any) -> Any:
    a = k.attrs
    count = int(size)
    if count < 0:
        raise _invalid(f"Size should be >= 0, got {count}")
    name = f"{a['tensor_array_name'] or k.op.name}/{k.frame}/{k.iteration}"
    handle = k.resources.tensor_array(
        k.step.container,
        name,
        a["dtype"],
        count,
        a["element_shape"],
        dynamic_size=a["dynamic_size"],
        clear_after_read=a["clear_after_read"],
        identical_element_shapes=a["identical_element_shapes"],
    )
    return handle, _FLOW


op(
    "TensorArrayV3(size: int32; dtype: type, element_shape: shape = unknown, dynamic_size: bool = False, "
    "clear_after_read: bool = True, identical_element_shapes: bool = False, tensor_array_name: string = '') "
    "-> handle: resource, flow: float32",
    kernel=_make,
    shape=lambda node: [TensorShape.of((2,)), SCALAR],
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"size": HOST, "flow": HOST},
)


def _write_element(k: Any, handle: Any, index: int, value: Any) -> None:
    """Write one element.  Raises InvalidArgumentError, naming the index, if it may not be."""
    with handle.lock:
        if index < 0 or (index >= handle.size and not handle.options.dynamic_size):
            raise _invalid(
                f"TensorArray {handle.name}: Tried to write to index {index} but array is not resizeable and size is: "
                f"{handle.size}"
            )
        if value.dtype != handle.dtype.np_dtype:
            raise _invalid(
                f"TensorArray {handle.name}: Could not write to TensorArray index {index} because the value dtype is "
                f"{value.dtype} "
                f"but TensorArray dtype is {handle.dtype.name}."
            )
        if not handle.element_shape.is_compatible_with(value.shape):
            raise _invalid(
                f"TensorArray {handle.name}: Could not write to TensorArray index {index} because the value shape is "
                f"{list(value.shape)} which is incompatible with the TensorArray's inferred element shape: "
                f"{handle.element_shape} "
                "(consider setting infer_shape=False)."
            )
        if index in handle.value:
            old = handle.value[index]
            if old is None:
                raise _invalid(
                    f"TensorArray {handle.name}: Could not write to TensorArray index {index} because it has already been read."
                )
            if not handle.options.sums:
                raise _invalid(
                    f"TensorArray {handle.name}: Could not write to TensorArray index {index} because it has already been "
                    "written to."
                )
            if old.shape != value.shape:
                raise _invalid(
                    f"TensorArray {handle.name}: Could not aggregate to TensorArray index {index} because the existing shape is "
                    f"{list(old.shape)} but the new input shape is {list(value.shape)}."
                )
            value = old + value
        if (
            handle.options.identical_element_shapes
            and not handle.value
            and handle.element_shape.ndims is None
        ):
            handle.element_shape = TensorShape.of(value.shape)
        handle.shapes[index] = value.shape
        k.write_item(handle, index, value)


def _shape_of_unwritten(handle: Any, index: int) -> TensorShape:
    """The shape of the zeros that an element stands for until it is written, as far as it is known."""
    if index in handle.shapes:
        return TensorShape.of(handle.shapes[index])
    if handle.options.identical_element_shapes and handle.value:
        return TensorShape.of(handle.shapes[next(iter(handle.value))])
    shape: TensorShape = handle.element_shape
    return shape


def _read_element(k: Any, handle: Any, index: int) -> Any:
    """Read one element.  Raises InvalidArgumentError, naming the index, if there is none."""
    with handle.lock:
        if not 0 <= index < handle.size:
            raise _invalid(
                f"TensorArray {handle.name}: Tried to read from index {index} but array size is: {handle.size}"
            )
        if index not in handle.value:
            shape = _shape_of_unwritten(handle, index)
            if not shape.is_fully_defined():
                raise _invalid(
                    f"TensorArray {handle.name}: Could not read from TensorArray index {index} because it has not been written "
                    f"to, and its element shape is not fully defined: {shape}."
                )
            return k.xp.zeros(tuple(shape.as_list()), handle.dtype.np_dtype)
        value = handle.value[index]
        if value is None:
            raise _invalid(
                f"TensorArray {handle.name}: Could not read index {index} twice because it was cleared after a previous read "
                "(perhaps try setting clear_after_read = false?)."
            )
        if handle.options.clear_after_read:
            k.write_item(handle, index, None, kind="clear")
        return value


def _write(k: Any, handle: Any, index: Any, value: Any, flow: Any) -> Any:
    _write_element(k, handle, int(index), value)
    return flow


def _grad_handle(op: Any, flow: Any) -> tuple[Any, Any]:
    """The gradient array of the array that `op` (in the forward graph) takes as its first input, and a flow after it."""
    handle = op.inputs[0]
    from engine.graph.default import get_default_graph, name_scope

    graph = get_default_graph()
    source = _source_of(op, graph.get_name_scope())
    scope = _iteration_of_call(handle, source)
    with name_scope(None, "TensorArrayGrad", [handle]), graph.colocate_with(handle.op):
        if scope is None:
            made = raw.TensorArrayGradV3(handle, flow, source=source)
        else:
            made = raw._TensorArrayGradIn(handle, flow, scope, source=source, name="TensorArrayGradIn")
        with graph.control_dependencies([made[0]]):
            ordered = raw.Identity(flow, name="gradient_flow")
    return made[0], ordered


def _source_of(op: Any, scope: str) -> str:
    """The name of the call of `gradients` that goes through `op`: arrays of different calls are kept apart.

    Its gradient is built in the scope "<call>/<op>_grad".  The names of the tensors that arrive do not say it: in the gradient
    of a gradient, the name of the first call is also in them.
    """
    call, found, _ = scope.rpartition(f"/{op.name}_grad")
    if not found:
        raise ValueError(f"The gradient of '{op.name}' is not inside a call of gradients()")
    return call


_scopes: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def _iteration_of_call(handle: Any, source: str) -> Any:
    """Where `gradients` was called in a loop, of an array outside of it: a handle of which each iteration has its own.

    Each iteration has gradients of its own.  None where there is no such loop.
    """
    from engine.graph.default import get_default_graph

    graph = get_default_graph()
    loop = _loop_around(graph._get_control_flow_context())
    while loop is not None and loop.is_backward:
        loop = _loop_around(loop.outer)
    maker = handle.op
    while maker.type in ("Enter", "Switch", "Identity", "TensorArrayGradV3"):
        maker = maker._inputs[0].op
    home = _loop_around(maker._context)
    if loop is None or (maker.type == "TensorArrayV3" and home is not None and home.is_inside(loop)):
        return None
    made = _scopes.setdefault(loop, {})
    if source not in made:
        with graph.control_dependencies(None), loop.entered():
            made[source] = raw.StackV2(0, elem_type="float32", name="gradients_of_iteration")
    return made[source]


def _loop_around(context: Any) -> Any:
    return None if context is None else context.while_context()


def _after_forward(flow_out: Any, grad: Any) -> Any:
    """`grad`, available only after the forward op has run: the gradient array takes its size from the array then."""
    from engine.graph.default import get_default_graph

    ran = raw.Identity(flow_out, name="flow_out")
    with get_default_graph().control_dependencies([ran]):
        return raw.Identity(grad, name="write_barrier")


def _write_grad(op: Any, flow: Any) -> Any:
    flow = _after_forward(op.outputs[0], flow)
    handle, ordered = _grad_handle(op, flow)
    read = raw.TensorArrayReadV3(handle, op.inputs[1], ordered, dtype=op.attrs["T"])
    read.set_shape(op.inputs[2].shape)
    return None, None, read, flow


op(
    "TensorArrayWriteV3(handle: resource, index: int32, value: T, flow_in: float32; T: type) -> flow_out: float32",
    kernel=_write,
    shape=lambda node: SCALAR,
    grad=_write_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"index": HOST, "flow_in": ANY, "flow_out": ANY},
)


def _read(k: Any, handle: Any, index: Any, flow: Any) -> Any:
    return _read_element(k, handle, int(index))


def _read_grad(op: Any, grad: Any) -> Any:
    handle, ordered = _grad_handle(op, op.inputs[2])
    flow = raw.TensorArrayWriteV3(
        handle, op.inputs[1], grad, ordered, name="TensorArrayWrite/TensorArrayWriteV3"
    )
    return None, None, flow


op(
    "TensorArrayReadV3(handle: resource, index: int32, flow_in: float32; dtype: type) -> value: dtype",
    kernel=_read,
    shape=lambda node: UNKNOWN,
    grad=_read_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"index": HOST, "flow_in": ANY},
)


def _gather(k: Any, handle: Any, indices: Any, flow: Any) -> Any:
    found = [_read_element(k, handle, int(index)) for index in indices]
    if not found:
        shape = k.attrs["element_shape"].merge_with(handle.element_shape)
        if not shape.is_fully_defined():
            raise _invalid(
                f"TensorArray has size zero, but element shape {shape} is not fully defined. Currently only static shapes are "
                "supported when packing zero-size TensorArrays."
            )
        return k.xp.zeros((0, *shape.as_list()), handle.dtype.np_dtype)
    first = found[0].shape
    for i, element in enumerate(found):
        if element.shape != first:
            raise _invalid(
                f"TensorArray has inconsistent shapes. Index 0 has shape: {list(first)} but index {i} has shape: "
                f"{list(element.shape)}"
            )
    return k.xp.stack(found)


def _gather_grad(op: Any, grad: Any) -> Any:
    handle, ordered = _grad_handle(op, op.inputs[2])
    flow = raw.TensorArrayScatterV3(
        handle, op.inputs[1], grad, ordered, name="TensorArrayScatter/TensorArrayScatterV3"
    )
    return None, None, flow


op(
    "TensorArrayGatherV3(handle: resource, indices: int32, flow_in: float32; dtype: type, element_shape: shape = unknown) "
    "-> value: dtype",
    kernel=_gather,
    shape=lambda node: (
        TensorShape.of((node._inputs[1]._shape.num_elements(),)).concatenate(node.attrs["element_shape"])
        if node.attrs["element_shape"].ndims is not None
        else UNKNOWN
    ),
    grad=_gather_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"indices": HOST, "flow_in": ANY},
)


def _scatter(k: Any, handle: Any, indices: Any, value: Any, flow: Any) -> Any:
    if len(indices) != len(value):
        raise _invalid(f"Expected len(indices) == values.shape[0], but saw: {len(indices)} vs. {len(value)}")
    for i, index in enumerate(indices):
        _write_element(k, handle, int(index), value[i, ...])
    return flow


def _scatter_grad(op: Any, flow: Any) -> Any:
    flow = _after_forward(op.outputs[0], flow)
    handle, ordered = _grad_handle(op, flow)
    gathered = raw.TensorArrayGatherV3(handle, op.inputs[1], ordered, dtype=op.attrs["T"])
    return None, None, gathered, flow


op(
    "TensorArrayScatterV3(handle: resource, indices: int32, value: T, flow_in: float32; T: type) -> flow_out: float32",
    kernel=_scatter,
    shape=lambda node: SCALAR,
    grad=_scatter_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"indices": HOST, "flow_in": ANY, "flow_out": ANY},
)


def _concat(k: Any, handle: Any, flow: Any) -> Any:
    found = [_read_element(k, handle, index) for index in range(handle.size)]
    if not found:
        shape = k.attrs["element_shape_except0"]
        if not shape.is_fully_defined():
            raise _invalid(
                "TensorArray has size zero, and its elements' shape is not known: nothing to concatenate"
            )
        return k.xp.zeros((0, *shape.as_list()), handle.dtype.np_dtype), np.zeros(0, np.int64)
    for i, element in enumerate(found):
        if element.ndim == 0:
            raise _invalid(f"Concat saw a scalar shape at index {i} but requires at least vectors.")
        if element.shape[1:] != found[0].shape[1:]:
            raise _invalid(
                "TensorArray has inconsistent shapes. Index 0 has (excepting dimension 0) shape: "
                f"{list(found[0].shape[1:])} but index "
                f"{i} has (excepting dimension 0) shape: {list(element.shape[1:])}"
            )
    return k.xp.concatenate(found), np.array([len(element) for element in found], np.int64)


def _concat_grad(op: Any, grad: Any, _: Any) -> Any:
    handle, ordered = _grad_handle(op, op.inputs[1])
    flow = raw.TensorArraySplitV3(
        handle, grad, op.outputs[1], ordered, name="TensorArraySplit/TensorArraySplitV3"
    )
    return None, flow


op(
    "TensorArrayConcatV3(handle: resource, flow_in: float32; dtype: type, element_shape_except0: shape = unknown) "
    "-> value: dtype, lengths: int64",
    kernel=_concat,
    shape=lambda node: [UNKNOWN, TensorShape.of((None,))],
    grad=_concat_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"flow_in": ANY, "lengths": HOST},
)


def _split(k: Any, handle: Any, value: Any, lengths: Any, flow: Any) -> Any:
    if value.ndim == 0:
        raise _invalid("Expected value to be at least a vector, but received shape: []")
    if int(lengths.sum()) != len(value):
        raise _invalid(
            "Expected sum of lengths to be equal to values.shape[0], but sum of lengths is "
            f"{int(lengths.sum())} and value's shape "
            f"is: {list(value.shape)}"
        )
    if len(lengths) != handle.size and not handle.options.dynamic_size:
        raise _invalid(
            f"TensorArray's size is not equal to the size of lengths ({handle.size} vs. {len(lengths)}), and the "
            "TensorArray is not "
            "marked as dynamically resizeable"
        )
    start = 0
    for index, length in enumerate(lengths.tolist()):
        _write_element(k, handle, index, value[start : start + length])
        start += length
    return flow


def _split_grad(op: Any, flow: Any) -> Any:
    flow = _after_forward(op.outputs[0], flow)
    handle, ordered = _grad_handle(op, flow)
    value = raw.TensorArrayConcatV3(handle, ordered, dtype=op.attrs["T"])[0]
    value.set_shape(op.inputs[1].shape)
    return None, value, None, flow


op(
    "TensorArraySplitV3(handle: resource, value: T, lengths: int64, flow_in: float32; T: type) -> flow_out: float32",
    kernel=_split,
    shape=lambda node: SCALAR,
    grad=_split_grad,
    samples=_BY_HAND,
    stateful=True,
    memory={"lengths": HOST, "flow_in": ANY, "flow_out": ANY},
)

op(
    "TensorArraySizeV3(handle: resource, flow_in: float32) -> size: int32",
    kernel=lambda k, handle, flow: np.int32(handle.size),
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"flow_in": ANY, "size": HOST},
)


def _gradient_array(k: Any, handle: Any, flow: Any, scope: Any = None) -> Any:
    with handle.lock:
        made = k.resources.tensor_array(
            k.step.container,
            f"{handle.name}@{k.attrs['source']}" + ("" if scope is None else f"@{scope.name}"),
            handle.dtype,
            handle.size,
            handle.element_shape,
            clear_after_read=False,
            identical_element_shapes=handle.options.identical_element_shapes,
            sums=True,
        )
        made.shapes.update(handle.shapes)
    return made, flow


op(
    "TensorArrayGradV3(handle: resource, flow_in: float32; source: string) -> grad_handle: resource, flow_out: float32",
    kernel=_gradient_array,
    shape=lambda node: [TensorShape.of((2,)), SCALAR],
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"flow_in": ANY, "flow_out": ANY},
)

# The engine's own: one gradient array for each `scope`, a handle that each iteration of a loop makes anew.
op(
    "_TensorArrayGradIn(handle: resource, flow_in: float32, scope: resource; source: string) "
    "-> grad_handle: resource, flow_out: float32",
    kernel=_gradient_array,
    shape=lambda node: [TensorShape.of((2,)), SCALAR],
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)


def _close(k: Any, handle: Any) -> tuple[()]:
    with handle.lock:
        k.write(handle, {}, kind="close")
    return ()


op(
    "TensorArrayCloseV3(handle: resource) -> ",
    kernel=_close,
    shape=lambda node: [],
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)
