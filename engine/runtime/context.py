"""What a kernel is given beside its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.resources import STEP

if TYPE_CHECKING:
    from engine.passes.stage import StageNode
    from engine.runtime.resources import Resource, ResourceManager, TensorArray, Write


class StepContext:
    """What belongs to one step: fed values by `_Arg` index, fetched values by `_Retval` index.

    `borrowed`: among the feeds are the caller's own arrays.
    `container` names the resource container of what lives no longer than the step (stacks).
    """

    __slots__ = ("borrowed", "feeds", "id", "results")

    def __init__(self, id: int, feeds: list[Any], n_results: int) -> None:
        self.id = id
        self.feeds = feeds
        self.borrowed = False
        self.results: list[Any] = [None] * n_results

    @property
    def container(self) -> str:
        return f"{STEP}{self.id}"


class KernelContext:
    """`k`: the array namespace, the node and its attrs; and for stateful ops the step, the frame and the resources.

    One serves all executions of a node without state; a stateful node gets its own for each (`at`).
    """

    __slots__ = ("attrs", "frame", "iteration", "n_outputs", "op", "resources", "step", "writes", "xp")

    resources: ResourceManager
    step: StepContext

    def __init__(self, node: StageNode, xp: Any = np) -> None:
        self.xp = xp
        self.op = node
        self.attrs = node.attrs
        self.n_outputs = len(node.output_dtypes)
        self.frame = 0
        self.iteration = 0
        self.writes: list[Write] = []

    def at(self, resources: ResourceManager, step: StepContext, frame: int, iteration: int) -> KernelContext:
        """This context for one execution of a stateful node."""
        k = KernelContext.__new__(KernelContext)
        k.xp, k.op, k.attrs, k.n_outputs = self.xp, self.op, self.attrs, self.n_outputs
        k.resources, k.step, k.frame, k.iteration = resources, step, frame, iteration
        k.writes = []
        return k

    def write(self, resource: Resource, value: Any, kind: str = "write") -> None:
        """Change a resource, on record."""
        self.writes.append(self.resources.write(resource, value, kind))

    def write_item(self, resource: TensorArray, index: int, value: Any, kind: str = "write") -> None:
        """Change one item of a resource that holds many, on record."""
        self.writes.append(self.resources.write_item(resource, index, value, kind))
