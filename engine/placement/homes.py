"""Homes: a variable stays where it is from one step to the next.

TensorFlow places a session's whole graph once.  Here each program that a session runs is placed by itself, so that a variable's
device must not depend on which of its users a program has: all that take a reference to it in the graph as built have a say, and
where a session's earlier step has put it, it is.  The greedy placement finds the homes of new variables in the whole graph.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from types import MappingProxyType

from engine.passes.stage import Stage, StageNode

Homes = MutableMapping[str, str]  # a variable, by `home_of`, and the full name of its device

_VARIABLES = ("Variable", "VariableV2")


def home_of(node: StageNode) -> str:
    """The name by which the variable that `node` names is known to the session, '' if it names none."""
    if node.type not in _VARIABLES:
        return ""
    attrs = node.attrs
    return f"{attrs['container']}/{attrs['shared_name'] or node.name}"


def absent_users(stage: Stage) -> Iterator[tuple[str, StageNode]]:
    """(variable, node of the graph as built) for each that takes a reference to it there and is not in `stage`."""
    built = stage.chain()[0]
    for node in stage:
        if node.type not in _VARIABLES or built is stage or node.name not in built.nodes:
            continue
        seen, pending = {node.name}, [node.name]
        while pending:
            source = pending.pop()
            for name in built.consumers[source]:
                user = built.nodes[name]
                takes = any(
                    name_in == source and dtype._is_ref_dtype
                    for (name_in, _), dtype in zip(user.inputs, user.input_dtypes, strict=True)
                )
                if takes and name not in seen:
                    seen.add(name)
                    pending.append(name)
                    if name not in stage.nodes:
                        yield node.name, user


def without_initializers(built: Stage) -> Stage:
    """The graph as built, but for what only gives variables their first values: that runs once, and is no reason for a home."""
    nodes = dict(built.nodes)
    gone: set[str] = set()
    for node in built:  # a NoOp waits for nodes that were there before it
        sources = {*(name for name, _ in node.inputs), *node.control_inputs}
        writes = node.type == "Assign" and all(
            built.nodes[name].type == "NoOp" for name in built.consumers[node.name]
        )
        if writes or (node.type == "NoOp" and sources and sources <= gone):
            gone.add(node.name)
    for node in reversed(tuple(built)):  # and what is made for them alone: the first values
        consumers = built.consumers[node.name]
        if consumers and gone.issuperset(consumers) and not home_of(node):
            gone.add(node.name)
    for name in gone:
        del nodes[name]
    for name, node in nodes.items():
        if not gone.isdisjoint(node.control_inputs):
            waits = tuple(source for source in node.control_inputs if source not in gone)
            nodes[name] = replace(node, control_inputs=waits)
    return Stage("without initializers", MappingProxyType(nodes), before=built)
