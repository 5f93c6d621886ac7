"""The gradient of a loop invariant: the sum of its gradients over all iterations of the backward loop.

A dense one is added up in a loop variable.  Slices are not added but put one after the other, so that the gradient of a
large table of which each iteration reads a few rows costs these rows, not the table; names and nodes are TensorFlow 1's.
"""

from __future__ import annotations

from typing import Any

from engine.autodiff.backward import GradientContext, inside, runtime_shape, zeros
from engine.autodiff.loop import LoopGradient
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.const import constant
from engine.op.registry import raw
from engine.types.shape import TensorShape


def accumulate(loop: LoopGradient, enter: Operation, grad: Tensor) -> Tensor:
    """The sum over all iterations of `grad`, the gradient in one iteration of the invariant that `enter` brings in."""
    context = loop.context
    with loop.outside():
        start = _zeros_outside(loop, enter._inputs[0], grad)
    context.known.add(start)
    entered = context.enter(start, "b_acc")
    merge = raw.Merge([entered, entered], name="b_acc")[0]
    switch = _switch(context, merge)
    total = raw.AddV2(switch[1], grad, name="Add")
    merge.op._update_input(1, raw.NextIteration(total, name="NextIteration"))
    return _leave(context, [raw.Exit(switch[0], name="b_acc")])[0]


def _switch(context: GradientContext, merge: Tensor) -> Any:
    assert context.pivot is not None
    return raw.Switch(merge, context.pivot, name="Switch")


def _leave(context: GradientContext, results: list[Tensor]) -> list[Tensor]:
    context.loop_exits.extend(results)
    context.leave(results)
    return results


def _zeros_outside(loop: LoopGradient, like: Tensor, grad: Tensor) -> Tensor:
    if grad._shape.is_fully_defined() or loop.outer is None:
        with inside(loop.context.outer):
            if grad._shape.is_fully_defined():
                return constant(0, grad.dtype, grad._shape.as_list(), name="b_acc")
            return zeros(runtime_shape(like), grad.dtype)
    with inside(loop.forward.outer):
        shape = runtime_shape(like)
    history = loop.outer.push_history(shape)
    with loop.outer.context.entered():
        return zeros(loop.outer.pop_history(history, shape), grad.dtype)


def accumulate_slices(loop: LoopGradient, enter: Operation, grad: IndexedSlices) -> IndexedSlices:
    """All rows of `grad` from all iterations, after one row of zeros that stands for no iteration at all."""
    context = loop.context
    with loop.outside(), inside(context.outer):
        starts = _one_row(enter._inputs[0], grad)
    context.known.update(starts)
    enters = [context.enter(start, "b_acc") for start in starts]
    dims = starts[1]._shape.dims_or_none
    enters[0]._shape = TensorShape.of((None,))
    enters[1]._shape = TensorShape.of(None if dims is None else (None, *dims[1:]))
    for each in enters[2:]:
        each._shape = TensorShape.of(None)
    merges = [raw.Merge([each, each], name="b_acc")[0] for each in enters]
    switches = [_switch(context, merge) for merge in merges]
    following = [
        raw.ConcatV2([switch[1], rows], 0, name="concat")
        for switch, rows in zip(switches, (grad.indices, grad.values), strict=False)
    ]
    if grad.dense_shape is not None:
        following.append(raw.Maximum(grad.dense_shape, switches[2][1]))
    backward = [raw.NextIteration(each, name="NextIteration") for each in following]
    for merge, each in zip(merges, backward, strict=True):
        merge.op._update_input(1, each)
    results = _leave(context, [raw.Exit(switch[0], name="b_acc") for switch in switches])
    return IndexedSlices(results[1], results[0], results[2] if grad.dense_shape is not None else None)


def _one_row(invariant: Tensor, grad: IndexedSlices) -> list[Tensor]:
    """What to begin with: index 0, a row of zeros, and the invariant's shape if `grad` has a dense shape.

    TensorFlow begins with a shape of zeros, so that what comes out of a loop of no iterations cannot be made dense.
    """
    dims = grad.values._shape.dims_or_none
    if dims is not None and None not in dims:
        values = constant(0, grad.values.dtype, [1, *dims[1:]], name="b_acc")
    else:
        row = runtime_shape(invariant)[1:]
        values = zeros(raw.ConcatV2([[1], row], 0, name="concat"), grad.values.dtype)
    found = [constant([0], grad.indices.dtype), values]
    if grad.dense_shape is not None:
        dtype, whole = grad.dense_shape.dtype, invariant._shape
        if grad.dense_shape._shape.is_fully_defined() and whole.is_fully_defined():
            found.append(constant(whole.as_list(), dtype))
        else:
            # Under the name of TensorFlow's zeros; it brings the shape, which is measured in the forward loop, in here.
            found.append(raw.Identity(raw.Shape(invariant, out_type=dtype), name="zeros_like"))
    return found
