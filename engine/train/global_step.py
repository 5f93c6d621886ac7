"""The global step: an integer variable that counts training steps."""

from __future__ import annotations

from typing import Any

from engine.get_variable import get_variable
from engine.graph.default import get_default_graph, get_default_session
from engine.graph.keys import GraphKeys
from engine.graph.tensor import Tensor
from engine.initializers import zeros_initializer
from engine.types import dtypes

__all__ = [
    "assert_global_step",
    "create_global_step",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
]


def get_global_step(graph: Any = None) -> Any:
    """The graph's global step (in its collection, or named "global_step"), or None.

    Raises TypeError if it is no integer scalar, ValueError if there are several.
    """
    where = graph or get_default_graph()
    found = where.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        raise ValueError(f"Multiple items found in collection {GraphKeys.GLOBAL_STEP}: {found}")
    if found:
        step = found[0]
    else:
        try:
            step = where.get_tensor_by_name("global_step:0")
        except (KeyError, ValueError):
            return None
    assert_global_step(step)
    return step


def create_global_step(graph: Any = None) -> Any:
    """A new global step: an int64 variable "global_step", 0 at first.  Raises ValueError if there is one already."""
    where = graph or get_default_graph()
    if get_global_step(where) is not None:
        raise ValueError('"global_step" already exists.')
    with where.as_default(), where.name_scope(None):
        return get_variable(
            GraphKeys.GLOBAL_STEP,
            shape=[],
            dtype=dtypes.int64,
            initializer=zeros_initializer(),
            trainable=False,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Any = None) -> Any:
    """The graph's global step, made if there is none."""
    where = graph or get_default_graph()
    found = get_global_step(where)
    return create_global_step(where) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """Raises TypeError unless the argument is an integer scalar that a graph holds."""
    if not (isinstance(global_step_tensor, Tensor) or hasattr(global_step_tensor, "_as_graph_element")):
        raise TypeError(f'Existing "global_step" must be a Variable or Tensor: {global_step_tensor!r}.')
    if not global_step_tensor.dtype.base_dtype.is_integer:
        raise TypeError(f'Existing "global_step" does not have integer type: {global_step_tensor.dtype!r}')
    shape = global_step_tensor.get_shape()
    if shape.ndims not in (None, 0):
        raise TypeError(f'Existing "global_step" is not scalar: {shape}')


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The step's value in a session (None: the default one)."""
    return int((sess or get_default_session()).run(global_step_tensor))
