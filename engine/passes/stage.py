"""Stages: the immutable graphs that a session takes a program through, and where each node came from.

A session runs no `Graph`.  It runs the last of a chain of stages, ``built → pruned → …``, each made from the one before by a
pass.  Every node of a stage knows its lineage: the nodes of the stage before it that it came from, the pass that made it, and
the reason in one sentence.  Following lineages backward leads to the line of the user's script.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.op.registry import OpDef
    from engine.placement.decision import Decision
    from engine.types.dtypes import DType
    from engine.types.shape import TensorShape
    from engine.types.site import Site


INLINED = "inlined"
"""The stage that puts a function's body in place of its call: its nodes were written where the function was."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a node of a stage came from.

    `by` is the name of the stage that made the node as it is, `sources` are names of nodes in the stage before that one, and
    `reason` is one sentence.  A node that a pass left as it was goes on being the same object, with the lineage that it had:
    ask `Stage.sources` for where a node came from in a given stage.
    """

    sources: tuple[str, ...]
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StageNode:
    """One operation of a stage.

    `inputs` are (node name, output index) pairs, `control_inputs` node names, `attrs` Python values as on an `Operation`.
    `output_shapes` are the static shapes, which may be partial.  `original` names, for a node of a gradient, the forward
    operation whose gradient it is part of.  `decision` says, once nodes have been placed, why the node is where it is.
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
    decision: Decision | None = None

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
    id: int = field(default_factory=itertools.count(1).__next__)

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

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The devices that nodes are on, in order of appearance; "" is that of a node which has not been placed."""
        return tuple(dict.fromkeys(node.device for node in self.nodes.values()))

    def on(self, device: str) -> tuple[StageNode, ...]:
        """The nodes on `device`, in order."""
        return tuple(node for node in self.nodes.values() if node.device == device)

    def made(self, name: str) -> bool:
        """Whether this stage made or changed the node `name`, rather than taking it over as it was."""
        return self.nodes[name].lineage.by == self.name

    def sources(self, name: str) -> tuple[str, ...]:
        """The names, in the stage before this one, of the nodes that `name` came from."""
        return self.nodes[name].lineage.sources if self.made(name) else (name,)

    @cached_property
    def successors(self) -> Mapping[str, tuple[str, ...]]:
        """For each node of the stage before, the names of the nodes here that came from it."""
        found: dict[str, list[str]] = {}
        for name in self.nodes:
            for source in self.sources(name):
                found.setdefault(source, []).append(name)
        return {source: tuple(names) for source, names in found.items()}

    def origin(self, name: str) -> tuple[str, ...]:
        """The names, in the first stage of the chain, of the nodes that `name` descends from."""
        if self.before is None:
            return (name,)
        found: dict[str, None] = {}
        for source in self.sources(name):
            found.update(dict.fromkeys(self.before.origin(source)))
        return tuple(found)

    def fate(self, name: str) -> tuple[str, str, tuple[str, ...]]:
        """What became of the node `name` of an earlier stage: the stage in which it went, why, and what here stands for it.

        Raises KeyError if no stage of the chain has had it, or if it is here.
        """
        stages = self.chain()
        last = max((i for i, stage in enumerate(stages) if name in stage.nodes), default=-1)
        if last < 0 or last == len(stages) - 1:
            raise KeyError(name)
        heirs: dict[str, None] = {name: None}
        for stage in stages[last + 1 :]:
            heirs = {heir: None for each in heirs for heir in stage.successors.get(each, ())}
        gone = stages[last + 1]
        return gone.name, gone.removed.get(name, ""), tuple(heirs)

    def written(self, name: str) -> StageNode:
        """The node that `name` descends from (the first, if several), as written in the graph or in a function's body."""
        node = self.nodes[name]
        sources = self.sources(name)
        if self.before is None or not sources or (node.lineage.by == INLINED and name not in sources):
            return node
        return self.before.written(name if name in sources else sources[0])

    def followed_by(
        self, name: str, nodes: Mapping[str, StageNode], removed: Mapping[str, str] | None = None
    ) -> Stage:
        """The stage `name` that comes after this one: the same feeds, fetches and targets, with these nodes."""
        return Stage(
            name,
            MappingProxyType(dict(nodes)),
            feeds=self.feeds,
            fetches=self.fetches,
            targets=self.targets,
            before=self,
            removed=MappingProxyType(dict(removed or {})),
            graph_version=self.graph_version,
        )

    def chain(self) -> tuple[Stage, ...]:
        """All stages from the first to this one."""
        return (*self.before.chain(), self) if self.before is not None else (self,)
