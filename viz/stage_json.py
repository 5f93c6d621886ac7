"""A chain of stages, a difference and a history as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.passes.stage import Stage
from engine.placement.decision import Decision
from viz.stage_diff import Change, NodeChange, StageDiff
from viz.stage_model import ChainModel, HistoryRow


def chain_json(model: ChainModel) -> list[dict[str, Any]]:
    """Each stage: nodes, devices, why, how many of each change, and every change."""
    return [
        {
            "name": summary.stage.name,
            "nodes": len(summary.stage),
            "why": summary.why,
            "devices": summary.devices if any(summary.devices) else {},
            "counts": counts_json(summary.counts),
            "changes": [change_json(each) for each in summary.diff.changes.values()] if summary.diff else [],
        }
        for summary in model.summaries
    ]


def counts_json(counts: Mapping[Change, int]) -> dict[str, int]:
    return {change.word: counts.get(change, 0) for change in Change}


def diff_json(diff: StageDiff) -> dict[str, Any]:
    return {
        "before": diff.before.name,
        "after": diff.after.name,
        "kept": diff.kept,
        "counts": counts_json(diff.counts),
        "changes": [change_json(each) for each in diff.changes.values()],
    }


def change_json(change: NodeChange) -> dict[str, Any]:
    frame = change.frame
    return {
        "name": change.name,
        "changes": [each.word for each in change.changes],
        "type": change.type,
        "device": change.device,
        "sources": list(change.sources),
        "into": list(change.into),
        "reasons": [{"stage": reason.stage, "text": reason.text} for reason in change.reasons],
        "details": list(change.details),
        "file": frame.file if frame else None,
        "line": frame.line if frame else None,
        "source": frame.source if frame else None,
    }


def history_json(rows: Sequence[HistoryRow]) -> list[dict[str, Any]]:
    return [
        {
            "stage": row.stage,
            "names": list(row.names),
            "changes": [each.word for each in row.changes],
            "type": row.type,
            "device": row.device,
            "reasons": [{"stage": reason.stage, "text": reason.text} for reason in row.reasons],
            "details": list(row.details),
        }
        for row in rows
    ]


def decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "requested": decision.requested,
        "possible": list(decision.possible),
        "finish_ns": dict(decision.finish_ns),
        "colocated_with": list(decision.colocated_with),
        "reason": decision.reason,
    }


def decisions_json(stage: Stage) -> list[dict[str, Any]]:
    """Every node of a placed stage with its device and how the placement came about."""
    return [
        {"node": node.name, "type": node.type, "device": node.device, **decision_json(node.decision)}
        for node in stage
        if node.decision is not None
    ]
