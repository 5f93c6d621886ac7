"""Slots: variables that an optimizer keeps beside each variable that it trains, named after both."""

from __future__ import annotations

from typing import Any

from engine.get_variable import get_variable
from engine.graph.default import colocate_with
from engine.initializers import zeros_initializer
from engine.op.fills import zeros
from engine.op.registry import raw
from engine.variable_scope import variable_scope

__all__: list[str] = []


def create_slot(primary: Any, value: Any, name: str) -> Any:
    """A variable ``<primary>/<name>``, made unique, with `value` (a tensor) as its initial value, on the primary's device."""
    with variable_scope(None, f"{primary.op.name}/{name}"), colocate_with(primary):
        return get_variable(
            "", initializer=value, trainable=False, validate_shape=value.shape.is_fully_defined()
        )


def create_slot_with_initializer(primary: Any, initializer: Any, shape: Any, dtype: Any, name: str) -> Any:
    """As `create_slot`, with an initializer and a shape."""
    with variable_scope(None, f"{primary.op.name}/{name}"), colocate_with(primary):
        return get_variable("", shape=shape, dtype=dtype, initializer=initializer, trainable=False)


def create_zeros_slot(primary: Any, name: str, dtype: Any = None) -> Any:
    """A slot of zeros with the shape of `primary`, which may be known only when it runs."""
    wanted = (primary.dtype if dtype is None else dtype).base_dtype
    shape = primary.get_shape()
    if shape.is_fully_defined():
        return create_slot_with_initializer(primary, zeros_initializer(), shape, wanted, name)
    return create_slot(primary, zeros(raw.Shape(primary.initialized_value()), dtype=wanted), name)
