"""Rows picked and changed by number: gathers, scatters, and the sums of an embedding's gradient.

How many distinct numbers there are is known only at run time.  `Rows` are arrays as long as they could be, of which the first so
many rows count: what is done elementwise is done to all, and what puts them somewhere puts those that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.native.layout import View
from engine.runtime.plan.native_state import Handle, handler
from engine.runtime.plan.recording import NotRecordable, Recorder
from engine.runtime.plan.rule_table import constant, rule, view

if TYPE_CHECKING:
    from engine.passes.stage import StageNode


@dataclass(slots=True, eq=False)
class Rows(Handle):
    """`view` holds the rows, `count` (one int64) how many count; `places`: of distinct numbers, which of them each number was."""

    view: View
    count: View
    maker: Handle | None = None
    places: View | None = None

    @property
    def root(self) -> Handle:
        return self if self.maker is None else self.maker.root

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.view.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(slots=True, eq=False)
class Dimensions(Handle):
    """The shape of rows, or, with `first`, the number of those that count."""

    rows: Rows
    first: bool = False

    @property
    def root(self) -> Handle:
        return self.rows.root


@handler("Gather", "GatherV2", "ResourceGather")
def _rows(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    """Slices along one axis.  What the kernel does not do is left to the op's own."""
    from engine.native.indexing import gather

    table, indices = inputs[:2]
    along = constant(inputs[2]) if len(inputs) > 2 else np.int32(0)
    if along is None or along.size != 1 or node.attrs.get("batch_dims", 0) or not table.shape:
        raise NotRecordable("an axis that is not known, or batch dimensions")
    rank = len(table.shape)
    axis = int(along.reshape(()))
    if not -rank <= axis < rank:
        raise NotRecordable("an axis that is not there")
    axis %= rank
    before, rows, after = table.shape[:axis], table.shape[axis], table.shape[axis + 1 :]
    shape = (*before, *indices.shape, *after)
    outer, row = int(np.prod(before, dtype=np.int64)), int(np.prod(after, dtype=np.int64))
    if not outer * row * rows * indices.size:
        raise NotRecordable("rows of nothing")
    found = gather(outer, rows, row * table.dtype.itemsize, indices.size, indices.dtype)
    if found is None:
        raise NotRecordable(f"indices of {indices.dtype}")
    kernel, parameters = found
    made = recorder.new(table.dtype, shape)
    failed = recorder.new(np.dtype(np.bool_), ())
    operands = [view(recorder, table), view(recorder, indices), recorder.constant(parameters)]
    recorder.call(kernel, operands, [made, failed])
    recorder.fail_if(failed)
    return [made]


# Distinct numbers, and sums of the rows that belong to each.


@handler("Unique")
def _unique(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    """Only where bits may differ: the sums are taken in another order then."""
    from engine.native.indexing import unique

    (numbers,) = inputs
    if recorder.exact or len(numbers.shape) != 1 or not numbers.size:
        raise NotRecordable("the number of distinct elements is known only at run time")
    out = node.attrs["out_idx"].np_dtype
    kernel = unique(numbers.size, numbers.dtype, out)
    if kernel is None:
        raise NotRecordable(f"distinct elements of {numbers.dtype}")
    values, places = recorder.new(numbers.dtype, numbers.shape), recorder.new(out, numbers.shape)
    count = recorder.new(np.dtype(np.int64), ())
    recorder.call(kernel, [view(recorder, numbers)], [values, places, count])
    return [Rows(values, count, places=places), places]


@handler("Shape")
def _shape(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    if not isinstance(inputs[0], Rows):
        raise NotRecordable("a shape for the op's own kernel")
    return [Dimensions(inputs[0])]


@handler("StridedSlice")
def _first(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    dimensions, attrs = inputs[0], node.attrs
    bounds = [constant(each) for each in inputs[1:4]]
    masks = [attrs[name] for name in ("ellipsis_mask", "new_axis_mask", "end_mask")]
    if (
        not isinstance(dimensions, Dimensions)
        or any(each is None or each.shape != (1,) for each in bounds)
        or [int(each[0]) for each in bounds if each is not None] != [0, 1, 1]
        or attrs["shrink_axis_mask"] != 1
        or any(masks)
    ):
        raise NotRecordable("another slice than the first number of a shape")
    return [Dimensions(dimensions.rows, first=True)]


@handler("UnsortedSegmentSum")
def _sums(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[Any]:
    from engine.native.indexing import change_rows

    data, places, count = inputs
    if not isinstance(count, Dimensions) or not count.first or count.rows.places != places:
        raise NotRecordable("sums of rows whose number is not known beforehand")
    kernel = change_rows("add", data.dtype, places.dtype)
    if kernel is None or data.shape[:1] != places.shape or not data.size:
        raise NotRecordable(f"sums of rows of {data.dtype}")
    made = recorder.new(data.dtype, data.shape)
    recorder.fill(made, 0)
    whole = recorder.constant(np.int64(places.size))
    _change(recorder, kernel, places, view(recorder, data), whole, made)
    return [Rows(made, count.rows.count, count.rows)]


def _change(recorder: Recorder, kernel: Any, indices: View, updates: View, count: View, target: View) -> None:
    numbers = math.prod(target.shape[1:])
    parameters = recorder.constant(
        np.array([target.shape[0], numbers * target.dtype.itemsize, numbers], np.int64)
    )
    failed = recorder.new(np.dtype(np.bool_), ())
    recorder.call(kernel, [indices, updates, parameters, count, target], [target, failed])
    recorder.fail_if(failed)


_HOW = {"ScatterAdd": "add", "ScatterSub": "subtract", "ScatterUpdate": "update"}


@rule(*_HOW, exact=True)
def _scatter(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    """Rows of a variable changed in the order of the indices."""
    from engine.native.indexing import change_rows

    held, indices, updates = inputs
    count: Any = None
    if isinstance(indices, Rows) or isinstance(updates, Rows):
        if not isinstance(indices, Rows) or not isinstance(updates, Rows) or indices.count != updates.count:
            return None
        count = indices.count
        indices, updates = indices.view, updates.view
    if isinstance(indices, Handle) or isinstance(updates, Handle) or not held.shape:
        return None
    kernel = change_rows(_HOW[node.type], held.dtype, indices.dtype)
    if kernel is None or updates.shape != (*indices.shape, *held.shape[1:]) or not updates.size:
        return None
    changed = recorder.new(held.dtype, held.shape)
    recorder.copy(held, changed)
    if count is None:
        count = recorder.constant(np.int64(indices.size))
    _change(recorder, kernel, view(recorder, indices), view(recorder, updates), count, changed)
    return [], {0: changed}
