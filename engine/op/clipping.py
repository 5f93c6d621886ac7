"""Clipping by norms, under TensorFlow 1's names; built from other ops, with TensorFlow's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import colocate_with, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.op.array import rank, size
from engine.op.const import constant
from engine.op.fills import ones_like
from engine.op.ranges import range as range_op
from engine.op.reduce import reduce_sum
from engine.op.registry import raw
from engine.op.select import where
from engine.op.stacking import stack
from engine.types import dtypes

__all__ = ["clip_by_average_norm", "clip_by_global_norm", "clip_by_norm", "global_norm"]


def _values(t: Any, name: str) -> Any:
    return convert_to_tensor(t.values if isinstance(t, IndexedSlices) else t, name=name)


def _like(t: Any, values: Any) -> Any:
    return IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """`t`, made shorter where its L2 norm over `axes` (None: all of it) is above `clip_norm`; IndexedSlices stay such.

    Raises ValueError for a `clip_norm` that would broadcast `t` to another shape.
    """
    with name_scope(name, "clip_by_norm", [t]) as scope:
        values = _values(t, "t")
        total = reduce_sum(values * values, axes, keepdims=True)
        # The square root's gradient at 0 is infinite; what is not there is taken from ones instead.
        positive = total > 0
        safe = where(positive, total, ones_like(total))
        norm = where(positive, raw.Sqrt(safe), total)
        scaled = values * clip_norm
        values.shape.assert_is_compatible_with(scaled.shape)
        return _like(t, raw.Identity(scaled / raw.Maximum(norm, clip_norm), name=scope))


def _checked(t_list: Any) -> list[Any]:
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise TypeError(f"`t_list` should be a sequence of tensors. Received {type(t_list)}.")
    return list(t_list)


def global_norm(t_list: Any, name: str | None = None) -> Any:
    """The L2 norm of all elements of all tensors in the list together, a scalar; None is left out."""
    items = _checked(t_list)
    with name_scope(name, "global_norm", [t for t in items if t is not None]):
        halves = []
        values = [None if t is None else _values(t, f"t_{i}") for i, t in enumerate(items)]
        for value in values:
            if value is not None:
                with colocate_with(value):
                    halves.append(raw.L2Loss(value))
        half = reduce_sum(stack(halves))
        return raw.Sqrt(half * constant(2.0, dtype=half.dtype), name="global_norm")


def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Any]:
    """(the tensors times clip_norm / max(norm, clip_norm), the norm), with the `global_norm` of all or `use_norm`.

    If the norm is not finite, all results are NaN.
    """
    items = _checked(t_list)
    if use_norm is None:
        use_norm = global_norm(items, name)
    with name_scope(name, "clip_by_global_norm", [t for t in items if t is not None]) as scope:
        one = constant(1.0, dtype=use_norm.dtype)
        finite = clip_norm * raw.Minimum(1.0 / use_norm, one / clip_norm)
        scale = finite + (use_norm - use_norm)  # NaN, if the norm is not finite
        clipped: list[Any] = []
        values = [None if t is None else _values(t, f"t_{i}") for i, t in enumerate(items)]
        for i, (t, value) in enumerate(zip(items, values, strict=True)):
            if value is None:
                clipped.append(None)
                continue
            with colocate_with(value):
                factor = scale if scale.dtype is value.dtype.base_dtype else raw.Cast(scale, DstT=value.dtype)
                clipped.append(_like(t, raw.Identity(value * factor, name=f"{scope}_{i}")))
    return clipped, use_norm


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Any:
    """`t`, made shorter where its L2 norm divided by its number of elements is above `clip_norm`."""
    with name_scope(name, "clip_by_average_norm", [t]) as scope:
        values = convert_to_tensor(t, name="t")
        count = raw.Cast(size(values), DstT=dtypes.float32)
        inverse = raw.Rsqrt(reduce_sum(values * values, range_op(rank(values))))
        factor = raw.Minimum(inverse * count, constant(1.0) / clip_norm)
        return raw.Identity(values * clip_norm * factor, name=scope)
