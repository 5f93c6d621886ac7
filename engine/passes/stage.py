"""Stages: the immutable graphs that a session takes a program through, and where each node came from.

A session runs no `Graph`.  It runs the last of a chain of stages, ``built → pruned → …``, each made from the one before by a
pass.  Every node of a stage knows its lineage: the nodes of the stage before it that it came from, the pass that made it, and
the reason in one sentence.  Following lineages backward leads to the line of the user's script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.op.registry import OpDef
    from engine.types.dtypes import DType
    from engine.types.shape import TensorShape
    from engine.types.site import Site


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a node of a stage came from.

    `sources` are names of nodes in the stage before; `by` is the pass that made the node; `reason` is one sentence.
    A node that a pass left as it was has one source (itself) and an empty reason.
    """

    sources: tuple[str, ...]
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StageNode:
    """One operation of a stage.

    `inputs` are (node name, output index) pairs, `control_inputs` node names, `attrs` Python values as on an `Operation`.
    `output_shapes` are the static shapes, which may be partial.  `original` names, for a node of a gradient, the forward
    operation whose gradient it is part of.
    """

    name: str
    opdef: OpDef
    inputs: tuple[tuple[str, int], ...]
    control_inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    device: str
    input_dtypes: tuple[DType, ...]
    output_dtypes: tuple[DType, ...]
    output_shapes: tuple[TensorShape, ...]
    site: Site | None
    lineage: Lineage
    original: str = ""

    @property
    def type(self) -> str:
        return self.opdef.name


@dataclass(frozen=True, eq=False)
class Stage:
    """An immutable graph with a name, made by a pass from the stage `before` it.

    `removed` says of each node of `before` that has no successor here why it went.  `fetches` and `feeds` are tensor names as
    the caller gave them (``"loss:0"``), `targets` node names.
    """

    name: str
    nodes: Mapping[str, StageNode]
    feeds: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    before: Stage | None = None
    removed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    graph_version: int = 0
    id: int = 0

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[StageNode]:
        return iter(self.nodes.values())

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Node names in the order in which executions number them: `Executions.node` indexes this."""
        return tuple(self.nodes)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """For each node, the names of the nodes that read one of its outputs or wait for it."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for source in dict.fromkeys([*(name for name, _ in node.inputs), *node.control_inputs]):
                found[source].append(node.name)
        return {name: tuple(users) for name, users in found.items()}

    def origin(self, name: str) -> tuple[str, ...]:
        """The names, in the first stage of the chain, of the nodes that `name` descends from."""
        if self.before is None:
            return (name,)
        found: dict[str, None] = {}
        for source in self.nodes[name].lineage.sources:
            found.update(dict.fromkeys(self.before.origin(source)))
        return tuple(found)

    def chain(self) -> tuple[Stage, ...]:
        """All stages from the first to this one."""
        return (*self.before.chain(), self) if self.before is not None else (self,)
