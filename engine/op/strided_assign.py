"""StridedSliceAssign: putting values into a part of a variable, which is what ``variable[…].assign(…)`` makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.kernels import invalid, shape_text
from engine.op.registry import HOST, NotDifferentiable, op
from engine.op.samples import untested
from engine.op.slicing import MASKS, index_of

__all__: list[str] = []


def _assign(k: Any, ref: Any, begin: Any, end: Any, strides: Any, value: Any) -> Any:
    with ref.lock:
        held = ref.read(k.op)
        where, taken = index_of(k, held.shape, begin, end, strides)
        if value.ndim > len(taken) or any(a not in (1, b) for a, b in zip(value.shape[::-1], taken[::-1])):
            raise invalid(
                f"A value of shape {shape_text(value.shape)} cannot be assigned to a slice of shape {shape_text(taken)} of the "
                f"variable of shape {shape_text(held.shape)}"
            )
        changed = np.array(held, copy=True)
        changed[where] = value
        k.write(ref, changed, kind="strided_slice_assign")
    return ref


strided_slice_assign = op(
    "StridedSliceAssign(ref: Ref(T), begin: Index, end: Index, strides: Index, value: T; T: type, Index: index, "
    f"{MASKS}) -> output_ref: Ref(T)",
    kernel=_assign,
    shape=lambda node: node.inputs[0].shape,
    grad=NotDifferentiable,
    samples=untested("tests/op/test_slicing.py"),
    stateful=True,
    memory={"begin": HOST, "end": HOST, "strides": HOST},
)
