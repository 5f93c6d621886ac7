"""Prune: keep what the fetches and targets need, with feeds in place of what they replace.

As TensorFlow does it: each fed tensor becomes an `_Arg` node, each fetched one goes to a `_Retval` node, and only nodes from
which a `_Retval` or a target can be reached stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from engine.op.flow import arg, retval
from engine.passes.stage import Lineage, Stage, StageNode

NAME = "pruned"
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


def split(tensor_name: str) -> tuple[str, int]:
    """``"op:1"`` → ``("op", 1)``."""
    name, _, index = tensor_name.rpartition(":")
    return name, int(index)


def prune(stage: Stage, feeds: Sequence[str], fetches: Sequence[str], targets: Sequence[str]) -> Stage:
    """The part of `stage` that these tensors (``"op:0"``) and target nodes need; feeds cut the edges that they replace."""
    args = {split(feed): _arg(stage, feed, i) for i, feed in enumerate(feeds)}
    retvals = [_retval(stage, fetch, i) for i, fetch in enumerate(fetches)]
    moved_control = {
        name: node.name for (name, _), node in args.items() if stage.nodes[name].type in _PLACEHOLDERS
    }
    made = {node.name: node for node in (*args.values(), *retvals)}

    def rewired(node: StageNode) -> StageNode:
        """`node` with the edges from fed tensors coming from their `_Arg`s."""
        inputs = tuple((args[edge].name, 0) if edge in args else edge for edge in node.inputs)
        control = tuple(dict.fromkeys(moved_control.get(name, name) for name in node.control_inputs))
        if inputs == node.inputs and control == node.control_inputs:
            return node
        lineage = Lineage((node.name,), NAME, "reads fed values")
        return replace(node, inputs=inputs, control_inputs=control, lineage=lineage)

    kept: dict[str, StageNode] = {}
    pending = [*(node.name for node in retvals), *targets]
    while pending:
        name = pending.pop()
        if name in kept:
            continue
        node = made.get(name)
        if node is None or node.type == "_Retval":
            before = stage.nodes[name] if node is None else node
            after = rewired(before)
            node = after if node is None else replace(after, lineage=before.lineage)
        kept[name] = node
        pending.extend(source for source, _ in node.inputs)
        pending.extend(node.control_inputs)
    for (
        node
    ) in args.values():  # a feed that nothing needs is still fed: it is a mistake worth seeing, not an error
        kept.setdefault(node.name, node)
    order = [name for name in made if made[name].type == "_Arg"]
    order += [name for name in stage.nodes if name in kept]
    order += [node.name for node in retvals]
    fed_ops = {name for name, _ in args}
    removed = {
        name: "its outputs are fed" if name in fed_ops else "no fetch or target needs it"
        for name in stage.nodes
        if name not in kept
    }
    return Stage(
        NAME,
        MappingProxyType({name: kept[name] for name in order}),
        feeds=tuple(feeds),
        fetches=tuple(fetches),
        targets=tuple(targets),
        before=stage,
        removed=MappingProxyType(removed),
        graph_version=stage.graph_version,
    )


def _arg(stage: Stage, feed: str, index: int) -> StageNode:
    name, output = split(feed)
    node = stage.nodes[name]
    dtype = node.output_dtypes[output].base_dtype
    return StageNode(
        name=f"_arg_{name}_{output}_{index}",
        opdef=arg,
        inputs=(),
        control_inputs=(),
        attrs={"T": dtype, "index": index},
        device=node.device,
        input_dtypes=(),
        output_dtypes=(dtype,),
        output_shapes=(node.output_shapes[output],),
        site=node.site,
        lineage=Lineage((name,), NAME, f"{feed} is fed"),
    )


def _retval(stage: Stage, fetch: str, index: int) -> StageNode:
    name, output = split(fetch)
    node = stage.nodes[name]
    dtype = node.output_dtypes[output].base_dtype
    return StageNode(
        name=f"_retval_{name}_{output}_{index}",
        opdef=retval,
        inputs=((name, output),),
        control_inputs=(),
        attrs={"T": dtype, "index": index},
        device=node.device,
        input_dtypes=(dtype,),
        output_dtypes=(),
        output_shapes=(),
        site=node.site,
        lineage=Lineage((name,), NAME, f"{fetch} is fetched"),
    )
