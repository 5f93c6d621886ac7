"""Recompute: values that are cheap to make again are not kept from the forward to the backward pass.

Only where memory is short: with a budget (`RewriterConfig.memory_budget_bytes`) while the estimated peak is above it, or for
`RECOMPUTATION_HEURISTICS` without a budget as long as the peak falls.  A tensor that is alive at the peak, comes from a cheap op
and is read by nodes of the gradient gets a twin, ``Recomputed/<name>``, for those; so do the cheap ops before it whose values
would have to be kept instead.  The twins wait for the gradients that their readers wait for: made earlier, they would save
nothing.  What does not lower the estimated peak (`engine.passes.memory`) is not done.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016); TensorFlow's memory optimizer has the same heuristic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.passes.facts import ALWAYS, ROOT, Facts
from engine.passes.fuse import ELEMENTWISE
from engine.passes.memory import Item, Model
from engine.passes.rewrite import Draft, Edge
from engine.passes.settings import MemOptType
from engine.passes.stage import StageNode

CHEAP = ELEMENTWISE | {
    "Fill", "Tile", "Transpose", "BroadcastTo", "Reshape", "ExpandDims", "Squeeze", "Pad", "OneHot", "FusedBatchNorm",
    "FusedBatchNormV2", "FusedBatchNormV3",
}  # fmt: skip
_WANTED = (MemOptType.DEFAULT_MEM_OPT, MemOptType.HEURISTICS, MemOptType.RECOMPUTATION_HEURISTICS)
_TRIED = 12  # tensors, largest first, for each step down
_DEEPEST = 6  # ops before a tensor that are done again with it
PREFIX = "Recomputed/"


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which nodes to do again, in order; who reads the twins; what the twins wait for."""

    nodes: tuple[str, ...]
    readers: tuple[str, ...]
    triggers: tuple[str, ...]


def run(draft: Draft, facts: Facts) -> None:
    options = facts.settings.rewriter
    kind, budget = options.memory_optimization, options.memory_budget_bytes
    if kind not in _WANTED or (not budget and kind != MemOptType.RECOMPUTATION_HEURISTICS):
        return
    scope = options.memory_optimizer_target_node_name_scope
    backward = {name for name, node in draft.nodes.items() if is_backward(node, scope)}
    model = Model.of(draft.nodes)
    while backward:
        peak = model.peak()
        if peak.nbytes <= budget:
            return
        best: tuple[int, _Plan, Model] | None = None
        tried = 0
        for edge, _ in peak.alive:
            plans = list(_plans(edge, backward, model, draft, facts))
            for plan in plans:
                after = model.changed(_twins(plan, model))
                nbytes = after.peak().nbytes
                if nbytes < (peak.nbytes if best is None else best[0]):
                    best = nbytes, plan, after
            tried += bool(plans)
            if tried == _TRIED:
                break
        if best is None:
            return
        _, plan, model = best
        _apply(plan, draft)
        backward.update(PREFIX + name for name in plan.nodes)


def is_backward(node: StageNode, scope: str) -> bool:
    """Whether the node is part of a gradient: it says so itself, or its name (in an imported graph) does."""
    return bool(node.original) or (bool(scope) and f"/{scope}" in f"/{node.name}")


def _plans(edge: Edge, backward: set[str], model: Model, draft: Draft, facts: Facts) -> Iterator[_Plan]:
    """The ways to make `edge` again: its node alone, with the cheap ops that it reads, with those that they read, …"""
    if not _can_be_done_again(edge[0], backward, draft, facts):
        return
    order = {name: i for i, name in enumerate(model.order)}
    chosen = {edge[0]: None}
    layer = [edge[0]]
    for _ in range(_DEEPEST):
        plan = _plan(sorted(chosen, key=order.__getitem__), backward, order, draft)
        if plan is not None:
            yield plan
        sources = dict.fromkeys(source for name in layer for source, _ in draft.nodes[name].inputs)
        layer = [
            name
            for name in sources
            if name not in chosen and _can_be_done_again(name, backward, draft, facts)
        ]
        if not layer:
            return
        chosen.update(dict.fromkeys(layer))


def _can_be_done_again(name: str, backward: set[str], draft: Draft, facts: Facts) -> bool:
    return (
        name not in backward
        and PREFIX + name not in draft.nodes
        and draft.nodes[name].type in CHEAP
        and facts.pure(name)
        and facts.frame(name) == ROOT
        and facts.alive(name) == ALWAYS
    )


def _plan(nodes: Sequence[str], backward: set[str], order: dict[str, int], draft: Draft) -> _Plan | None:
    """The plan for doing `nodes` again; None if no gradient reads them, or nothing says when it will."""
    readers = {
        user: None
        for name in nodes
        for user in draft.consumers(name)
        if user in backward and any(source == name for source, _ in draft.nodes[user].inputs)
    }
    if not readers:
        return None
    first = draft.nodes[min(readers, key=order.__getitem__)]
    waited = (*(source for source, _ in first.inputs), *first.control_inputs)
    triggers = tuple(dict.fromkeys(name for name in waited if name in backward and name not in nodes))
    if not triggers or draft.nodes[nodes[-1]].device != first.device:
        return None
    return _Plan(tuple(nodes), tuple(readers), triggers)


def _twins(plan: _Plan, model: Model) -> dict[str, Item]:
    """What the plan changes in the model."""
    found: dict[str, Item] = {}
    for name in plan.nodes:
        mine = model.items[name]
        found[PREFIX + name] = replace(
            mine, inputs=_rewired(mine.inputs, plan.nodes), waits=(*mine.waits, *plan.triggers)
        )
    for name in plan.readers:
        mine = model.items[name]
        found[name] = replace(mine, inputs=_rewired(mine.inputs, plan.nodes))
    return found


def _rewired(inputs: Sequence[Edge], nodes: Sequence[str]) -> tuple[Edge, ...]:
    return tuple((PREFIX + name, slot) if name in nodes else (name, slot) for name, slot in inputs)


def _apply(plan: _Plan, draft: Draft) -> None:
    last = plan.nodes[-1]
    reason = f"computed again for the backward pass, so that '{last}' is not kept until then"
    reader = draft.nodes[plan.readers[0]]
    for name in plan.nodes:
        node = draft.nodes[name]
        made = draft.add(
            node.opdef,
            _rewired(node.inputs, plan.nodes),
            node.attrs,
            like=reader,
            name=PREFIX + name,
            sources=[name],
            reason=reason,
            control_inputs=(*node.control_inputs, *plan.triggers),
            output_shapes=node.output_shapes,
        )
        assert made == PREFIX + name, made
        draft.replace(made, site=node.site, reason=reason)
    for name in plan.readers:
        inputs = _rewired(draft.nodes[name].inputs, plan.nodes)
        draft.replace(name, inputs=inputs, reason=f"reads '{last}' as {reason}")
