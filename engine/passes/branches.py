"""Dead branches: a Switch whose predicate is known, and a loop that makes no iteration.

As in Grappler's constant folding and `loop_optimization`.  What can only get dead tokens is removed; a Merge loses the inputs
from there, and with one input left is an Identity.  A loop whose predicate is false in the first iteration, as its initial values
are constants, has a body that never runs: its Exits give what its Enters took.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from engine.passes.become import kept_attrs, needless
from engine.passes.facts import Facts
from engine.passes.fold import evaluate
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode

_CONE = 64


def run(draft: Draft, facts: Facts) -> None:
    if not facts.flows:
        return
    for name in list(draft.nodes):
        node = draft.nodes.get(name)
        if node is None:
            continue
        if node.type == "Switch":
            known = _predicate(draft, facts, node.inputs[1])
            if known is not None:
                why = f"the predicate of '{name}' is always {known}"
                _take(draft, facts, [node], int(known), why)
        elif node.type == "LoopCond":
            if _at_first(draft, facts, node) is False:
                switches = [draft.nodes[user] for user, slot in draft.readers((name, 0)) if slot == 1]
                if all(switch.type == "Switch" for switch in switches):
                    _take(draft, facts, switches, 0, f"the loop of '{name}' makes no iteration")
        elif node.type == "Merge":
            _same_either_way(draft, facts, node)
    for name in list(draft.nodes):
        if draft.nodes[name].type == "Exit":
            _straight_through(draft, facts, draft.nodes[name])


# What is known of predicates.


def _predicate(draft: Draft, facts: Facts, edge: Edge) -> bool | None:
    """The constant that a predicate is in every iteration, or None."""
    while True:
        node = draft.nodes[edge[0]]
        passes_on = node.type in ("Identity", "LoopCond") or (
            node.type == "Enter" and node.attrs["is_constant"]
        )
        if not passes_on:
            break
        edge = node.inputs[0]
    value = facts.value(edge) if node.type == "Const" else None
    return None if value is None or value.size != 1 else bool(value.reshape(()))


def _at_first(draft: Draft, facts: Facts, loop_cond: StageNode) -> bool | None:
    """What the predicate is in the first iteration, if only constants and pure nodes decide that."""
    values: dict[Edge, Any] = {}
    stack = [loop_cond.inputs[0]]
    seen = 0
    while stack:
        edge = stack[-1]
        if edge in values:
            stack.pop()
            continue
        seen += 1
        if seen > 2 * _CONE:
            return None
        node = draft.nodes[edge[0]]
        initial = _initial(draft, node)
        if node.type == "Const":
            values[edge] = node.attrs["value"]
        elif initial is not None:
            if initial not in values:
                stack.append(initial)
            else:
                values[edge] = values[initial]
        elif node.opdef.flow or not node.inputs or edge[1] or not facts.pure(node.name):
            return None
        else:
            missing = [source for source in node.inputs if source not in values]
            if missing:
                stack.extend(missing)
                continue
            found = evaluate(node, [values[source] for source in node.inputs])
            if found is None:
                return None
            values[edge] = found[0]
    value = values[loop_cond.inputs[0]]
    return bool(value) if np.ndim(value) == 0 else None


def _initial(draft: Draft, node: StageNode) -> Edge | None:
    """What a loop's Merge, or an Enter, has in the first iteration."""
    if node.type == "Enter":
        return node.inputs[0]
    if node.type == "Merge":
        entered = [edge for edge in node.inputs if draft.nodes[edge[0]].type == "Enter"]
        others = [edge for edge in node.inputs if draft.nodes[edge[0]].opdef.flow == "next_iteration"]
        if len(entered) == len(others) == 1 and len(node.inputs) == 2:
            return entered[0]
    return None


# Taking one side.


def _take(draft: Draft, facts: Facts, switches: list[StageNode], side: int, why: str) -> None:
    """Let these Switches pass everything on to `side`, and remove what can only be dead then."""
    dead_edges = {(switch.name, 1 - side) for switch in switches}
    dead = _dead(draft, dead_edges)
    if dead is None or any(switch.name in dead for switch in switches):
        return
    live_merges = [
        draft.nodes[user]
        for user in dict.fromkeys(
            user for name, slot in dead_edges for user, _ in draft.readers((name, slot))
        )
        if user not in dead
    ]
    live_merges += [
        draft.nodes[user]
        for user in dict.fromkeys(user for name in dead for user in draft.consumers(name))
        if user not in dead and draft.nodes[user] not in live_merges
    ]
    plans = [(merge, _live(merge, dead, dead_edges)) for merge in live_merges]
    if any(
        len(live) > 1 and draft.readers((merge.name, 1))
        for merge, live in plans
        if merge.opdef.flow == "merge"
    ):
        return  # the number of the input that came would change
    for node, live in plans:
        if node.opdef.flow == "merge":
            _thin_out(draft, node, live, dead, why)
        else:
            draft.replace(node.name, control_inputs=_waits(facts, node, switches[0], dead), reason=why)
    draft.cut(dead, why)
    for switch in switches:
        _pass_on(draft, facts, draft.nodes[switch.name], side, why)


def _waits(facts: Facts, trigger: StageNode, switch: StageNode, dead: Collection[str]) -> list[str]:
    """What a ControlTrigger goes on to wait for: in a loop for something of each iteration, since it runs in each."""
    left = [each for each in trigger.control_inputs if each not in dead]
    frame = facts.frame(switch.name)
    return left or ([switch.name] if frame and frame == facts.frame(trigger.name) else [])


