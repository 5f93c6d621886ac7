"""The primitives of control flow, as in TensorFlow 1: Switch, Merge, Enter, Exit, NextIteration, LoopCond, and NoOp, Identity.

What they do to tokens, frames and deadness is the executor's (`engine.runtime.state`); the kernels here only pass values on.
The paper is Yu et al., "Dynamic Control Flow in Large-Scale Machine Learning" (EuroSys 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.operation import Operation
from engine.op.registry import ANY, HOST, NotDifferentiable, op
from engine.op.samples import untested
from engine.op.shapes import SCALAR, UNKNOWN, no_outputs, unchanged
from engine.types import errors
from engine.types.shape import TensorShape

__all__: list[str] = []

_BY_HAND = untested("tests/runtime")


def _pass(k: Any, value: Any) -> Any:
    return value


def _switch_kernel(k: Any, data: Any, pred: Any) -> Any:
    if getattr(pred, "ndim", 0) != 0:
        raise errors.InvalidArgumentError(
            None, None, f"The predicate of a Switch must be a scalar, not of shape {pred.shape}"
        )
    return (None, data) if pred else (data, None)


def _switch_shape(node: Operation) -> list[TensorShape]:
    pred = node._inputs[1]._shape
    if pred.ndims not in (None, 0):
        raise ValueError(f"The predicate must be a scalar, not of shape {pred}")
    return [node._inputs[0]._shape] * 2


def _merge_shape(node: Operation) -> list[TensorShape]:
    """What all inputs agree on; a back edge that is not there yet says nothing and takes nothing away."""
    first = node._inputs[0]._shape
    dims = first._dims
    for tensor in node._inputs[1:]:
        other = tensor._shape._dims
        if dims is None or other is None or len(dims) != len(other):
            return [UNKNOWN, SCALAR]
        dims = tuple(a if a == b else None for a, b in zip(dims, other, strict=True))
    return [TensorShape.of(dims), SCALAR]


def _merge_kernel(k: Any, *inputs: Any) -> Any:
    """`inputs` holds the live input and None elsewhere."""
    for i, value in enumerate(inputs):
        if value is not None:
            return value, np.asarray(i, dtype="int32")
    raise errors.InternalError(None, None, "A Merge ran without a live input")


no_op = op("NoOp() -> ", kernel=lambda k: (), shape=no_outputs, grad=NotDifferentiable, samples=_BY_HAND)

control_trigger = op(
    "ControlTrigger() -> ",
    kernel=lambda k: (),
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    flow="control_trigger",
)

switch = op(
    "Switch(data: T, pred: bool; T: type) -> output_false: T, output_true: T",
    kernel=_switch_kernel,
    shape=_switch_shape,
    samples=_BY_HAND,
    flow="switch",
    memory={"data": ANY, "pred": HOST, "output_false": ANY, "output_true": ANY},
)
ref_switch = op(
    "RefSwitch(data: Ref(T), pred: bool; T: type) -> output_false: Ref(T), output_true: Ref(T)",
    kernel=_switch_kernel,
    shape=_switch_shape,
    samples=_BY_HAND,
    flow="switch",
    allows_uninitialized=True,
    memory={"pred": HOST},
)
merge = op(
    "Merge(inputs: N * T; T: type, N: int >= 1) -> output: T, value_index: int32",
    kernel=_merge_kernel,
    shape=_merge_shape,
    samples=_BY_HAND,
    flow="merge",
    memory={"inputs": ANY, "output": ANY, "value_index": HOST},
)
ref_merge = op(
    "RefMerge(inputs: N * Ref(T); T: type, N: int >= 1) -> output: Ref(T), value_index: int32",
    kernel=_merge_kernel,
    shape=_merge_shape,
    samples=_BY_HAND,
    flow="merge",
    allows_uninitialized=True,
    memory={"value_index": HOST},
)
enter = op(
    "Enter(data: T; T: type, frame_name: string, is_constant: bool = False, parallel_iterations: int = 10) -> output: T",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="enter",
    memory=ANY,
)
ref_enter = op(
    "RefEnter(data: Ref(T); T: type, frame_name: string, is_constant: bool = False, parallel_iterations: int = 10) "
    "-> output: Ref(T)",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="enter",
    allows_uninitialized=True,
    memory=ANY,
)
exit_ = op(
    "Exit(data: T; T: type) -> output: T",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="exit",
    memory=ANY,
)
ref_exit = op(
    "RefExit(data: Ref(T); T: type) -> output: Ref(T)",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="exit",
    allows_uninitialized=True,
    memory=ANY,
)
next_iteration = op(
    "NextIteration(data: T; T: type) -> output: T",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="next_iteration",
    memory=ANY,
)
ref_next_iteration = op(
    "RefNextIteration(data: Ref(T); T: type) -> output: Ref(T)",
    kernel=_pass,
    shape=unchanged,
    samples=_BY_HAND,
    flow="next_iteration",
    allows_uninitialized=True,
    memory=ANY,
)


def _ref_select(k: Any, index: Any, *references: Any) -> Any:
    if index.ndim:
        raise errors.InvalidArgumentError(
            None, None, f"Index must be a scalar, but it has shape {list(index.shape)}"
        )
    if not 0 <= int(index) < len(references):
        raise errors.InvalidArgumentError(
            None, None, f"Index must be in the range [0, {len(references)}) but got {int(index)}"
        )
    return references[int(index)]


def _ref_select_shape(node: Operation) -> TensorShape:
    first = node._inputs[1]._shape
    same = first.is_fully_defined() and all(tensor._shape._dims == first._dims for tensor in node._inputs[2:])
    return first if same else UNKNOWN


ref_select = op(
    "RefSelect(index: int32, inputs: N * Ref(T); T: type, N: int >= 1) -> output: Ref(T)",
    kernel=_ref_select,
    shape=_ref_select_shape,
    samples=_BY_HAND,
    memory={"index": HOST},
)
loop_cond = op(
    "LoopCond(input: bool) -> output: bool",
    kernel=_pass,
    shape=unchanged,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    flow="loop_cond",
    memory=HOST,
)


ref_identity = op(
    "RefIdentity(input: Ref(T); T: type) -> output: Ref(T)",
    kernel=_pass,
    shape=unchanged,
    grad=lambda node, g: g,
    samples=_BY_HAND,
    allows_uninitialized=True,
    memory=ANY,
)


# What a session adds at a program's edges.

arg = op(
    "_Arg(; T: type, index: int >= 0) -> output: T",
    kernel=lambda k: k.step.feeds[k.attrs["index"]],
    shape=lambda node: UNKNOWN,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    devices=("CPU",),
)


def _retval_kernel(k: Any, value: Any) -> tuple[()]:
    k.step.results[k.attrs["index"]] = value
    return ()


retval = op(
    "_Retval(input: T; T: type, index: int >= 0) -> ",
    kernel=_retval_kernel,
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    devices=("CPU",),
)
