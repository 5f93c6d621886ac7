"""Stacks: last in, first out, one for each step; how a loop's gradient gets the values of the loop's forward iterations.

A stack lives for one step.  Its value is a chain of (elements below, element, size) cells, so that a push and a pop take constant
time and no state is ever changed in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.registry import ANY, HOST, NotDifferentiable, op
from engine.op.samples import untested
from engine.op.shapes import SCALAR, UNKNOWN
from engine.types import errors

__all__: list[str] = []

_BY_HAND = untested("tests/op/test_stacks.py")


def _stack(k: Any, max_size: Any) -> Any:
    # A loop around it makes a stack for each of its iterations.
    name = f"{k.attrs['stack_name'] or k.op.name}/{k.frame}/{k.iteration}"
    return k.resources.stack(k.step.container, name, int(max_size))


op(
    "StackV2(max_size: int32; elem_type: type, stack_name: string = '') -> handle: resource",
    kernel=_stack,
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"max_size": HOST},
)


def _copy(k: Any, handle: Any) -> Any:
    with handle.lock:
        made = k.resources.stack(k.step.container, f"{k.op.name}/{k.frame}/{k.iteration}", handle.limit)
        k.write(made, handle.value, kind="copy")
    return made


# The engine's own: a loop around a backward loop, but not around the forward one, goes through the same history in each of
# its iterations.
op(
    "_StackCopy(handle: resource) -> copy: resource",
    kernel=_copy,
    shape=lambda node: SCALAR,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)


def _push(k: Any, handle: Any, element: Any) -> Any:
    with handle.lock:
        below = handle.value
        size = 1 if below is None else below[2] + 1
        if 0 <= handle.limit < size:
            raise errors.InvalidArgumentError(
                None, None, f"Stack '{handle.name}' is full: it holds {handle.limit} elements"
            )
        k.write(handle, (below, element, size), kind="push")
    return element


op(
    "StackPushV2(handle: resource, elem: T; T: type, swap_memory: bool = False) -> output: T",
    kernel=_push,
    shape=lambda node: node._inputs[1]._shape,
    samples=_BY_HAND,
    stateful=True,
    memory={"elem": ANY, "output": ANY},
)


def _pop(k: Any, handle: Any) -> Any:
    with handle.lock:
        cell = handle.value
        if cell is None:
            raise errors.InvalidArgumentError(
                None, None, f"Stack '{handle.name}' is empty when calling Pop()"
            )
        below, element, _ = cell
        k.write(handle, below, kind="pop")
    wanted = k.attrs["elem_type"].np_dtype
    if isinstance(element, np.ndarray | np.generic) and element.dtype != wanted:
        raise errors.InvalidArgumentError(
            None, None, f"Stack '{handle.name}' holds {element.dtype}, and {wanted} was asked for"
        )
    return element


op(
    "StackPopV2(handle: resource; elem_type: type) -> elem: elem_type",
    kernel=_pop,
    shape=lambda node: UNKNOWN,
    samples=_BY_HAND,
    stateful=True,
    memory={"elem": ANY},
)


def _close(k: Any, handle: Any) -> tuple[()]:
    with handle.lock:
        k.write(handle, None, kind="close")
    return ()


op(
    "StackCloseV2(handle: resource) -> ",
    kernel=_close,
    shape=lambda node: [],
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
)
