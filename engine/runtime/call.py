"""A call: everything about a `Session.run` that is the same every time, worked out once.

A run whose signature has a plan, and which nobody watches, only has to turn feeds into arrays, run the plan and give results
their form.  What is special about a run (observers, a debugger, options, a graph that has changed) leads back to the session's
general way, which also finds the words for what is wrong with a feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.context import StepContext
from engine.runtime.fetches import feed_array

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.tensor import Tensor
    from engine.runtime.fetches import Fetches
    from engine.runtime.plan.plan import Plan

_LARGE = 3e38  # a Python float up to here is a float32


class Call:
    """One signature, ready to run: its plan, a converter for each feed, and how results are put together.

    edits: the graph's edit count that it was made for.
    """

    __slots__ = ("converters", "edits", "plan", "rebuild", "results")

    def __init__(
        self, graph: Graph, plan: Plan, taken: Fetches, converters: Sequence[Callable[[Any], Any]]
    ) -> None:
        self.edits = graph._edits
        self.plan = plan
        self.converters = converters
        self.rebuild = taken.rebuild
        self.results = len(plan.executable.stage.fetches)

    def step(self, id: int, values: Iterable[Any]) -> StepContext:
        """A step with these values fed; arrays that fit are borrowed.  Raises TypeError or ValueError, naming the tensor."""
        feeds = [convert(value) for convert, value in zip(self.converters, values, strict=True)]
        made = StepContext(id, feeds, self.results)
        made.borrowed = True
        return made


def converter(graph: Graph, tensor: Tensor) -> Callable[[Any], Any]:
    """A function that makes a value the array that `tensor` is fed with, as `feed_array` does, quickly where it is simple.

    An array that fits as it is is not copied.
    """
    dtype = tensor.dtype.base_dtype.np_dtype
    dims = tensor._shape._dims
    rank = None if dims is None else len(dims)
    free = dims is None or all(size is None for size in dims)
    array, asarray, ndarray = np.array, np.asarray, np.ndarray
    feedable = graph.is_feedable(tensor)
    scalar: type | None = None
    if feedable and rank in (None, 0):
        if dtype == np.float32 or dtype == np.float64:
            scalar = float
        elif dtype == np.int32 or dtype == np.int64:
            scalar = int
    limit = _LARGE if scalar is float else 2**31 - 1

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind is ndarray:
            if value.dtype == dtype and feedable:
                shape = value.shape
                if dims is None or (
                    len(shape) == rank
                    and (
                        free
                        or all(
                            size is None or size == actual for size, actual in zip(dims, shape, strict=True)
                        )
                    )
                ):
                    return value if value.flags.carray else array(value, order="C")
        elif kind is scalar and -limit <= value <= limit:
            return asarray(value, dtype)
        return feed_array(graph, tensor, value)

    return convert
