"""A plan's program as plain data for JSON."""

from __future__ import annotations

from typing import Any

from engine.types.site import Frame
from viz.plan_model import PlanModel
from viz.timings import Timings


def plan_json(model: PlanModel, timings: Timings | None = None) -> dict[str, Any]:
    """Partitions, lines, values, what was fused and what was not; with `timings`, each line's runs and nanoseconds."""
    said = model.said
    times = model.times(timings) if timings is not None else None
    return {
        "partitions": [
            {
                "device": each.device,
                "nodes": each.nodes,
                "executor": each.executor,
                "reason": each.reason,
                "node": each.node,
                **_where(each.where),
                "segments": [
                    {"backend": part.backend, "first": part.first, "last": part.last, "steps": part.steps}
                    for part in each.segments
                ],
            }
            for each in said.partitions
        ],
        "note": said.note,
        "instructions": said.instructions,
        "branches": said.branches,
        "loops": said.loops,
        "lines": [
            {
                "line": row.number,
                "depth": row.depth,
                "kind": row.kind,
                "text": row.text,
                "nodes": list(row.nodes),
                "handed": list(row.handed),
                "reads": list(row.reads),
                "writes": list(row.writes),
                "makes": row.makes,
                "live_bytes": row.live_bytes,
                **({"runs": times[i].runs, "total_ns": times[i].total_ns} if times is not None else {}),
            }
            for i, row in enumerate(model.rows)
        ],
        "values": [
            {
                "name": bar.name,
                "tensor": bar.tensor,
                "dtype": bar.dtype,
                "shape": list(bar.dims) if bar.dims is not None else None,
                "bytes": bar.nbytes,
                "first": bar.first,
                "last": bar.last,
                "track": bar.track,
            }
            for bar in model.bars
        ],
        "peak": {"line": model.peak_line, "bytes": model.peak_bytes, "unsized": model.unsized},
        "kept": [{"node": each.node, "lines": list(each.lines), "reason": each.reason} for each in said.kept],
        "fused": [
            {
                "node": each.node,
                "parts": list(each.parts),
                "sources": list(each.sources),
                "reason": each.reason,
                **_where(each.where),
            }
            for each in said.fused
        ],
        "apart": [
            {"node": each.node, "type": each.type, "reason": each.reason, **_where(each.where)}
            for each in said.apart
        ],
    }


def _where(frame: Frame | None) -> dict[str, Any]:
    return {
        "file": frame.file if frame is not None else None,
        "line": frame.line if frame is not None else None,
        "source": frame.source if frame is not None else None,
    }
