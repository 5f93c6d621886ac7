"""Dependency cleanup: Identities and NoOps that stand for nothing, and control edges that say nothing.

As Grappler's `dependency_optimization`.  A control edge says two things: "after that", which matters if an effect may come before
it, and "only if that is alive".  An edge that says neither is dropped; one whose say is another's, through other edges, is too
(transitive reduction).  A node of which only the waiting is left, since nobody reads it, is passed by.
"""

from __future__ import annotations

from engine.passes.become import needless
from engine.passes.facts import Facts
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode

_PASSING = frozenset({"Identity", "StopGradient", "PreventGradient"})
# How far transitive reduction looks behind a node for another way to the same: beyond that an edge stays, and does no harm.
_STEPS = 24


def run(draft: Draft, facts: Facts) -> None:
    for name in list(draft.nodes):
        if draft.nodes[name].control_inputs:
            _drop_needless(draft, facts, draft.nodes[name])
    for name in list(draft.nodes):
        if draft.nodes[name].type in _PASSING and not draft.is_kept(name):
            _pass_identity(draft, facts, draft.nodes[name])
    for name in reversed(
        list(draft.nodes)
    ):  # whoever waits comes first: what it waits for may be left with nobody
        node = draft.nodes[name]
        if (
            not draft.is_kept(name)
            and (node.type == "NoOp" or facts.pure(name))
            and not _is_read(draft, name)
        ):
            _pass_by(draft, facts, node)
    _reduce(draft)


def _is_read(draft: Draft, name: str) -> bool:
    for user in draft.consumers(name):
        for source, _ in draft.nodes[user].inputs:
            if source == name:
                return True
    return False


# Control edges that say nothing.


def _drop_needless(draft: Draft, facts: Facts, node: StageNode) -> None:
    controls = list(node.control_inputs)
    if node.opdef.flow in ("merge", "control_trigger"):
        return
    read = {source for source, _ in node.inputs}
    for source in list(controls):
        others = [each for each in controls if each != source]
        read_anyway = source in read and draft.nodes[source].opdef.flow != "switch"
        if read_anyway or needless(facts, node.name, source, others, node.inputs):
            controls = others
    if len(controls) < len(node.control_inputs):
        gone = ", ".join(f"'{each}'" for each in node.control_inputs if each not in controls)
        draft.replace(node.name, control_inputs=controls, reason=f"need not wait for {gone}")


# Nodes that only pass on.


def _pass_identity(draft: Draft, facts: Facts, node: StageNode) -> None:
    """Let the readers of an Identity read what it reads, where that is the same thing."""
    edge = node.inputs[0]
    source = draft.nodes[edge[0]]
    if facts.reads_reference(node.name) or any(dtype._is_ref_dtype for dtype in node.output_dtypes):
        return  # it takes a snapshot of a variable
    if node.device != source.device and any(
        draft.nodes[user].device != node.device for user in draft.consumers(node.name)
    ):
        return  # it is there to bring the value to a device
    waiters = draft.waiters(node.name)
    if source.opdef.flow == "switch" and waiters:
        return  # it is there to be waited for: a Switch itself is alive whichever way it goes
    if source.opdef.flow in ("enter", "exit", "next_iteration") and waiters:
        return
    if node.control_inputs:
        # Its readers would have to wait in its place: only where that makes no more edges than there were.
        readers = [user for user in draft.consumers(node.name) if user not in waiters]
        if len(readers) * len(node.control_inputs) > len(readers) + len(node.control_inputs):
            return
        if any(
            draft.nodes[user].opdef.flow in ("merge", "next_iteration", "enter", "exit") for user in readers
        ):
            return
    _bypass(draft, node, edge, f"'{node.name}' passes on what '{edge[0]}' gives")


def _bypass(draft: Draft, node: StageNode, edge: Edge, reason: str) -> None:
    for user in list(draft.consumers(node.name)):
        after = draft.nodes[user]
        inputs = [edge if each == (node.name, 0) else each for each in after.inputs]
        control: list[str] = []
        for each in after.control_inputs:
            control.extend((edge[0], *node.control_inputs) if each == node.name else (each,))
        if (node.name, 0) in after.inputs:
            control.extend(node.control_inputs)
        draft.replace(
            user, inputs=inputs, control_inputs=[each for each in control if each != user], reason=reason
        )
    draft.remove(node.name, reason)


def _pass_by(draft: Draft, facts: Facts, node: StageNode) -> None:
    """A node that is only waited for: let what waits for it wait for what it waits for."""
    users = draft.consumers(node.name)
    sources = list(dict.fromkeys([*(source for source, _ in node.inputs), *node.control_inputs]))
    if not users:
        draft.remove(node.name, "nothing needs it")
        return
    if any(draft.nodes[source].opdef.flow for source in sources):
        return
    if any(draft.nodes[user].opdef.flow in ("merge", "control_trigger") for user in users):
        return
    if not sources and facts.frame(node.name) == () and not node.opdef.stateful:
        draft.remove(node.name, "nothing reads it, and it waits for nothing")
        return
    if len(sources) * len(users) <= len(sources) + len(users):
        draft.remove(node.name, "nothing reads it: what waited for it waits for what it waited for")


# Transitive reduction.


def _reduce(draft: Draft) -> None:
    """Drop control edges from a to b where b comes after something that comes after a, alive only with it.

    Any way from a to b through nodes that are dead when one of their inputs is (all but Merges, and the edges of frames) says
    what the edge says.
    """
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if not node.control_inputs or len(node.control_inputs) + len(node.inputs) < 2:
            continue
        controls = list(node.control_inputs)
        direct = [*(source for source, _ in node.inputs), *controls]
        wanted = set(controls)
        behind: set[str] = set()
        stack = list(direct)
        steps = 0
        while stack and steps < _STEPS:
            steps += 1
            current = draft.nodes[stack.pop()]
            if current.opdef.flow not in ("", "switch", "loop_cond"):
                continue
            for source in (*(each for each, _ in current.inputs), *current.control_inputs):
                if source not in behind:
                    behind.add(source)
                    stack.append(source)
        gone = [each for each in controls if each in behind and each in wanted]
        if gone:
            kept = [each for each in controls if each not in gone]
            named = ", ".join(f"'{each}'" for each in gone)
            draft.replace(name, control_inputs=kept, reason=f"comes after {named} in any case")
