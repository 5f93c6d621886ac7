"""Gradients that are IndexedSlices, through the control-flow primitives: each primitive is applied to values, indices and shape.

Where a dense gradient meets one of slices (at the two sides of a Merge), the dense one becomes slices: all of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.control.context import CondContext, switch_ref_or_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.array import shape
from engine.op.ranges import range as range_op
from engine.op.registry import raw
from engine.types.shape import TensorShape

Gradient = Any  # Tensor or IndexedSlices


def components(gradient: Gradient) -> list[Tensor]:
    """The tensors of a gradient: itself, or values, indices and the dense shape if it is known."""
    if not isinstance(gradient, IndexedSlices):
        return [gradient]
    found = [gradient.values, gradient.indices]
    return found if gradient.dense_shape is None else [*found, gradient.dense_shape]


def rebuilt(like: Gradient, tensors: Sequence[Tensor]) -> Gradient:
    """The gradient of the kind of `like` that has these components."""
    return IndexedSlices(*tensors) if isinstance(like, IndexedSlices) else tensors[0]


def mapped(function: Callable[[Tensor], Tensor], gradient: Gradient) -> Gradient:
    """`function` of each component."""
    return rebuilt(gradient, [function(tensor) for tensor in components(gradient)])


def as_slices(gradient: Gradient) -> IndexedSlices:
    """A dense gradient as slices: every row, under its own index."""
    if isinstance(gradient, IndexedSlices):
        return gradient
    whole = shape(gradient, optimize=False)
    return IndexedSlices(gradient, range_op(0, whole[0]), whole)


def alike(gradients: Sequence[Gradient]) -> list[Any]:
    """All dense, or, if one is slices, all slices with indices of one dtype, all with a dense shape or all without."""
    if not any(isinstance(each, IndexedSlices) for each in gradients):
        return list(gradients)
    slices = [as_slices(each) for each in gradients]
    if len({each.indices.dtype for each in slices}) > 1:
        slices = [
            IndexedSlices(each.values, raw.Cast(each.indices, DstT="int64"), each.dense_shape)
            if each.indices.dtype.name == "int32"
            else each
            for each in slices
        ]
    if any(each.dense_shape is None for each in slices):
        slices = [IndexedSlices(each.values, each.indices) for each in slices]
    return slices


def enter(gradient: Gradient, make: Callable[[Tensor, str], Tensor]) -> Gradient:
    """A gradient entering a backward loop; ``make(tensor, name)`` adds one Enter."""
    if not isinstance(gradient, IndexedSlices):
        return make(gradient, "b_exit")
    entered = mapped(lambda tensor: make(tensor, "Enter"), gradient)
    _loosen(entered)
    return entered


def _loosen(gradient: IndexedSlices) -> None:
    """How many rows it has may change from one iteration to the next."""
    dims = gradient.values._shape.dims_or_none
    gradient.values._shape = TensorShape.of(None if dims is None else (None, *dims[1:]))
    gradient.indices._shape = TensorShape.of((None,))


def merge(gradients: Sequence[Gradient], name: str) -> Gradient:
    """The one of `gradients` that is alive, under the name `name` or in a scope of that name."""
    if not any(isinstance(each, IndexedSlices) for each in gradients):
        return raw.Merge(list(gradients), name=name)[0]
    with name_scope(name):
        same = [_alive_together(each) for each in alike(gradients)]
        rows = zip(*(components(each) for each in same), strict=True)
        return rebuilt(same[0], [raw.Merge(list(row))[0] for row in rows])


def _alive_together(gradient: IndexedSlices) -> IndexedSlices:
    """The same slices, their indices dead wherever their values are.

    Indices made of constants alone are alive also in a branch that is not taken; a Merge would take them from there, and the
    values from the other side.
    """
    if not _is_always_alive(gradient.indices.op):
        return gradient
    with get_default_graph().control_dependencies([gradient.values]):
        indices = raw.Identity(gradient.indices, name="indices")
    return IndexedSlices(gradient.values, indices, gradient.dense_shape)


def _is_always_alive(op: Operation) -> bool:
    if not op._inputs:
        return op.opdef.name == "Const" and not isinstance(op._context, CondContext)
    return op.opdef.flow == "" and all(_is_always_alive(tensor.op) for tensor in op._inputs)


def switch(gradient: Gradient, pred: Tensor, name: str = "Switch") -> tuple[Gradient, Gradient]:
    """(what it is where `pred` is false, where it is true)."""
    if not isinstance(gradient, IndexedSlices):
        with get_default_graph().colocate_with(gradient, ignore_existing=True):
            made = raw.Switch(gradient, pred, name=name)
        return made[0], made[1]
    with name_scope(name):
        pairs = [switch_ref_or_tensor(tensor, pred) for tensor in components(gradient)]
    on_false, on_true = (rebuilt(gradient, [pair[side] for pair in pairs]) for side in (0, 1))
    return on_false, on_true


def close_loop(merged: Gradient, following: Gradient) -> None:
    """Make `following` the back edge of the Merge (or Merges) `merged`."""
    if isinstance(merged, IndexedSlices):
        following = as_slices(following)
        if merged.indices.dtype is not following.indices.dtype:
            indices = raw.Cast(following.indices, DstT=merged.indices.dtype)
            following = IndexedSlices(following.values, indices, following.dense_shape)
    elif isinstance(following, IndexedSlices):
        following = _dense(following)
    for head, tensor in zip(components(merged), components(following), strict=False):
        head.op._update_input(1, raw.NextIteration(tensor, name="NextIteration"))


def _dense(gradient: IndexedSlices) -> Tensor:
    from engine.graph.convert import convert_to_tensor

    return convert_to_tensor(gradient)


def first_op(gradient: Gradient) -> Operation:
    """The operation that computes the gradient's (values') tensor."""
    return components(gradient)[0].op
