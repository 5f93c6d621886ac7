"""``why here NODE``: why a node is on its device."""

from __future__ import annotations

from engine.passes.stage import Stage, StageNode
from engine.placement.decision import Decision
from engine.runtime.diagnosis import short
from viz.format import duration, plural
from workbench.debugger.questions.reasoning import Reason, Reasoning, about, bounded
from workbench.debugger.stepping import Stepping

MAX_TOGETHER = 8


def why_here(stepping: Stepping, name: str) -> Reasoning:
    """Why node `name` of this step is on its device: what was asked for, what was possible, what was predicted."""
    stage = stepping.step.stage
    node = stage.nodes[name]
    question = f"why here {name}"
    where = node.device or stepping.step.executable.device
    found = _decided(stage, name)
    if found is None:
        because = node.lineage.reason or "the step runs on one device, and nothing was decided"
        return bounded(
            question,
            f"{name} is on {short(where) or 'no device'}",
            [about(f"{because} ({node.lineage.by})", node, root=True)],
        )
    placed, decision, origin = found
    answer = f"{name} is on {short(where)}" + (f": {decision.reason}" if decision.reason else "")
    reasons = list(_reasons(placed, decision, origin, name))
    return bounded(question, answer, reasons)


def _decided(stage: Stage, name: str) -> tuple[Stage, Decision, StageNode] | None:
    """The decision about a node, or about what it came from, and the stage that has it."""
    names = [name]
    at: Stage | None = stage
    while at is not None and names:
        for each in names:
            node = at.nodes.get(each)
            if node is not None and node.decision is not None:
                return at, node.decision, node
        names = [source for each in names if each in at.nodes for source in at.sources(each)]
        at = at.before
    return None


def _reasons(stage: Stage, decision: Decision, node: StageNode, name: str) -> list[Reason]:
    reasons = []
    if node.name != name:
        reasons.append(about(f"it came from {node.name}", node))
    asked = (
        f"the program asked for {decision.requested}"
        if decision.requested
        else "the program asked for no device"
    )
    reasons.append(about(asked, node, root=bool(decision.requested)))
    if decision.possible:
        reasons.append(Reason(f"possible were {', '.join(short(each) for each in decision.possible)}"))
    reasons.append(Reason(decision.reason or "the first that was possible", root=not decision.requested))
    for device, finish in sorted(decision.finish_ns.items(), key=lambda each: each[1]):
        reasons.append(Reason(f"on {short(device)} it would have finished after {duration(finish)}", 1))
    together = [each for each in decision.colocated_with if each != node.name]
    if together:
        reasons.append(Reason(f"it must be with {plural(len(together), 'other node')}"))
        reasons += [
            about(f"{each} ({stage.nodes[each].type})", stage.nodes[each], depth=1)
            for each in together[:MAX_TOGETHER]
            if each in stage.nodes
        ]
        if len(together) > MAX_TOGETHER:
            reasons.append(Reason(f"… and {len(together) - MAX_TOGETHER} more", 1))
    return reasons
