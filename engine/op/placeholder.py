"""Placeholders: tensors whose values a run is fed."""

from __future__ import annotations

from typing import Any

from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import ANY, NotDifferentiable, op
from engine.op.samples import untested
from engine.types import errors
from engine.types.dtypes import as_dtype
from engine.types.shape import TensorShape, as_shape

__all__ = ["placeholder", "placeholder_with_default"]


def _not_fed(k: Any) -> Any:
    shape: TensorShape = k.attrs["shape"]
    with_shape = f" and shape {shape}" if shape.ndims is not None else ""
    error = errors.InvalidArgumentError(
        None,
        None,
        f"You must feed a value for placeholder tensor '{k.op.name}' with dtype {k.attrs['dtype'].name}{with_shape}",
    )
    error.hint = (
        f"Pass feed_dict={{'{k.op.name}:0': value}} (or the tensor itself as the key) to Session.run."
    )
    raise error


def _declared(node: Operation) -> TensorShape:
    shape: TensorShape = node.attrs["shape"]
    return shape


placeholder_op = op(
    "Placeholder(; dtype: type, shape: shape = unknown) -> output: dtype",
    kernel=_not_fed,
    shape=_declared,
    grad=NotDifferentiable,
    samples=untested("tests/runtime/test_session.py"),
    stateful=True,
    devices=("CPU",),
)

op(
    "PlaceholderV2(; dtype: type, shape: shape) -> output: dtype",
    kernel=_not_fed,
    shape=_declared,
    grad=NotDifferentiable,
    samples=untested("tests/runtime/test_session.py"),
    stateful=True,
    devices=("CPU",),
)

placeholder_with_default_op = op(
    "PlaceholderWithDefault(input: dtype; dtype: type, shape: shape) -> output: dtype",
    kernel=lambda k, value: value,
    shape=_declared,
    grad=lambda node, g: g,
    samples=untested("tests/runtime/test_session.py"),
    memory=ANY,
)


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor that must be fed: running it without a feed raises InvalidArgumentError."""
    result: Tensor = placeholder_op(dtype=as_dtype(dtype), shape=as_shape(shape), name=name)
    return result


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor that is `input` unless it is fed; `shape` may be less specific than the input's."""
    result: Tensor = placeholder_with_default_op(input, shape=as_shape(shape), name=name)
    return result
