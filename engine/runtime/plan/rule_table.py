"""The table of ops that have a native kernel of their own, and what its rules share.

A rule gets what is known of the operands (a `View`, or a constant array) and gives the results, or None where the kernel does not
serve: ``rule(recorder, node, inputs)`` returns (results, new views of variables by input slot).  What it finds wrong it leaves to
the op's own kernel, which says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from engine.native.kernel import NativeKernel
    from engine.native.layout import View
    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder

Made = tuple[list[Any], dict[int, "View"]]
Function = Callable[["Recorder", "StageNode", "Sequence[Any]"], "Made | list[Any] | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """exact: whether the results have the bits of the op's own kernel, so that exact plans have them, too."""

    function: Function
    exact: bool

    def __call__(self, recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Made | None:
        made = self.function(recorder, node, inputs)
        return (made, {}) if isinstance(made, list) else made


RULES: dict[str, Rule] = {}


def rule(*types: str, exact: bool = False) -> Callable[[Function], Function]:
    """Decorator: the rule of these op types."""

    def register(function: Function) -> Function:
        for each in types:
            RULES[each] = Rule(function, exact)
        return function

    return register


def constant(value: Any) -> Any:
    """The array, where it is known beforehand; else None."""
    return value if isinstance(value, np.ndarray | np.generic) else None


def view(recorder: Recorder, value: Any) -> View:
    """An operand as a view in C order: a constant becomes one, and what lies otherwise is copied."""
    found: View = recorder.constant(value) if constant(value) is not None else value
    if found.is_contiguous:
        return found
    copied = recorder.new(found.dtype, found.shape)
    recorder.copy(found, copied)
    return copied


def call(
    recorder: Recorder,
    kernel: NativeKernel,
    inputs: Sequence[Any],
    outputs: Sequence[tuple[Any, Sequence[int]]],
) -> list[View]:
    """A call of `kernel`; `outputs` are the dtype and shape of each result."""
    views = [view(recorder, each) for each in inputs]
    made = [recorder.new(np.dtype(dtype), tuple(shape)) for dtype, shape in outputs]
    recorder.call(kernel, views, made)
    return made


def is_empty(*values: Any) -> bool:
    """Whether any of the operands has no elements: the ops' own kernels know what is to become of that."""
    return any(each.size == 0 for each in values)