def _dead(draft: Draft, edges: Collection[Edge]) -> set[str] | None:
    """The nodes that can only be dead if these outputs are; None if one of them must stay, or a loop's end is unclear."""
    dead: set[str] = set()
    pending = [user for edge in edges for user, _ in draft.readers(edge)]
    while pending:
        name = pending.pop()
        if name in dead:
            continue
        node = draft.nodes[name]
        if node.opdef.flow == "control_trigger":
            continue
        if node.opdef.flow == "merge":
            sure = [edge for edge in node.inputs if draft.nodes[edge[0]].opdef.flow != "next_iteration"]
            if not sure or not all(edge in edges or edge[0] in dead for edge in sure):
                continue
        if draft.is_kept(name):
            return None
        dead.add(name)
        pending.extend(draft.consumers(name))
    for name in dead:
        node = draft.nodes[name]
        if node.opdef.flow == "merge" and not all(edge in edges or edge[0] in dead for edge in node.inputs):
            return None
    return dead


def _live(node: StageNode, dead: Collection[str], edges: Collection[Edge]) -> list[int]:
    return [i for i, edge in enumerate(node.inputs) if edge not in edges and edge[0] not in dead]


def _thin_out(draft: Draft, merge: StageNode, live: list[int], dead: Collection[str], why: str) -> None:
    """A Merge without its dead inputs; with a single live one, an Identity."""
    controls = [each for each in merge.control_inputs if each not in dead]
    if len(live) > 1:
        inputs = [merge.inputs[i] for i in live]
        draft.replace(
            merge.name,
            inputs=inputs,
            attrs={**merge.attrs, "N": len(live)},
            control_inputs=controls,
            reason=why,
        )
        return
    (index,) = live
    if draft.readers((merge.name, 1)):
        value = np.array(index, np.int32)
        value.setflags(write=False)
        number = draft.add(
            "Const", [], {"value": value, "dtype": merge.output_dtypes[1]}, like=merge, name=f"{merge.name}/value_index",
            sources=[merge.name], reason=why, control_inputs=[merge.name],
        )  # fmt: skip
        draft.redirect((merge.name, 1), (number, 0), why)
    attrs = {**kept_attrs(merge), "T": merge.attrs["T"]}
    draft.replace(
        merge.name, opdef="Identity", inputs=[merge.inputs[index]], attrs=attrs, control_inputs=controls,
        output_shapes=merge.output_shapes[:1], reason=why,
    )  # fmt: skip


def _pass_on(draft: Draft, facts: Facts, switch: StageNode, side: int, why: str) -> None:
    """The Switch as the Identity that it is to the side which is always taken."""
    pred = draft.nodes[switch.inputs[1][0]]
    controls = list(switch.control_inputs)
    if pred.opdef.flow != "loop_cond":
        controls += pred.control_inputs if pred.type == "Const" else [pred.name]
        for source in list(controls):
            others = [each for each in controls if each != source]
            if needless(facts, switch.name, source, others, switch.inputs[:1]):
                controls = others
    if side == 1:
        draft.redirect((switch.name, 1), (switch.name, 0), why)
    attrs = {**kept_attrs(switch), "T": switch.attrs["T"]}
    draft.replace(
        switch.name, opdef="Identity", inputs=switch.inputs[:1], attrs=attrs, control_inputs=controls,
        output_shapes=switch.output_shapes[:1], reason=why,
    )  # fmt: skip


# What is left of control flow that does nothing.


def _same_either_way(draft: Draft, facts: Facts, merge: StageNode) -> None:
    """A Merge of both outputs of one Switch: what the Switch reads."""
    if len(merge.inputs) != 2 or merge.control_inputs or draft.readers((merge.name, 1)):
        return
    first, second = merge.inputs
    switch = draft.nodes[first[0]]
    if (
        switch.type != "Switch"
        or first[0] != second[0]
        or {first[1], second[1]} != {0, 1}
        or draft.is_kept(merge.name)
    ):
        return
    why = "both ways give the same"
    controls = [*switch.control_inputs, switch.inputs[1][0]]
    if draft.nodes[controls[-1]].opdef.flow or facts.reads_reference(switch.name):
        return
    attrs = {**kept_attrs(merge), "T": merge.attrs["T"]}
    draft.replace(
        merge.name, opdef="Identity", inputs=switch.inputs[:1], attrs=attrs, control_inputs=controls,
        output_shapes=merge.output_shapes[:1], reason=why,
    )  # fmt: skip


def _straight_through(draft: Draft, facts: Facts, exit_: StageNode) -> None:
    """An Exit that gives what an Enter took: the way round through the loop's frame is no loop any more."""
    node = draft.nodes[exit_.inputs[0][0]]
    while node.type == "Identity" and not node.control_inputs:
        node = draft.nodes[node.inputs[0][0]]
    if node.type != "Enter" or node.attrs["is_constant"] or exit_.control_inputs or node.control_inputs:
        return
    if facts.reads_reference(node.name):
        return
    attrs = {**kept_attrs(exit_), "T": exit_.attrs["T"]}
    why = f"the loop of '{exit_.name}' makes no iteration"
    draft.replace(exit_.name, opdef="Identity", inputs=node.inputs, attrs=attrs, reason=why)
    facts.moved(exit_.name)
