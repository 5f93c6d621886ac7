"""How a step's operands lie along its result: what a loop over all elements in the order of memory makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.runtime.plan import fusion_costs
from engine.runtime.plan.recording import Recorder, Step

if TYPE_CHECKING:
    from engine.native.layout import View

_LEAST_WIDTH = 64  # elements that a fused reduction makes one of at least


@dataclass(frozen=True, slots=True)
class Operand:
    """shape None: one element for each of the result's, in the same order; else it broadcasts: its shape along `Form.shape`."""

    view: View
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Form:
    """An elementwise step: op types (`fusion_costs.Op.types`), operands, and where the result goes, which is all of a buffer.

    shape: the result's dimensions as they lie in memory, those of one element left out.  flat: no operand broadcasts, but for
    single elements.  full: some operand is as large as the result.
    """

    types: tuple[str, ...]
    operands: tuple[Operand, ...]
    target: View
    shape: tuple[int, ...]
    flat: bool
    full: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def form_of(recorder: Recorder, step: Step, filled: Mapping[int, Step]) -> Form | str:
    """A step's form, or why it has none.  `filled`: buffers that hold one number all over."""
    from engine.native import elements
    from engine.native.element_types import Inexpressible

    if step.kind not in ("ufunc", "select", "cast", "copy") or step.data == "next":
        return _OTHERS.get(step.kind, f"{step.kind} is not elementwise")
    op = fusion_costs.op_of(step)
    if op is None:
        return f"fused kernels have no {step.data}"
    target = step.writes[0]
    if target.size < 2:
        return "it is about one element" if target.size else "there are no elements"
    axes = sorted(
        (axis for axis, n in enumerate(target.shape) if n > 1), key=lambda axis: -abs(target.strides[axis])
    )
    shape = tuple(target.shape[axis] for axis in axes)
    buffer = recorder.buffers[target.slot]
    if target.offset or target.nbytes != buffer.nbytes or _along(target, target, axes) != shape:
        return "it writes a part of an array"
    operands = []
    for view in step.reads:
        along = () if view.slot in filled else _along(view, target, axes)
        if along is None:
            return "an operand does not lie in the order of the result"
        operands.append(Operand(view, None if along == shape else _stripped(along)))
    try:
        dtypes = [view.dtype for view in step.reads]
        attrs = {"DstT": target.dtype} if step.kind == "cast" else {}
        for i, type in enumerate(op.types):
            given = dtypes[: len(dtypes) - len(op.types) + 1] if not i else [target.dtype, dtypes[-1]]
            result = elements.result_dtype(type, given, attrs)
        if result != target.dtype:
            return f"fused kernels give {result} there, not {target.dtype}"
    except Inexpressible as error:
        return str(error)
    flat = all(each.shape is None or each.shape == () for each in operands)
    full = any(each.shape is None for each in operands)
    if not full and step.kind != "copy":
        return "no operand is as large as the result"
    return Form(op.types, tuple(operands), target, shape, flat, full)


_OTHERS = {
    "call": "it is a kernel of its own",
    "reduce": "it reduces",
    "fill": "it sets all elements to one number",
}


def _along(view: View, target: View, axes: list[int]) -> tuple[int, ...] | None:
    """The view's dimensions along the axes of the target, 1 where it repeats; None if it does not lie in their order."""
    lead = len(target.shape) - len(view.shape)
    found: list[int] = []
    size = view.dtype.itemsize
    for axis in reversed(axes):
        at = axis - lead
        n = view.shape[at] if at >= 0 and view.strides[at] else 1
        if n > 1:
            if view.strides[at] != size:
                return None
            size *= n
        found.append(n)
    return tuple(reversed(found))


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the leading ones."""
    lead = next((i for i, n in enumerate(shape) if n > 1), len(shape))
    return shape[lead:]


def folds(recorder: Recorder, step: Step, shape: tuple[int, ...] | None) -> bool:
    """Whether a reduction can end a group whose elements have this shape in memory (None: any)."""
    name, axes = step.data
    source, target = step.reads[0], step.writes[0]
    if name not in fusion_costs.FOLDS or not recorder.whole(target) or not recorder.whole(source):
        return False
    if (
        target.dtype != source.dtype
        or source.dtype.kind not in "fiu"
        or source.dtype.itemsize < 4
        or not target.size
    ):
        return False
    rank = len(source.shape)
    reduced = {axis % rank for axis in axes if source.shape[axis] > 1}
    long = [axis for axis in range(rank) if source.shape[axis] > 1]
    if set(long[len(long) - len(reduced) :]) != reduced:
        return False
    width = source.size // target.size
    if width < _LEAST_WIDTH:
        return False
    if shape is None:
        return True
    return any(math.prod(shape[at:]) == width for at in range(len(shape)))
