"""Slicing as users write it: ``tensor[1:, ..., tf.newaxis]``, `tf.slice` and `tf.strided_slice`.

The nodes are those of TensorFlow 1: one StridedSlice named "strided_slice" whose begin, end and strides are stacked beneath it.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.fills import ones_like
from engine.op.registry import raw
from engine.op.stacking import stack
from engine.op.strided_assign import strided_slice_assign as _strided_slice_assign
from engine.types import dtypes
from engine.types.shape import Dimension

__all__ = ["newaxis", "slice", "strided_slice"]

newaxis = None


def _as_index(value: Any, spec: Any) -> Any:
    """An index as given: an int, or an integer Tensor of rank 0.  Raises TypeError for anything else."""
    if isinstance(value, Dimension):
        value = value.value
    if isinstance(value, Tensor) or hasattr(value, "_as_graph_element"):
        dtype = value.dtype.base_dtype
        if dtype.is_integer and value.shape.ndims in (None, 0):
            return value
        raise TypeError(
            f"Index '{value.name}' has dtype {dtype.name} and shape {value.shape}; an index is an integer scalar. "
            "Use tf.gather for several indices at once, tf.boolean_mask for a mask."
        )
    if (
        hasattr(value, "__index__")
        and not isinstance(value, builtins.bool | np.bool_)
        and not getattr(value, "ndim", 0)
    ):
        return int(value)
    raise TypeError(
        f"Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar integer tensors are valid indices, "
        f"got {value!r} in {spec!r}"
    )


def _is_mask(spec: Any) -> builtins.bool:
    """Whether the index is one boolean mask: an array, a tensor, or a list of bools."""
    if isinstance(spec, list):
        return bool(spec) and all(isinstance(item, builtins.bool | np.bool_) for item in spec)
    return getattr(spec, "dtype", None) == dtypes.bool_ and not isinstance(spec, np.bool_)


def getitem(tensor: Any, spec: Any, variable: Any = None) -> Any:
    """``tensor[spec]``, as NumPy's basic indexing: ints, slices, `...`, `tf.newaxis`, and scalar integer tensors for ints.

    A single boolean mask selects as `tf.boolean_mask` does.  Raises TypeError for anything else, ValueError for an index that
    the static shape rules out.
    """
    if _is_mask(spec):
        from engine.op.masking import boolean_mask

        return boolean_mask(tensor, spec)
    entries = tuple(spec) if isinstance(spec, tuple | list) else (spec,)
    begin: list[Any] = []
    end: list[Any] = []
    strides: list[Any] = []
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)

    def add(first: Any, limit: Any, step: Any, *set_masks: str) -> None:
        for mask in set_masks:
            masks[mask] |= 1 << len(begin)
        begin.append(first)
        end.append(limit)
        strides.append(step)

    for entry in entries:
        if entry is Ellipsis:
            add(0, 0, 1, "ellipsis_mask")
        elif entry is newaxis:
            add(0, 0, 1, "new_axis_mask")
        elif isinstance(entry, builtins.slice):
            given = {
                part: _as_index(getattr(entry, part), spec)
                for part in ("start", "stop", "step")
                if getattr(entry, part) is not None
            }
            # What is left out beside a tensor takes its dtype, as all three are stacked with that of the widest.
            like = next((part.dtype.base_dtype for part in given.values() if isinstance(part, Tensor)), None)
            defaults: dict[str, Any] = {"start": 0, "stop": 0, "step": 1}
            first, limit, step = (
                given[part] if part in given else _default(default, like)
                for part, default in defaults.items()
            )
            open_ends = (("start", "begin_mask"), ("stop", "end_mask"))
            add(first, limit, step, *(mask for part, mask in open_ends if part not in given))
        else:
            first = _as_index(entry, spec)
            add(first, first + 1, 1, "shrink_axis_mask")

    with name_scope(None, "strided_slice", [tensor, *begin, *end, *strides]) as name:
        if begin:
            packed = [stack(begin), stack(end), stack(strides)]
            if any(each.dtype == dtypes.int64 for each in packed):
                packed = [
                    each if each.dtype == dtypes.int64 else raw.Cast(each, DstT=dtypes.int64)
                    for each in packed
                ]
        else:
            packed = [convert_to_tensor([], dtypes.int32)] * 3
        return _strided(tensor, packed, masks, variable, name)


def _default(value: int, dtype: Any) -> Any:
    return value if dtype is None else convert_to_tensor(value, dtype)


class VariableSlice(Tensor):
    """A slice of a variable's value, to which one may also assign."""

    __slots__ = ()

    def assign(self, value: Any, name: str | None = None) -> Any:
        """A node that puts `value` into this part of the variable, broadcast to its shape, and returns the variable."""
        read, *spec = self.op.inputs
        masks: dict[str, Any] = {key: mask for key, mask in self.op.attrs.items() if key.endswith("_mask")}
        return _strided_slice_assign(
            read.op.inputs[0], *spec, value, name=name or f"{self.op.name}/_assign", **masks
        )


def _strided(tensor: Any, spec: Any, masks: dict[str, int], variable: Any, name: str | None) -> Any:
    result: Tensor = raw.StridedSlice(tensor, *spec, name=name, **masks)
    if variable is not None:
        result.__class__ = VariableSlice
    return result


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Any:
    """The box of `input_` from `begin` (int vector) of `size` (int vector; -1: all that is left).

    Raises ValueError at build time, or InvalidArgumentError when run, if the box is not inside of `input_`.
    """
    return raw.Slice(input_, begin, size, name=name)


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Any:
    """Every `strides`-th element of `input_` from `begin` up to and without `end` (int vectors, one entry an axis).

    Bit i of a mask changes the i-th entry: begin_mask and end_mask open that end, ellipsis_mask stands for all axes that are
    left, new_axis_mask adds an axis of size 1, shrink_axis_mask takes the index `begin[i]` and drops the axis.  `var` is the
    variable whose value `input_` is; the result can then be assigned to.  Strides default to 1.
    """
    if strides is None:
        strides = ones_like(begin)
    masks = {
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }
    return _strided(input_, (begin, end, strides), masks, var, name)


Tensor._override_operator("__getitem__", getitem)
slice = slice_
