"""Which nodes of a stage must be on one device, and why: the rows from which `engine.placement.constraints` makes groups.

Three kinds, as in TensorFlow's `colocation_graph.cc` and `graph_partition.cc`:

``reference``  an input that is a reference to a variable, or a resource's handle, ties the node to where that comes from
``class``      a `_class` attr ``loc:@name`` ties the nodes that have it, and the node of that name
``data``       a Switch or Exit stays with the node whose data it passes on, an Enter or NextIteration with the first that reads
               its data, whatever was asked for
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.passes.stage import Stage, StageNode
from engine.types.dtypes import DType, resource

LOCATION = "loc:@"
_WITH_PRODUCER = ("switch", "exit")
_WITH_READER = ("enter", "next_iteration")
_AT_THE_EDGE = ("_Arg", "_Retval")


class Tie(NamedTuple):
    """`b` goes with `a`."""

    a: str
    b: str


def is_follower(node: StageNode) -> bool:
    """Whether the node only passes data through the control flow, so that it has no say in where it is."""
    return node.opdef.flow in _WITH_PRODUCER or (
        node.opdef.flow in _WITH_READER and not node.input_dtypes[0]._is_ref_dtype
    )


def is_at_the_edge(node: StageNode) -> bool:
    """Whether the node hands a fed value in or a fetched one out, which happens on the host."""
    return node.type in _AT_THE_EDGE


def makes_state(node: StageNode) -> bool:
    """Whether the node names a variable or makes a resource: what is asked for it holds for all that use it."""
    return any(map(_is_place, node.output_dtypes)) and not any(map(_is_place, node.input_dtypes))


def _is_place(dtype: DType) -> bool:
    """Whether a token of that dtype stands for something that stays where it is: a variable, a resource."""
    return dtype._is_ref_dtype or dtype is resource


def reference_ties(stage: Stage) -> Iterator[Tie]:
    """Users of variables and resources, with what they use."""
    for node in stage:
        for (source, _), dtype in zip(node.inputs, node.input_dtypes, strict=True):
            if _is_place(dtype):
                yield Tie(source, node.name)


def class_ties(stage: Stage, find: Callable[[str], str | None]) -> Iterator[Tie]:
    """Nodes with a `_class` attr, and the node that it names; where that is gone, the first that names it.

    `find` is `successors_of(stage)`.
    """
    heads: dict[str, str] = {}
    for node, name in _locations(stage):
        head = heads.get(name)
        if head is None:
            head = heads[name] = find(name) or node.name
        if head != node.name:
            yield Tie(head, node.name)


def absent_targets(stage: Stage, find: Callable[[str], str | None]) -> Iterator[tuple[str, StageNode]]:
    """(member, node of the graph as built) for each ``loc:@name`` whose node is not in the stage: its device still counts."""
    for node, name in _locations(stage):
        if find(name) is None:
            absent = stage.chain()[0].nodes.get(name)
            if absent is not None:
                yield node.name, absent


def _locations(stage: Stage) -> Iterator[tuple[StageNode, str]]:
    for node in stage:
        if "_class" in node.attrs and not is_follower(node):
            for location in node.attrs["_class"]:
                if location.startswith(LOCATION):
                    yield node, location.removeprefix(LOCATION)


def data_ties(stage: Stage) -> Iterator[Tie]:
    """What only passes data through the control flow, with where that data is."""
    for node in stage:
        if not is_follower(node):
            continue
        if node.opdef.flow in _WITH_PRODUCER:
            yield Tie(node.inputs[0][0], node.name)
        else:
            reader = _first_reader(stage, node.name)
            if reader is not None:
                yield Tie(reader, node.name)


def _first_reader(stage: Stage, name: str) -> str | None:
    for consumer in stage.consumers[name]:
        if any(source == name for source, _ in stage.nodes[consumer].inputs):
            return consumer
    return None


def successors_of(stage: Stage) -> Callable[[str], str | None]:
    """A function from a name in the graph as built to the node that it has become in `stage`, or None."""
    renamed: dict[str, str] | None = None

    def find(name: str) -> str | None:
        nonlocal renamed
        if name in stage.nodes:
            return name
        if renamed is None:
            renamed = {}
            for node in stage:
                if not is_at_the_edge(node):  # which hands a value on, and stands for nobody
                    for origin in stage.origin(node.name):
                        renamed.setdefault(origin, node.name)
        return renamed.get(name)

    return find
