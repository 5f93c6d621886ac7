"""Letting one tensor stand for another without losing what waiting for the other meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.passes.facts import Facts
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode


def kept_attrs(node: StageNode) -> dict[str, Any]:
    """The attrs that are about the node and not about its op: colocation and what else begins with '_'."""
    return {key: value for key, value in node.attrs.items() if key.startswith("_")}


def dropped(draft: Draft, name: str, still_read: Iterable[str] = ()) -> tuple[str, ...]:
    """What `name` waits for if it reads only `still_read`: its control inputs, and the rest of its inputs as such.

    A constant has nothing to wait for but what it waits for itself.
    """
    node = draft.nodes[name]
    read = set(still_read)
    found: dict[str, None] = dict.fromkeys(node.control_inputs)
    for source, _ in node.inputs:
        if source in read:
            continue
        producer = draft.nodes[source]
        waits = producer.control_inputs if producer.type == "Const" else (source,)
        found.update(dict.fromkeys(waits))
    return tuple(each for each in found if each not in read)


def reads_switch(draft: Draft, name: str, still_read: Iterable[str] = ()) -> bool:
    """Whether an input that would be dropped comes from a Switch, whose outputs cannot be waited for."""
    read = set(still_read)
    return any(
        draft.nodes[source].opdef.flow == "switch" and source not in read
        for source, _ in draft.nodes[name].inputs
    )


def needless(facts: Facts, name: str, source: str, others: Sequence[str], edges: Sequence[Edge]) -> bool:
    """Whether `name`, with the control inputs `others` and the inputs `edges`, need not wait for `source` too.

    So it is if nothing that comes before `source` has to, and if the rest says in which frame the node is and when it is alive.
    """
    if facts.ordered(source, name):
        return False
    frame = facts.inner_frame(source)
    if frame and not edges and not others:
        return False
    alive = facts.alive(source)
    if not alive:
        return True
    rest: frozenset[Any] = frozenset()
    for edge in edges:
        rest |= facts.alive_edge(edge)
    for other in others:
        rest |= facts.alive(other)
    return alive <= rest


def waits(draft: Draft, facts: Facts, name: str, edges: Sequence[Edge]) -> tuple[str, ...]:
    """What `name` must still wait for when it reads `edges` instead of its inputs."""
    controls = list(dropped(draft, name, [source for source, _ in edges]))
    for source in list(controls):
        others = [each for each in controls if each != source]
        if needless(facts, name, source, others, edges):
            controls = others
    return tuple(controls)


def become(draft: Draft, facts: Facts, name: str, edge: Edge, reason: str) -> bool:
    """Let `edge` stand for the only output of `name`; says whether that could be done.

    Readers read `edge` from now on, unless `name` waits for something that they must wait for too: then it becomes an Identity
    that waits.  Nothing is done where it is that already, or where waiting for an input of it cannot be said in control edges.
    """
    node = draft.nodes[name]
    if reads_switch(draft, name, [edge[0]]) or edge[0] == name:
        return False
    if any(dtype._is_ref_dtype for dtype in draft.nodes[edge[0]].output_dtypes):
        return False
    controls = waits(draft, facts, name, [edge])
    if not controls:
        if not draft.readers((name, 0)):
            return False
        draft.redirect((name, 0), edge, reason)
        return True
    if node.type == "Identity":
        return False
    attrs = {**kept_attrs(node), "T": node.output_dtypes[0]}
    draft.replace(name, opdef="Identity", inputs=[edge], attrs=attrs, control_inputs=controls, reason=reason)
    return True


def become_constant(draft: Draft, facts: Facts, name: str, value: Any, reason: str) -> bool:
    """Make `name`, which has one output, the Const that its value is; says whether that could be done."""
    if reads_switch(draft, name):
        return False
    node = draft.nodes[name]
    if value.flags.writeable:
        value = value.copy(order="K")
        value.setflags(write=False)
    draft.replace(
        name,
        opdef="Const",
        inputs=[],
        attrs={**kept_attrs(node), "value": value, "dtype": node.output_dtypes[0]},
        control_inputs=waits(draft, facts, name, []),
        reason=reason,
        infer=True,
    )
    return True
